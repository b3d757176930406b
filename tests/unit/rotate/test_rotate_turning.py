"""A person turns an open rotation back: where that can be, and what it leaves behind."""

from __future__ import annotations

import pytest

from keyturn._internal import failpoints
from keyturn.core.ids import Token
from keyturn.core.model import Origin
from keyturn.errors import Conflict, DeliveryError, NotFound, NotYet, Rejected
from keyturn.rotate import State, Step, turned_step
from keyturn.rotate.saga import Plan
from tests.unit.rotate.rotating import DB, Rotating

PLAN = Plan("x", "default", 3, overlaps=True, grace_seconds=60)
BIRTH = Plan("x", "default", None, overlaps=True)
NO_WAY_BACK = Plan("twitch", "default", 3, overlaps=False, reversible=False)


@pytest.fixture
def rotating(tmp_path):
    made = Rotating(tmp_path)
    yield made
    failpoints.disarm()
    made.close()


def turned(rotating):
    return rotating.runner().turn_back(DB, rotating.kind)


def test_in_the_grace_the_old_version_is_in_use_again(rotating):
    """Consumers get it, the new credential is ended, and the old one was never touched."""
    rotating.start(grace_seconds=3600)
    report = turned(rotating)
    assert State.ROLLED_BACK is report.rotation.state
    assert ("rotation.turned-back", 1) == (
        report.rotation.error_code,
        rotating.consumers.versions[-1],
    )
    assert {b"first"} == rotating.target.accepted
    state = rotating.store.state(DB)
    assert (1, None) == (state.current, state.pending)
    assert "retire" not in rotating.kind.calls


def test_it_is_recorded(rotating):
    """Who took it up, the step that ended so, each step back, and the end."""
    rotating.start(grace_seconds=3600)
    before = len(rotating.audit.entries())
    turned(rotating)
    wanted = [("rotation.run.resume", None, "begun")]
    wanted += [
        ("rotation.step.begin", "grace", "begun"),
        ("rotation.step.finish", "grace", "failed"),
    ]
    for step in ("demote", "redeliver", "withdraw"):
        wanted += [("rotation.step.begin", step, "begun"), ("rotation.step.finish", step, "done")]
    wanted.append(("rotation.run.rollback", None, "done"))
    assert wanted == rotating.audit.entries()[before:]


def test_the_next_one_begins_afresh(rotating):
    """Nothing is left that bars it."""
    rotating.start(grace_seconds=3600)
    turned(rotating)
    assert State.DONE is rotating.start().rotation.state


def test_one_that_waits_for_a_person_is_withdrawn(rotating):
    """Before anything was in use there is nothing to bring back."""
    rotating.kind.failures["create"] = [NotYet("fetch the key", person=True)]
    rotating.start()
    assert State.ROLLED_BACK is turned(rotating).rotation.state
    assert "clean_up" in rotating.kind.calls
    assert [] == rotating.consumers.versions


def test_once_the_old_one_is_being_ended_it_is_refused(rotating):
    """Both ways out are named, and nothing is changed."""
    rotating.kind.failures["retire"] = [Rejected("no right")]
    rotating.start()
    with pytest.raises(Conflict, match="version 1 may have been ended already") as caught:
        turned(rotating)
    assert "rotation.no-return" == caught.value.code
    assert "--resume db" in caught.value.hint and "--give-up" in caught.value.hint
    assert (State.STUCK, Step.RETIRE) == (
        rotating.journal.live(DB).state,
        rotating.journal.live(DB).step,
    )


def test_where_none_is_open_there_is_nothing_to_turn(rotating):
    """The caller is told so."""
    with pytest.raises(NotFound):
        turned(rotating)


def test_one_that_is_on_the_way_back_goes_on(rotating):
    """Whoever was interrupted types the same command again."""
    rotating.start(grace_seconds=3600)
    rotating.kind.failures["withdraw"] = [Rejected("no right")]
    stuck = turned(rotating)
    assert (State.STUCK, Step.WITHDRAW) == (stuck.rotation.state, stuck.rotation.step)
    assert "it went back because: it was turned back by a person" in stuck.failure.message
    assert State.ROLLED_BACK is turned(rotating).rotation.state
    assert {b"first"} == rotating.target.accepted


def test_a_later_phase_goes_to_the_one_before_it(rotating):
    """There both are accepted."""
    rotating.kind.phases = 3
    rotating.start(grace_seconds=3600)
    rotating.clock.advance(3601)
    assert 3 == rotating.resume().rotation.new_version
    assert State.ROLLED_BACK is turned(rotating).rotation.state
    assert 2 == rotating.store.state(DB).current == rotating.consumers.versions[-1]
    assert "recede" in rotating.kind.calls and "withdraw" not in rotating.kind.calls


