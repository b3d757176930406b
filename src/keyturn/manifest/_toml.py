"""Writing the few forms of TOML that a drafted manifest needs."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["comment", "inline_table", "quoted"]

_NAMED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_DELETE = 0x7F


def quoted(text: str) -> str:
    """Return *text* as a basic string."""
    return '"' + "".join(_escaped(c) for c in text) + '"'


def inline_table(entries: Mapping[str, str]) -> str:
    """Return *entries* as an inline table of texts; the keys must be bare."""
    return "{ " + ", ".join(f"{key} = {quoted(text)}" for key, text in entries.items()) + " }"


def comment(text: str) -> str:
    """Return *text* as one comment line, without what TOML forbids in one."""
    return "# " + "".join(c if c.isprintable() else " " for c in text).strip()


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if character < " " or ord(character) == _DELETE:
        return f"\\u{ord(character):04x}"
    return character
