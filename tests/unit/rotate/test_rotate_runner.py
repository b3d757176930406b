"""The runner: each step's effect, record and failure, on a real embedded store."""

from __future__ import annotations

import pytest

from keyturn._internal import failpoints
from keyturn.core.model import Origin, Stage
from keyturn.errors import (
    Conflict,
    DeliveryError,
    NotFound,
    OutcomeUnknown,
    Rejected,
    RotationFailed,
    Unavailable,
    VerificationFailed,
)
from keyturn.rotate import State, Step
from keyturn.rotate.saga import WAY_BACK
from tests.unit.rotate.rotating import Rotating
from tests.unit.stores.workshop import DB, activate, put


@pytest.fixture
def rotating(tmp_path):
    made = Rotating(tmp_path)
    yield made
    failpoints.disarm()
    made.close()


@pytest.fixture
def in_place(tmp_path):
    made = Rotating(tmp_path, overlapping=False)
    yield made
    made.close()


def test_a_rotation_replaces_the_value_everywhere(rotating):
    """Store, target and consumers end on version 2, and the old value is dead."""
    report = rotating.start()
    assert State.DONE is report.rotation.state
    assert (2, 1, None) == stages(rotating)
    assert {rotating.current_value()} == rotating.target.accepted
    assert [2] == rotating.consumers.versions
    assert "tried: refused" in report.notes


def stages(rotating):
    """Return current, previous, pending."""
    state = rotating.store.state(DB)
    return state.current, state.previous, state.pending


def test_every_step_is_recorded_before_and_after(rotating):
    """The audit log has begin and finish of the run and of each step, in order."""
    rotating.start()
    steps = "create apply check promote deliver retire prove".split()
    expected = [("rotation.run.begin", None, "begun")]
    for step in steps:
        expected += [("rotation.step.begin", step, "begun"), ("rotation.step.finish", step, "done")]
    expected.append(("rotation.run.finish", None, "done"))
    assert expected == rotating.audit.entries()


def test_a_step_costs_one_commit(rotating):
    """The end of a step, the begin of the next, its store write and records are one."""
    commits = []
    transaction = rotating.store.database.transaction

    def counting():
        if not rotating.store.database.in_transaction:
            commits.append(1)
        return transaction()

    rotating.store.database.transaction = counting
    rotating.start()
    assert 1 + 7 == len(commits)  # the begin of the run, and each step


def test_what_cannot_be_recorded_does_not_happen(rotating):
    """A full audit disk stops the rotation before it begins."""

    class FullDisk:
        def record(self, action, object, outcome, detail):
            raise Unavailable("the disk is full")

    with pytest.raises(Unavailable):
        rotating.runner(audit=FullDisk()).start(DB, rotating.kind, rotating.plan())
    assert rotating.journal.live(DB) is None
    assert [] == rotating.kind.calls


def test_a_record_that_fails_midway_undoes_its_step_only(rotating):
    """The journal stays at the last recorded step, and resume goes on from it."""

    class FailsAtPromote:
        def record(self, action, object, outcome, detail):
            if (detail.get("step"), outcome) == ("promote", "done"):
                raise Unavailable("the disk is full")

    with pytest.raises(Unavailable):
        rotating.runner(audit=FailsAtPromote()).start(DB, rotating.kind, rotating.plan())
    assert (1, None, 2) == stages(rotating)
    assert Step.PROMOTE is rotating.journal.live(DB).step
    assert State.DONE is rotating.resume().rotation.state


@pytest.mark.parametrize("step", ["create", "apply", "check"])
def test_a_refusal_before_promote_leaves_the_old_version_in_use(rotating, step):
    """The new value is withdrawn from the target and is pending no more."""
    rotating.kind.failures[step] = [Rejected("no such right", hint="grant it")]
    report = rotating.start()
    assert State.ROLLED_BACK is report.rotation.state
    assert (1, None, None) == stages(rotating)
    assert {b"first"} == rotating.target.accepted
    assert [] == rotating.consumers.versions
    with pytest.raises(RotationFailed, match="rolled back.*no such right") as caught:
        report.require_success()
    assert "grant it" == caught.value.hint


