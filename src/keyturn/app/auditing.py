"""Use cases on the audit log: show, verify, export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from keyturn._internal import durable
from keyturn.app.session import Session
from keyturn.audit import (
    Action,
    Entry,
    Outcome,
    Position,
    Report,
    Selection,
    as_json,
    export_log,
    read_all,
    verify_export,
    verify_log,
)
from keyturn.errors import UsageError
from keyturn.stores import read_anchor

__all__ = ["AuditFilter", "LogRow", "export", "show_log", "verify", "verify_file"]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records are wanted; None asks nothing."""

    action: str | None = None
    subject: str | None = None
    actor: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class LogRow:
    """One record, for a table and for JSON."""

    place: str
    time: str
    actor: str
    action: str
    subject: str
    outcome: str
    detail: str
    document: dict[str, Any]


def show_log(session: Session, wanted: AuditFilter) -> list[LogRow]:
    """
    Return the newest records that *wanted* asks for, newest first, main chain and read log as one.

    Raises:
        UsageError: The outcome is not one.
        IntegrityError: A record cannot be read.
    """
    outcomes: frozenset[Outcome] = frozenset()
    if wanted.outcome is not None:
        try:
            outcomes = frozenset({Outcome(wanted.outcome)})
        except ValueError:
            known = ", ".join(f"`{outcome}`" for outcome in Outcome)
            raise UsageError("the outcome is not known", hint=f"use one of {known}") from None
    selection = Selection(
        actions=frozenset() if wanted.action is None else frozenset({wanted.action}),
        object=wanted.subject,
        actor=wanted.actor,
        outcomes=outcomes,
        since=wanted.since,
        until=wanted.until,
    )
    session.access.read(Action.AUDIT_READ, "audit")
    found = read_all(session.audit.log, session.paths.audit, selection, limit=wanted.limit)
    return [_row(entry) for entry in found]


def _row(entry: Entry) -> LogRow:
    record = entry.record
    detail = " ".join(f"{name}={value}" for name, value in record.detail.items())
    if record.reason:
        detail = f"{detail} reason={record.reason!r}".strip()
    place = str(record.seq) if entry.log == "main" else f"{entry.log}:{record.seq}"
    return LogRow(
        place=place,
        time=record.time,
        actor=record.actor.name,
        action=record.action,
        subject=record.object,
        outcome=str(record.outcome),
        detail=detail or "-",
        document={"log": entry.log, **as_json(record)},
    )


def verify(session: Session) -> Report:
    """
    Verify chain, checkpoints, read log and rollback anchor, then sign the head.

    Raises:
        IntegrityError: The first bad place.
    """
    anchor = read_anchor(session.keys).anchor
    report = verify_log(
        session.database,
        session.paths.audit,
        store_id=session.store_id,
        public_key=session.public_key,
        witness=None if anchor is None else Position(anchor.seq, anchor.hash),
    )
    session.access.read(
        Action.AUDIT_VERIFY, "audit", detail={"records": report.records, "head": report.head}
    )
    session.audit.log.checkpoint()
    session.audit.write_anchor()
    return report


def verify_file(path: Path, *, public_key: str | None) -> Report:
    """
    Verify an exported bundle, offline.

    Args:
        public_key: The key that must have signed it, in hex; None believes the bundle's own.

    Raises:
        IntegrityError: The first bad place.
        UsageError: *public_key* is no key, or the file cannot be read.
    """
    try:
        pinned = None if public_key is None else bytes.fromhex(public_key)
    except ValueError:
        raise UsageError("the public key is not hexadecimal") from None
    try:
        with path.open("rb") as stream:
            return verify_export(stream, public_key=pinned)
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}") from error


def export(session: Session, path: Path) -> int:
    """
    Write the whole log to *path*, which must not exist; return the bytes written.

    Crash safety:
        Until it is whole it has another name, so a bundle is never half.
    """
    session.access.read(Action.AUDIT_EXPORT, "audit", detail={"file": path.name})
    session.audit.log.checkpoint()
    session.audit.write_anchor()
    size = 0
    with _whole_or_absent(path) as part, part.open("xb") as stream:
        for line in export_log(
            session.database,
            session.paths.audit,
            store_id=session.store_id,
            public_key=session.public_key,
            clock=session.clock,
        ):
            size += stream.write(line)
    return size


@contextmanager
def _whole_or_absent(path: Path) -> Iterator[Path]:
    part = path.with_name(f"{path.name}.part")
    try:
        # What an export left that was killed.
        part.unlink(missing_ok=True)
        yield part
        part.rename(path)
        durable.sync_directory(path.parent)
    except OSError as error:
        raise UsageError(f"`{path}` cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
