"""A rotation that is taken back though its old credential may be dead, and one whose is not."""

from __future__ import annotations

import pytest

from keyturn.cli.exits import Exit, exit_of
from keyturn.errors import OutcomeUnknown, Rejected, RotationFailed
from keyturn.rotate import State
from tests.unit.rotate.rotating import Rotating, TargetKind


@pytest.fixture
def rotating(tmp_path):
    """A rotation of one credential at a time."""
    made = Rotating(tmp_path, overlapping=False)
    yield made
    made.close()


def test_the_old_one_is_not_said_to_work(rotating, monkeypatch):
    """Where a new credential ends the old one, only trying it tells: exit code 6."""
    monkeypatch.setattr(TargetKind, "reversible", False)
    rotating.kind.failures["create"] = [Rejected("not like this")]
    report = rotating.start()
    assert State.ROLLED_BACK is report.rotation.state
    with pytest.raises(OutcomeUnknown) as caught:
        report.require_success()
    error = caught.value
    assert ("rotation.no-way-back", Exit.UNKNOWN) == (error.code, exit_of(error))
    assert "may no longer work" in error.message and "not like this" in error.message
    assert "is in use" not in error.message
    name = report.rotation.ref.name
    assert f"`keyturn test {name} -e " in error.hint and f"`keyturn rotate {name} -e " in error.hint


def test_where_the_way_back_leads_to_it_the_old_one_is_in_use(rotating):
    """The plain case is told as before."""
    rotating.kind.failures["create"] = [Rejected("not like this")]
    with pytest.raises(RotationFailed, match="the old version is in use: not like this"):
        rotating.start().require_success()


def test_what_made_it_go_back_is_not_lost(tmp_path):
    """Where the way back fails as well, both are told."""
    made = Rotating(tmp_path)
    try:
        made.kind.failures["check"] = [Rejected("not like this")]
        made.kind.failures["withdraw"] = [Rejected("nor back")]
        report = made.start()
        assert State.STUCK is report.rotation.state
        told = report.failure.message
        assert "nor back" in told and "it went back because: not like this" in told
        assert "not like this" in report.rotation.error
    finally:
        made.close()
