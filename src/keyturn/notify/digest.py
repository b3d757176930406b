"""
The words of a notice: plain text that somebody woken by it can act on.

Names, times and commands go in, and never a value: nothing here can hold one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from keyturn.core.model import SecretRef
from keyturn.notify.channel import Message
from keyturn.notify.levels import Level

__all__ = ["MAX_NOTICES", "Notice", "compose", "moment", "span"]

# What follows is counted: nobody reads more, and pagers cut long texts.
MAX_NOTICES = 20
_MAX_TEXT = 300
_MAX_CONSUMERS = 5
# Of these `since` is the due date: still to come, or past.
_COMING = frozenset({Level.WEEK, Level.FORTNIGHT})
_PAST = frozenset({Level.DUE, Level.OVERDUE})


@dataclass(frozen=True, slots=True)
class Notice:
    """
    One thing that somebody should know.

    Args:
        about: What it is told once of: `v3` for a version, or a rotation's id.
        text: What is the matter, and since when.
        command: What to do, as it is typed.
        since: When it began or will begin; the oldest of a level come first.
        place: The secret's own place in the order; lower comes first.
    """

    ref: SecretRef
    level: Level
    about: str
    text: str
    command: str
    since: datetime
    owner: str | None = None
    consumers: Sequence[str] = ()
    place: int = 0

    @property
    def todo(self) -> str:
        """What to do and by when, in a few words: `rotate db by 2026-01-02 (7-days)`."""
        words = self.command.split()
        verb = "resume" if "--resume" in words else "end" if "--give-up" in words else words[1]
        until = f"by {self.since:%Y-%m-%d}" if self.level in _COMING else "now"
        if self.level in _PAST:
            until = f"now, due since {self.since:%Y-%m-%d}"
        return f"{verb} {self.ref.name} {until} ({self.level})"

    @property
    def order(self) -> tuple[int, int, datetime, str]:
        """By what a digest is sorted."""
        return (self.level.urgency, self.place, self.since, self.ref.name)


def compose(
    notices: Sequence[Notice],
    *,
    project: str,
    environment: str,
    where: str,
    message_id: str,
    at: datetime,
) -> Message:
    """
    Return one message of all *notices*, the most urgent first.

    Args:
        where: On which machine and in which folder the commands are run.
    """
    ordered = sorted(notices, key=lambda notice: notice.order)
    counts = Counter(notice.level for notice in ordered)
    summary = ", ".join(f"{counts[level]} {level}" for level in Level if counts[level])
    blocks = [f"{project}, environment {environment}, {moment(at)}: {summary}"]
    blocks += [_block(notice) for notice in ordered[:MAX_NOTICES]]
    if len(ordered) > MAX_NOTICES:
        more = len(ordered) - MAX_NOTICES
        blocks.append(f"... and {more} more: keyturn status -e {environment}")
    blocks.append(f"Run the commands {where}.")
    return Message(
        subject=f"keyturn {project}/{environment}: {_heading(ordered)}",
        body="\n\n".join(blocks) + "\n",
        id=message_id,
        at=at,
        is_urgent=any(notice.level.urgency <= Level.OVERDUE.urgency for notice in ordered),
    )


def _heading(ordered: Sequence[Notice]) -> str:
    first, rest = ordered[0].todo, Counter(notice.level for notice in ordered[1:])
    if not rest:
        return first
    counts = ", ".join(f"{rest[level]} {level}" for level in Level if rest[level])
    return f"{first}; {rest.total()} more: {counts}"


def _block(notice: Notice) -> str:
    lines = [f"{notice.level.upper()}  {notice.ref}: {_line(notice.text)}"]
    shown = list(notice.consumers[:_MAX_CONSUMERS])
    if len(notice.consumers) > len(shown):
        shown.append(f"{len(notice.consumers) - len(shown)} more")
    used = f"used by {', '.join(shown)}" if shown else "used by no consumer"
    lines.append(f"  owner {_line(notice.owner or 'nobody')}; {used}")
    until = f", by {moment(notice.since)}" if notice.level in _COMING else ", now"
    lines.append(f"  do{until}: {notice.command}")
    return "\n".join(lines)


def _line(text: str) -> str:
    """Return *text* in one line of bounded length, without what could drive a terminal."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    joined = " ".join(plain.split())
    return joined if len(joined) <= _MAX_TEXT else joined[: _MAX_TEXT - 3] + "..."


def moment(when: datetime) -> str:
    """Return *when* to the minute, in UTC: `2026-01-02 03:04 UTC`."""
    return f"{when:%Y-%m-%d %H:%M} UTC"


def span(delta: timedelta) -> str:
    """Return *delta* in words: `14 days`, `1 hour`, `under an hour`."""
    seconds = abs(delta.total_seconds())
    for word, size in (("day", 86_400), ("hour", 3_600)):
        count = int(seconds // size)
        if count:
            return f"{count} {word}{'s' if count > 1 else ''}"
    return "under an hour"
