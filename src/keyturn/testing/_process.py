"""A server that tests start: on a free port of loopback, in its own folder, stopped by pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from keyturn.errors import Unavailable

__all__ = ["HOST", "ServerProcess", "free_port", "listens"]

HOST = "127.0.0.1"
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_PAUSE_SECONDS = 0.02


class ServerProcess:
    """
    One program that serves, and its folder.

    Args:
        name: For the folder's name and for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Where its files are; made when first asked for."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=f"keyturn-{self._name}-"))
        return self._folder

    @property
    def log_path(self) -> Path:
        """What the program wrote to its standard output and error."""
        return self.folder / "output.log"

    def launch(
        self,
        command: Sequence[str | Path],
        *,
        answers: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """
        Start *command* and wait until the server answers.

        Args:
            environment: What it is given beside a plain one.

        Raises:
            Unavailable: It does not; the message has the end of what it wrote.
        """
        plain = {"PATH": os.defpath, "HOME": str(self.folder), "LC_ALL": "C", "TZ": "UTC"}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.folder,
                env=plain | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + _START_SECONDS
        while not answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.halt()
                words = self.log_path.read_text(errors="replace")[-800:]
                raise Unavailable(f"the {self._name} server did not start: {words}".strip())
            time.sleep(_PAUSE_SECONDS)

    @property
    def pid(self) -> int | None:
        """The id of the process, while it runs."""
        return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """End the program at once, without a chance to tidy up; its files stay."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_STOP_SECONDS)

    def halt(self) -> None:
        """End the program; its files stay."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)

    def remove(self) -> None:
        """End the program and remove every file of it; a second call does nothing."""
        self.halt()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Tell whether somebody listens on *port*."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
