"""The embedded store's writes, killed and failed at every point."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback

import pytest

from keyturn._internal import failpoints
from keyturn._internal.database import Database
from keyturn.core.ids import EnvironmentName, SecretName, Token
from keyturn.core.model import Origin, SecretRef
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, KeyturnError, Unavailable
from keyturn.stores import describe, rotate_root_key
from tests.unit.stores.workshop import DB, PHRASE, Workshop, values

pytestmark = [
    pytest.mark.crash,
    # The test process has no thread that holds a lock of ours when it forks.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

MAX_POINTS = 400


@pytest.fixture(autouse=True)
def disarmed():
    """No failpoint outlives its test."""
    yield
    failpoints.disarm()


def in_child(action, arm=""):
    """
    Run *action* in a process of its own, with the failpoints that *arm* describes.

    Returns:
        The signal that ended it, or 0.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if arm:
                failpoints.arm(arm)
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) <= 0, "the child failed: see its traceback"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


class Acks:
    """What a child said it had done, in a file that outlives it."""

    def __init__(self, path):
        self.path = path

    def add(self, text):
        # One write a line: a killed writer leaves whole lines only.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, text.encode() + b"\n")
        os.close(descriptor)

    def all(self):
        return self.path.read_text().splitlines() if self.path.exists() else []


# --- the work that is interrupted --------------------------------------------------------


def write(workshop, acks):
    """Three changes, each acknowledged when its promote has returned; repeats after a crash."""
    store = workshop.open()
    for number in range(1, 4):
        if f"current {number}" in acks.all():
            continue
        token = Token(f"change {number}")
        version = store.put_pending(
            DB, values(value=b"value %d" % number), origin=Origin.SET, token=token
        )
        acks.add(f"pending {number}")
        expected = number - 1 or None
        assert version.number == number
        store.promote(DB, number, expected_current=expected)
        acks.add(f"current {number}")
    if "destroyed 1" not in acks.all():
        store.destroy(DB, 1)
        acks.add("destroyed 1")


def discard(workshop, acks):
    """A pending version that is discarded."""
    store = workshop.open()
    version = store.put_pending(
        DB, values(value=b"value 1"), origin=Origin.SET, token=Token("change 1")
    )
    acks.add("pending 1")
    store.discard_pending(DB, version.number)


def root_key(workshop, acks):
    """A new root key, in a new key file."""
    store = workshop.open()
    rotate_root_key(store.database, store.keys, home=workshop.home, entropy=workshop.entropy)
    acks.add("rotated")


def to_phrase(workshop, acks):
    """From the key file to a passphrase and back to a key file."""
    store = workshop.open()
    for phrase in (PHRASE, None):
        rotate_root_key(
            store.database, store.keys, home=workshop.home, phrase=phrase, entropy=workshop.entropy
        )
    acks.add("rotated")


def data_key(workshop, acks):
    """A new data key, in many batches."""
    store = workshop.open()
    store.rotate_data_key(batch=2)
    acks.add("rotated")


def check(workshop, acks):
    """
    The invariants, in a fresh process.

    Acknowledged is present; one version at most is current; each row opens with
    exactly one listed key; nothing is wrong with the file.
    """
    store = workshop.open()
    assert store.verify() == []
    state = store.state(DB)
    said = acks.all()
    for line in said:
        what, _, number = line.partition(" ")
        if what == "current":
            assert (state.current or 0) >= int(number)
        if what == "pending":
            assert state.next_number > int(number)
    for version in store.history(DB):
        if "destroyed 1" in said and version.number == 1:
            assert version.destroyed
        if version.destroyed:
            assert version.number == 1
            continue
        read = store.read(DB, version.number)
        assert read.values == values(value=b"value %d" % version.number)
    listed = {row[0] for row in store.database.rows("SELECT id FROM data_key")}
    used = {row[0] for row in store.database.rows("SELECT data_key FROM value")}
    used |= {row[0] for row in store.database.rows("SELECT data_key FROM sealed_item")}
    assert used <= listed
    assert len(store.database.rows("SELECT id FROM data_key WHERE state = 'active'")) == 1
    names = {entry.name for entry in workshop.home.iterdir()}
    assert not [name for name in names if name.endswith(".next")]
    kind = describe(store.database).root_key_kind
    assert names == ({"root.key"} if kind == "key-file" else set())
    workshop.close()


