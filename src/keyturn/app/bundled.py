"""A store whose promotes make the sealed bundles stale before they are durable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from keyturn._internal.database import Database
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
from keyturn.core.ports import Store, StoreCapabilities
from keyturn.deliver.bundle import BundleFiles

__all__ = ["BundledStore"]


class BundledStore:
    """
    *store*, with the rule of `deliver.bundle` kept: raise the generation, then commit.

    Only `promote` and `carry` change what is current, so only they are more than a call
    through.
    """

    def __init__(self, store: Store, *, database: Database, bundles: BundleFiles) -> None:
        self._store = store
        self._database = database
        self._bundles = bundles
        # Raised already in the transaction that is open: a bundle is never written
        # inside one, so once is enough.
        self._raised: set[EnvironmentName] = set()

    @property
    def capabilities(self) -> StoreCapabilities:
        return self._store.capabilities

    def put_pending(
        self, ref: SecretRef, values: Values, *, origin: Origin, token: Token
    ) -> Version:
        return self._store.put_pending(ref, values, origin=origin, token=token)

    def find(self, ref: SecretRef, token: Token) -> Version | None:
        return self._store.find(ref, token)

    def promote(self, ref: SecretRef, number: int, *, expected_current: int | None) -> SecretState:
        with self._database.transaction():
            state = self._store.promote(ref, number, expected_current=expected_current)
            self._raise(ref.environment)
            return state

    def carry(self, moves: Sequence[Move]) -> None:
        with self._database.transaction():
            self._store.carry(moves)
            for move in moves:
                self._raise(move.history.ref.environment)

    def _raise(self, environment: EnvironmentName) -> None:
        if environment not in self._raised:
            self._bundles.invalidate(environment)
            self._raised.add(environment)
            self._database.after_commit(self._raised.clear)
            self._database.after_rollback(self._raised.clear)

    def discard_pending(self, ref: SecretRef, number: int) -> SecretState:
        return self._store.discard_pending(ref, number)

    def destroy(self, ref: SecretRef, number: int) -> None:
        self._store.destroy(ref, number)

    def read(self, ref: SecretRef, selector: Stage | int) -> VersionedValue:
        return self._store.read(ref, selector)

    def read_many(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, VersionedValue]:
        return self._store.read_many(environment, names)

    def current_versions(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, Version]:
        return self._store.current_versions(environment, names)

    def state(self, ref: SecretRef) -> SecretState:
        return self._store.state(ref)

    def states(self, environment: EnvironmentName) -> Mapping[SecretName, SecretState]:
        return self._store.states(environment)

    def history(self, ref: SecretRef) -> Sequence[Version]:
        return self._store.history(ref)

    def histories(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, History]:
        return self._store.histories(environment, names)
