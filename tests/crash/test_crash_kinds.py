"""
Every kind of credential, its rotation killed at every point, settled by a fresh process.

The points are those that a first rotation reached: before and after each step's work,
and around each change at the target. After every settlement the rotation is done or
rolled back, what is current works, and the system accepts no more credentials than
before: none was lost, and none is left behind.
"""

from __future__ import annotations

import pytest

from tests._plugins.ci import KILLS
from tests.worlds.scene import EVERY, Client, Scene, open_world

pytestmark = [pytest.mark.kinds, pytest.mark.crash]

# The saga's own points, and those of a kind; the store's have suites of their own.
_OTHERS = ("database.", "deliver.", "durable.", "store.", "audit.", "anchor.", "bundle")


# Three points of each step that every rotation has.
SAGA = [
    f"rotate.{step}.{place}"
    for step in ("create", "apply", "check", "promote", "deliver", "retire", "prove")
    for place in ("begin", "effect", "end")
]


def points_of(scene, trace):
    """
    Return every point that a rotation reaches, in order, each once.

    Of the second one: the first adopts what a person made, and may have more to do.
    """
    scene.settle(scene.rotate())
    scene.settle(scene.rotate(failpoint=f"trace={trace}"), failpoint=f"trace={trace}")
    reached = dict.fromkeys(trace.read_text().split())
    return [name for name in reached if not name.startswith(_OTHERS)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EVERY)
def test_a_kill_at_any_point_is_settled(name, tmp_path, request):
    """`kill -9`, then a new process: 100% end well."""
    world = open_world(name)
    try:
        scene = Scene(world, tmp_path)
        with Client(world, tmp_path) as client:
            before = len(world.credentials())
            points = points_of(scene, tmp_path / "trace")
            missed = []
            for point in points:
                answer = scene.rotate(failpoint=point)
                answer = scene.settle(answer, failpoint=None if scene.killed else point)
                if not scene.killed:
                    missed.append(point)
                assert answer["state"] in ("done", "rolled-back", "none"), (point, answer)
                assert scene.live() is None
                assert world.use(scene.values()), point
                assert before == len(world.credentials()), point
        scene.close()
        request.node.user_properties.append((KILLS, f"{name} {len(points)}"))
        assert [] == missed
        assert len(points) >= len(SAGA)
        if world.setup.overlaps:
            assert [] == client.refused
    finally:
        world.close()
