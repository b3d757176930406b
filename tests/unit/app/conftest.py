"""Fixtures of the use cases' tests."""

from __future__ import annotations

import pytest

from tests.cli import projects


@pytest.fixture
def project(tmp_path):
    """A project with values in `development`."""
    return projects.copied(tmp_path)


@pytest.fixture
def session(project):
    """That project, opened."""
    opened = project.session()
    yield opened
    opened.close()
