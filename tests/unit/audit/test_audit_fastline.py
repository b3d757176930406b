"""The fast path's append."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from fcntl import LOCK_EX, flock

import pytest

from keyturn import _fastaudit
from keyturn._internal import failpoints
from keyturn.audit.segment import walk
from tests.unit.audit.auditing import LINE

# The test process has no thread that holds a lock of ours when it forks.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def hooked():
    """The fast path reaches failpoints, as it does in no other process."""
    _fastaudit._hit = failpoints.hit
    yield
    _fastaudit._hit = None
    failpoints.disarm()


def unfit(yard, match, fields=LINE):
    """Expect a refusal that writes nothing."""
    before = yard.current.read_bytes()
    with pytest.raises(_fastaudit.SegmentUnfit, match=match):
        _fastaudit.append(str(yard.current), fields)
    assert before == yard.current.read_bytes()


def test_an_absent_segment_is_refused(tmp_path):
    """The fast path makes no file of its own."""
    with pytest.raises(FileNotFoundError):
        _fastaudit.append(str(tmp_path / "reads.log"), LINE)
    assert [] == list(tmp_path.iterdir())


def test_a_link_is_refused(yard):
    """A symbolic link in the segment's place is not followed."""
    yard.current.rename(yard.folder / "elsewhere")
    yard.current.symlink_to(yard.folder / "elsewhere")
    with pytest.raises(OSError) as caught:
        _fastaudit.append(str(yard.current), LINE)
    assert caught.value.errno == errno.ELOOP


def test_a_torn_tail_is_refused(yard):
    """Every cut of the last line is left to the slow path."""
    yard.append(2)
    whole = yard.current.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for size in range(start + 1, len(whole)):
        yard.current.write_bytes(whole[:size])
        unfit(yard, "torn")


@pytest.mark.parametrize(
    ("tail", "match"),
    [
        (b"\n", "torn"),
        (b"x\n", "torn"),
        (b"\0" * 300 + b"\n", "torn"),
        (b"0" * 64 + b' {"v":1,"n":,}\n', "no number"),
        (b"0" * 64 + b' {"v":1,"n":1x,}\n', "no number"),
        (b"z" * 64 + b' {"v":1,"n":1,}\n', "no hash"),
        (b"0" * 64 + b' {"v":1,"n":1,"x":"' + b"y" * 70_000 + b'"}\n', "torn"),
    ],
)
def test_a_strange_tail_is_refused(yard, tail, match):
    """A last line that is none of ours is left to the slow path."""
    with yard.current.open("ab") as file:
        file.write(tail)
    unfit(yard, match)


def test_another_file_is_refused(yard):
    """A file without our header is not written to."""
    yard.current.write_bytes(b"0" * 64 + b' {"v":1,"n":0,"format":"other"}\n')
    unfit(yard, "no segment")


def test_an_empty_file_is_refused(yard):
    """An empty file is no segment."""
    yard.current.write_bytes(b"")
    unfit(yard, "no segment")


def test_a_full_segment_is_refused(yard):
    """A segment at its bound waits to be closed."""
    line = LINE + b',"x":"' + b"y" * 60_000 + b'"'
    while yard.current.stat().st_size <= _fastaudit.MAX_SEGMENT_BYTES:
        _fastaudit.append(str(yard.current), line)
    unfit(yard, "full")


def test_a_line_beyond_the_bound_is_refused(yard):
    """A line that its readers would not take is not written."""
    unfit(yard, "too long", LINE + b',"x":"' + b"y" * 70_000 + b'"')


@pytest.mark.parametrize("fields", [b"", b"x", b"{}", LINE + b"\n", b'"a":1,\n"b":2'])
def test_members_in_the_wrong_form_are_our_bug(yard, fields):
    """The caller's mistake is not written into the log."""
    before = yard.current.read_bytes()
    with pytest.raises(ValueError):
        _fastaudit.append(str(yard.current), fields)
    assert before == yard.current.read_bytes()


