"""Kinds of several phases, steps that wait, and credentials that cannot be gone back to."""

from __future__ import annotations

import pytest

from keyturn.errors import Conflict, DeliveryError, NotYet, OutcomeUnknown, Rejected, Unavailable
from keyturn.rotate import State, Step
from keyturn.rotate.saga import End, Outcome, Plan, next_step, steps_ahead
from tests.unit.rotate.rotating import DB, Rotating

THREE = Plan("jwt", "default", 3, overlaps=True, grace_seconds=60, later_waits=(60, 0))
NO_WAY_BACK = Plan("twitch", "default", 3, overlaps=False, reversible=False)


@pytest.fixture
def rotating(tmp_path):
    scene = Rotating(tmp_path)
    yield scene
    scene.close()


@pytest.fixture
def phased(rotating):
    rotating.kind.phases = 3
    return rotating


def values(rotating):
    return [
        rotating.store.read(DB, version.number).values
        for version in reversed(rotating.store.history(DB))
    ]


def test_every_phase_is_delivered_and_waited_for():
    """The last one here has no wait; retirement comes after all of them."""
    assert (
        "create apply check promote deliver grace advance deliver grace advance deliver retire prove"
    ).split() == steps_ahead(THREE)


def test_without_waits_the_phases_remain():
    """Somebody in a hurry skips the time, not the steps."""
    assert (
        "create apply check promote deliver advance deliver advance deliver retire prove"
    ).split() == steps_ahead(THREE.without_waits)


@pytest.mark.parametrize("step", [Step.CHECK, Step.PROMOTE, Step.DELIVER])
def test_where_the_old_credential_is_dead_there_is_no_way_back(step):
    """Going back would leave nobody with a credential that works."""
    assert End.STUCK is next_step(NO_WAY_BACK, step, Outcome.REFUSED)


def test_an_advance_that_fails_is_stuck():
    """What is in use accepts old and new: nothing has to be undone."""
    assert End.STUCK is next_step(THREE, Step.ADVANCE, Outcome.REFUSED, phase=1)


def test_a_later_phase_goes_back_to_the_one_before():
    """Nothing is withdrawn: both credentials are accepted there."""
    found, step = [], next_step(THREE, Step.DELIVER, Outcome.REFUSED, phase=1)
    while isinstance(step, Step):
        found.append(step.value)
        step = next_step(THREE, step, Outcome.DONE, phase=1)
    assert ["demote", "restore", "redeliver"] == found
    assert End.ROLLED_BACK is step


def test_each_phase_is_a_version_of_its_own(phased):
    """The last one is current at the end, and consumers had all three."""
    report = phased.start(grace_seconds=10)
    assert State.DONE is report.rotation.state
    assert [2, 3, 4] == phased.consumers.versions
    assert (2, 4) == (report.rotation.phase, phased.store.state(DB).current)
    assert b"#2" in phased.current_value()


def test_a_wait_between_phases_is_left_to_a_later_run(phased):
    """Each later run goes on where the wait was."""
    assert Step.GRACE is phased.start(grace_seconds=3600).rotation.step
    phased.clock.advance(3601)
    report = phased.resume()
    assert (Step.GRACE, 1, 3) == (
        report.rotation.step,
        report.rotation.phase,
        report.rotation.new_version,
    )
    phased.clock.advance(3601)
    report = phased.resume()
    assert (Step.GRACE, 2) == (report.rotation.step, report.rotation.phase)
    phased.clock.advance(3601)
    assert State.DONE is phased.resume().rotation.state


def test_a_consumer_that_refuses_a_later_phase_gets_the_phase_before(phased):
    """The version that old and new credential share is current again."""
    phased.start(grace_seconds=3600)
    phased.clock.advance(3601)
    phased.consumers.failures.append(DeliveryError("backend is not healthy"))
    report = phased.resume()
    assert State.ROLLED_BACK is report.rotation.state
    assert 2 == phased.store.state(DB).current == phased.consumers.versions[-1]
    assert "recede" in phased.kind.calls
    assert "withdraw" not in phased.kind.calls
    assert b"first" in phased.target.accepted


