"""SOPS files in the form JSON, read with the place of each value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keyturn.errors import Corrupt
from keyturn.stores._sops_sheet import Entry, Leaf, Sheet, Splice, not_sops

__all__ = ["JsonForm"]

_BLANK = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None}
_METADATA = "sops"
_MAX_DEPTH = 100


class JsonForm:
    """Implements `Form`."""

    def parse(self, data: bytes, *, file: str) -> Sheet:
        """Return what *data* holds."""
        try:
            text = data.decode("utf-8")
            reader = _Reader(text)
            members = reader.document()
            whole = json.loads(text)
        except ValueError:
            raise Corrupt(f"`{file}` is not one object of JSON in UTF-8") from None
        found = [member for member in members if member.key == _METADATA]
        metadata = whole.get(_METADATA)
        if len(found) != 1 or not isinstance(metadata, dict):
            raise not_sops(file)
        entries = [
            Entry(member.key, member.leaf, member.start, member.end)
            for member in members
            if member.key != _METADATA
        ]
        leaves = tuple(leaf for leaf in reader.leaves if leaf.path[0] != _METADATA)
        fields = {
            leaf.path[1]: (leaf.start, leaf.end)
            for leaf in reader.leaves
            if leaf.path[0] == _METADATA and leaf.name == f"{_METADATA}.{leaf.path[1]}"
        }
        (own,) = found
        block = (Splice(own.value, own.end, ""),)
        return Sheet(text, leaves, tuple(entries), metadata, fields, own.start, block)

    def encode(self, text: str) -> bytes:
        """Return *text* as the file has it."""
        return text.encode("utf-8")

    def set(self, sheet: Sheet, leaf: Leaf, sealed: str) -> Splice:
        """Return what puts *sealed* in *leaf*'s place."""
        del sheet
        return Splice(leaf.start, leaf.end, json.dumps(sealed))

    def add(self, sheet: Sheet, key: str, sealed: str) -> Splice:
        """Return what adds *key*, before the metadata."""
        text = f"{json.dumps(key)}: {json.dumps(sealed)},{_margin(sheet)}"
        return Splice(sheet.tail, sheet.tail, text)

    def remove(self, sheet: Sheet, entry: Entry) -> Splice:
        """Return what takes *entry* out, with one of the commas beside it."""
        (own,) = sheet.block
        if entry.start > own.start:
            ends = [own.end, *(each.end for each in sheet.entries)]
            return Splice(max(end for end in ends if end <= entry.start), entry.end, "")
        starts = [sheet.tail, *(each.start for each in sheet.entries)]
        return Splice(entry.start, min(start for start in starts if start > entry.start), "")

    def stamp(self, sheet: Sheet, name: str, text: str) -> Splice:
        """Return what puts *text* in place of a text of the metadata."""
        return Splice(*sheet.fields[name], json.dumps(text))

    def describe(self, sheet: Sheet, metadata: Mapping[str, Any]) -> list[Splice]:
        """Return what writes the metadata anew, as deep as it stood."""
        (own,) = sheet.block
        margin = _margin(sheet)
        unit = margin.lstrip("\r\n")
        text = json.dumps(metadata, indent=unit or None, ensure_ascii=False)
        return [Splice(own.start, own.end, text.replace("\n", margin))]

    def blank(self, metadata: Mapping[str, Any]) -> bytes:
        """Return a file that holds nothing but *metadata*."""
        return (json.dumps({_METADATA: metadata}, indent="\t") + "\n").encode("utf-8")

    def reserved(self, key: str) -> bool:
        """Tell whether *key* is the metadata's."""
        return key == _METADATA


def _margin(sheet: Sheet) -> str:
    """Return the line break and blanks that stand before the metadata."""
    start = sheet.tail
    while sheet.text[start - 1] in " \t\r\n":
        start -= 1
    return sheet.text[start : sheet.tail]


@dataclass(frozen=True, slots=True)
class _Member:
    key: str
    leaf: Leaf | None
    start: int
    value: int
    end: int


@dataclass(slots=True)
class _Reader:
    """The state of one reading; ValueError where it is not JSON."""

    text: str
    leaves: list[Leaf] = field(default_factory=list)
    _end: int = 0

    def document(self) -> list[_Member]:
        start = self._blank(0)
        members, end = self._object(start, (), "")
        if self._blank(end) != len(self.text):
            raise ValueError("more than one value")
        return members

    def _object(self, start: int, path: tuple[str, ...], name: str) -> tuple[list[_Member], int]:
        members = []
        self._expect(start, "{")
        for position in self._items(start, "}"):
            self._expect(position, '"')
            key, after = self._string(position)
            colon = self._blank(after)
            self._expect(colon, ":")
            value = self._blank(colon + 1)
            inner = f"{name}.{key}" if name else key
            leaf, self._end = self._value(value, (*path, key), inner)
            members.append(_Member(key, leaf, position, value, self._end))
        return members, self._end

    def _items(self, start: int, close: str) -> Iterator[int]:
        """Yield where each item begins; the caller leaves its end in `_end`."""
        position = self._blank(start + 1)
        if self.text[position : position + 1] == close:
            self._end = position + 1
            return
        while True:
            yield position
            position = self._blank(self._end)
            if self.text[position : position + 1] == close:
                self._end = position + 1
                return
            self._expect(position, ",")
            position = self._blank(position + 1)

    def _value(self, start: int, path: tuple[str, ...], name: str) -> tuple[Leaf | None, int]:
        if name.count(".") > _MAX_DEPTH:
            raise ValueError("too deep")
        opening = self.text[start : start + 1]
        if opening == "{":
            return None, self._object(start, path, name)[1]
        if opening == "[":
            for index, position in enumerate(self._items(start, "]")):
                _, self._end = self._value(position, path, f"{name}.{index}")
            return None, self._end
        value, end = self._scalar(start, opening)
        leaf = Leaf(path, name, value, start, end)
        self.leaves.append(leaf)
        return leaf, end

    def _scalar(self, start: int, opening: str) -> tuple[str | float | bool | None, int]:
        if opening == '"':
            return self._string(start)
        for word, meaning in _WORDS.items():
            if self.text.startswith(word, start):
                return meaning, start + len(word)
        number = _NUMBER.match(self.text, start)
        if number is None:
            raise ValueError("no value")
        # SOPS reads every number of JSON as a float.
        return float(number[0]), number.end()

    def _string(self, start: int) -> tuple[str, int]:
        text, end = json.JSONDecoder().raw_decode(self.text, start)
        return str(text), end

    def _blank(self, position: int) -> int:
        found = _BLANK.match(self.text, position)
        return position if found is None else found.end()

    def _expect(self, position: int, sign: str) -> None:
        if self.text[position : position + 1] != sign:
            raise ValueError("not JSON")
