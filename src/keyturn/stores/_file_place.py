"""
A place that is two files: the live one, and what is kept aside.

Both are replaced as a whole, under a lock that every Keyturn on the machine takes.
An editor takes none: what it saved before the lock is seen by the file's digest, and
what it saves while we write by what comes out when the files change places (see
`keyturn._internal.exchange`). The write is refused, and theirs stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

from keyturn._internal import durable, failpoints, locks
from keyturn._internal.exchange import put_in_place
from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import SecretRef
from keyturn.core.ports import StoreCapabilities
from keyturn.errors import Corrupt, Rejected, Unavailable
from keyturn.stores._place import Seen, mark_is_stale

__all__ = ["Aside", "FileLayout", "FilePlace", "LiveKey", "LiveText", "PlainAside"]

LiveKey = Callable[[EnvironmentName, SecretName, FieldName], str]

_MAX_BYTES = 64 * 1024 * 1024


class LiveText(Protocol):
    """The form of a live file."""

    def read(self, data: bytes, *, file: Path) -> Mapping[str, bytes]:
        """
        Return what *data* holds, by key.

        Raises:
            Corrupt: It cannot be read.
            Sealed: The key that opens it is absent.
        """
        ...

    def edit(self, data: bytes | None, changes: Mapping[str, bytes | None], *, file: Path) -> bytes:
        """
        Return *data*, or a new file, with *changes*; the rest stays as it is.

        Raises:
            Rejected: A value cannot be written in this form.
        """
        ...


class Aside(Protocol):
    """How what is kept aside is sealed."""

    def seal(self, data: bytes) -> bytes:
        """Return *data* as the file holds it."""
        ...

    def open(self, data: bytes, *, file: Path) -> bytes:
        """
        Return what `seal` was given.

        Raises:
            Corrupt: It was not.
            Sealed: The key that opens it is absent.
        """
        ...


class PlainAside:
    """In clear, for a store whose live file is so as well."""

    def seal(self, data: bytes) -> bytes:
        """Return *data*."""
        return data

    def open(self, data: bytes, *, file: Path) -> bytes:
        """Return *data*."""
        del file
        return data


@dataclass(frozen=True, slots=True)
class _Kept:
    ledger: bytes | None
    documents: Mapping[str, bytes]


@final
class FilePlace:
    """
    Implements `Place`.

    Args:
        live: The file that applications read.
        aside: The file with ledger and kept values; its folder is made where it is not.
        name: Returns the key of a field.
    """

    def __init__(
        self,
        live: Path,
        aside: Path,
        *,
        text: LiveText,
        seal: Aside,
        name: Callable[[SecretName, FieldName], str],
    ) -> None:
        self._live = live
        self._aside = aside
        self._text = text
        self._seal = seal
        self._name = name
        self._kept: Mapping[str, bytes] = {}

    def live_key(self, name: SecretName, field: FieldName) -> str:
        """Return the key of *field*."""
        return self._name(name, field)

    def look(self, *, live: bool, ledger: bool) -> Seen:
        """Read what is asked for, the ledger first."""
        kept, aside_mark = self._read_aside() if ledger else (_Kept(None, {}), None)
        data = _read(self._live) if live else None
        held = {} if data is None else self._text.read(data, file=self._live)
        if ledger:
            self._kept = kept.documents
        return Seen(held, kept.ledger, None if data is None else _mark(data), aside_mark)

    def write_live(self, changes: Mapping[str, bytes | None], *, seen: Seen) -> None:
        """Write the live file as *seen* with *changes*."""
        with self._lock():
            data = _read(self._live)
            if (None if data is None else _mark(data)) != seen.live_mark:
                raise mark_is_stale(f"`{self._live}`")
            edited = self._text.edit(data, changes, file=self._live)
            if not _write_seen(self._live, edited, seen=data):
                raise mark_is_stale(f"`{self._live}`")

    def write_ledger(
        self, ledger: bytes, *, keep: Mapping[str, bytes], drop: Collection[str], seen: Seen
    ) -> None:
        """Replace the ledger and what is kept, in one step."""
        with self._lock():
            kept, mark = self._read_aside()
            if mark != seen.ledger_mark:
                raise mark_is_stale(f"`{self._aside}`")
            documents = {
                key: data
                for key, data in {**kept.documents, **keep}.items()
                if key not in set(drop)
            }
            _write(self._aside, self._seal.seal(_encode(_Kept(ledger, documents))))

    def kept(self, key: str) -> bytes | None:
        """Return the document kept as *key*, or None."""
        if key not in self._kept:
            # A key has the same content always, so what was seen is good.
            self._kept = self._read_aside()[0].documents
        return self._kept.get(key)

    def _read_aside(self) -> tuple[_Kept, str | None]:
        data = _read(self._aside)
        if data is None:
            return _Kept(None, {}), None
        plain = self._seal.open(data, file=self._aside)
        try:
            return _decode(plain), _mark(data)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Corrupt(
                f"`{self._aside}` is not what Keyturn wrote",
                hint="restore it from version control or a backup; nothing was changed",
            ) from None

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locks.held(self._aside.parent, f".{self._aside.name}.lock"))
            except OSError as error:
                raise _unwritable(self._aside, error) from error
            yield


@final
class FileLayout:
    """
    Two files an environment; implements `Layout`.

    Args:
        files: Returns the live file of an environment and the one beside it.
        where: For messages.
    """

    history_limit = None

    def __init__(
        self,
        files: Callable[[EnvironmentName], tuple[Path, Path]],
        *,
        text: LiveText,
        seal: Aside,
        key: LiveKey,
        where: str,
        capabilities: StoreCapabilities,
    ) -> None:
        self._files = files
        self._text = text
        self._seal = seal
        self._key = key
        self._where = where
        self._capabilities = capabilities

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store guarantees."""
        return self._capabilities

    @property
    def where(self) -> str:
        """Where it is, for messages."""
        return self._where

    def place(self, ref: SecretRef) -> FilePlace:
        """Return the place of *ref*'s environment."""
        return self._place(ref.environment)

    def places(
        self, environment: EnvironmentName, names: Iterable[SecretName] | None
    ) -> Iterable[FilePlace]:
        """Return the one place of *environment*."""
        del names
        return [self._place(environment)]

    def close(self) -> None:
        """Nothing is held open."""

    def _place(self, environment: EnvironmentName) -> FilePlace:
        live, aside = self._files(environment)
        return FilePlace(
            live,
            aside,
            text=self._text,
            seal=self._seal,
            name=lambda name, field: self._key(environment, name, field),
        )


