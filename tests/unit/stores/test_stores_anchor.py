"""The rollback anchor."""

from __future__ import annotations

import pytest

from keyturn.errors import IntegrityError, Unavailable
from keyturn.stores import Anchor, AnchorState, check_anchor, read_anchor, write_anchor
from tests.unit.stores.workshop import STORE_ID

ANCHOR = Anchor(STORE_ID, 40, bytes(range(32)))


def check(anchor=ANCHOR, *, max_seq=40, hash_=ANCHOR.hash, store_id=STORE_ID):
    check_anchor(anchor, store_id=store_id, max_seq=max_seq, hash_at=lambda seq: hash_)


@pytest.mark.parametrize("max_seq", [0, 39])
def test_a_shorter_chain_is_a_rolled_back_store(max_seq):
    """Both positions are named, and the way to accept it."""
    with pytest.raises(IntegrityError) as caught:
        check(max_seq=max_seq)
    assert caught.value.code == "store.rolled_back"
    assert "40" in caught.value.message
    assert str(max_seq) in caught.value.message
    assert "keyturn doctor --accept-rollback" in caught.value.hint


@pytest.mark.parametrize("hash_", [None, bytes(32)])
def test_another_history_is_a_rolled_back_store(hash_):
    """A store put back that was used since is longer, and another one."""
    with pytest.raises(IntegrityError) as caught:
        check(max_seq=50, hash_=hash_)
    assert caught.value.code == "store.rolled_back"


def test_the_anchor_of_another_store_is_refused():
    """Two key homes that were exchanged are seen."""
    with pytest.raises(IntegrityError) as caught:
        check(store_id="f" * 32)
    assert caught.value.code == "store.replaced"


def test_a_lagging_anchor_is_fine():
    """It may lag behind the store, never lead."""
    check()
    check(max_seq=50)


def test_a_missing_anchor_is_said_and_no_error(tmp_path):
    """The caller decides what a first start is."""
    assert read_anchor(tmp_path).state is AnchorState.MISSING


def test_a_torn_anchor_is_said_and_no_error(tmp_path):
    """No cut and no flipped bit reads as an anchor."""
    write_anchor(tmp_path, ANCHOR)
    data = (tmp_path / "anchor").read_bytes()
    for length in range(len(data)):
        (tmp_path / "anchor").write_bytes(data[:length])
        assert read_anchor(tmp_path).state is AnchorState.TORN
    for index in range(len(data)):
        changed = bytearray(data)
        changed[index] ^= 1
        (tmp_path / "anchor").write_bytes(changed)
        assert read_anchor(tmp_path).state is AnchorState.TORN
    (tmp_path / "anchor").write_bytes(data + b"x")
    assert read_anchor(tmp_path).state is AnchorState.TORN


def test_an_anchor_that_cannot_be_reached_is_an_error(tmp_path):
    """A link or a missing folder is not taken for a first start."""
    (tmp_path / "anchor").symlink_to("elsewhere")
    with pytest.raises(Unavailable):
        read_anchor(tmp_path)
    with pytest.raises(Unavailable):
        write_anchor(tmp_path, ANCHOR)
    with pytest.raises(Unavailable):
        write_anchor(tmp_path / "absent", ANCHOR)


def test_an_anchor_comes_back_and_moves_in_place(tmp_path):
    """The file is private and keeps its length."""
    write_anchor(tmp_path, ANCHOR)
    size = (tmp_path / "anchor").stat().st_size
    later = Anchor(STORE_ID, 10**19, bytes(32))
    write_anchor(tmp_path, later)
    assert read_anchor(tmp_path).anchor == later
    write_anchor(tmp_path, ANCHOR)
    assert read_anchor(tmp_path).anchor == ANCHOR
    assert (tmp_path / "anchor").stat().st_size == size
    assert (tmp_path / "anchor").stat().st_mode & 0o777 == 0o600
