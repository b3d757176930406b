"""
How versions and states lie in the tables, and the checks each read makes.

A value's binding names the store, the place, the data key, and all that the
version's row says: so neither a ciphertext nor the row beside it can be
changed, moved or left out. A state row carries a tag over all its columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from keyturn._internal.database import Database
from keyturn.core.clock import parse_time
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import (
    Origin,
    SecretRef,
    SecretState,
    Values,
    Version,
    VersionedValue,
)
from keyturn.core.value import SecretValue
from keyturn.crypto import DataKey, bind
from keyturn.errors import Corrupt
from keyturn.stores._meta import UnlockedKeys
from keyturn.stores._rules import destroyed_error, no_version, unwritten

__all__ = [
    "STATE_COLUMNS",
    "VERSION_COLUMNS",
    "VERSION_JOIN",
    "StateRow",
    "VersionRow",
    "all_states",
    "as_stored",
    "insert_version",
    "load_state",
    "load_version",
    "metadata",
    "open_version",
    "parse_state",
    "save_state",
    "seal_values",
    "to_version",
    "vanished",
]

STATE_COLUMNS = "s.current, s.pending, s.previous, s.next_number, s.counter, s.mac"
VERSION_COLUMNS = "v.created_at, v.origin, v.token, v.destroyed, x.field, x.data_key, x.sealed"
VERSION_JOIN = "LEFT JOIN value x USING (environment, secret, number)"


@dataclass(frozen=True, slots=True)
class StateRow:
    """
    A state that held its tag.

    Args:
        counter: Rises with every change of the row.
    """

    state: SecretState
    counter: int


@dataclass(frozen=True, slots=True)
class VersionRow:
    """
    One version as stored, unopened.

    Args:
        sealed: (field, data key, sealed bytes), by field name.
    """

    ref: SecretRef
    number: int
    created_at: str
    origin: str
    token: str
    destroyed: bool
    sealed: tuple[tuple[str, int, bytes], ...]

    @property
    def what(self) -> str:
        """How errors name it."""
        return f"version {self.number} of `{self.ref}`"

    def binding(self, store_id: str, field: str, data_key: int) -> bytes:
        """Return the place of *field*, with all that this row says."""
        return bind(
            "value",
            store_id,
            self.ref.environment,
            self.ref.name,
            self.number,
            field,
            data_key,
            self.created_at,
            self.origin,
            self.token,
            len(self.sealed),
            *(name for name, _, _ in self.sealed),
        )


def _damaged(what: str) -> Corrupt:
    return Corrupt(
        f"{what} is not what was stored",
        hint="run `keyturn doctor` to see what else is damaged; restore from a backup",
    )


# --- states -----------------------------------------------------------------------------


def _state_message(store_id: str, state: SecretState, counter: int) -> bytes:
    return bind(
        "state",
        store_id,
        state.ref.environment,
        state.ref.name,
        state.current,
        state.pending,
        state.previous,
        state.next_number,
        counter,
    )


def parse_state(
    database: Database, keys: UnlockedKeys, ref: SecretRef, columns: Sequence[Any]
) -> StateRow:
    """
    Return the state that a row holds.

    Raises:
        Corrupt: The row is not what was written.
    """
    current, pending, previous, next_number, counter, tag = columns
    what = f"the state of `{ref}`"
    if (
        not all(isinstance(at, int | None) for at in (current, pending, previous))
        or not isinstance(next_number, int)
        or not isinstance(counter, int)
        or not isinstance(tag, bytes)
    ):
        raise _damaged(what)
    number = DataKey.number_in(tag)
    if number is None:
        raise _damaged(what)
    state = SecretState(ref, current, pending, previous, next_number)
    keys.get(database, number).check(_state_message(keys.store_id, state, counter), tag, what=what)
    return StateRow(state, counter)


def load_state(database: Database, keys: UnlockedKeys, ref: SecretRef) -> StateRow:
    """
    Return the state of *ref*, checked.

    Raises:
        Corrupt: It is not what was written, or it is gone and versions remain.
    """
    place = (ref.environment, ref.name)
    query = f"SELECT {STATE_COLUMNS} FROM secret_state s WHERE environment = ? AND secret = ?"  # noqa: S608 - fixed columns
    row = database.row(query, place)
    if row is None:
        if not database.row("SELECT 1 FROM version WHERE environment = ? AND secret = ?", place):
            return StateRow(unwritten(ref), counter=0)
        # Both are written in one transaction, so this time it is there, or was taken away.
        row = database.row(query, place)
        if row is None:
            raise _damaged(f"the state of `{ref}`")
    return parse_state(database, keys, ref, row)


def save_state(database: Database, keys: UnlockedKeys, state: SecretState, *, counter: int) -> None:
    """Write *state* under the active data key; the caller holds the transaction."""
    tag = keys.active(database).authenticate(_state_message(keys.store_id, state, counter))
    database.execute(
        "INSERT OR REPLACE INTO secret_state"
        " (environment, secret, current, pending, previous, next_number, counter, mac)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            state.ref.environment,
            state.ref.name,
            state.current,
            state.pending,
            state.previous,
            state.next_number,
            counter,
            tag,
        ),
    )


def all_states(
    database: Database, keys: UnlockedKeys, environment: EnvironmentName
) -> Iterator[StateRow]:
    """
    Yield the state of every secret in *environment*, by name.

    Raises:
        Corrupt: One is not what was written.
    """
    query = (
        f"SELECT s.secret, {STATE_COLUMNS} FROM secret_state s"  # noqa: S608 - fixed columns
        " WHERE environment = ? ORDER BY s.secret"
    )
    for name, *columns in database.rows(query, (environment,)):
        ref = SecretRef(environment, SecretName(name))
        yield parse_state(database, keys, ref, columns)


# --- versions ---------------------------------------------------------------------------


def load_version(database: Database, ref: SecretRef, number: int) -> VersionRow | None:
    """Return version *number* of *ref* as stored, or None when there is none."""
    rows = database.rows(
        f"SELECT {VERSION_COLUMNS} FROM version v {VERSION_JOIN}"  # noqa: S608 - fixed columns
        " WHERE v.environment = ? AND v.secret = ? AND v.number = ? ORDER BY x.field",
        (ref.environment, ref.name, number),
    )
    return to_version(ref, number, rows) if rows else None


def to_version(ref: SecretRef, number: int, rows: Sequence[Sequence[Any]]) -> VersionRow:
    """
    Return the version that *rows* (one a field, `VERSION_COLUMNS`) hold.

    Raises:
        Corrupt: A column is not of the type that was written.
    """
    created_at, origin, token, destroyed = rows[0][:4]
    sealed = tuple(tuple(row[4:7]) for row in rows if row[4] is not None)
    texts = (created_at, origin, token, *(field for field, _, _ in sealed))
    if (
        not all(isinstance(text, str) for text in texts)
        or destroyed not in (0, 1)
        or not all(isinstance(key, int) and isinstance(data, bytes) for _, key, data in sealed)
    ):
        raise _damaged(f"version {number} of `{ref}`")
    fields = cast("tuple[tuple[str, int, bytes], ...]", sealed)
    return VersionRow(ref, number, created_at, origin, token, bool(destroyed), fields)


def metadata(row: VersionRow) -> Version:
    """
    Return what is known of *row*'s version.

    Raises:
        Corrupt: Its time or origin cannot be read.
    """
    try:
        return Version(
            ref=row.ref,
            number=row.number,
            created_at=parse_time(row.created_at),
            origin=Origin(row.origin),
            fields=tuple(FieldName(field) for field, _, _ in row.sealed),
            destroyed=row.destroyed,
        )
    except ValueError:
        raise _damaged(row.what) from None


def open_version(database: Database, keys: UnlockedKeys, row: VersionRow) -> VersionedValue:
    """
    Return the version of *row* with its values.

    Raises:
        Corrupt: A value, a field or the row is not what was written.
    """
    if not row.sealed:
        raise _damaged(row.what)
    values: dict[FieldName, SecretValue] = {}
    for field, number, sealed in row.sealed:
        data_key = keys.get(database, number)
        binding = row.binding(keys.store_id, field, number)
        values[FieldName(field)] = data_key.values.open(
            sealed, binding, what=f"field `{field}` of {row.what}"
        )
    return VersionedValue(metadata(row), values)


def seal_values(
    row: VersionRow, values: Values, data_key: DataKey, *, store_id: str, entropy: Entropy
) -> VersionRow:
    """Return *row* holding *values*, sealed under *data_key*."""
    fields = sorted(values)
    shell = replace(row, sealed=tuple((field, data_key.number, b"") for field in fields))
    sealed = tuple(
        (
            field,
            data_key.number,
            data_key.values.seal(
                values[field],
                shell.binding(store_id, field, data_key.number),
                entropy=entropy,
            ),
        )
        for field in fields
    )
    return replace(row, sealed=sealed)


def insert_version(
    database: Database, keys: UnlockedKeys, shell: VersionRow, values: Values, *, entropy: Entropy
) -> VersionRow:
    """
    Write the version that *shell* describes, with *values*; return its row.

    The caller holds the transaction.
    """
    row = shell
    if values:
        row = seal_values(
            shell, values, keys.active(database), store_id=keys.store_id, entropy=entropy
        )
    place = (row.ref.environment, row.ref.name, row.number)
    database.execute(
        "INSERT INTO version (environment, secret, number, created_at, origin, token, destroyed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*place, row.created_at, row.origin, row.token, int(row.destroyed)),
    )
    database.execute_many(
        "INSERT INTO value (environment, secret, number, field, data_key, sealed)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [(*place, *field) for field in row.sealed],
    )
    return row


def as_stored(state: SecretState, number: int, rows: Sequence[tuple[Any, ...]]) -> VersionRow:
    """
    Return version *number*, which joined *rows* hold, the state in front of each.

    Raises:
        Corrupt: It is gone.
        NotFound: It never was, or was destroyed.
    """
    ref = state.ref
    if rows[0][7] is None:
        raise (vanished(ref, number) if 0 < number < state.next_number else no_version(ref, number))
    version = to_version(ref, number, [row[8:] for row in rows])
    if version.destroyed:
        raise destroyed_error(state, number)
    return version


def vanished(ref: SecretRef, number: int) -> Corrupt:
    """Return the error for a version that was stored and is not there any more."""
    return Corrupt(
        f"version {number} of `{ref}` is gone from the store",
        hint="run `keyturn doctor` to see what else is damaged; restore from a backup",
    )
