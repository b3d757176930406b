"""A store that lives as long as its process: for tests and rehearsals."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, final

from keyturn.core.clock import Clock
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
from keyturn.core.ports import StoreCapabilities
from keyturn.stores._carrying import additions, carried_token, check_move, target_of
from keyturn.stores._rules import (
    MAX_VALUE_BYTES,
    check_destroy,
    check_idle,
    check_put,
    destroyed_error,
    discarded,
    no_version,
    number_at,
    promoted,
    token_conflict,
    unwritten,
)

__all__ = ["MemoryStore"]

_CAPABILITIES: Final = StoreCapabilities(
    atomic_promote=True,
    compare_and_set=True,
    history=True,
    transactional=False,
    max_value_bytes=MAX_VALUE_BYTES,
)


@dataclass(slots=True)
class _Secret:
    state: SecretState
    versions: dict[int, VersionedValue] = field(default_factory=dict)
    tokens: dict[Token, int] = field(default_factory=dict)


@final
class MemoryStore:
    """Versions and stages in memory; implements `keyturn.core.ports.Store`, for any thread."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._secrets: dict[SecretRef, _Secret] = {}
        # Guards `_secrets` and all in it; held by each method for its whole length.
        self._lock = threading.Lock()

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store guarantees."""
        return _CAPABILITIES

    def put_pending(
        self, ref: SecretRef, values: Values, *, origin: Origin, token: Token
    ) -> Version:
        """
        Store *values* as a new version and point `pending` at it.

        Raises:
            Conflict: Another version is pending, or *token* was used for other values.
            Rejected: A value is too large, or a name or the fields are not acceptable.
        """
        check_put(ref, values, token)
        with self._lock:
            secret = self._secrets.get(ref) or _Secret(unwritten(ref))
            earlier = secret.tokens.get(token)
            if earlier is not None:
                stored = secret.versions[earlier]
                if stored.version.destroyed or dict(stored.values) != dict(values):
                    raise token_conflict(ref, earlier)
                return stored.version
            check_idle(secret.state)
            number = secret.state.next_number
            version = Version(ref, number, self._clock.now(), origin, tuple(sorted(values)))
            ordered = {name: values[name] for name in version.fields}
            secret.versions[number] = VersionedValue(version, ordered)
            secret.tokens[token] = number
            secret.state = replace(secret.state, pending=number, next_number=number + 1)
            self._secrets[ref] = secret
            return version

    def find(self, ref: SecretRef, token: Token) -> Version | None:
        """Return the version that `put_pending` made with *token*."""
        with self._lock:
            secret = self._secrets.get(ref)
            number = None if secret is None else secret.tokens.get(token)
            return None if secret is None or number is None else secret.versions[number].version

    def promote(self, ref: SecretRef, number: int, *, expected_current: int | None) -> SecretState:
        """
        Point `current` at version *number* and `previous` at what was current, in one step.

        Raises:
            Conflict: `current` is not *expected_current*.
            NotFound: There is no such version, or it was destroyed.
        """
        with self._lock:
            secret, stored = self._known(ref, number)
            if stored.version.destroyed:
                raise destroyed_error(secret.state, number)
            secret.state = promoted(secret.state, number, expected_current=expected_current)
            return secret.state

    def discard_pending(self, ref: SecretRef, number: int) -> SecretState:
        """
        Clear `pending` where it points at *number*; the version stays in the history.

        Raises:
            Conflict: `pending` points at another version.
        """
        with self._lock:
            secret = self._secrets.get(ref)
            if secret is None:
                return unwritten(ref)
            secret.state = discarded(secret.state, number)
            return secret.state

    def destroy(self, ref: SecretRef, number: int) -> None:
        """
        Remove the values of version *number* for good; the number stays taken.

        Raises:
            Conflict: A stage points at it.
            NotFound: There is no such version.
        """
        with self._lock:
            secret, stored = self._known(ref, number)
            check_destroy(secret.state, number)
            gone = replace(stored.version, fields=(), destroyed=True)
            secret.versions[number] = VersionedValue(gone, {})

    def read(self, ref: SecretRef, selector: Stage | int) -> VersionedValue:
        """
        Return a version by stage or number.

        Raises:
            NotFound: Nothing there.
        """
        with self._lock:
            return self._read(ref, selector)

    def _read(self, ref: SecretRef, selector: Stage | int) -> VersionedValue:
        secret = self._secrets.get(ref) or _Secret(unwritten(ref))
        secret, stored = self._known(ref, number_at(secret.state, selector))
        if stored.version.destroyed:
            raise destroyed_error(secret.state, stored.version.number)
        return stored

    def read_many(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, VersionedValue]:
        """Return the current versions of *names* that have one, as of one moment."""
        found = {}
        with self._lock:
            for name in sorted(set(names)):
                ref = SecretRef(environment, name)
                secret = self._secrets.get(ref)
                if secret is not None and secret.state.current is not None:
                    found[name] = self._read(ref, Stage.CURRENT)
        return found

    def current_versions(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, Version]:
        """Return what is known of the current versions of *names* that have one."""
        found = {}
        with self._lock:
            for name in sorted(set(names)):
                secret = self._secrets.get(SecretRef(environment, name))
                if secret is not None and secret.state.current is not None:
                    found[name] = secret.versions[secret.state.current].version
        return found

    def state(self, ref: SecretRef) -> SecretState:
        """Return where the stages point; all None for a secret never written."""
        with self._lock:
            secret = self._secrets.get(ref)
            return unwritten(ref) if secret is None else secret.state

    def states(self, environment: EnvironmentName) -> Mapping[SecretName, SecretState]:
        """Return the state of every secret that the store knows in *environment*."""
        with self._lock:
            return {
                ref.name: self._secrets[ref].state
                for ref in sorted(self._secrets)
                if ref.environment == environment
            }

    def history(self, ref: SecretRef) -> Sequence[Version]:
        """Return every version, newest first."""
        with self._lock:
            secret = self._secrets.get(ref)
            numbers = sorted(secret.versions, reverse=True) if secret else []
            return [secret.versions[number].version for number in numbers] if secret else []

    def histories(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, History]:
        """Return every version of *names* with its values."""
        found = {}
        with self._lock:
            for name in sorted(set(names)):
                secret = self._secrets.get(SecretRef(environment, name))
                if secret is not None:
                    pairs = (secret.versions[number] for number in sorted(secret.versions))
                    versions = tuple(
                        (each.version, None if each.version.destroyed else each.values)
                        for each in pairs
                    )
                    found[name] = History(secret.state, versions)
        return found

    def carry(self, moves: Sequence[Move]) -> None:
        """
        Write histories of another store, under the numbers that they have there.

        Raises:
            Conflict: A state is not as expected, or another value has one of the numbers.
            Rejected: A value is too large, or a name not acceptable.
        """
        for move in moves:
            check_move(move, limit_bytes=MAX_VALUE_BYTES)
        with self._lock:
            taken = {move.history.ref: self._taken(move) for move in moves}
            self._secrets.update(taken)

    def _taken(self, move: Move) -> _Secret:
        history, ref = move.history, move.history.ref
        secret = self._secrets.get(ref) or _Secret(unwritten(ref))
        state = target_of(move, secret.state)
        differs = {
            version.number
            for version, values in history.versions
            if version.number in secret.versions
            and values is not None
            and not secret.versions[version.number].version.destroyed
            and dict(values) != dict(secret.versions[version.number].values)
        }
        versions, tokens = dict(secret.versions), dict(secret.tokens)
        for version, values in additions(history, secret.state, differs=differs):
            held = VersionedValue(replace(version, ref=ref, drifted=False), values or {})
            versions[version.number] = held
            tokens[carried_token(version.number)] = version.number
        return _Secret(state, versions, tokens)

    def _known(self, ref: SecretRef, number: int) -> tuple[_Secret, VersionedValue]:
        secret = self._secrets.get(ref)
        stored = None if secret is None else secret.versions.get(number)
        if secret is None or stored is None:
            raise no_version(ref, number)
        return secret, stored
