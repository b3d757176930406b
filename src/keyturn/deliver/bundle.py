"""
The sealed bundle of one environment, as `keyturn.fast` opens it.

The sealed bundle (age format, one an environment) decrypts to:

    keyturn-bundle 1
    store ID
    environment NAME
    created SECONDS
    not_after SECONDS
    manifest MTIME_NS CTIME_NS SIZE INODE  of keyturn.toml when it was compiled
    database DEVICE INODE                 of store.db
    generation MARK                       must equal the key folder's `generation.NAME`
    recheck WORD...                       of a store of others: how to ask it, see below
    consumer NAME CONFIG SECRET...        CONFIG is `config` or `-`
    lacking SECRET VARIABLE               a required secret that has no value
    unfit SECRET VARIABLE                 what no environment may carry; SECRET is `-` for a setting
    config VARIABLE BYTES
    secret NAME VERSION FIELD VARIABLE BYTES      VARIABLE is `-` where there is none

then an empty line, then for each `config` and `secret` line, in order, the
bytes `VARIABLE=VALUE` and a newline. A person who opens it with plain `age` in an
emergency reads the values at once; a program takes them by their lengths.

Rule that keeps it true: a bundle is written, and its generation raised, only
while the control database's write transaction is held. Whoever changes a
current value raises the generation before the commit; whoever builds a bundle
reads the values and the generation under the same lock. So a bundle whose
generation matches holds the values that are current, wherever a process died.

What lies in a store of others changes without a new generation, so its bundle has a
short life. The lines `recheck` say how `keyturn._fastread` asks the store itself, at the
end of that life, whether anything has changed; they hold no secret. `keyturn.stores`
writes them (`Rechecked`), and the first is `recheck kind KIND`.

That is so of one store. Whoever lets another take its place without the rollback
anchor's leave (none there, or `--accept-rollback`) first makes every bundle stale.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyturn import fast
from keyturn._internal import durable, failpoints
from keyturn.core.entropy import Entropy
from keyturn.core.ids import (
    ConsumerName,
    EnvironmentName,
    FieldName,
    SecretName,
    VariableName,
    new_id,
)
from keyturn.core.value import SecretValue
from keyturn.deliver.environment import check_variables
from keyturn.errors import DeliveryError, Unavailable

__all__ = ["BundleContent", "BundleFiles", "SecretEntry", "encode", "fits"]

# In the place of a secret's name, where a plain setting is meant.
_SETTING = "-"


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """One field of one current version, and the variable that carries it, if any."""

    name: SecretName
    version: int
    field: FieldName
    variable: VariableName | None
    value: SecretValue


@dataclass(frozen=True, slots=True)
class BundleContent:
    """
    All that the fast path needs of one environment.

    Args:
        created_seconds: Unix time of building.
        not_after_seconds: Unix time from which it must not be served.
        manifest_stamp: `fast.manifest_stamp` of the manifest it was compiled from.
        database_stamp: The first of `fast.database_stamps`, of the store it was read from.
        consumers: The secrets of each, and whether it gets the plain settings.
        lacking: Required secrets without a value, with the variable that needs it.
        recheck: The words of each line that says how the store can be asked.
    """

    store_id: str
    environment: EnvironmentName
    created_seconds: int
    not_after_seconds: int
    manifest_stamp: str
    database_stamp: str
    generation: str
    consumers: Mapping[ConsumerName, tuple[bool, Sequence[SecretName]]]
    config: Mapping[VariableName, str]
    secrets: Sequence[SecretEntry]
    lacking: Sequence[tuple[SecretName, str]] = field(default=())
    recheck: Sequence[Sequence[str]] = field(default=())


def encode(content: BundleContent) -> SecretValue:
    """Return the plain bytes of the bundle; they hold every value, so they are one."""
    head = [
        fast.BUNDLE_MARK.decode("ascii"),
        f"store {content.store_id}",
        f"environment {content.environment}",
        f"created {content.created_seconds}",
        f"not_after {content.not_after_seconds}",
        f"manifest {content.manifest_stamp}",
        f"database {content.database_stamp}",
        f"generation {content.generation}",
    ]
    head += [" ".join(["recheck", *words]) for words in content.recheck]
    for consumer, (config, names) in content.consumers.items():
        head.append(" ".join(["consumer", consumer, "config" if config else "-", *names]))
    head += [f"lacking {name} {variable}" for name, variable in content.lacking]
    body = []
    for variable, text in content.config.items():
        data = text.encode("utf-8")
        if not fits(variable, SecretValue(data)):
            head.append(f"unfit {_SETTING} {variable}")
        head.append(f"config {variable} {len(data)}")
        body.append(variable.encode("ascii") + b"=" + data + b"\n")
    for entry in content.secrets:
        data = entry.value.reveal()
        label = entry.variable or "-"
        if entry.variable is not None and not fits(entry.variable, entry.value):
            head.append(f"unfit {entry.name} {label}")
        head.append(
            f"secret {entry.name} {entry.version} {entry.field} {label} {entry.value.size_bytes}"
        )
        body.append(label.encode("ascii") + b"=" + data + b"\n")
    return SecretValue("\n".join(head).encode("ascii") + b"\n\n" + b"".join(body))


def fits(variable: VariableName, value: SecretValue) -> bool:
    """Tell whether an environment may carry *value* as *variable*."""
    try:
        check_variables({variable: value})
    except DeliveryError:
        return False
    return True


class BundleFiles:
    """
    The bundle and generation files of one store.

    A generation is a random mark, not a number: a lost or damaged file can then
    never come to equal the mark inside an older bundle.

    Args:
        folder: Holds `ENVIRONMENT.age`.
        keys: The store's key folder; holds `generation.ENVIRONMENT`.
    """

    def __init__(self, folder: Path, keys: Path, *, entropy: Entropy) -> None:
        self._folder = folder
        self._keys = keys
        self._entropy = entropy
        self._recipient: str | None = None
        self._asked_of: tuple[int, ...] | None = None

    def generation(self, environment: EnvironmentName) -> str:
        """Return the present generation; call it inside a write transaction."""
        try:
            found = fast.read_private(str(self._generation_path(environment)), 64)
        except OSError:
            return self.invalidate(environment)
        return found.decode("ascii", "replace").strip()

    def invalidate(self, environment: EnvironmentName) -> str:
        """
        Make every existing bundle of *environment* stale, durably; return the new generation.

        Call it inside the write transaction that changes a current value. If that
        is undone, nothing is lost: the next `run` builds the bundle anew.

        Raises:
            Unavailable: It cannot be written, so the change must not happen.
        """
        generation = new_id(self._entropy)
        path = self._generation_path(environment)
        failpoints.hit("bundle.invalidate")
        mark = f"{generation}\n".encode("ascii")
        try:
            try:
                _write_mark(path, mark)
            except OSError:
                # Never a mark of ours: after a power cut the old one might be back.
                if _is_ours(path):
                    raise
                _clear(path)
                _write_mark(path, mark)
        except OSError as error:
            in_the_way = path.is_dir()
            raise Unavailable(
                f"`{path}` cannot be written: {error.strerror}",
                hint="it is a folder, and none of Keyturn's: move it away"
                if in_the_way
                else "check the folder's permissions and free space",
                code="bundle.unavailable",
            ) from error
        failpoints.hit("bundle.invalidated")
        return generation

    def write(self, environment: EnvironmentName, sealed: bytes) -> None:
        """
        Make *sealed* the bundle of *environment*; call it inside a write transaction.

        Crash safety:
            Not durable. The old one has an older mark, a torn one does not decrypt, and
            either way it is built again.
        """
        path = self._path(environment)
        # In place where that is safe: to rename over a file costs twenty times as much,
        # since the file system then writes the new one out at once.
        if not _overwrite(path, sealed):
            if not self._folder.is_dir():
                durable.create_directory(self._folder)
            durable.replace(path, sealed, point="bundle", sync=False)

    def recipient(self, identity: Path, ask: Callable[[], str | None]) -> str | None:
        """
        Return whom bundles are sealed to; None where no key on disk could open them.

        Args:
            identity: The file of the identity.
            ask: Called where that file is absent, or not as it was when last asked.
        """
        try:
            status = os.stat(identity)  # noqa: PTH116 - `Path` costs as much again
        except OSError:
            return ask()
        asked_of = (status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size)
        if asked_of != self._asked_of:
            self._recipient = ask()
            self._asked_of = asked_of
        return self._recipient

    def remember_closed(self, stamp: str) -> None:
        """
        Remember how the store's file was left, so that the fast path may go on.

        Call it after the store was closed, and only where it was held against the anchor.

        Args:
            stamp: The second of `fast.database_stamps`.

        Raises:
            OSError: It cannot be written: `run` is slower until a later command can.

        Crash safety:
            Not durable. Where it is absent, torn or of another time, the next `run`
            takes the slow path, and writes it again.
        """
        failpoints.hit("bundle.closed")
        path = self._keys / fast.CLOSED
        try:
            _write_mark(path, stamp.encode("ascii"), sync=False)
        except OSError:
            # A link, a pipe, or somebody else's: it would keep `run` slow for ever.
            _clear(path)
            _write_mark(path, stamp.encode("ascii"), sync=False)
        failpoints.hit("bundle.remembered")

    def exists(self, environment: EnvironmentName) -> bool:
        """Tell whether a bundle of *environment* is there, fresh or not."""
        return self._path(environment).exists()

    def remove_all(self) -> None:
        """Remove every bundle, as when the identity they are sealed to is replaced."""
        if not self._folder.is_dir():
            return
        for path in self._folder.glob("*.age"):
            durable.unlink(path)

    def _path(self, environment: EnvironmentName) -> Path:
        return self._folder / f"{environment}.age"

    def _generation_path(self, environment: EnvironmentName) -> Path:
        return self._keys / f"generation.{environment}"


def _write_mark(path: Path, mark: bytes, *, sync: bool = True) -> None:
    # Not blocking: a pipe in the file's place would be waited for.
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        if not _is_our_file(os.fstat(descriptor)):
            raise PermissionError(errno.EACCES, "it is no plain file, or not yours")
        # In place: a torn write is another mark, hence stale too.
        _write(descriptor, mark)
        if sync:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _is_our_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _is_ours(path: Path) -> bool:
    try:
        return _is_our_file(path.lstat())
    except OSError:
        return False


def _clear(path: Path) -> None:
    """
    Remove what has taken the place of a file of ours at *path*.

    Raises:
        OSError: It is a folder with something in it, or may not be removed.
    """
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _overwrite(path: Path, data: bytes) -> bool:
    """Write *data* over the file at *path*; return False where it had better be another one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        # One with a second name is a backup's too, which must stay as it is.
        if not _is_our_file(status) or status.st_nlink != 1:
            return False
        failpoints.hit("bundle.write")
        _write(descriptor, data)
    finally:
        os.close(descriptor)
    failpoints.hit("bundle.written")
    return True


def _write(descriptor: int, data: bytes) -> None:
    # The fast path reads no file that others can reach, however it came to be so.
    os.fchmod(descriptor, 0o600)
    if os.pwrite(descriptor, data, 0) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as it means on a file
    os.ftruncate(descriptor, len(data))
