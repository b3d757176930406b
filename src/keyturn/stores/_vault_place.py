"""
One live document in a KV engine, and what is kept beside it: the ledger and the versions.

A value of text is stored as itself. One that is not UTF-8, or holds NUL, is stored in
base64, and the field `keyturn.base64` of the same document says of which fields that is so.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.errors import Conflict, Corrupt, InternalError, KeyturnError
from keyturn.stores._ledger import decode_values
from keyturn.stores._place import MARK_CODE, Seen
from keyturn.stores._vault_kv import Document, Kv

__all__ = ["LiveKey", "VaultPlace"]

# No name of a field or variable has a dot.
_CODED: Final = "keyturn.base64"

LiveKey = Callable[[EnvironmentName, SecretName, FieldName], str]


@dataclass(frozen=True, slots=True)
class _Mark:
    """
    The version of a document, by which it is written.

    Args:
        data: What it held, as the server has it.
    """

    version: int
    data: Mapping[str, object] = field(compare=False, repr=False)

    @staticmethod
    def of(document: Document) -> _Mark:
        return _Mark(document.version, document.data or {})


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """Implements `Place`."""

    _kv: Kv
    _live: str
    _aside: str
    _environment: EnvironmentName
    _key: LiveKey

    def live_key(self, name: SecretName, field: FieldName) -> str:
        """Return the key of the live document that holds *field* of the secret *name*."""
        return self._key(self._environment, name, field)

    def look(self, *, live: bool, ledger: bool) -> Seen:
        """
        Read what is asked for, the ledger first.

        Raises:
            Unavailable: No answer.
            Sealed: The server is sealed.
            Rejected: It is denied.
            Corrupt: What is there is not what Keyturn wrote.
        """
        empty = Document(0, None)
        aside = self._kv.read(self._ledger_path) if ledger else empty
        found = self._kv.read(self._live) if live else empty
        data = None if aside.data is None else _opened(aside.data, self._ledger_path)
        return Seen(
            live=_live_fields(found.data or {}),
            ledger=data,
            live_mark=_Mark.of(found),
            ledger_mark=_Mark.of(aside),
        )

    def write_live(self, changes: Mapping[str, bytes | None], *, seen: Seen) -> None:
        """
        Write the live document as *seen* with *changes*, in one step.

        Raises:
            As `Kv.write`.
        """
        mark = _mark(seen.live_mark)
        data = dict(mark.data)
        coded = _coded(data)
        for key, value in changes.items():
            data.pop(key, None)
            coded.discard(key)
            if value is not None:
                data[key], is_coded = _text(value)
                coded |= {key} if is_coded else set()
        data.pop(_CODED, None)
        if coded:
            data[_CODED] = " ".join(sorted(coded))
        self._kv.write(self._live, data, cas=mark.version)

    def write_ledger(
        self, ledger: bytes, *, keep: Mapping[str, bytes], drop: Collection[str], seen: Seen
    ) -> None:
        """
        Replace the ledger. What it names anew, *keep*, is durable before it.

        Raises:
            As `Kv.write`.

        Crash safety:
            What is to be dropped is named beside the ledger, and removed at the next
            write of it where this one died on the way.
        """
        mark = _mark(seen.ledger_mark)
        late = sorted(set(_dropping(mark.data)) - set(keep))
        if drop or late:
            self._require_rights(sorted(drop) or late)
        for key in late:
            self._forget(key)
        for key, value in keep.items():
            self._keep(key, value)
        document = _closed(ledger) | ({"dropping": sorted(drop)} if drop else {})
        self._kv.write(self._ledger_path, document, cas=mark.version)
        # What is done is done: it must not look as if it were not.
        with contextlib.suppress(KeyturnError):
            for key in drop:
                self._forget(key)

    def kept(self, key: str) -> bytes | None:
        """Return the document kept as *key*, or None."""
        path = self._kept_path(key)
        found = self._kv.read(path)
        return None if found.data is None else _opened(found.data, path)

    def list_kept(self, *, seen: Seen) -> Collection[str]:
        """Return the keys of all that is kept, without what the next write removes anyhow."""
        late = set(_dropping(_mark(seen.ledger_mark).data))
        return set(self._kv.leaves(f"{self._aside}/versions")) - late

    def remove_kept(self, key: str) -> None:
        """Remove the document kept as *key*; the live document's older versions stay."""
        self._kv.remove(self._kept_path(key))

    @property
    def _ledger_path(self) -> str:
        return f"{self._aside}/ledger"

    def _kept_path(self, key: str) -> str:
        return f"{self._aside}/versions/{key}"

    def _keep(self, key: str, value: bytes) -> None:
        path = self._kept_path(key)
        try:
            self._kv.write(path, _closed(value), cas=0)
        except Conflict as error:
            if error.code != MARK_CODE:
                raise
            found = self._kv.read(path)
            if found.data is None:
                self._kv.write(path, _closed(value), cas=found.version)
            elif _opened(found.data, path) != value:
                raise _not_ours(path) from None

    def _forget(self, key: str) -> None:
        """Remove what is kept as *key*, and the older live versions that have those values."""
        data = self.kept(key)
        if data is not None:
            self._forget_live(SecretName(key.partition(".")[0]), data)
        self._kv.remove(self._kept_path(key))

    def _forget_live(self, name: SecretName, data: bytes) -> None:
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            values = decode_values(data)
            wanted = {self.live_key(name, part): values[part].reveal() for part in values}
            ended = []
            for version in self._kv.older(self._live):
                found = _live_fields(self._kv.read(self._live, version=version).data or {})
                if wanted.items() <= found.items():
                    ended.append(version)
            if ended:
                self._kv.destroy(self._live, ended)

    def _require_rights(self, keys: Collection[str]) -> None:
        needs = [("metadata", self._kept_path(key), "delete") for key in keys]
        self._kv.require(
            [*needs, ("metadata", self._live, "read"), ("destroy", self._live, "update")]
        )


