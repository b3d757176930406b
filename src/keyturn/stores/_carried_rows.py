"""Whole histories in the embedded store's tables: read for another store, written from one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from keyturn._internal.database import Database
from keyturn.core.clock import rfc3339
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import History, Move, SecretRef, Values, Version
from keyturn.stores._carrying import additions, carried_token, check_move, target_of
from keyturn.stores._meta import UnlockedKeys
from keyturn.stores._rows import (
    STATE_COLUMNS,
    VERSION_COLUMNS,
    VERSION_JOIN,
    VersionRow,
    insert_version,
    load_state,
    load_version,
    metadata,
    open_version,
    parse_state,
    save_state,
    to_version,
    vanished,
)
from keyturn.stores._rules import MAX_VALUE_BYTES

__all__ = ["carry", "histories"]


def histories(
    database: Database,
    keys: UnlockedKeys,
    environment: EnvironmentName,
    names: Iterable[SecretName],
) -> dict[SecretName, History]:
    """
    Return every version of *names* with its values, as of one moment.

    Raises:
        Corrupt: Something is missing, or not what was written.
    """
    wanted = sorted(set(names))
    rows = database.rows(
        f"SELECT s.secret, {STATE_COLUMNS}, v.number, {VERSION_COLUMNS}"  # noqa: S608 - fixed columns
        f" FROM secret_state s LEFT JOIN version v USING (environment, secret) {VERSION_JOIN}"
        " WHERE s.environment = ? AND s.secret IN (SELECT value FROM json_each(?))"
        " ORDER BY s.secret, v.number, x.field",
        (environment, json.dumps(wanted)),
    )
    found = {}
    for name, group in groupby(rows, key=lambda row: row[0]):
        ref = SecretRef(environment, SecretName(name))
        found[ref.name] = _history(database, keys, ref, list(group))
    for name in set(wanted) - found.keys():
        # Raises when the state is missing and should not be.
        load_state(database, keys, SecretRef(environment, name))
    return found


def _history(
    database: Database, keys: UnlockedKeys, ref: SecretRef, rows: Sequence[tuple[Any, ...]]
) -> History:
    state = parse_state(database, keys, ref, rows[0][1:7]).state
    versions = [
        to_version(ref, number, [row[8:] for row in group])
        for number, group in groupby(rows, key=lambda row: row[7])
        if number is not None
    ]
    numbers = [version.number for version in versions]
    expected = list(range(1, state.next_number))
    if numbers != expected:
        missing = sorted(set(expected) - set(numbers)) or [state.next_number]
        raise vanished(ref, missing[0])
    return History(state, tuple(_opened(database, keys, version) for version in versions))


def _opened(
    database: Database, keys: UnlockedKeys, row: VersionRow
) -> tuple[Version, Values | None]:
    if row.destroyed:
        return metadata(row), None
    opened = open_version(database, keys, row)
    return opened.version, opened.values


def carry(
    database: Database, keys: UnlockedKeys, moves: Sequence[Move], *, entropy: Entropy
) -> None:
    """
    Write the histories of *moves*, in one transaction.

    Raises:
        Conflict: A state is not as expected, or another value has one of the numbers.
        Rejected: A value is too large, or a name not acceptable.
    """
    for move in moves:
        check_move(move, limit_bytes=MAX_VALUE_BYTES)
    with database.transaction():
        for move in moves:
            _carry_one(database, keys, move, entropy=entropy)


def _carry_one(database: Database, keys: UnlockedKeys, move: Move, *, entropy: Entropy) -> None:
    history, ref = move.history, move.history.ref
    row = load_state(database, keys, ref)
    state = target_of(move, row.state)
    differs = {
        version.number
        for version, values in history.versions
        if version.number < row.state.next_number
        and values is not None
        and not _holds(database, keys, version, values)
    }
    for version, values in additions(history, row.state, differs=differs):
        shell = VersionRow(
            ref,
            version.number,
            rfc3339(version.created_at),
            version.origin.value,
            carried_token(version.number),
            destroyed=values is None,
            sealed=(),
        )
        insert_version(database, keys, shell, values or {}, entropy=entropy)
    if state != row.state:
        save_state(database, keys, state, counter=row.counter + 1)


def _holds(database: Database, keys: UnlockedKeys, version: Version, values: Values) -> bool:
    """Tell whether what is stored under that number is the same, or destroyed."""
    row = load_version(database, version.ref, version.number)
    if row is None:
        raise vanished(version.ref, version.number)
    return row.destroyed or dict(open_version(database, keys, row).values) == dict(values)
