"""Spans of time as people write them: a whole number and one unit, such as `90d`."""

from __future__ import annotations

import re
from datetime import timedelta

__all__ = ["DURATION_PATTERN", "format_duration", "parse_duration"]

DURATION_PATTERN = r"(0|[1-9][0-9]{0,8})[smhdw]"
# Ten years: longer is a slip of the hand, not a schedule.
MAX_DURATION = timedelta(days=3660)

_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_UNIT_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_duration(text: str) -> timedelta | None:
    """Return the span that *text* says, or None where it says none or one beyond ten years."""
    if _DURATION.fullmatch(text) is None:
        return None
    span = timedelta(seconds=int(text[:-1]) * _UNIT_SECONDS[text[-1]])
    return span if span <= MAX_DURATION else None


def format_duration(span: timedelta) -> str:
    """Return *span* in the largest unit up to days that divides it; parts of a second are cut."""
    seconds = int(span.total_seconds())
    if seconds == 0:
        return "0s"
    # Weeks are read but not written: `90d` beside `2w` is harder to compare.
    for unit in "dhms":
        if seconds % _UNIT_SECONDS[unit] == 0:
            return f"{seconds // _UNIT_SECONDS[unit]}{unit}"
    return f"{seconds}s"
