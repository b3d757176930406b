"""
A SOPS file taken apart, with the place of everything in its text; pure.

Files are edited in their text: what is not asked to change keeps every byte, so that
a diff shows what was changed and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from keyturn.errors import Corrupt, Rejected
from keyturn.stores._sops_values import Unclear

__all__ = [
    "Entry",
    "Form",
    "Leaf",
    "Scalar",
    "Sheet",
    "Splice",
    "is_plain",
    "not_sops",
    "spliced",
    "unwritable",
]

Scalar = str | int | float | bool | Unclear | None

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Splice:
    """Text to stand in place of what lies from *start* to *end*."""

    start: int
    end: int
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Leaf:
    """
    One value.

    Args:
        path: The keys on the way to it; positions in lists do not count.
        name: The same for people, with the positions.
        value: As it stands in the file.
    """

    path: tuple[str, ...]
    name: str
    value: Scalar = field(repr=False)
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Entry:
    """
    A key at the top of the file with what belongs to it.

    Args:
        leaf: Its value; None where that is a list or a mapping.
        start: Where what must go begins, if it is removed.
    """

    key: str
    leaf: Leaf | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """
    What a file holds.

    Args:
        leaves: Every value in order, less the metadata.
        metadata: As it would stand in JSON.
        fields: Where the values of the metadata's own texts stand.
        tail: Where a new key can be put.
        block: What must go where the metadata is written anew.
    """

    text: str = field(repr=False)
    leaves: tuple[Leaf, ...]
    entries: tuple[Entry, ...]
    metadata: Mapping[str, Any] = field(repr=False)
    fields: Mapping[str, tuple[int, int]]
    tail: int
    block: tuple[Splice, ...]


class Form(Protocol):
    """One form of file."""

    def parse(self, data: bytes, *, file: str) -> Sheet:
        """
        Return what *data* holds.

        Raises:
            Corrupt: It is not of this form, or not from SOPS.
            Rejected: It has something in it that Keyturn cannot follow.
        """
        ...

    def encode(self, text: str) -> bytes:
        """Return *text* as the file has it."""
        ...

    def set(self, sheet: Sheet, leaf: Leaf, sealed: str) -> Splice:
        """Return what puts *sealed* in *leaf*'s place."""
        ...

    def add(self, sheet: Sheet, key: str, sealed: str) -> Splice:
        """Return what adds *key*."""
        ...

    def remove(self, sheet: Sheet, entry: Entry) -> Splice:
        """Return what takes *entry* out."""
        ...

    def stamp(self, sheet: Sheet, name: str, text: str) -> Splice:
        """Return what puts *text* in place of a text of the metadata."""
        ...

    def describe(self, sheet: Sheet, metadata: Mapping[str, Any]) -> list[Splice]:
        """Return what writes the metadata anew."""
        ...

    def blank(self, metadata: Mapping[str, Any]) -> bytes:
        """Return a file that holds nothing but *metadata*."""
        ...

    def reserved(self, key: str) -> bool:
        """Tell whether *key* means something else in such a file."""
        ...


def spliced(text: str, splices: Iterable[Splice]) -> str:
    """Return *text* with *splices*, which do not overlap; those of one place in their order."""
    pieces, position = [], 0
    for splice in sorted(splices, key=lambda each: (each.start, each.end)):
        pieces += [text[position : splice.start], splice.text]
        position = splice.end
    return "".join([*pieces, text[position:]])


def not_sops(file: str) -> Corrupt:
    """Return the refusal of a file without the metadata of SOPS."""
    return Corrupt(
        f"`{file}` was not written by SOPS: it says nothing of who can open it",
        hint=f"`sops encrypt -i {file}` seals a file that lies in clear",
    )


def unwritable(key: str, why: str, hint: str) -> Rejected:
    """Return the refusal to write *key*."""
    return Rejected(f"`{key}` cannot be written: {why}", hint=hint, code="store.form")


def is_plain(key: str) -> bool:
    """Tell whether *key* needs no care in any form of file."""
    return _KEY.fullmatch(key) is not None
