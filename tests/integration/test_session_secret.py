"""Session secrets: the list in every phase, the single value, and an application that uses them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core.ids import Token
from keyturn.errors import InternalError, Rejected, Unavailable, UsageError, VerificationFailed
from tests.worlds.base import kind_in, secret_values
from tests.worlds.scene import Client, Scene
from tests.worlds.session_secret import SessionWorld

TOKEN = Token("0123456789abcdef0123456789abcdef")
# Obviously nobody's.
LONG = [letter + "-not-a-secret-0123456789" for letter in "abcdef"]


@pytest.fixture
def world():
    found = SessionWorld()
    yield found
    found.close()


def value(text):
    return secret_values({"value": text})


def parts(values):
    return values["value"].reveal_text().split(",")


def keeping(world, keep):
    return kind_in(replace(world.setup, target={"keep": keep}))


def phases(kind, current):
    found = [kind.create(current, token=TOKEN)]
    kind.apply(current, found[0])
    kind.check(current, found[0])
    found.append(kind.advance(found[0], 1))
    return [*found, kind.advance(found[1], 2)]


def test_the_new_value_is_learnt_then_signs_then_is_alone(world):
    """It is second before it is first, so that no process meets what it cannot verify."""
    kind, old = kind_in(world.setup), secret_values(world.setup.first)
    learnt, signing, alone = phases(kind, old)
    (text,), (new,) = parts(old), parts(alone)
    assert [text, new] == parts(learnt)
    assert [new, text] == parts(signing)
    assert text != new
    kind.retire(alone, old)
    assert "absent" == kind.prove_dead(old, current=alone).method
    for current in (old, learnt, signing):
        with pytest.raises(VerificationFailed) as caught:
            kind.prove_dead(old, current=current)
        assert "target.still-works" == caught.value.code
    with pytest.raises(Unavailable):
        kind.prove_dead(old)


def test_no_more_are_kept_than_the_application_accepts(world):
    """Older ones stay where there is room, and none of them at the end."""
    old = value(",".join(LONG[:3]))
    learnt, signing, alone = phases(keeping(world, 3), old)
    assert [LONG[0], LONG[1]] == [parts(learnt)[0], parts(learnt)[2]]
    assert 3 == len(parts(signing))
    assert 1 == len(parts(alone))
    assert keeping(world, 3).prove_dead(old, current=alone).method
    assert LONG[0] == parts(phases(keeping(world, 2), old)[0])[0]
    said = dict(keeping(world, 2).describe(old))
    assert "2 of the oldest leave" in said["deliver"]


def test_the_waits_are_short_first_and_then_the_grace(world):
    """Processes learn in minutes; sessions live for the grace."""
    kind = kind_in(world.setup)
    assert (600, (86_400, 0)) == (kind.first_wait(86_400), tuple(kind.later_waits(86_400)))
    assert 60 == kind.first_wait(60)


@pytest.mark.parametrize("text", ["short,list", f"{LONG[0]},", f"{LONG[0]}, {LONG[1]}", "a,b"])
def test_a_present_value_with_commas_that_is_no_list_is_refused(world, text):
    """It would be taken apart; nothing is changed, and the value is not quoted."""
    with pytest.raises(Rejected, match="has commas") as caught:
        kind_in(world.setup).create(value(text), token=TOKEN)
    assert "keyturn set it" in caught.value.hint
    assert LONG[0] not in caught.value.message + caught.value.hint


def test_a_weak_present_value_can_be_replaced(world):
    """That is what it is rotated for."""
    assert "weak" == parts(kind_in(world.setup).create(value("weak"), token=TOKEN))[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{LONG[0]},{LONG[0]}", "twice"),
        (f"{LONG[0]},short", "too short"),
        (f"{LONG[0]},{'a' * 40}", "repeats itself"),
        (f"{LONG[1]},{LONG[2]}", "signs is not the present one"),
        (",".join(LONG[:3]), "more than 2"),
    ],
)
def test_a_list_that_is_not_right_fails_the_check(world, text, says):
    """Each fault by its name."""
    with pytest.raises(VerificationFailed, match=says):
        kind_in(world.setup).check(value(LONG[0]), value(text))


def test_a_probe_looks_at_every_value(world):
    """A weak one anywhere in the list is found."""
    kind = kind_in(world.setup)
    assert "2 values" in kind.probe(value(",".join(LONG[:2]))).detail
    with pytest.raises(VerificationFailed):
        kind.probe(value(f"{LONG[0]},weak"))


def test_values_with_a_comma_are_drawn_again(world):
    """An alphabet may have one; a list cannot."""
    kind, drawn = kind_in(world.setup), [",".join(LONG), LONG[1] + ",", LONG[2]]
    kind._make = lambda: value(drawn.pop(0))
    assert [LONG[0], LONG[2]] == parts(kind.create(value(LONG[0]), token=TOKEN))
    kind._make = lambda: value(",".join(LONG))
    with pytest.raises(UsageError, match="has a comma") as caught:
        kind.create(None, token=TOKEN)
    assert "base64" in caught.value.hint


def test_a_version_of_no_rotation_is_not_advanced(world):
    """Somebody stored another one meanwhile."""
    kind = kind_in(world.setup)
    with pytest.raises(VerificationFailed, match="no second value"):
        kind.advance(value(LONG[0]), 1)
    with pytest.raises(InternalError):
        kind.advance(value(LONG[0]), 3)


@pytest.mark.parametrize(
    "changes", [{"strategy": "both"}, {"target": {"keep": 1}}, {"target": {"keep": "2"}}]
)
def test_a_target_that_says_what_cannot_be_is_refused(world, changes):
    """With what to write."""
    with pytest.raises(UsageError) as caught:
        kind_in(replace(world.setup, **changes))
    assert "keyturn.toml" in caught.value.hint


def test_a_single_value_ends_the_sessions_of_the_old_one():
    """That is said before; a value of its own is made, and the old one is not it."""
    world = SessionWorld(strategy="single")
    for strategy in ("single", None):
        kind = kind_in(replace(world.setup, strategy=strategy))
        old = secret_values(world.setup.first)
        assert not kind.overlaps
        assert "end; with" in dict(kind.describe(old))["deliver"]
        new = kind.create(old, token=TOKEN)
        assert kind.check(old, new).method
        assert kind.rehearsal() is kind
        assert kind.prove_dead(old, current=new).method
        with pytest.raises(VerificationFailed, match="is the old one"):
            kind.check(old, old)
        with pytest.raises(VerificationFailed) as caught:
            kind.prove_dead(old, current=old)
        assert "target.still-works" == caught.value.code
        for process in world.processes:
            process.read(new["value"].reveal_text())
        assert not world.use(world.setup.first)


def test_a_first_value_is_a_list_of_one(world):
    """A birth has nothing to keep."""
    kind = kind_in(world.setup)
    made = kind.create(None, token=TOKEN)
    assert 1 == len(parts(made))
    assert kind.check(None, made).method
    assert dict(kind.describe(None))


def test_no_session_ends_while_the_grace_lasts(tmp_path, record_property):
    """Cookies of the old value are accepted as long as they live, at both processes."""
    world = SessionWorld(session_seconds=1.8)
    world.setup = replace(world.setup, grace_seconds=2)
    scene = Scene(world, tmp_path)
    with Client(world, tmp_path) as client:
        answer = scene.run("start", now=False)
        assert "done" == answer["state"], answer
    assert [] == client.refused
    assert not world.use(world.setup.first)
    assert world.use(scene.values())
    assert world.issued.accepted_later > 100
    record_property("cookies_accepted", world.issued.accepted_later)
    scene.close()
    world.close()


def test_sessions_that_outlive_the_grace_are_noticed(tmp_path):
    """The grace is what keeps them: the world sees it where it is too short."""
    world = SessionWorld(session_seconds=60)
    scene = Scene(world, tmp_path)
    with Client(world, tmp_path) as client:
        scene.settle(scene.rotate())
        while client.used < 3 and not client.refused:
            client.stopping.wait(0.01)
    assert client.refused
    scene.close()
    world.close()