def prepared(folder, versions):
    """A store with some versions, made in a child so that this process never opens it."""

    def make():
        store = workshop.create()
        for number in range(1, versions + 1):
            store.put_pending(
                DB,
                values(value=b"value %d" % number),
                origin=Origin.SET,
                token=Token(f"change {number}"),
            )
            store.promote(DB, number, expected_current=number - 1 or None)
        workshop.close()

    folder.mkdir()
    workshop = Workshop(folder)
    assert in_child(make) == 0
    return workshop, Acks(folder / "acks")


WORK = {write: 0, discard: 0, root_key: 3, to_phrase: 3, data_key: 7}


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_killed_at_every_point(tmp_path, work):
    """Killed at each point in turn: the store is sound, and the work can be done again."""
    for point in range(1, MAX_POINTS):
        workshop, acks = prepared(tmp_path / f"{point}", WORK[work])
        killed = in_child(lambda: work(workshop, acks), arm=f"*:{point}")
        assert killed in (0, signal.SIGKILL)
        in_child(lambda: check(workshop, acks))
        # Doing it again settles what was left, and again finds everything in order.
        in_child(lambda: work(workshop, acks))
        in_child(lambda: check(workshop, acks))
        if not killed:
            break
    else:
        raise AssertionError("the child never ended by itself")
    assert point > 4, "the work reaches hardly any failpoint: what is tested here?"


@pytest.mark.parametrize("work", [root_key, data_key, write], ids=lambda work: work.__name__)
def test_killed_again_while_recovering(tmp_path, work):
    """A second crash, in the run that follows the first, changes nothing of that."""
    for first in range(1, MAX_POINTS):
        workshop, acks = prepared(tmp_path / f"{first}", WORK[work])
        killed = in_child(lambda: work(workshop, acks), arm=f"*:{first}")
        for second in (1, 2, 3, 5):
            in_child(lambda: work(workshop, acks), arm=f"*:{second}")
            in_child(lambda: check(workshop, acks))
        in_child(lambda: work(workshop, acks))
        in_child(lambda: check(workshop, acks))
        if not killed:
            return
    raise AssertionError("the child never ended by itself")


@pytest.mark.parametrize("point", range(1, 12))
def test_creation_killed_at_every_point(tmp_path, point):
    """After it there is a whole store or none, and a second creation replaces nothing."""
    workshop = Workshop(tmp_path)
    killed = in_child(lambda: workshop.create(), arm=f"*:{point}")
    keys = [path.read_bytes() for path in workshop.home.rglob("root.key")]

    def look():
        try:
            store = workshop.open()
        except Unavailable as error:
            assert error.code == "store.absent"
        else:
            assert store.verify() == []
            with pytest.raises(Conflict):
                workshop.create()

    in_child(look)
    if not killed:
        in_child(lambda: workshop.open().verify())
    # The next creation has an id and a folder of its own.
    other = Workshop(tmp_path, store_id="f" * 32)
    other.home = tmp_path / "next"

    def again():
        try:
            other.create()
        except Conflict as error:
            assert error.code == "store.exists"
            assert workshop.open().verify() == []
        else:
            assert other.open().verify() == []

    in_child(again)
    assert keys == [path.read_bytes() for path in workshop.home.rglob("root.key")]


# --- writes that fail -------------------------------------------------------------------


def traced(tmp_path, work):
    """Return the points that *work* reaches, in order."""
    workshop, acks = prepared(tmp_path / "traced", WORK[work])
    trace = tmp_path / "trace"
    in_child(lambda: work(workshop, acks), arm=f"trace={trace}")
    return list(dict.fromkeys(trace.read_text().splitlines()))


