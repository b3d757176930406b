"""What `sync` decides for one secret, from two histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from keyturn.app.sync_plan import Facts, Way, judge
from keyturn.core.model import SecretState
from keyturn.core.ports import Drift, DriftKind
from keyturn.stores import MemoryStore
from keyturn.testing import FakeClock
from keyturn.testing._store_words import history_of
from keyturn.testing.store_contract import DB

FACTS = Facts("here", "there")
DRIFT = Drift(DB, DriftKind.CHANGED, 1, ())


def staged(history, **state):
    return replace(history, state=replace(history.state, **state))


def drifted(history):
    """Return *history* with a current version that is not what is live."""
    (version, values) = history.versions[-1]
    last = (replace(version, drifted=True), values)
    return replace(history, versions=(*history.versions[:-1], last))


def younger(history, days=100):
    """Return *history* with versions made later."""
    return replace(
        history,
        versions=tuple(
            (replace(version, created_at=version.created_at + timedelta(days=days)), values)
            for version, values in history.versions
        ),
    )


def test_unknown_secret_is_copied():
    """With every version that has values."""
    planned = judge(history_of(None, b"two", b"three"), None, FACTS)
    assert (planned.way, planned.versions) == (Way.COPY, 2)
    assert planned.move.expected == SecretState(DB, None, None, None, 1)


def test_same_history_is_the_same():
    """Also where a version was destroyed on one side."""
    assert judge(history_of(b"1", b"2", b"3"), history_of(b"1", b"2", b"3"), FACTS).way is Way.SAME
    assert judge(history_of(None, b"2", b"3"), history_of(b"1", b"2", b"3"), FACTS).way is Way.SAME
    assert judge(history_of(b"1", b"2", b"3"), history_of(None, b"2", b"3"), FACTS).way is Way.SAME


def test_shorter_history_gets_the_rest():
    """And one that lacks the stages alone gets those."""
    planned = judge(history_of(b"1", b"2", b"3"), history_of(b"1"), FACTS)
    assert (planned.way, planned.versions) == (Way.APPEND, 2)
    whole = history_of(b"1", b"2")
    planned = judge(whole, staged(whole, current=None, previous=None), FACTS)
    assert (planned.way, planned.versions, planned.move.history) == (Way.APPEND, 0, whole)


def test_own_history_gets_a_new_version():
    """It keeps its own, and the value that was current becomes previous."""
    planned = judge(younger(history_of(b"x")), history_of(b"y", b"z"), FACTS)
    assert (planned.way, planned.versions) == (Way.RENEW, 1)
    after = planned.move.history
    assert (after.state.current, after.state.previous, after.state.next_number) == (3, 2, 4)
    assert after.versions[:2] == history_of(b"y", b"z").versions
    assert after.values(3) == history_of(b"x").values(1)


def test_new_version_that_was_left_by_a_crash_is_used():
    """It is not written a second time."""
    mine, theirs = younger(history_of(b"x")), history_of(b"y", b"x")
    planned = judge(mine, staged(theirs, current=1, previous=None), FACTS)
    assert planned.way is Way.RENEW
    assert planned.move.history == staged(theirs, current=2, previous=1)


def test_equal_values_of_own_histories_are_the_same():
    """What counts is what is current."""
    planned = judge(history_of(b"1", b"2"), history_of(b"x", b"y", b"2"), FACTS)
    assert planned.way is Way.SAME
    assert "its own versions" in planned.why


@pytest.mark.parametrize("theirs", [history_of(b"x"), history_of(b"1", b"2", b"3")])
def test_newer_value_is_a_conflict(theirs):
    """Of another history and of the same one, unless it is to give way."""
    mine = history_of(b"1", b"2")
    planned = judge(mine, younger(theirs), FACTS)
    assert (planned.way, planned.move) == (Way.CONFLICT, None)
    assert "is newer than version 2" in planned.why
    planned = judge(mine, younger(theirs), replace(FACTS, overwrite=True))
    assert planned.way is Way.RENEW
    assert planned.move.history.state.previous == theirs.state.current


def test_rolled_back_source_is_older():
    """What was rolled back here is still current there."""
    theirs = history_of(b"1", b"2")
    mine = staged(theirs, current=1, previous=2)
    assert judge(mine, theirs, FACTS).way is Way.CONFLICT
    planned = judge(mine, theirs, replace(FACTS, overwrite=True))
    assert (planned.way, planned.move.history.state.current) == (Way.APPEND, 1)


@pytest.mark.parametrize(
    ("mine", "theirs", "facts", "said"),
    [
        (history_of(b"1"), None, {"in_rotation": True}, "a rotation is under way"),
        (staged(history_of(b"1"), pending=1), None, {}, "here: version 1 is pending"),
        (history_of(b"1"), staged(history_of(b"1"), pending=1), {}, "there: version 1 is pending"),
        (drifted(history_of(b"1")), None, {}, "here: the live value was changed"),
        (staged(history_of(b"1"), current=None), history_of(b"1"), {}, "no current version"),
    ],
)
def test_what_is_in_the_way_stays_so(mine, theirs, facts, said):
    """Whatever is to give way."""
    for overwrite in (False, True):
        planned = judge(mine, theirs, replace(FACTS, overwrite=overwrite, **facts))
        assert (planned.way, planned.move) == (Way.CONFLICT, None)
        assert said in planned.why


def test_drift_at_the_target_gives_way_when_told():
    """It is settled before anything is written."""
    facts = replace(FACTS, drift=DRIFT)
    assert judge(history_of(b"1", b"2"), history_of(b"1"), facts).way is Way.CONFLICT
    planned = judge(history_of(b"1", b"2"), history_of(b"1"), replace(facts, overwrite=True))
    assert (planned.way, planned.drift, planned.move) == (Way.RENEW, DRIFT, None)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (history_of(b"1", b"2", b"3"), None),
        (history_of(None, b"2", b"3"), history_of(b"1")),
        (younger(history_of(b"x")), history_of(b"1", b"2")),
        (history_of(b"1", b"2"), younger(history_of(b"1", b"2", b"3"))),
    ],
)
def test_what_is_planned_a_store_takes(mine, theirs):
    """And asked again there is nothing left to do."""
    facts = replace(FACTS, overwrite=True)
    store = MemoryStore(clock=FakeClock())
    if theirs is not None:
        unwritten = store.state(DB)
        store.carry([judge(theirs, None, FACTS).move])
        assert store.state(DB) != unwritten
    planned = judge(mine, store.histories(DB.environment, [DB.name]).get(DB.name), facts)
    store.carry([planned.move])
    (held,) = store.histories(DB.environment, [DB.name]).values()
    assert held.values(held.state.current) == mine.values(mine.state.current)
    assert judge(mine, held, facts).way is Way.SAME