def _live_fields(data: Mapping[str, object]) -> dict[str, bytes]:
    coded = _coded(data)
    return {key: _bytes(value, key in coded) for key, value in data.items() if key != _CODED}


def _coded(data: Mapping[str, object]) -> set[str]:
    return set(str(data.get(_CODED, "")).split())


def _bytes(value: object, is_coded: bool) -> bytes:  # noqa: FBT001 - one of two
    if not isinstance(value, str):
        # A number or a table that somebody else put there.
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    if is_coded:
        with contextlib.suppress(ValueError):
            return base64.b64decode(value, validate=True)
    return value.encode("utf-8", "surrogatepass")


def _text(value: bytes) -> tuple[str, bool]:
    """Return *value* as text, and whether that is base64."""
    with contextlib.suppress(UnicodeDecodeError):
        text = value.decode("utf-8")
        if "\0" not in text:
            return text, False
    return base64.b64encode(value).decode("ascii"), True


def _closed(value: bytes) -> dict[str, object]:
    text, is_coded = _text(value)
    return {"base64" if is_coded else "text": text}


def _opened(data: Mapping[str, object], path: str) -> bytes:
    for key, is_coded in (("text", False), ("base64", True)):
        found = data.get(key)
        if isinstance(found, str):
            return _bytes(found, is_coded)
    raise _not_ours(path)


def _dropping(data: Mapping[str, object]) -> list[str]:
    found = data.get("dropping")
    return [str(key) for key in found] if isinstance(found, list) else []


def _not_ours(path: str) -> Corrupt:
    return Corrupt(
        f"what lies at `{path}` is not what Keyturn wrote",
        hint="`bao kv rollback` brings an older version back; nothing was changed",
    )


def _mark(mark: object) -> _Mark:
    if not isinstance(mark, _Mark):
        raise InternalError("a document is written that was not looked at")
    return mark
