"""
Append one line to the read log, from a process that has no time for anything else.

`keyturn.fast` writes here before a value leaves, so this module imports what that
path may import and nothing more. It only appends to a segment that is in order;
whatever else it meets (absent, torn, full, foreign) it refuses, and the caller
takes the slow path, which finds out what is wrong. The format of a segment, its
repair and its verification stand in `keyturn.audit.segment`.

System calls of `append`: openat(O_RDWR|O_APPEND), flock, fstat, stat, pread of
head and tail, one write, fdatasync, close (which unlocks). Who owns the file and
who may write it is looked at on the way.
"""

import os
import time
from fcntl import LOCK_EX, LOCK_NB, flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from hashlib import sha256
else:
    try:
        from _sha256 import sha256
    except ImportError:
        try:
            from _sha2 import sha256
        except ImportError:
            from hashlib import sha256

__all__ = [
    "HASH_DIGITS",
    "HEADER_START",
    "LINE_START",
    "MAX_LINE_BYTES",
    "MAX_SEGMENT_BYTES",
    "OPEN_SAFELY",
    "SegmentUnfit",
    "append",
    "hash_of",
    "last_line",
    "lock",
    "number_of",
    "quoted",
    "record",
    "sha256",
]

# A segment beyond this is closed by the slow path; see `keyturn.audit.segments`.
MAX_SEGMENT_BYTES = 4 * 1024 * 1024
MAX_LINE_BYTES = 65_536
HEADER_START = b' {"v":1,"n":0,"format":"keyturn-audit-segment",'
LINE_START = b' {"v":1,"n":'
HASH_DIGITS = 64
# Not blocking: what was put in a segment's place, such as a pipe, is not waited for.
OPEN_SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_LOCK_SECONDS = 5.0
_LOCK_PAUSE_SECONDS = 0.0005
_REOPENINGS = 8
_TAIL_BYTES = 4_096
_KIND_AND_WRITERS = 0o170022  # the file's kind, and who beside its owner may write it
_PLAIN_FILE = 0o100000

# Set by tests alone, to `keyturn._internal.failpoints.hit`: this path imports no failpoints.
_hit: "Callable[[str], None] | None" = None


class SegmentUnfit(OSError):
    """The segment cannot take a line from here; nothing was written. The slow path can say why."""


def record(state: str, action: str, subject: str, versions: str, **more: str) -> None:
    """
    Append a line that says what is about to leave, and make it durable.

    Args:
        state: The project's state folder.
        versions: `NAME=NUMBER` of each secret that leaves.
        more: Further members of the line, by name.

    Raises:
        OSError: As `append`.
    """
    seconds = time.time()  # noqa: TID251 - the clock seam's module imports datetime
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fields = {"action": action, "object": subject, "versions": versions, **more}
    text = ",".join([f'"{name}":{quoted(value)}' for name, value in fields.items()])
    append(
        f"{state}/audit/reads.log",
        f'"time":"{moment}.{int(seconds % 1 * 1e6):06d}Z","uid":{os.getuid()},'
        f'"pid":{os.getpid()},{text}'.encode("ascii"),
    )


