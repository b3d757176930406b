"""
A year of ticks with a clock that is set, targets that fail and processes that are killed.

`tools/year.py` does the same with 999 secrets and draws it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef
from tests.worlds.year import (
    A_YEAR_AHEAD,
    DAY,
    TROUBLES,
    a_year,
    problems,
)

SECRETS = 90


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    """The year of two tickers, all its troubles included."""
    with a_year(tmp_path_factory.mktemp("year"), secrets=SECRETS) as made:
        made.run()
        yield made


def test_much_happened(year):
    """The year was worth looking at: rotations, kills, refused and failed ones."""
    assert SECRETS * 3 < len(year.seen.begun)
    assert year.seen.kills >= 5
    assert year.seen.ends["skipped rotation.stale"] > 0
    assert year.seen.ends["skipped rotation.running"] > 0
    assert any(str(end).startswith("failed") for end in year.seen.ends)


def test_nothing_is_wrong(year):
    """Nothing twice, nothing missed, no pair together, no freeze broken, nothing left over."""
    assert [] == problems(year)


def test_what_is_wrong_is_seen(year):
    """Each kind of problem is found where it is put in, so that to find none means something."""
    seen = year.seen
    first = next(begun for begun in seen.begun if year.pair_of(begun.ref) is not None)
    partner = next(
        ref
        for ref in year.refs
        if ref.environment == first.ref.environment
        and year.pair_of(ref) == year.pair_of(first.ref)
        and ref != first.ref
    )
    friday_night = datetime(2026, 6, 5, 22, tzinfo=UTC)
    wrong = {
        "begun twice": first,
        "too early": replace(first, made_wall=first.wall - DAY),
        "apart": replace(first, ref=partner, version=99, passed=first.passed + DAY),
        "in a freeze": replace(
            first, ref=SecretRef(EnvironmentName("production"), first.ref.name), wall=friday_night
        ),
    }
    for text, begun in wrong.items():
        seen.begun.append(begun)
        try:
            assert any(text in problem for problem in problems(year)), text
        finally:
            seen.begun.pop()
    made = seen.made[first.ref, first.version]
    seen.made[first.ref, first.version] = made - 60 * DAY
    try:
        assert any("became" in problem for problem in problems(year))
    finally:
        seen.made[first.ref, first.version] = made


def test_a_year_forward_and_back(tmp_path):
    """
    What the wrong clock made is made anew once, when the clock is right again.

    Nothing waits for a year to come, and the rest of the year goes as any other.
    """
    with a_year(tmp_path, secrets=SECRETS, troubles=(*TROUBLES, A_YEAR_AHEAD)) as year:
        year.run(300)
        assert [] == problems(year)
        begun = [each for each in year.seen.begun if year.strange(each.passed)]
        in_pairs = {ref for ref in year.refs if year.pair_of(ref) is not None}
        assert set(year.refs) - in_pairs <= {each.ref for each in begun}, "all of them are due"
        made_anew = Counter(
            each.ref for each in year.seen.begun if each.made_wall > each.wall + DAY
        )
        assert {each.ref for each in begun} == set(made_anew)
        assert {1} == set(made_anew.values())
