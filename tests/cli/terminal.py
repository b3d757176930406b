"""A real terminal for a command: what a person would type, and what they would see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time

# Makes the descriptor 0 the controlling terminal of a session of its own, then becomes
# the command. A person's shell has done as much before it starts one.
_LOGIN = (
    "import fcntl, os, sys, termios\n"
    "os.setsid()\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)
_SECONDS = 20.0


class Terminal:
    """
    A command on a terminal of its own.

    Args:
        words: The command, by the path of its program.
        size: Rows and columns.
    """

    def __init__(self, words, *, size=(24, 80), **options):
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _LOGIN, *map(str, words)],
            **{**streams, **options},
        )
        os.close(slave)
        self.seen = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def until(self, text):
        """Read until *text* is seen; return all that was seen so far."""
        start = len(self.seen)
        while text not in self.seen[start:]:
            if not self._read():
                raise AssertionError(f"the terminal closed before {text!r}: {self.seen!r}")
        return self.seen

    def is_still(self, seconds):
        """Tell whether nothing is shown for so long: nobody draws over a question."""
        return not select.select([self._master], [], [], seconds)[0]

    def type(self, text):
        """Type *text*; end a line with a newline, interrupt with `\\x03`."""
        os.write(self._master, text.encode())

    def echoes(self):
        """Tell whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def finish(self):
        """Read to the end, and return the exit code as `Popen` tells it."""
        while self._read():
            pass
        return self.process.wait(_SECONDS)

    def _read(self):
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self._master], [], [], 0.05)
            if ready:
                data = b""
                with contextlib.suppress(OSError):  # Linux says EIO at the end
                    data = os.read(self._master, 65536)
                self.seen += data.decode("utf-8", "replace")
                return bool(data)
        raise AssertionError(f"nothing more was shown in {_SECONDS:.0f} s: {self.seen!r}")
