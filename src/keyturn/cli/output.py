"""
What a person and a machine are shown.

Results go to standard output and nothing else does; talk (progress, warnings,
hints) goes to standard error. Tables lose their frame and colour in a pipe.
`--json` writes one document. Colour follows the terminal and `NO_COLOR`.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError
from keyturn.fast import silence

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "age", "plain_text", "span"]


class Output:
    """
    The two streams.

    Args:
        as_json: Results are one JSON document.
        quiet: 0 says all, 1 only what is important, 2 nothing but errors.
    """

    def __init__(self, *, as_json: bool = False, quiet: int = 0) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def talk_console(self) -> Console:
        """Return a console on standard error."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=True)

    def data(self, document: Any) -> None:
        """Write *document* as JSON to standard output."""
        text = json.dumps(document, indent=2, ensure_ascii=False, default=_encode)
        try:
            text.encode(_results().encoding)
        except UnicodeEncodeError:
            # Another encoding than UTF-8, or a file's name that is in none.
            text = json.dumps(document, indent=2, default=_encode)
        _write(text + "\n")

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        title: str | None = None,
        empty: str = "nothing",
        right: Sequence[str] = (),
    ) -> None:
        """
        Write a table to standard output: framed on a terminal, tab-separated in a pipe.

        Args:
            empty: Said on standard error where there are no rows.
            right: Names of the columns aligned to the right.
        """
        found = [[plain_text(str(cell)) for cell in row] for row in rows]
        if not found:
            self.say(empty)
            return
        if not _results().isatty():
            _write("".join("\t".join(row) + "\n" for row in found))
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(columns):
            # The first column is what a person types next: it is never cut.
            table.add_column(
                column, justify="right" if column in right else "left", no_wrap=number == 0
            )
        for row in found:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        Console(highlight=False).print(table)

    def line(self, text: str) -> None:
        """Write one line of result to standard output."""
        _write(plain_text(text) + "\n")

    def text(self, text: str) -> None:
        """Write our own *text*, which holds nothing from outside, to standard output."""
        _write(text if text.endswith("\n") else text + "\n")

    def say(self, text: str, *, important: bool = False) -> None:
        """Write one line of talk to standard error."""
        if self.quiet < (2 if important else 1):
            sys.stderr.write(plain_text(text) + "\n")

    def warn(self, text: str) -> None:
        """Write a warning to standard error."""
        self.say(f"warning: {text}", important=True)

    def error(self, error: KeyturnError) -> None:
        """Write *error*, then its hint, to standard error."""
        sys.stderr.write(f"error: {plain_text(error.message, lines=True)}\n")
        if error.hint:
            sys.stderr.write(f"\nhint: {plain_text(error.hint, lines=True)}\n")


def _results() -> TextIO:
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed", "standard output")
    return sys.stdout


def _write(text: str) -> None:
    stream = _results()
    try:
        stream.write(text)
        # Now and not at the exit, where it could not be told that it failed.
        stream.flush()
    except OSError as error:
        silence(1)
        # Whoever read it has seen enough; what was found out is still the exit code.
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from None


# Status words that are easier to find in colour; the word itself says it without.
_STYLES: Mapping[str, str] = {
    "ok": "green",
    "done": "green",
    "pass": "green",
    "missing": "red",
    "overdue": "red",
    "fail": "red",
    "stuck": "bold red",
    "due": "yellow",
    "warn": "yellow",
    "live": "cyan",
    "skipped": "yellow",
    "rolled-back": "yellow",
    "given-up": "red",
}


def plain_text(text: str, *, lines: bool = False) -> str:
    """Return *text* with control characters escaped, so that no name can drive the terminal."""
    keep = "\t\n" if lines else "\t"
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def age(delta: timedelta) -> str:
    """Return how old something is, as `span` does; `in the future` where the clock was set back."""
    return "in the future" if delta <= -timedelta(seconds=1) else span(max(delta, timedelta(0)))


def span(delta: timedelta) -> str:
    """Return *delta* as one rounded unit: `3d`, `5h`, `12m`, `4s`; negative ones with a minus."""
    seconds = int(delta.total_seconds())
    sign = "-" if seconds < 0 else ""
    seconds = abs(seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{sign}{seconds // size}{unit}"
    return f"{sign}{seconds}s"


def _encode(item: object) -> object:
    if isinstance(item, SecretValue):
        # The one way a value could slip into a document; --reveal passes text instead.
        raise TypeError("a SecretValue cannot be written as JSON")
    if isinstance(item, datetime):
        return item.isoformat().replace("+00:00", "Z")
    if isinstance(item, timedelta):
        return int(item.total_seconds())
    raise TypeError(f"{type(item).__name__} cannot be written as JSON")