def quoted(text: str) -> str:
    """Return *text* as a JSON string; it rarely needs escaping, and then imports nothing."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    from _json import encode_basestring_ascii

    # Bytes that were not UTF-8 have no place in JSON: they are written out.
    return encode_basestring_ascii(text.encode("utf-8", "backslashreplace").decode())


def append(path: str, fields: bytes) -> None:
    """
    Append one line to the segment at *path* and make it durable.

    Args:
        fields: The members of a JSON object, without its braces, in one line of
            UTF-8: `"time":"...","uid":0,"pid":1,"action":"...","object":"..."`.

    Raises:
        SegmentUnfit: The segment is torn, full, foreign, open to others, or stayed locked.
        OSError: It is absent or the disk refused. What was written, if anything,
            is not acknowledged: the action must not happen on the strength of it.

    Crash safety:
        Durable on return. Before that: nothing, the line, or a torn part of it,
        which the slow path seals off.
    """
    if b"\n" in fields or not fields.startswith(b'"'):
        raise ValueError("the members of an audit line are one line that starts with a name")
    deadline = time.monotonic() + _LOCK_SECONDS
    for _ in range(_REOPENINGS):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | OPEN_SAFELY)
        try:
            lock(descriptor, LOCK_EX, deadline)
            found = os.fstat(descriptor)
            # Between open and lock the slow path may have put a new segment in this place.
            if os.path.samestat(found, os.stat(path)):  # noqa: PTH116 - pathlib is not on this path
                _append_locked(descriptor, found, fields)
                return
        finally:
            os.close(descriptor)
    raise SegmentUnfit("the segment was replaced again and again")


def lock(descriptor: int, kind: int, deadline: float) -> None:
    """
    Take the lock *kind* on *descriptor*, or give up at *deadline* of the monotonic clock.

    A holder that was stopped would else stop every reader of a secret with it.

    Raises:
        SegmentUnfit: It stayed locked.
    """
    while True:
        try:
            flock(descriptor, kind | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise SegmentUnfit("the segment stayed locked") from None
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return


def last_line(descriptor: int, size: int) -> bytes:
    """
    Return the last line of a segment of *size* bytes, without its newline.

    Raises:
        SegmentUnfit: The last line has no end, no form, or is longer than any of ours.
    """
    for reach in (_TAIL_BYTES, MAX_LINE_BYTES + 1):
        start = max(0, size - reach)
        tail = os.pread(descriptor, size - start, start)
        if tail[-1:] != b"\n":
            break
        cut = tail.rfind(b"\n", 0, -1)
        if cut >= 0 or start == 0:
            line = tail[cut + 1 : -1]
            if line[HASH_DIGITS:].startswith(LINE_START) and line.endswith(b"}"):
                return line
            break
    raise SegmentUnfit("the last line of the segment is torn")


def number_of(line: bytes) -> int:
    """Return the number of a segment's line; raises SegmentUnfit where it has none."""
    start = HASH_DIGITS + len(LINE_START)
    digits = line[start : line.find(b",", start)]
    if not digits.isdigit():
        raise SegmentUnfit("the last line of the segment has no number")
    return int(digits)


def hash_of(line: bytes) -> bytes:
    """Return the hash that a segment's line starts with; raises SegmentUnfit where it has none."""
    try:
        return bytes.fromhex(line[:HASH_DIGITS].decode("ascii"))
    except ValueError:
        raise SegmentUnfit("the last line of the segment has no hash") from None


def _append_locked(descriptor: int, found: os.stat_result, fields: bytes) -> None:
    if found.st_mode & _KIND_AND_WRITERS != _PLAIN_FILE or found.st_uid != os.geteuid():
        raise SegmentUnfit("the segment is no plain file, or not ours alone to write")
    if found.st_size > MAX_SEGMENT_BYTES:
        raise SegmentUnfit("the segment is full")
    head = os.pread(descriptor, HASH_DIGITS + len(HEADER_START), 0)
    if head[HASH_DIGITS:] != HEADER_START:
        raise SegmentUnfit("the file is no segment")
    last = last_line(descriptor, found.st_size)
    body = LINE_START[1:] + b"%d," % (number_of(last) + 1) + fields + b"}"
    line = sha256(hash_of(last) + body).hexdigest().encode("ascii") + b" " + body + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise SegmentUnfit("the line is too long")
    _point("fastaudit.write")
    if os.write(descriptor, line) != len(line):
        raise OSError(28, os.strerror(28))  # ENOSPC, as a short write means on a file
    _point("fastaudit.written")
    os.fdatasync(descriptor)
    _point("fastaudit.synced")


def _point(name: str) -> None:
    if _hit is not None:
        _hit(name)
