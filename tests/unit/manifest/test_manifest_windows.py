"""Freeze windows: what they cover, by whose clock, and what is no window."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keyturn.manifest import Window, zone
from keyturn.manifest.windows import is_timezone, parse_window

VIENNA = zone("Europe/Vienna")


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "friday",
        "fri 16:00",
        "fri 16:00..fri 16:00",
        "fri 25:00..mon 08:00",
        "fri 16:60..mon 08:00",
        "2026-13-01..2026-12-02",
        "2026-12-20..2026-12-01",
        "2026-12-20T10:00..2026-12-20T10:00",
        "fri 16:00..2026-12-01",
    ],
)
def test_what_is_no_window(text):
    """Nothing is guessed."""
    assert parse_window(text) is None


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-12-19T22:59:59", False),
        ("2026-12-19T23:00:00", True),
        ("2027-01-05T22:59:59", True),
        ("2027-01-05T23:00:00", False),
    ],
)
def test_whole_days_are_those_of_the_environment(moment, inside):
    """From midnight there to the end of the last day there."""
    window = parse_window("2026-12-20..2027-01-05")
    assert isinstance(window, Window)
    assert inside is window.covers(at(moment), VIENNA)


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-01-09T14:59:00", False),
        ("2026-01-09T15:00:00", True),
        ("2026-01-11T12:00:00", True),
        ("2026-01-12T06:59:00", True),
        ("2026-01-12T07:00:00", False),
        # In summer the same hour of the wall is another hour of UTC.
        ("2026-07-10T13:59:00", False),
        ("2026-07-10T14:00:00", True),
        ("2026-07-13T05:59:00", True),
        ("2026-07-13T06:00:00", False),
    ],
)
def test_a_weekly_window_goes_by_the_clock_on_the_wall(moment, inside):
    """Over the end of the week, in winter and in summer."""
    window = parse_window("fri 16:00..mon 08:00")
    assert inside is window.covers(at(moment), VIENNA)


def test_a_window_within_the_week():
    """It does not wrap."""
    window = parse_window("tue 00:00..tue 24:00")
    assert window.covers(at("2026-01-06T12:00:00"), zone("UTC"))
    assert not window.covers(at("2026-01-07T00:00:00"), zone("UTC"))


def test_an_unknown_time_zone_is_told():
    """The machine's own database decides."""
    assert is_timezone("Europe/Vienna")
    assert not is_timezone("Europe/Atlantis")
    assert not is_timezone("../etc/passwd")