@pytest.mark.parametrize("how", ["error", "full"])
@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_failed_before_and_after_every_write(tmp_path, work, how):
    """Each point fails once, before the write or after it: sound, and done by the next try."""
    points = traced(tmp_path, work)
    assert "database.commit" in points
    assert "database.committed" in points
    for point in points:
        workshop, acks = prepared(tmp_path / point, WORK[work])

        def failing(workshop=workshop, acks=acks):
            try:
                work(workshop, acks)
            except (KeyturnError, OSError):
                pass
            # The handle that met the failure can be used again, or dropped.
            failpoints.disarm()
            workshop.close()
            work(workshop, acks)

        assert in_child(failing, arm=f"{point}:{how}") == 0
        in_child(lambda: check(workshop, acks))


# --- many writers -----------------------------------------------------------------------


WRITERS = 8
WRITES = 2_000


def test_nothing_acknowledged_is_lost_when_writers_are_killed(tmp_path):
    """Eight writers, killed at random and started again: every acknowledged write is there."""
    workshop, acks = prepared(tmp_path / "store", 0)
    chance = random.Random(20260102)
    writers = {}
    for writer in range(WRITERS):
        writers[start_writer(workshop, acks, writer)] = writer
    until = time.monotonic() + 60
    kills = 0
    while len(acks.all()) < WRITES and time.monotonic() < until:
        time.sleep(chance.uniform(0.02, 0.08))
        pid = chance.choice(list(writers))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        writer = writers.pop(pid)
        writers[start_writer(workshop, acks, writer)] = writer
    for pid in writers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    said = acks.all()
    assert kills > 5
    assert len(said) >= 500, "too few writes to prove anything"
    in_child(lambda: check_acks(workshop, said))


def start_writer(workshop, acks, writer):
    pid = os.fork()
    if pid:
        return pid
    try:
        write_for_ever(workshop, acks, writer)
    finally:
        os._exit(1)


def writer_ref(writer):
    return SecretRef(EnvironmentName("production"), SecretName(f"writer-{writer}"))


def write_for_ever(workshop, acks, writer):
    store = workshop.open()
    ref = writer_ref(writer)
    while True:
        # What an earlier self left pending is finished first.
        state = store.state(ref)
        if state.pending is None:
            data = workshop.entropy.random_bytes(8).hex()
            try:
                number = store.put_pending(
                    ref, values(value=data.encode()), origin=Origin.SET, token=Token(data)
                ).number
            except Conflict:
                continue
        else:
            number = state.pending
        try:
            store.promote(ref, number, expected_current=state.current)
        except Conflict:
            continue
        value = store.read(ref, number).values["value"].reveal_text()
        acks.add(f"{writer} {number} {value}")


def check_acks(workshop, said):
    store = workshop.open()
    assert store.verify() == []
    last = {}
    for line in said:
        writer, number, value = line.split()
        read = store.read(writer_ref(writer), int(number))
        assert read.values["value"] == SecretValue(value.encode())
        last[writer] = max(last.get(writer, 0), int(number))
    for writer, number in last.items():
        assert (store.state(writer_ref(writer)).current or 0) >= number


def test_a_database_is_usable_after_a_failed_commit(tmp_path):
    """The handle that met a full disk works on when there is space again."""
    workshop = Workshop(tmp_path)
    store = workshop.create()
    failpoints.arm("database.commit:full")
    with pytest.raises((OSError, KeyturnError)):
        store.put_pending(DB, values(value=b"x"), origin=Origin.SET, token=Token("t"))
    failpoints.disarm()
    assert store.state(DB).next_number == 1
    store.put_pending(DB, values(value=b"x"), origin=Origin.SET, token=Token("t"))
    workshop.close()
    with Database.open(workshop.path) as database:
        assert database.check_integrity() == []
