"""What a target did too late for the rotation that had asked for it is ended by a later one."""

from __future__ import annotations

import pytest

from keyturn.errors import Unavailable, VerificationFailed
from keyturn.rotate import State
from tests.unit.rotate.rotating import VALUE, Rotating
from tests.unit.stores.workshop import DB, activate


class Swept:
    """Remembers which tokens were swept, and what was spared."""

    def __init__(self, kind):
        self.calls = []
        meet = kind.sweep

        def sweep(token, *, current):
            self.calls.append((str(token), current[VALUE].reveal()))
            meet(token, current=current)

        kind.sweep = sweep

    def taken(self):
        """Return the calls since it was asked last."""
        found, self.calls = self.calls, []
        return found


@pytest.fixture
def rotating(tmp_path):
    made = Rotating(tmp_path)
    yield made
    made.close()


@pytest.fixture
def swept(rotating):
    return Swept(rotating.kind)


def test_a_rotation_sweeps_its_own_at_the_end_and_what_is_in_use_is_spared(rotating, swept):
    """Nothing came before the first one."""
    done = rotating.start().rotation
    assert [(done.id, rotating.current_value())] == swept.taken()


def test_the_next_rotation_sweeps_the_one_before_it_first(rotating, swept):
    """Before anything is made, so that what is left over takes no room."""
    first, old = rotating.start().rotation, rotating.current_value()
    swept.taken()
    before = len(rotating.kind.calls)
    second = rotating.start().rotation
    assert [(first.id, old), (second.id, rotating.current_value())] == swept.taken()
    assert ["sweep", "create"] == rotating.kind.calls[before : before + 2]


def test_all_that_went_back_are_swept_by_the_next(rotating, swept):
    """Back to the last that went well, and no further."""
    rotating.start()
    well = rotating.start().rotation
    rotating.kind.failures["check"] = [VerificationFailed("no")] * 2
    back = [rotating.start().rotation for _ in range(2)]
    assert [State.ROLLED_BACK] * 2 == [one.state for one in back]
    swept.taken()
    last = rotating.start().rotation
    assert [back[1].id, back[0].id, well.id, last.id] == [token for token, _ in swept.taken()]


def test_what_a_person_ended_is_left_to_that_person(rotating, swept):
    """A rotation that was given up may have made what somebody uses."""
    rotating.kind.failures["retire"] = [VerificationFailed("no")]
    assert State.STUCK is rotating.start().rotation.state
    rotating.runner().give_up(DB)
    swept.taken()
    last = rotating.start().rotation
    assert [last.id] == [token for token, _ in swept.taken()]


def test_nothing_before_one_that_was_given_up_is_swept(rotating, swept):
    """The version that the last good one made may be what consumers still use."""
    rotating.start()
    rotating.kind.failures["check"] = [VerificationFailed("no")]
    assert State.ROLLED_BACK is rotating.start().rotation.state
    rotating.clock.advance(1)
    rotating.start(grace_seconds=3600)
    rotating.runner().give_up(DB)
    rotating.clock.advance(1)
    swept.taken()
    last = rotating.start(grace_seconds=3600).rotation
    assert [] == swept.taken()
    rotating.resume(now=True)
    assert [last.id] == [token for token, _ in swept.taken()]


def test_what_went_back_after_one_was_given_up_is_swept_alone(rotating, swept):
    """It was begun when the target had been left to a person, and nobody uses what it made."""
    rotating.start()
    rotating.start(grace_seconds=3600)
    rotating.runner().give_up(DB)
    rotating.clock.advance(1)
    rotating.kind.failures["check"] = [VerificationFailed("no")]
    back = rotating.start().rotation
    swept.taken()
    last = rotating.start().rotation
    assert [back.id, last.id] == [token for token, _ in swept.taken()]


def test_a_version_that_a_person_put_out_of_use_is_not_swept(rotating, swept):
    """Going back changes the store alone: consumers may still use what they were given."""
    rotating.start()
    rotating.start()
    rotating.store.promote(DB, 2, expected_current=3)
    swept.taken()
    last = rotating.start().rotation
    assert [last.id] == [token for token, _ in swept.taken()]


def test_what_was_left_to_a_person_is_told_at_the_end(rotating):
    """Whoever reads that a rotation is done must not believe that all before it is dead."""
    rotating.start()
    rotating.start(grace_seconds=3600)
    rotating.runner().give_up(DB)
    rotating.clock.advance(1)
    notes = " ".join(rotating.start().notes)
    assert "version 2 was left to a person" in notes and "`keyturn test db -e" in notes
    assert "left to a person" not in " ".join(rotating.start().notes)


def test_what_went_back_from_a_version_set_by_hand_is_swept(rotating, swept):
    """That version is older than all that the rotation made, so that it cannot be of it."""
    rotating.kind.failures["check"] = [VerificationFailed("no")]
    back = rotating.start().rotation
    assert (State.ROLLED_BACK, 2) == (back.state, back.new_version)
    swept.taken()
    last = rotating.start().rotation
    assert [back.id, last.id] == [token for token, _ in swept.taken()]


def test_what_went_back_before_a_value_was_set_by_hand_is_not_swept(rotating, swept):
    """That value may be what it had made."""
    rotating.kind.failures["check"] = [VerificationFailed("no")]
    rotating.start()
    activate(rotating.store, b"first")
    swept.taken()
    last = rotating.start().rotation
    assert [last.id] == [token for token, _ in swept.taken()]


def test_what_may_have_been_set_by_hand_is_not_taken_for_left_over(rotating, swept):
    """Its value again, without the provider's name for it: only what nobody stored is swept."""
    rotating.start()
    value = rotating.current_value()
    rotating.kind.failures["create"] = [VerificationFailed("no")]
    unstored = rotating.start().rotation
    activate(rotating.store, value)
    swept.taken()
    last = rotating.start().rotation
    assert [unstored.id, last.id] == [token for token, _ in swept.taken()]


def test_a_first_value_sweeps_nothing(tmp_path):
    """There is nothing in use to be spared; the second one sweeps after the first."""
    made = Rotating(tmp_path, born=False)
    try:
        swept = Swept(made.kind)
        first = made.start().rotation
        assert [] == swept.taken()
        second = made.start().rotation
        assert [first.id, second.id] == [token for token, _ in swept.taken()]
    finally:
        made.close()


def test_no_answer_to_it_goes_back_with_nothing_made(rotating):
    """It is tried as often as any step, and nothing was changed before it."""
    rotating.start()
    rotating.kind.failures["sweep"] = [Unavailable("no answer") for _ in range(3)]
    before = rotating.current_value()
    assert State.ROLLED_BACK is rotating.start().rotation.state
    assert before == rotating.current_value()
    assert {before} == rotating.target.accepted
