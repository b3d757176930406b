"""
Delivered files: written so that a reader finds the old content or the new, never a mixture.

One file (`dotenv`, `json`, `shell`) is replaced by rename. A set of files (`files`)
is laid out the way Kubernetes mounts a secret:

    FOLDER/..set-8/NAME      the files; the folder is written whole, then never changed
    FOLDER/..data            -> ..set-8, swapped by one rename
    FOLDER/NAME              -> ..data/NAME

A file that is there already is written over where Keyturn wrote it, or where it is
empty. Which ones it wrote is read from the files themselves: every format carries
`KEYTURN_VERSIONS`, and a folder of the format `files` holds nothing but its links.

Opening `FOLDER/NAME` gives one whole value, old or new. A reader that needs several
to be of one version resolves `FOLDER/..data` once and reads beneath it; if that set
has been replaced and removed meanwhile, it starts again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from keyturn._internal import durable, failpoints
from keyturn._internal.filestate import file_differences, read_bounded
from keyturn.core.value import SecretValue
from keyturn.deliver import _git
from keyturn.deliver.environment import VERSIONS_VARIABLE
from keyturn.deliver.model import Format, Rendering, RenderTarget
from keyturn.errors import Conflict, DeliveryError

__all__ = [
    "ExpectedFile",
    "Written",
    "differences",
    "expected_files",
    "is_foreign",
    "require_place",
    "write_rendered",
]

_DATA = "..data"
_NEW_DATA = "..data.new"
_SET = re.compile(r"\.\.set-([0-9]{1,12})")
# What `formats` writes for the variable that is Keyturn's alone: a line, or a key in JSON.
_OURS = re.compile(
    rb"^(?:export )?%(name)b=|^  \"%(name)b\": " % {b"name": VERSIONS_VARIABLE.encode("ascii")},
    re.MULTILINE,
)
_MAX_LOOKED_AT_BYTES = 64 * 1024 * 1024
# The project folder itself, and what in it is not for values.
_OWN_PLACES = frozenset({(), (".keyturn",), (".git",), ("keyturn.toml",)})


@dataclass(frozen=True, slots=True)
class Written:
    """
    What was written where.

    Args:
        notes: What could not be looked at, for the person to know.
    """

    path: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """A file as it ought to be; -1 where any owner or group will do."""

    path: Path
    content: SecretValue
    mode: int
    uid: int = -1
    gid: int = -1


def require_place(project: Path, target: RenderTarget, *, replace: bool = False) -> tuple[str, ...]:
    """
    Let through a place that may be written to; return what could not be looked at.

    Args:
        replace: Also where a file stands that Keyturn did not write.

    Raises:
        DeliveryError: The place is not fit for values; `delivery.foreign` where all that
            is wrong is that somebody else's file stands there.
    """
    path = _resolve(project, target.path)
    _owner(target.owner)
    is_set = target.format is Format.FILES
    _check_place(path, is_set=is_set)
    if not is_set and not replace and _is_others(path):
        raise DeliveryError(
            f"`{path}` is there already, and keyturn did not write it",
            hint="move it away, or write over it with `keyturn render --replace`",
            code="delivery.foreign",
        )
    return _git.require_ignored(path, project, is_set=is_set)


def is_foreign(project: Path, target: RenderTarget) -> bool:
    """
    Tell whether something stands at *target* that Keyturn did not write.

    Raises:
        DeliveryError: The path cannot be, or what is there cannot be read.
    """
    path = _resolve(project, target.path)
    if target.format is not Format.FILES:
        return path.is_file() and not path.is_symlink() and _is_others(path)
    return path.is_dir() and not path.is_symlink() and _holds_others(path)


def write_rendered(
    project: Path, target: RenderTarget, rendering: Rendering, *, replace: bool = False
) -> Written:
    """
    Write *rendering* to *target*, below the folder *project*.

    Args:
        replace: Also over a file that Keyturn did not write.

    Raises:
        DeliveryError: The place is not fit for values, or cannot be written.
        Conflict: Another process is writing the same set of files.

    Crash safety:
        Durable on return. Before that a reader finds all of the old or all of the
        new; what is left beside it is removed by the next write.
    """
    path = _resolve(project, target.path)
    uid, gid = _owner(target.owner)
    notes = require_place(project, target, replace=replace)
    try:
        if not path.parent.is_dir():
            durable.create_directory(path.parent, mode=0o755)
        if isinstance(rendering, SecretValue):
            durable.replace(
                path, rendering.reveal(), mode=target.mode, uid=uid, gid=gid, point="deliver"
            )
        else:
            _write_set(path, rendering, mode=target.mode, uid=uid, gid=gid)
    except OSError as error:
        raise _unwritable(target, error) from error
    return Written(path, notes)


def expected_files(project: Path, target: RenderTarget, rendering: Rendering) -> list[ExpectedFile]:
    """
    Return every file that *rendering* makes at *target*.

    Raises:
        DeliveryError: The path or the owner cannot be.
    """
    path = _resolve(project, target.path)
    uid, gid = _owner(target.owner)
    if isinstance(rendering, SecretValue):
        return [ExpectedFile(path, rendering, target.mode, uid, gid)]
    return [
        ExpectedFile(path / _DATA / name, value, target.mode, uid, gid)
        for name, value in rendering.items()
    ]


def differences(project: Path, target: RenderTarget, rendering: Rendering) -> list[str]:
    """
    Return in words how what stands at *target* differs from *rendering*; empty where it does not.

    Raises:
        DeliveryError: The path or the owner cannot be.
    """
    is_set = not isinstance(rendering, SecretValue)
    foreign = not is_set and is_foreign(project, target)
    found = ["was not written by keyturn"] if foreign else []
    for file in expected_files(project, target, rendering):
        said = file_differences(
            file.path, file.content.reveal(), mode=file.mode, uid=file.uid, gid=file.gid
        )
        found += [f"`{file.path.name}` {words}" if is_set else words for words in said]
    if not isinstance(rendering, SecretValue):
        found += _link_differences(_resolve(project, target.path), rendering)
    return found


def _resolve(project: Path, text: str) -> Path:
    given = Path(text)
    if not given.name or not text.isprintable() or ".." in given.parts:
        raise DeliveryError(
            f"{text!a} is no path for a delivered file",
            hint="name a file below the project folder, or an absolute path, without `..`",
            code="delivery.path",
        )
    root = project.resolve()
    path = root / given
    # An absolute path was declared as such; a relative one promises to stay inside,
    # whatever links stand on the way.
    parent = path.parent.resolve()
    if not given.is_absolute() and not parent.is_relative_to(root):
        raise DeliveryError(
            f"`{text}` leads out of the project folder through a symbolic link",
            hint="remove the link, or name the place by its absolute path",
            code="delivery.path",
        )
    path = parent / given.name
    if path.is_relative_to(root) and path.relative_to(root).parts[:1] in _OWN_PLACES:
        raise DeliveryError(
            f"`{text}` is not a place for delivered files",
            hint="choose a folder of its own, such as `run/`",
            code="delivery.path",
        )
    return path


def _check_place(path: Path, *, is_set: bool) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise DeliveryError(
            f"`{path}` cannot be looked at: {error.strerror}",
            hint="check the path and the rights of its folders",
            code="delivery.path",
        ) from error
    if stat.S_ISLNK(mode):
        raise DeliveryError(
            f"`{path}` is a symbolic link",
            hint="remove it, or name the place it points to",
            code="delivery.path",
        )
    if not (stat.S_ISDIR(mode) if is_set else stat.S_ISREG(mode)):
        wanted = "folder" if is_set else "regular file"
        raise DeliveryError(
            f"`{path}` is there already and is no {wanted}",
            hint="remove it, or choose another path",
            code="delivery.path",
        )
    if is_set:
        _check_folder(path)


def _check_folder(folder: Path) -> None:
    # What Keyturn did not put there is not Keyturn's to hide behind a link.
    if _holds_others(folder):
        raise DeliveryError(
            f"`{folder}` holds files that keyturn did not write",
            hint="choose a folder of its own for the format `files`",
            code="delivery.path",
        )


def _holds_others(folder: Path) -> bool:
    return any(
        not entry.name.startswith("..") and not _is_our_link(entry) for entry in folder.iterdir()
    )


def _is_others(path: Path) -> bool:
    """Tell whether the file at *path* has something in it, and nothing of Keyturn's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DeliveryError(
            f"`{path}` cannot be read, so nobody knows whose it is: {error.strerror}",
            hint="move it away, or run the command as its owner",
            code="delivery.path",
        ) from error
    try:
        content = read_bounded(descriptor, _MAX_LOOKED_AT_BYTES)
    finally:
        os.close(descriptor)
    return content != b"" and _OURS.search(content) is None


