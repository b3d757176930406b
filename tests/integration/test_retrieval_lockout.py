"""
The retrieval test tries dead credentials, and never so many that it locks out a live one.

A real OpenBao locks an AppRole after five failed logins, whichever secret-id failed.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from keyturn.app import rotation as rotations
from keyturn.app.checks import Result
from keyturn.app.retrieval import Wanted, prove_retrieval
from keyturn.app.session import open_session
from keyturn.core.model import SecretRef, Stage
from tests.cli import projects
from tests.integration.test_retrieval_kinds import HERE, manifest_of, others_of, store
from tests.worlds.base import texts_of
from tests.worlds.scene import open_world
from tests.worlds.vault_approle import VaultAppRoleWorld

pytestmark = [pytest.mark.kinds]

IT = SecretRef(HERE, "it")


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens a project with the secret of a world, rotated some times."""
    sessions, worlds = [], []

    def make(world, times):
        worlds.append(world)
        made = projects.empty(tmp_path, manifest_of(world.setup))
        projects.start(made)
        session = open_session(
            made.settings,
            project_dir=made.folder,
            reason=None,
            ask_passphrase=projects.no_passphrase,
        )
        sessions.append(session)
        for name, values in others_of(world.setup).items():
            store(session, 1, values, name=name)
        store(session, 1, world.setup.first)
        for _ in range(times):
            rotate(session)
        return session

    yield make
    for each in (*sessions, *worlds):
        each.close()


def rotate(session):
    rotations.rotate(session, IT, now=True).require_success()


def retired(session):
    found = {c.check: c for c in prove_retrieval(session, HERE, Wanted(("it",)))}
    assert Result.PASS is found["live"].result, found["live"].detail
    return found["retired"]


def works(session, world):
    return world.use(texts_of(session.store.read(IT, Stage.CURRENT).values))


@pytest.mark.parametrize("own", [False, True])
def test_a_role_is_not_locked(own, opened):
    """However often it is tested; the secret-ids are looked up, which is no login."""
    world = VaultAppRoleWorld(own=own)
    session = opened(world, 6)
    for _ in range(3):
        check = retired(session)
        assert (Result.PASS, 5) == (check.result, check.detail.count("not known")), check.detail
        assert works(session, world)


def test_a_role_that_nobody_may_look_into_is_tried_once(opened):
    """One failed login a test; the rest is said to be untried."""
    world = VaultAppRoleWorld()
    session = opened(world, 5)
    world.client.auth.token.revoke(world.setup.admin["token"])
    check = retired(session)
    assert (Result.PASS, 1) == (check.result, check.detail.count("login refused")), check.detail
    assert "4 not tried" in check.detail
    assert works(session, world)


def test_a_secret_id_that_lives_on_is_found_by_its_accessor(opened):
    """Each of those that somebody let live: a rotation that was given up, twice."""
    world = VaultAppRoleWorld()
    session = opened(world, 0)
    for _ in range(2):
        rotations.rotate(session, IT, now=False)
        rotations.give_up(session, IT)
    check = retired(session)
    assert Result.FAIL is check.result
    assert "version 1 is no longer in use" in check.detail
    assert "version 2 is no longer in use" in check.detail
    assert works(session, world)


def test_of_each_login_one_failure_at_most(opened):
    """PostgreSQL's own log tells how many there were."""
    world = open_world("postgres_18")
    session = opened(world, 5)

    def refused():
        """Return how often each login was refused."""
        text = world.server.log_path.read_text()
        return Counter(
            re.findall(r'FATAL: +password authentication failed for user "(\w+)"', text)
            + re.findall(r'FATAL: +role "(\w+)" is not permitted to log in', text)
        )

    before = refused()
    check = retired(session)
    assert Result.PASS is check.result
    assert "not tried" in check.detail
    assert {1} == set((refused() - before).values())
    assert works(session, world)


def test_passwords_that_are_left_at_redis_are_all_named(opened):
    """Redis counts no failures. The next rotation ends none that was left to a person."""
    world = open_world("redis_login")
    session = opened(world, 1)
    for _ in range(2):
        rotations.rotate(session, IT, now=False)
        rotations.give_up(session, IT)
    report = rotations.rotate(session, IT, now=True)
    assert "version 2 was left to a person" in " ".join(report.notes)
    assert "version 3 was left to a person" in " ".join(report.notes)
    check = retired(session)
    assert Result.FAIL is check.result
    assert "version 2 is no longer in use" in check.detail
    assert "version 3 is no longer in use" in check.detail
