"""
SOPS files in the form YAML, read with the place of each value.

One document whose top is a mapping in block style, as SOPS writes it. Anchors and
aliases are refused; SOPS resolves them when it first seals a file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keyturn.errors import Corrupt, Rejected, UsageError
from keyturn.stores._sops_sheet import (
    Entry,
    Leaf,
    Scalar,
    Sheet,
    Splice,
    not_sops,
    unwritable,
)
from keyturn.stores._sops_values import Unclear

if TYPE_CHECKING:
    import yaml

__all__ = ["YamlForm"]

_METADATA = "sops"
_MAX_DEPTH = 100
_INDENT = "    "
# Means itself as a key or value of a mapping, quoted by nobody.
_PLAIN = re.compile(r"[A-Za-z_^/(][A-Za-z0-9_^/()|$.+*=-]*|[0-9]+\.[0-9]+\.[0-9]+")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
}
_WORD = re.compile(r"[!-~](?: ?[!-~])*")
_SPECIAL = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[oO]?([0-7]+)|0[bB]([01]+)|(0|[1-9][0-9]*))")
_BASES = (16, 8, 2, 10)
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_INT64 = range(-(2**63), 2**63)


class YamlForm:
    """Implements `Form`."""

    def parse(self, data: bytes, *, file: str) -> Sheet:
        """Return what *data* holds."""
        text, root = _composed(data, file)
        reader = _Reader(text, file)
        entries = [reader.entry(key, value) for key, value in _pairs(root, file)]
        own = [entry for entry in entries if entry.key == _METADATA]
        if len(own) != 1 or own[0].leaf is not None:
            raise not_sops(file)
        start, end = own[0].start, own[0].end
        mine = [leaf for leaf in reader.leaves if start <= leaf.start < end]
        metadata = next(_data(value) for key, value in _pairs(root, file) if key.value == _METADATA)
        if not isinstance(metadata, dict):
            raise not_sops(file)
        fields = {
            leaf.path[1]: (leaf.start, leaf.end)
            for leaf in mine
            if leaf.name == f"{_METADATA}.{leaf.path[-1]}"
        }
        return Sheet(
            text,
            tuple(leaf for leaf in reader.leaves if not start <= leaf.start < end),
            tuple(entry for entry in entries if entry.key != _METADATA),
            metadata,
            fields,
            start,
            (Splice(start, end, ""),),
        )

    def encode(self, text: str) -> bytes:
        """Return *text* as the file has it."""
        return text.encode("utf-8")

    def set(self, sheet: Sheet, leaf: Leaf, sealed: str) -> Splice:
        """Return what puts *sealed* in *leaf*'s place."""
        _require_block(sheet, leaf.name)
        old = sheet.text[leaf.start : leaf.end]
        if old[1:5] == "ENC[":
            # In quotes, as it must be within braces.
            return Splice(leaf.start, leaf.end, json.dumps(sealed))
        # What stands after a colon with nothing behind it needs a blank; a text over
        # several lines ends with its last line break.
        lead = " " if leaf.start and sheet.text[leaf.start - 1] == ":" else ""
        return Splice(leaf.start, leaf.end, lead + _written(sealed) + "\n" * old.endswith("\n"))

    def add(self, sheet: Sheet, key: str, sealed: str) -> Splice:
        """Return what adds *key*, above the metadata."""
        _require_block(sheet, key)
        return Splice(sheet.tail, sheet.tail, f"{_written(key)}: {_written(sealed)}\n")

    def remove(self, sheet: Sheet, entry: Entry) -> Splice:
        """Return what takes *entry* out."""
        _require_block(sheet, entry.key)
        return Splice(entry.start, entry.end, "")

    def stamp(self, sheet: Sheet, name: str, text: str) -> Splice:
        """Return what puts *text* in place of a text of the metadata."""
        return Splice(*sheet.fields[name], _written(text))

    def describe(self, sheet: Sheet, metadata: Mapping[str, Any]) -> list[Splice]:
        """Return what writes the metadata anew."""
        _require_block(sheet, _METADATA)
        (own,) = sheet.block
        return [Splice(own.start, own.end, _block(metadata))]

    def blank(self, metadata: Mapping[str, Any]) -> bytes:
        """Return a file that holds nothing but *metadata*."""
        return _block(metadata).encode("utf-8")

    def reserved(self, key: str) -> bool:
        """Tell whether *key* is the metadata's."""
        return key == _METADATA


