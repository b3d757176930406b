"""Fixtures of the audit room."""

from __future__ import annotations

import pytest

from keyturn._internal import failpoints
from tests.unit.audit.auditing import make_yard


@pytest.fixture
def yard(tmp_path):
    """One store's audit log with an empty read log."""
    made = make_yard(tmp_path)
    made.segments.maintain()
    yield made
    failpoints.disarm()
    made.database.close()
