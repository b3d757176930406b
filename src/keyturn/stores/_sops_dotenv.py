r"""
SOPS files in the form `.env`, one line a value.

SOPS reads such a line as it stands: nothing is quoted, and `\n` is a new line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyturn.errors import Corrupt
from keyturn.stores._sops_metadata import flat, unflat
from keyturn.stores._sops_sheet import Entry, Leaf, Sheet, Splice, not_sops

__all__ = ["DotenvForm"]

_PREFIX = "sops_"


class DotenvForm:
    """Implements `Form`."""

    def parse(self, data: bytes, *, file: str) -> Sheet:
        """Return what *data* holds."""
        text = data.decode("utf-8", "surrogateescape")
        entries: list[Entry] = []
        lines: dict[str, str] = {}
        fields: dict[str, tuple[int, int]] = {}
        block: list[Splice] = []
        start = 0
        for number, line in enumerate(_lines(text)):
            end = start + len(line)
            body = line.removesuffix("\n")
            if body and not body.startswith("#"):
                key, equals, value = body.partition("=")
                if not equals:
                    raise Corrupt(f"line {number + 1} of `{file}` has no `=`")
                span = (start + len(key) + 1, start + len(body))
                if key.startswith(_PREFIX):
                    name = key.removeprefix(_PREFIX)
                    lines[name] = value.replace("\\n", "\n")
                    fields[name] = span
                    block.append(Splice(start, end, ""))
                else:
                    leaf = Leaf((key,), key, value.replace("\\n", "\n"), *span)
                    entries.append(Entry(key, leaf, start, end))
            start = end
        if not lines:
            raise not_sops(file)
        try:
            metadata = unflat(lines)
        except (ValueError, TypeError):
            raise Corrupt(f"what SOPS wrote of `{file}` itself is damaged") from None
        leaves = tuple(entry.leaf for entry in entries if entry.leaf is not None)
        return Sheet(text, leaves, tuple(entries), metadata, fields, block[0].start, tuple(block))

    def encode(self, text: str) -> bytes:
        """Return *text* as the file has it."""
        return text.encode("utf-8", "surrogateescape")

    def set(self, sheet: Sheet, leaf: Leaf, sealed: str) -> Splice:
        """Return what puts *sealed* in *leaf*'s place."""
        del sheet
        return Splice(leaf.start, leaf.end, sealed)

    def add(self, sheet: Sheet, key: str, sealed: str) -> Splice:
        """Return what adds *key*, above the metadata."""
        return Splice(sheet.tail, sheet.tail, f"{key}={sealed}\n")

    def remove(self, sheet: Sheet, entry: Entry) -> Splice:
        """Return what takes *entry* out."""
        del sheet
        return Splice(entry.start, entry.end, "")

    def stamp(self, sheet: Sheet, name: str, text: str) -> Splice:
        """Return what puts *text* in place of a text of the metadata."""
        return Splice(*sheet.fields[name], text)

    def describe(self, sheet: Sheet, metadata: Mapping[str, Any]) -> list[Splice]:
        """Return what writes the metadata anew, at the end."""
        end = len(sheet.text)
        lead = "" if sheet.text.endswith("\n") or sheet.block[-1].end == end else "\n"
        return [*sheet.block, Splice(end, end, lead + _written(metadata))]

    def blank(self, metadata: Mapping[str, Any]) -> bytes:
        """Return a file that holds nothing but *metadata*."""
        return _written(metadata).encode("utf-8")

    def reserved(self, key: str) -> bool:
        """Tell whether *key* is one of the metadata's."""
        return key.startswith(_PREFIX)


def _lines(text: str) -> list[str]:
    """Return the lines of *text* with their ends; a new line alone ends one."""
    lines = text.split("\n")
    whole = [f"{line}\n" for line in lines[:-1]]
    return [*whole, lines[-1]] if lines[-1] else whole


def _written(metadata: Mapping[str, Any]) -> str:
    lines = flat(metadata).items()
    return "".join("{}={}\n".format(name, text.replace("\n", "\\n")) for name, text in lines)
