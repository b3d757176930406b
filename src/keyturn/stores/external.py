"""
Stores that come with another package, by an entry point of the group `keyturn.stores`.

The entry point is a function that is given a `StoreContext` and returns a `Layout`, or
an object with all of `keyturn.core.ports.WatchedStore`. It runs with all the rights of
Keyturn and is given values: it is loaded only where a store of the manifest names it.
What it has to hold to is `keyturn.testing.StoreContract`.
"""

from __future__ import annotations

from importlib import metadata
from typing import cast

from keyturn.core.ports import WatchedStore
from keyturn.errors import KeyturnError, UsageError
from keyturn.stores._context import StoreContext
from keyturn.stores._place import Layout
from keyturn.stores.outside import OutsideStore

__all__ = ["GROUP", "build"]

GROUP = "keyturn.stores"

_STORE = (
    "accept",
    "carry",
    "close",
    "current_versions",
    "destroy",
    "discard_pending",
    "drifts",
    "find",
    "histories",
    "history",
    "promote",
    "put_pending",
    "read",
    "read_many",
    "restore",
    "state",
    "states",
)
_LAYOUT = ("close", "place", "places")


def build(context: StoreContext) -> WatchedStore:
    """
    Return the store that the plug-in makes of *context*.

    Raises:
        UsageError: There is no such plug-in, it cannot be loaded, or what it makes is
            no store.
    """
    name = context.text("plugin") or ""
    found = list(metadata.entry_points(group=GROUP, name=name))
    if len({point.value for point in found}) != 1:
        installed = ", ".join(sorted({point.name for point in metadata.entry_points(group=GROUP)}))
        count = "more than one" if found else "no"
        raise UsageError(
            f"{count} plug-in `{name}` for stores is installed beside Keyturn",
            hint=f"install the one package that has it; installed: {installed or 'none'}",
            code="store.plugin",
        )
    try:
        made = found[0].load()(context)
    except KeyturnError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises
        # Its words may quote a value: it may have read some.
        raise _faulty(name, f"failed: {type(error).__name__}") from None
    if _has(made, _STORE):
        return cast("WatchedStore", made)
    if _has(made, _LAYOUT):
        layout = cast("Layout", made)
        return OutsideStore(layout, clock=context.clock, entropy=context.entropy)
    raise _faulty(name, "makes neither a layout nor a store")


def _has(made: object, methods: tuple[str, ...]) -> bool:
    return all(callable(getattr(made, method, None)) for method in methods)


def _faulty(name: str, what: str) -> UsageError:
    return UsageError(
        f"the plug-in `{name}` for stores {what}",
        hint="tell whoever made it: `keyturn.testing.StoreContract` is what a store has to pass",
        code="store.plugin",
    )
