"""
A program that uses Keyturn's public names, written as a stranger would, and checked strictly.

Nothing here runs under pytest: `test_typing_public.py` gives it to the type checker, and
runs the contract against its store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import keyturn
from keyturn import KeyturnError, SecretValue
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, SecretName, Token
from keyturn.core.model import (
    History,
    Move,
    Origin,
    SecretRef,
    SecretState,
    Stage,
    Values,
    Version,
    VersionedValue,
)
from keyturn.core.ports import Evidence, RotationKind, Store, StoreCapabilities
from keyturn.errors import Conflict, NotFound, OutcomeUnknown, Unavailable
from keyturn.targets import OnePhase
from keyturn.testing import FakeClock, SeededEntropy, StoreContract


class NotedStore:
    """A store of somebody's own: it notes each call and hands it on to another."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.calls: list[str] = []

    @property
    def capabilities(self) -> StoreCapabilities:
        return self._inner.capabilities

    def put_pending(
        self, ref: SecretRef, values: Values, *, origin: Origin, token: Token
    ) -> Version:
        self.calls.append("put_pending")
        return self._inner.put_pending(ref, values, origin=origin, token=token)

    def find(self, ref: SecretRef, token: Token) -> Version | None:
        return self._inner.find(ref, token)

    def promote(self, ref: SecretRef, number: int, *, expected_current: int | None) -> SecretState:
        self.calls.append("promote")
        return self._inner.promote(ref, number, expected_current=expected_current)

    def discard_pending(self, ref: SecretRef, number: int) -> SecretState:
        return self._inner.discard_pending(ref, number)

    def destroy(self, ref: SecretRef, number: int) -> None:
        self._inner.destroy(ref, number)

    def read(self, ref: SecretRef, selector: Stage | int) -> VersionedValue:
        return self._inner.read(ref, selector)

    def read_many(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, VersionedValue]:
        return self._inner.read_many(environment, names)

    def current_versions(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, Version]:
        return self._inner.current_versions(environment, names)

    def state(self, ref: SecretRef) -> SecretState:
        return self._inner.state(ref)

    def states(self, environment: EnvironmentName) -> Mapping[SecretName, SecretState]:
        return self._inner.states(environment)

    def history(self, ref: SecretRef) -> Sequence[Version]:
        return self._inner.history(ref)

    def histories(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, History]:
        return self._inner.histories(environment, names)

    def carry(self, moves: Sequence[Move]) -> None:
        self._inner.carry(moves)


class PasswordFile(OnePhase):
    """A kind of rotation of somebody's own, whose target knows one value at a time."""

    overlaps = False

    def __init__(self, make: Callable[[], Values]) -> None:
        self._make = make

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        return [("create", "a first value" if current is None else "another value")]

    def create(self, current: Values | None, *, token: Token) -> Values:
        return self._make()

    def apply(self, current: Values | None, pending: Values) -> None:
        return None

    def check(self, current: Values | None, pending: Values) -> Evidence:
        return Evidence("compared", f"{len(pending)} fields")

    def withdraw(self, current: Values | None, pending: Values) -> None:
        return None

    def retire(self, current: Values, old: Values) -> None:
        return None

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        return Evidence("refused", "nothing takes it")

    def probe(self, values: Values) -> Evidence:
        return Evidence("compared", f"{len(values)} fields")


class ContractOfNotedStore(StoreContract):
    """A store proves itself by subclassing; its fixtures are pytest's."""


def ports(inner: Store, make: Callable[[], Values]) -> tuple[Store, RotationKind]:
    """What is written above fits the ports."""
    return NotedStore(inner), PasswordFile(make)


def seams() -> tuple[Clock, Entropy]:
    """What is shipped for tests fits the seams."""
    return FakeClock(), SeededEntropy()


def told(action: Callable[[], Version]) -> str:
    """Errors have a code, a message and perhaps a hint, and families to catch them by."""
    try:
        return f"version {action().number}"
    except (Conflict, NotFound) as error:
        return error.code
    except OutcomeUnknown as error:
        return f"{error.message}: {error.hint or 'no hint'}"
    except Unavailable as error:
        return "again" if error.retryable else "never"
    except KeyturnError as error:
        return str(error.context.get("names", ""))


def masked(value: SecretValue) -> str:
    """A value may be formatted, and is masked; its bytes come out by one name only."""
    data: bytes = value.reveal()
    text: str = value.reveal_text()
    return f"{value} of {value.size_bytes} bytes, {len(data) == len(text)}, {keyturn.__version__}"
