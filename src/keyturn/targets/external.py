"""
Kinds that come with another package, by an entry point of the group `keyturn.kinds`.

A plug-in runs with all the rights of Keyturn and is given values: it is loaded only
where a secret names it. What it is written with is `keyturn.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import TypeAlias, cast

from keyturn.core.ports import KindContext, RotationKind
from keyturn.errors import KeyturnError, UsageError

__all__ = ["GROUP", "build"]

GROUP = "keyturn.kinds"

_Build: TypeAlias = Callable[[KindContext], object]

_WORDS_LIMIT = 200
_METHODS = (
    "advance",
    "apply",
    "check",
    "clean_up",
    "create",
    "describe",
    "first_wait",
    "later_waits",
    "probe",
    "prove_dead",
    "recede",
    "rehearsal",
    "retire",
    "withdraw",
)
_SWITCHES = ("overlaps", "reversible")


def build(context: KindContext) -> RotationKind:
    """
    Return the steps that the plug-in makes of *context*.

    Raises:
        UsageError: There is no such plug-in, it cannot be loaded, or what it makes is
            no kind.
        KeyturnError: It refused the target itself.
    """
    name = context.target.get("plugin")
    if not isinstance(name, str) or not name:
        raise UsageError(
            "the external secret's target names no `plugin`",
            hint=f'write in keyturn.toml: plugin = "..."; {_installed()}',
            code="rotation.target",
        )
    point = _find(name)
    function = _load(name, point)
    try:
        kind = function(context)
    except KeyturnError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises
        # Its words may quote a value: it was given some.
        raise _broken(name, f"failed in `build`: {type(error).__name__}") from None
    return _checked(name, kind)


def _find(name: str) -> metadata.EntryPoint:
    found = list(metadata.entry_points(group=GROUP, name=name))
    if not found:
        raise UsageError(
            f"no plug-in `{name}` is installed beside Keyturn",
            hint=f"install the package that has it, where Keyturn is; {_installed()}",
            code="rotation.plugin",
        )
    # One distribution can be found twice: installed, and beside its own source.
    if len({(point.value, _package(point)) for point in found}) > 1:
        packages = ", ".join(sorted({_package(point) for point in found}))
        raise UsageError(
            f"there is more than one plug-in `{name}`: in {packages}",
            hint="uninstall all but one: nothing says which is meant",
            code="rotation.plugin",
        )
    return found[0]


def _load(name: str, point: metadata.EntryPoint) -> _Build:
    try:
        function = point.load()
    except Exception as error:
        words = f"{type(error).__name__}: {error}"[:_WORDS_LIMIT]
        raise _broken(name, f"cannot be loaded: {words}") from error
    if not callable(function):
        raise _broken(name, f"is no function: `{point.value}`")
    return cast("_Build", function)


def _checked(name: str, kind: object) -> RotationKind:
    missing = [method for method in _METHODS if not callable(getattr(kind, method, None))]
    missing += [switch for switch in _SWITCHES if not isinstance(getattr(kind, switch, None), bool)]
    if missing:
        raise _broken(name, f"makes no kind: it lacks {', '.join(f'`{part}`' for part in missing)}")
    return cast("RotationKind", kind)


def _installed() -> str:
    names = sorted({point.name for point in metadata.entry_points(group=GROUP)})
    return f"installed: {', '.join(names)}" if names else "none is installed"


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "?"


def _broken(name: str, what: str) -> UsageError:
    return UsageError(
        f"the plug-in `{name}` {what}",
        hint="tell whoever made it: a plug-in is written as the guide of the kind `external` says",
        code="rotation.plugin",
    )
