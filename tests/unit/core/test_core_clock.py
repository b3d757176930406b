"""The one text form of times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from keyturn.core.clock import parse_time, rfc3339


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05.000000Z"),
        (
            datetime(2026, 1, 2, 1, 4, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2026-01-01T19:34:00.000000Z",
        ),
        (datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(0))), "2026-01-02T03:04:00.000000Z"),
        (datetime(7, 1, 2, 3, 4, tzinfo=UTC), "0007-01-02T03:04:00.000000Z"),
    ],
    ids=["microseconds", "whole", "elsewhere", "unnamed-utc", "early"],
)
def test_a_time_has_one_text_of_one_width(moment, text):
    """In UTC with six digits, whatever zone it came in; the audit chain relies on the width."""
    assert text == rfc3339(moment)
    assert moment == parse_time(text)
