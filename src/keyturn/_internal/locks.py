"""Locks between processes and threads of one machine, for what no transaction covers."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from keyturn._internal import durable

__all__ = ["held"]


@contextlib.contextmanager
def held(folder: Path, name: str) -> Iterator[None]:
    """
    Hold the lock *name* while the block runs; wait for whoever has it.

    The kernel gives it up with the process, however that ends (flock(2)). Each call
    opens the file anew, so threads of one process exclude each other too. The file
    stays: to remove it would let two hold two files of one name.

    Raises:
        OSError: The folder cannot be written.
    """
    if not folder.is_dir():
        durable.create_directory(folder)
    descriptor = os.open(
        folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
