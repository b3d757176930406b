"""
A real OpenSSH server on loopback, in a folder of its own, gone when stopped.

It lets in the user that starts it, by keys and certificates only. What it reads
again at every login (authorised keys, the CA's key, revoked keys) are files of
this folder; its own host key is made when it starts.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from keyturn.errors import NotFound, Unavailable

__all__ = ["SshServer"]

_PRIVILEGE_SEPARATION = Path("/run/sshd")
_START_ATTEMPTS = 3
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.02
_COMMAND_SECONDS = 30
_PENALTIES_SINCE = (9, 8)

_SETTINGS = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/home/.ssh/authorized_keys
TrustedUserCAKeys {folder}/ca.pub
RevokedKeys {folder}/revoked_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp -d {folder}/home
MaxStartups 200
LoginGraceTime 20
LogLevel VERBOSE
"""


class SshServer:
    """One server, started by `start` or by entering the context, removed by `stop`."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.port = 0
        self.host_key = ""
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Where the server's files are."""
        if self._folder is None:
            raise Unavailable("the SSH server is not running", hint="call `start` first")
        return self._folder

    @property
    def authorized_keys(self) -> Path:
        """The file of authorised keys; to SFTP it is `.ssh/authorized_keys`."""
        return self.folder / "home" / ".ssh" / "authorized_keys"

    @property
    def ca_file(self) -> Path:
        """The public keys of the CAs whose user certificates are accepted."""
        return self.folder / "ca.pub"

    @property
    def revoked_keys(self) -> Path:
        """The keys that are refused, a line each."""
        return self.folder / "revoked_keys"

    @property
    def log_path(self) -> Path:
        """The server's log: every login, accepted and refused."""
        return self.folder / "server.log"

    def start(self) -> Self:
        """
        Make the folder, start the server and wait until it greets.

        Raises:
            NotFound: No OpenSSH server is installed.
            Unavailable: It did not start; the message has the end of its log.
        """
        program = _program()
        self._folder = Path(tempfile.mkdtemp(prefix="keyturn-sshd-"))
        try:
            self.authorized_keys.parent.mkdir(parents=True)
            self.authorized_keys.parent.chmod(0o700)
            for path in (self.authorized_keys, self.ca_file, self.revoked_keys):
                path.touch(0o600)
            self.host_key = _make_host_key(self.folder / "host_key")
            if os.geteuid() == 0:
                _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
            self._launch(program)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server with its sessions and remove its files; a second call does nothing."""
        self._end()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def pause(self) -> None:
        """End the server and its sessions; its files stay for `resume`."""
        self._end()

    def resume(self) -> None:
        """Start the server again, on the same port, after `pause`."""
        self._start_on(_program(), self.port)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, program: str) -> None:
        # A free port can be taken by another process before the server has it.
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                self._start_on(program, _free_port())
            except Unavailable:
                if attempt == _START_ATTEMPTS:
                    raise
            else:
                return

    def _start_on(self, program: str, port: int) -> None:
        self.port = port
        configuration = self.folder / "sshd_config"
        text = _SETTINGS.format(port=port, folder=self.folder)
        if _version(program) >= _PENALTIES_SINCE:
            # Tests fail to log in on purpose, and must not be shut out for it.
            text += "PerSourcePenalties no\n"
        configuration.write_text(text, encoding="utf-8")
        # By its full path, as it starts itself anew for every connection.
        self._process = subprocess.Popen(
            [program, "-D", "-f", str(configuration), "-E", str(self.log_path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            start_new_session=True,
        )
        self._wait(self._process)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((self.host, self.port), timeout=1) as connection,
            ):
                if connection.recv(4) == b"SSH-":
                    return
            time.sleep(_POLL_SECONDS)
        self._end()
        log = self.log_path.read_text(errors="replace")[-800:] if self.log_path.exists() else ""
        raise Unavailable(f"`sshd` did not start: {log}".strip())

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for child in _descendants(process.pid):
            # A session is in a process group of its own.
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        # Asked, so that it still collects its children.
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _program() -> str:
    found = shutil.which(
        "sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    )
    if found is None or shutil.which("ssh-keygen") is None:
        raise NotFound(
            "no OpenSSH server is installed", hint="apt-get install openssh-server openssh-client"
        )
    return found


def _version(program: str) -> tuple[int, int]:
    answer = subprocess.run(
        [program, "-V"], capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
    )
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", answer.stderr + answer.stdout)
    return (0, 0) if found is None else (int(found[1]), int(found[2]))


def _make_host_key(path: Path) -> str:
    answer = subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND_SECONDS,
    )
    if answer.returncode != 0:
        raise Unavailable(f"`ssh-keygen` failed: {answer.stderr[-400:]}".strip())
    return path.with_name(path.name + ".pub").read_text(encoding="ascii").strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((SshServer.host, 0))
        port: int = probe.getsockname()[1]
        return port


def _descendants(pid: int) -> list[int]:
    """Return the children of *pid* and theirs."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                found += [int(child), *_descendants(int(child))]
    return found
