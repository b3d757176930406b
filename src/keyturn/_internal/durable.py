"""
Files that are either the old one or the new one, never a mixture.

System calls of `replace`, in order: openat(temporary, O_CREAT|O_EXCL, mode),
fchown if asked, fchmod, write..., fsync, rename, fsync(directory). The mode is
in force before the first byte is written. After a crash the target is the old
file or the new one; a temporary may be left, named `.NAME.keyturn-*`, which the
next `replace` of the same target removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from keyturn._internal import failpoints

__all__ = ["create_directory", "replace", "streamed", "sync_directory", "unlink"]

_MARK = ".keyturn-"
# What a file system says that knows one name for a file, as that of a memory stick.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


def replace(
    path: Path,
    data: bytes,
    *,
    mode: int = 0o600,
    uid: int = -1,
    gid: int = -1,
    point: str = "durable",
    sync: bool = True,
) -> None:
    """
    Make *data* the content of *path*, atomically and durably.

    Args:
        mode: Permission bits, set before the first byte.
        uid: Owner to set, or -1 to keep the process's.
        gid: Group to set, or -1.
        point: Prefix of the failpoints `.write`, `.rename`, `.renamed`.
        sync: Wait for the disk. Without, a power cut may leave the old file, a torn
            one or none: only for what its reader proves and can make again.

    Raises:
        OSError: Nothing at *path* has changed, unless the directory's own sync
            failed, in which case either file may be found after a power cut.

    Crash safety:
        Durable on return. Before that: the old file or the new one.
    """
    directory = path.parent
    _remove_leftovers(directory, path.name)
    temporary = directory / f".{path.name}{_MARK}{os.getpid()}"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        try:
            if (uid, gid) != (-1, -1):
                os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
            failpoints.hit(f"{point}.write")
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        failpoints.hit(f"{point}.rename")
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    failpoints.hit(f"{point}.renamed")
    if sync:
        sync_directory(directory)


@contextlib.contextmanager
def streamed(
    path: Path, *, point: str, replace_old: bool = False
) -> Iterator[Callable[[bytes], object]]:
    """
    Yield what writes the content of *path* piece by piece; its owner alone can read it.

    Args:
        point: Prefix of the failpoints `.write`, `.rename`, `.renamed`.
        replace_old: Take the place of a file that is there.

    Raises:
        FileExistsError: There is such a file and it is not to be replaced.
        OSError: As `replace`.

    Crash safety:
        Durable when the block has ended. Before that: what was there before.
    """
    _remove_leftovers(path.parent, path.name)
    temporary = path.parent / f".{path.name}{_MARK}{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            failpoints.hit(f"{point}.write")
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        failpoints.hit(f"{point}.rename")
        if replace_old:
            temporary.rename(path)
        else:
            _name(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    failpoints.hit(f"{point}.renamed")
    sync_directory(path.parent)


def _name(temporary: Path, path: Path) -> None:
    """Give *temporary* the name *path*, which unlike a rename takes nobody's place."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.rename(path)
        return
    temporary.unlink()


def unlink(path: Path) -> bool:
    """Remove *path* durably; return False where it was not there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_directory(path.parent)
    return True


def create_directory(path: Path, *, mode: int = 0o700) -> None:
    """Create *path* and what is missing above it, with *mode* for *path* itself."""
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(directory: Path, name: str) -> None:
    # Only temporaries of processes that are gone: another live writer keeps its own.
    prefix = f".{name}{_MARK}"
    for entry in directory.iterdir():
        if not entry.name.startswith(prefix):
            continue
        pid = entry.name.removeprefix(prefix)
        if pid.isdigit() and (int(pid) == os.getpid() or not Path(f"/proc/{pid}").exists()):
            with contextlib.suppress(FileNotFoundError):
                entry.unlink()
