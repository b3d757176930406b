"""The main chain and the read log, shown as the one log that they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keyturn.audit import segment as form
from keyturn.audit.log import AuditLog
from keyturn.audit.record import Record
from keyturn.audit.segments import load_segment, segment_files
from keyturn.audit.selection import Selection

__all__ = ["Entry", "read_all", "user_name"]


@dataclass(frozen=True, slots=True)
class Entry:
    """
    A record and where it stands.

    Args:
        log: `main`, or `segment/N` for the read log; `record.seq` counts within it.
    """

    log: str
    record: Record


def read_all(
    log: AuditLog,
    folder: Path,
    selection: Selection | None = None,
    *,
    limit: int | None = None,
    newest_first: bool = True,
    name_of: Callable[[int], str] | None = None,
) -> Iterator[Entry]:
    """
    Yield what *selection* accepts from both logs, merged by time.

    Within each log the order is that of the numbers, whatever the clock did. What
    an append left torn is not shown.

    Args:
        limit: At most so many.
        name_of: Turns a user id of the read log into a name; the system's users by default.

    Raises:
        IntegrityError: A record cannot be read, or a segment has no header.
        Unavailable: A file cannot be read.
    """
    wanted = selection or Selection()
    main = (Entry("main", record) for record in log.read(newest_first=newest_first))
    lines = _lines(folder, newest_first=newest_first, name_of=name_of or user_name)
    left = limit
    for entry in _merged(main, lines, newest_first=newest_first):
        if left is not None and left <= 0:
            return
        if wanted.accepts(entry.record):
            yield entry
            left = None if left is None else left - 1


def user_name(uid: int) -> str:
    """Return the name that the system's user database has for *uid*, or `uid N`."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"


def _lines(folder: Path, *, newest_first: bool, name_of: Callable[[int], str]) -> Iterator[Entry]:
    files = segment_files(folder)
    names = _Remembered(name_of)
    for number, path in reversed(files) if newest_first else files:
        name, data = load_segment(number, path)
        bodies = form.walk(data, name=name).bodies[1:]
        for body in reversed(bodies) if newest_first else bodies:
            yield Entry(f"segment/{number}", form.line_record(body, names.__getitem__))


class _Remembered(dict[int, str]):
    # The user database may be a server far away: it is asked once a user.
    def __init__(self, name_of: Callable[[int], str]) -> None:
        super().__init__()
        self._name_of = name_of

    def __missing__(self, uid: int) -> str:
        self[uid] = self._name_of(uid)
        return self[uid]


def _merged(
    main: Iterator[Entry], lines: Iterator[Entry], *, newest_first: bool
) -> Iterator[Entry]:
    # Not heapq.merge: it wants each side sorted by time, and a clock can be set back.
    one, other = next(main, None), next(lines, None)
    while one is not None and other is not None:
        if (one.record.time >= other.record.time) == newest_first:
            yield one
            one = next(main, None)
        else:
            yield other
            other = next(lines, None)
    if one is not None:
        yield one
    yield from main
    if other is not None:
        yield other
    yield from lines
