"""Reading a file that a person names, which may be no file at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from keyturn.errors import UsageError

__all__ = ["is_handed_over", "read_plain"]

# What a shell puts in a file's place on purpose: `keyturn import /dev/stdin`, `<(program)`.
_HANDED_OVER = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


def is_handed_over(path: Path) -> bool:
    """Tell whether *path* is what another program writes, and no file that stays behind."""
    return str(path).startswith(_HANDED_OVER)


def read_plain(path: Path, limit: int, *, hint: str = "", too_large: str = "") -> bytes:
    """
    Return up to *limit* bytes of *path*.

    A pipe or a device in a file's place is not waited for.

    Args:
        hint: What a person can do where it is no file.
        too_large: The same where it is too large; by default *hint*.

    Raises:
        FileNotFoundError: It is not there.
        UsageError: It is no plain file, cannot be read, or is larger.
    """
    handed_over = is_handed_over(path)
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if handed_over else os.O_NONBLOCK)
    try:
        descriptor = os.open(path, flags)
        try:
            _require_plain(path, os.fstat(descriptor).st_mode, hint, pipe=handed_over)
            data = _read(descriptor, limit)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}", hint=hint or None) from error
    if len(data) > limit:
        raise UsageError(f"`{path}` is over {limit} bytes", hint=too_large or hint or None)
    return data


def _require_plain(path: Path, mode: int, hint: str, *, pipe: bool) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not (stat.S_ISREG(mode) or (pipe and stat.S_ISFIFO(mode))):
        raise UsageError(
            f"`{path}` is no plain file",
            hint=hint or "move it away, or name another",
            code="file.not_plain",
        )


def _read(descriptor: int, limit: int) -> bytes:
    data = bytearray()
    while len(data) <= limit:
        more = os.read(descriptor, limit + 1 - len(data))
        if not more:
            break
        data += more
    return bytes(data)
