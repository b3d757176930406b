"""Signatures for the heads of the audit chain."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.core.value import SecretValue
from keyturn.crypto import new_signing_key, public_key, sign, verify
from keyturn.errors import IntegrityError
from keyturn.testing import SeededEntropy

KEY = new_signing_key(SeededEntropy())


@pytest.mark.parametrize("index", range(65))
def test_a_changed_signature_is_refused(index):
    """Each byte counts."""
    changed = bytearray(sign(KEY, b"head"))
    changed[index] ^= 1
    with pytest.raises(IntegrityError) as caught:
        verify(public_key(KEY), b"head", bytes(changed), what="checkpoint 4")
    assert "checkpoint 4" in caught.value.message
    assert caught.value.hint


def test_anything_else_is_refused():
    """Another message, another key, a malformed key or signature."""
    good = sign(KEY, b"head")
    other = public_key(SecretValue(bytes(32)))
    for public, message, signature in (
        (public_key(KEY), b"heae", good),
        (public_key(KEY), b"", good),
        (other, b"head", good),
        (b"", b"head", good),
        (b"\xff" * 32, b"head", good),
        (public_key(KEY), b"head", b""),
        (public_key(KEY), b"head", good[1:]),
        (public_key(KEY), b"head", good + b"\0"),
    ):
        with pytest.raises(IntegrityError):
            verify(public, message, signature, what="it")


def test_a_raw_signature_of_the_message_is_not_one_of_ours():
    """The format byte is signed, so a signature made elsewhere for another use does not hold."""
    raw = Ed25519PrivateKey.from_private_bytes(KEY.reveal()).sign(b"head")
    with pytest.raises(IntegrityError):
        verify(public_key(KEY), b"head", b"\x01" + raw, what="it")


def test_a_signature_holds():
    """What the key signed is accepted, in silence."""
    verify(public_key(KEY), b"head", sign(KEY, b"head"), what="it")
    assert len(public_key(KEY)) == 32