def _is_our_link(entry: Path) -> bool:
    return entry.is_symlink() and entry.readlink() == Path(_DATA, entry.name)


def _owner(text: str | None) -> tuple[int, int]:
    if not text:
        return -1, -1
    import grp
    import pwd

    user, _, group = text.partition(":")
    try:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid if user else -1
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid if group else -1
    except KeyError:
        raise DeliveryError(
            f"the owner {text!a} is not known on this machine",
            hint="create the user or group, or give a number",
            code="delivery.owner",
        ) from None
    return uid, gid


def _write_set(
    folder: Path, values: Mapping[str, SecretValue], *, mode: int, uid: int, gid: int
) -> None:
    # Whoever may read a file must be able to pass its folder; the owner must also
    # be able to remove it later.
    folder_mode = 0o700 | mode & 0o444 | (mode & 0o444) >> 2
    if not folder.is_dir():
        durable.create_directory(folder, mode=folder_mode)
    with _locked(folder):
        os.chown(folder, uid, gid)
        folder.chmod(folder_mode)
        before = _current_set(folder)
        _remove_sets(folder, keep=before)
        fresh = folder / f"..set-{_number(before) + 1}"
        fresh.mkdir(mode=0o700)
        for name, value in values.items():
            durable.replace(
                fresh / name, value.reveal(), mode=mode, uid=uid, gid=gid, point="deliver"
            )
        os.chown(fresh, uid, gid)
        fresh.chmod(folder_mode)
        _swap(folder, fresh.name)
        _link_names(folder, values)
        _remove_sets(folder, keep=fresh.name)
        durable.sync_directory(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # One writer at a time; the kernel lets go of it when the process dies.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another process is writing `{folder}`", hint="try again when it has finished"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _current_set(folder: Path) -> str | None:
    try:
        name = (folder / _DATA).readlink().name
    except OSError:
        return None
    return name if _SET.fullmatch(name) else None


def _number(name: str | None) -> int:
    match = _SET.fullmatch(name or "")
    return int(match.group(1)) if match else 0


def _remove_sets(folder: Path, *, keep: str | None) -> None:
    (folder / _NEW_DATA).unlink(missing_ok=True)
    for entry in folder.iterdir():
        if _SET.fullmatch(entry.name) and entry.name != keep:
            shutil.rmtree(entry)


def _swap(folder: Path, name: str) -> None:
    (folder / _NEW_DATA).symlink_to(name)
    durable.sync_directory(folder)
    failpoints.hit("deliver.swap")
    (folder / _NEW_DATA).rename(folder / _DATA)
    failpoints.hit("deliver.swapped")
    durable.sync_directory(folder)


def _link_names(folder: Path, values: Mapping[str, SecretValue]) -> None:
    for name in values:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"{_DATA}/{name}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in values:
            entry.unlink()


def _link_differences(folder: Path, values: Mapping[str, SecretValue]) -> list[str]:
    found = [
        f"`{name}` is not linked to the current set"
        for name in values
        if not _is_our_link(folder / name)
    ]
    with contextlib.suppress(OSError):
        names = {entry.name for entry in folder.iterdir() if not entry.name.startswith("..")}
        # A name found on disk is escaped: somebody else may have chosen it.
        found += [f"{name!a} does not belong there" for name in sorted(names - set(values))]
    return found


def _unwritable(target: RenderTarget, error: OSError) -> DeliveryError:
    hint = "check the folder's rights and the free space"
    if target.owner is not None and isinstance(error, PermissionError):
        hint = f"giving a file to `{target.owner}` needs root, or leave out `owner`"
    return DeliveryError(
        f"`{target.path}` cannot be written: {error.strerror}", hint=hint, code="delivery.write"
    )
