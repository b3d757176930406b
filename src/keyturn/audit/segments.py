"""
The read log's files: created, repaired, anchored and closed by the slow path.

`reads.log` is the segment that the fast path appends to; a full one keeps its
content under the name `reads-NNNNNN.log`. Everything that changes a file here
holds the control database's write lock first and the segment's own lock second,
always in this order; the fast path takes only the second, and only for one line.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_SH
from pathlib import Path

from keyturn import _fastaudit
from keyturn._internal import durable, failpoints
from keyturn._internal.database import Database
from keyturn.audit import segment as form
from keyturn.audit.events import Action, Event, Facts, Outcome
from keyturn.audit.log import AuditLog
from keyturn.audit.record import Record
from keyturn.core.clock import Clock
from keyturn.core.model import Principal
from keyturn.errors import AccessDenied, IntegrityError, InternalError, Unavailable

__all__ = ["Segments", "load_segment", "read_segment", "segment_files"]

CURRENT = "reads.log"
# The fast path refuses to grow a segment beyond 4 MiB; repairs add a few lines at most.
MAX_READ_BYTES = 4 * _fastaudit.MAX_SEGMENT_BYTES
_CLOSED = re.compile(r"reads-([0-9]{6,12})\.log", re.ASCII)
_LOCK_SECONDS = 5.0
_BUSY = "audit.busy"
_TORN = "audit.torn"


def closed_name(number: int) -> str:
    """Return the name that segment *number* has once it is closed."""
    return f"reads-{number:06d}.log"


def segment_files(folder: Path) -> list[tuple[int, Path]]:
    """
    Return number and path of every segment in *folder*, in order; the current one by its header.

    Raises:
        IntegrityError: The current file has no header, or is no plain file.
        AccessDenied: It belongs to another user, or others may write it.
        Unavailable: The folder or the file cannot be read.
    """
    with _translated(folder):
        if not folder.is_dir():
            return []
        found = {
            int(match[1]): entry
            for entry in folder.iterdir()
            if (match := _CLOSED.fullmatch(entry.name))
        }
        current = folder / CURRENT
        if current.exists():
            number = form.walk(_first_line(current), name=CURRENT).header.segment
            # While a segment is being closed it has both names for a moment.
            if number in found and not found[number].samefile(current):
                raise IntegrityError(
                    f"`{CURRENT}` and `{found[number].name}` both claim to be segment {number}",
                    hint="one of them was put there; compare both with a backup",
                    code="audit.inserted",
                    context={"segment": number},
                )
            found[number] = current
    return sorted(found.items())


def read_segment(path: Path) -> bytes:
    """
    Return the content of a segment, read while nobody appends to it.

    Raises:
        IntegrityError: It is larger than any segment of ours, or no plain file.
        AccessDenied: It belongs to another user, or others may write it.
        Unavailable: It cannot be read, or stays locked.
    """
    with _opened(path, LOCK_SH) as descriptor:
        return _content(descriptor, path.name)


def load_segment(number: int, path: Path) -> tuple[str, bytes]:
    """
    Return name and content of segment *number*, which `segment_files` saw at *path*.

    Where the current segment was closed in between, it is read under its new name.
    """
    data = read_segment(path)
    if path.name == CURRENT and form.walk(data, name=CURRENT).header.segment != number:
        path = path.with_name(closed_name(number))
        data = read_segment(path)
    return path.name, data


class Segments:
    """
    The slow path's hold on the read log.

    Args:
        folder: `.keyturn/audit`.
        actor: Who the records about segments name.
        patience_seconds: How long to wait for a process that holds the current segment.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database: Database,
        log: AuditLog,
        clock: Clock,
        actor: Principal,
        source: Facts,
        patience_seconds: float = _LOCK_SECONDS,
    ) -> None:
        self._patience_seconds = patience_seconds
        self._folder = folder
        self._database = database
        self._log = log
        self._clock = clock
        self._actor = actor
        self._source = source

    @property
    def current(self) -> Path:
        """The file that the fast path appends to."""
        return self._folder / CURRENT

    def maintain(self) -> list[str]:
        """
        Leave the read log so that the fast path can append: there, whole, not full, anchored.

        Meant for the start of every slow command. Costs three small reads where
        nothing has to be done.

        Returns:
            What was out of order and is now dealt with, for a person to read.

        Raises:
            IntegrityError: Something was changed or cut; nothing was repaired over it.
            AccessDenied: The segment belongs to another user, or others may write it.
            Unavailable: The disk refused.
        """
        notices: list[str] = []
        try:
            self._maintain(notices)
        except Unavailable as error:
            # A reader that was stopped in mid-append must not stop a rotation too.
            if error.code != _BUSY:
                raise
            notices.append(error.message)
        return notices

    def _maintain(self, notices: list[str]) -> None:
        if not self.current.exists():
            created = self.create_segment()
            if created > 1:
                notices.append(f"the read log was missing; segment {created} was started")
        elif self._is_torn() and self.repair():
            notices.append("the read log had a torn tail, which was sealed off")
        with _translated(self.current):
            full = self.current.stat().st_size > _fastaudit.MAX_SEGMENT_BYTES
        if full:
            self.rotate()
        else:
            self.anchor()

    def create_segment(self) -> int:
        """
        Start a segment where there is no current one, and return the current one's number.

        A segment that is anchored but gone is not replaced: the new one takes the
        next number, and `verify` goes on naming the lost one.

        Crash safety:
            Durable on return. Before that: no current segment, or the new one,
            which the next `maintain` anchors.

        Audit:
            `audit.segment.create`, in the transaction.
        """
        with self._changing():
            with _translated(self._folder):
                durable.create_directory(self._folder, mode=0o700)
            files = segment_files(self._folder)
            if self.current.exists():
                return files[-1][0]
            number = max(files[-1][0] if files else 0, self._log.last_segment()) + 1
            self._start(number, self._last_head_of(number - 1, files))
            return number

    def _last_head_of(self, number: int, files: list[tuple[int, Path]]) -> bytes | None:
        if number == 0:
            return None
        path = dict(files).get(number)
        if path is not None:
            return form.walk(read_segment(path), name=path.name).head
        anchor = self._log.last_anchor(number)
        return None if anchor is None else anchor.head

    def _start(self, number: int, previous: bytes | None) -> None:
        # The head before this transaction, which nothing can take back any more.
        main = self._committed_head
        line, head = form.header_line(
            store_id=self._log.store_id,
            segment=number,
            main_seq=main.seq,
            main_head=main.head,
            previous=previous,
            time=self._clock.now(),
        )
        with _translated(self.current):
            durable.replace(self.current, line, mode=0o600, point="segment.create")
        self._record(Action.SEGMENT_CREATE, number, form.anchor_detail(number, 0, head))

    def repair(self) -> bool:
        """
        Seal off a torn tail; return False where there was none.

        Raises:
            IntegrityError: What is wrong does not come from an append that died.

        Crash safety:
            Durable on return. Before that: torn as before, or torn and longer, or sealed.

        Audit:
            `audit.segment.repair` with length and SHA-256 of the torn bytes, in the
            transaction, and the same in the segment itself.
        """
        with self._changing(), self._held(LOCK_EX) as descriptor:
            found = form.walk(_content(descriptor, CURRENT), name=CURRENT)
            if found.ended and not found.rest:
                return False
            number = found.header.segment
            if not found.torn or self._anchored_lines(number) > found.lines:
                raise form.damaged(CURRENT, found)
            line, detail = form.repair_line(found, time=self._clock.now())
            failpoints.hit("segment.seal")
            _write(descriptor, line)
            failpoints.hit("segment.sealed")
            self._record(Action.SEGMENT_REPAIR, number, detail)
            return True

    def anchor(self) -> Record | None:
        """
        Write the segment's head into the main chain, where it has grown since the last time.

        May be called inside a transaction.

        Raises:
            IntegrityError: The segment ends before its last anchor, or differs there.

        Audit:
            `audit.segment.anchor` with number, lines and hash.
        """
        # A glance first, so that a command that finds nothing new takes no write lock.
        if not self._has_grown():
            return None
        with self._database.transaction():
            if not self._has_grown():
                return None
            # An append that died before its sync may be in memory only, and an anchor
            # must not outlive what it anchors.
            number, lines, head = self._tail(sync=True)
            detail = form.anchor_detail(number, lines, head)
            return self._record(Action.SEGMENT_ANCHOR, number, detail)

    def _has_grown(self) -> bool:
        # The anchor is read before the tail: another process may append in between,
        # and anchor what it appended, and neither makes the segment look cut.
        last = self._log.last_anchor(self._tail()[0])
        number, lines, head = self._tail()
        if last is None or last.segment != number or lines > last.lines:
            return True
        if lines < last.lines or head != last.head:
            raise IntegrityError(
                f"the read log `{CURRENT}` ends at line {lines}, which is not what "
                f"record {last.seq} anchors (line {last.lines})",
                hint="run `keyturn audit verify`; keep the file as evidence",
                code="audit.cut",
                context={"segment": number, "line": lines},
            )
        return False

    def rotate(self) -> int:
        """
        Close the current segment and start the next; return the new one's number.

        Crash safety:
            Durable on return. Before that: the old segment, under one name or two,
            or the new one, which the next `maintain` anchors. At no moment is
            there no current segment.

        Audit:
            `audit.segment.rotate` and `audit.segment.create`, in the transaction.
        """
        with self._changing(), self._held(LOCK_EX) as descriptor:
            found = form.walk(_content(descriptor, CURRENT), name=CURRENT)
            if found.rest or not found.ended:
                raise form.damaged(CURRENT, found)
            with _translated(self.current):
                os.fdatasync(descriptor)
            number = found.header.segment
            detail = form.anchor_detail(number, found.lines, found.head)
            self._record(Action.SEGMENT_ROTATE, number, detail)
            closed = self._folder / closed_name(number)
            failpoints.hit("segment.close")
            with _translated(closed):
                if not (closed.exists() and closed.samefile(self.current)):
                    closed.hardlink_to(self.current)
                durable.sync_directory(self._folder)
            failpoints.hit("segment.closed")
            self._start(number + 1, found.head)
            return number + 1

    def _is_torn(self) -> bool:
        try:
            self._tail()
        except Unavailable as error:
            if error.code == _TORN:
                return True
            raise
        return False

    def _tail(self, *, sync: bool = False) -> tuple[int, int, bytes]:
        # Number of the segment, number and hash of its last line; a glance, not a check.
        with (
            self._held(LOCK_SH) as descriptor,
            _translated(self.current, unfit=_TORN),
        ):
            size = os.fstat(descriptor).st_size
            line = _fastaudit.last_line(descriptor, size)
            first = os.pread(descriptor, _fastaudit.MAX_LINE_BYTES, 0).partition(b"\n")[0]
            number, head = _fastaudit.number_of(line), _fastaudit.hash_of(line)
            if sync:
                os.fdatasync(descriptor)
        return form.walk(first + b"\n", name=CURRENT).header.segment, number, head

    def _held(self, kind: int) -> contextlib.AbstractContextManager[int]:
        return _opened(self.current, kind, seconds=self._patience_seconds)

    def _anchored_lines(self, number: int) -> int:
        last = self._log.last_anchor(number)
        return -1 if last is None else last.lines

    def _record(self, action: Action, number: int, detail: Facts) -> Record:
        event = Event(
            action=action,
            object=f"segment/{number}",
            outcome=Outcome.DONE,
            actor=self._actor,
            source=self._source,
            detail=detail,
        )
        return self._log.record_anchor(event, number)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        if self._database.in_transaction:
            # A file is changed for good here; a caller's transaction could still be undone.
            raise InternalError("the read log is maintained outside of any transaction")
        with self._database.transaction():
            self._committed_head = self._log.head()
            yield


