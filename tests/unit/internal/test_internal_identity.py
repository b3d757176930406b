"""What another user can open, tried as that user."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from keyturn._internal.identity import opens, opens_as

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@pytest.fixture
def place():
    """A folder that everybody can pass, with a file for its owner and one for all."""
    with tempfile.TemporaryDirectory(prefix="keyturn-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file, mode in (("own", 0o600), ("all", 0o644), ("group", 0o640)):
            (folder / file).write_text("test")
            (folder / file).chmod(mode)
        (folder / "closed").mkdir(mode=0o700)
        (folder / "closed" / "all").write_text("test")
        yield folder


def test_opens(place):
    """Readable, a folder too; refused and absent are two things."""
    os.mkfifo(place / "pipe")
    assert [True, True, None, None, True] == [
        opens(path)
        for path in (
            place / "all",
            place / "closed",
            place / "none",
            place / "all" / "x",
            place / "pipe",
        )
    ]


@as_root
def test_as_another_user(place):
    """What root can read does not count, and this process is root afterwards."""
    os.chown(place / "group", 0, 4321)
    paths = [place / name for name in ("own", "all", "group", "closed", "closed/all", "none")]
    assert [False, True, False, False, False, None] == opens_as(NOBODY, NOBODY, paths)
    assert [False, True, True, False, False, None] == opens_as(NOBODY, 4321, paths)
    assert (0, 0) == (os.geteuid(), os.getegid())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # no child is left behind


@as_root
def test_root_s_groups_are_given_up(place):
    """A file of a group that only this process is in stays closed."""
    os.chown(place / "group", 0, 5432)
    before = os.getgroups()
    os.setgroups([*before, 5432])
    try:
        assert [False] == opens_as(NOBODY, NOBODY, [place / "group"])
    finally:
        os.setgroups(before)


@as_root
def test_root_is_no_other_user(place):
    """Whoever can be root again has tried nothing."""
    with pytest.raises(OSError, match="nothing could be tried as uid 0"):
        opens_as(0, 0, [place / "all"])


@pytest.mark.optional("CI runs as root")
@pytest.mark.skipif(os.geteuid() == 0, reason="root can be anybody")
def test_without_root_nothing_is_tried(place):
    """It is an error, and no answer."""
    with pytest.raises(OSError, match="nothing could be tried"):
        opens_as(NOBODY, NOBODY, [place / "all"])
