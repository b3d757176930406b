"""
A file put in another's place only where that one is still what was seen.

Who edits such files takes no lock, and a rename looks at nothing: what was saved right
before it would be gone. So the two files change places, in one step of the kernel, and
then it is looked at what came out. If that is not what was seen, it goes back.

In between, readers find the new file for a moment. Where the kernel or the file system
cannot exchange (this is Linux's renameat2), it is looked right before the rename, which
leaves a moment in which somebody's save is lost, as between two editors.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

from keyturn._internal import failpoints
from keyturn._internal.durable import sync_directory

__all__ = ["change_places", "put_in_place"]

_HERE = -100
_EXCHANGE = 2
_UNABLE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
# Whoever saves faster than this is met is not waited for.
_TRIES = 100


def change_places(one: Path, other: Path) -> bool:
    """Let two files change places; False where that cannot be done here."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def put_in_place(
    prepared: Path,
    path: Path,
    *,
    seen: bytes | None,
    point: str,
    exchange: Callable[[Path, Path], bool] = change_places,
) -> bool:
    """
    Make *prepared*, which is durable, the file *path* where that still has *seen*.

    Args:
        prepared: Beside *path*. It is gone afterwards, whatever happened.
        seen: The content that was read; None where there was no file.
        point: Prefix of the failpoints `.put`, `.looked`, `.settled`.
        exchange: Lets two files change places; False where that cannot be done here.

    Returns:
        False where somebody else was there meanwhile: *path* is as they left it.

    Raises:
        OSError: *path* may be either file.

    Crash safety:
        The old file or the new one, or in the moment of a race somebody else's; that one
        may then be the one that is left as *prepared*.
    """
    failpoints.hit(f"{point}.put")
    try:
        if seen is None:
            done = _created(prepared, path)
        else:
            done = _exchanged(prepared, path, seen, exchange)
        failpoints.hit(f"{point}.looked")
    finally:
        prepared.unlink(missing_ok=True)
    failpoints.hit(f"{point}.settled")
    sync_directory(path.parent)
    return done


def _created(prepared: Path, path: Path) -> bool:
    try:
        path.hardlink_to(prepared)
    except FileExistsError:
        return False
    return True


def _exchanged(
    prepared: Path, path: Path, seen: bytes, exchange: Callable[[Path, Path], bool]
) -> bool:
    expected = seen
    for attempt in range(_TRIES):
        given = prepared.read_bytes()
        try:
            able = exchange(prepared, path)
        except FileNotFoundError:
            # Somebody removed it: that is their change.
            return False
        if not able:
            return _renamed(prepared, path, seen)
        if prepared.read_bytes() == expected:
            # What came out is what was to be replaced.
            return attempt == 0
        # Somebody saved meanwhile. Theirs goes back, and what went in is to come out.
        expected = given
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))


def _renamed(prepared: Path, path: Path, seen: bytes) -> bool:
    if path.read_bytes() != seen:
        return False
    prepared.rename(path)
    return True
