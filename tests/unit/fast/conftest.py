"""Fixtures of the fast path's tests."""

from __future__ import annotations

import pytest

from tests.cli import projects


@pytest.fixture
def project(tmp_path):
    """A project with values in `development` and a fresh bundle of them."""
    made = projects.copied(tmp_path)
    made.refresh()
    return made
