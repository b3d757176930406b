"""Signed heads of the chain."""

from __future__ import annotations

import pytest

from keyturn.audit import CHECKPOINT_EVERY, AuditLog, checkpoint_due
from keyturn.audit.checkpoint import Checkpoint, CheckpointVerifier, read_body
from keyturn.core.value import SecretValue
from keyturn.errors import IntegrityError
from tests.unit.audit.auditing import STORE_ID, KeySigner, event


def check(yard, checkpoints=None, **more):
    """Verify *checkpoints*, or all there are, and return the verifier."""
    options = {
        "store_id": STORE_ID,
        "public_key": yard.signer.public,
        "head_at": yard.log.head_at,
        **more,
    }
    verifier = CheckpointVerifier(**options)
    verifier.check_all(yard.log.checkpoints() if checkpoints is None else checkpoints)
    return verifier


def refused(*arguments, **more):
    """Return the code of the refusal."""
    with pytest.raises(IntegrityError) as caught:
        check(*arguments, **more)
    assert caught.value.hint
    return caught.value.code


def signed(yard, count=3):
    """Return *count* checkpoints, one a record."""
    for _ in range(count):
        yard.log.record(event())
        yard.log.checkpoint()
    return list(yard.log.checkpoints())


def test_due_every_256():
    """A checkpoint is due when 256 records wait for one, and stays due."""
    assert [False, True, True] == [checkpoint_due(n, signed_up_to=10) for n in (265, 266, 900)]


def test_the_256th_record_brings_its_checkpoint(yard):
    """Record and checkpoint are one transaction, and nobody has to remember it."""
    yard.record(3 * CHECKPOINT_EVERY - yard.log.head().seq)
    assert [256, 512, 768] == [c.seq for c in yard.log.checkpoints()]
    assert (check(yard).count, check(yard).signed_up_to) == (3, 768)


def test_records_wait_for_a_signer(yard):
    """What a log without a key wrote is signed by the next one that has it."""
    silent = AuditLog(yard.database, clock=yard.clock, store_id=STORE_ID)
    for _ in range(400):
        silent.record(event())
    assert ([], None) == (list(yard.log.checkpoints()), silent.checkpoint())
    last = yard.log.record(event())
    assert [last.seq] == [c.seq for c in yard.log.checkpoints()]


def test_the_head_is_signed_once(yard):
    """A second checkpoint of the same head is not made."""
    signed(yard, 1)
    assert yard.log.checkpoint() is None
    assert check(yard).count == 1


def test_an_empty_chain_is_not_signed(yard):
    """There is nothing to vouch for before the first record."""
    yard.tamper("DELETE FROM audit_pointer")
    yard.tamper("DELETE FROM audit")
    assert yard.log.checkpoint() is None


def test_what_was_changed_is_not_signed(yard):
    """The records since the last checkpoint are verified before a signature vouches for them."""
    signed(yard)
    yard.record(5)
    seq = yard.log.head().seq - 2
    raw = yard.database.one("SELECT record FROM audit WHERE seq = ?", (seq,))[0]
    yard.tamper("UPDATE audit SET record = ? WHERE seq = ?", raw.replace(b"/db", b"/dc"), seq)
    with pytest.raises(IntegrityError) as caught:
        yard.log.checkpoint()
    assert caught.value.context["seq"] == seq


def test_a_cut_chain_is_not_signed(yard):
    """Where the last checkpoint's own record is gone, no other is made."""
    signed(yard)
    yard.tamper("DELETE FROM audit_pointer")
    yard.tamper("DELETE FROM audit WHERE seq > 2")
    yard.log.record(event())
    with pytest.raises(IntegrityError) as caught:
        yard.log.checkpoint()
    assert caught.value.code == "audit.cut"


def test_each_part_of_a_checkpoint_is_held(yard):
    """Signature, key, store, place, order and head are each checked."""
    one, two, three = signed(yard)
    flipped = two.signature[:-1] + bytes([two.signature[-1] ^ 1])
    assert refused(yard, [one, Checkpoint(two.seq, two.body, flipped)]) == "signature.invalid"
    changed = two.body.replace(b'"number":2', b'"number":9')
    assert refused(yard, [one, Checkpoint(two.seq, changed, two.signature)]) == "signature.invalid"
    assert refused(yard, public_key=KeySigner(SecretValue(bytes(32))).public) == "signature.invalid"
    assert refused(yard, store_id="other") == "audit.checkpoint"
    assert refused(yard, [one, Checkpoint(9, two.body, two.signature)]) == "audit.checkpoint"
    assert refused(yard, [two, three]) == "audit.checkpoint"
    assert refused(yard, [one, three]) == "audit.checkpoint"
    assert refused(yard, [one, one]) == "audit.checkpoint"
    assert refused(yard, head_at=lambda seq: None) == "audit.cut"
    assert refused(yard, head_at=lambda seq: bytes(32)) == "audit.replaced"
    assert check(yard, [one, two, three]).signed_up_to == three.seq


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"v":1}'])
def test_an_unreadable_body_is_refused(body):
    """Bytes that are no checkpoint give a typed error."""
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_body(Checkpoint(1, body, b""))


def test_a_newer_format_is_named(yard):
    """A checkpoint of a later format is not half understood."""
    (one,) = signed(yard, 1)
    with pytest.raises(IntegrityError, match="format is not known"):
        read_body(Checkpoint(one.seq, one.body.replace(b'"v":1', b'"v":2'), one.signature))


def test_without_a_key_nothing_counts_as_checked(yard):
    """No public key, no checked checkpoint."""
    signed(yard)
    assert check(yard, public_key=None).count == 0
