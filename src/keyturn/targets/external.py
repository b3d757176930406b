"""
Kinds that come with another package, by an entry point of the group `keyturn.kinds`.

A plug-in runs with all the rights of Keyturn and is given values: it is loaded only
where a secret names it. What it is written with is `keyturn.kinds`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import PurePath
from typing import TypeAlias, TypeVar, cast

from keyturn.core.ids import FieldName, Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Rejected, UsageError

__all__ = ["GROUP", "build"]

GROUP = "keyturn.kinds"

_Build: TypeAlias = Callable[[KindContext], object]

_CODE = "rotation.plugin"
_HINT = "tell whoever made it: a plug-in is written as the guide of the kind `external` says"
_T = TypeVar("_T")
_WORDS_LIMIT = 200
_USERNAME = FieldName("username")
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
    "sweep",
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
        return _Guarded(f"`{name}` of {_release(point)}", _checked(name, kind))
    except (KeyturnError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a stranger's code raises
        # Its words may quote a value: it was given some.
        raise _broken(name, f"failed in `build`: {_fault(error)}") from None


class _Guarded:
    """
    The steps of a plug-in, whose own faults are told as its own.

    Args:
        whose: The plug-in and the distribution that it came with.
    """

    def __init__(self, whose: str, kind: RotationKind) -> None:
        self._whose = whose
        self._kind = kind
        self.overlaps = kind.overlaps
        self.reversible = kind.reversible

    def first_wait(self, grace_seconds: int) -> int:
        return self._run("first_wait", int, lambda: self._kind.first_wait(grace_seconds))

    def later_waits(self, grace_seconds: int) -> Sequence[int]:
        def waits() -> tuple[int, ...]:
            return tuple(int(each) for each in self._kind.later_waits(grace_seconds))

        return self._run("later_waits", tuple, waits)

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        def lines() -> list[tuple[str, str]]:
            return [(str(step), str(text)) for step, text in self._kind.describe(current)]

        return self._run("describe", list, lines)

    def create(self, current: Values | None, *, token: Token) -> Values:
        return self._values("create", lambda: self._kind.create(current, token=token))

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:
        self._run("clean_up", object, lambda: self._kind.clean_up(token, current=current))

    def sweep(self, token: Token, *, current: Values) -> None:
        self._run("sweep", object, lambda: self._kind.sweep(token, current=current))

    def apply(self, current: Values | None, pending: Values) -> None:
        self._run("apply", object, lambda: self._kind.apply(current, pending))

    def check(self, current: Values | None, pending: Values) -> Evidence:
        return self._run("check", Evidence, lambda: self._kind.check(current, pending))

    def advance(self, current: Values, phase: int) -> Values:
        return self._values("advance", lambda: self._kind.advance(current, phase))

    def recede(self, current: Values, phase: int) -> None:
        self._run("recede", object, lambda: self._kind.recede(current, phase))

    def withdraw(self, current: Values | None, pending: Values) -> None:
        self._run("withdraw", object, lambda: self._kind.withdraw(current, pending))

    def retire(self, current: Values, old: Values) -> None:
        self._run("retire", object, lambda: self._kind.retire(current, old))

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        def proof() -> Evidence:
            return self._kind.prove_dead(old, current=current)

        return self._run("prove_dead", Evidence, proof)

    def probe(self, values: Values) -> Evidence:
        return self._run("probe", Evidence, lambda: self._kind.probe(values))

    def counted_on(self, values: Values) -> SecretValue | None:
        count = getattr(self._kind, "counted_on", None)
        if not callable(count):
            # It does not say: whoever logs in by a name may be locked out by it.
            return values.get(_USERNAME)
        found = self._run("counted_on", object, lambda: count(values))
        return found if isinstance(found, SecretValue) else None

    def ask_dead(self, old: Values, *, current: Values) -> Evidence | None:
        ask = getattr(self._kind, "ask_dead", None)
        if not callable(ask):
            return None
        found = self._run("ask_dead", object, lambda: ask(old, current=current))
        return found if isinstance(found, Evidence) else None

    def rehearsal(self) -> RotationKind | None:
        kind = self._run("rehearsal", object, self._kind.rehearsal)
        if kind is None:
            return None
        return _Guarded(self._whose, _checked(self._whose.split("`")[1], kind))

    def _values(self, step: str, act: Callable[[], Values]) -> Values:
        found = self._run(step, dict, lambda: dict(act()))
        if not found or not all(isinstance(value, SecretValue) for value in found.values()):
            raise self._failed(step, "it returns no values: a `SecretValue` for each field")
        return found

    def _run(self, step: str, wanted: type[_T], act: Callable[[], object]) -> _T:
        try:
            found = act()
        except (KeyturnError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a stranger's code raises
            # Its words may quote a value: it was given some.
            raise self._failed(step, _fault(error)) from None
        if not isinstance(found, wanted):
            raise self._failed(step, f"it returns {type(found).__name__}, not {wanted.__name__}")
        return found

    def _failed(self, step: str, what: str) -> Rejected:
        return Rejected(
            f"the plug-in {self._whose} failed in `{step}`: {what}", hint=_HINT, code=_CODE
        )


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
    except KeyboardInterrupt:
        raise
    except BaseException as error:
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


def _release(point: metadata.EntryPoint) -> str:
    return f"`{point.dist.name} {point.dist.version}`" if point.dist is not None else "no package"


def _fault(error: BaseException) -> str:
    """Return the kind of *error* and where it arose, without its words."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "?"


def _broken(name: str, what: str) -> UsageError:
    return UsageError(
        f"the plug-in `{name}` {what}",
        hint=_HINT,
        code=_CODE,
    )
