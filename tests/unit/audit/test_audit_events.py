"""The closed list of actions."""

from __future__ import annotations

import re

import pytest

from keyturn.audit import Action, Outcome


@pytest.mark.parametrize("action", Action)
def test_action_is_three_words_and_says_what_it_means(action):
    """An action reads `noun.noun.verb`, and its meaning is written down."""
    assert re.fullmatch(r"[a-z]+\.[a-z]+\.[a-z]+", action)
    assert len(action.meaning) > 10


def test_actions_are_text():
    """An action is found by its words and prints as them."""
    assert Action("secret.value.read") is Action.VALUE_READ
    assert f"{Action.VALUE_READ}" == "secret.value.read"


def test_no_two_actions_share_words_or_meaning():
    """Each word of the log has one meaning, so no member is another one's alias."""
    assert len(Action.__members__) == len(set(Action)) == len({a.meaning for a in Action})


def test_reads_wait_for_nothing():
    """A read is recorded before the value leaves; only changes are settled later."""
    assert not Action.VALUE_READ.settles
    assert not Action.ENVIRONMENT_DELIVER.settles
    assert Action.VERSION_PROMOTE.settles


def test_outcomes_are_five():
    """The outcomes are a closed set."""
    assert {"denied", "begun", "done", "failed", "unknown"} == set(Outcome)


def test_the_door_opens_every_name_it_lists():
    """Each public name is loaded on first use, and no other name is."""
    import keyturn.audit as door

    assert all(getattr(door, name) is not None for name in door.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = door.nothing
