"""
The ports: what one room asks of another.

Adapters implement them; `app.wiring` joins them. A port states its rule about
crashes and concurrency, because that is what every implementation is tested on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
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
    VersionedValue,
)
from keyturn.core.triable import Evidence, Triable
from keyturn.core.value import SecretValue

__all__ = [
    "Digester",
    "Drift",
    "DriftKind",
    "Evidence",
    "KindContext",
    "NamingKind",
    "RotationKind",
    "Store",
    "StoreCapabilities",
    "Supplier",
    "WatchedStore",
]


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
        destroys_at_once: What `destroy` removed is gone when it returns.
    """

    atomic_promote: bool
    compare_and_set: bool
    history: bool
    transactional: bool
    max_value_bytes: int
    destroys_at_once: bool = True


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

    def find(self, ref: SecretRef, token: Token) -> Version | None:
        """Return the version that `put_pending` made with *token*, or None where it made none."""
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

    def current_versions(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, Version]:
        """Return what is known of the current versions of *names*; no value is opened."""
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

    def histories(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, History]:
        """Return every version of *names* with its values; what was never written is left out."""
        ...

    def carry(self, moves: Sequence[Move]) -> None:
        """
        Write histories of another store, under the numbers that they have there.

        Versions that are here already are left as they are, destroyed ones too, so that
        it may be called again. A store that keeps few versions keeps the newest. Tokens
        of the other store are not known here.

        Raises:
            Conflict: A state is not as expected; a version is pending; or another value
                has one of the numbers, code `store.diverged`.
            Rejected: A value is too large, or a name not acceptable.
            OutcomeUnknown: No answer came. Call again.

        Crash safety:
            Each version is durable before it is current; a secret is at its old state, at
            its new one, or at its old one with versions that no stage points at.
        """
        ...


class DriftKind(StrEnum):
    """What happened to a live value behind Keyturn's back."""

    CHANGED = "changed"
    REMOVED = "removed"
    FOREIGN = "put there"


@dataclass(frozen=True, slots=True)
class Drift:
    """
    A live value that is not the one Keyturn made current.

    Args:
        recorded: The version that Keyturn made current last; 0 where it made none.
        fields: Those that differ, where it is known, or all.
    """

    ref: SecretRef
    kind: DriftKind
    recorded: int
    fields: tuple[FieldName, ...]


class WatchedStore(Store, Protocol):
    """A store that others can write to, so that its values may change by themselves."""

    @property
    def where(self) -> str:
        """Where it is, for messages."""
        ...

    def drifts(
        self,
        environment: EnvironmentName,
        declared: Mapping[SecretName, Collection[FieldName]] | None = None,
    ) -> Mapping[SecretName, Drift]:
        """
        Return what was changed behind Keyturn's back, by secret.

        Args:
            declared: Secrets and their fields; of these also what is live already
                though Keyturn never wrote it.
        """
        ...

    def accept(self, ref: SecretRef, fields: Collection[FieldName]) -> Version:
        """
        Take the live values of *fields* as a new version of *ref*, which is then current.

        Raises:
            NotFound: One of *fields* is not live.
            Conflict: A version is pending.
        """
        ...

    def restore(self, ref: SecretRef) -> Version:
        """
        Put the recorded current version back where somebody changed it.

        Raises:
            NotFound: No version is recorded as current.
        """
        ...

    def close(self) -> None:
        """Let connections go."""
        ...


class Digester(Protocol):
    """Keyed digests, so that values can be compared and searched for without being shown."""

    def digest(self, value: SecretValue) -> str:
        """Return the keyed digest of *value*: 32 hexadecimal digits."""
        ...


