"""The last scene: what came of the demo, and what is left of it."""

from __future__ import annotations

import io

from rich.console import Console

from keyturn.demo.load import Tally
from keyturn.demo.script import sum_up
from keyturn.demo.show import Show
from keyturn.demo.stage import Stage
from keyturn.testing import FakeClock


def told(*, kept=None, **facts):
    """Return what is shown of a load with these *facts*."""
    seen = {
        "requests": 1200,
        "failed": 0,
        "reasons": {},
        "logins": {"clipper_a": 400, "clipper_b": 200},
        "latest_login": "clipper_a",
        "median_ms": 4.0,
        "p99_ms": 20.0,
    }
    console = Console(file=io.StringIO(), highlight=False, soft_wrap=True)
    sum_up(Show(console=console, clock=FakeClock()), Tally(**seen | facts), kept=kept)
    return console.file.getvalue()


def test_each_reason_of_a_failure_is_told():
    """A demo that failed says what failed, and how often."""
    text = told(failed=3, reasons={"/fresh: 503 no login": 2, "/clips: RemoteDisconnected": 1})
    assert "2 x /fresh: 503 no login" in text
    assert "1 x /clips: RemoteDisconnected" in text
    assert "1,200 requests, 3 failed" in text
    assert " 0 failed" not in text


def test_a_good_end_says_so():
    """No failure, both logins, nothing left."""
    text = told()
    assert "New logins: 400 as clipper_a, 200 as clipper_b." in text
    assert "1,200 requests, 0 failed" in text
    assert "the folder is gone" in text


def test_a_kept_folder_comes_with_the_command_to_look_into_it():
    """Keys and project are both named: one is of no use without the other."""
    with Stage() as stage:
        text = told(kept=stage)
        expected = f"KEYTURN_HOME={stage.key_home} keyturn status --project-dir {stage.project}"
    assert expected in text
