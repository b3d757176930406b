"""What stands where a file or folder of ours is to be: found before anything is written."""

from __future__ import annotations

import os
import socket

import pytest

from tests.cli.projects import Project, fingerprint

EXAMPLE = b"PORT=8080\nSESSION_SECRET=change-me\n"


@pytest.fixture
def place(tmp_path):
    """A folder with nothing but a `.env.example`."""
    made = Project(tmp_path / "project", tmp_path / "keys")
    made.folder.mkdir()
    (made.folder / ".env.example").write_bytes(EXAMPLE)
    return made


def listening(path):
    """Make a socket at *path*, whose name may be longer than the system takes."""
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            made.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


THINGS = {
    "a file": lambda path: path.write_text("mine"),
    "a pipe": os.mkfifo,
    "a socket": listening,
    "a link to a folder": lambda path: path.symlink_to(path.parent.parent),
    "a link to nothing": lambda path: path.symlink_to("absent"),
}


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_folder_is_named_and_left(thing, place):
    """Nothing is made beside it, and the hint does not call it ours."""
    THINGS[thing](place.state)
    before = fingerprint(place.folder)
    result = place("init")
    assert (5, b"") == (result.code, result.out)
    assert f"`{place.state}` is no folder" in result.text
    assert "hint: nothing was changed; move it away" in result.text
    assert before == fingerprint(place.folder)
    assert not place.key_home.exists()


@pytest.mark.parametrize("name", ["audit", "bundles"])
def test_so_is_what_is_no_folder_within(name, place):
    """The store is not half made first."""
    place.state.mkdir(mode=0o700)
    (place.state / name).write_text("mine")
    result = place("init")
    assert (5, True) == (result.code, f"`{place.state / name}` is no folder" in result.text)
    assert not place.manifest.exists()


def test_so_is_a_key_home_that_is_no_folder(place):
    """It may be a link to one, which is where the keys then lie."""
    elsewhere = place.folder.parent / "elsewhere"
    place.key_home.symlink_to(elsewhere)
    assert 5 == place("init").code
    assert not place.manifest.exists()
    elsewhere.mkdir(mode=0o700)
    assert 0 == place("init").code
    assert 1 == len(list(elsewhere.iterdir()))


@pytest.mark.parametrize("name", ["store.db", "store.db-journal", "store.db-wal", "store.db-shm"])
def test_a_pipe_in_the_store_s_place_is_named(name, place):
    """By `init`, before it writes."""
    place.state.mkdir(mode=0o700)
    os.mkfifo(place.state / name)
    result = place("init")
    assert (1, b"") == (result.code, result.out)
    assert f"`{place.state / name}` is no plain file" in result.text
    assert "free space" not in result.text
    assert not place.manifest.exists()


@pytest.mark.parametrize("name", ["store.db-journal", "store.db-wal", "store.db-shm", "store.db"])
@pytest.mark.parametrize("words", [("list",), ("get", "session"), ("doctor",)])
def test_nothing_waits_for_it(name, words, project):
    """SQLite would open it, and wait for ever."""
    (project.state / name).unlink(missing_ok=True)
    os.mkfifo(project.state / name)
    result = project(*words)
    assert 1 == result.code, result.text
    assert f"{project.state / name}` is no plain file" in result.text + result.out.decode()


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o711])
def test_an_empty_folder_of_ours_is_closed(mode, place):
    """However it came there."""
    place.state.mkdir()
    place.state.chmod(mode)
    assert 0 == place("init").code
    assert 0o40700 == place.state.stat().st_mode


def test_a_folder_with_a_store_that_was_begun_is_closed(place):
    """What an `init` that was cut short has left is finished, and closed."""
    place.state.mkdir(mode=0o755)
    (place.state / "audit").mkdir()
    (place.state / "store.db").touch()
    assert 0 == place("init").code
    assert 0o40700 == place.state.stat().st_mode


def test_a_folder_with_something_else_in_it_stays_as_it_is(place):
    """To close it might keep somebody from what is theirs."""
    place.state.mkdir(mode=0o755)
    (place.state / "notes.txt").touch()
    result = place("init")
    assert (5, True) == (result.code, "holds `notes.txt`: none of Keyturn's" in result.text)
    assert (0o40755, False) == (place.state.stat().st_mode, place.manifest.exists())


def test_a_folder_that_others_could_write_to_is_refused(place):
    """What lies in it may be theirs; nothing is made before."""
    place.state.mkdir()
    (place.state / "store.db").touch()
    place.state.chmod(0o777)
    result = place("init")
    assert (4, True) == (result.code, "others may write to" in result.text)
    assert not place.manifest.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_somebody_else_s_folder_is_refused(place):
    """Empty or not."""
    place.state.mkdir(mode=0o700)
    os.chown(place.state, 65534, 65534)
    result = place("init")
    assert (4, True) == (result.code, "belongs to uid 65534" in result.text)
    assert not place.manifest.exists()
