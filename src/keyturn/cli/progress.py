"""A rotation, shown step by step on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from keyturn.cli.output import Output, plain_text
from keyturn.rotate import Progress

if TYPE_CHECKING:
    from rich.status import Status

__all__ = ["StepDisplay"]

_MARKS = {"done": "✓", "failed": "✗", "retried": "…", "waiting": "…", "interrupted": "!"}


class StepDisplay:
    """
    One line a step; on a terminal the running step has a spinner.

    Args:
        title: What is rotated.
    """

    def __init__(self, output: Output, title: str) -> None:
        self._output = output
        self._title = title
        self._status: Status | None = None
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        if self._output.quiet == 0 and sys.stderr.isatty():
            self._status = self._output.talk_console().status(f"{self._title}: starting")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        """Show what the running step is at."""
        if self._status is not None:
            self._status.update(f"{self._title}: {plain_text(text)}")

    def progress(self, progress: Progress) -> None:
        """Show that a step began or ended."""
        if progress.event == "begun":
            self._begun = time.monotonic()
            self.say(progress.step.value)
            return
        took = (time.monotonic() - self._begun) * 1000
        detail = f"  {progress.detail}" if progress.detail else ""
        mark = _MARKS.get(progress.event, " ")
        line = f"  {mark} {progress.step.value:<9} {took:>6.0f} ms{detail}"
        with contextlib.suppress(UnicodeEncodeError):
            self._output.say(line, important=progress.event == "failed")
