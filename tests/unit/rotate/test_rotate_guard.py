"""What the schedule needs of the runner and the journal."""

from __future__ import annotations

import pytest

from keyturn.errors import Conflict, Rejected, VerificationFailed
from keyturn.rotate import State, Step
from tests.unit.rotate.rotating import Rotating
from tests.unit.stores.workshop import DB, WEB

YEAR = 365 * 86_400


@pytest.fixture
def rotating(tmp_path):
    made = Rotating(tmp_path)
    yield made
    made.close()


def test_a_guard_that_refuses_leaves_nothing(rotating):
    """No row, no record, no call at the target: as if nobody had asked."""

    def refuse():
        raise Conflict("not now", code="rotation.pair")

    with pytest.raises(Conflict, match="not now"):
        rotating.start(guard=refuse)
    assert rotating.journal.last(DB) is None
    assert [] == rotating.audit.entries()
    assert [] == rotating.kind.calls


def test_a_guard_is_asked_when_nobody_else_can_begin(rotating):
    """Inside the transaction, with the rotation's own row there already."""
    seen = []

    def look():
        seen.append((rotating.store.database.in_transaction, rotating.journal.live(DB).step))

    assert State.DONE is rotating.start(guard=look).rotation.state
    assert [(True, Step.CREATE)] == seen


def test_a_guard_is_not_asked_about_what_cannot_begin_anyway(rotating):
    """The other refusal is the one that is told."""
    rotating.start(grace_seconds=3600)
    with pytest.raises(Conflict) as caught:
        rotating.start(guard=pytest.fail)
    assert "rotation.running" == caught.value.code


def test_a_grace_from_a_time_that_never_came_begins_anew(rotating):
    """The clock was a year ahead when it began; nobody waits for that year to pass."""
    rotating.clock.step(YEAR)
    rotating.start(grace_seconds=3600)
    rotating.clock.step(-YEAR)
    assert State.LIVE is rotating.resume().rotation.state
    left = rotating.journal.live(DB).wait_until - rotating.clock.now()
    assert 3600 == left.total_seconds()
    assert 2 == len(rotating.target.accepted)
    rotating.clock.advance(3601)
    assert State.DONE is rotating.resume().rotation.state


def test_a_clock_that_is_a_little_ahead_changes_no_grace(rotating):
    """The wait stays as it was written."""
    report = rotating.start(grace_seconds=3600)
    rotating.clock.step(-7200)
    assert report.rotation.wait_until == rotating.resume().rotation.wait_until
    assert 1 == rotating.journal.live(DB).fence


def test_failures_are_those_of_one_version(rotating):
    """Counted by what was to be replaced, not by when; a success is none of them."""
    rotating.kind.failures["check"] = [Rejected("no", code="target.denied") for _ in range(2)]
    for _ in range(2):
        rotating.start()
        rotating.clock.step(-YEAR)
    found = rotating.journal.failures(DB, 1)
    assert [(State.ROLLED_BACK, "target.denied")] * 2 == [
        (each.state, each.error_code) for each in found
    ]
    assert 1 == len(rotating.journal.failures(DB, 1, limit=1))
    rotating.start()
    current = rotating.store.state(DB).current
    assert current != 1
    assert [] == rotating.journal.failures(DB, current)
    assert [] == rotating.journal.failures(WEB, 1)


def test_setbacks_are_counted(rotating):
    """Each time that it got stuck; a rotation that never did has none."""
    rotating.kind.failures["prove_dead"] = [VerificationFailed("it works") for _ in range(3)]
    report = rotating.start()
    assert State.STUCK is report.rotation.state
    assert 1 == rotating.journal.setbacks(report.rotation)
    rotating.resume()
    assert 2 == rotating.journal.setbacks(report.rotation)


def test_who_holds_a_rotation(rotating):
    """This process does while it runs, and nobody does when it waits."""
    held = []

    def look():
        held.append(rotating.journal.is_held(rotating.journal.live(DB)))

    rotating.start(guard=look, grace_seconds=3600)
    held.append(rotating.journal.is_held(rotating.journal.live(DB)))
    assert [True, False] == held
