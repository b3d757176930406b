"""How the demo looks: scenes, the commands that are run, what they say, a live count."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from keyturn.core.clock import Clock, SystemClock
from keyturn.demo.load import Load, Tally

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["MARGIN", "Show", "aligned", "counted"]

# What stands before a line of a command's output.
MARGIN = 5

_INDENT = "   "
_FRAMES_A_SECOND = 8


class Show:
    """
    Everything that a person sees, on *console*.

    On a terminal it is coloured and the count moves; in a pipe it is plain text.

    Args:
        console: By default standard output. `NO_COLOR` is respected.
    """

    def __init__(self, *, console: Console | None = None, clock: Clock | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._clock = clock or SystemClock()
        self._started = self._clock.monotonic()
        self._scenes = 0
        self._live: Live | None = None

    @property
    def seconds(self) -> float:
        """How long the show has gone on."""
        return self._clock.monotonic() - self._started

    def scene(self, title: str) -> None:
        """Begin the next scene."""
        self._scenes += 1
        self.console.print()
        self.console.print(Text(f"{self._scenes}. {title}", style="bold cyan"))

    def say(self, text: str) -> None:
        """Explain something."""
        self.console.print(Text(_INDENT + text))

    def proven(self, text: str) -> None:
        """Tell a fact that was just looked at."""
        self.console.print(Text(_INDENT + self._mark("✓", "ok:"), style="green") + f" {text}")

    def failed(self, text: str) -> None:
        """Tell what went wrong."""
        self.console.print(
            Text(_INDENT + self._mark("✗", "FAILED:"), style="bold red") + f" {text}"
        )

    def command(self, words: Sequence[str], settings: Mapping[str, str] | None = None) -> None:
        """Show the command line that is about to run, as one would type it."""
        line = Text(f"{_INDENT}$ ", style="dim")
        for name, value in (settings or {}).items():
            line.append(f"{name}={value} ", style="yellow")
        line.append(" ".join(words), style="bold not dim")
        self.console.print(line)

    def output(self, line: str) -> None:
        """Show a line that a command wrote, with its own colours."""
        self.console.print(Text(" " * MARGIN, style="dim") + Text.from_ansi(line, style="dim"))

    @contextlib.contextmanager
    def counting(self, load: Load) -> Iterator[None]:
        """Keep the count of *load* in the last line, where there is a terminal."""
        if not self.console.is_terminal:
            yield
            return
        from rich.live import Live

        with Live(
            get_renderable=lambda: self._count_line(load.tally()),
            console=self.console,
            refresh_per_second=_FRAMES_A_SECOND,
            transient=True,
        ):
            yield

    def _count_line(self, tally: Tally) -> Text:
        style = "bold red" if tally.failed else "green"
        return Text.assemble(
            f"\n{_INDENT}",
            (counted(tally), style),
            f"   as {tally.latest_login or '...'}   {self.seconds:.0f} s",
        )

    def _mark(self, sign: str, words: str) -> str:
        return sign if self.console.encoding.lower().startswith("utf") else words


def counted(tally: Tally) -> str:
    """Return the count as one sentence."""
    return (
        f"{tally.requests:,} requests, {tally.failed:,} failed, "
        f"median {tally.median_ms:.0f} ms, p99 {tally.p99_ms:.0f} ms"
    )


def aligned(lines: Sequence[str]) -> list[str]:
    """Return *lines* with their tab-separated cells in columns."""
    rows = [line.split("\t") for line in lines]
    count = max((len(row) for row in rows), default=0)
    widths = [
        max((len(row[at]) for row in rows if at < len(row) - 1), default=0) for at in range(count)
    ]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]
