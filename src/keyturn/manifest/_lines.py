"""
Where in a TOML text each key stands.

`tomllib` keeps no positions. This reads the text once more, only when there is a
fault to point at or the text is odd enough to want a bound before it is parsed. It
takes everything that TOML allows, judges nothing, and stops at what it cannot follow.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field

__all__ = ["MAX_KEY_PARTS", "LineIndex", "Path"]

Path = tuple[str | int, ...]

# Deeper keys make tomllib's work grow with the square of their length.
MAX_KEY_PARTS = 16
_MAX_DEPTH = 64

_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_BASIC = re.compile(r'"((?:[^"\\\n]++|\\.)*+)"')
_LITERAL = re.compile(r"'([^'\n]*)'")


class _StopError(Exception):
    """The text cannot be followed beyond this point."""


@dataclass(slots=True)
class LineIndex:
    """
    The lines of keys.

    Args:
        too_deep: Line of the first key with more than `MAX_KEY_PARTS` parts, or of a
            value nested too deep; scanning stopped there.
    """

    text: str
    lines: dict[Path, int] = field(default_factory=dict)
    too_deep: int | None = None
    _counted_to: int = 0
    _line: int = 1

    @classmethod
    def scan(cls, text: str) -> LineIndex:
        """Return the index of *text*, as far as it can be followed."""
        index = cls(text.replace("\r\n", "\n"))
        with suppress(_StopError):
            index._document()
        return index

    def line(self, path: Path) -> int | None:
        """Return the line of *path*, or of the nearest table around it."""
        for length in range(len(path), 0, -1):
            found = self.lines.get(path[:length])
            if found is not None:
                return found
        return None

    def key_at(self, line: int) -> Path:
        """Return the key that starts on *line* or last before it."""
        best: Path = ()
        best_line = 0
        for path, at in self.lines.items():
            if best_line <= at <= line:
                best, best_line = path, at
        return best

    def _document(self) -> None:
        table: Path = ()
        position = 0
        while True:
            position = self._skip(_GAP, position)
            if position >= len(self.text):
                return
            if self.text[position] == "[":
                table, position = self._header(position)
            else:
                position = self._pair(table, position, depth=0)

    def _header(self, start: int) -> tuple[Path, int]:
        brackets = 2 if self.text.startswith("[[", start) else 1
        path, position = self._key((), start + brackets)
        self._record(path, start, above=0)
        if not self.text.startswith("]" * brackets, position):
            raise _StopError
        return path, position + brackets

    def _pair(self, table: Path, start: int, *, depth: int) -> int:
        path, position = self._key(table, start)
        self._record(path, start, above=len(table))
        if not self.text.startswith("=", position):
            raise _StopError
        return self._value(path, self._skip(_BLANK, position + 1), depth=depth)

    def _key(self, table: Path, position: int) -> tuple[Path, int]:
        path = table
        start = position
        for _ in range(MAX_KEY_PARTS):
            position = self._skip(_BLANK, position)
            match = (
                _BARE_KEY.match(self.text, position)
                or _BASIC.match(self.text, position)
                or _LITERAL.match(self.text, position)
            )
            if match is None:
                raise _StopError
            path = (*path, _name(match))
            position = self._skip(_BLANK, match.end())
            if not self.text.startswith(".", position):
                return path, position
            position += 1
        self._give_up(start)
        raise _StopError

    def _value(self, path: Path, position: int, *, depth: int) -> int:
        if depth > _MAX_DEPTH:
            self._give_up(position)
            raise _StopError
        for quotes in ('"""', "'''"):
            if self.text.startswith(quotes, position):
                return self._multiline(position + 3, quotes)
        first = self.text[position : position + 1]
        if first == "[":
            return self._array(path, position + 1, depth=depth)
        if first == "{":
            return self._inline_table(path, position + 1, depth=depth)
        pattern = {'"': _BASIC, "'": _LITERAL}.get(first, _SCALAR)
        match = pattern.match(self.text, position)
        if match is None:
            raise _StopError
        return match.end()

    def _multiline(self, position: int, quotes: str) -> int:
        while True:
            end = self.text.find(quotes, position)
            if end < 0:
                raise _StopError
            escaped = quotes == '"""' and _odd_backslashes(self.text, end)
            if not escaped:
                break
            position = end + 1
        end += 3
        # Up to two quotes may stand right before the closing three.
        while self.text.startswith(quotes[0], end):
            end += 1
        return end

    def _array(self, path: Path, position: int, *, depth: int) -> int:
        item = 0
        while True:
            position = self._skip(_GAP, position)
            if self.text.startswith("]", position):
                return position + 1
            self._record((*path, item), position, above=len(path))
            position = self._value((*path, item), position, depth=depth + 1)
            position = self._skip(_GAP, position)
            if self.text.startswith(",", position):
                position += 1
            elif not self.text.startswith("]", position):
                raise _StopError
            item += 1

    def _inline_table(self, path: Path, position: int, *, depth: int) -> int:
        while True:
            position = self._skip(_GAP, position)
            if self.text.startswith("}", position):
                return position + 1
            position = self._skip(_GAP, self._pair(path, position, depth=depth + 1))
            if self.text.startswith(",", position):
                position += 1
            elif not self.text.startswith("}", position):
                raise _StopError

    def _skip(self, pattern: re.Pattern[str], position: int) -> int:
        match = pattern.match(self.text, position)
        return match.end() if match else position

    def _record(self, path: Path, position: int, *, above: int) -> None:
        """Note the line of *path* and of the tables that it makes below the first *above*."""
        line = self._line_of(position)
        for length in range(above + 1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _give_up(self, position: int) -> None:
        self.too_deep = self._line_of(position)

    def _line_of(self, position: int) -> int:
        # Positions only rise, so the lines before them are counted once.
        self._line += self.text.count("\n", self._counted_to, position)
        self._counted_to = max(self._counted_to, position)
        return self._line


def _name(match: re.Match[str]) -> str:
    """Return the key that *match* spells."""
    spelled = match[match.lastindex or 0]
    if match.re is not _BASIC or "\\" not in spelled:
        return spelled
    try:
        return str(tomllib.loads(f"key = {match[0]}")["key"])
    except tomllib.TOMLDecodeError:
        raise _StopError from None


def _odd_backslashes(text: str, end: int) -> bool:
    count = 0
    while text[end - 1 - count] == "\\":
        count += 1
    return count % 2 == 1