def test_an_advance_that_fails_is_tried_again_by_resume(phased):
    """It is not yet current, so nothing else moved."""
    phased.kind.failures["advance"] = [Rejected("rows cannot be read")]
    assert State.STUCK is phased.start().rotation.state
    assert 2 == phased.store.state(DB).current
    assert State.DONE is phased.resume().rotation.state


def test_a_step_may_wait_for_a_person(rotating):
    """Nobody holds the rotation, and a second one is refused."""
    wanted = NotYet("fetch the key at the dashboard", person=True)
    rotating.kind.failures["create"] = [wanted, wanted]
    report = rotating.start()
    assert (State.LIVE, Step.CREATE, wanted) == (
        report.rotation.state,
        report.rotation.step,
        report.waiting,
    )
    assert report.rotation.waits_for_person
    assert "" == report.rotation.owner
    assert "fetch the key" in report.rotation.error
    assert None is report.waits_until
    with pytest.raises(Conflict):
        rotating.start()
    assert "fetch the key" in rotating.resume().waiting.message


def test_what_a_person_did_lets_it_go_on(rotating):
    """The wait leaves no trace in what follows."""
    rotating.kind.failures["create"] = [NotYet("fetch the key", person=True)]
    rotating.start()
    rotating.clock.advance(86_400 * 9)
    report = rotating.resume()
    assert (State.DONE, None) == (report.rotation.state, report.rotation.error)


def test_a_step_may_wait_for_time(rotating):
    """Until then a later run leaves it alone."""
    rotating.kind.failures["retire"] = [NotYet("still used", person=False, again_seconds=600)]
    report = rotating.start()
    assert (Step.RETIRE, 600) == (
        report.rotation.step,
        (report.waits_until - rotating.clock.now()).total_seconds(),
    )
    calls = len(rotating.kind.calls)
    assert "still used" == rotating.resume().waiting.message
    assert calls == len(rotating.kind.calls)
    rotating.clock.advance(601)
    assert State.DONE is rotating.resume().rotation.state


def test_a_hurry_tries_a_second_time_at_once_and_no_third(rotating):
    """The kind has the last word."""
    reason = NotYet("inactive first", person=False, again_seconds=600)
    rotating.kind.failures["retire"] = [reason]
    assert State.DONE is rotating.start(now=True).rotation.state
    rotating.kind.failures["retire"] = [reason, reason]
    assert reason is rotating.start(now=True).waiting


def test_waiting_is_no_failure(rotating):
    """The audit log has no failed step, and the tries are not counted."""
    rotating.kind.failures["check"] = [Unavailable("busy"), NotYet("replicating", person=False)]
    rotating.start()
    assert 0 == rotating.journal.live(DB).attempts
    assert not [entry for entry in rotating.audit.entries() if entry[2] == "failed"]


def test_a_creation_whose_answer_is_lost_is_cleaned_up(rotating):
    """Nothing was stored, so the kind is asked to end what may have been made."""
    rotating.kind.failures["create"] = [OutcomeUnknown("no answer")] * 3
    assert State.ROLLED_BACK is rotating.start().rotation.state
    assert "clean_up" in rotating.kind.calls
    assert "withdraw" not in rotating.kind.calls


def test_a_credential_that_cannot_be_gone_back_to_is_kept(rotating):
    """The new version stays current, and resume delivers it."""
    rotating.kind.reversible = False
    rotating.target.overlapping = False
    rotating.consumers.failures.append(DeliveryError("backend is down"))
    report = rotating.start()
    assert (State.STUCK, Step.DELIVER) == (report.rotation.state, report.rotation.step)
    assert 2 == rotating.store.state(DB).current
    assert State.DONE is rotating.resume().rotation.state
