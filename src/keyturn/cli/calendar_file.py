"""
The due dates as an iCalendar file (RFC 5545), to subscribe to: one event a secret.

An event keeps its UID for as long as the secret has its name, so that a rotation moves
it and leaves no second one behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from keyturn.app.inspection import StatusRow
from keyturn.manifest import Priority

__all__ = ["calendar_text"]

_LINE_BYTES = 75
# RFC 5545, 3.8.1.9: 1 is the highest, 9 the lowest.
_PRIORITIES = {Priority.CRITICAL: 1, Priority.HIGH: 3, Priority.MEDIUM: 5, Priority.LOW: 9}


def calendar_text(
    project: str, environment: str, rows: Sequence[StatusRow], *, now: datetime
) -> str:
    """Return one all-day event for each of *rows* that has a due date."""
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Keyturn//keyturn status//EN",
        "CALSCALE:GREGORIAN",
        f"X-WR-CALNAME:{_escaped(f'Rotations of {project}, {environment}')}",
    ]
    for row in rows:
        if row.due_at is not None:
            lines += _event(project, environment, row, row.due_at, now)
    lines.append("END:VCALENDAR")
    return "".join(f"{part}\r\n" for line in lines for part in _folded(line))


def _event(
    project: str, environment: str, row: StatusRow, due: datetime, now: datetime
) -> Iterator[str]:
    secret = row.secret
    day = due.astimezone(UTC).date()
    yield "BEGIN:VEVENT"
    yield f"UID:{environment}.{secret.name}@{_uid_part(project)}.keyturn"
    yield f"DTSTAMP:{_stamp(now)}"
    if row.created_at is not None:
        yield f"LAST-MODIFIED:{_stamp(row.created_at)}"
    yield f"SEQUENCE:{row.version or 0}"
    yield f"DTSTART;VALUE=DATE:{day:%Y%m%d}"
    yield f"DTEND;VALUE=DATE:{day + timedelta(days=1):%Y%m%d}"
    yield f"SUMMARY:{_escaped(f'Rotate {environment}/{secret.name} ({secret.kind})')}"
    yield f"DESCRIPTION:{_escaped(_description(environment, row))}"
    yield f"PRIORITY:{_PRIORITIES[secret.priority]}"
    yield "CATEGORIES:keyturn"
    yield "TRANSP:TRANSPARENT"
    yield "END:VEVENT"


def _description(environment: str, row: StatusRow) -> str:
    secret = row.secret
    lines = [secret.purpose] if secret.purpose else []
    if secret.owner:
        lines.append(f"Owner: {secret.owner}")
    if row.consumers:
        lines.append(f"Used by: {', '.join(row.consumers)}")
    if row.overdue_at is not None:
        lines.append(f"Overdue from: {row.overdue_at.astimezone(UTC):%Y-%m-%d}")
    command = "rotate" if secret.spec.rotates else "set"
    lines.append(f"keyturn {command} {secret.name} -e {environment}")
    return "\n".join(lines)


def _uid_part(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in text)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _escaped(text: str) -> str:
    # RFC 5545, 3.3.11; of control characters a text has none but the newline.
    for plain, escaped in (("\\", "\\\\"), (";", "\\;"), (",", "\\,"), ("\n", "\\n")):
        text = text.replace(plain, escaped)
    return "".join(c if c.isprintable() else "?" for c in text)


def _folded(line: str) -> Iterator[str]:
    """Yield *line* in pieces of at most 75 bytes, each after the first with a blank before it."""
    piece, size = "", 0
    for character in line:
        more = len(character.encode())
        if size + more > _LINE_BYTES:
            yield piece
            piece, size = " ", 1
        piece += character
        size += more
    yield piece
