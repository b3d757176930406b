"""
The answer of each call to a vendor is lost, after the vendor did what was asked.

It is settled by asking, never by guessing: the rotation ends, what is current works,
and the vendor's own list shows no key more than before.
"""

from __future__ import annotations

import pytest

from keyturn.testing.simulators import Fault
from tests.worlds.scene import Reader, Scene, open_world

pytestmark = [pytest.mark.kinds]

WORLDS = (
    "openai_key",
    "sendgrid_key",
    "stripe_key",
    "stripe_key_preview",
    "stripe_webhook_secret",
    "twitch_app",
)
CHANGING = "^(POST|PUT|PATCH|DELETE) "


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.BROKEN_AFTER], ids=str)
@pytest.mark.parametrize("name", WORLDS)
def test_the_answer_of_each_call_is_lost(name, fault, tmp_path):
    """Every changing call of a rotation in turn: nothing is orphaned, nothing is lost."""
    world = open_world(name)
    try:
        scene = Scene(world, tmp_path)
        with Reader(world, tmp_path):
            scene.settle(scene.rotate())
            before = len(world.credentials())
            asked = world.simulator.asked(CHANGING)
            scene.settle(scene.rotate())
            calls = world.simulator.asked(CHANGING) - asked
            for number in range(calls):
                world.simulator.fail_next(CHANGING, fault, skip=number)
                answer = scene.settle(scene.rotate())
                assert answer["state"] in ("done", "rolled-back"), (number, answer)
                assert scene.live() is None
                assert world.use(scene.values()), number
                assert before == len(world.credentials()), number
        scene.close()
    finally:
        world.close()
    assert calls > 0 or name == "stripe_key", "a rotation changes something at the vendor"
