"""What the schedule decides, from what is true and the time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from keyturn.core.ids import RotationId
from keyturn.core.model import SecretRef
from keyturn.manifest import ScheduleSettings, zone
from keyturn.manifest.windows import parse_window
from keyturn.rotate import Plan, Rotation, State, Step
from keyturn.rotate._rows import PERSON, TIME
from keyturn.rotate.schedule import (
    Partners,
    Subject,
    Turn,
    due_at,
    earliest_due,
    freeze_end,
    judge,
    pause_after,
)
from tests.unit.stores.workshop import DB

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
EXACT = ScheduleSettings(jitter_percent=0)
YOUNG = Subject(ref=DB, max_age=90 * DAY, version=3, made_at=NOW - 10 * DAY)
DUE = replace(YOUNG, made_at=NOW - 91 * DAY)


def rotation(**changes):
    """Return a rotation that nobody holds, interrupted at `apply` an hour ago."""
    plan = Plan("test", "default", 3, overlaps=True, grace_seconds=3600)
    made = Rotation(
        id=RotationId("r"),
        ref=DB,
        plan=plan,
        state=State.LIVE,
        step=Step.APPLY,
        new_version=4,
        owner="",
        fence=1,
        lease_until=NOW - HOUR,
        wait_until=None,
        attempts=0,
        error_code=None,
        error=None,
        started_at=NOW - HOUR,
        updated_at=NOW - HOUR,
        finished_at=None,
    )
    return replace(made, **changes)


def with_open(**changes):
    subject = {
        key: changes.pop(key) for key in ("held", "setbacks", "frozen_until") if key in changes
    }
    return replace(DUE, open=rotation(**changes), **subject)


def turn(subject, now=NOW, settings=EXACT):
    return judge(subject, now, settings).turn


# --- nothing open -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    [
        replace(DUE, version=None, made_at=None),
        replace(DUE, max_age=None),
        YOUNG,
        replace(YOUNG, made_at=NOW + HOUR),
    ],
    ids=["no value", "no max_age", "young", "of the near future"],
)
def test_nothing_is_done(subject):
    """About a secret without a value or an age, or that is young, there is nothing to do."""
    assert Turn.NOTHING is turn(subject)


def test_due_at_its_age_and_not_before():
    """Without jitter the moment is exact."""
    made = replace(YOUNG, made_at=NOW)
    assert Turn.NOTHING is turn(made, NOW + 90 * DAY - MINUTE)
    assert Turn.ROTATE is turn(made, NOW + 90 * DAY)


def test_jitter_spreads_and_repeats():
    """Due dates lie in the last part of the life, all over it, and are the same each time."""
    settings = ScheduleSettings(jitter_percent=10)
    refs = [SecretRef(DB.environment, f"s{number}") for number in range(400)]
    dues = [due_at(ref, 1, NOW, 100 * DAY, settings) for ref in refs]
    assert dues == [due_at(ref, 1, NOW, 100 * DAY, settings) for ref in refs]
    assert NOW + 90 * DAY <= min(dues) < NOW + 91 * DAY
    assert NOW + 99 * DAY < max(dues) <= NOW + 100 * DAY
    in_first_half = sum(due < NOW + 95 * DAY for due in dues)
    assert 150 < in_first_half < 250
    assert due_at(DB, 1, NOW, 100 * DAY, settings) != due_at(DB, 2, NOW, 100 * DAY, settings)
    assert all(earliest_due(NOW, 100 * DAY, settings) <= due for due in dues)


def test_a_version_from_the_far_future_is_due():
    """The clock was set forward, something was made, and it was set back: nobody waits for it."""
    decision = judge(replace(YOUNG, made_at=NOW + 2 * DAY), NOW, EXACT)
    assert Turn.ROTATE is decision.turn
    assert "clock" in decision.reason


def test_what_a_person_does_is_only_told():
    """It is alarming once it is past its max_age, not within the jitter before."""
    settings = ScheduleSettings(jitter_percent=50)
    early = replace(YOUNG, made_at=NOW - 89 * DAY, by_hand="a person changes it")
    decision = judge(early, NOW, settings)
    assert (Turn.PERSON, "a person changes it", False) == (
        decision.turn,
        decision.reason,
        decision.alarming,
    )
    assert judge(replace(DUE, by_hand="x"), NOW, settings).alarming


def test_by_hand_too_it_is_told_that_it_failed():
    """Whoever tries again is to know how the last try ended."""
    failed = replace(DUE, by_hand="run it", failed_at=[NOW - HOUR], failure="target.rejected")
    found = judge(failed, NOW, EXACT)
    assert Turn.PERSON is found.turn
    assert "run it; its rotation failed once, the last time with `target.rejected`" == found.reason


def test_a_failure_is_tried_again_after_a_while():
    """Five minutes after a passing failure, an hour after one that a person has to look at."""
    for code, pause in (("target.unavailable", 5 * MINUTE), ("target.denied", HOUR)):
        failed = replace(DUE, failed_at=[NOW], failure=code)
        decision = judge(failed, NOW + pause - MINUTE, EXACT)
        assert (Turn.WAIT, NOW + pause) == (decision.turn, decision.at)
        assert f"`{code}`" in decision.reason
        assert decision.alarming
        assert Turn.ROTATE is turn(failed, NOW + pause)


def test_pauses_double_up_to_a_bound():
    """However often it fails it is tried at least four times a day, or once."""
    passing = [pause_after("outcome.unknown", count) for count in (1, 2, 3, 7, 8, 999)]
    assert [5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 320 * MINUTE, 6 * HOUR, 6 * HOUR] == passing
    lasting = [pause_after("verification.failed", count) for count in (1, 2, 5, 6, 999)]
    assert [HOUR, 2 * HOUR, 16 * HOUR, 24 * HOUR, 24 * HOUR] == lasting


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("store.unavailable", True),
        ("target.busy", True),
        ("target.connection", True),
        ("target.unknown", True),
        ("target.login-refused", False),
        ("delivery.owner", False),
        ("verification.health", False),
        ("store.rejected", False),
        ("", False),
    ],
)
def test_failure_classes(code, passes):
    """What may be gone next time is told from what somebody has to change."""
    assert passes is (pause_after(code, 1) < HOUR)


def test_a_failure_from_the_future_keeps_nothing_waiting():
    """The clock was set back; what it still counts is how often, for the next pause."""
    later = replace(DUE, failed_at=[NOW + HOUR, NOW + 2 * HOUR], failure="target.unavailable")
    assert Turn.ROTATE is turn(later)
    once_more = replace(later, failed_at=[*later.failed_at, NOW])
    assert NOW + 20 * MINUTE == judge(once_more, NOW, EXACT).at


def test_nothing_begins_in_a_freeze():
    """It waits for the end, however overdue."""
    decision = judge(replace(DUE, frozen_until=NOW + DAY), NOW, EXACT)
    assert (Turn.WAIT, NOW + DAY) == (decision.turn, decision.at)


def test_a_pair_keeps_its_distance():
    """Until the other one's version is old enough, and while that is being rotated."""
    settings = ScheduleSettings(jitter_percent=0, pair_distance=2 * DAY)
    near = replace(DUE, partners=Partners(made_at=NOW - DAY))
    decision = judge(near, NOW, settings)
    assert (Turn.WAIT, NOW + DAY) == (decision.turn, decision.at)
    assert Turn.ROTATE is turn(near, NOW + DAY, settings)
    rotating = judge(replace(DUE, partners=Partners("other", NOW - 9 * DAY)), NOW, settings)
    assert (Turn.WAIT, None) == (rotating.turn, rotating.at)
    assert "`other`" in rotating.reason
    assert Turn.ROTATE is turn(replace(DUE, partners=Partners(made_at=NOW + 9 * DAY)))


