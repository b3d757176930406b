"""Streams in the age format: what goes in comes out, in pieces, and what does not fit is told."""

from __future__ import annotations

import io

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.value import SecretValue
from keyturn.crypto import new_identity, recipient
from keyturn.crypto.agestream import open_stream, seal_stream
from keyturn.errors import Corrupt, Sealed, UsageError

OURS, OTHER = new_identity(), new_identity()
CHUNK = 65_536


def sealed(pieces, *identities):
    """Return *pieces* sealed for *identities*."""
    out = io.BytesIO()
    seal_stream(pieces, out.write, [recipient(each) for each in identities or (OURS,)])
    return out.getvalue()


def opened(data, identity=OURS):
    """Return what *data* holds."""
    out = io.BytesIO()
    open_stream(io.BytesIO(data), out.write, [identity], what="the file")
    return out.getvalue()


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(st.binary(max_size=200_000), max_size=4))
def test_what_goes_in_comes_out(pieces):
    """For each recipient, empty pieces among them, and for the library as well."""
    data = sealed(pieces, OURS, OTHER)
    whole = b"".join(pieces)
    assert whole == opened(data) == opened(data, OTHER)
    identity = pyrage.x25519.Identity.from_str(OURS.reveal_text())
    assert whole == pyrage.decrypt(data, [identity])


def test_another_identity_opens_nothing():
    """It is told apart from damage."""
    with pytest.raises(Sealed, match="not for any age identity") as caught:
        opened(sealed([b"x"]), OTHER)
    assert caught.value.code == "backup.identity"


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_cut_is_noticed_wherever_it_is(size):
    """At the ends of the pieces as well, where nothing else is wrong."""
    data = sealed([b"x" * size])
    header = len(data) - size - 16 * max(1, -(-size // CHUNK))
    ends = [header + n * (CHUNK + 16) for n in range(size // CHUNK + 1)]
    for cut in {0, 1, 30, header - 1, header, header + 1, *ends, len(data) - 1} - {len(data)}:
        with pytest.raises(Corrupt):
            opened(data[:cut])


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 400), bit=st.integers(0, 7))
def test_no_bit_can_be_flipped(at, bit):
    """In the header or in what is sealed."""
    data = bytearray(sealed([b"a value of some length" * 10]))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises((Corrupt, Sealed)):
        opened(bytes(data))


@pytest.mark.parametrize("data", [b"", b"not an age file", b"age-encryption.org/v2\n"])
def test_what_is_no_age_file(data):
    """Is told, and not a fault of ours."""
    with pytest.raises(Corrupt, match="no age file"):
        opened(data)


@pytest.mark.parametrize("error", [KeyError("canary"), OSError(28, "full"), KeyboardInterrupt()])
def test_what_the_other_side_raises_comes_out_as_it_is(error):
    """And not as the library's, which would quote it."""

    def pieces():
        yield b"x" * CHUNK
        raise error

    def refuse(_):
        raise error

    with pytest.raises(type(error)) as caught:
        sealed(pieces())
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        seal_stream([b"x"], refuse, [recipient(OURS)])
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        open_stream(io.BytesIO(sealed([b"x"])), refuse, [OURS], what="the file")
    assert caught.value is error


@pytest.mark.parametrize("recipients", [[], ["age1nonsense"], [recipient(OURS)[:-6] + "qqqqqq"]])
def test_recipients_are_checked_first(recipients):
    """Nothing is read before."""

    def never():
        raise AssertionError("it was read")
        yield b""

    with pytest.raises(UsageError):
        seal_stream(never(), io.BytesIO().write, recipients)


def test_a_damaged_identity():
    """Is told without being quoted."""
    with pytest.raises(Corrupt) as caught:
        opened(sealed([b"x"]), SecretValue(b"AGE-SECRET-KEY-1CANARY"))
    assert "CANARY" not in str(caught.value)


def test_it_is_done_piece_by_piece():
    """Of the one that comes, little has gone in before the first has come out."""
    went = [0]

    def pieces():
        for _ in range(100):
            went[0] += CHUNK
            yield b"x" * CHUNK

    seen = []
    seal_stream(pieces(), lambda data: seen.append((went[0], len(data))), [recipient(OURS)])
    assert seen[1][0] < 4 * CHUNK
    assert max(size for _, size in seen) < 2 * CHUNK