def test_a_failed_delivery_goes_back_to_the_old_version(rotating):
    """Consumers get version 1 again, then the new value is withdrawn."""
    rotating.consumers.failures.append(DeliveryError("backend is not healthy"))
    report = rotating.start()
    assert State.ROLLED_BACK is report.rotation.state
    assert (1, 2, None) == stages(rotating)
    assert [1] == rotating.consumers.versions
    assert {b"first"} == rotating.target.accepted
    assert "delivery" == report.rotation.error_code


def test_without_overlap_the_old_value_is_put_back_before_it_is_delivered(in_place):
    """The consumers never get a value that the target refuses."""
    in_place.consumers.failures.append(DeliveryError("backend is not healthy"))
    accepted_then = []
    deliver = in_place.consumers.deliver

    def watching(ref, version):
        accepted_then.append(set(in_place.target.accepted))
        return deliver(ref, version)

    in_place.consumers.deliver = watching
    assert State.ROLLED_BACK is in_place.start().rotation.state
    assert {b"first"} == accepted_then[-1]
    assert [1] == in_place.consumers.versions


def test_in_place_ends_done(in_place):
    """One credential: the new one."""
    assert State.DONE is in_place.start(grace_seconds=3600).rotation.state
    assert {in_place.current_value()} == in_place.target.accepted


@pytest.mark.parametrize("error", [Unavailable("no answer"), OutcomeUnknown("answer lost")])
@pytest.mark.parametrize("when", ["apply", "apply+"])
def test_no_answer_is_asked_again_with_a_pause(rotating, error, when):
    """Before or after the effect: the next try finds out what is true."""
    rotating.kind.failures[when] = [error]
    before = rotating.clock.monotonic()
    report = rotating.start()
    assert State.DONE is report.rotation.state
    assert 0.5 == rotating.clock.monotonic() - before
    assert report.rotation.error is None
    events = [e.event for e in rotating.journal.events(report.rotation.id) if e.step == "apply"]
    assert ["begun", "retried", "done"] == events


def test_no_answer_three_times_goes_back(rotating):
    """The tries are bounded, and what was perhaps applied is withdrawn."""
    rotating.kind.failures["apply+"] = [OutcomeUnknown("answer lost") for _ in range(3)]
    report = rotating.start()
    assert State.ROLLED_BACK is report.rotation.state
    assert {b"first"} == rotating.target.accepted
    outcomes = [e for e in rotating.audit.entries() if e[1] == "apply"]
    assert ("rotation.step.finish", "apply", "unknown") == outcomes[-1]


def test_a_bug_in_an_adapter_goes_back_and_says_so_without_its_text(rotating):
    """The old credential still works, so nobody waits for the fix."""
    rotating.kind.failures["check"] = [ValueError("could hold a value")]
    report = rotating.start()
    assert State.ROLLED_BACK is report.rotation.state
    assert "internal" == report.rotation.error_code
    assert "could hold" not in report.rotation.error
    assert isinstance(report.failure.__cause__, ValueError)


def test_an_error_of_the_machine_is_tried_again(rotating):
    """EIO once is no reason to go back."""
    failpoints.arm("rotate.check.effect:error")
    assert State.DONE is rotating.start().rotation.state


@pytest.mark.parametrize("method", ["retire", "prove_dead"])
def test_an_old_credential_that_lives_on_is_an_alarm(rotating, method):
    """The rotation is stuck, says why, and resume retires again before it proves."""
    rotating.kind.failures[method] = [VerificationFailed("the old value still works")]
    report = rotating.start()
    assert State.STUCK is report.rotation.state
    with pytest.raises(RotationFailed, match="stuck.*old value still works") as caught:
        report.require_success()
    assert "keyturn rotate --resume db" in caught.value.hint
    assert (2, 1, None) == stages(rotating)
    assert State.DONE is rotating.resume().rotation.state
    assert ["retire", "retire+", "sweep", "prove_dead"] == rotating.kind.calls[-4:]


def test_a_stuck_rotation_bars_another(rotating):
    """It must be settled first."""
    rotating.kind.failures["retire"] = [Rejected("no right")]
    rotating.start()
    with pytest.raises(Conflict) as caught:
        rotating.start()
    assert "rotation.running" == caught.value.code


