"""How urgent a notice is, when it is told again, and whom it reaches."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

__all__ = ["Level", "level_of_age", "reaches_on_call"]

_WEEK = timedelta(days=7)
_FORTNIGHT = timedelta(days=14)


class Level(StrEnum):
    """
    Why something is told, the most urgent first.

    Each states its `meaning`, and after how many days it is told `again` while it
    still holds; 0 for never.
    """

    meaning: str
    again: int

    def __new__(cls, text: str, meaning: str = "", again: int = 0) -> Self:
        member = str.__new__(cls, text)
        member._value_ = text
        member.meaning = meaning
        member.again = again
        return member

    ALARM = "alarm", "the old credential is still accepted after it was ended", 1
    STUCK = "stuck", "a rotation needs a person", 7
    FAILED = "failed", "a rotation that was due failed; the old credential is in use", 7
    OVERDUE = "overdue", "a week or more past its max_age", 7
    DUE = "due", "it has reached its max_age"
    WAITING = "waiting", "a rotation waits for a person", 7
    WEEK = "7-days", "it reaches its max_age within 7 days"
    FORTNIGHT = "14-days", "it reaches its max_age within 14 days"

    @property
    def urgency(self) -> int:
        """Its place: 0 is the most urgent."""
        return list(Level).index(self)


_ON_CALL = frozenset({Level.ALARM, Level.STUCK, Level.FAILED, Level.OVERDUE, Level.DUE})


def reaches_on_call(level: Level) -> bool:
    """Tell whether *level* goes on to whoever is on call."""
    return level in _ON_CALL


def level_of_age(due_at: datetime, max_age: timedelta, now: datetime) -> Level | None:
    """
    Return the level of a secret that is due at *due_at*; None where it is too early.

    Half its life at most is spent announcing its end, so what lives for three weeks
    is announced a week before and what lives for one is not.
    """
    if now >= due_at + _WEEK:
        return Level.OVERDUE
    if now >= due_at:
        return Level.DUE
    for level, lead in ((Level.WEEK, _WEEK), (Level.FORTNIGHT, _FORTNIGHT)):
        if due_at - now <= lead <= max_age / 2:
            return level
    return None
