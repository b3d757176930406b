"""Appending to the log, reading it, and what is still open."""

from __future__ import annotations

import pytest

from keyturn._internal import failpoints
from keyturn.audit import Action, AuditLog, Outcome, Selection, genesis
from keyturn.audit.chain import link
from keyturn.core.value import SecretValue
from keyturn.errors import IntegrityError, InternalError, StoreError
from tests.unit.audit.auditing import STORE_ID, event


@pytest.fixture
def log(yard):
    """A log without a signer, so that the numbers of its records are all ours."""
    yard.tamper("DELETE FROM audit_pointer")
    yard.tamper("DELETE FROM audit")
    return AuditLog(yard.database, clock=yard.clock, store_id=STORE_ID)


def test_a_refused_event_writes_nothing(log):
    """An event that holds a value fails before anything is stored."""
    with pytest.raises(InternalError):
        log.record(event(detail={"value": SecretValue(b"x")}))
    assert log.head() == genesis(STORE_ID)


def test_a_record_that_cannot_be_written_stops_the_change(yard, log):
    """Where the database refuses, the caller's transaction is undone with it."""
    failpoints.arm("database.commit:full")
    with pytest.raises(OSError):
        with yard.database.transaction():
            yard.database.execute("INSERT INTO meta VALUES ('a', 'b')")
            log.record(event())
    assert (log.head().seq, []) == (0, yard.database.rows("SELECT * FROM meta"))


def test_a_record_shares_its_change_fate(yard, log):
    """The change and its record are both there or neither is."""
    with pytest.raises(ZeroDivisionError):
        with yard.database.transaction():
            log.record(event())
            raise ZeroDivisionError
    assert log.head().seq == 0


def test_records_are_chained(yard, log):
    """Each stored hash covers the stored bytes and the hash before it."""
    yard.clock.advance(1)
    first, second = log.record(event()), log.record(event())
    rows = yard.rows()
    assert [1, 2] == [first.seq, second.seq] == [row[0] for row in rows]
    assert link(genesis(STORE_ID).head, rows[0][1]) == rows[0][2]
    assert link(rows[0][2], rows[1][1]) == rows[1][2] == log.head().head


def test_two_connections_write_one_chain(yard, log):
    """A second process goes on where the first one stopped."""
    from keyturn._internal.database import Database

    log.record(event())
    with Database.open(yard.root / "store.db") as other:
        assert AuditLog(other, clock=yard.clock, store_id=STORE_ID).record(event()).seq == 2
    assert log.record(event()).seq == 3


def test_what_was_written_last_is_known_without_reading(yard, log):
    """The place of this log's own last record, whatever another one wrote since."""
    assert log.written() == genesis(STORE_ID)
    log.record(event())
    mine = log.head()
    AuditLog(yard.database, clock=yard.clock, store_id=STORE_ID).record(event())
    assert (log.written(), log.head().seq) == (mine, 2)


def test_what_was_undone_is_overwritten_by_the_next_record(yard, log):
    """A record whose transaction was undone leaves its number to the next one."""
    log.record(event())
    with pytest.raises(KeyError), yard.database.transaction():
        log.record(event(object="production/undone"))
        raise KeyError
    log.record(event(object="production/kept"))
    assert log.written() == log.head()
    assert log.at(2).object == "production/kept"


def test_head_at_knows_every_number_of_the_chain(log):
    """The start has number 0, and beyond the end there is nothing."""
    log.record(event())
    assert log.head_at(0) == genesis(STORE_ID).head
    assert log.head_at(1) == log.head().head
    assert (log.head_at(2), log.at(2)) == (None, None)


def test_begun_stays_open_until_settled(log):
    """A change is open from `begun` to its outcome; `unknown` leaves it open."""
    begun = log.record(event(Action.VERSION_PROMOTE, Outcome.BEGUN))
    other = log.record(event(Action.VERSION_SET, Outcome.BEGUN))
    log.record(event(Action.VERSION_PROMOTE, Outcome.UNKNOWN, settles=begun.seq))
    assert [begun, other] == log.open_begun()
    log.record(event(Action.VERSION_PROMOTE, Outcome.DONE, settles=begun.seq))
    assert [other] == log.open_begun()
    log.record(event(Action.VERSION_SET, Outcome.FAILED, settles=other.seq))
    assert [] == log.open_begun()


