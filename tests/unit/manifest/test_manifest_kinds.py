"""The table of kinds, and durations."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.manifest import (
    KINDS,
    Making,
    SecretKind,
    format_duration,
    is_identifier,
    parse_duration,
)

AGES = {
    "postgres-login": 90,
    "redis-login": 90,
    "jwt-signing-key": 90,
    "session-secret": 90,
    "twitch-app": 90,
    "stripe-key": 180,
    "stripe-webhook-secret": 180,
    "openai-key": 180,
    "sendgrid-key": 180,
    "vault-approle": 30,
    "encryption-key": 365,
    "ssh-key": 90,
    "aws-access-key": 90,
    "generated": 90,
    "external": 90,
    "guided": 90,
    "command": 90,
    "human-password": None,
}


def test_every_kind_is_described():
    """A kind without a row would be a hole in every table made from this one."""
    assert set(SecretKind) == set(KINDS)
    assert all(spec.summary and spec.fields for spec in KINDS.values())


def test_ages_are_the_documented_ones():
    """The defaults are a promise."""
    assert AGES == {k.value: s.max_age and s.max_age.days for k, s in KINDS.items()}


def test_only_what_is_made_here_has_a_policy():
    """A vendor's key cannot be generated, and what can be has a way to be."""
    for spec in KINDS.values():
        assert (spec.making is Making.NONE) is (spec.generate is None)
    assert {SecretKind.HUMAN_PASSWORD} == set(KINDS) - {k for k, s in KINDS.items() if s.rotates}
    assert [SecretKind.HUMAN_PASSWORD] == [k for k, s in KINDS.items() if s.human]


def test_an_identifier_of_an_open_kind_is_told_by_its_name():
    """`generated` with a user name does not draw the name by lot."""
    assert is_identifier(SecretKind.GENERATED, "username")
    assert not is_identifier(SecretKind.GENERATED, "password")
    assert not is_identifier(SecretKind.SESSION_SECRET, "username")


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0s", timedelta(0)),
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("90d", timedelta(days=90)),
        ("2w", timedelta(days=14)),
    ],
)
def test_a_duration_is_read(text, span):
    """A number and a unit."""
    assert span == parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", "90", "d", "1.5h", "-1d", "1 d", "1D", "90days", "٣d", "9999w", "999999999d", "01d"],
)
def test_what_is_no_duration_is_none(text):
    """Nothing is guessed at."""
    assert parse_duration(text) is None


@given(st.integers(min_value=0, max_value=3660 * 86_400))
def test_a_duration_survives_writing_and_reading(seconds):
    """What is written is read back as the same span."""
    span = timedelta(seconds=seconds)

    assert span == parse_duration(format_duration(span))
