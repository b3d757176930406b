"""Fixtures of the stores room."""

from __future__ import annotations

import pytest

from tests.unit.stores.workshop import Workshop


@pytest.fixture
def workshop(tmp_path):
    """The folders of a store that does not exist yet."""
    made = Workshop(tmp_path)
    yield made
    made.close()


@pytest.fixture
def store(workshop):
    """An empty embedded store."""
    return workshop.create()
