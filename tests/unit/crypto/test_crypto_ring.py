"""Rings of keys: written, read, and refused without being quoted."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.value import SecretValue
from keyturn.crypto.ring import Entry, key_id, parse_ring, raw_key, require_usable, write_ring
from keyturn.errors import VerificationFailed
from keyturn.testing import SeededEntropy

IDS = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
KEYS = st.binary(min_size=1, max_size=64).map(lambda raw: SecretValue(base64.b64encode(raw)))


@given(st.dictionaries(IDS, KEYS, min_size=1, max_size=5))
def test_a_ring_survives_being_written(ring):
    """In its order."""
    entries = [Entry(*item) for item in ring.items()]
    assert entries == parse_ring(write_ring(entries))


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":AAAA", "a:AAAA,", "a:AA:AA", "a b:AAAA", "a:AAAA b:BBBB", "a:é"]
)
def test_what_is_no_ring_is_refused(text):
    """Nothing is guessed at, nothing is quoted."""
    with pytest.raises(VerificationFailed, match="no ring") as caught:
        parse_ring(SecretValue.from_text(text))
    assert "AAAA" not in caught.value.message + caught.value.hint


def test_bytes_too_many_keys_and_twins_are_refused():
    """A ring is short text, and an id names one key."""
    with pytest.raises(VerificationFailed):
        parse_ring(SecretValue(b"\xff"))
    with pytest.raises(VerificationFailed):
        parse_ring(SecretValue.from_text(",".join(f"a{n}:AAAA" for n in range(101))))
    with pytest.raises(VerificationFailed, match="alike"):
        parse_ring(SecretValue.from_text("a:AAAA,a:BBBB"))


def test_an_id_is_always_the_same_and_of_the_key_alone():
    """Eight digits of a digest, which no prefix of the key is."""
    first, second = SecretValue(b"A" * 44), SecretValue(b"B" * 44)
    assert key_id(first) == key_id(SecretValue(b"A" * 44)) != key_id(second)
    assert 9 == len(key_id(first))


def test_a_key_is_read_in_every_form():
    """Hexadecimal digits are not taken for the base64 that they are too."""
    raw = SeededEntropy().random_bytes(32)
    for text in (raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode()):
        assert raw == raw_key(SecretValue.from_text(text))
    url = base64.urlsafe_b64encode(raw).rstrip(b"=")
    assert raw == raw_key(SecretValue(url))
    assert raw_key(SecretValue(b"?")) is None


@pytest.mark.parametrize("size", [0, 15, 31, 33])
def test_a_key_of_another_size_is_refused(size):
    """By its id."""
    key = SecretValue(base64.b64encode(bytes(size)))
    with pytest.raises(VerificationFailed, match="`mine` is no key of 16, 24"):
        require_usable(Entry("mine", key), entropy=SeededEntropy())


@pytest.mark.parametrize("size", [16, 24, 32, 48, 64])
def test_a_key_that_ciphers_take_is_usable(size):
    """Those of AES encrypt a sample; longer ones are for other ciphers."""
    key = SecretValue(base64.b64encode(SeededEntropy().random_bytes(size)))
    require_usable(Entry("mine", key), entropy=SeededEntropy())