def _composed(data: bytes, file: str) -> tuple[str, yaml.MappingNode]:
    try:
        import yaml
    except ImportError:
        raise UsageError(
            "the package pyyaml, which reads SOPS files in YAML, is not installed",
            hint="pip install 'keyturn[sops]', or let the file's name end in `.env`",
            code="store.driver",
        ) from None
    # The one in C where there is one; both number characters alike.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        text = data.decode("utf-8")
        root = yaml.compose(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Corrupt(f"`{file}` is not one document of YAML in UTF-8") from None
    if not isinstance(root, yaml.MappingNode) or text.startswith("\ufeff"):
        raise not_sops(file)
    return text, root


def _pairs(node: yaml.MappingNode, file: str) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    import yaml

    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise Rejected(f"`{file}` has a key that is not a text", code="store.form")
        yield key, value


@dataclass(slots=True)
class _Reader:
    """The state of one reading."""

    text: str
    file: str
    leaves: list[Leaf] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def entry(self, key: yaml.ScalarNode, value: yaml.Node) -> Entry:
        before = len(self.leaves)
        self._read(value, (key.value,), key.value)
        found = self.leaves[before:]
        end = max([leaf.end for leaf in found], default=value.start_mark.index)
        if not found:
            end = value.end_mark.index
        is_leaf = bool(found) and found[0].name == key.value
        start = key.start_mark.index
        return Entry(key.value, found[0] if is_leaf else None, start, self._line_end(end))

    def _read(self, node: yaml.Node, path: tuple[str, ...], name: str) -> None:
        import yaml

        if id(node) in self.seen or len(path) > _MAX_DEPTH:
            raise Rejected(
                f"`{self.file}` has an anchor or is nested too deep at `{name[:100]}`",
                hint="write the value out where it is used",
                code="store.form",
            )
        self.seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in _pairs(node, self.file):
                self._read(value, (*path, key.value), f"{name}.{key.value}")
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._read(value, path, f"{name}.{index}")
        else:
            start, end = node.start_mark.index, node.end_mark.index
            self.leaves.append(Leaf(path, name, _scalar(node), start, end))

    def _line_end(self, position: int) -> int:
        """Return where the line ends that *position* is on, or was at the end of."""
        if position and self.text[position - 1] == "\n":
            return position
        end = self.text.find("\n", position)
        return len(self.text) if end < 0 else end + 1


def _scalar(node: yaml.Node) -> Scalar:
    """Return the value of a scalar as SOPS takes it."""
    text = str(node.value)
    if getattr(node, "style", None):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _MOMENT.fullmatch(text):
        # As SOPS writes dates, and counts them.
        return text
    if _DATE.match(text) or _INFINITE.fullmatch(text):
        return Unclear()
    digits = text.replace("_", "") if text[:1] in set("+-.0123456789") else text
    integer = _INTEGER.fullmatch(digits)
    if integer is not None:
        sign, *forms = integer.groups()
        base, number = next(
            (base, form) for base, form in zip(_BASES, forms, strict=True) if form is not None
        )
        value = int(f"{sign}{number}", base)
        return value if value in _INT64 else Unclear()
    # A number that is too large for a float is a text.
    is_float = _FLOAT.fullmatch(digits) is not None and math.isfinite(float(digits))
    return float(digits) if is_float else text


def _data(node: yaml.Node) -> Any:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _data(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_data(value) for value in node.value]
    value = _scalar(node)
    # What is not plain is written back as it was spelt.
    return str(node.value) if isinstance(value, Unclear | float) else value


def _require_block(sheet: Sheet, key: str) -> None:
    if sheet.text.lstrip().startswith("{"):
        raise unwritable(
            key, "the file is YAML in one pair of braces", "`sops edit` writes it in lines"
        )


def _written(text: str) -> str:
    if text.startswith("ENC["):
        return text
    if _PLAIN.fullmatch(text) and text.lower() not in _SPECIAL:
        return text
    return json.dumps(text)


def _block(metadata: Mapping[str, Any]) -> str:
    return f"{_METADATA}:\n" + "".join(_lines(metadata, _INDENT))


def _lines(node: Mapping[str, Any], margin: str) -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield f"{margin}{_written(key)}:\n"
            yield from _lines(value, margin + _INDENT)
        elif isinstance(value, list) and value:
            yield f"{margin}{_written(key)}:\n"
            for item in value:
                yield from _item(item, margin + _INDENT)
        else:
            yield f"{margin}{_written(key)}: {_value(value, margin + '  ')}\n"


def _item(item: Any, margin: str) -> Iterator[str]:
    if isinstance(item, Mapping) and item:
        text = "".join(_lines(item, margin + "  "))
        yield f"{margin}- {text[len(margin) + 2 :]}"
    else:
        yield f"{margin}- {_value(item, margin)}\n"


def _value(value: Any, margin: str) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    lines = value.split("\n")
    # Lines as they are where that means the same, as for what is in armor.
    if len(lines) > 1 and not lines.pop() and all(_WORD.fullmatch(line) for line in lines):
        return "|\n" + "\n".join(f"{margin}{line}" for line in lines)
    return _written(value)
