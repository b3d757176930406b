"""Appends to the audit log, and the upkeep of the read log, killed and failed at every point."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time

import pytest

from keyturn import _fastaudit
from keyturn._internal import failpoints
from keyturn.audit import CHECKPOINT_EVERY, Action, Outcome, read_all
from keyturn.errors import KeyturnError, Unavailable
from tests.unit.audit.auditing import LINE, event, make_yard

pytestmark = [
    pytest.mark.crash,
    # The test process has no thread that holds a lock of ours when it forks.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

MAX_POINTS = 200


@pytest.fixture(autouse=True)
def disarmed():
    """No failpoint outlives its test."""
    yield
    failpoints.disarm()
    _fastaudit._hit = None


class Acknowledged:
    """What a child was told is done, in a file that outlives it."""

    def __init__(self, root):
        self.path = root / "acknowledged"
        self.path.touch()

    def add(self, name):
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, f"{name}\n".encode())
        os.close(descriptor)

    def names(self):
        return self.path.read_text().split()


def start(action, arm=""):
    """Start *action* in a process of its own, with its failpoints armed; return its id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _fastaudit._hit = failpoints.hit
            if arm:
                failpoints.arm(arm)
            action()
            status = 0
        except (OSError, KeyturnError):
            status = 2
        finally:
            os._exit(status)
    return pid


