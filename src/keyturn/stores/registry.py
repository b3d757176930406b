"""Which module makes which kind of outside store; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import cast

from keyturn.core.ports import WatchedStore
from keyturn.errors import InternalError
from keyturn.manifest import StoreKind
from keyturn.stores._context import StoreContext

__all__ = ["BUILDERS", "open_outside"]

# Each module has `build(context)`.
BUILDERS: Mapping[StoreKind, str] = MappingProxyType(
    {
        StoreKind.VAULT: "keyturn.stores.vault",
        StoreKind.AWS: "keyturn.stores._aws_build",
        StoreKind.KUBERNETES: "keyturn.stores.kubernetes",
        StoreKind.SWARM: "keyturn.stores.swarm",
        StoreKind.COMPOSE: "keyturn.stores.compose",
        StoreKind.DOTENV: "keyturn.stores.dotenv",
        StoreKind.SOPS: "keyturn.stores.sops",
        StoreKind.EXTERNAL: "keyturn.stores.external",
    }
)


def open_outside(context: StoreContext) -> WatchedStore:
    """
    Return the store that *context* describes; it may not have been reached yet.

    Raises:
        UsageError: The manifest's description of it cannot be used.
    """
    module = BUILDERS.get(context.settings.kind)
    if module is None:
        raise InternalError(f"no module makes a store of kind `{context.settings.kind}`")
    return cast("WatchedStore", import_module(module).build(context))
