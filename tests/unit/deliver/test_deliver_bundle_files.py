"""The bundle's files: written over where that is safe, and what the fast path is told to go by."""

from __future__ import annotations

import os

import pytest

from keyturn import fast
from keyturn.core.ids import EnvironmentName
from keyturn.deliver.bundle import BundleFiles
from keyturn.testing import SeededEntropy

WHERE = EnvironmentName("development")
OLD, NEW = b"sealed once, and longer", b"sealed again"


@pytest.fixture
def files(tmp_path):
    """The files of a store that has a bundle."""
    (tmp_path / "keys").mkdir(mode=0o700)
    made = BundleFiles(tmp_path / "bundles", tmp_path / "keys", entropy=SeededEntropy())
    made.write(WHERE, OLD)
    return made


@pytest.fixture
def bundle(tmp_path):
    """Where that bundle lies."""
    return tmp_path / "bundles" / "development.age"


def test_a_bundle_is_written_over(files, bundle):
    """In the same file, nothing of the longer one left, and closed to others."""
    before = bundle.stat().st_ino
    bundle.chmod(0o644)
    files.write(WHERE, NEW)
    assert (NEW, before, 0o100600) == (
        bundle.read_bytes(),
        bundle.stat().st_ino,
        bundle.stat().st_mode,
    )


def test_a_backup_s_second_name_for_it_stays_as_it_was(files, bundle, tmp_path):
    """A backup by hard links keeps what it has kept."""
    backup = tmp_path / "backup"
    backup.hardlink_to(bundle)
    files.write(WHERE, NEW)
    assert (OLD, NEW) == (backup.read_bytes(), bundle.read_bytes())


def test_what_is_no_plain_file_is_replaced(files, bundle, tmp_path):
    """A link leads nowhere, and a pipe, even one that is read, takes nothing."""
    elsewhere = tmp_path / "elsewhere"
    bundle.rename(elsewhere)
    bundle.symlink_to(elsewhere)
    files.write(WHERE, NEW)
    assert (OLD, NEW, False) == (elsewhere.read_bytes(), bundle.read_bytes(), bundle.is_symlink())
    bundle.unlink()
    os.mkfifo(bundle)
    reader = os.open(bundle, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write(WHERE, NEW)
        assert b"" == os.read(reader, 64)
    finally:
        os.close(reader)
    assert NEW == bundle.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_else_s_is_replaced(files, bundle):
    """The fast path reads nothing that belongs to another."""
    os.chown(bundle, 65534, 65534)
    files.write(WHERE, NEW)
    assert (NEW, os.geteuid()) == (bundle.read_bytes(), bundle.stat().st_uid)


def test_the_recipient_is_asked_for_where_the_identity_changed(files, tmp_path):
    """Once for a file that stays, again for another in its place, each time where there is none."""
    identity = tmp_path / "bundle.key"
    answers = iter("abcdefgh")

    def asked():
        return files.recipient(identity, lambda: next(answers))

    assert ["a", "b"] == [asked(), asked()]
    identity.write_text("one")
    assert ["c", "c"] == [asked(), asked()]
    (tmp_path / "next").write_text("two")
    (tmp_path / "next").rename(identity)
    assert ["d", "d"] == [asked(), asked()]
    identity.chmod(0o640)
    assert "e" == asked()
    identity.unlink()
    assert ["f", "g"] == [asked(), asked()]


@pytest.mark.parametrize("what", ["nothing", "longer", "link", "pipe"])
def test_how_the_store_was_left_is_remembered_whatever_stands_there(what, files, tmp_path):
    """It is what the fast path reads, of this time and nothing else."""
    path = tmp_path / "keys" / fast.CLOSED
    if what == "longer":
        path.write_text("x" * 200)
    elif what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(path)
    files.remember_closed("1 2 3 4 5\n")
    assert b"1 2 3 4 5\n" == fast.read_private(str(path), 256)
    assert not (tmp_path / "elsewhere").exists()
