"""
The forms that a key of the manifest may take.

One description of each form serves the loader, which checks against it, and the
published JSON Schema, which is drawn from it: so the two cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from keyturn.manifest._faults import Faults, named, nearest
from keyturn.manifest._lines import Path

__all__ = ["Choice", "Flag", "Key", "ListOf", "MapOf", "Number", "Shape", "Table", "Text", "check"]

MAX_TEXT = 4_096


@dataclass(frozen=True, slots=True)
class Text:
    """
    A string.

    Args:
        what: What it must be, for messages: `a duration such as "90d"`.
        pattern: It must match the whole of this.
        choices: It must be one of these.
        empty: Whether it may be empty.
    """

    what: str = "a text"
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    max_length: int = MAX_TEXT
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from *low* to *high*, or one of *choices* where there are any."""

    low: int
    high: int
    choices: tuple[int, ...] = ()

    @property
    def what(self) -> str:
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    @property
    def what(self) -> str:
        return "`true` or `false`"


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of *item*s, each once where *unique*."""

    item: Text
    what: str
    low: int = 0
    high: int = 5_000
    unique: bool = True


@dataclass(frozen=True, slots=True)
class MapOf:
    """A table whose keys the author chooses: all match *key*, all hold an *item*."""

    key: Text
    item: Shape
    what: str
    low: int = 0
    high: int = 100


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table, and what it is for."""

    name: str
    shape: Shape
    doc: str
    required: bool = False
    default: str | int | bool | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """
    A table with known keys.

    Args:
        one_of: Exactly one of these keys must be there.
        together: Keys that make sense only beside another: (key, the other).
    """

    keys: tuple[Key, ...]
    what: str
    one_of: tuple[str, ...] = ()
    together: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Any one of *options*; the first whose type fits is the one that is checked."""

    options: tuple[Shape, ...]
    what: str


Shape = Text | Number | Flag | ListOf | MapOf | Table | Choice

# What a fault leaves behind: the key counts as absent from there on.
_DROPPED = object()


def check(table: Table, document: Mapping[str, object], faults: Faults) -> dict[str, object]:
    """
    Return *document* less everything that is not as *table* says, each told to *faults*.

    What is left can be read without looking at its types again.
    """
    return _check_table(table, document, (), faults)


def _check(  # noqa: PLR0911 - one return for each form
    shape: Shape, value: object, path: Path, faults: Faults
) -> object:
    if not _fits(shape, value):
        faults.add(path, f"must be {shape.what}, not {_type_name(value)}", f"write {shape.what}")
        return _DROPPED
    match shape:
        case Text():
            return _check_text(shape, value, path, faults)
        case Number():
            return _check_number(shape, value, path, faults)
        case Flag():
            return value
        case ListOf():
            return _check_list(shape, value, path, faults)
        case MapOf():
            return _check_map(shape, value, path, faults)
        case Table():
            return _check_table(shape, value, path, faults) if isinstance(value, dict) else _DROPPED
        case Choice():
            fitting = next(option for option in shape.options if _fits(option, value))
            return _check(fitting, value, path, faults)


def _fits(shape: Shape, value: object) -> bool:
    match shape:
        case Text():
            return isinstance(value, str)
        case Number():
            return isinstance(value, int) and not isinstance(value, bool)
        case Flag():
            return isinstance(value, bool)
        case ListOf():
            return isinstance(value, list)
        case MapOf() | Table():
            return isinstance(value, dict)
        case Choice():
            return any(_fits(option, value) for option in shape.options)


def _type_name(value: object) -> str:
    # A bool is an int to Python, so it is asked for first.
    for kind, name in (
        (bool, "true or false"),
        (str, "a string"),
        (int, "a number"),
        (float, "a decimal number"),
        (list, "a list"),
        (dict, "a table"),
    ):
        if isinstance(value, kind):
            return name
    return "a date or time"


def _check_text(  # noqa: PLR0911 - one return for each fault
    shape: Text, value: object, path: Path, faults: Faults
) -> object:
    if not isinstance(value, str):
        return _DROPPED
    if len(value) > shape.max_length:
        faults.add(path, f"is longer than {shape.max_length} characters", f"write {shape.what}")
        return _DROPPED
    if shape.choices:
        if value in shape.choices:
            return value
        listed = ", ".join(f"`{choice}`" for choice in shape.choices)
        fix = nearest(value, shape.choices, otherwise=f"write one of {listed}")
        faults.add(path, f"does not know {named(value)}", fix)
        return _DROPPED
    if (not value and not shape.empty) or "\x00" in value:
        faults.add(path, f"must be {shape.what}, not empty", f"write {shape.what}")
        return _DROPPED
    if shape.pattern is not None and value and re.fullmatch(shape.pattern, value, re.ASCII) is None:
        faults.add(path, f"is not {shape.what}", f"write {shape.what}")
        return _DROPPED
    return value


def _check_number(shape: Number, value: object, path: Path, faults: Faults) -> object:
    allowed = shape.choices or range(shape.low, shape.high + 1)
    if isinstance(value, int) and value in allowed:
        return value
    faults.add(path, f"is not {shape.what}", f"write {shape.what}")
    return _DROPPED


def _check_list(shape: ListOf, value: object, path: Path, faults: Faults) -> object:
    if not isinstance(value, list):
        return _DROPPED
    if not shape.low <= len(value) <= shape.high:
        faults.add(path, f"must have {shape.low} to {shape.high} items", f"write {shape.what}")
        return _DROPPED
    kept: list[object] = []
    for position, item in enumerate(value):
        cleaned = _check(shape.item, item, (*path, position), faults)
        if cleaned is not _DROPPED:
            kept.append(cleaned)
    if shape.unique and len(set(map(str, kept))) < len(kept):
        faults.add(path, "names something twice", "name each once")
    return kept


def _check_map(shape: MapOf, value: object, path: Path, faults: Faults) -> object:
    if not isinstance(value, dict):
        return _DROPPED
    if not shape.low <= len(value) <= shape.high:
        faults.add(path, f"must have {shape.low} to {shape.high} entries", f"write {shape.what}")
        return _DROPPED
    kept: dict[str, object] = {}
    for key, item in value.items():
        here = (*path, key)
        if _check_text(shape.key, key, here, faults) is _DROPPED:
            continue
        cleaned = _check(shape.item, item, here, faults)
        if cleaned is not _DROPPED:
            kept[key] = cleaned
    return kept


def _check_table(
    shape: Table, value: Mapping[str, object], path: Path, faults: Faults
) -> dict[str, object]:
    known = {key.name: key for key in shape.keys}
    kept: dict[str, object] = {}
    for name, item in value.items():
        key = known.get(name)
        if key is None:
            fix = nearest(name, known, otherwise=f"remove it; {shape.what} has {_keys(shape)}")
            faults.add((*path, name), f"{shape.what} has no such key", fix)
            continue
        cleaned = _check(key.shape, item, (*path, name), faults)
        if cleaned is not _DROPPED:
            kept[name] = cleaned
    _check_presence(shape, value, path, faults)
    return kept


def _check_presence(shape: Table, value: Mapping[str, object], path: Path, faults: Faults) -> None:
    for key in shape.keys:
        if key.required and key.name not in value:
            faults.add(path, f"{shape.what} lacks `{key.name}`", f"add `{key.name}`: {key.doc}")
    if shape.one_of:
        given = [name for name in shape.one_of if name in value]
        if len(given) != 1:
            listed = ", ".join(f"`{name}`" for name in shape.one_of)
            found = "none" if not given else " and ".join(f"`{name}`" for name in given)
            faults.add(path, f"must have exactly one of {listed}, found {found}", "keep one")
    for name, other in shape.together:
        if name in value and other not in value:
            faults.add(path, f"`{name}` needs `{other}` beside it", f"add `{other}`")


def _keys(shape: Table) -> str:
    return ", ".join(f"`{key.name}`" for key in shape.keys)
