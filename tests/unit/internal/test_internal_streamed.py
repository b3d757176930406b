"""A large file is whole under its name, or not there."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from keyturn._internal import durable, failpoints


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    failpoints.disarm()


def test_it_is_there_when_it_is_whole(tmp_path):
    """Under its name only then, and for its owner alone."""
    path = tmp_path / "x"
    with durable.streamed(path, point="p") as write:
        write(b"one ")
        assert not path.exists()
        write(b"two")
    assert (b"one two", 0o600) == (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("replace_old", [False, True])
def test_what_fails_leaves_what_was_there(tmp_path, replace_old):
    """And nothing besides."""
    path = tmp_path / "x"
    if replace_old:
        path.write_bytes(b"old")
    with (
        pytest.raises(KeyError),
        durable.streamed(path, point="p", replace_old=replace_old) as write,
    ):
        write(b"half")
        raise KeyError
    assert [b"old"] * replace_old == [each.read_bytes() for each in tmp_path.iterdir()]


@pytest.mark.parametrize("point", ["p.write:full", "p.rename:error"])
def test_a_disk_that_fails(tmp_path, point):
    """Is told, and nothing is left."""
    failpoints.arm(point)
    with pytest.raises(OSError), durable.streamed(tmp_path / "x", point="p") as write:
        write(b"data")
    assert [] == list(tmp_path.iterdir())


def test_nobody_is_replaced_unasked(tmp_path):
    """Not even who came meanwhile."""
    path = tmp_path / "x"
    with pytest.raises(FileExistsError), durable.streamed(path, point="p") as write:
        write(b"ours")
        path.write_bytes(b"theirs")
    assert (b"theirs", [path]) == (path.read_bytes(), list(tmp_path.iterdir()))
    with durable.streamed(path, point="p", replace_old=True) as write:
        write(b"ours")
    assert path.read_bytes() == b"ours"


@pytest.mark.parametrize("there", [False, True])
def test_a_file_system_without_links(tmp_path, monkeypatch, there):
    """As that of a memory stick: it is renamed, if nobody is there."""

    def no_links(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "x"
    if there:
        path.write_bytes(b"theirs")
        with pytest.raises(FileExistsError), durable.streamed(path, point="p") as write:
            write(b"ours")
    else:
        with durable.streamed(path, point="p") as write:
            write(b"ours")
    assert path.read_bytes() == (b"theirs" if there else b"ours")
    assert [path] == list(tmp_path.iterdir())


def test_what_a_crash_left_goes(tmp_path):
    """With the next writer of the same name; a live writer keeps its own."""
    dead, live = tmp_path / ".x.keyturn-999999999", tmp_path / ".x.keyturn-1"
    for each in (dead, live):
        each.write_bytes(b"left")
    with durable.streamed(tmp_path / "x", point="p") as write:
        write(b"data")
    assert (dead.exists(), live.exists()) == (False, True)