# --- one open ---------------------------------------------------------------------------


def test_what_runs_is_left_alone():
    """Even in a freeze, and whatever its row says."""
    for state in (State.LIVE, State.STUCK):
        assert Turn.NOTHING is turn(with_open(held=True, state=state, frozen_until=NOW + DAY))


def test_what_was_interrupted_goes_on_at_once():
    """In a freeze too: order is restored."""
    for frozen in (None, NOW + DAY):
        for step in (Step.CREATE, Step.PROMOTE, Step.RETIRE, Step.DEMOTE):
            assert Turn.RESUME is turn(with_open(step=step, frozen_until=frozen))


def test_a_grace_is_waited_for():
    """And then ended, but not in a freeze: both credentials work meanwhile."""
    grace = {"step": Step.GRACE, "wait_until": NOW + HOUR}
    decision = judge(with_open(**grace), NOW, EXACT)
    assert (Turn.WAIT, NOW + HOUR) == (decision.turn, decision.at)
    assert Turn.RESUME is turn(with_open(**grace), NOW + HOUR)
    frozen = judge(with_open(**grace, frozen_until=NOW + DAY), NOW + HOUR, EXACT)
    assert (Turn.WAIT, NOW + DAY) == (frozen.turn, frozen.at)


def test_a_wait_at_a_step_ends_with_its_time():
    """In a freeze only where the next thing would end the old credential."""
    waits = {"error_code": TIME, "error": "not seen yet", "wait_until": NOW + HOUR}
    early = judge(with_open(step=Step.CHECK, **waits), NOW, EXACT)
    assert Turn.WAIT is early.turn
    assert "not seen yet" in early.reason
    later = NOW + HOUR
    assert Turn.RESUME is turn(with_open(step=Step.CHECK, frozen_until=NOW + DAY, **waits), later)
    for step in (Step.RETIRE, Step.ADVANCE):
        assert Turn.WAIT is turn(with_open(step=step, frozen_until=NOW + DAY, **waits), later)
        assert Turn.RESUME is turn(with_open(step=step, **waits), later)


