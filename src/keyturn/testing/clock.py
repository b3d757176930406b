"""A clock that moves only when it is told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["FakeClock"]


class FakeClock:
    """
    Stands in for the machine's clock.

    Args:
        start: The first answer of `now`.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self._monotonic = 1_000.0

    def now(self) -> datetime:
        """Return the time as it was last set."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that grew with every `advance`, whatever `step` did."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Move the wall clock alone, as somebody who sets it does; *seconds* may be negative."""
        self._now += timedelta(seconds=seconds)
