"""
The whole main chain, verified on two processors where there are two.

A chain need not be followed from its start: each record is held against the
stored hash before it, so a second process can take the later part, and the two
parts join where the first ends on the hash from which the second set out. The
second process only saves time. Whatever it does other than answer that all is
well, this process verifies that part itself and raises what it finds.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from keyturn._internal.database import Database
from keyturn.audit.anchors import WATCH
from keyturn.audit.chain import HASH_BYTES, Position, broken, genesis, verify_rows

__all__ = ["verify_chain"]

# Below this a second process costs more than it saves.
_WORTH_SHARING = 50_000
# The first process has the signatures to check as well, which cost half as much as
# the records do, so it takes fewer of these.
_FIRST_SHARE = 1 / 3
_SPAN = "SELECT seq, record, hash FROM audit WHERE seq > ? AND seq <= ? ORDER BY seq"
_BATCH = 512

Found = Callable[[int, bytes], None]


def verify_chain(
    database: Database,
    *,
    store_id: str,
    found: Found,
    meanwhile: Callable[[], None],
    share: bool = True,
) -> Position:
    """
    Check every record up to the one that is the last now, and return where that is.

    Args:
        found: Called with number and bytes of each record that may anchor a segment.
        meanwhile: Called once, when this process has nothing to do but wait for the
            other; other checks that raise where they fail.
        share: Use a second process where that is faster.

    Raises:
        IntegrityError: `seq` in the context names the first bad place.
    """
    start = genesis(store_id)
    last = int(database.one("SELECT coalesce(max(seq), 0) FROM audit")[0])
    middle = int(last * _FIRST_SHARE)
    row = database.row("SELECT hash FROM audit WHERE seq = ?", (middle,))
    if not share or last < _WORTH_SHARING or row is None or not _may_fork():
        end = _verify_span(database, start, last, found)
        meanwhile()
        return end
    second = _Second(database.path, Position(middle, row[0]), last)
    try:
        reached = _verify_span(database, start, middle, found)
        meanwhile()
        if reached != second.start or (answer := second.answer()) is None:
            return _verify_span(database, reached, last, found)
    finally:
        second.end()
    for seq in answer.watched:
        found(seq, database.one("SELECT record FROM audit WHERE seq = ?", (seq,))[0])
    return Position(last, answer.head)


def _may_fork() -> bool:
    # A copy of a process with several threads can hang on a lock that another thread held.
    return len(os.sched_getaffinity(0)) > 1 and threading.active_count() == 1


def _verify_span(database: Database, start: Position, last: int, found: Found) -> Position:
    # Closed at once where it fails: a query left half read would go on showing the
    # state of that moment to everybody who asks on this connection.
    with closing(database.stream(_SPAN, (start.seq, last), batch=_BATCH)) as rows:
        end = verify_rows(rows, start=start, watch=WATCH, found=found)
    if end.seq != last:
        raise broken("missing", end.seq + 1, f"record {end.seq + 1} is missing")
    return end


class _Answer(NamedTuple):
    head: bytes
    watched: list[int]


class _Second:
    """A copy of this process that verifies from *start* to *last* and answers over a pipe."""

    def __init__(self, path: Path, start: Position, last: int) -> None:
        self.start = start
        self._pipe, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            # Nothing of the parent's may be touched or closed here, least of all its
            # database connection, so this process ends without any clearing up.
            status = 1
            try:
                with os.fdopen(write, "wb") as pipe:
                    pipe.write(_work(path, start, last))
                status = 0
            finally:
                os._exit(status)
        os.close(write)

    def answer(self) -> _Answer | None:
        """Return what the other process found, or None where it did not find all well."""
        with os.fdopen(os.dup(self._pipe), "rb") as pipe:
            raw = pipe.read()
        if len(raw) < HASH_BYTES or len(raw) % 8:
            return None
        if os.waitstatus_to_exitcode(self._wait()) != 0:
            return None
        return _Answer(raw[:HASH_BYTES], [n for (n,) in struct.iter_unpack(">Q", raw[HASH_BYTES:])])

    def end(self) -> None:
        """End the other process, whatever it does, and forget it."""
        os.close(self._pipe)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()

    def _wait(self) -> int:
        pid, self._pid = self._pid, 0
        return os.waitpid(pid, 0)[1]


def _work(path: Path, start: Position, last: int) -> bytes:
    watched = bytearray()
    with Database.open(path, read_only=True) as database:
        end = _verify_span(
            database, start, last, lambda seq, _: watched.extend(struct.pack(">Q", seq))
        )
    return end.head + bytes(watched)
