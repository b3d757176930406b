"""
The ports: what one room asks of another.

Adapters implement them; `app.wiring` joins them. A port states its rule about
crashes and concurrency, because that is what every implementation is tested on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import (
    Origin,
    SecretRef,
    SecretState,
    Stage,
    Values,
    Version,
    VersionedValue,
)
from keyturn.core.value import SecretValue

__all__ = ["Digester", "Evidence", "RotationKind", "Store", "StoreCapabilities"]


@dataclass(frozen=True, slots=True)
class StoreCapabilities:
    """
    What a store guarantees.

    Args:
        atomic_promote: Readers see the old current version or the new one.
        compare_and_set: Every write names what it expects and loses cleanly.
        history: Older versions can be read by number.
        transactional: Writes join the control database's transaction.
        max_value_bytes: Largest value it takes.
    """

    atomic_promote: bool
    compare_and_set: bool
    history: bool
    transactional: bool
    max_value_bytes: int


class Store(Protocol):
    """
    Where the versions of secrets live.

    Storing never activates: `put_pending` leaves `current` alone and `promote`
    moves it. A version number is never used twice, even after `destroy`.
    """

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store guarantees."""
        ...

    def put_pending(
        self, ref: SecretRef, values: Values, *, origin: Origin, token: Token
    ) -> Version:
        """
        Store *values* as a new version and point `pending` at it.

        Args:
            token: Made by the caller. The same token again gives the same version.

        Raises:
            Conflict: Another version is pending, or *token* was used for other values.
            Rejected: A value is too large or the fields are empty.
            OutcomeUnknown: No answer came. Call again with the same *token*.

        Crash safety:
            Durable on return. Before that: nothing, or the pending version.
        """
        ...

    def promote(self, ref: SecretRef, number: int, *, expected_current: int | None) -> SecretState:
        """
        Point `current` at version *number* and `previous` at what was current, in one step.

        Promoting what is `previous` is the way back: the two change places. Where
        *number* was `pending`, `pending` is cleared. Where *number* is current
        already and `previous` is *expected_current*, nothing changes.

        Raises:
            Conflict: `current` is not *expected_current*.
            NotFound: There is no such version, or it was destroyed.
        """
        ...

    def discard_pending(self, ref: SecretRef, number: int) -> SecretState:
        """
        Clear `pending` where it points at *number*; the version stays in the history.

        Raises:
            Conflict: `pending` points at another version.
        """
        ...

    def destroy(self, ref: SecretRef, number: int) -> None:
        """
        Remove the values of version *number* for good; the number stays taken.

        Raises:
            Conflict: A stage points at it.
            NotFound: There is no such version.
        """
        ...

    def read(self, ref: SecretRef, selector: Stage | int) -> VersionedValue:
        """
        Return a version by stage or number.

        Raises:
            NotFound: Nothing there.
            Corrupt: What is stored is not what was written: flipped, swapped, cut.
        """
        ...

    def read_many(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, VersionedValue]:
        """Return the current versions of *names* that have one, in one read of the store."""
        ...

    def state(self, ref: SecretRef) -> SecretState:
        """Return where the stages point; all None for a secret never written."""
        ...

    def states(self, environment: EnvironmentName) -> Mapping[SecretName, SecretState]:
        """Return the state of every secret that the store knows in *environment*."""
        ...

    def history(self, ref: SecretRef) -> Sequence[Version]:
        """Return every version, newest first."""
        ...


class Digester(Protocol):
    """Keyed digests, so that values can be compared and searched for without being shown."""

    def digest(self, value: SecretValue) -> str:
        """Return the keyed digest of *value*: 32 hexadecimal digits."""
        ...


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    What a check saw.

    Args:
        method: What was done, such as `login refused`.
        detail: The other side's words, shortened; never a value.
    """

    method: str
    detail: str


class RotationKind(Protocol):
    """
    The steps of one kind of secret. It supplies steps, never control flow.

    Every method that changes something first asks whether it is already so, and
    may be called again after a crash at any point inside it.
    """

    @property
    def overlaps(self) -> bool:
        """Whether the old credential works until `retire`."""
        ...

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return (step, what will happen) lines for a dry run; touches nothing."""
        ...

    def create(self, current: Values | None) -> Values:
        """Return new values, made but not yet known to the target."""
        ...

    def apply(self, current: Values | None, pending: Values) -> None:
        """
        Make the target accept *pending*; *current* goes on working where `overlaps`.

        Raises:
            Unavailable: The target did not answer.
            Rejected: It answered no; the message says which right is missing.
            OutcomeUnknown: The answer was lost. Call again: it asks first.
        """
        ...

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Use *pending* at the target, harmlessly.

        Raises:
            VerificationFailed: It does not work, or has fewer rights than *current*.
        """
        ...

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Undo `apply`: *pending* stops working and *current* works."""
        ...

    def retire(self, current: Values, old: Values) -> None:
        """Make the target refuse *old* and end what still uses it; *current* goes on."""
        ...

    def prove_dead(self, old: Values) -> Evidence:
        """
        Try *old* at the target and be refused.

        Raises:
            VerificationFailed: It still works.
            Unavailable: The target did not answer, so nothing is proven.
        """
        ...


# Named here so that rooms that pass fields around need not import the model.
Fields = Mapping[FieldName, SecretValue]
