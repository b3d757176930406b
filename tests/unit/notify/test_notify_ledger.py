"""What was told is remembered: across runs, crashes, and clocks that are set."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from keyturn._internal.database import Database
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef
from keyturn.notify import Ledger, Level, Notice
from keyturn.testing.clock import FakeClock

HOUR, DAY = 3_600, 86_400


@pytest.fixture
def clock():
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture
def database(tmp_path):
    """A control database."""
    with Database.open(tmp_path / "store.db", create=True) as opened:
        yield opened


@pytest.fixture
def ledger(database, clock):
    """A ledger in it."""
    return Ledger(database, clock=clock)


def notice(level=Level.DUE, name="db", about="v1", environment="production"):
    """Return a notice."""
    ref = SecretRef(EnvironmentName(environment), SecretName(name))
    clock = FakeClock()
    return Notice(ref, level, about, text="", command="", since=clock.now())


def tell(ledger, *notices, contact="security", run="one", sent=True):
    """Claim *notices* and settle them; return which were claimed."""
    claimed = ledger.claim(notices, contact, run=run)
    ledger.settle(run=run, contact=contact, sent=sent)
    return claimed


def test_told_once(ledger, clock):
    """The same of the same version is not told again, however long it holds."""
    due = notice()
    assert [due] == tell(ledger, due)
    for _ in range(3):
        clock.advance(100 * DAY)
        assert [] == ledger.untold([due], "security") == tell(ledger, due)


@pytest.mark.parametrize(
    "other",
    [
        notice(level=Level.OVERDUE),
        notice(name="api"),
        notice(about="v2"),
        notice(environment="staging"),
    ],
)
def test_another_is_told(ledger, other):
    """Another level, secret, version or environment is another notice."""
    tell(ledger, notice())
    assert [other] == tell(ledger, other)


def test_each_contact_is_told(ledger):
    """What one knows the other does not."""
    tell(ledger, notice(), contact="security")
    assert [notice()] == tell(ledger, notice(), contact="on_call")
    assert [] == tell(ledger, notice(), contact="on_call")


def test_what_goes_on_is_told_again(ledger, clock):
    """Each week, half a day early at most; an alarm each day."""
    overdue, alarm = notice(Level.OVERDUE), notice(Level.ALARM, name="api")
    tell(ledger, overdue, alarm)
    clock.advance(22 * HOUR)
    assert [] == tell(ledger, overdue, alarm)
    clock.advance(HOUR)
    assert [alarm] == tell(ledger, overdue, alarm)
    clock.advance(5 * DAY + 12 * HOUR)
    assert [alarm] == tell(ledger, overdue, alarm)
    clock.advance(2 * HOUR)
    assert [overdue] == tell(ledger, overdue, alarm)


def test_what_failed_is_told_by_the_next_run(ledger):
    """Nobody got it."""
    tell(ledger, notice(), sent=False)
    assert [notice()] == tell(ledger, notice(), run="two")
    assert [] == tell(ledger, notice(), run="three")


def test_what_is_being_sent_is_left_to_who_sends_it(ledger, clock):
    """For ten minutes; whoever has not ended by then has died."""
    ledger.claim([notice()], "security", run="died")
    clock.advance(599)
    assert [] == ledger.claim([notice()], "security", run="two")
    clock.advance(1)
    assert [notice()] == ledger.claim([notice()], "security", run="two")
    # Too late: it is the other's now.
    ledger.settle(run="died", contact="security", sent=True)
    clock.advance(600)
    assert [notice()] == ledger.claim([notice()], "security", run="three")


def test_a_clock_that_was_ahead_silences_nothing(ledger, clock):
    """Told by a clock a year ahead: what goes on is told now, and a dead run is not waited for."""
    overdue, due = notice(Level.OVERDUE), notice(name="api")
    clock.step(365 * DAY)
    tell(ledger, overdue)
    ledger.claim([due], "security", run="died")
    clock.step(-365 * DAY)
    assert [overdue, due] == tell(ledger, overdue, due, run="two")


def test_a_claim_that_is_undone_was_none(ledger, database):
    """It commits with what it is a part of."""
    with pytest.raises(RuntimeError), database.transaction():
        ledger.claim([notice()], "security", run="one")
        raise RuntimeError
    assert [notice()] == ledger.untold([notice()], "security")


def test_two_connections_claim_it_once(tmp_path, ledger, database, clock):
    """The second one looks again under the lock."""
    with Database.open(database.path) as second:
        other = Ledger(second, clock=clock)
        assert [notice()] == other.untold([notice()], "security")
        ledger.claim([notice()], "security", run="one")
        assert [] == other.claim([notice()], "security", run="two")


def test_the_table_is_bounded(ledger, database, clock):
    """What nobody will ask for again goes."""
    tell(ledger, *(replace(notice(), about=f"v{number}") for number in range(50)))
    clock.advance(timedelta(days=801).total_seconds())
    tell(ledger, notice(about="v51"))
    assert (1,) == database.one("SELECT count(*) FROM notice")


def test_nothing_is_nothing(ledger):
    """No notice, no claim."""
    assert [] == ledger.untold([], "security") == ledger.claim([], "security", run="one")
