"""What the contract of stores says its rules in: values, writes, histories."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import (
    History,
    Move,
    Origin,
    SecretRef,
    SecretState,
    Stage,
    Values,
    Version,
)
from keyturn.core.ports import Store
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError

__all__ = [
    "DB",
    "ELSEWHERE",
    "OTHER",
    "activate",
    "carry",
    "current",
    "history_of",
    "put",
    "refused",
    "values",
]

DB = SecretRef(EnvironmentName("production"), SecretName("db"))
OTHER = SecretRef(EnvironmentName("production"), SecretName("other"))
ELSEWHERE = SecretRef(EnvironmentName("development"), SecretName("db"))


def values(**fields: bytes) -> Values:
    """Return fields by name."""
    return {FieldName(name): SecretValue(data) for name, data in fields.items()}


def put(store: Store, data: bytes, *, ref: SecretRef = DB, token: str | None = None) -> int:
    """Store *data* as the pending `value` of *ref* and return its number."""
    token = token or f"token {ref} {store.state(ref).next_number}"
    version = store.put_pending(ref, values(value=data), origin=Origin.SET, token=Token(token))
    return version.number


def activate(store: Store, data: bytes, *, ref: SecretRef = DB) -> int:
    """Store *data* and make it current."""
    expected = store.state(ref).current
    number = put(store, data, ref=ref)
    store.promote(ref, number, expected_current=expected)
    return number


def current(store: Store, ref: SecretRef = DB) -> bytes:
    """Return the current `value` of *ref*."""
    return store.read(ref, Stage.CURRENT).values[FieldName("value")].reveal()


def history_of(*data: bytes | None, ref: SecretRef = DB) -> History:
    """Return a history in which the last two of *data* are current and previous; None is gone."""
    made_at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    versions = []
    for number, (each, origin) in enumerate(zip(data, [*Origin] * len(data), strict=False), 1):
        at = made_at + timedelta(days=number)
        fields = () if each is None else (FieldName("value"),)
        version = Version(ref, number, at, origin, fields, destroyed=each is None)
        versions.append((version, None if each is None else values(value=each)))
    last = len(data)
    previous = last - 1 if last > 1 and data[-2] is not None else None
    return History(SecretState(ref, last, None, previous, last + 1), tuple(versions))


def carry(store: Store, *histories: History) -> None:
    """Bring *histories* to *store*, from the states that it has."""
    store.carry([Move(each, store.state(each.ref)) for each in histories])


def refused(error: type[KeyturnError], action: Callable[[], object]) -> KeyturnError:
    """Run *action*, which must raise *error*, and return what it raised."""
    try:
        action()
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} was not raised")
