"""What two words of the command line name: an environment, or a store's part for one."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.core.ids import EnvironmentName, StoreName
from keyturn.errors import NotFound, UsageError
from keyturn.manifest import Manifest

__all__ = ["Side", "pick_sides"]


@dataclass(frozen=True, slots=True)
class Side:
    """What one store holds for one environment."""

    store: StoreName
    environment: EnvironmentName

    def __str__(self) -> str:
        return f"{self.store}:{self.environment}"


def pick_sides(
    manifest: Manifest, first: str, second: str, environment: EnvironmentName
) -> tuple[Side, Side]:
    """
    Return what *first* and *second* name: `ENVIRONMENT`, `STORE` or `STORE:ENVIRONMENT`.

    Args:
        environment: Of a store that is named alone.

    Raises:
        UsageError: A word means two things, or both mean the same.
        NotFound: The manifest has neither such a store nor such an environment.
    """
    sides = tuple(_side(manifest, text, environment) for text in (first, second))
    settings = [manifest.stores[side.store] for side in sides]
    is_one = settings[0] == settings[1] or not any(each.is_outside for each in settings)
    if is_one and sides[0].environment == sides[1].environment:
        raise UsageError(
            f"`{first}` and `{second}` are the same",
            hint="name two environments, or two stores: `STORE:ENVIRONMENT`",
        )
    return sides[0], sides[1]


def _side(manifest: Manifest, text: str, environment: EnvironmentName) -> Side:
    store, colon, of = text.partition(":")
    if colon:
        return Side(_store(manifest, store), manifest.environment(of).name)
    if text in manifest.environments and text in manifest.stores:
        own = manifest.environment(text)
        raise UsageError(
            f"`{text}` is an environment and a store",
            hint=f"write `{own.store}:{text}` for the one, `{text}:{environment}` for the other",
        )
    if text in manifest.environments:
        found = manifest.environment(text)
        return Side(found.store, found.name)
    return Side(_store(manifest, text), environment)


def _store(manifest: Manifest, name: str) -> StoreName:
    if name not in manifest.stores:
        stores = ", ".join(f"`{each}`" for each in manifest.stores)
        environments = ", ".join(f"`{each}`" for each in manifest.environments)
        raise NotFound(
            f"the manifest has no store `{name}`",
            hint=f"stores: {stores}; environments: {environments}",
        )
    return StoreName(name)
