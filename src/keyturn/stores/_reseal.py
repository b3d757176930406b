"""
Data-key rotation, in batches that are each one transaction.

    active 1  ->  active 2, retiring 1  ->  ... batches ...  ->  active 2

A row names the key it is sealed with, and changes key and bytes together, so it
opens with exactly one listed key at every moment. The old key's row goes in the
transaction that finds nothing left under it.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyturn._internal.database import Database
from keyturn.core.clock import Clock, rfc3339
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef
from keyturn.crypto import DataKey, new_key
from keyturn.errors import Corrupt
from keyturn.stores._items import open_item, write_item
from keyturn.stores._meta import UnlockedKeys
from keyturn.stores._rows import (
    VersionRow,
    load_state,
    load_version,
    open_version,
    save_state,
    seal_values,
)

__all__ = ["ResealProgress", "insert_data_key", "reseal_begin", "reseal_step"]

# Bounds the memory and the log that one transaction takes, whatever the values' sizes.
_BATCH_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ResealProgress:
    """How much was sealed anew."""

    versions: int
    items: int
    states: int

    def __add__(self, other: ResealProgress) -> ResealProgress:
        return ResealProgress(
            self.versions + other.versions, self.items + other.items, self.states + other.states
        )


def reseal_begin(database: Database, keys: UnlockedKeys, *, clock: Clock, entropy: Entropy) -> None:
    """
    List a new active data key and retire the old one, unless one is retiring already.

    Crash safety:
        Durable on return. Before that: the old key alone.
    """
    with database.transaction():
        if _retiring(database) is not None:
            return
        old = keys.active(database)
        database.execute("UPDATE data_key SET state = 'retiring' WHERE id = ?", (old.number,))
        insert_data_key(
            database, keys, DataKey(old.number + 1, new_key(entropy)), clock=clock, entropy=entropy
        )


def insert_data_key(
    database: Database,
    keys: UnlockedKeys,
    data_key: DataKey,
    *,
    clock: Clock,
    entropy: Entropy,
) -> None:
    """List *data_key* as the active one; the caller holds the transaction."""
    wrapped = data_key.wrap(keys.root_key, store_id=keys.store_id, entropy=entropy)
    database.execute(
        "INSERT INTO data_key (id, wrapped, state, created_at) VALUES (?, ?, 'active', ?)",
        (data_key.number, wrapped, rfc3339(clock.now())),
    )


def reseal_step(
    database: Database, keys: UnlockedKeys, *, batch: int, entropy: Entropy
) -> ResealProgress | None:
    """
    Seal one batch anew, or drop the old key when nothing is left under it.

    Returns:
        What was done, or None when no key is retiring.

    Crash safety:
        Durable on return. Before that: nothing of this batch.
    """
    with database.transaction():
        old = _retiring(database)
        if old is None:
            return None
        new = keys.active(database)
        versions = _reseal_versions(database, keys, old, new, batch=batch, entropy=entropy)
        if versions:
            return ResealProgress(versions, 0, 0)
        items = _reseal_items(database, keys, old, new, entropy=entropy)
        states = _reseal_states(database, keys, old, batch=batch)
        if not states:
            database.execute("DELETE FROM data_key WHERE id = ?", (old,))
        return ResealProgress(0, items, states)


def _retiring(database: Database) -> int | None:
    row = database.row("SELECT id FROM data_key WHERE state = 'retiring' ORDER BY id LIMIT 1")
    return None if row is None else row[0]


def _reseal_versions(
    database: Database,
    keys: UnlockedKeys,
    old: int,
    new: DataKey,
    *,
    batch: int,
    entropy: Entropy,
) -> int:
    places = database.rows(
        "SELECT DISTINCT environment, secret, number FROM value WHERE data_key = ? LIMIT ?",
        (old, batch),
    )
    done = size_bytes = 0
    for environment, name, number in places:
        row = load_version(database, SecretRef(environment, name), number)
        if row is None:
            raise Corrupt(
                f"a value of `{environment}/{name}` belongs to no version",
                hint="run `keyturn doctor`; restore from a backup",
            )
        resealed = _resealed(database, keys, row, new, entropy=entropy)
        database.execute_many(
            "UPDATE value SET data_key = ?, sealed = ?"
            " WHERE environment = ? AND secret = ? AND number = ? AND field = ?",
            [
                (key, sealed, environment, name, number, field)
                for field, key, sealed in resealed.sealed
            ],
        )
        done += 1
        size_bytes += sum(len(sealed) for _, _, sealed in resealed.sealed)
        if size_bytes >= _BATCH_BYTES:
            break
    return done


def _resealed(
    database: Database, keys: UnlockedKeys, row: VersionRow, new: DataKey, *, entropy: Entropy
) -> VersionRow:
    values = open_version(database, keys, row).values
    return seal_values(row, values, new, store_id=keys.store_id, entropy=entropy)


def _reseal_items(
    database: Database, keys: UnlockedKeys, old: int, new: DataKey, *, entropy: Entropy
) -> int:
    # A handful of keys: no batches.
    rows = database.rows(
        "SELECT name, data_key, sealed FROM sealed_item WHERE data_key = ?", (old,)
    )
    for name, number, sealed in rows:
        value = open_item(database, keys, name, number, sealed)
        write_item(database, keys, name, value, new, entropy=entropy)
    return len(rows)


def _reseal_states(database: Database, keys: UnlockedKeys, old: int, *, batch: int) -> int:
    rows = database.rows(
        "SELECT environment, secret FROM secret_state WHERE substr(mac, 2, 4) = ? LIMIT ?",
        (old.to_bytes(4, "big"), batch),
    )
    for environment, name in rows:
        # Checked under the old key before it is signed anew: a forged row is not laundered.
        ref = SecretRef(EnvironmentName(environment), SecretName(name))
        row = load_state(database, keys, ref)
        save_state(database, keys, row.state, counter=row.counter + 1)
    return len(rows)
