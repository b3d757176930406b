"""What another user of this machine can open, found out by being that user for a moment."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

__all__ = ["opens", "opens_as"]

_PATIENCE_SECONDS = 10
_DENIED, _OPENED, _ABSENT, _FAILED = b"0", b"1", b"-", b"!"
_ANSWERS = {_DENIED: False, _OPENED: True, _ABSENT: None}


def opens(path: Path) -> bool | None:
    """Try to open *path* for reading; None where nothing is seen there. Nothing is read."""
    try:
        # Not blocking: a pipe would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        return None if error.errno in {errno.ENOENT, errno.ENOTDIR} else False
    os.close(descriptor)
    return True


def opens_as(uid: int, gid: int, paths: Sequence[Path]) -> list[bool | None]:
    """
    Return for each of *paths* what `opens` says to the user *uid* with the group *gid*.

    A child of this process gives up every privilege for good and tries; all that it
    hands back is one of three signs a path. The caller is root.

    Raises:
        OSError: The child could not become that user, or was not ready in time.
    """
    groups = _groups(uid, gid)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _try_as(uid, gid, groups, paths, writing)
    os.close(writing)
    try:
        signs = _collected(reading, len(paths))
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if len(signs) != len(paths) or _FAILED[0] in signs:
        raise OSError(errno.EPERM, f"nothing could be tried as uid {uid}")
    return [_ANSWERS[bytes([sign])] for sign in signs]


def _groups(uid: int, gid: int) -> list[int]:
    import pwd

    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]


def _try_as(
    uid: int, gid: int, groups: Sequence[int], paths: Sequence[Path], writing: int
) -> NoReturn:
    # Everything ends here: nothing of the parent's may run a second time.
    try:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        with contextlib.suppress(OSError):
            os.setuid(0)
            # Whoever can come back has tried nothing as somebody else.
            os.write(writing, _FAILED)
            os._exit(1)
        for path in paths:
            answer = opens(path)
            os.write(writing, _ABSENT if answer is None else _OPENED if answer else _DENIED)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a child that raised would go on as the parent
        os.write(writing, _FAILED)
        os._exit(1)


def _collected(reading: int, count: int) -> bytes:
    signs = b""
    while len(signs) < count:
        ready, _, _ = select.select([reading], [], [], _PATIENCE_SECONDS)
        part = os.read(reading, count - len(signs)) if ready else b""
        if not part:
            break
        signs += part
    return signs