def end_of(pid):
    """Return what a child ended with: a signal below zero, or its status."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_every_point(action, before, after):
    """
    Kill *action* at the first failpoint it reaches, at the second, and so on to its normal end.

    Args:
        before: Makes the folder for one round and returns it.
        after: Checks the folder once the process is dead.
    """
    for number in itertools.count(1):
        assert number < MAX_POINTS
        root = before(number)
        status = end_of(start(lambda: action(root), f"*:{number}"))
        assert status in (0, -signal.SIGKILL)
        after(root)
        if status == 0:
            return number - 1
    raise AssertionError


def fresh(tmp_path):
    """Return a maker of folders that hold a log with a read log of three lines."""

    def make(number):
        root = tmp_path / f"round{number}"
        yard = make_yard(root, fresh=True)
        yard.segments.maintain()
        yard.append(3)
        yard.segments.maintain()
        yard.database.close()
        Acknowledged(root)
        return root

    return make


def reopened(root):
    """Open the log as the next process does, put the read log in order, and verify everything."""
    yard = make_yard(root, create=False)
    yard.segments.maintain()
    report = yard.verify()
    assert report.read_log.unanchored == 0
    return yard, report


def objects(yard):
    """Return the object of every entry of the whole log."""
    return [e.record.object for e in read_all(yard.log, yard.folder, newest_first=False)]


def append_named(yard, name):
    """Append a line about *name*, as the fast path does."""
    _fastaudit.append(str(yard.current), LINE.replace(b"production", name.encode()))


def test_records_killed_at_every_point(tmp_path):
    """An acknowledged record is there, the chain holds, and a pair is there whole or not at all."""

    def write(root):
        yard, done = make_yard(root, create=False), Acknowledged(root)
        for name in ("one", "two"):
            with yard.database.transaction():
                yard.log.record(event(Action.VERSION_SET, Outcome.BEGUN, object=name))
                yard.log.record(event(object=name))
            done.add(name)

    def check(root):
        yard, _ = reopened(root)
        found = objects(yard)
        assert set(Acknowledged(root).names()) <= set(found)
        assert all(found.count(name) in (0, 2) for name in ("one", "two"))
        assert [r.object for r in yard.log.open_begun()] == [
            name for name in ("one", "two") if name in found
        ]
        yard.log.record(event())
        yard.verify()
        yard.database.close()

    assert at_every_point(write, fresh(tmp_path), check) >= 4


def test_checkpoints_killed_at_every_point(tmp_path):
    """A due checkpoint and its record are there together or not at all."""
    make = fresh(tmp_path)

    def before(number):
        root = make(number)
        yard = make_yard(root, create=False)
        yard.record(CHECKPOINT_EVERY - 1 - yard.log.head().seq)
        yard.database.close()
        return root

    def check(root):
        yard = make_yard(root, create=False)
        signed = yard.verify().signed_up_to
        assert signed == (CHECKPOINT_EVERY if yard.log.head().seq >= CHECKPOINT_EVERY else 0)
        yard.database.close()

    assert at_every_point(lambda root: make_yard(root, create=False).record(1), before, check) >= 2


def test_lines_killed_at_every_point(tmp_path):
    """An acknowledged line of the read log is there, and the next append goes on after it."""

    def write(root):
        yard, done = make_yard(root, create=False), Acknowledged(root)
        for name in ("one", "two", "three"):
            append_named(yard, name)
            done.add(name)

    def check(root):
        yard, report = reopened(root)
        found = objects(yard)
        done = Acknowledged(root).names()
        assert done == [name for name in found if name in done]
        assert 3 + len(done) <= report.read_log.lines <= 3 + len(done) + 1
        yard.append()
        assert yard.verify().read_log.lines == report.read_log.lines + 1
        yard.database.close()

    assert at_every_point(write, fresh(tmp_path), check) >= 9


def torn(make, cut):
    """Return a maker of folders whose read log lost the last *cut* bytes of an append."""

    def before(number):
        root = make(number)
        yard = make_yard(root, create=False)
        yard.append()
        os.truncate(yard.current, yard.current.stat().st_size - cut)
        yard.database.close()
        return root

    return before


@pytest.mark.parametrize("cut", [1, 2, 100])
def test_repair_killed_at_every_point(tmp_path, cut):
    """Whenever the repair dies, the next one finishes it, and the torn bytes are still there."""

    def check(root):
        yard, report = reopened(root)
        assert yard.current.read_bytes().count(b'"action":"audit.segment.repair"') == 1
        assert report.read_log.sealed == (cut > 1)
        yard.append()
        yard.verify()
        yard.database.close()

    action = lambda root: make_yard(root, create=False).segments.maintain()  # noqa: E731
    assert at_every_point(action, torn(fresh(tmp_path), cut), check) >= 4


def test_repair_torn_after_every_byte(tmp_path):
    """A repair whose own write was cut anywhere is repaired in turn."""
    root = torn(fresh(tmp_path), 50)(0)
    size = (root / "audit" / "reads.log").stat().st_size
    yard = make_yard(root, create=False)
    before = yard.log.head()
    yard.segments.repair()
    sealed = yard.current.read_bytes()
    for cut in range(size + 1, len(sealed)):
        yard.current.write_bytes(sealed[:cut])
        # As after a kill: the record was never committed.
        yard.tamper("DELETE FROM audit_pointer WHERE seq > ?", before.seq)
        yard.tamper("DELETE FROM audit WHERE seq > ?", before.seq)
        assert yard.segments.repair()
        assert yard.verify().read_log.sealed == 1
    yard.database.close()


def test_an_append_torn_after_every_byte(tmp_path):
    """A line cut anywhere is sealed off, and what was acknowledged before stays."""
    root = fresh(tmp_path)(0)
    yard = make_yard(root, create=False)
    size = yard.current.stat().st_size
    append_named(yard, "torn")
    whole, before = yard.current.read_bytes(), yard.log.head()
    for cut in range(size + 1, len(whole)):
        yard.current.write_bytes(whole[:cut])
        yard.tamper("DELETE FROM audit_pointer WHERE seq > ?", before.seq)
        yard.tamper("DELETE FROM audit WHERE seq > ?", before.seq)
        # The pointer of the anchor before it, which the round before replaced.
        yard.tamper("INSERT OR REPLACE INTO audit_pointer VALUES ('anchor', 1, ?)", before.seq)
        yard.segments.maintain()
        append_named(yard, "next")
        report = yard.verify()
        assert (5 if cut < len(whole) - 1 else 6) == report.read_log.lines
        assert objects(yard)[-1] == "next" or "next" in objects(yard)
    yard.database.close()


def test_closing_killed_at_every_point(tmp_path):
    """Whenever closing dies, there is a segment to append to, and no line is lost or doubled."""

    def check(root):
        yard = make_yard(root, create=False)
        # The fast path comes first, before any slow command puts things in order.
        append_named(yard, "after")
        yard.segments.maintain()
        assert yard.segments.rotate() in (2, 3)
        report = yard.verify()
        assert (4, 0) == (report.read_log.lines, report.read_log.unanchored)
        yard.database.close()

    action = lambda root: make_yard(root, create=False).segments.rotate()  # noqa: E731
    assert at_every_point(action, fresh(tmp_path), check) >= 7


def test_starting_killed_at_every_point(tmp_path):
    """Whenever the first segment's making dies, the next command has one."""

    def before(number):
        root = tmp_path / f"round{number}"
        make_yard(root, fresh=True).database.close()
        return root

    def check(root):
        yard, report = reopened(root)
        assert (1, 0) == (report.read_log.segments, report.read_log.lines)
        yard.append()
        yard.verify()
        yard.database.close()

    action = lambda root: make_yard(root, create=False).segments.maintain()  # noqa: E731
    assert at_every_point(action, before, check) >= 5