class RotationKind(Triable, Protocol):
    """
    The steps of one kind of secret. It supplies steps, never control flow.

    Every method that changes something first asks whether it is already so, and
    may be called again after a crash at any point inside it. Any of them may raise
    `NotYet`: the rotation then waits at that step, and it is called again later.
    """

    @property
    def overlaps(self) -> bool:
        """Whether the old credential works until `retire`."""
        ...

    @property
    def reversible(self) -> bool:
        """Whether the way back leads to a credential that works, once `apply` was done."""
        ...

    def later_waits(self, grace_seconds: int) -> Sequence[int]:
        """
        Return how long each phase after the first lasts; empty for a kind of one phase.

        A phase is one version that consumers are brought to. The first lasts
        *grace_seconds*, or what `first_wait` says.
        """
        ...

    def first_wait(self, grace_seconds: int) -> int:
        """Return how long the first phase lasts, of a secret whose grace is *grace_seconds*."""
        ...

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return (step, what will happen) lines for a dry run; touches nothing."""
        ...

    def create(self, current: Values | None, *, token: Token) -> Values:
        """
        Return new values, not in use by anybody.

        Args:
            token: The same on every try of this rotation. A provider that makes the
                value itself is given it as a name, so that what a lost answer left
                behind is found and ended before another is made.

        Raises:
            Rejected: It cannot be made; the message says what is in the way.
            OutcomeUnknown: The answer was lost. Call again with the same *token*.
        """
        ...

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:
        """
        End whatever `create` with *token* left at the target and nobody stored.

        Args:
            current: What is in use, for a kind that administers itself.
        """
        ...

    def sweep(self, token: Token, *, current: Values) -> None:
        """
        End what `create` with *token* made besides *current*.

        A request that was given up may be carried out after it was repeated, or after its
        rotation was over. So this is called after `retire`, and with the tokens of
        earlier rotations before `create`.
        """
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

    def advance(self, current: Values, phase: int) -> Values:
        """
        Return what consumers get in *phase* (1 is the second), from what is *current*.

        Called again after a crash it returns the same.
        """
        ...

    def recede(self, current: Values, phase: int) -> None:
        """Undo outside what `advance` to *phase* did: its version is not used after all."""
        ...

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Undo `create` and `apply`: *pending* stops working and *current* works."""
        ...

    def retire(self, current: Values, old: Values) -> None:
        """Make the target refuse *old* and end what still uses it; *current* goes on."""
        ...

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """
        Try *old* at the target and be refused.

        Args:
            current: What took its place, where the proof needs it.

        Raises:
            VerificationFailed: It still works.
            Unavailable: The target did not answer, so nothing is proven.
        """
        ...

    def probe(self, values: Values) -> Evidence:
        """
        Use *values* at the target, harmlessly, outside of any rotation.

        Raises:
            VerificationFailed: They are refused.
            Unavailable: No answer.
        """
        ...

    def rehearsal(self) -> RotationKind | None:
        """
        Return these steps for a throw-away credential with the same rights.

        `create`, `apply`, `check`, `withdraw` and `prove_dead` of it leave no trace
        at the target and touch nothing that is in use. None where that cannot be.
        """
        ...


@runtime_checkable
class NamingKind(Protocol):
    """A kind at whose target a person can find what was made, and end it."""

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return what the target calls *pending*, and how a person ends it; asks nothing."""
        ...


class Supplier(Protocol):
    """Where the values come from that only a person can fetch."""

    def supply(
        self,
        instructions: Sequence[str],
        fields: Sequence[FieldName],
        examine: Callable[[Values], None],
    ) -> Values | None:
        """
        Show *instructions*, and return values for *fields* that *examine* accepted.

        Args:
            examine: Raises `VerificationFailed` or `Rejected` for values that cannot
                be right; a person at a terminal is then asked again.

        Returns:
            None where nobody is there to be asked.

        Raises:
            KeyturnError: What was given (not typed) was not accepted.
        """
        ...


@dataclass(frozen=True, slots=True)
class KindContext:
    """
    What the steps of one secret are built from.

    Args:
        project: The project's name, for names at the target that people recognise.
        protected: The environment is protected: its credentials are for real use.
        strategy: As the manifest says; None for the kind's default.
        target: What the manifest says of the target, settings filled in.
        admin: Current values of the secret that administers the target.
        admin_name: Its name, for hints.
        grace_seconds: How long old and new are both valid.
        make: Returns fresh values for every field, by the manifest's policy.
        companions: Current values of other secrets that the target names, by name.
        siblings: Current values of other secrets of this kind that open the same
            place, by `ENVIRONMENT/NAME`; what they use is not to be changed.
    """

    ref: SecretRef
    project: str
    protected: bool
    fields: tuple[FieldName, ...]
    strategy: str | None
    target: Mapping[str, object]
    admin: Values | None
    admin_name: str | None
    grace_seconds: int
    make: Callable[[], Values]
    supplier: Supplier
    clock: Clock
    entropy: Entropy
    companions: Mapping[str, Values] = field(default_factory=dict)
    siblings: Mapping[str, Values] = field(default_factory=dict)
