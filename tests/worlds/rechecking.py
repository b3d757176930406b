"""Bundles whose short life is over, without waiting for its end."""

from __future__ import annotations

import time

import pytest

from keyturn import _fastread
from keyturn.testing import FakeClock


def expire(project):
    """Seal what the store holds as if that were twenty minutes ago; its life is ten."""
    clock = FakeClock()
    clock.step(time.time() - 20 * 60 - clock.now().timestamp())
    with pytest.MonkeyPatch.context() as patch:
        for name, text in project.environment.items():
            patch.setenv(name, text)
        project.refresh(clock=clock)


def asked_ago(project, minutes):
    """Let the store have been asked last so many minutes ago."""
    path = project.keys / f"{_fastread.STAMP}.development"
    before = path.read_bytes()
    moment = int(time.time()) - minutes * 60
    path.write_bytes(_fastread.stamp(moment, project.bundle.read_bytes()))
    assert before != path.read_bytes()
