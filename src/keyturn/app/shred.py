"""Remove a file that holds values, as well as a file system lets one."""

from __future__ import annotations

import os
from pathlib import Path

from keyturn._internal import durable
from keyturn.errors import UsageError

__all__ = ["shred"]


def shred(path: Path) -> None:
    """
    Overwrite *path* with zeros, sync, and remove it.

    A journaling, copy-on-write or flash file system may keep older blocks; the
    caller says so to the person.

    Raises:
        UsageError: *path* is not a plain file of ours.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"`{path}` cannot be overwritten: {error.strerror}", hint="remove it yourself"
        ) from error
    try:
        left = os.fstat(descriptor).st_size
        while left > 0:
            left -= os.write(descriptor, bytes(min(left, 65536)))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    durable.unlink(path)
