"""The store of each environment, behind one port; others' stores are opened when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import final

from keyturn.app.project import ProjectPaths
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import (
    EnvironmentName,
    FieldName,
    SecretName,
    StoreName,
    Token,
    VariableName,
)
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
from keyturn.core.ports import Store, StoreCapabilities, WatchedStore
from keyturn.core.value import SecretValue
from keyturn.deliver.bundle import BundleFiles
from keyturn.errors import NotFound
from keyturn.manifest import Manifest, Secret, StoreSettings, format_duration
from keyturn.stores import EmbeddedStore, SealedPlace, StoreContext, open_outside

__all__ = ["RoutedStore", "opener"]


@final
class RoutedStore:
    """
    Implements `Store`, and asks the one that the manifest gives the environment.

    A promote elsewhere is in no transaction with the sealed bundle, nor is a history
    that is taken in. Bundles are therefore made stale before it, so that none outlives
    it, and again after it, so that none is left that was sealed meanwhile from what was
    still the old version.

    Args:
        embedded: Keyturn's own store, which keeps its bundles true by itself.
        opened: Opens the store of somebody else.
    """

    def __init__(
        self,
        manifest: Manifest,
        embedded: Store,
        opened: Callable[[StoreSettings], WatchedStore],
        *,
        bundles: BundleFiles,
    ) -> None:
        self._manifest = manifest
        self._embedded = embedded
        self._opened = opened
        self._bundles = bundles
        self._outside: dict[StoreName, WatchedStore] = {}

    def settings(self, environment: EnvironmentName) -> StoreSettings:
        """Return what the manifest says of the store of *environment*."""
        return self._manifest.stores[self._manifest.environment(environment).store]

    def of(self, environment: EnvironmentName) -> Store:
        """Return the store of *environment*, of which the bundles are not kept true."""
        return self.watched(environment) or self._embedded

    def watched(self, environment: EnvironmentName) -> WatchedStore | None:
        """Return the store of *environment* where others can write to it."""
        return self.watched_named(self.settings(environment).name)

    def named(self, name: StoreName) -> Store:
        """
        Return the store *name*, which environments need not use.

        Of Keyturn's own the bundles are kept true, of another one they are not.
        """
        return self.watched_named(name) or self._embedded

    def watched_named(self, name: StoreName) -> WatchedStore | None:
        """Return the store *name* where others can write to it."""
        settings = self._manifest.stores[name]
        if not settings.is_outside:
            return None
        found = self._outside.get(name)
        if found is None:
            found = self._outside[name] = self._opened(settings)
        return found

    def close(self) -> None:
        """Let the connections to others' stores go."""
        while self._outside:
            self._outside.popitem()[1].close()

    @property
    def capabilities(self) -> StoreCapabilities:
        """What Keyturn's own store guarantees; `of` tells it for an environment."""
        return self._embedded.capabilities

    def put_pending(
        self, ref: SecretRef, values: Values, *, origin: Origin, token: Token
    ) -> Version:
        """Store *values* as a new version and point `pending` at it."""
        return self.of(ref.environment).put_pending(ref, values, origin=origin, token=token)

    def find(self, ref: SecretRef, token: Token) -> Version | None:
        """Return the version that `put_pending` made with *token*."""
        return self.of(ref.environment).find(ref, token)

    def promote(self, ref: SecretRef, number: int, *, expected_current: int | None) -> SecretState:
        """Point `current` at version *number*; no bundle of older values stays fresh."""
        outside = self.watched(ref.environment)
        if outside is None:
            return self._embedded.promote(ref, number, expected_current=expected_current)
        self._bundles.invalidate(ref.environment)
        try:
            return outside.promote(ref, number, expected_current=expected_current)
        finally:
            self._bundles.invalidate(ref.environment)

    def discard_pending(self, ref: SecretRef, number: int) -> SecretState:
        """Clear `pending` where it points at *number*."""
        return self.of(ref.environment).discard_pending(ref, number)

    def destroy(self, ref: SecretRef, number: int) -> None:
        """Remove the values of version *number* for good."""
        self.of(ref.environment).destroy(ref, number)

    def read(self, ref: SecretRef, selector: Stage | int) -> VersionedValue:
        """Return a version by stage or number."""
        return self.of(ref.environment).read(ref, selector)

    def read_many(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, VersionedValue]:
        """Return the current versions of *names* that have one."""
        return self.of(environment).read_many(environment, names)

    def current_versions(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, Version]:
        """Return what is known of the current versions of *names*."""
        return self.of(environment).current_versions(environment, names)

    def state(self, ref: SecretRef) -> SecretState:
        """Return where the stages point."""
        return self.of(ref.environment).state(ref)

    def states(self, environment: EnvironmentName) -> Mapping[SecretName, SecretState]:
        """Return the state of every secret that the store knows in *environment*."""
        return self.of(environment).states(environment)

    def history(self, ref: SecretRef) -> Sequence[Version]:
        """Return every version, newest first."""
        return self.of(ref.environment).history(ref)

    def histories(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, History]:
        """Return every version of *names* with its values."""
        return self.of(environment).histories(environment, names)

    def carry(self, moves: Sequence[Move]) -> None:
        """Write histories to the store of their environments; no bundle stays fresh."""
        by_environment = groupby(
            sorted(moves, key=lambda move: move.history.ref),
            key=lambda move: move.history.ref.environment,
        )
        for environment, group in by_environment:
            self.carry_to(self.settings(environment).name, environment, list(group))

    def carry_to(
        self, name: StoreName, environment: EnvironmentName, moves: Sequence[Move]
    ) -> None:
        """Write histories of *environment* to the store *name*; no bundle of it stays fresh."""
        outside = self.watched_named(name)
        if outside is None:
            self._embedded.carry(moves)
            return
        if self.settings(environment).name != name:
            # What is delivered comes from elsewhere.
            outside.carry(moves)
            return
        self._bundles.invalidate(environment)
        try:
            outside.carry(moves)
        finally:
            self._bundles.invalidate(environment)


def opener(
    manifest: Manifest,
    paths: ProjectPaths,
    embedded: EmbeddedStore,
    *,
    clock: Clock,
    entropy: Entropy,
    ask: Callable[[str], SecretValue],
) -> Callable[[StoreSettings], WatchedStore]:
    """Return what opens the stores of others that *manifest* describes."""

    def variable(ref: SecretRef, field: FieldName) -> VariableName | None:
        secret = _secret(manifest, ref)
        return None if secret is None else secret.fields.get(field)

    def facts(ref: SecretRef) -> Mapping[str, str]:
        secret = _secret(manifest, ref)
        return {} if secret is None else _facts(manifest, secret)

    def opened(settings: StoreSettings) -> WatchedStore:
        return open_outside(
            StoreContext(
                settings,
                project=manifest.project.name,
                folder=paths.folder,
                state=paths.state,
                clock=clock,
                entropy=entropy,
                variable=variable,
                facts=facts,
                ask=ask,
                keep=lambda environment: SealedPlace(embedded, settings.name, environment),
            )
        )

    return opened


def _secret(manifest: Manifest, ref: SecretRef) -> Secret | None:
    try:
        return manifest.secret_in(ref.environment, ref.name)
    except NotFound:
        return None


def _facts(manifest: Manifest, secret: Secret) -> dict[str, str]:
    said = {
        "project": manifest.project.name,
        "owner": secret.owner or manifest.project.owner or "",
        "purpose": secret.purpose,
        "max_age": format_duration(secret.max_age) if secret.max_age is not None else "",
    }
    return {name: text for name, text in said.items() if text}
