"""
What a store says of itself, and the keys that open it.

`meta` is not secret and is believed in nothing: the store's id and the keys'
numbers are bound into everything that is sealed, so a changed line makes the
store refuse to open rather than open wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import final

from keyturn._internal.database import Database
from keyturn.core.clock import parse_time
from keyturn.crypto import DataKey, PassphraseParameters, RootKey
from keyturn.errors import Conflict, Corrupt, Sealed, Unavailable

__all__ = ["FORMAT", "RootKeyKind", "StoreIdentity", "UnlockedKeys", "describe", "unlock"]

FORMAT = "1"


class RootKeyKind(StrEnum):
    """Where the root key of a store comes from."""

    KEY_FILE = "key-file"
    PASSPHRASE = "passphrase"  # noqa: S105 - the name of a kind


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """
    What can be said of a store without its root key.

    Args:
        passphrase: How the passphrase becomes the key; None with a key file.
    """

    store_id: str
    project: str
    created_at: datetime
    root_key_id: str
    root_key_kind: RootKeyKind
    passphrase: PassphraseParameters | None


def describe(database: Database) -> StoreIdentity:
    """
    Return what the store in *database* says of itself.

    Raises:
        Unavailable: No store was created in this file.
        Corrupt: The description is incomplete or malformed.
        Conflict: A newer Keyturn wrote it.
    """
    meta = dict(database.rows("SELECT key, value FROM meta"))
    if meta.get("format", FORMAT) != FORMAT:
        raise Conflict(
            f"`{database.path}` holds a store in a format that this Keyturn does not know",
            hint="upgrade this Keyturn; nothing was changed",
            code="store.newer",
        )
    if not meta:
        raise Unavailable(
            f"`{database.path}` holds no store yet",
            hint="run `keyturn init`",
            code="store.absent",
        )
    try:
        kind = RootKeyKind(meta["root_key_kind"])
        parameters = (
            PassphraseParameters.parse(meta["passphrase_parameters"])
            if kind is RootKeyKind.PASSPHRASE
            else None
        )
        return StoreIdentity(
            store_id=meta["store_id"],
            project=meta["project"],
            created_at=parse_time(meta["created_at"]),
            root_key_id=meta["root_key_id"],
            root_key_kind=kind,
            passphrase=parameters,
        )
    except (KeyError, ValueError, TypeError):
        raise Corrupt(
            f"`{database.path}` does not say what it is",
            hint="run `keyturn doctor`; restore from a backup",
        ) from None


@final
class UnlockedKeys:
    """
    The open key ladder of one store.

    It keeps the root key, because another process may change the data keys while
    this one runs; a key that is not known yet is then read from the store.
    """

    __slots__ = ("_data_keys", "root_key", "store_id")

    def __init__(self, store_id: str, root_key: RootKey, data_keys: dict[int, DataKey]) -> None:
        self.store_id = store_id
        self.root_key = root_key
        self._data_keys = data_keys

    def get(self, database: Database, number: object) -> DataKey:
        """
        Return data key *number* as a row names it.

        Raises:
            Corrupt: The store lists no such key.
            Sealed: The root key was changed by another process.
        """
        if not isinstance(number, int):
            raise _unlisted(number)
        known = self._data_keys.get(number)
        if known is None:
            self._data_keys.update((key.number, key) for key in _unwrapped(database, self.root_key))
            known = self._data_keys.get(number)
        if known is None:
            raise _unlisted(number)
        return known

    def active(self, database: Database) -> DataKey:
        """
        Return the key that new values are sealed with; ask within the transaction that seals.

        Raises:
            Corrupt: The store lists none.
        """
        (number,) = database.one("SELECT id FROM data_key WHERE state = 'active'")
        return self.get(database, number)

    def listed(self) -> tuple[DataKey, ...]:
        """Return every data key that was listed when the ladder was last read."""
        return tuple(self._data_keys.values())

    def __repr__(self) -> str:
        return f"UnlockedKeys({self.store_id})"


def unlock(database: Database, root_key: RootKey) -> UnlockedKeys:
    """
    Open the key ladder of the store in *database*.

    Raises:
        Sealed: *root_key* is not this store's; names both keys and where this one came from.
        Corrupt: A data key was changed, or none is listed.
    """
    data_keys = {key.number: key for key in _unwrapped(database, root_key)}
    return UnlockedKeys(describe(database).store_id, root_key, data_keys)


def _unwrapped(database: Database, root_key: RootKey) -> list[DataKey]:
    # One statement, so that the wrapped keys and the root key's id are of one moment.
    identity = describe(database)
    rows = database.rows(
        "SELECT id, wrapped, (SELECT value FROM meta WHERE key = 'root_key_id') FROM data_key"
    )
    if not rows:
        raise _unlisted("any")
    if root_key.id != rows[0][2]:
        raise _wrong_key(identity, root_key)
    data_keys = []
    for number, wrapped, _ in rows:
        if not isinstance(number, int) or not isinstance(wrapped, bytes):
            raise _unlisted(number)
        data_keys.append(DataKey.unwrap(number, wrapped, root_key, store_id=identity.store_id))
    return data_keys


def _wrong_key(identity: StoreIdentity, root_key: RootKey) -> Sealed:
    if identity.root_key_kind is RootKeyKind.PASSPHRASE:
        return Sealed(
            "this passphrase does not open the store",
            hint="try again; there is no way in without the passphrase or a backup",
            code="key.wrong",
        )
    return Sealed(
        f"{root_key.origin} holds key {root_key.id}; the store needs key {identity.root_key_id}",
        hint="put the right key file in its place, from its backup; nothing was changed",
        code="key.wrong",
    )


def _unlisted(number: object) -> Corrupt:
    name = number if isinstance(number, (int, str)) else "of another type"
    return Corrupt(
        f"the store does not list data key {name}",
        hint="run `keyturn doctor`; restore from a backup",
    )
