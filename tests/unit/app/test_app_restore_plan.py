"""What a backup may do to a store: bring what is missing, and take nobody's place unasked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.app.restore_plan import judge_restored, settled, was_written
from keyturn.app.sync_plan import Facts, Way
from keyturn.core.ports import Drift, DriftKind
from tests.unit.app.test_app_backup_format import history_of

FACTS = Facts("the backup", "local")
NAMED = replace(FACTS, overwrite=True)
ONE, TWO, THREE, OTHER = ({"value": text} for text in (b"one", b"two", b"three", b"other"))


def staged(history, **stages):
    return replace(history, state=replace(history.state, **stages))


def kept(*contents, **options):
    return history_of("api", contents, **options)


@pytest.mark.parametrize(
    ("mine", "theirs", "way"),
    [
        (kept(ONE, TWO), None, Way.COPY),
        (kept(ONE, TWO), kept(ONE, TWO), Way.SAME),
        (kept(ONE, TWO), kept(ONE, TWO, THREE), Way.SAME),
        (kept(ONE, TWO), kept(None, TWO), Way.SAME),
        (kept(ONE, TWO), kept(ONE), Way.APPEND),
        (kept(ONE, TWO), staged(kept(ONE, TWO), current=None, previous=None), Way.APPEND),
        (kept(ONE, TWO), staged(kept(ONE), current=None), Way.APPEND),
        (kept(ONE, TWO), staged(kept(ONE, TWO), previous=None), Way.APPEND),
        (kept(ONE, TWO), kept(OTHER), Way.CONFLICT),
        (kept(ONE, TWO), kept(ONE, OTHER), Way.CONFLICT),
        (kept(ONE, TWO), kept(ONE, OTHER, THREE), Way.CONFLICT),
        (kept(ONE, TWO), staged(kept(ONE, TWO), current=1, previous=2), Way.SAME),
        (kept(ONE, TWO, pending=True), kept(ONE, TWO), Way.SAME),
        (kept(ONE, TWO), kept(ONE, TWO, THREE, pending=True), Way.SAME),
        (kept(ONE, TWO), kept(ONE, pending=True), Way.CONFLICT),
        (staged(kept(ONE, TWO, THREE), current=1), kept(ONE, TWO), Way.CONFLICT),
        (kept(ONE, TWO), kept(None), Way.APPEND),
        (kept(ONE, TWO), kept(None, None), Way.RENEW),
        (kept(ONE, TWO), kept(OTHER, None), Way.CONFLICT),
    ],
)
def test_what_is_there_stays(mine, theirs, way):
    """What is missing is added; what is newer is left; another value is a conflict."""
    assert way is judge_restored(mine, theirs, FACTS).way


@pytest.mark.parametrize(
    ("theirs", "way", "current"),
    [
        (kept(ONE, TWO), Way.SAME, None),
        (kept(OTHER), Way.RENEW, 2),
        (kept(ONE, TWO, THREE), Way.RENEW, 4),
        (kept(ONE, OTHER, THREE), Way.RENEW, 4),
        (staged(kept(ONE, TWO), current=1, previous=2), Way.APPEND, 2),
        (kept(ONE, pending=True), Way.CONFLICT, None),
    ],
)
def test_what_is_named_gives_way(theirs, way, current):
    """By a new version, so that what was there is kept; never while one is pending."""
    planned = judge_restored(kept(ONE, TWO), theirs, NAMED)
    assert way is planned.way
    if current is None:
        assert planned.move is None
        return
    history = planned.move.history
    assert (current, TWO["value"]) == (
        history.state.current,
        history.values(current)["value"].reveal(),
    )
    assert planned.move.expected == theirs.state


@pytest.mark.parametrize("facts", [FACTS, NAMED])
def test_what_others_changed_is_settled_first(facts):
    """Named or not: a person decides which of the two values is meant."""
    mine = kept(ONE, TWO)
    drift = Drift(mine.ref, DriftKind.CHANGED, 1, ())
    planned = judge_restored(mine, kept(ONE), replace(facts, drift=drift))
    assert (Way.CONFLICT, None) == (planned.way, planned.move)
    assert "keyturn drift" in planned.why


@pytest.mark.parametrize("facts", [FACTS, NAMED])
def test_a_rotation_is_not_disturbed(facts):
    """It would go on with what it does not know."""
    planned = judge_restored(kept(ONE, TWO), kept(ONE), replace(facts, in_rotation=True))
    assert Way.CONFLICT is planned.way


def test_what_was_pending_comes_back_without_a_stage():
    """Its rotation is not in the backup."""
    planned = judge_restored(kept(ONE, TWO, pending=True), None, FACTS)
    state = planned.move.history.state
    assert (None, 2, 3) == (state.pending, state.current, state.next_number)


def test_what_was_read_back_is_compared():
    """State and values; a store that keeps few may have let go what is not in use."""
    wanted = kept(ONE, TWO, THREE)
    assert was_written(wanted, wanted)
    assert was_written(wanted, kept(None, TWO, THREE))
    assert was_written(kept(None, TWO, THREE), wanted)
    for found in (
        None,
        kept(ONE, TWO, OTHER),
        kept(OTHER, TWO, THREE),
        staged(wanted, previous=1),
        staged(kept(ONE, None, THREE), previous=2),
        replace(wanted, versions=wanted.versions[1:]),
    ):
        assert not was_written(wanted, found)
    assert settled(staged(wanted, pending=3)) == wanted


def test_no_stage_comes_to_a_version_that_is_gone():
    """One that was destroyed here since stays so: what is in use comes back as a new one."""
    state = judge_restored(kept(ONE, TWO), kept(None), FACTS).move.history.state
    assert (state.current, state.previous) == (2, None)
    history = judge_restored(kept(ONE, TWO), kept(None, None), FACTS).move.history
    assert (history.state.current, history.state.previous) == (3, None)
    assert history.values(3) == kept(ONE, TWO).values(2)