def test_a_read_or_a_rotation_step_is_never_open(log):
    """A read needs no second record, and a rotation's own journal settles its steps."""
    log.record(event(Action.VALUE_READ, Outcome.BEGUN))
    log.record(event(Action.ROTATION_STEP_BEGIN, Outcome.BEGUN))
    assert [] == log.open_begun()


def test_a_misleading_pointer_is_refused(yard, log):
    """What the table of places points at is looked at, not believed."""
    log.record(event(Action.VALUE_READ))
    yard.tamper("INSERT INTO audit_pointer VALUES ('begun', 1, 1)")
    yard.tamper("INSERT INTO audit_pointer VALUES ('anchor', 9, 1)")
    for ask in (log.open_begun, lambda: log.last_anchor(9)):
        with pytest.raises(IntegrityError) as caught:
            ask()
        assert caught.value.code == "audit.pointer"


def fill(yard, log):
    """Write eight records, one a minute, of four kinds."""
    for number in range(8):
        yard.clock.advance(60)
        action = [Action.VALUE_READ, Action.VERSION_SET, Action.SECRET_LIST, Action.ACCESS_DENIED]
        outcome = Outcome.DENIED if number % 4 == 3 else Outcome.DONE
        log.record(event(action[number % 4], outcome, object=f"env{number}/db"))


@pytest.mark.parametrize(
    ("selection", "seqs"),
    [
        (Selection(), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Selection(actions={"secret.value.read"}), [1, 5]),
        (Selection(actions={"secret.*.set", Action.ACCESS_DENIED}), [2, 4, 6, 8]),
        (Selection(object="env[0-2]/*"), [1, 2, 3]),
        (Selection(object="env1/d"), []),
        (Selection(actor="deploy", outcomes={Outcome.DENIED}), [4, 8]),
        (Selection(actor="nobody"), []),
    ],
)
def test_reading_selects(yard, log, selection, seqs):
    """Each filter narrows what is shown, in both directions."""
    fill(yard, log)
    assert seqs == [r.seq for r in log.read(selection, newest_first=False)]
    assert seqs[::-1] == [r.seq for r in log.read(selection)]


def test_reading_selects_by_time(yard, log):
    """`since` is included and `until` is not."""
    fill(yard, log)
    times = [r.moment for r in log.read(newest_first=False)]
    found = log.read(Selection(since=times[2], until=times[5]), newest_first=False)
    assert [3, 4, 5] == [r.seq for r in found]


def test_reading_goes_on_where_it_stopped(yard, log):
    """A page and its cursor cover the log without gap or repetition, across table pages."""
    with yard.database.transaction():
        for _ in range(1_100):
            log.record(event())
    for newest_first in (True, False):
        seen, cursor = [], None
        while page := list(log.read(limit=300, cursor=cursor, newest_first=newest_first)):
            seen += [r.seq for r in page]
            cursor = page[-1].seq
        assert sorted(seen, reverse=newest_first) == seen == [*dict.fromkeys(seen)]
        assert len(seen) == 1_100


def test_reading_with_limit_zero_reads_nothing(yard, log):
    """A limit of nothing is nothing."""
    fill(yard, log)
    assert [] == list(log.read(limit=0))


def test_an_unreadable_record_is_not_skipped(yard, log):
    """A reader that meets a broken record says so."""
    log.record(event())
    yard.tamper("UPDATE audit SET record = x'00'")
    with pytest.raises(IntegrityError):
        list(log.read())


def test_a_busy_database_is_a_typed_error(yard, log, tmp_path):
    """No vendor exception leaves the log."""
    yard.tamper("DROP TABLE audit_pointer")
    with pytest.raises(StoreError):
        log.open_begun()
