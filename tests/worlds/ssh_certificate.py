"""A real OpenSSH server that trusts a CA, used by OpenSSH's own client."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from keyturn.testing.sshd import SshServer
from tests.worlds.base import Setup
from tests.worlds.ssh_key import SshKeyWorld, keygen, log_in, make_key, target_of

FIELDS = ("private_key", "public_key", "certificate")


def make_certificate(values, ca, *options, user):
    """Return the certificate that a person makes with `ssh-keygen -s`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "ca").touch(0o600)
        (path / "ca").write_text(ca["private_key"])
        (path / "key.pub").write_text(values["public_key"] + "\n")
        arguments = ["-s", "ca", "-I", "by-hand", "-n", user, *options, "key.pub"]
        keygen(*arguments, directory=folder)
        return (path / "key-cert.pub").read_text().strip()


def fingerprints(path):
    """Return the fingerprints of the keys in a file of public keys."""
    if not path.read_text().strip():
        return set()
    done = subprocess.run(
        ["ssh-keygen", "-lf", str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    return {line.split()[1] for line in done.stdout.splitlines()}


class SshCertificateWorld(SshKeyWorld):
    """A server with a CA; this account has no authorised keys, and there is a revoked one."""

    def __init__(self):
        self.server = SshServer().start()
        self.ca = make_key(comment="ca")
        self.server.ca_file.write_text(self.ca["public_key"] + "\n")
        self.server.revoked_keys.write_text(make_key(comment="lost laptop")["public_key"] + "\n")
        self.first = make_key()
        self.first["certificate"] = make_certificate(
            self.first, self.ca, "-V", "-1m:+30d", user=self.server.user
        )
        self.setup = Setup(
            kind="ssh-key",
            fields=FIELDS,
            target=target_of(self.server, ca="ssh-ca", revoked_keys=str(self.server.revoked_keys)),
            first=self.first,
            companions={"ssh-ca": self.ca},
            strategy="certificate",
        )
        # What was never used is not in the log, by which this world counts.
        assert log_in(self.server, self.first) == "in"

    def credentials(self):
        """
        No server lists certificates: these were accepted once and are not revoked since.

        A rehearsed one expires in minutes, and nobody has its key.
        """
        log = self.server.log_path.read_text()
        accepted = re.findall(r"Accepted publickey .*-CERT (SHA256:\S+) ID (\S+)", log)
        lasting = {key for key, name in accepted if "-rehearsal-" not in name}
        return lasting - fingerprints(self.server.revoked_keys)


def open_world():
    return SshCertificateWorld()
