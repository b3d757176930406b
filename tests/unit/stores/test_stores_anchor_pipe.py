"""A pipe in place of the rollback anchor is told, and nothing waits for its other end."""

from __future__ import annotations

import os

import pytest

from keyturn.errors import Unavailable
from keyturn.stores import Anchor, read_anchor, write_anchor
from tests.unit.stores.workshop import STORE_ID

ANCHOR = Anchor(STORE_ID, 7, b"\1" * 32)


@pytest.fixture
def pipe(tmp_path):
    """A key folder whose anchor is a pipe that nobody has open."""
    os.mkfifo(tmp_path / "anchor", 0o600)
    return tmp_path


def test_it_is_not_read(pipe):
    """The error says what is wrong with the file, and where it is."""
    with pytest.raises(Unavailable, match="is no plain file") as caught:
        read_anchor(pipe)
    assert str(pipe / "anchor") in caught.value.hint


@pytest.mark.parametrize("has_reader", [False, True])
def test_it_is_not_written(pipe, has_reader):
    """A reader at the other end gets nothing; without one nothing waits for it."""
    reader = os.open(pipe / "anchor", os.O_RDONLY | os.O_NONBLOCK) if has_reader else None
    with pytest.raises(Unavailable, match="cannot be written"):
        write_anchor(pipe, ANCHOR)
    if reader is not None:
        assert b"" == os.read(reader, 1)
        os.close(reader)