def _mark(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes | None:
    # Not blocking: a pipe in the file's place would be waited for.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > _MAX_BYTES:
        raise Corrupt(f"`{path}` is larger than any file of this kind")
    return data


def _write(path: Path, data: bytes) -> None:
    try:
        mode = _mode_for(path)
        failpoints.hit("store.file.write")
        durable.replace(path, data, mode=mode, point="store.file")
        failpoints.hit("store.file.written")
    except OSError as error:
        raise _unwritable(path, error) from error


def _write_seen(path: Path, data: bytes, *, seen: bytes | None) -> bool:
    """Write *data* where *path* still has *seen*; return False, and change nothing, where not."""
    prepared = path.with_name(f".{path.name}.keyturn-next")
    try:
        durable.replace(prepared, data, mode=_mode_for(path), point="store.file.next")
        done = put_in_place(prepared, path, seen=seen, point="store.file.live")
    except OSError as error:
        raise _unwritable(path, error) from error
    return done


def _mode_for(path: Path) -> int:
    """Return the mode of a new file in the place of *path*, in a folder that there is."""
    durable.create_directory(path.parent, mode=0o700)
    # Whoever could read it before still can; never more than owner and group.
    return (path.stat().st_mode & 0o640) if path.exists() else 0o600


def _unreadable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"`{path}` cannot be read: {error.strerror}", hint="check the file's permissions"
    )


def _unwritable(path: Path, error: OSError) -> Rejected:
    return Rejected(
        f"`{path}` cannot be written: {error.strerror}",
        hint="check the folder's permissions and free space",
        code="store.unwritable",
    )


def _encode(kept: _Kept) -> bytes:
    documents = {key: b64encode(kept.documents[key]).decode() for key in sorted(kept.documents)}
    ledger = None if kept.ledger is None else b64encode(kept.ledger).decode()
    document = {"format": 1, "ledger": ledger, "kept": documents}
    return json.dumps(document, indent=1).encode("ascii") + b"\n"


def _decode(data: bytes) -> _Kept:
    found = json.loads(data)
    if found["format"] != 1:
        raise ValueError("another format")
    ledger = found["ledger"]
    return _Kept(
        None if ledger is None else b64decode(ledger, validate=True),
        {key: b64decode(text, validate=True) for key, text in found["kept"].items()},
    )
