"""
A rotation that a person turns back in its grace, killed at every point of the way.

After every kill the client still works with what it was given. The same command again
settles it: the old version is in use and works, and the system accepts no more
credentials than before.
"""

from __future__ import annotations

import pytest

from tests.worlds.scene import KILLED, Client, Scene, open_world

pytestmark = [pytest.mark.kinds, pytest.mark.crash]

# One that makes the value itself, one that is told it, one of phases, and one of no system.
WORLDS = ("openai_key", "postgres_18", "stripe_webhook_secret", "session_secret")
_OTHERS = ("database.", "deliver.", "durable.", "store.", "audit.", "anchor.", "bundle")


def waiting(scene):
    """Rotate as far as the grace, and return the version that was in use before."""
    old = scene.state().current
    answer = scene.rotate(now=False)
    assert ("live", "grace") == (answer["state"], answer["step"]), answer
    assert old != scene.state().current
    return old


def points_of(scene, trace):
    """Return every point that a turn reaches, in order."""
    waiting(scene)
    answer = scene.run("turn", failpoint=f"trace={trace}")
    assert "rolled-back" == answer["state"], answer
    reached = dict.fromkeys(trace.read_text().split())
    return [name for name in reached if not name.startswith(_OTHERS)]


def settle(scene, again):
    """Take the rotation up in fresh processes until it has ended."""
    for _ in range(3):
        if scene.live() is None:
            return
        answer = scene.run(again)
    assert answer["state"] == "rolled-back", answer


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", WORLDS)
def test_a_kill_at_any_point_of_the_turn_is_settled(name, tmp_path):
    """By `rollback` again, and once the turn is recorded by `rotate --resume` as well."""
    world = open_world(name)
    try:
        scene = Scene(world, tmp_path)
        with Client(world, tmp_path) as client:
            scene.settle(scene.rotate())
            before = len(world.credentials())
            points = points_of(scene, tmp_path / "trace")
            assert {"rotate.turn.begin", "rotate.turn.end", "rotate.demote.effect"} <= set(points)
            assert {"rotate.redeliver.end", "rotate.withdraw.end"} <= set(points)
            for place, point in enumerate(points):
                old = waiting(scene)
                answer = scene.run("turn", failpoint=point)
                assert KILLED == answer["exit"], (point, answer)
                recorded = point != "rotate.turn.begin"
                settle(scene, "resume" if recorded and place % 2 else "turn")
                assert (None, old) == (scene.live(), scene.state().current), point
                assert world.use(scene.values()), point
                assert before == len(world.credentials()), point
        scene.close()
        assert [] == client.refused
    finally:
        world.close()
