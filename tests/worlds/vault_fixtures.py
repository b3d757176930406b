"""Fixtures of a real OpenBao server, with a KV engine for each test that asks."""

from __future__ import annotations

import pytest

from tests.worlds.vault_store import VaultStoreWorld

__all__ = ["running", "world"]


@pytest.fixture(scope="module")
def running():
    """A server for all tests of a file."""
    made = VaultStoreWorld()
    yield made
    made.close()


@pytest.fixture
def world(running):
    """That server, with an engine that is empty; stores are closed afterwards."""
    yield running.fresh_mount()
    running.close_stores()