@pytest.mark.parametrize("method", ["withdraw", "withdraw+"])
def test_a_way_back_that_fails_is_stuck_and_resumes_backwards(rotating, method):
    """It never turns round to go forward."""
    rotating.kind.failures["check"] = [VerificationFailed("refused")]
    rotating.kind.failures[method] = [Rejected("no right")]
    assert State.STUCK is rotating.start().rotation.state
    assert Step.WITHDRAW is rotating.journal.live(DB).step
    assert State.ROLLED_BACK is rotating.resume().rotation.state
    assert {b"first"} == rotating.target.accepted


def test_a_birth_ends_with_version_one_in_use(tmp_path):
    """There is nothing to retire."""
    rotating = Rotating(tmp_path, born=False)
    report = rotating.start(grace_seconds=60)
    assert State.DONE is report.rotation.state
    assert (1, None, None) == stages(rotating)
    assert Origin.GENERATED is rotating.store.history(DB)[0].origin
    rotating.close()


def test_a_birth_that_fails_leaves_nothing_current(tmp_path):
    """What was applied is withdrawn."""
    rotating = Rotating(tmp_path, born=False)
    rotating.kind.failures["check"] = [VerificationFailed("refused")]
    assert State.ROLLED_BACK is rotating.start().rotation.state
    assert (None, None, None) == stages(rotating)
    assert set() == rotating.target.accepted
    rotating.close()


def test_a_birth_whose_delivery_fails_is_delivered_by_resume(tmp_path):
    """There is no old version to go back to."""
    rotating = Rotating(tmp_path, born=False)
    rotating.consumers.failures.append(DeliveryError("backend is not there yet"))
    assert State.STUCK is rotating.start().rotation.state
    assert State.DONE is rotating.resume().rotation.state
    rotating.close()


def test_a_short_grace_is_waited_for(rotating):
    """Thirty seconds pass on the clock, then the old value is retired."""
    before = rotating.clock.monotonic()
    assert State.DONE is rotating.start(grace_seconds=30).rotation.state
    assert 30 == rotating.clock.monotonic() - before


def test_a_long_grace_is_left_to_a_later_run(rotating):
    """Both values work meanwhile; nobody holds the rotation."""
    report = rotating.start(grace_seconds=3600)
    assert (State.LIVE, Step.GRACE) == (report.rotation.state, report.rotation.step)
    assert 3600 == (report.waits_until - rotating.clock.now()).total_seconds()
    assert {b"first", rotating.current_value()} == rotating.target.accepted
    assert "" == report.rotation.owner


def test_a_grace_that_has_not_passed_is_said_calmly(rotating):
    """Resume reports when, and changes nothing."""
    rotating.start(grace_seconds=3600)
    rotating.clock.advance(60)
    calls = list(rotating.kind.calls)
    report = rotating.resume()
    assert 3540 == (report.waits_until - rotating.clock.now()).total_seconds()
    assert calls == rotating.kind.calls


def test_a_grace_that_has_passed_goes_on(rotating):
    """The next run retires the old value."""
    rotating.start(grace_seconds=3600)
    rotating.clock.advance(3601)
    assert State.DONE is rotating.resume().rotation.state
    assert {rotating.current_value()} == rotating.target.accepted


def test_now_ends_a_grace(rotating):
    """A person may decide that nobody needs the old value any more."""
    rotating.start(grace_seconds=3600)
    assert State.DONE is rotating.resume(now=True).rotation.state
    assert State.DONE is rotating.start(grace_seconds=3600, now=True).rotation.state


def test_a_rollback_during_the_grace_goes_the_way_back(rotating):
    """What is in use again is not retired; the new value is withdrawn."""
    rotating.start(grace_seconds=3600)
    rotating.store.promote(DB, 1, expected_current=2)
    rotating.clock.advance(3601)
    assert State.ROLLED_BACK is rotating.resume().rotation.state
    assert {b"first"} == rotating.target.accepted
    assert 1 == rotating.consumers.versions[-1]


def test_another_version_set_during_the_grace_is_never_touched(rotating):
    """The rotation cannot know what that version needs, and asks a person."""
    rotating.start(grace_seconds=3600)
    activate(rotating.store, b"by hand")
    rotating.clock.advance(3601)
    report = rotating.resume()
    assert (State.STUCK, Step.DEMOTE) == (report.rotation.state, report.rotation.step)
    assert b"by hand" == rotating.current_value()
    assert b"first" in rotating.target.accepted