POINTS = [
    "fastaudit.write",
    "fastaudit.written",
    "database.commit",
    "segment.seal",
    "segment.sealed",
    "segment.close",
    "segment.closed",
    "segment.create.write",
    "segment.create.rename",
    "segment.create.renamed",
]


@pytest.mark.parametrize("how", ["error", "full"])
@pytest.mark.parametrize("point", POINTS)
def test_a_disk_that_fails_at_any_point(tmp_path, point, how):
    """Each write failed before and after: reported, nothing acknowledged is lost, and it goes on."""
    root = torn(fresh(tmp_path), 20)(0)
    done = Acknowledged(root)

    def work():
        yard = make_yard(root, create=False)
        yard.segments.maintain()
        append_named(yard, "one")
        done.add("one")
        yard.log.record(event(object="two"))
        done.add("two")
        yard.segments.rotate()

    assert end_of(start(work, f"{point}:{how}")) == 2
    assert end_of(start(work)) == 0
    yard, _ = reopened(root)
    assert set(done.names()) <= set(objects(yard))
    yard.database.close()


def test_eight_processes_write_one_read_log(tmp_path):
    """4,000 appends of eight processes are one chain, and none is lost."""
    root = fresh(tmp_path)(0)

    def write(worker):
        yard = make_yard(root, create=False)
        for number in range(500):
            append_named(yard, f"w{worker}-{number}")

    pids = [start(lambda worker=worker: write(worker)) for worker in range(8)]
    assert [0] * 8 == [end_of(pid) for pid in pids]
    yard, report = reopened(root)
    assert report.read_log.lines == 3 + 8 * 500
    found = objects(yard)
    for worker in range(8):
        mine = [name for name in found if name.startswith(f"w{worker}-")]
        assert mine == [f"w{worker}-{number}" for number in range(500)]
    yard.database.close()


def test_processes_write_one_main_chain(tmp_path):
    """Records of four processes are one chain, and none is lost."""
    root = fresh(tmp_path)(0)

    def write(worker):
        yard = make_yard(root, create=False)
        for number in range(100):
            yard.log.record(event(object=f"w{worker}-{number}"))

    pids = [start(lambda worker=worker: write(worker)) for worker in range(4)]
    assert [0] * 4 == [end_of(pid) for pid in pids]
    yard, report = reopened(root)
    found = objects(yard)
    assert all(f"w{w}-{n}" in found for w in range(4) for n in range(100))
    assert report.checkpoints >= 1
    yard.database.close()


def test_writers_killed_at_random_while_segments_are_closed(tmp_path):
    """Kills at any moment, with repairs and closings going on: what was acknowledged is there."""
    root, rng = fresh(tmp_path)(0), random.Random(20260102)
    done = Acknowledged(root)

    def write(round_, worker):
        yard = make_yard(root, create=False)
        for number in itertools.count():
            name = f"r{round_}w{worker}-{number}"
            try:
                append_named(yard, name)
            except (_fastaudit.SegmentUnfit, FileNotFoundError):
                # The slow path, as a command takes it.
                yard.segments.maintain()
                yard.log.record(event(object=name))
            done.add(name)

    def close_segments():
        yard = make_yard(root, create=False)
        while True:
            try:
                yard.segments.maintain()
                yard.segments.rotate()
            except Unavailable:
                continue
            time.sleep(0.005)

    for round_ in range(6):
        pids = [start(lambda w=worker, r=round_: write(r, w)) for worker in range(3)]
        pids.append(start(close_segments))
        for pid in rng.sample(pids, len(pids)):
            time.sleep(rng.uniform(0.02, 0.08))
            os.kill(pid, signal.SIGKILL)
            assert end_of(pid) == -signal.SIGKILL
    yard, _ = reopened(root)
    found = set(objects(yard))
    assert set(done.names()) - found == set()
    assert len(done.names()) > 50
    yard.database.close()
