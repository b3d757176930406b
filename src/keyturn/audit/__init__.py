"""
The audit log: records in a hash chain, signed checkpoints, and the fast path's read log.

A record is made from an `Event` and is durable before the action that it allows.
It has no place for a value. The names load on first use, because a command that
only records needs neither the reader nor the verifier.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyturn.audit.chain import Position, genesis
    from keyturn.audit.checkpoint import CHECKPOINT_EVERY, Signer, checkpoint_due
    from keyturn.audit.events import Action, Event, Facts, Outcome
    from keyturn.audit.export import export_log, verify_export
    from keyturn.audit.log import AuditLog
    from keyturn.audit.reading import Entry, read_all
    from keyturn.audit.record import Record, as_json
    from keyturn.audit.segments import Segments
    from keyturn.audit.selection import Selection
    from keyturn.audit.verify import Report, SegmentsReport, verify_log

__all__ = [
    "CHECKPOINT_EVERY",
    "Action",
    "AuditLog",
    "Entry",
    "Event",
    "Facts",
    "Outcome",
    "Position",
    "Record",
    "Report",
    "Segments",
    "SegmentsReport",
    "Selection",
    "Signer",
    "as_json",
    "checkpoint_due",
    "export_log",
    "genesis",
    "read_all",
    "verify_export",
    "verify_log",
]

_HOMES = {
    "chain": ("Position", "genesis"),
    "checkpoint": ("CHECKPOINT_EVERY", "Signer", "checkpoint_due"),
    "events": ("Action", "Event", "Facts", "Outcome"),
    "export": ("export_log", "verify_export"),
    "log": ("AuditLog",),
    "reading": ("Entry", "read_all"),
    "record": ("Record", "as_json"),
    "segments": ("Segments",),
    "selection": ("Selection",),
    "verify": ("Report", "SegmentsReport", "verify_log"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"keyturn.audit.{home}"), name)
    raise AttributeError(f"module 'keyturn.audit' has no attribute {name!r}")
