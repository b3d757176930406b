"""
The audit log in the control database: append, read, sign.

A record is written in the transaction of the change that it describes. If it
cannot be written, the transaction fails, and with it the change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from keyturn._internal.database import Database
from keyturn.audit.anchors import Anchor, read_anchor
from keyturn.audit.chain import Position, genesis, link, verify_rows
from keyturn.audit.checkpoint import Checkpoint, Signer, checkpoint_due, make_checkpoint
from keyturn.audit.events import Event, Outcome
from keyturn.audit.record import Record, build, decode
from keyturn.audit.selection import Selection
from keyturn.core.clock import Clock
from keyturn.errors import IntegrityError

__all__ = ["AuditLog"]

_PAGE = 512
_CLOSING = frozenset({Outcome.DONE, Outcome.FAILED, Outcome.DENIED})


class AuditLog:
    """
    Args:
        store_id: Where the chain starts, and what its checkpoints speak of.
        signer: Signs a checkpoint in the transaction of every 256th record. Without
            one the records wait for the next log that has one.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        store_id: str,
        signer: Signer | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._store_id = store_id
        self._signer = signer
        self._written: Position | None = None

    @property
    def store_id(self) -> str:
        """The store whose log this is."""
        return self._store_id

    def record(self, event: Event) -> Record:
        """
        Append *event*, in the transaction that is open or in its own.

        Raises:
            IntegrityError: A checkpoint is due, and what it would sign does not hold.
            StoreError: It could not be written. Do not act.

        Crash safety:
            Durable with the outermost transaction. Before that: nothing of it.
        """
        with self._database.transaction():
            last, signed_up_to = self._end()
            record, raw = build(event, seq=last.seq + 1, time=self._clock.now())
            position = Position(record.seq, link(last.head, raw))
            self._database.execute(
                "INSERT INTO audit (seq, record, hash) VALUES (?, ?, ?)",
                (position.seq, raw, position.head),
            )
            self._written = position
            self._point(event, position.seq)
            if self._signer is not None and checkpoint_due(position.seq, signed_up_to=signed_up_to):
                self._sign(position, self._last_checkpoint(), self._signer)
            return record

    def _end(self) -> tuple[Position, int]:
        # One statement, since every record asks for both: the head, and the last that is signed.
        row = self._database.row(
            "SELECT seq, hash, (SELECT max(seq) FROM checkpoint) FROM audit"
            " ORDER BY seq DESC LIMIT 1"
        )
        return (genesis(self._store_id), 0) if row is None else (Position(*row[:2]), row[2] or 0)

    def _point(self, event: Event, seq: int) -> None:
        if event.settles is not None and event.outcome in _CLOSING:
            self._database.execute(
                "DELETE FROM audit_pointer WHERE kind = 'begun' AND key = ?", (event.settles,)
            )
        if event.outcome is Outcome.BEGUN and event.action.settles:
            self._database.execute(
                "INSERT INTO audit_pointer (kind, key, seq) VALUES ('begun', ?, ?)", (seq, seq)
            )

    def head(self) -> Position:
        """Return where the chain ends; number 0 where nothing was recorded yet."""
        row = self._database.row("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        return genesis(self._store_id) if row is None else Position(row[0], row[1])

    def written(self) -> Position:
        """
        Return where the record stands that this log wrote last; the head where it wrote none.

        For whoever is called after a commit with a record in it, and would read the
        database to learn what was known before. Other logs may have written since.
        """
        return self.head() if self._written is None else self._written

    def head_at(self, seq: int) -> bytes | None:
        """Return the hash of record *seq*, or None where there is no such record."""
        row = self._database.row("SELECT hash FROM audit WHERE seq = ?", (seq,))
        if row is None:
            return genesis(self._store_id).head if seq == 0 else None
        head: bytes = row[0]
        return head

    def at(self, seq: int) -> Record | None:
        """Return record *seq*, or None where there is no such record."""
        row = self._database.row("SELECT record FROM audit WHERE seq = ?", (seq,))
        return None if row is None else decode(row[0])

    def checkpoint(self) -> Position | None:
        """
        Sign the head now, unless it is signed already or nothing was recorded yet.

        Returns:
            What was signed, or None where there was nothing to sign.

        Raises:
            IntegrityError: The records since the last checkpoint do not hold.

        Crash safety:
            Durable on return. Before that: the checkpoint exists or it does not.
        """
        if self._signer is None:
            return None
        with self._database.transaction():
            position, last_signed = self.head(), self._last_checkpoint()
            if position.seq == (0 if last_signed is None else last_signed.seq):
                return None
            self._sign(position, last_signed, self._signer)
            return position

    def _sign(self, position: Position, last_signed: Checkpoint | None, signer: Signer) -> None:
        # A signature vouches for what stands before it, so that is looked at first:
        # whoever changed a record since the last checkpoint gets no signature for it.
        start = genesis(self._store_id)
        if last_signed is not None:
            head = self.head_at(last_signed.seq)
            if head is None:
                raise IntegrityError(
                    f"the audit chain was cut: checkpoint {last_signed.seq} has no record",
                    hint="run `keyturn audit verify`",
                    code="audit.cut",
                    context={"seq": last_signed.seq},
                )
            start = Position(last_signed.seq, head)
        sql = "SELECT seq, record, hash FROM audit WHERE seq > ? ORDER BY seq"
        with closing(self._database.stream(sql, (start.seq,))) as since:
            verify_rows(since, start=start)
        made = make_checkpoint(
            position,
            store_id=self._store_id,
            time=self._clock.now(),
            previous=last_signed,
            signer=signer,
        )
        self._database.execute(
            "INSERT INTO checkpoint (seq, body, signature) VALUES (?, ?, ?)",
            (made.seq, made.body, made.signature),
        )

    def _last_checkpoint(self) -> Checkpoint | None:
        row = self._database.row(
            "SELECT seq, body, signature FROM checkpoint ORDER BY seq DESC LIMIT 1"
        )
        return None if row is None else Checkpoint(*row)

    def checkpoints(self) -> Iterator[Checkpoint]:
        """Yield every checkpoint, oldest first."""
        for batch in self._database.stream(
            "SELECT seq, body, signature FROM checkpoint ORDER BY seq"
        ):
            for row in batch:
                yield Checkpoint(*row)

    def read(
        self,
        selection: Selection | None = None,
        *,
        limit: int | None = None,
        cursor: int | None = None,
        newest_first: bool = True,
    ) -> Iterator[Record]:
        """
        Yield the records that *selection* accepts, a page of the table at a time.

        Args:
            limit: At most so many.
            cursor: Go on after the record of this number, in the direction of reading.

        Raises:
            IntegrityError: A record cannot be read.
        """
        wanted = selection or Selection()
        left = limit
        for record in self._records(cursor, newest_first=newest_first):
            if left is not None and left <= 0:
                return
            if wanted.accepts(record):
                yield record
                left = None if left is None else left - 1

    def _records(self, cursor: int | None, *, newest_first: bool) -> Iterator[Record]:
        # A query a page, so that no read transaction stays open while the caller
        # shows what it got: one would keep the write-ahead log from being folded in.
        if newest_first:
            sql = "SELECT seq, record FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?"
            place = self.head().seq + 1 if cursor is None else cursor
        else:
            sql = "SELECT seq, record FROM audit WHERE seq > ? ORDER BY seq LIMIT ?"
            place = 0 if cursor is None else cursor
        while page := self._database.rows(sql, (place, _PAGE)):
            for seq, raw in page:
                yield decode(raw)
                place = seq

    def open_begun(self) -> list[Record]:
        """
        Return the records of changes that were begun and never settled, oldest first.

        Recovery asks for each what is true, and records that with `settles`.

        Raises:
            IntegrityError: What the table of open records points at is not one.
        """
        rows = self._database.rows(
            "SELECT p.key, a.record FROM audit_pointer p JOIN audit a ON a.seq = p.seq"
            " WHERE p.kind = 'begun' ORDER BY p.key"
        )
        found = [decode(raw) for _, raw in rows]
        for (key, _), record in zip(rows, found, strict=True):
            if record.seq != key or record.outcome is not Outcome.BEGUN:
                raise _misled(key)
        return found

    def last_anchor(self, segment: int) -> Anchor | None:
        """
        Return the newest anchor of a segment of the read log, or None.

        Raises:
            IntegrityError: What the pointer points at is no anchor of it.
        """
        row = self._database.row(
            "SELECT seq FROM audit_pointer WHERE kind = 'anchor' AND key = ?", (segment,)
        )
        if row is None:
            return None
        record = self.at(row[0])
        anchor = None if record is None else read_anchor(record, row[0])
        if anchor is None or anchor.segment != segment:
            raise _misled(row[0])
        return anchor

    def last_segment(self) -> int:
        """Return the highest segment number that has an anchor, or 0."""
        row = self._database.one("SELECT max(key) FROM audit_pointer WHERE kind = 'anchor'")
        return int(row[0] or 0)

    def record_anchor(self, event: Event, segment: int) -> Record:
        """Append *event*, which anchors *segment*; crash safety as of `record`."""
        with self._database.transaction():
            record = self.record(event)
            self._database.execute(
                "INSERT INTO audit_pointer (kind, key, seq) VALUES ('anchor', ?, ?)"
                " ON CONFLICT (kind, key) DO UPDATE SET seq = excluded.seq",
                (segment, record.seq),
            )
            return record


def _misled(seq: int) -> IntegrityError:
    return IntegrityError(
        f"the table of places in the audit chain points at record {seq}, which is not one of them",
        hint="run `keyturn audit verify`",
        code="audit.pointer",
        context={"seq": seq},
    )
