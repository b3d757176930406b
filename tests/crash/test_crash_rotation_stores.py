"""
The same rotation of a PostgreSQL login, its values in a store that is somebody else's.

Nothing joins the store's writes with the journal's, so the points between the two are
the ones that matter: a version that is stored and not recorded, and one that is current
and not known to be.
"""

from __future__ import annotations

import json

import pytest

from keyturn.core.ids import Token
from keyturn.core.model import Origin
from tests.crash import rotation_child as child
from tests.crash.test_crash_rotation import (
    Application,
    Scene,
    check_application,
    kill_everywhere,
)
from tests.integration.conftest import dockerd
from tests.worlds.stores import STORES, described

__all__ = ["dockerd"]

pytestmark = [pytest.mark.postgres, pytest.mark.crash]


@pytest.fixture(params=STORES)
def world(request, tmp_path, monkeypatch):
    with described(request.param, request, tmp_path) as made:
        for name, value in made.environ.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def scene(world, database, tmp_path):
    made = Scene(database, tmp_path, "two-logins", store=world.description, environ=world.environ)
    yield made
    made.close()


# Where a store's writes and the journal's part company; the rest is the same on every store.
STEPS = ("create", "promote", "demote", "withdraw")


def is_of_the_store(name):
    return name.startswith(("store.", *(f"rotate.{step}." for step in STEPS)))


@pytest.mark.parametrize("healthy", [True, False], ids=["forward", "way-back"])
def test_killed_at_every_point_a_rotation_is_settled(scene, world, healthy, tmp_path):
    """Every point of the store, and of the steps that write to it."""
    with Application(scene.database, scene.folder) as application:
        names, ends = kill_everywhere(scene, tmp_path, healthy=healthy, only=is_of_the_store)
    print(f"{world.kind}: {len(names)} kills, {len(set(names))} points")
    assert len(names) == ends.total()
    assert any(name.startswith("store.") for name in names)
    check_application(scene, application)


def test_started_by_two_machines_one_rotation_runs(scene, tmp_path):
    """Each machine has a journal of its own; what is pending in the store keeps them apart."""
    store = scene.open()
    try:
        assert store.state(child.DB).current == 1
        stored = store.put_pending(
            child.DB,
            scene.database.application_values,
            origin=Origin.ROTATED,
            token=Token("another machine's rotation"),
        )
    finally:
        store.database.close()
    with Application(scene.database, scene.folder) as application:
        code = scene.run("start")
        assert code == child.BUSY
        store = scene.open()
        assert store.state(child.DB).pending == stored.number
        store.discard_pending(child.DB, stored.number)
        store.database.close()
        assert scene.run("start") == child.DONE
    assert [] == application.failures
    delivered = json.loads((scene.folder / "delivered").read_bytes())
    assert delivered["version"] > 1
