"""
Signed heads of the chain: what shows that a whole chain was replaced or cut.

The body is one line of JSON; what is signed is a mark that no other signed text
of ours starts with, then the body:

    "keyturn audit checkpoint 1" NUL
    {"v":1,"format":"keyturn-audit-checkpoint","store":"...","number":N,"seq":N,
     "head":"64 hex digits","time":"...","previous":N}

Checkpoints are numbered from 1 and each names the `seq` of the one before, so
that one taken from between is missed too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec

from keyturn.audit.chain import Position
from keyturn.audit.parsing import parsed
from keyturn.core.clock import rfc3339
from keyturn.errors import IntegrityError

__all__ = [
    "CHECKPOINT_EVERY",
    "Checkpoint",
    "CheckpointVerifier",
    "Signer",
    "checkpoint_due",
    "make_checkpoint",
]

CHECKPOINT_EVERY = 256
FORMAT = "keyturn-audit-checkpoint"
_DOMAIN = b"keyturn audit checkpoint 1\0"
_HINT = "keep the file as evidence and compare with an exported copy or a backup"


class Signer(Protocol):
    """Holds the private key of the checkpoints."""

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature of *message*."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint as it is stored."""

    seq: int
    body: bytes
    signature: bytes


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says, in the order of its bytes."""

    v: int
    format: str
    store: str
    number: int
    seq: int
    head: str
    time: str
    previous: int


def checkpoint_due(seq: int, *, signed_up_to: int) -> bool:
    """Tell whether record *seq* is the one that asks for the next signature."""
    return seq - signed_up_to >= CHECKPOINT_EVERY


def make_checkpoint(
    position: Position,
    *,
    store_id: str,
    time: datetime,
    previous: Checkpoint | None,
    signer: Signer,
) -> Checkpoint:
    """Return the signed checkpoint of *position*, after *previous*."""
    before = None if previous is None else read_body(previous)
    body = msgspec.json.encode(
        Body(
            v=1,
            format=FORMAT,
            store=store_id,
            number=1 if before is None else before.number + 1,
            seq=position.seq,
            head=position.head.hex(),
            time=rfc3339(time),
            previous=0 if before is None else before.seq,
        )
    )
    return Checkpoint(position.seq, body, signer.sign(_DOMAIN + body))


def read_body(checkpoint: Checkpoint) -> Body:
    """
    Return what *checkpoint* says, of which nothing is checked but the form.

    Raises:
        IntegrityError: It is not the body of a checkpoint that this Keyturn knows.
    """
    try:
        body = parsed(checkpoint.body, Body)
    except ValueError as error:
        raise _refused(checkpoint.seq, f"it cannot be read: {error}") from error
    if body.v != 1 or body.format != FORMAT:
        raise _refused(checkpoint.seq, "its format is not known; a newer Keyturn may know it")
    return body


class CheckpointVerifier:
    """
    Checks checkpoints one after the other.

    Args:
        public_key: Of whom every checkpoint must be signed. Without one nothing is
            checked and `count` stays zero.
        head_at: Returns the chain's hash at a number, or None where the chain has none.
    """

    def __init__(
        self, *, store_id: str, public_key: bytes | None, head_at: Callable[[int], bytes | None]
    ) -> None:
        self._store_id = store_id
        self._public_key = public_key
        self._head_at = head_at
        self.count = 0
        self.signed_up_to = 0

    def check_all(self, checkpoints: Iterable[Checkpoint]) -> None:
        """
        Check *checkpoints*, which are in order.

        Of each:

          1. its signature holds for the pinned key
          2. it speaks of this store and of the place where it is stored
          3. it follows the checkpoint before it
          4. the chain has the head that was signed

        Raises:
            IntegrityError: `seq` in the context names the checkpoint.
        """
        if self._public_key is not None:
            for checkpoint in checkpoints:
                self._check(checkpoint, self._public_key)

    def _check(self, checkpoint: Checkpoint, public_key: bytes) -> None:
        from keyturn.crypto import verify

        # 1.
        verify(
            public_key,
            _DOMAIN + checkpoint.body,
            checkpoint.signature,
            what=f"audit checkpoint {checkpoint.seq}",
        )
        # 2.
        body = read_body(checkpoint)
        if body.store != self._store_id:
            raise _refused(checkpoint.seq, f"it belongs to another store, `{body.store}`")
        if body.seq != checkpoint.seq:
            raise _refused(checkpoint.seq, f"it was signed for record {body.seq}")
        # 3.
        if body.number != self.count + 1 or body.previous != self.signed_up_to:
            what = f"it is number {body.number}, after record {body.previous}: one is missing"
            raise _refused(checkpoint.seq, what)
        # 4.
        head = self._head_at(checkpoint.seq)
        if head is None:
            raise _refused(
                checkpoint.seq, "the chain was cut: it ends before this record", code="audit.cut"
            )
        if head.hex() != body.head:
            raise _refused(
                checkpoint.seq,
                "the chain was replaced: it has another head here",
                code="audit.replaced",
            )
        self.count += 1
        self.signed_up_to = body.seq


def _refused(seq: int, what: str, *, code: str = "audit.checkpoint") -> IntegrityError:
    return IntegrityError(
        f"audit checkpoint {seq} does not hold: {what}",
        hint=_HINT,
        code=code,
        context={"seq": seq},
    )
