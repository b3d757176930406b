"""A real OpenSSH server, used by OpenSSH's own client."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from keyturn.testing.sshd import SshServer
from tests.worlds.base import Setup


def keygen(*arguments, directory):
    """Run `ssh-keygen`."""
    subprocess.run(
        ["ssh-keygen", "-q", *arguments],
        cwd=directory,
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )


def make_key(*, kind="ed25519", comment="made-by-hand"):
    """Return a key pair as a person makes one."""
    with tempfile.TemporaryDirectory() as folder:
        keygen("-t", kind, "-N", "", "-C", comment, "-f", "key", directory=folder)
        path = Path(folder)
        return {
            "private_key": (path / "key").read_text(),
            "public_key": (path / "key.pub").read_text().strip(),
        }


def target_of(server, **more):
    """Return the target as the manifest would have it."""
    return {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "host_key": server.host_key,
        **more,
    }


def log_in(server, values, command="echo in"):
    """Log in with OpenSSH's client and return what *command* printed; None where refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        key = path / "key"
        key.touch(0o600)
        key.write_text(values["private_key"])
        if values.get("passphrase"):
            keygen("-p", "-P", values["passphrase"], "-N", "", "-f", "key", directory=folder)
        if values.get("certificate"):
            (path / "key-cert.pub").write_text(values["certificate"] + "\n")
        (path / "known_hosts").write_text(f"[{server.host}]:{server.port} {server.host_key}\n")
        options = [
            *("-F", "none", "-i", str(key), "-p", str(server.port), "-T"),
            *("-o", f"UserKnownHostsFile={path / 'known_hosts'}", "-o", "BatchMode=yes"),
            *("-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "LogLevel=ERROR"),
            *("-o", "StrictHostKeyChecking=yes"),
        ]
        done = subprocess.run(
            ["ssh", *options, f"{server.user}@{server.host}", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    if "Permission denied" in done.stderr:
        return None
    if done.returncode == 255:
        raise AssertionError(done.stderr)
    return done.stdout.strip()


class SshKeyWorld:
    """A server whose file of authorised keys holds one key among others."""

    def __init__(self):
        self.server = SshServer().start()
        self.first = make_key()
        self.other = make_key(comment="somebody else")
        self.server.authorized_keys.write_text(
            f"# people\n{self.other['public_key']}\n\n{self.first['public_key']}\n# end\n"
        )
        self.setup = Setup(
            kind="ssh-key",
            fields=("private_key", "public_key"),
            target=target_of(self.server),
            first=self.first,
        )

    def use(self, values):
        return log_in(self.server, values) == "in"

    def credentials(self):
        lines = self.server.authorized_keys.read_text().splitlines()
        return {line.split("AAAA")[1].split()[0] for line in lines if "AAAA" in line}

    def supply(self):
        raise NotImplementedError

    def person_ends_old(self):
        raise NotImplementedError

    def close(self):
        self.server.stop()


def open_world():
    return SshKeyWorld()
