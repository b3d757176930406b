"""The saga: every transition, and that every path ends."""

from __future__ import annotations

import itertools

import pytest

from keyturn.rotate.saga import (
    MAX_ATTEMPTS,
    WAY_BACK,
    End,
    Outcome,
    Plan,
    Step,
    first_step,
    next_step,
    resume_step,
    steps_ahead,
)

TWO = Plan("postgres-login", "two-logins", old_version=3, overlaps=True, grace_seconds=60)
ONE = Plan("postgres-login", "in-place", old_version=3, overlaps=False, grace_seconds=60)
BIRTH = Plan("postgres-login", "two-logins", old_version=None, overlaps=True, grace_seconds=60)
PLANS = (TWO, ONE, BIRTH)


def way(plan, step, outcome):
    """Return the steps from a failure of *step* where all that follows goes well."""
    found = []
    reached = next_step(plan, step, outcome, attempts=MAX_ATTEMPTS)
    while isinstance(reached, Step):
        found.append(reached.value)
        reached = next_step(plan, reached, Outcome.DONE)
    return [*found, reached.value]


def test_a_rotation_goes_through_every_step_in_order():
    """With two credentials the old one is retired and proven dead after the grace."""
    assert "create apply check promote deliver grace retire prove".split() == steps_ahead(TWO)


def test_without_overlap_there_is_no_grace():
    """The old credential died when the new one was applied."""
    assert "create apply check promote deliver retire prove".split() == steps_ahead(ONE)


def test_a_birth_ends_with_its_delivery():
    """There is no old version to wait for, retire or prove dead."""
    assert "create apply check promote deliver".split() == steps_ahead(BIRTH)


def test_no_grace_is_waited_for_where_none_is_planned():
    """A grace of no seconds is no step."""
    plan = Plan("k", "s", old_version=1, overlaps=True)
    assert Step.RETIRE is next_step(plan, Step.DELIVER, Outcome.DONE)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("step", [Step.CREATE, Step.APPLY, Step.CHECK])
def test_a_failure_before_promote_withdraws_and_ends_rolled_back(plan, step):
    """Nobody uses the new version yet, so nothing is delivered."""
    assert ["withdraw", "rolled-back"] == way(plan, step, Outcome.REFUSED)


def test_a_refused_promote_withdraws():
    """A definite no means that the old version is current."""
    assert ["withdraw", "rolled-back"] == way(TWO, Step.PROMOTE, Outcome.REFUSED)


def test_a_promote_of_unknown_outcome_goes_back_by_demote():
    """It may have happened, so the store is asked and consumers get what is current."""
    expected = ["demote", "redeliver", "withdraw", "rolled-back"]
    assert expected == way(TWO, Step.PROMOTE, Outcome.UNKNOWN)


def test_a_failed_delivery_goes_the_whole_way_back():
    """Consumers get the old credential before the new one stops working."""
    expected = ["demote", "redeliver", "withdraw", "rolled-back"]
    assert expected == way(TWO, Step.DELIVER, Outcome.REFUSED)


def test_without_overlap_the_target_is_restored_before_consumers_get_the_old_version():
    """Delivered first, the old credential would be refused."""
    expected = ["demote", "restore", "redeliver", "rolled-back"]
    assert expected == way(ONE, Step.DELIVER, Outcome.REFUSED)


@pytest.mark.parametrize("step", [Step.PROMOTE, Step.DELIVER])
def test_a_birth_has_nothing_to_go_back_to(step):
    """What may be in use already is kept, for `resume` to finish."""
    assert ["stuck"] == way(BIRTH, step, Outcome.UNKNOWN)


@pytest.mark.parametrize("step", [Step.RETIRE, Step.PROVE, *sorted(WAY_BACK)])
@pytest.mark.parametrize("plan", [TWO, ONE])
def test_what_cannot_be_undone_gets_stuck(plan, step):
    """From here on only going on helps, and a person is told."""
    assert ["stuck"] == way(plan, step, Outcome.REFUSED)


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("outcome", [Outcome.UNAVAILABLE, Outcome.UNKNOWN])
def test_no_answer_is_tried_again_a_bounded_number_of_times(step, outcome):
    """The last try counts as a failure."""
    tries = [next_step(TWO, step, outcome, attempts=n) for n in range(1, MAX_ATTEMPTS + 1)]
    assert [step] * (MAX_ATTEMPTS - 1) == tries[:-1]
    assert tries[-1] is not step


@pytest.mark.parametrize("step", list(Step))
def test_a_refusal_is_never_tried_again(step):
    """A definite no stays one."""
    assert step is not next_step(TWO, step, Outcome.REFUSED, attempts=1)


def test_a_failed_proof_is_resumed_at_the_retirement():
    """Asking again would only hear the same."""
    assert Step.RETIRE is resume_step(Step.PROVE)
    assert all(step is resume_step(step) for step in Step if step is not Step.PROVE)


@pytest.mark.parametrize("plan", PLANS)
def test_every_path_ends(plan):
    """Whatever each of the first ten outcomes is, an end is reached."""
    ends = set()
    for outcomes in itertools.product((Outcome.DONE, Outcome.REFUSED), repeat=10):
        step = first_step()
        for outcome in itertools.chain(outcomes, itertools.repeat(Outcome.DONE, 10)):
            step = next_step(plan, step, outcome)
            if isinstance(step, End):
                break
        ends.add(step)
    assert ends == set(End)
