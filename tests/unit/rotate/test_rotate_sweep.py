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
