"""
The audit log as one file that can be verified anywhere, without store or keys.

A bundle is JSON lines, in this order:

    {"type":"bundle","format":"keyturn-audit-bundle","v":1,"store":"...",
     "public_key":"hex" or null,"time":"..."}
    {"type":"checkpoint","seq":N,"body":"...","signature":"hex"}             each checkpoint
    {"type":"record","hash":"hex","record":"..."}                            each record
    {"type":"segment","segment":N,"name":"..."}                              each segment, and
    {"type":"line","line":"..."} or {"type":"line","base64":"..."}           each of its lines
    {"type":"end","records":N,"checkpoints":N,"segments":N,"lines":N}

`record`, `body` and `line` hold the stored bytes as text, so that what is hashed
and signed comes back byte for byte; torn bytes that are no text come as base64.
A bundle without its last line was cut. It holds no value, as the log holds none.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from keyturn._internal.database import Database
from keyturn.audit.anchors import WATCH, Anchors, verify_segment
from keyturn.audit.chain import HASH_BYTES, Position, Row, genesis, verify_rows
from keyturn.audit.checkpoint import Checkpoint, CheckpointVerifier
from keyturn.audit.log import AuditLog
from keyturn.audit.parsing import parsed
from keyturn.audit.segment import damaged, walk
from keyturn.audit.segments import load_segment, segment_files
from keyturn.audit.verify import (
    Report,
    SegmentsReport,
    add_segment,
    check_numbers,
    check_witness,
)
from keyturn.core.clock import Clock, rfc3339
from keyturn.errors import IntegrityError

__all__ = ["export_log", "verify_export"]

FORMAT = "keyturn-audit-bundle"
_MAX_LINE_BYTES = 1_048_576
_BATCH = 512
_HINT = "ask for the bundle again; the copy may have been cut or changed on its way"


def export_log(
    database: Database,
    segments: Path,
    *,
    store_id: str,
    public_key: bytes | None,
    clock: Clock,
) -> Iterator[bytes]:
    """
    Yield the lines of a bundle.

    Nothing is verified but that the read log is whole, so that a broken log can be
    exported as evidence too.

    Raises:
        IntegrityError: A record is no text, or a segment is torn and not yet repaired.
        StoreError: Something could not be read.
    """
    key = None if public_key is None else public_key.hex()
    yield _json(
        type="bundle", format=FORMAT, v=1, store=store_id, public_key=key, time=rfc3339(clock.now())
    )
    counts = {"records": 0, "checkpoints": 0, "segments": 0, "lines": 0}
    for checkpoint in AuditLog(database, clock=clock, store_id=store_id).checkpoints():
        counts["checkpoints"] += 1
        body = _text(checkpoint.body, f"checkpoint {checkpoint.seq}")
        yield _json(
            type="checkpoint", seq=checkpoint.seq, body=body, signature=checkpoint.signature.hex()
        )
    for batch in database.stream("SELECT seq, record, hash FROM audit ORDER BY seq"):
        for seq, record, head in batch:
            counts["records"] += 1
            yield _json(type="record", hash=head.hex(), record=_text(record, f"record {seq}"))
    for number, path in segment_files(segments):
        name, data = load_segment(number, path)
        found = walk(data, name=name)
        if found.torn:
            raise damaged(name, found)
        counts["segments"] += 1
        yield _json(type="segment", segment=number, name=name)
        for line in data.split(b"\n")[:-1]:
            counts["lines"] += 1
            yield _line_of(line)
    yield _json(type="end", **counts)


def _json(**members: str | int | None) -> bytes:
    return msgspec.json.encode(members) + b"\n"


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise IntegrityError(
            f"{what} of the audit chain is no text, so it was changed",
            hint="run `keyturn audit verify`",
            code="audit.unreadable",
        ) from None


def _line_of(line: bytes) -> bytes:
    try:
        return _json(type="line", line=line.decode("utf-8"))
    except UnicodeDecodeError:
        return _json(type="line", base64=base64.b64encode(line).decode("ascii"))


def verify_export(
    stream: BinaryIO, *, public_key: bytes | None = None, witness: Position | None = None
) -> Report:
    """
    Check a bundle, with nothing else at hand.

      1. it is a bundle, for the key that is expected
      2. every record follows the one before
      3. every checkpoint is signed, and the chain has the head that was signed
      4. the witness, if one is given, finds its head
      5. every segment is whole, and every anchor finds its hash
      6. the bundle is complete

    Args:
        public_key: Whose checkpoints are believed. Without it the bundle's own key is
            used, which shows damage but no forgery, and the report says so.

    Raises:
        IntegrityError: The first bad place that was found.
    """
    return _BundleReader(stream).verify(public_key, witness)


class _BundleReader:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._number = 0
        self._next: dict[str, Any] = {}
        self._counts = {"records": 0, "checkpoints": 0, "segments": 0, "lines": 0}
        self._heads = bytearray()
        self._skipped: list[str] = []

    def verify(self, public_key: bytes | None, witness: Position | None) -> Report:
        # 1.
        self._advance()
        store_id, key = self._head(public_key)
        checkpoints = [self._checkpoint(item) for item in self._while("checkpoint")]
        # 2.
        anchors, start = Anchors(), genesis(store_id)
        self._heads.extend(start.head)
        end = verify_rows(self._rows(), start=start, watch=WATCH, found=anchors.add)
        # 3.
        verifier = CheckpointVerifier(store_id=store_id, public_key=key, head_at=self._head_at)
        verifier.check_all(checkpoints)
        # 4.
        if witness is None:
            self._skipped.append("rollback: no head was remembered outside of the store")
        else:
            check_witness(witness, end, self._head_at(witness.seq))
        # 5.
        found = self._segments(store_id, anchors)
        # 6.
        self._finish()
        return Report(
            records=end.seq,
            verified_up_to=end.seq,
            head=end.head.hex(),
            checkpoints=verifier.count,
            signed_up_to=verifier.signed_up_to,
            anchors=anchors.count,
            read_log=found,
            skipped=tuple(self._skipped),
        )

    def _head(self, pinned: bytes | None) -> tuple[str, bytes | None]:
        item = self._next
        if item.get("type") != "bundle" or item.get("format") != FORMAT:
            raise self._bad("it is no bundle of an audit log")
        if item.get("v") != 1:
            raise self._bad("its format is not known; a newer Keyturn may know it")
        store_id, own = item.get("store"), self._bytes(item, "public_key", optional=True)
        if not isinstance(store_id, str):
            raise self._bad("it names no store")
        self._advance()
        if pinned is not None:
            if own is not None and own != pinned:
                raise self._bad("its public key is not the one that was expected")
            return store_id, pinned
        if own is None:
            self._skipped.append("checkpoints: neither you nor the bundle gave a public key")
        else:
            self._skipped.append("forgery: no public key was given, so the bundle's own was used")
        return store_id, own

    def _checkpoint(self, item: dict[str, Any]) -> Checkpoint:
        self._counts["checkpoints"] += 1
        seq, body = item.get("seq"), item.get("body")
        if not isinstance(seq, int) or not isinstance(body, str):
            raise self._bad("a checkpoint has no number or no body")
        return Checkpoint(seq, body.encode("utf-8"), self._bytes(item, "signature") or b"")

    def _rows(self) -> Iterator[list[Row]]:
        batch: list[Row] = []
        for item in self._while("record"):
            self._counts["records"] += 1
            head, record = self._bytes(item, "hash") or b"", item.get("record")
            if not isinstance(record, str) or len(head) != HASH_BYTES:
                raise self._bad("a record has no text or no hash")
            batch.append((self._counts["records"], record.encode("utf-8"), head))
            # The heads are kept packed, for the checkpoints and segments that name them.
            self._heads.extend(head)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        yield batch

    def _head_at(self, seq: int) -> bytes | None:
        found = bytes(self._heads[seq * HASH_BYTES : (seq + 1) * HASH_BYTES])
        return found if seq >= 0 and len(found) == HASH_BYTES else None

    def _segments(self, store_id: str, anchors: Anchors) -> SegmentsReport:
        found, previous, numbers = SegmentsReport(), None, []
        for item in self._while("segment"):
            self._counts["segments"] += 1
            number, name = item.get("segment"), item.get("name")
            if not isinstance(number, int) or not isinstance(name, str):
                raise self._bad("a segment has no number or no name")
            numbers.append(number)
            seen = verify_segment(
                b"".join(self._lines()),
                name=name,
                segment=number,
                store_id=store_id,
                previous=previous,
                anchors=anchors,
                head_at=self._head_at,
            )
            previous = seen.head
            found = add_segment(found, number, seen, anchors)
        check_numbers(numbers, anchors)
        return found

    def _lines(self) -> Iterable[bytes]:
        for item in self._while("line"):
            self._counts["lines"] += 1
            text = item.get("line")
            try:
                line = (
                    text.encode("utf-8")
                    if isinstance(text, str)
                    else base64.b64decode(str(item.get("base64")), validate=True)
                )
            except ValueError:
                raise self._bad("a line is no text and no base64") from None
            if b"\n" in line:
                raise self._bad("a line holds a newline")
            yield line + b"\n"

    def _finish(self) -> None:
        if self._next != {"type": "end", **self._counts}:
            raise self._bad("it is not complete, or its parts are out of order")
        if self._stream.read(1):
            raise self._bad("something follows its end")

    def _while(self, kind: str) -> Iterator[dict[str, Any]]:
        while self._next.get("type") == kind:
            item = self._next
            self._advance()
            yield item

    def _advance(self) -> None:
        line = self._stream.readline(_MAX_LINE_BYTES + 1)
        self._number += 1
        if not line.endswith(b"\n"):
            raise self._bad(
                "it ends too early" if len(line) <= _MAX_LINE_BYTES else "it is too long"
            )
        try:
            self._next = parsed(line, dict[str, Any])
        except ValueError:
            raise self._bad("it is not JSON") from None

    def _bytes(self, item: dict[str, Any], name: str, *, optional: bool = False) -> bytes | None:
        text = item.get(name)
        if text is None and optional:
            return None
        try:
            return bytes.fromhex(str(text))
        except ValueError:
            raise self._bad(f"`{name}` is not hexadecimal") from None

    def _bad(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"the audit bundle does not hold at line {self._number}: {what}",
            hint=_HINT,
            code="audit.bundle",
            context={"line": self._number},
        )