def test_a_person_is_waited_for():
    """For ever where no time was named; else the step is tried again then."""
    waits = {"error_code": PERSON, "error": "make the key", "step": Step.CREATE}
    decision = judge(with_open(**waits), NOW + 99 * DAY, EXACT)
    assert Turn.PERSON is decision.turn
    assert "make the key" in decision.reason
    again = with_open(**waits, wait_until=NOW + HOUR)
    assert Turn.PERSON is turn(again)
    assert Turn.RESUME is turn(again, NOW + HOUR)


def test_what_is_stuck_is_tried_after_longer_and_longer_pauses():
    """By its failure, and where there is only forward, as one that passes."""
    denied = {"state": State.STUCK, "error_code": "target.denied", "updated_at": NOW}
    cases = (
        (Step.WITHDRAW, 1, HOUR),
        (Step.WITHDRAW, 3, 4 * HOUR),
        (Step.PROVE, 1, 5 * MINUTE),
        (Step.RETIRE, 2, 10 * MINUTE),
        (Step.ADVANCE, 99, 6 * HOUR),
    )
    for step, setbacks, pause in cases:
        stuck = with_open(**denied, step=step, setbacks=setbacks)
        decision = judge(stuck, NOW + pause - MINUTE, EXACT)
        assert (Turn.WAIT, NOW + pause, True) == (decision.turn, decision.at, decision.alarming)
        assert Turn.RESUME is turn(stuck, NOW + pause)
        assert Turn.RESUME is turn(replace(stuck, frozen_until=NOW + 9 * DAY), NOW + pause)


def test_no_open_rotation_waits_for_a_time_that_was_never_true():
    """A clock that was a year ahead left a wait and a failure behind."""
    ahead = NOW + 365 * DAY
    assert Turn.RESUME is turn(
        with_open(step=Step.GRACE, updated_at=ahead, wait_until=ahead + HOUR)
    )
    assert Turn.RESUME is turn(
        with_open(state=State.STUCK, error_code="target.denied", updated_at=ahead, setbacks=5)
    )


# --- freezes ----------------------------------------------------------------------------


def local(text, name):
    return datetime.fromisoformat(text).replace(tzinfo=zone(name)).astimezone(UTC)


def test_no_freeze_has_no_end():
    """Outside of every window there is nothing to wait for."""
    windows = [parse_window("fri 16:00..mon 08:00")]
    assert freeze_end(windows, UTC, datetime(2026, 6, 3, tzinfo=UTC)) is None
    assert freeze_end([], UTC, NOW) is None


def test_windows_that_meet_are_one_freeze():
    """A weekend, then Christmas, then the weekend in which it ends."""
    windows = [parse_window("fri 16:00..mon 08:00"), parse_window("2026-12-21..2027-01-01")]
    saturday = datetime(2026, 12, 19, 9, tzinfo=UTC)
    assert datetime(2027, 1, 4, 8, tzinfo=UTC) == freeze_end(windows, UTC, saturday)


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        ("2026-03-28T12:00", "2026-03-30T08:00"),
        ("2026-10-24T12:00", "2026-10-26T08:00"),
        ("2026-06-05T16:00", "2026-06-08T08:00"),
    ],
    ids=["clocks go forward", "clocks go back", "neither"],
)
def test_a_weekly_freeze_ends_by_the_clock_on_the_wall(moment, end):
    """At the same hour all year, though the weekend is an hour shorter or longer."""
    windows, where = [parse_window("fri 16:00..mon 08:00")], "Europe/Berlin"
    found = freeze_end(windows, zone(where), local(moment, where))
    assert local(end, where) == found
    assert found.tzinfo is UTC


def test_an_end_that_the_clock_shows_twice():
    """In the hour that comes again the freeze is there again, and its end lies ahead."""
    windows, berlin = [parse_window("sat 22:00..sun 02:30")], zone("Europe/Berlin")
    first = datetime(2026, 10, 25, 0, 10, tzinfo=UTC)  # 02:10, before the clocks go back
    assert datetime(2026, 10, 25, 0, 30, tzinfo=UTC) == freeze_end(windows, berlin, first)
    again = first + HOUR
    assert datetime(2026, 10, 25, 1, 30, tzinfo=UTC) == freeze_end(windows, berlin, again)


def test_windows_without_an_end_are_still_answered():
    """A week that is frozen all through gives some moment ahead, and no endless search."""
    windows = [parse_window("mon 00:00..thu 00:00"), parse_window("thu 00:00..mon 00:00")]
    assert NOW + 30 * DAY < freeze_end(windows, UTC, NOW)
