"""What goes on, shown on standard error: a rotation step by step, a count of many."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from keyturn.cli.output import Output, plain_text
from keyturn.rotate import Progress, Step

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID
    from rich.status import Status

__all__ = ["CountDisplay", "StepDisplay"]

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

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Keep still while a person is asked: a spinner draws over the question."""
        if self._status is None:
            yield
            return
        self._status.stop()
        try:
            yield
        finally:
            self._status.start()

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
        # What is waited for is said at the end, with what to do then.
        told_later = progress.event == "waiting" and progress.step is not Step.GRACE
        detail = f"  {progress.detail}" if progress.detail and not told_later else ""
        mark = _MARKS.get(progress.event, " ")
        line = f"  {mark} {progress.step.value:<9} {took:>6.0f} ms{detail}"
        with contextlib.suppress(UnicodeEncodeError):
            self._output.say(line, important=progress.event == "failed")


class CountDisplay:
    """
    A bar on a terminal, for *total* things done one after another; nothing elsewhere.

    Args:
        title: What is done.
    """

    def __init__(self, output: Output, title: str, total: int) -> None:
        self._output = output
        self._title = title
        self._total = total
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._output.quiet == 0 and sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=self._output.talk_console())
            self._task = self._bar.add_task(plain_text(self._title), total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """Show that *count* more are done."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)
