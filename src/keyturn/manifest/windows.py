"""
Windows of time in which the schedule rotates nothing.

    2026-12-20..2027-01-05                      whole days, the last one included
    2026-12-20T18:00..2027-01-05T08:00          to the minute
    fri 16:00..mon 08:00                        every week

They are read by the environment's own clock, so a weekly window begins at the same
hour of the wall all year.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

__all__ = ["WINDOW_PATTERN", "Window", "is_timezone", "parse_window", "zone"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEK_MINUTES = 7 * 24 * 60
_MOMENT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?"
_WEEKLY = rf"({'|'.join(_DAYS)}) [0-9]{{2}}:[0-9]{{2}}"
WINDOW_PATTERN = rf"{_MOMENT}\.\.{_MOMENT}|{_WEEKLY}\.\.{_WEEKLY}"


@dataclass(frozen=True, slots=True)
class Window:
    """
    One window, in the wall clock of its environment.

    Args:
        text: As the manifest has it.
        start: First moment, or minutes since Monday midnight where it is weekly.
        end: First moment after it, or minutes likewise.
    """

    text: str
    start: datetime | int
    end: datetime | int

    def covers(self, moment: datetime, where: tzinfo) -> bool:
        """Tell whether *moment* lies in it, by the clock of *where*."""
        local = moment.astimezone(where).replace(tzinfo=None)
        if isinstance(self.start, int) and isinstance(self.end, int):
            minute = local.weekday() * 1440 + local.hour * 60 + local.minute
            if self.start < self.end:
                return self.start <= minute < self.end
            # Over the end of the week, such as from Friday to Monday.
            return minute >= self.start or minute < self.end
        if isinstance(self.start, datetime) and isinstance(self.end, datetime):
            return self.start <= local < self.end
        return False

    def ends_after(self, moment: datetime, where: tzinfo) -> datetime:
        """Return when the window that covers *moment* ends, in UTC."""
        if isinstance(self.end, datetime):
            wall = self.end
        else:
            local = moment.astimezone(where).replace(tzinfo=None)
            minute = local.weekday() * 1440 + local.hour * 60 + local.minute
            start_of_day = datetime.combine(local.date(), time())
            ahead = (self.end - minute - 1) % _WEEK_MINUTES + 1
            wall = start_of_day + timedelta(minutes=minute % 1440 + ahead)
        end = wall.replace(tzinfo=where).astimezone(UTC)
        # Clocks that are set back show the end twice.
        return end if end > moment else wall.replace(tzinfo=where, fold=1).astimezone(UTC)


def parse_window(text: str) -> Window | None:
    """Return the window that *text* says; None where it says none, or an empty one."""
    if re.fullmatch(WINDOW_PATTERN, text, re.ASCII) is None:
        return None
    first, _, last = text.partition("..")
    if first[0].isalpha():
        start, end = _minutes(first), _minutes(last)
        return None if start is None or end is None or start == end else Window(text, start, end)
    try:
        begins, ends = _moment(first, last=False), _moment(last, last=True)
    except ValueError:
        return None
    return Window(text, begins, ends) if begins < ends else None


def _minutes(text: str) -> int | None:
    day, _, clock = text.partition(" ")
    hours, minutes = int(clock[:2]), int(clock[3:])
    # 24:00 is the end of a day, as people write it.
    if minutes > 59 or hours * 60 + minutes > 1440:  # noqa: PLR2004 - a clock's face
        return None
    return (_DAYS.index(day) * 1440 + hours * 60 + minutes) % _WEEK_MINUTES


def _moment(text: str, *, last: bool) -> datetime:
    if "T" in text:
        return datetime.fromisoformat(text)
    day = datetime.combine(date.fromisoformat(text), time())
    return day + timedelta(days=1) if last else day


def is_timezone(name: str) -> bool:
    """Tell whether this machine knows the time zone *name*."""
    try:
        zone(name)
    except (LookupError, ValueError, OSError):
        return False
    return True


def zone(name: str) -> tzinfo:
    """
    Return the time zone *name* of the IANA database.

    Raises:
        LookupError: This machine does not know it.
    """
    # Imported here: few manifests have windows, and every command reads a manifest.
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)
