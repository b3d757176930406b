"""Whether a role's secret-ids live long enough to be rotated."""

from __future__ import annotations

import pytest

from keyturn.targets._approle_lifetime import lifetime, role_problem, ttl_problem, uses_problem


@pytest.mark.parametrize(
    ("ttl", "grace", "fits"),
    [(0, 3600, True), (3601, 3600, True), (3600, 3600, False), (60, 3600, False), (1, 0, True)],
)
def test_a_secret_id_must_outlive_the_grace(ttl, grace, fits):
    """For ever is long enough; to the second is not."""
    assert fits is (ttl_problem(ttl, grace) is None)


@pytest.mark.parametrize(("uses", "fits"), [(0, True), (1, False), (2, True)])
def test_the_check_must_not_be_the_only_use(uses, fits):
    """Any number is enough."""
    assert fits is (uses_problem(uses) is None)


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ({"bind_secret_id": False}, "without a secret-id"),
        ({"bind_secret_id": True, "secret_id_ttl": 10}, "expires after 10 s"),
        ({"secret_id_num_uses": 1}, "used once"),
        ({"secret_id_ttl": 7200, "secret_id_num_uses": 5}, None),
        ({}, None),
    ],
)
def test_a_role_says_what_is_wrong_with_it(role, words):
    """The first of what is wrong; nothing where all is well."""
    found = role_problem(role, 3600)
    assert found is None if words is None else words in found


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(172_800, "2 d"), (5_400, "90 min"), (7_200, "2 h"), (61, "61 s"), (0, "0 s")],
)
def test_a_lifetime_is_said_in_the_largest_unit_that_divides_it(seconds, text):
    """So that nothing is rounded."""
    assert text == lifetime(seconds)
