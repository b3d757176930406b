"""A clock that was set back is told from the records, whoever wrote the last of them."""

from __future__ import annotations

import pytest

from keyturn.app.clockwatch import clock_note, time_ahead
from keyturn.app.secrets import set_field
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError
from keyturn.testing.clock import FakeClock
from tests.cli.projects import DEVELOPMENT


def behind(log, seconds):
    """Return a clock that far behind the last record."""
    clock = FakeClock()
    last = log.at(log.head().seq).moment
    clock.step(last.timestamp() - seconds - clock.now().timestamp())
    return clock


@pytest.mark.parametrize(
    ("seconds", "warned"), [(7200, True), (400, True), (200, False), (0, False)]
)
def test_a_clock_behind_the_log(seconds, warned, session):
    """Minutes are told, with how many seconds they are; a leap is not."""
    log = session.audit.log
    note = clock_note(log, behind(log, seconds))
    assert warned == (note is not None)
    if note is not None:
        told = int(next(word for word in note.split() if word.isdigit()))
        assert seconds - 1 <= told <= seconds


@pytest.fixture
def stamped(project, session):
    """The project, opened and changed by a clock that is two hours behind."""
    opened = project.session(clock=behind(session.audit.log, 7200))
    set_field(opened, DEVELOPMENT, "api", SecretValue(b"test-new-Yy1Xx2Ww3Vv4"))
    yield opened
    opened.close()


def test_the_wrong_clock_s_own_records_do_not_hide_it(stamped):
    """After a change that was stamped by it, it is told again."""
    assert clock_note(stamped.audit.log, stamped.clock) is not None


def test_only_so_many_records_are_looked_at(stamped):
    """The last one alone is by the clock that is asked."""
    assert time_ahead(stamped.audit.log, stamped.clock, records=1) is None


def test_a_damaged_record_is_not_told_here(session):
    """It keeps no command from its work; the looks that are made for it tell it."""
    log = session.audit.log
    session.database.execute("UPDATE audit SET record = x'00' WHERE seq = 2")
    with pytest.raises(KeyturnError):
        log.at(2)
    assert clock_note(log, behind(log, 7200)) is None
