"""What stands in the place of a segment: a pipe is not waited for, and what others may write is refused."""

from __future__ import annotations

import os

import pytest

from keyturn import _fastaudit
from keyturn.audit.segments import read_segment, segment_files
from keyturn.errors import AccessDenied, IntegrityError
from tests.unit.audit.auditing import LINE

NOBODY = 65534


def append(yard):
    _fastaudit.append(str(yard.current), LINE)


def put_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)


def test_the_fast_path_writes_into_no_pipe(yard):
    """It neither waits for a reader of the pipe nor takes it for a log."""
    put_pipe(yard.current)
    with pytest.raises(_fastaudit.SegmentUnfit, match="no plain file"):
        append(yard)


def test_a_pipe_in_place_of_the_read_log_is_told(yard):
    """Whoever reads or maintains the log is told at once, and nothing waits for a writer."""
    put_pipe(yard.current)
    for action in (
        yard.segments.maintain,
        yard.segments.rotate,
        yard.verify,
        lambda: segment_files(yard.folder),
        lambda: read_segment(yard.current),
    ):
        with pytest.raises(IntegrityError) as caught:
            action()
        assert "audit.inserted" == caught.value.code
        assert str(yard.current) in caught.value.hint


def test_a_pipe_in_place_of_a_closed_segment_is_told(yard):
    """An older segment is read as carefully as the current one."""
    yard.append()
    yard.segments.rotate()
    put_pipe(yard.folder / "reads-000001.log")
    with pytest.raises(IntegrityError) as caught:
        yard.verify()
    assert "audit.inserted" == caught.value.code


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_what_others_may_write_is_refused(yard, mode):
    """Either way refuses it; the hint mends it, and nothing was written before."""
    before = yard.current.read_bytes()
    yard.current.chmod(mode)
    with pytest.raises(_fastaudit.SegmentUnfit, match="not ours alone"):
        append(yard)
    for action in (yard.segments.maintain, yard.verify):
        with pytest.raises(AccessDenied) as caught:
            action()
        assert f"`chmod 600 {yard.current}`" == caught.value.hint
    assert before == yard.current.read_bytes()
    yard.current.chmod(0o600)
    yard.segments.maintain()
    append(yard)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_what_others_may_only_read_serves(yard, mode):
    """The log holds no value: that others can read it is no reason to stop."""
    yard.current.chmod(mode)
    append(yard)
    yard.segments.maintain()
    assert 1 == yard.verify().read_log.lines


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_another_is_refused(yard):
    """Its owner could change the mode, and then the lines."""
    os.chown(yard.current, NOBODY, NOBODY)
    with pytest.raises(_fastaudit.SegmentUnfit, match="not ours alone"):
        append(yard)
    for action in (yard.segments.maintain, yard.verify):
        with pytest.raises(AccessDenied, match=f"belongs to uid {NOBODY}"):
            action()
