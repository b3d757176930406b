"""Whether this machine's clock was set back, told by the records that are there already."""

from __future__ import annotations

from datetime import timedelta

from keyturn.audit import AuditLog
from keyturn.core.clock import Clock
from keyturn.errors import KeyturnError

__all__ = ["clock_note", "time_ahead"]

# A leap, a slow virtual machine or two of its processes are no wrong clock.
_TOLERANCE = timedelta(minutes=5)


def time_ahead(log: AuditLog, clock: Clock, *, records: int) -> timedelta | None:
    """
    Return how far the latest of the last *records* lies in the future; None where none does.

    Not the very last alone: that may be by the clock that is wrong.
    """
    last = log.head().seq
    found = [log.at(seq) for seq in range(max(1, last - records + 1), last + 1)]
    moments = [record.moment for record in found if record is not None]
    ahead = max(moments) - clock.now() if moments else timedelta(0)
    return ahead if ahead > _TOLERANCE else None


def clock_note(log: AuditLog, clock: Clock) -> str | None:
    """Return what to warn a person of before anything is stamped; None where all is well."""
    # Few, because every command that opens the store asks.
    try:
        ahead = time_ahead(log, clock, records=20)
    except KeyturnError:
        # A damaged record is for `audit verify` and `doctor` to tell, not for every command.
        return None
    if ahead is None:
        return None
    return (
        f"the clock of this machine is {int(ahead.total_seconds())} seconds behind the audit log: "
        "correct it first, or ages and due dates of what is written now will be wrong"
    )
