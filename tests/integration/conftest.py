"""Fixtures of what is started once for many integration tests."""

from __future__ import annotations

import pytest

from tests.worlds.docker import swarm_daemon


@pytest.fixture(scope="session")
def dockerd():
    """A real Docker daemon that is the one manager of a swarm of its own."""
    with swarm_daemon() as server:
        yield server
