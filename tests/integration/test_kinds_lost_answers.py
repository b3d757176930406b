"""
The answer of each call to a vendor is lost, after the vendor did what was asked.

It is settled by asking, never by guessing: the rotation ends, what is current works,
and the vendor's own list shows no key more than before. That holds as well for a vendor
that does what was asked when it has been given up already.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.testing.simulators import Fault
from tests.worlds import relayed
from tests.worlds.scene import Reader, Scene, open_world

pytestmark = [
    pytest.mark.kinds,
    # botocore leaves a connection that the emulator closed first to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]

# Vendors that make the value, and the call which does.
MAKING = {
    "aws_access_key": "POST /CreateAccessKey$",
    "openai_key": "POST .*/api_keys$",
    "sendgrid_key": "POST /v3/api_keys$",
    "stripe_key_preview": "POST /v2/iam/api_keys$",
    "stripe_webhook_secret": "POST /v1/webhook_endpoints$",
    "vault_approle": "POST .*/secret-id$",
}
WORLDS = (*MAKING, "stripe_key", "twitch_app")
# The calls that change something.
CHANGING = dict.fromkeys(WORLDS, "^(POST|PUT|PATCH|DELETE) ") | {
    "aws_access_key": "/(Tag|Untag|Create|Update|Delete)",
    "vault_approle": "POST .*/(secret-id|destroy)$",
}
# botocore knows one error of both.
FAULTS = [(name, Fault.LOST) for name in WORLDS]
FAULTS += [(name, Fault.BROKEN_AFTER) for name in WORLDS if name != "aws_access_key"]
# AWS allows a user two keys, so that a late third one is refused.
LATE = [name for name in MAKING if name != "aws_access_key"]


def by_an_administrator(world):
    """Let a key administer that no rotation ends: a late request is not refused for its own."""
    if world.setup.admin is None:
        admin = world.simulator.make_key(world.account).value
        world.setup = replace(world.setup, admin={"value": admin})


@pytest.fixture
def world(name):
    opened = getattr(relayed, name)() if hasattr(relayed, name) else open_world(name)
    yield opened
    opened.close()


@pytest.fixture
def scene(world, tmp_path):
    if world.setup.kind == "stripe-key" and not world.setup.guided:
        by_an_administrator(world)
    made = Scene(world, tmp_path)
    with Reader(world, tmp_path):
        yield made
    made.close()


def require_settled(world, scene, answer, before, case):
    """Look at the vendor's own list: what is current works, and there is nothing else."""
    assert answer["state"] in ("done", "rolled-back"), (case, answer)
    assert scene.live() is None
    assert world.use(scene.values()), case
    assert before == len(world.credentials()), case


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_the_answer_of_each_call_is_lost(name, fault, world, scene):
    """Every changing call of a rotation in turn: nothing is orphaned, nothing is lost."""
    changing = CHANGING[name]
    scene.settle(scene.rotate())
    before = len(world.credentials())
    asked = world.simulator.asked(changing)
    scene.settle(scene.rotate())
    calls = world.simulator.asked(changing) - asked
    for number in range(calls):
        world.simulator.fail_next(changing, fault, skip=number)
        answer = scene.settle(scene.rotate())
        require_settled(world, scene, answer, before, number)
    assert calls > 0 or name == "stripe_key", "a rotation changes something at the vendor"


@pytest.mark.parametrize("name", MAKING)
def test_no_try_to_make_one_is_answered(name, world, scene):
    """The rotation goes back, and ends what each of its tries has made."""
    before = world.credentials()
    world.simulator.fail_next(MAKING[name], Fault.LOST, times=3)
    answer = scene.settle(scene.rotate())
    assert "rolled-back" == answer["state"], answer
    assert before == world.credentials()
    assert 1 == scene.state().current


@pytest.mark.parametrize("name", LATE)
def test_one_that_is_made_in_the_grace_is_ended_with_the_old(name, world, scene):
    """The first try was given up, and carried out when the second had long been answered."""
    before = len(world.credentials())
    world.simulator.fail_next(MAKING[name], Fault.LATE)
    answer = scene.rotate(now=False)
    assert "grace" == answer["step"], answer
    assert 1 == world.simulator.catch_up()
    assert before + 2 == len(world.credentials())
    answer = scene.settle(answer)
    assert "done" == answer["state"], answer
    require_settled(world, scene, answer, before, name)


@pytest.mark.parametrize("name", LATE)
def test_one_that_is_made_at_any_later_time_is_ended_at_last(name, world, scene):
    """Without a grace it may come when all was swept: then the next rotation ends it."""
    simulator, before = world.simulator, len(world.credentials())
    asked = len(simulator.journal)
    scene.settle(scene.rotate())
    requests, left_over = len(simulator.journal) - asked, 0
    for after in (*range(0, requests, 1 + requests // 3), None):
        simulator.fail_next(MAKING[name], Fault.LATE, after=after)
        answer = scene.settle(scene.rotate())
        assert "done" == answer["state"], (after, answer)
        simulator.catch_up()
        left_over += len(world.credentials()) - before
        assert world.use(scene.values()), after
    assert left_over > 0, "none came after the sweep"
    answer = scene.settle(scene.rotate())
    require_settled(world, scene, answer, before, name)


@pytest.mark.parametrize("name", LATE)
def test_those_of_a_rotation_that_went_back_are_ended_by_the_next(name, world, scene):
    """All of its tries were given up, and are carried out when nobody thinks of them any more."""
    before = len(world.credentials())
    world.simulator.fail_next(MAKING[name], Fault.LATE, times=3)
    answer = scene.settle(scene.rotate())
    assert "rolled-back" == answer["state"], answer
    assert 3 == world.simulator.catch_up()
    assert before + 3 == len(world.credentials())
    answer = scene.settle(scene.rotate())
    assert "done" == answer["state"], answer
    require_settled(world, scene, answer, before, name)


@pytest.mark.parametrize("name", LATE)
def test_one_that_is_made_after_its_rotation_went_back_is_ended(name, world, scene):
    """What was stored went back; the value in use, set by a person, is older than all of it."""
    before = len(world.credentials())
    world.simulator.fail_next(MAKING[name], Fault.LATE)
    answer = scene.settle(scene.rotate(refuse=0))
    assert "rolled-back" == answer["state"], answer
    assert 1 == world.simulator.catch_up()
    assert before + 1 == len(world.credentials())
    scene.refused = None
    answer = scene.settle(scene.rotate())
    assert "done" == answer["state"], answer
    require_settled(world, scene, answer, before, name)


@pytest.mark.parametrize("name", LATE)
def test_what_was_in_use_when_one_was_given_up_works_on(name, world, scene):
    """The next rotation has a grace, and consumers that were never moved need it."""
    scene.settle(scene.rotate())
    used = scene.values()
    assert "grace" == scene.rotate(now=False)["step"]
    assert "given-up" == scene.run("give-up")["state"]
    assert world.use(used)
    assert "grace" == scene.rotate(now=False)["step"]
    assert world.use(used)
    assert world.use(scene.values())
