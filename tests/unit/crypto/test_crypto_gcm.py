"""AES-256-GCM in parts: the standard's own vectors, SOPS's, and every way to be refused."""

from __future__ import annotations

import pytest

from keyturn.core.value import SecretValue
from keyturn.crypto.gcm import open_parts, seal_parts
from keyturn.errors import Corrupt, InternalError

# McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, cases 16 to 18:
# one text under nonces of 12, 8 and 60 bytes.
KEY = SecretValue(bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2))
TEXT = SecretValue(
    bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
)
BINDING = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
CASES = [
    (
        "cafebabefacedbaddecaf888",
        (
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        ),
        "76fc6ece0f4e1768cddf8853bb2d551b",
    ),
    (
        "cafebabefacedbad",
        (
            "c3762df1ca787d32ae47c13bf19844cbaf1ae14d0b976afac52ff7d79bba9de0"
            "feb582d33934a4f0954cc2363bc73f7862ac430e64abe499f47c9b1f"
        ),
        "3a337dbf46a792c45e454913fe2ea8f2",
    ),
    (
        (
            "9313225df88406e555909c5aff5269aa6a7a9538534f7da1e4c303d2a318a728"
            "c3c0c95156809539fcf0e2429a6b525416aedbf5a0de6a57a637b39b"
        ),
        (
            "5a8def2f0c9e53f1f75d7853659e2a20eeb2b22aafde6419a058ab4f6f746bf4"
            "0fc0c3b780f244452da3ebf1c5d82cdea2418997200ef82e44ae7e3f"
        ),
        "a44a8266ee1c8eb0c8b5d4cf5ae9f19a",
    ),
]


@pytest.mark.parametrize(("nonce", "ciphertext", "tag"), CASES)
def test_vectors_of_the_standard(nonce, ciphertext, tag):
    """Sealing gives the published bytes, and they open again."""
    nonce, ciphertext, tag = (bytes.fromhex(text) for text in (nonce, ciphertext, tag))
    assert seal_parts(KEY, TEXT, BINDING, nonce=nonce) == (ciphertext, tag)
    assert open_parts(KEY, ciphertext, tag, BINDING, nonce=nonce, what="it") == TEXT


def test_every_part_is_needed():
    """A byte of ciphertext, tag, nonce, binding or key that is another is refused."""
    nonce = bytes(32)
    ciphertext, tag = seal_parts(KEY, TEXT, BINDING, nonce=nonce)
    other = SecretValue(bytes(32))
    flipped = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    for key, data, mark, binding, used in (
        (other, ciphertext, tag, BINDING, nonce),
        (KEY, flipped, tag, BINDING, nonce),
        (KEY, ciphertext[:-1], tag, BINDING, nonce),
        (KEY, ciphertext, tag[:-1] + bytes([tag[-1] ^ 1]), BINDING, nonce),
        (KEY, ciphertext, tag, BINDING + b":", nonce),
        (KEY, ciphertext, tag, BINDING, nonce[:-1] + b"\1"),
    ):
        with pytest.raises(Corrupt, match="it is not what was sealed"):
            open_parts(key, data, mark, binding, nonce=used, what="it")


def test_short_tags_and_odd_sizes_are_refused():
    """A tag cut short would be easy to guess; no size of another cipher is taken."""
    nonce = bytes(32)
    ciphertext, tag = seal_parts(KEY, TEXT, BINDING, nonce=nonce)
    for mark in (b"", tag[:12], tag + b"\0"):
        with pytest.raises(Corrupt):
            open_parts(KEY, ciphertext, mark, BINDING, nonce=nonce, what="it")
    for used in (b"", bytes(7), bytes(129)):
        with pytest.raises(Corrupt):
            open_parts(KEY, ciphertext, tag, BINDING, nonce=used, what="it")
        with pytest.raises(InternalError):
            seal_parts(KEY, TEXT, BINDING, nonce=used)
    with pytest.raises(Corrupt):
        open_parts(SecretValue(bytes(16)), ciphertext, tag, BINDING, nonce=nonce, what="it")
    with pytest.raises(InternalError):
        seal_parts(SecretValue(bytes(16)), TEXT, BINDING, nonce=nonce)
