"""A file takes another's place only where that one is still what was seen."""

from __future__ import annotations

import pytest

from keyturn._internal.exchange import change_places, put_in_place


@pytest.fixture
def files(tmp_path):
    prepared, path = tmp_path / ".prepared", tmp_path / "file"
    prepared.write_bytes(b"ours")
    return prepared, path


def meddled(*saves):
    """Return an exchange before each of which somebody saves, by a rename, what *saves* has."""
    left = list(saves)

    def exchanging(one, other):
        content = left.pop(0) if left else None
        if content is not None:
            new = other.with_name("editor")
            new.write_bytes(content)
            new.rename(other)
        return change_places(one, other)

    return exchanging


def put(files, seen, **options):
    done = put_in_place(*files, seen=seen, point="test", **options)
    assert not files[0].exists()
    return done


def test_what_was_seen_is_replaced(files):
    """And nothing is left beside it."""
    files[1].write_bytes(b"seen")
    assert put(files, b"seen")
    assert files[1].read_bytes() == b"ours"


def test_what_was_saved_before_stays(files):
    """It was looked at before that."""
    files[1].write_bytes(b"theirs")
    assert not put(files, b"seen")
    assert files[1].read_bytes() == b"theirs"


@pytest.mark.parametrize(
    "saves", [(b"1",), (b"1", b"2"), (b"1", b"2", b"3"), (b"1", None, b"3"), (None, b"2")]
)
def test_what_is_saved_in_between_stays(files, saves):
    """The newest of theirs, however often they save while it is given back."""
    files[1].write_bytes(b"seen")
    done = put(files, b"seen", exchange=meddled(*saves))
    if saves[0] is None:
        # Nobody was there in time, and it was over with the first exchange.
        assert (done, files[1].read_bytes()) == (True, b"ours")
        return
    last = saves[-1] if None not in saves else saves[0]
    assert (done, files[1].read_bytes()) == (False, last)


def test_who_never_stops_is_not_waited_for(files):
    """It ends, and the file has something of theirs, or ours."""
    files[1].write_bytes(b"seen")
    busy = meddled(*(b"%d" % number for number in range(1000)))
    with pytest.raises(OSError, match="busy"):
        put(files, b"seen", exchange=busy)
    assert files[1].exists()


def test_a_file_that_was_not_there(files):
    """It is made where nobody made one meanwhile."""
    assert put(files, None)
    assert files[1].read_bytes() == b"ours"
    files[0].write_bytes(b"again")
    assert not put(files, None)
    assert files[1].read_bytes() == b"ours"


def test_a_file_that_was_removed(files):
    """Somebody removed it: that is their change."""
    assert not put(files, b"seen")
    assert not files[1].exists()


@pytest.mark.parametrize("content", [b"seen", b"theirs"])
def test_a_kernel_that_cannot_exchange(files, content):
    """It is looked right before a rename instead."""
    files[1].write_bytes(content)
    done = put(files, b"seen", exchange=lambda one, other: False)
    assert done is (content == b"seen")
    assert files[1].read_bytes() == (b"ours" if content == b"seen" else b"theirs")
