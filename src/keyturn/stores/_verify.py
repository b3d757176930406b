"""A full read of a store, for `keyturn doctor`: what is wrong, by name, never a value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keyturn._internal.database import Database
from keyturn.core.model import SecretRef, SecretState, Stage
from keyturn.errors import KeyturnError
from keyturn.stores._items import open_item
from keyturn.stores._meta import UnlockedKeys
from keyturn.stores._rows import STATE_COLUMNS, load_version, open_version, parse_state

__all__ = ["StoreProblem", "verify"]


@dataclass(frozen=True, slots=True)
class StoreProblem:
    """
    One thing that is wrong.

    Args:
        what: The thing's name, such as `production/db`.
        detail: What does not hold.
    """

    what: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what}: {self.detail}"


def verify(database: Database, keys: UnlockedKeys) -> list[StoreProblem]:
    """
    Check the file's structure, every state's tag, and open every version and item.

    The whole is read as of one moment, and nothing is changed. Damage that stops
    a part from being read is itself a problem in the list.
    """
    joined = database.in_transaction
    if not joined:
        database.execute("BEGIN")
    try:
        return _problems(database, keys)
    finally:
        if not joined:
            database.execute("ROLLBACK")


def _problems(database: Database, keys: UnlockedKeys) -> list[StoreProblem]:
    problems = [StoreProblem(str(database.path), line) for line in database.check_integrity()]
    for check in (_states, _orphans, _items):
        try:
            problems.extend(check(database, keys))
        except KeyturnError as error:
            problems.append(StoreProblem(str(database.path), error.message))
    return problems


def _states(database: Database, keys: UnlockedKeys) -> Iterator[StoreProblem]:
    query = f"SELECT environment, secret, {STATE_COLUMNS} FROM secret_state s"  # noqa: S608 - fixed columns
    for chunk in database.stream(query):
        for environment, name, *columns in chunk:
            ref = SecretRef(environment, name)
            try:
                state = parse_state(database, keys, ref, columns).state
            except KeyturnError as error:
                yield StoreProblem(str(ref), error.message)
                continue
            yield from _versions(database, keys, state)


def _versions(database: Database, keys: UnlockedKeys, state: SecretState) -> Iterator[StoreProblem]:
    ref = state.ref
    staged = {state.at(stage): stage for stage in Stage}
    listed = {
        row[0]
        for row in database.rows(
            "SELECT number FROM version WHERE environment = ? AND secret = ?",
            (ref.environment, ref.name),
        )
    }
    for number in sorted(listed.symmetric_difference(range(1, state.next_number))):
        detail = "is there and was never stored" if number in listed else "is gone"
        yield StoreProblem(str(ref), f"version {number} {detail}")
    for number in sorted(listed.intersection(range(1, state.next_number))):
        try:
            fault = _version_fault(database, keys, ref, number, staged.get(number))
        except KeyturnError as error:
            fault = error.message
        if fault is not None:
            yield StoreProblem(str(ref), fault)


def _version_fault(
    database: Database, keys: UnlockedKeys, ref: SecretRef, number: int, stage: Stage | None
) -> str | None:
    row = load_version(database, ref, number)
    if row is None:
        return f"version {number} is gone"
    if not row.destroyed:
        open_version(database, keys, row)
        return None
    if stage is not None:
        return f"version {number} is {stage} and destroyed"
    return f"version {number} is destroyed and still has values" if row.sealed else None


def _orphans(database: Database, keys: UnlockedKeys) -> Iterator[StoreProblem]:
    del keys
    rows = database.rows(
        "SELECT DISTINCT environment, secret FROM version EXCEPT"
        " SELECT environment, secret FROM secret_state"
    )
    for environment, name in rows:
        yield StoreProblem(f"{environment}/{name}", "has versions and no state")


def _items(database: Database, keys: UnlockedKeys) -> Iterator[StoreProblem]:
    for name, number, sealed in database.rows("SELECT name, data_key, sealed FROM sealed_item"):
        try:
            open_item(database, keys, name, number, sealed)
        except KeyturnError as error:
            yield StoreProblem(f"item {name}", error.message)