def test_a_rollback_between_retire_and_its_retry_is_not_retired(rotating):
    """`retire` asks what is current every time."""
    rotating.kind.failures["retire"] = [Rejected("no right")]
    rotating.start()
    rotating.store.promote(DB, 1, expected_current=2)
    assert State.STUCK is rotating.resume().rotation.state
    assert b"first" in rotating.target.accepted


def test_a_version_promoted_by_hand_during_the_way_back_is_not_withdrawn(rotating):
    """It is in use now; a person decides."""
    rotating.kind.failures["check"] = [VerificationFailed("refused")]
    rotating.kind.failures["withdraw"] = [Rejected("no right")]
    rotating.start()
    rotating.store.promote(DB, 2, expected_current=1)
    report = rotating.resume()
    assert (State.STUCK, Step.WITHDRAW) == (report.rotation.state, report.rotation.step)
    assert rotating.current_value() in rotating.target.accepted


def test_now_holds_for_whoever_takes_the_rotation_up(rotating):
    """The person said it once, to a run that was interrupted before the grace."""
    rotating.kind.failures["check"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        rotating.start(grace_seconds=3600, now=True)
    assert State.DONE is rotating.resume().rotation.state


def test_a_plan_for_another_version_is_refused(rotating):
    """Somebody changed the secret between the plan and the start."""
    plan = rotating.plan()
    activate(rotating.store, b"by hand")
    with pytest.raises(Conflict, match="changed since"):
        rotating.runner().start(DB, rotating.kind, plan)
    assert rotating.journal.live(DB) is None


def test_a_pending_version_of_somebody_else_is_refused(rotating):
    """It is theirs to promote or discard."""
    put(rotating.store, b"by hand")
    with pytest.raises(Conflict, match="pending already"):
        rotating.start()
    assert rotating.journal.live(DB) is None


def test_a_strategy_that_changed_midway_is_refused(rotating):
    """The steps of another strategy would do the wrong thing."""
    rotating.start(grace_seconds=3600)
    rotating.target.overlapping = False
    with pytest.raises(Conflict) as caught:
        rotating.resume(now=True)
    assert "rotation.strategy" == caught.value.code


def test_resume_without_a_rotation_says_so(rotating):
    """There is nothing to settle."""
    with pytest.raises(NotFound, match="no rotation"):
        rotating.resume()


def test_an_interrupt_leaves_the_journal_for_resume(rotating):
    """Control-C is a crash that lets go of its hold."""
    rotating.kind.failures["check"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        rotating.start()
    left = rotating.journal.live(DB)
    assert (State.LIVE, Step.CHECK, "") == (left.state, left.step, left.owner)
    assert "interrupted" == rotating.told[-1].event
    assert State.DONE is rotating.resume().rotation.state


def test_a_runner_that_was_fenced_out_changes_nothing_more(rotating):
    """Another process took over while this one was in `check`."""
    other = rotating.runner()
    check = rotating.kind.check

    def overtaken(current, pending):
        rotating.kind.check = check
        taken = rotating.journal.live(DB)
        rotating.store.database.execute("UPDATE rotation SET owner = ''")
        assert State.DONE is other.resume(DB, rotating.kind).rotation.state
        assert taken.fence < rotating.journal.last(DB).fence
        return check(current, pending)

    rotating.kind.check = overtaken
    with pytest.raises(Conflict) as caught:
        rotating.start()
    assert "rotation.fenced" == caught.value.code
    assert (2, 1, None) == stages(rotating)


def test_progress_is_told_step_by_step(rotating):
    """Whoever watches hears begin and end of each step, and the wait."""
    rotating.start(grace_seconds=3600)
    heard = [(line.step.value, line.event) for line in rotating.told]
    assert [("create", "begun"), ("create", "done")] == heard[:2]
    assert [("deliver", "done"), ("grace", "begun"), ("grace", "waiting")] == heard[-3:]
    until = rotating.told[-1].detail.removeprefix("both valid until ")
    assert len("2026-01-02T03:04:05Z") == len(until)


def test_every_step_is_begun_once_before_it_is_done(rotating):
    """Whoever measures a step measures from its own begin, the grace with its wait."""
    rotating.start(grace_seconds=30)
    heard = [line.event for line in rotating.told if line.step is Step.GRACE]
    assert ["begun", "waiting", "done"] == heard
    for step in {line.step for line in rotating.told} - {Step.GRACE}:
        assert ["begun", "done"] == [line.event for line in rotating.told if line.step is step]


def test_a_grace_that_is_cut_short_says_nothing_of_its_own(rotating):
    """Nobody waits, so no time is named."""
    rotating.start(grace_seconds=3600)
    rotating.told.clear()
    rotating.resume(now=True)
    grace = [(line.event, line.detail) for line in rotating.told if line.step is Step.GRACE]
    assert [("begun", ""), ("done", "")] == grace


def test_the_new_value_is_generated_once(rotating):
    """A retried `check` uses the version that `create` stored."""
    rotating.kind.failures["check"] = [Unavailable("no answer")]
    rotating.start()
    assert 2 == rotating.store.read(DB, Stage.CURRENT).version.number
    assert 1 == rotating.kind.calls.count("create")


@pytest.mark.parametrize("overlapping", [True, False])
def test_the_failpoints_of_the_saga_are_these(tmp_path, overlapping):
    """Three a step, forward and back: what the crash tests kill at."""
    rotating = Rotating(tmp_path, overlapping=overlapping)
    trace = tmp_path / "trace"
    failpoints.arm(f"trace={trace}")
    rotating.start(grace_seconds=1)
    rotating.consumers.failures.append(DeliveryError("backend is not healthy"))
    rotating.start()
    rotating.kind.failures["check"] = [VerificationFailed("refused")]
    rotating.start()
    failpoints.disarm()
    reached = {name for name in trace.read_text().split() if name.startswith("rotate.")}
    # `advance` is reached by kinds of several phases only.
    skipped = {"restore", "advance"} if overlapping else {"grace", "advance"}
    expected = {
        f"rotate.{step}.{place}"
        for step in Step
        if step.value not in skipped
        for place in ("begin", "effect", "end")
        # A step that fails in its work has no effect; each has another run that does.
    }
    assert expected == reached
    assert len(expected) >= 20
    assert WAY_BACK < set(Step)
    rotating.close()


def test_giving_up_before_the_promote_keeps_the_old_version(rotating):
    """What was pending is discarded, and the secret can be rotated or set again."""
    rotating.kind.failures["check"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        rotating.start()
    report = rotating.runner().give_up(DB)
    state = rotating.store.state(DB)
    assert (State.GIVEN_UP, 1, None) == (report.rotation.state, state.current, state.pending)
    assert Step.CHECK is report.rotation.step
    assert "given up at `check`" in report.rotation.error
    assert rotating.journal.live(DB) is None
    assert ("rotation.run.rollback", None, "failed") == rotating.audit.entries()[-1]
    assert State.DONE is rotating.start().rotation.state


def test_giving_up_after_the_promote_keeps_the_new_version(rotating):
    """Whoever gives up a retirement that cannot be done goes on with what is in use."""
    rotating.kind.failures["retire"] = [Rejected("no right")]
    assert State.STUCK is rotating.start().rotation.state
    report = rotating.runner().give_up(DB)
    assert (State.GIVEN_UP, 2) == (report.rotation.state, rotating.store.state(DB).current)
    assert rotating.journal.live(DB) is None
    assert ("rotation.run.finish", None, "failed") == rotating.audit.entries()[-1]


def test_what_was_given_up_is_never_a_success(rotating):
    """Row and report keep the step, the time and what went wrong before."""
    rotating.kind.failures["retire"] = [Rejected("no right")]
    rotating.start()
    report = rotating.runner().give_up(DB)
    row = rotating.journal.last(DB)
    assert report.rotation == row
    assert (Step.RETIRE, "rotation.given-up") == (row.step, row.error_code)
    assert row.error.endswith("its last failure: no right")
    assert rotating.clock.now() == row.finished_at
    assert not row.is_open
    with pytest.raises(RotationFailed, match="was given up at `retire`") as caught:
        report.require_success()
    assert "rotation.given-up" == caught.value.code
    assert "given-up" == rotating.journal.events(row.id)[-1].event


def test_there_must_be_something_to_give_up(rotating):
    """Nothing is open, so nothing is ended."""
    with pytest.raises(NotFound, match="no rotation"):
        rotating.runner().give_up(DB)
