"""
A `.env` file as a store, for development.

Applications read the file as they always did; Keyturn writes one line a value and
leaves every other line as it is. A value that no such file can carry, since it holds
NUL or is not UTF-8, is written in base64 under a comment that says so.

Everything in it lies in clear, and so does what is kept aside: the older and the
pending values, in the project's state folder.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from keyturn.core.ids import EnvironmentName
from keyturn.core.ports import StoreCapabilities
from keyturn.errors import Corrupt, Rejected
from keyturn.manifest import EnvEntry, parse_env
from keyturn.stores._context import StoreContext
from keyturn.stores._file_place import FileLayout, PlainAside
from keyturn.stores.outside import OutsideStore

__all__ = ["DotenvText", "build"]

_CAPABILITIES: Final = StoreCapabilities(
    atomic_promote=True,
    compare_and_set=True,
    history=True,
    transactional=False,
    max_value_bytes=256 * 1024,
)
_PATH = ".env.{environment}"
_BASE64 = "keyturn: base64"
# Means itself to every reader of such files.
_PLAIN = re.compile(r"[A-Za-z0-9_@%+:,./=-]+")
_SPECIAL = re.compile(r'[\\"$`\n\r]')
_ESCAPES = {"\n": "\\n", "\r": "\\r"}


def build(context: StoreContext) -> OutsideStore:
    """
    Return the store that *context* describes.

    Raises:
        UsageError: The path leaves the project.
    """
    pattern = context.text("path") or _PATH

    def files(environment: EnvironmentName) -> tuple[Path, Path]:
        return context.file(pattern, environment), context.aside_file(environment, ".json")

    layout = FileLayout(
        files,
        text=DotenvText(),
        seal=PlainAside(),
        key=context.live_key,
        where=f"the file {pattern}",
        capabilities=_CAPABILITIES,
    )
    return OutsideStore(layout, clock=context.clock, entropy=context.entropy)


class DotenvText:
    """Implements `LiveText`."""

    def read(self, data: bytes, *, file: Path) -> Mapping[str, bytes]:
        """Return the variables that *data* sets."""
        return {entry.name: _decoded(entry, file) for entry in parse_env(data, file=str(file)).live}

    def edit(self, data: bytes | None, changes: Mapping[str, bytes | None], *, file: Path) -> bytes:
        """Return *data* with *changes*: a line in place of the old one, or at the end."""
        lines = (data or b"").decode("utf-8", "surrogateescape").splitlines(keepends=True)
        entries = parse_env(data or b"", file=str(file))
        # A name that is set twice means the last; none may be left to come up again.
        spans = [
            (str(entry.name), *_span(lines, entry))
            for entry in (*entries.live, *entries.replaced)
            if entry.name in changes and not entry.commented_out
        ]
        placed: set[str] = set()
        for name, start, end in sorted(spans, key=lambda span: -span[1]):
            value = None if name in placed else changes[name]
            lines[start:end] = [] if value is None else _lines(name, value)
            placed.add(name)
        for name, value in changes.items():
            if name not in placed and value is not None:
                if lines and not lines[-1].endswith("\n"):
                    lines[-1] += "\n"
                lines += _lines(name, value)
        return "".join(lines).encode("utf-8", "surrogateescape")


def _decoded(entry: EnvEntry, file: Path) -> bytes:
    data = entry.value.reveal()
    if _BASE64 not in entry.comments:
        return data
    try:
        return b64decode(data, validate=True)
    except ValueError:
        raise Corrupt(
            f"`{entry.name}` in `{file}` is said to be base64 and is not",
            hint=f"remove the comment `{_BASE64}` above it, or mend the value",
        ) from None


def _span(lines: list[str], entry: EnvEntry) -> tuple[int, int]:
    """Return the lines that *entry* takes, its own comment of ours with them."""
    start = entry.line - 1
    end = start + 1
    while end < len(lines) and not _is_whole("".join(lines[start:end]), entry):
        end += 1
    marked = start > 0 and lines[start - 1].strip() == f"# {_BASE64}"
    return start - marked, end


def _is_whole(text: str, entry: EnvEntry) -> bool:
    found = parse_env(text.encode("utf-8", "surrogateescape"), file="")
    return not found.problems and [each.value for each in found.live] == [entry.value]


def _lines(name: str, value: bytes) -> list[str]:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return [f"# {_BASE64}\n", f"{name}={b64encode(value).decode()}\n"]
    line = f"{name}={_quoted(text)}\n"
    if parse_env(line.encode(), file="").live[0].value.reveal() != value:
        raise Rejected(
            f"the value of `{name}` cannot be written to a `.env` file",
            hint="make one without control characters, or use another store",
            code="store.form",
        )
    return [line]


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    if not any(character in text for character in "'\\\n\r"):
        return f"'{text}'"
    escaped = _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], f"\\{found[0]}"), text)
    return f'"{escaped}"'
