"""Keyturn's own keys, sealed like values: the audit signing key, the digest key."""

from __future__ import annotations

from typing import Any

from keyturn._internal.database import Database
from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.crypto import DataKey, bind
from keyturn.errors import Conflict, Corrupt
from keyturn.stores._meta import UnlockedKeys

__all__ = ["load_item", "open_item", "save_item", "write_item"]


def load_item(database: Database, keys: UnlockedKeys, name: str) -> SecretValue | None:
    """
    Return the item *name*, or None when there is none.

    Raises:
        Corrupt: It is not what was written.
    """
    row = database.row("SELECT data_key, sealed FROM sealed_item WHERE name = ?", (name,))
    return None if row is None else open_item(database, keys, name, *row)


def open_item(
    database: Database, keys: UnlockedKeys, name: str, number: Any, sealed: Any
) -> SecretValue:
    """
    Return what a row of `sealed_item` holds.

    Raises:
        Corrupt: It is not what was written.
    """
    what = f"Keyturn's own key `{name}`"
    if not isinstance(sealed, bytes):
        raise Corrupt(f"{what} is not what was stored", hint="restore from a backup")
    data_key = keys.get(database, number)
    return data_key.items.open(sealed, _binding(keys, name, data_key), what=what)


def save_item(
    database: Database,
    keys: UnlockedKeys,
    name: str,
    value: SecretValue,
    *,
    replace: bool,
    entropy: Entropy,
) -> None:
    """
    Keep *value* as the item *name*; the caller holds the transaction.

    Raises:
        Conflict: Another value is there and *replace* was not given.
    """
    if not replace:
        there = load_item(database, keys, name)
        if there is not None:
            if there == value:
                return
            raise Conflict(f"Keyturn's own key `{name}` is there already", code="store.item")
    write_item(database, keys, name, value, keys.active(database), entropy=entropy)


def write_item(
    database: Database,
    keys: UnlockedKeys,
    name: str,
    value: SecretValue,
    data_key: DataKey,
    *,
    entropy: Entropy,
) -> None:
    """Write the item *name*, sealed under *data_key*; the caller holds the transaction."""
    sealed = data_key.items.seal(value, _binding(keys, name, data_key), entropy=entropy)
    database.execute(
        "INSERT OR REPLACE INTO sealed_item (name, data_key, sealed) VALUES (?, ?, ?)",
        (name, data_key.number, sealed),
    )


def _binding(keys: UnlockedKeys, name: str, data_key: DataKey) -> bytes:
    return bind("item", keys.store_id, name, data_key.number)