def test_a_locked_segment_is_given_up(yard):
    """A holder that was stopped cannot stop every reader for ever."""
    with yard.current.open("rb") as holder, yard.current.open("rb") as waiter:
        flock(holder, LOCK_EX)
        with pytest.raises(_fastaudit.SegmentUnfit, match="stayed locked"):
            _fastaudit.lock(waiter.fileno(), LOCK_EX, time.monotonic() + 0.002)
    yard.append()


def test_a_segment_that_is_always_replaced_is_given_up(yard, monkeypatch):
    """The number of tries has a bound."""
    monkeypatch.setattr(os.path, "samestat", lambda a, b: False)
    with pytest.raises(_fastaudit.SegmentUnfit, match="again and again"):
        _fastaudit.append(str(yard.current), LINE)


def test_lines_are_chained(yard):
    """Each line is numbered and follows the one before."""
    yard.append(3)
    found = walk(yard.current.read_bytes(), name="reads.log")
    assert (3, b"", True, 0) == (found.lines, found.rest, found.ended, found.sealed)
    assert b'{"v":1,"n":3,' + LINE + b"}" == found.bodies[3]


def test_a_failure_before_the_write_writes_nothing(yard, hooked):
    """An error before the write leaves the segment as it was."""
    before = yard.current.read_bytes()
    failpoints.arm("fastaudit.write:error")
    with pytest.raises(OSError) as caught:
        yard.append()
    assert (errno.EIO, before) == (caught.value.errno, yard.current.read_bytes())


def test_a_failure_before_the_sync_is_reported(yard, hooked):
    """A line that may not be durable is not acknowledged, and the chain goes on after it."""
    failpoints.arm("fastaudit.written:error")
    with pytest.raises(OSError):
        yard.append()
    yard.append()
    assert walk(yard.current.read_bytes(), name="reads.log").lines == 2


def test_a_short_write_is_an_error_and_is_sealed_off(yard):
    """A disk that takes half a line leaves a torn tail, which the slow path seals; nothing is lost."""
    yard.append(2)
    size = yard.current.stat().st_size
    pid = os.fork()
    if pid == 0:
        status = 9
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 70, size + 70))
            yard.append()
        except OSError as error:
            status = 0 if error.errno == errno.ENOSPC else 8
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert yard.current.stat().st_size == size + 70
    unfit(yard, "torn")
    assert ["the read log had a torn tail, which was sealed off"] == yard.segments.maintain()
    yard.append()
    assert (1, 4) == (yard.verify().read_log.sealed, yard.verify().read_log.lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_a_full_disk_refuses_and_recovers(yard, tmp_path):
    """On a full disk nothing is acknowledged; when there is space again the log goes on."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system could be mounted: {mounted.stderr.decode().strip()}")
    try:
        path, ballast = small / "reads.log", small / "ballast"
        path.touch(mode=0o600)
        path.write_bytes(yard.current.read_bytes())
        ballast.write_bytes(b"x" * 16_384)
        acknowledged = 0
        with pytest.raises(OSError) as caught:
            for _ in range(10_000):
                _fastaudit.append(str(path), LINE)
                acknowledged += 1
        assert caught.value.errno == errno.ENOSPC
        assert acknowledged > 10
        ballast.unlink()
        yard.current.unlink()
        yard.folder.rmdir()
        yard.folder.symlink_to(small)
        yard.segments.maintain()
        yard.append()
        assert yard.verify().read_log.lines >= acknowledged + 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_the_module_imports_nothing_else():
    """Importing it in a bare interpreter loads no module beyond the allow-list."""
    program = (
        "import sys; before = set(sys.modules); import keyturn._fastaudit;"
        "print(*sorted(set(sys.modules) - before))"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True
    ).stdout
    allowed = {"keyturn", "keyturn._fastaudit", "fcntl", "time", "_sha256", "_sha2", "__future__"}
    assert set(out.split()) - allowed == set()
