"""
What the main chain says of the segments, and a segment held against it.

An anchor is a record of the main chain that names a segment, a line of it, and
the hash at that line. The first is written when the segment is started, another
whenever a slow command finds that it has grown, the last when it is closed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import NamedTuple

from keyturn.audit.record import Record, decode
from keyturn.audit.segment import HINT, Walk, broken, damaged, walk
from keyturn.errors import IntegrityError

__all__ = ["WATCH", "Anchor", "Anchors", "lost", "read_anchor", "verify_segment"]

# How the actions that anchor a segment begin in the bytes of a record.
WATCH = b'"audit.segment.'


class Anchor(NamedTuple):
    """One anchor: record *seq* says that line *lines* of *segment* has the hash *head*."""

    seq: int
    segment: int
    lines: int
    head: bytes


def read_anchor(record: Record, seq: int) -> Anchor | None:
    """
    Return the anchor that *record* holds, or None where it is about something else.

    Raises:
        IntegrityError: It says that it is an anchor and does not read like one.
    """
    if not record.action.startswith("audit.segment."):
        return None
    segment, lines = record.detail.get("segment"), record.detail.get("lines")
    head = _hash_or_none(record.detail.get("head"))
    if not isinstance(segment, int) or not isinstance(lines, int) or head is None or lines < 0:
        raise IntegrityError(
            f"audit record {seq} is no readable anchor of a segment",
            hint=HINT,
            code="audit.unreadable",
            context={"seq": seq},
        )
    return Anchor(seq, segment, lines, head)


def _hash_or_none(text: object) -> bytes | None:
    try:
        found = bytes.fromhex(str(text))
    except ValueError:
        return None
    return found if len(found) == sha256().digest_size else None


class Anchors:
    """
    The anchors of every segment, as the main chain names them.

    Kept packed, because a busy project has one for every few records.
    """

    _PACKED = struct.Struct(">QQ32s")

    def __init__(self) -> None:
        self._found: dict[int, bytearray] = {}
        self.count = 0

    def add(self, seq: int, raw: bytes) -> None:
        """
        Take the anchor from the bytes of record *seq*, where it holds one.

        Raises:
            IntegrityError: It says that it is an anchor and does not read like one.
        """
        anchor = read_anchor(decode(raw), seq)
        if anchor is None:
            return
        packed = self._PACKED.pack(seq, anchor.lines, anchor.head)
        self._found.setdefault(anchor.segment, bytearray()).extend(packed)
        self.count += 1

    @property
    def segments(self) -> list[int]:
        """The numbers of the segments that have anchors, in order."""
        return sorted(self._found)

    def last_line(self, segment: int) -> int | None:
        """Return the last line of *segment* that is anchored, or None where none is."""
        return max((line for _, line, _ in self.of(segment)), default=None)

    def of(self, segment: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield record number, line and hash of each anchor of *segment*."""
        yield from self._PACKED.iter_unpack(self._found.get(segment, b""))


def verify_segment(
    data: bytes,
    *,
    name: str,
    segment: int,
    store_id: str,
    previous: bytes | None,
    anchors: Anchors,
    head_at: Callable[[int], bytes | None],
) -> Walk:
    """
    Check one segment whole.

      1. its header is sound and speaks of this store and this number
      2. it follows the segment before it
      3. it was started from a head that the main chain has
      4. every line follows the one before, and every torn tail is sealed off
      5. every anchor finds its hash at its line

    Args:
        previous: The last hash of the segment before, or None for the first.
        head_at: Returns the main chain's hash at a number, or None beyond its end.

    Raises:
        IntegrityError: `segment` and `line` in the context name the first bad place.
    """
    # 1.
    found = walk(data, name=name)
    header = found.header
    if header.store != store_id:
        raise broken(name, 0, f"it belongs to another store, `{header.store}`", "replaced")
    if header.segment != segment:
        what = f"it is segment {header.segment}, where {segment} belongs"
        raise broken(name, 0, what, "missing")
    # 2.
    if header.previous != (None if previous is None else previous.hex()):
        what = f"it does not follow segment {segment - 1} as that one ends"
        raise broken(name, 0, what, "replaced")
    # 3.
    main_head = head_at(header.main_seq)
    if main_head is None or main_head.hex() != header.main_head:
        what = f"the main chain does not have the record {header.main_seq} it was started from"
        raise broken(name, 0, what, "replaced")
    # 4.
    if found.rest or not found.ended:
        raise damaged(name, found)
    # 5.
    for seq, line, head in anchors.of(segment):
        if line > found.lines:
            what = (
                f"it ends at line {found.lines}, but record {seq} anchors line {line}: it was cut"
            )
            raise broken(name, found.lines + 1, what, "cut")
        if found.heads[line] != head:
            what = f"line {line} or one before it is not the one that record {seq} anchors"
            raise broken(name, line, what, "replaced")
    return found


def lost(segment: int) -> IntegrityError:
    """Return the error for a segment that is anchored and nowhere to be found."""
    return IntegrityError(
        f"segment {segment} of the read log is missing, and the main chain anchors it",
        hint="put `reads-NNNNNN.log` back from a backup or an exported copy",
        code="audit.lost",
        context={"segment": segment},
    )
