"""The saga against a model: whatever fails and wherever it is interrupted, nothing is lost."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from keyturn.core.model import Stage
from keyturn.errors import (
    Conflict,
    DeliveryError,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    VerificationFailed,
)
from keyturn.rotate import State
from keyturn.rotate.saga import MAX_ATTEMPTS, End, Outcome, Plan, Step, first_step, next_step
from tests.unit.rotate.rotating import VALUE, Rotating
from tests.unit.stores.workshop import DB

PLANS = st.builds(
    Plan,
    kind=st.just("test"),
    strategy=st.just("default"),
    old_version=st.none() | st.just(1),
    overlaps=st.booleans(),
    grace_seconds=st.sampled_from([0, 60]),
)
OUTCOMES = st.lists(st.sampled_from(list(Outcome)), max_size=60)


class Model:
    """
    What a credential's life must look like, told by steps alone.

    *accepts_old*, *accepts_new*: the target's view. *current*: the store's.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.accepts_old = not plan.is_birth
        self.accepts_new = False
        self.current_is_new = False
        self.delivered_new = False
        self.retiring = False

    def did(self, step: Step) -> None:
        match step:
            case Step.APPLY:
                self.accepts_new = True
                self.accepts_old = self.accepts_old and self.plan.overlaps
            case Step.PROMOTE:
                assert self.accepts_new, "a version was promoted that the target refuses"
                self.current_is_new = True
            case Step.DELIVER:
                assert self.current_is_new
                self.delivered_new = True
            case Step.RETIRE:
                assert self.current_is_new, "what is in use was retired"
                assert self.delivered_new, "consumers still had the old version"
                self.retiring = True
                self.accepts_old = False
            case Step.DEMOTE:
                assert not self.retiring, "it went back after it began to retire"
                self.current_is_new = False
            case Step.RESTORE:
                self.accepts_old, self.accepts_new = True, False
            case Step.REDELIVER:
                assert self.accepts_old, "a version was delivered that the target refuses"
                self.delivered_new = False
            case Step.WITHDRAW:
                assert not self.current_is_new, "what is in use was withdrawn"
                assert not self.delivered_new, "consumers still had the new version"
                self.accepts_new = False
                self.accepts_old = self.accepts_old or not self.plan.is_birth
            case _:
                pass


@given(plan=PLANS, outcomes=OUTCOMES)
def test_no_order_of_outcomes_uses_withdraws_or_retires_the_wrong_thing(plan, outcomes):
    """Every step's precondition holds whatever the steps before it came to."""
    model, step, attempts, tail = Model(plan), first_step(), 0, iter(outcomes)
    for _ in range(200):
        outcome = next(tail, Outcome.DONE)
        attempts += 1
        if outcome is Outcome.DONE:
            model.did(step)
        following = next_step(plan, step, outcome, attempts=attempts)
        if following is End.STUCK:
            return
        if isinstance(following, End):
            break
        assert attempts <= MAX_ATTEMPTS
        attempts = attempts if following is step else 0
        step = following
    else:
        raise AssertionError("no end was reached")
    if following is End.DONE:
        assert (True, True) == (model.current_is_new, model.accepts_new)
        assert plan.is_birth or not model.accepts_old
    else:
        assert (False, False) == (model.current_is_new, model.accepts_new)
        assert model.accepts_old == (not plan.is_birth)


METHODS = ("create", "apply", "apply+", "check", "retire", "retire+", "withdraw", "withdraw+")
ERRORS = st.sampled_from(
    [
        Unavailable("no answer"),
        OutcomeUnknown("answer lost"),
        Rejected("no right"),
        VerificationFailed("refused"),
        ValueError("a bug"),
        KeyboardInterrupt(),
    ]
)


class Rotations(RuleBasedStateMachine):
    """One secret rotated again and again by runners that fail and are interrupted anywhere."""

    @initialize(overlapping=st.booleans())
    def begin(self, overlapping):
        self.folder = tempfile.TemporaryDirectory()
        self.rotating = Rotating(Path(self.folder.name), overlapping=overlapping)
        self.rotating.consumers.versions.append(1)

    @rule(method=st.sampled_from((*METHODS, "prove_dead")), error=ERRORS, times=st.integers(1, 4))
    def arm_failure(self, method, error, times):
        self.rotating.kind.failures.setdefault(method, []).extend([error] * times)

    @rule(error=st.sampled_from([DeliveryError("not healthy"), KeyboardInterrupt()]))
    def arm_delivery(self, error):
        self.rotating.consumers.failures.append(error)

    @rule()
    def repair(self):
        self.rotating.kind.failures.clear()
        self.rotating.consumers.failures.clear()

    @rule(grace_seconds=st.sampled_from([0, 10, 3600]), now=st.booleans())
    def start(self, grace_seconds, now):
        open_before = self.rotating.journal.live(DB)
        try:
            report = self.rotating.start(grace_seconds=grace_seconds, now=now)
        except Conflict:
            assert open_before is not None
        except KeyboardInterrupt:
            pass
        else:
            assert open_before is None
            self.check_end(report)

    @rule(now=st.booleans())
    def resume(self, now):
        open_before = self.rotating.journal.live(DB)
        try:
            report = self.rotating.resume(now=now)
        except NotFound:
            assert open_before is None
        except KeyboardInterrupt:
            pass
        else:
            self.check_end(report)

    @rule(seconds=st.sampled_from([1, 60, 4000]))
    def let_time_pass(self, seconds):
        self.rotating.clock.advance(seconds)

    @rule()
    def settle(self):
        """With everything repaired, one resume settles it."""
        self.repair()
        if self.rotating.journal.live(DB) is not None:
            report = self.rotating.resume(now=True)
            assert report.rotation.state in (State.DONE, State.ROLLED_BACK)
            self.check_end(report)

    def check_end(self, report):
        rotation, accepted = report.rotation, self.rotating.target.accepted
        if rotation.state is State.DONE:
            assert {self.rotating.current_value()} == accepted
            assert rotation.new_version == self.rotating.consumers.versions[-1]
        if rotation.state is State.ROLLED_BACK:
            assert {self.rotating.current_value()} == accepted
            assert rotation.plan.old_version == self.rotating.consumers.versions[-1]

    @invariant()
    def nothing_is_lost(self):
        store, target = self.rotating.store, self.rotating.target
        held = {
            store.read(DB, version.number).values[VALUE].reveal() for version in store.history(DB)
        }
        assert target.accepted <= held, "the target accepts a value that the store does not have"
        assert target.accepted, "the target accepts nothing"
        if target.overlapping:
            delivered = self.rotating.consumers.versions[-1]
            used = store.read(DB, delivered).values[VALUE].reveal()
            assert used in target.accepted, "a consumer was refused"
            assert self.rotating.current_value() in target.accepted
        assert len(self.rotating.journal.all_live()) <= 1
        pending = store.state(DB).at(Stage.PENDING)
        if pending is not None:
            assert pending == self.rotating.journal.live(DB).new_version

    def teardown(self):
        if hasattr(self, "rotating"):
            try:
                self.settle()
            except KeyturnError as error:
                raise AssertionError(f"it cannot be settled: {error}") from error
            finally:
                self.rotating.close()
                self.folder.cleanup()


TestRotations = Rotations.TestCase
TestRotations.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
