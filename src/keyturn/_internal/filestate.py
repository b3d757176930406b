"""What stands at a path, compared with what ought to."""

from __future__ import annotations

import errno
import hmac
import os
import stat
from pathlib import Path

__all__ = ["file_differences", "read_bounded"]


def file_differences(
    path: Path, expected: bytes, *, mode: int, uid: int = -1, gid: int = -1
) -> list[str]:
    """
    Return in words how the file at *path* differs; empty where it is as it ought to be.

    The contents are compared in constant time and never quoted.

    Args:
        uid: Expected owner, or -1 where any will do.
        gid: Expected group, or -1.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ["is absent"]
    except OSError as error:
        if error.errno == errno.ELOOP:
            return ["is a symbolic link"]
        return [f"cannot be read: {error.strerror}"]
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return ["is not a regular file"]
        content = read_bounded(descriptor, len(expected) + 1)
    finally:
        os.close(descriptor)
    differences = []
    if not hmac.compare_digest(content, expected):
        differences.append("content differs")
    if stat.S_IMODE(found.st_mode) != mode:
        differences.append(f"mode is {stat.S_IMODE(found.st_mode):04o} instead of {mode:04o}")
    if uid not in {-1, found.st_uid}:
        differences.append(f"owner is uid {found.st_uid} instead of {uid}")
    if gid not in {-1, found.st_gid}:
        differences.append(f"group is gid {found.st_gid} instead of {gid}")
    return differences


def read_bounded(descriptor: int, limit_bytes: int) -> bytes:
    """Return the first *limit_bytes* of an open file, or all of it where it is shorter."""
    chunks = []
    left = limit_bytes
    while left > 0:
        chunk = os.read(descriptor, min(left, 1 << 20))
        if not chunk:
            break
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
