"""Sealing: what was put in comes out where it was put, or nothing does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.entropy import SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.crypto import Envelope, bind
from keyturn.errors import Corrupt, InternalError
from keyturn.testing import SeededEntropy

KEY = SecretValue(bytes(range(32)))
PLACE = bind("value", "store", "production", "db", 3, "password", 1)
PARTS = st.lists(st.none() | st.integers() | st.text(max_size=5), max_size=4)


def seal(data: bytes) -> bytes:
    return Envelope(KEY).seal(SecretValue(data), PLACE, entropy=SeededEntropy())


@pytest.mark.parametrize("index", range(len(seal(b"value"))))
def test_a_flipped_bit_is_refused_in_every_byte(index):
    """Each bit of each byte, header and tag included, is authenticated."""
    sealed = seal(b"value")
    for bit in range(8):
        changed = bytearray(sealed)
        changed[index] ^= 1 << bit
        with pytest.raises(Corrupt) as caught:
            Envelope(KEY).open(bytes(changed), PLACE, what="`db`")
        assert "`db`" in caught.value.message
        assert caught.value.hint


def test_a_cut_or_longer_value_is_refused():
    """No prefix opens, and nothing can be added."""
    sealed = seal(b"value")
    for length in range(len(sealed)):
        with pytest.raises(Corrupt):
            Envelope(KEY).open(sealed[:length], PLACE, what="it")
    with pytest.raises(Corrupt):
        Envelope(KEY).open(sealed + b"\0", PLACE, what="it")


def test_an_unknown_format_is_refused_by_name():
    """A value that a newer Keyturn sealed is not called damaged."""
    sealed = b"\x02" + seal(b"value")[1:]
    with pytest.raises(Corrupt, match="format"):
        Envelope(KEY).open(sealed, PLACE, what="it")


@pytest.mark.parametrize("position", range(6))
def test_another_place_is_refused(position):
    """A value sealed for one place opens at no other."""
    parts = ["store", "production", "db", 3, "password", 1]
    parts[position] = 9 if isinstance(parts[position], int) else "other"
    with pytest.raises(Corrupt):
        Envelope(KEY).open(seal(b"value"), bind("value", *parts), what="it")
    with pytest.raises(Corrupt):
        Envelope(KEY).open(seal(b"value"), bind("item", *parts), what="it")


def test_another_key_is_refused():
    """Only the key that sealed opens."""
    with pytest.raises(Corrupt):
        Envelope(SecretValue(bytes(32))).open(seal(b"value"), PLACE, what="it")


def test_a_key_of_another_length_is_our_bug():
    """AES-128 cannot come about by a short key."""
    with pytest.raises(InternalError):
        Envelope(SecretValue(bytes(16)))


def test_the_error_holds_no_value():
    """Neither the message nor what caused it quotes what was sealed."""
    with pytest.raises(Corrupt) as caught:
        Envelope(KEY).open(seal(b"sesame")[:-1] + b"\0", PLACE, what="it")
    assert caught.value.__cause__ is None
    assert "sesame" not in repr(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_come_back(data):
    """Empty ones too."""
    sealed = Envelope(KEY).seal(SecretValue(data), PLACE, entropy=SystemEntropy())
    assert Envelope(KEY).open(sealed, PLACE, what="it").reveal() == data
    assert sealed[0] == 1


def test_each_seal_has_its_own_nonce():
    """The same value sealed twice does not show that it is the same."""
    entropy = SystemEntropy()
    sealed = {Envelope(KEY).seal(SecretValue(b"x"), PLACE, entropy=entropy) for _ in range(100)}
    assert len(sealed) == 100


@given(PARTS, PARTS)
def test_two_places_never_look_alike(one, other):
    """Whatever names hold, other parts give other bytes."""
    assert (bind("a", *one) == bind("a", *other)) == (one == other)
    assert bind("a", *one) != bind("b", *one)


def test_a_separator_in_a_name_does_not_move_the_border():
    """`ab` and `c` are not `a` and `bc`; 1 is not "1"; nothing is not empty."""
    assert bind("v", "ab", "c") != bind("v", "a", "bc")
    assert bind("v", 1) != bind("v", "1")
    assert bind("v", None) != bind("v", "")
    assert bind("v", "x") != bind("v", "x", None)