def test_what_an_advance_has_begun_is_undone_first(rotating):
    """It may have shut the old one before it stopped, and that one is to work again."""
    rotating.kind.phases = 2
    rotating.kind.failures["advance"] = [Rejected("not yet")]
    assert Step.ADVANCE is rotating.start().rotation.step
    before = len(rotating.kind.calls)
    assert State.ROLLED_BACK is turned(rotating).rotation.state
    assert ["recede", "withdraw", "withdraw+"] == rotating.kind.calls[before:]
    assert 1 == rotating.store.state(DB).current
    assert {b"first"} == rotating.target.accepted


def test_what_cannot_be_undone_leaves_it_as_it_was(rotating):
    """The turn is not recorded, so that going on is still possible."""
    rotating.kind.phases = 2
    rotating.kind.failures["advance"] = [Rejected("not yet")]
    rotating.start()
    rotating.kind.failures["recede"] = [Rejected("no right")]
    with pytest.raises(Rejected):
        turned(rotating)
    assert Step.ADVANCE is rotating.journal.live(DB).step
    assert State.DONE is rotating.resume().rotation.state


def test_between_two_phases_it_is_settled_first(rotating):
    """A store of its own may be a phase ahead of the journal, where the process died."""
    rotating.kind.phases = 2
    rotating.kind.failures["advance"] = [Rejected("not yet")]
    rotation = rotating.start().rotation
    values = rotating.store.read(DB, 2).values
    token = Token(f"{rotation.id}.1")
    rotating.store.put_pending(DB, values, origin=Origin.ROTATED, token=token)
    rotating.store.promote(DB, 3, expected_current=2)
    with pytest.raises(Conflict, match="while its next phase began") as caught:
        turned(rotating)
    assert "rotation.between-phases" == caught.value.code
    assert 3 == rotating.store.state(DB).current


@pytest.mark.parametrize("point", ["rotate.turn.begin", "rotate.turn.end", "rotate.demote.begin"])
def test_interrupted_it_is_taken_up_again(rotating, point):
    """By the same command, whichever side of its record it stopped at."""
    rotating.start(grace_seconds=3600)
    failpoints.arm(f"{point}:error")
    try:
        turned(rotating)
    except OSError:
        assert "rotate.turn" in point
    failpoints.disarm()
    if rotating.journal.live(DB) is not None:
        assert State.ROLLED_BACK is turned(rotating).rotation.state
    assert {b"first"} == rotating.target.accepted
    assert 1 == rotating.store.state(DB).current


def test_consumers_that_do_not_take_it_leave_it_stuck(rotating):
    """The old version is current, and the new credential still works for who has it."""
    rotating.start(grace_seconds=3600)
    rotating.consumers.failures += [DeliveryError("backend is down")]
    report = turned(rotating)
    assert (State.STUCK, Step.REDELIVER) == (report.rotation.state, report.rotation.step)
    assert 2 == len(rotating.target.accepted)
    assert State.ROLLED_BACK is rotating.resume().rotation.state


@pytest.mark.parametrize(
    ("plan", "step", "to"),
    [
        (PLAN, Step.CREATE, Step.WITHDRAW),
        (PLAN, Step.APPLY, Step.WITHDRAW),
        (PLAN, Step.CHECK, Step.WITHDRAW),
        (PLAN, Step.PROMOTE, Step.DEMOTE),
        (PLAN, Step.DELIVER, Step.DEMOTE),
        (PLAN, Step.GRACE, Step.DEMOTE),
        (PLAN, Step.ADVANCE, Step.DEMOTE),
        (PLAN, Step.RETIRE, None),
        (PLAN, Step.PROVE, None),
        (PLAN, Step.REDELIVER, Step.REDELIVER),
        (BIRTH, Step.APPLY, Step.WITHDRAW),
        (BIRTH, Step.DELIVER, None),
        (NO_WAY_BACK, Step.CREATE, Step.WITHDRAW),
        (NO_WAY_BACK, Step.CHECK, None),
    ],
)
def test_where_it_begins(plan, step, to):
    """Everywhere that a failure would go back from, and nowhere else."""
    assert to == turned_step(plan, step)


def test_a_kind_that_exits_is_a_failure_of_its_step(rotating):
    """The rotation goes back and says so; the program does not end as if all were well."""
    rotating.kind.failures["apply"] = [SystemExit(0)]
    report = rotating.start()
    assert (State.ROLLED_BACK, "internal") == (report.rotation.state, report.rotation.error_code)
    assert "SystemExit" in report.rotation.error
    assert {b"first"} == rotating.target.accepted
