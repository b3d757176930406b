"""A Redis login as its guide writes it, through the command line."""

from __future__ import annotations

import json

import pytest

from tests.cli import projects
from tests.worlds.redis_login import open_world

pytestmark = [pytest.mark.kinds]


@pytest.fixture
def world():
    opened = open_world()
    yield opened
    opened.close()


@pytest.fixture
def project(world, tmp_path):
    made = projects.empty(
        tmp_path,
        f"""
[project]
name = "shop"

[environments.development]

[secrets.redis]
kind = "redis-login"
fields = {{ username = "REDIS_USER", password = "REDIS_PASSWORD" }}

[secrets.redis.target]
host = "{world.server.host}"
port = {world.server.port}
admin = "redis-admin"

[secrets.redis-admin]
kind = "guided"
fields = {{ username = "", password = "" }}
""",
    )
    projects.start(made)
    return made


def test_a_login_with_a_name_of_its_own_rotates(world, quick):
    """The name is in the store, and need not stand in the manifest."""
    first = world.setup.first
    for name, values in (("redis", first), ("redis-admin", world.setup.admin)):
        for field, value in values.items():
            assert 0 == quick("set", f"{name}.{field}", "-", stdin=value.encode()).code
    rehearsed = quick("rotate", "redis", "--rehearse")
    assert 0 == rehearsed.code, rehearsed.text
    rotated = quick("rotate", "redis", "--now", "--json")
    assert 0 == rotated.code, rotated.text
    assert ["done"] == [report["state"] for report in json.loads(rotated.out)]
    assert not world.use(first)


def test_a_right_that_ending_sessions_needs_is_missed_in_the_rehearsal(world, quick):
    """It would be found out only when the old password is to end."""
    for name, values in (("redis", world.setup.first), ("redis-admin", world.setup.admin)):
        for field, value in values.items():
            assert 0 == quick("set", f"{name}.{field}", "-", stdin=value.encode()).code
    world.execute("ACL", "SETUSER", "keyturn", "-client|kill")
    rehearsed = quick("rotate", "redis", "--rehearse")
    assert 1 == rehearsed.code
    assert b"CLIENT KILL" in rehearsed.out