@contextlib.contextmanager
def _opened(path: Path, kind: int, *, seconds: float = _LOCK_SECONDS) -> Iterator[int]:
    """Open the file that *path* names and hold its lock, for as long as the block runs."""
    with _translated(path):
        descriptor = _locked(path, kind, seconds)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(path: Path, kind: int, seconds: float) -> int:
    descriptor = _plain(path, os.O_RDWR | os.O_APPEND if kind == LOCK_EX else os.O_RDONLY)
    try:
        _fastaudit.lock(descriptor, kind, time.monotonic() + seconds)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _plain(path: Path, flags: int) -> int:
    """Open the segment *path*, which only we may write; nothing else in its place is waited for."""
    descriptor = os.open(path, flags | _fastaudit.OPEN_SAFELY)
    try:
        _check_kept(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_kept(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise IntegrityError(
            f"the read log `{path.name}` is no plain file",
            hint=f"see what it is and move it away: `ls -l {path}`; the next command starts "
            "another segment, and `keyturn audit verify` tells what is lost",
            code="audit.inserted",
            context={"file": path.name},
        )
    if found.st_uid != os.geteuid():
        raise AccessDenied(
            f"the read log `{path}` belongs to uid {found.st_uid}, and you are {os.geteuid()}",
            hint="run the command as the owner of the project, who should own this file too",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise AccessDenied(f"others may write to the read log `{path}`", hint=f"`chmod 600 {path}`")


def _content(descriptor: int, name: str) -> bytes:
    size = os.fstat(descriptor).st_size
    if size > MAX_READ_BYTES:
        raise IntegrityError(
            f"the read log `{name}` has {size} bytes, more than Keyturn ever writes into one",
            hint="keep the file as evidence and compare with a backup",
            code="audit.inserted",
            context={"file": name},
        )
    parts, offset = [], 0
    with _translated(Path(name)):
        while part := os.pread(descriptor, 1 << 20, offset):
            parts.append(part)
            offset += len(part)
    return b"".join(parts)


def _write(descriptor: int, data: bytes) -> None:
    with _translated(Path(CURRENT)):
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)


def _first_line(path: Path) -> bytes:
    descriptor = _plain(path, os.O_RDONLY)
    try:
        line, newline, _ = os.pread(descriptor, _fastaudit.MAX_LINE_BYTES, 0).partition(b"\n")
        return line + newline
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(path: Path, *, unfit: str = _BUSY) -> Iterator[None]:
    try:
        yield
    except _fastaudit.SegmentUnfit as error:
        raise Unavailable(
            f"the read log `{path.name}` cannot be used now: {error}",
            hint="wait for other keyturn processes to end, then run `keyturn audit verify`",
            code=unfit,
        ) from error
    except OSError as error:
        raise Unavailable(
            f"the read log `{path.name}` failed: {error.strerror}",
            hint="look at free space and permissions of the project's `.keyturn/audit`",
        ) from error
