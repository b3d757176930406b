"""
Is the audit log whole? Main chain, checkpoints, read log and an outside witness, in one pass.

What could not be looked at is listed in the report as skipped, with the reason,
and a report of nothing says so: neither is ever the same as a sound log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from keyturn._internal.database import Database
from keyturn.audit.anchors import Anchors, lost, verify_segment
from keyturn.audit.chain import Position, broken
from keyturn.audit.checkpoint import CheckpointVerifier
from keyturn.audit.log import AuditLog
from keyturn.audit.segment import Walk
from keyturn.audit.segments import load_segment, segment_files
from keyturn.audit.spans import verify_chain
from keyturn.core.clock import SystemClock
from keyturn.errors import IntegrityError

__all__ = ["Report", "SegmentsReport", "verify_log", "verify_segments"]


@dataclass(frozen=True, slots=True)
class SegmentsReport:
    """
    What was looked at in the read log.

    Args:
        sealed: Torn tails that a repair sealed off.
        lines: Lines in all segments, headers not counted.
        unanchored: Lines after the last anchor, which nothing outside the read log vouches for.
    """

    segments: int = 0
    lines: int = 0
    sealed: int = 0
    unanchored: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """
    What was verified; there is one only where all of it held.

    Args:
        verified_up_to: The last record of the chain, and its hash in `head`.
        signed_up_to: The last record that a checked signature vouches for.
        skipped: What was not looked at, and why.
    """

    records: int
    verified_up_to: int
    head: str
    checkpoints: int
    signed_up_to: int
    anchors: int
    read_log: SegmentsReport
    skipped: tuple[str, ...] = field(default=())

    @property
    def nothing_checked(self) -> bool:
        """Whether there was nothing there to check, which is not the same as a sound log."""
        return self.records == 0 and self.read_log.lines == 0

    @property
    def unsigned(self) -> int:
        """How many records come after the last checked signature."""
        return self.verified_up_to - self.signed_up_to


def verify_log(
    database: Database,
    segments: Path | None,
    *,
    store_id: str,
    public_key: bytes | None,
    witness: Position | None = None,
) -> Report:
    """
    Check the whole audit log of *database*, streaming.

      1. every record of the main chain
      2. every signed checkpoint against the chain
      3. the outside witness against the chain
      4. every segment of the read log, and every anchor of it

    Args:
        segments: The folder of the read log, or None to leave it out.
        public_key: Whose checkpoints are believed, or None to leave them out.
        witness: Where the chain stood when it was last remembered outside of the store.

    Raises:
        IntegrityError: The first bad place that was found, named in message and context.
        StoreError: Something could not be read, so nothing is known.
    """
    log = AuditLog(database, clock=SystemClock(), store_id=store_id)
    anchors, skipped = Anchors(), []
    # Read before the chain, which only grows meanwhile.
    checkpoints = list(log.checkpoints())
    verifier = CheckpointVerifier(store_id=store_id, public_key=public_key, head_at=log.head_at)
    # 1. and 2.
    end = verify_chain(
        database,
        store_id=store_id,
        found=anchors.add,
        meanwhile=lambda: verifier.check_all(checkpoints),
    )
    if public_key is None:
        skipped.append("checkpoints: no public key was given")
    # 3.
    if witness is None:
        skipped.append("rollback: no head was remembered outside of the store")
    else:
        check_witness(witness, end, log.head_at(witness.seq))
    # 4.
    if segments is None:
        skipped.append("read log: no folder was given")
        found = SegmentsReport()
    else:
        found = verify_segments(segments, store_id=store_id, log=log, anchors=anchors)
    return Report(
        records=end.seq,
        verified_up_to=end.seq,
        head=end.head.hex(),
        checkpoints=verifier.count,
        signed_up_to=verifier.signed_up_to,
        anchors=anchors.count,
        read_log=found,
        skipped=tuple(skipped),
    )


def check_witness(witness: Position, end: Position, head: bytes | None) -> None:
    """
    Check that the chain has the head that was remembered outside.

    Raises:
        IntegrityError: It ends before it, or has another head there.
    """
    if witness.seq > end.seq or head is None:
        raise broken("cut", end.seq + 1, f"record {witness.seq} was seen before and is gone")
    if head != witness.head:
        what = "it has another hash than it had when it was last seen"
        raise broken("replaced", witness.seq, what)


def verify_segments(
    folder: Path, *, store_id: str, log: AuditLog, anchors: Anchors
) -> SegmentsReport:
    """
    Check every segment in *folder*, that none is missing, and that every anchor holds.

    Raises:
        IntegrityError: The first bad place; a lost segment is named by its number.
        Unavailable: A file cannot be read.
    """
    files = segment_files(folder)
    check_numbers([number for number, _ in files], anchors)
    found, previous = SegmentsReport(), None
    for number, path in files:
        name, data = load_segment(number, path)
        seen = verify_segment(
            data,
            name=name,
            segment=number,
            store_id=store_id,
            previous=previous,
            anchors=anchors,
            head_at=log.head_at,
        )
        previous = seen.head
        found = add_segment(found, number, seen, anchors)
    return found


def add_segment(found: SegmentsReport, number: int, seen: Walk, anchors: Anchors) -> SegmentsReport:
    """Return *found* with segment *number*, which was verified as *seen*, counted in."""
    # An anchor vouches for all before it, earlier segments included: each header
    # holds the last hash of the segment before.
    anchored = anchors.last_line(number)
    unanchored = found.unanchored + seen.lines if anchored is None else seen.lines - anchored
    return SegmentsReport(
        segments=found.segments + 1,
        lines=found.lines + seen.lines,
        sealed=found.sealed + seen.sealed,
        unanchored=unanchored,
    )


def check_numbers(numbers: list[int], anchors: Anchors) -> None:
    """
    Check that the segments that are there are all that there must be.

    Raises:
        IntegrityError: One that is anchored, or stands between others, is missing.
    """
    missing = set(anchors.segments) - set(numbers)
    if missing:
        raise lost(min(missing))
    for before, after in pairwise([0, *numbers]):
        if after != before + 1:
            raise IntegrityError(
                f"segment {before + 1} of the read log is missing before segment {after}",
                hint="put it back from a backup or an exported copy",
                code="audit.lost",
                context={"segment": before + 1},
            )
