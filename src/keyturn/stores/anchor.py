"""
The rollback anchor: how far the audit chain had come, kept away from the store.

Whoever puts an old copy of the store back brings an old chain with it; the
anchor, in the key home folder, remembers a later record. One line of a fixed
length, written in place:

    keyturn-anchor-1 STORE-ID SEQ(20 digits) HASH(hex) CHECKSUM(16 hex digits)

It is written after the commit it speaks of and not synced: it may lag, and a
torn write is seen by the checksum; it never leads. It is no proof against
somebody who can write both folders; it is one against a backup restored by
mistake and a store put back by whoever holds only the project folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from keyturn.errors import IntegrityError, Unavailable

__all__ = ["Anchor", "AnchorReading", "AnchorState", "check_anchor", "read_anchor", "write_anchor"]

_NAME = "anchor"
_MARK = "keyturn-anchor-1"
_LINE = re.compile(
    rf"({_MARK} ([0-9a-f]{{32}}) (\d{{20}}) ([0-9a-f]{{64}})) ([0-9a-f]{{16}})\n", re.ASCII
)
_LENGTH = len(_MARK) + 1 + 32 + 1 + 20 + 1 + 64 + 1 + 16 + 1

_PUT_BACK = (
    "restore the newest copy, or accept this one with"
    " `keyturn doctor --accept-rollback --reason WHY`; if the project's folder was copied"
    " with its `.keyturn`, both copies share one key folder and refuse each other: move"
    " `.keyturn` away in the copy and run `keyturn init` there"
)


@dataclass(frozen=True, slots=True)
class Anchor:
    """
    A record that the audit chain is known to have held.

    Args:
        hash: The record's SHA-256.
    """

    store_id: str
    seq: int
    hash: bytes


class AnchorState(StrEnum):
    """What was found where the anchor should be."""

    PRESENT = "present"
    MISSING = "missing"
    TORN = "torn"


@dataclass(frozen=True, slots=True)
class AnchorReading:
    """*anchor* is None unless *state* is `present`."""

    state: AnchorState
    anchor: Anchor | None = None


def write_anchor(home: Path, anchor: Anchor) -> None:
    """
    Remember *anchor* in the folder *home*; call it after the commit, never before.

    Raises:
        Unavailable: The file cannot be written; the store itself is unharmed.

    Crash safety:
        The old line, the new one, or one that reads as torn.
    """
    body = f"{_MARK} {anchor.store_id} {anchor.seq:020d} {anchor.hash.hex()}"
    line = f"{body} {_checksum(body)}\n".encode("ascii")
    # Not blocking, here and in reading: a pipe in the file's place would be waited for.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        # A path in plain text: this runs after every commit, and `Path` costs as much again.
        descriptor = os.open(f"{home}/{_NAME}", flags, 0o600)
        try:
            os.pwrite(descriptor, line, 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unavailable(
            f"the rollback anchor in `{home}` cannot be written: {error.strerror}",
            hint="check the folder's permissions and free space",
            code="anchor.unavailable",
        ) from error


def read_anchor(home: Path) -> AnchorReading:
    """
    Return the anchor in the folder *home*, or why there is none.

    Raises:
        Unavailable: There is a file and it cannot be read.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(home / _NAME, flags)
    except FileNotFoundError:
        return AnchorReading(AnchorState.MISSING)
    except OSError as error:
        raise Unavailable(
            f"the rollback anchor in `{home}` cannot be read: {error.strerror}",
            hint="check the folder's permissions",
            code="anchor.unavailable",
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unavailable(
                f"the rollback anchor in `{home}` is no plain file",
                hint=f"see what it is and remove it: `ls -l {home / _NAME}`; it is written anew",
                code="anchor.unavailable",
            )
        data = os.read(descriptor, _LENGTH + 1)
    finally:
        os.close(descriptor)
    found = _LINE.fullmatch(data.decode("ascii", "replace"))
    if found is None or _checksum(found[1]) != found[5]:
        return AnchorReading(AnchorState.TORN)
    return AnchorReading(
        AnchorState.PRESENT, Anchor(found[2], int(found[3]), bytes.fromhex(found[4]))
    )


def check_anchor(
    anchor: Anchor, *, store_id: str, max_seq: int, hash_at: Callable[[int], bytes | None]
) -> None:
    """
    Check that the store still holds the record that *anchor* remembers.

    Args:
        max_seq: The last record in the store; 0 when there is none.
        hash_at: Returns the stored hash of a record, or None.

    Raises:
        IntegrityError: The chain is shorter than it was (`store.rolled_back`), or
            another record stands at the anchor's place (`store.replaced`).
    """
    if anchor.store_id != store_id:
        raise IntegrityError(
            f"the rollback anchor is of store {anchor.store_id}, not of store {store_id}",
            hint="each store has its own folder in the key home: look which of the two was moved",
            code="store.replaced",
        )
    if anchor.seq > max_seq:
        raise IntegrityError(
            f"the store was put back: its audit log ends at record {max_seq},"
            f" and had reached record {anchor.seq}",
            hint=_PUT_BACK,
            code="store.rolled_back",
            context={"found": max_seq, "expected": anchor.seq},
        )
    if hash_at(anchor.seq) != anchor.hash:
        raise IntegrityError(
            f"the store was put back or replaced: its audit record {anchor.seq} of {max_seq}"
            " is not the one that was written",
            hint=_PUT_BACK,
            code="store.rolled_back",
            context={"found": max_seq, "expected": anchor.seq},
        )


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
