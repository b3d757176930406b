"""Where the root key comes from, and what is refused."""

from __future__ import annotations

import os

import pytest

from keyturn.core.entropy import SystemEntropy
from keyturn.errors import Conflict, Corrupt, Sealed, Unavailable
from keyturn.stores import KeyFile, create_key_file

ENTROPY = SystemEntropy()


@pytest.fixture
def home(tmp_path):
    """A key home folder with a key file."""
    folder = tmp_path / "home"
    create_key_file(folder, entropy=ENTROPY)
    return folder


def refused(home, error=Sealed):
    """Load the key file, which must be refused with a hint; return the error."""
    with pytest.raises(error) as caught:
        KeyFile(home).load()
    assert caught.value.hint
    assert str(home) in caught.value.message
    return caught.value


def test_a_missing_file_is_not_made_anew(tmp_path):
    """Without its key a store stays shut, and nothing appears in the folder."""
    tmp_path.joinpath("home").mkdir()
    assert refused(tmp_path / "home").code == "key.missing"
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644, 0o666, 0o601])
def test_a_file_open_to_others_is_refused(home, mode):
    """Group and world have no business with it."""
    (home / "root.key").chmod(mode)
    error = refused(home)
    assert error.code == "key.permissions"
    assert "chmod 600" in error.hint


def test_a_folder_others_can_write_is_refused(home):
    """Whoever can write the folder can put another key there."""
    home.chmod(0o770)
    assert "chmod 700" in refused(home).hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_owner_is_refused(home):
    """A key that somebody else owns can be changed by them."""
    os.chown(home / "root.key", 12345, -1)
    assert "12345" in refused(home).message


def test_a_link_is_refused(home):
    """The key is a file in its folder, not a way elsewhere."""
    (home / "root.key").rename(home / "elsewhere")
    (home / "root.key").symlink_to("elsewhere")
    refused(home)


def test_what_is_no_file_is_refused(home):
    """A folder or a pipe does not hang the command."""
    (home / "root.key").unlink()
    os.mkfifo(home / "root.key", 0o600)
    refused(home)
    (home / "root.key").unlink()
    (home / "root.key").mkdir(mode=0o700)
    refused(home)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-2] + "\n",
        lambda text: text + "x",
        lambda text: text + text,
        lambda text: text.replace("keyturn-root-key-1", "keyturn-root-key-2"),
        lambda text: text.replace("=", ""),
        lambda text: text * 100,
        lambda text: text.rstrip("\n") + "\0\n",
    ],
)
def test_a_damaged_file_is_refused_unquoted(home, change):
    """Cut, doubled, of another version: named, and never shown."""
    text = (home / "root.key").read_text()
    (home / "root.key").write_text(change(text))
    error = refused(home, Corrupt)
    assert text.split()[-1] not in error.message


def test_every_flipped_bit_is_refused(home):
    """The key line checks itself: no bit of it can change unseen."""
    path = home / "root.key"
    data = path.read_bytes()
    start = data.index(b"keyturn-root-key-1")
    for index in range(start, len(data) - 1):
        for bit in range(8):
            changed = bytearray(data)
            changed[index] ^= 1 << bit
            path.write_bytes(changed)
            with pytest.raises(Corrupt):
                KeyFile(home).load()


def test_a_key_file_is_never_overwritten(home):
    """A second creation is refused and leaves the first key as it was."""
    before = (home / "root.key").read_bytes()
    with pytest.raises(Conflict) as caught:
        create_key_file(home, entropy=ENTROPY)
    assert caught.value.hint
    assert (home / "root.key").read_bytes() == before
    assert [entry.name for entry in home.iterdir()] == ["root.key"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """A read-only place is an error with a hint, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable) as caught:
        create_key_file(tmp_path / "file" / "home", entropy=ENTROPY)
    assert "KEYTURN_HOME" in caught.value.hint


def test_modes_are_private(home):
    """The file is 0600 in a folder that is 0700."""
    assert (home / "root.key").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_key_comes_back(tmp_path):
    """What was created is what is loaded, and its origin names the file."""
    made = create_key_file(tmp_path / "home", entropy=ENTROPY)
    loaded = KeyFile(tmp_path / "home").load()
    assert loaded.value == made.value
    assert str(tmp_path / "home" / "root.key") in loaded.origin
