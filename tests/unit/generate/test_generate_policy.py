"""What a policy allows, and how many bits it is worth."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.errors import UsageError
from keyturn.generate import (
    FLOOR_BITS,
    MAX_CHARACTERS,
    CharacterClass,
    Format,
    Policy,
    SafeFor,
    entropy_bits,
    require_floor,
)
from keyturn.generate.policy import _accepted_count

LOWER, UPPER, DIGIT, SYMBOL = CharacterClass


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": Format.BASE64, "length": 10}, "in bytes"),
        ({"format": Format.BASE64, "size_bytes": 0}, "out of bounds"),
        ({"format": Format.BASE64, "size_bytes": 3073}, "out of bounds"),
        ({"format": Format.HEX, "size_bytes": 2049}, "out of bounds"),
        ({"format": Format.URL, "size_bytes": 10**18}, "out of bounds"),
        ({"format": Format.HEX, "size_bytes": 32, "excluded": "0"}, "no alphabet"),
        ({"format": Format.HEX, "minimums": ((DIGIT, 1),)}, "no alphabet"),
        ({"format": Format.URL, "safe_for": SafeFor.URL}, "no alphabet"),
        ({"format": Format.ASCII, "size_bytes": 10}, "in characters"),
        ({"format": Format.ASCII, "length": 10, "size_bytes": 10}, "in characters"),
        ({"format": Format.ASCII, "length": 0}, "out of bounds"),
        ({"format": Format.ASCII, "length": -1}, "out of bounds"),
        ({"format": Format.ASCII, "length": 4097}, "out of bounds"),
        ({"format": Format.ASCII, "length": 10**18}, "out of bounds"),
        ({"format": Format.ALPHANUMERIC, "safe_for": SafeFor.SQL}, "no symbols"),
        ({"format": Format.ASCII, "excluded": "".join(map(chr, range(128)))}, "alphabet is empty"),
        ({"format": Format.ALPHANUMERIC, "minimums": ((SYMBOL, 1),)}, "no character of the class"),
        ({"format": Format.ASCII, "minimums": ((DIGIT, 1), (DIGIT, 2))}, "two minimums"),
        ({"format": Format.ASCII, "minimums": ((DIGIT, -1),)}, "out of bounds"),
        ({"format": Format.ASCII, "minimums": ((DIGIT, 17),)}, "out of bounds"),
        ({"format": Format.ASCII, "length": 12, "minimums": ((DIGIT, 12),)}, "fewer than one in"),
        ({"format": Format.ASCII, "length": 4, "minimums": ((DIGIT, 5),)}, "fewer than one in"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(options, says):
    """Contradictions and hostile sizes are refused when the policy is made, with a way out."""
    with pytest.raises(UsageError, match=says) as caught:
        Policy(**options)
    assert caught.value.hint
    assert "generate.policy" == caught.value.code


@pytest.mark.parametrize(
    ("policy", "characters", "bits"),
    [
        (Policy(Format.BASE64), 44, 256),
        (Policy(Format.HEX), 64, 256),
        (Policy(Format.URL), 43, 256),
        (Policy(Format.URL, size_bytes=33), 44, 264),
        (Policy(Format.BASE64, size_bytes=3072), MAX_CHARACTERS, 24576),
        (Policy(Format.ALPHANUMERIC), 40, 40 * math.log2(62)),
        (Policy(Format.ALPHANUMERIC, length=32), 32, 32 * math.log2(62)),
        (Policy(Format.ASCII, length=32), 32, 32 * math.log2(94)),
        (Policy(Format.ASCII, length=20, safe_for=SafeFor.URL), 20, 20 * math.log2(66)),
        (Policy(Format.ALPHANUMERIC, length=20, excluded="0O1lI"), 20, 20 * math.log2(57)),
    ],
)
def test_size_and_entropy(policy, characters, bits):
    """Each format states how long its text is and how many bits it is worth."""
    assert characters == policy.characters
    assert bits == pytest.approx(entropy_bits(policy), abs=1e-9)


@given(
    length=st.integers(1, 5),
    demanded=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=3),
    free=st.integers(1, 2),
)
@settings(max_examples=60, deadline=None)
def test_the_count_is_exact(length, demanded, free):
    """Counting by inclusion and exclusion agrees with counting one by one."""
    letters = [index for index, (size, _) in enumerate(demanded) for _ in range(size)]
    letters += [-1] * free
    counted = sum(
        all(text.count(index) >= minimum for index, (_, minimum) in enumerate(demanded))
        for text in itertools.product(letters, repeat=length)
    )
    assert counted == _accepted_count(length, (len(letters), tuple(demanded)))


def test_minimums_cost_entropy_and_are_counted():
    """A demanded class makes fewer values possible, never more."""
    free = entropy_bits(Policy(Format.ASCII, length=20))
    bound = entropy_bits(Policy(Format.ASCII, length=20, minimums=((DIGIT, 2), (SYMBOL, 2))))
    assert free - 2 < bound < free


@pytest.mark.parametrize(
    ("policy", "hint"),
    [
        (Policy(Format.BASE64, size_bytes=13), "bytes = 14"),
        (Policy(Format.HEX, size_bytes=1), "bytes = 14"),
        (Policy(Format.ALPHANUMERIC, length=18), "length = 19"),
        (Policy(Format.ASCII, length=17), "length = 18"),
        (Policy(Format.ASCII, length=9, excluded="".join(map(chr, range(0x23, 0x7F)))), "= 112"),
        (Policy(Format.ASCII, length=8, minimums=((DIGIT, 1), (UPPER, 1))), "length = 18"),
    ],
)
def test_a_weak_policy_names_the_smallest_that_suffices(policy, hint):
    """Below 112 bits there is an error, whose hint is exactly enough."""
    with pytest.raises(UsageError, match="bits of entropy") as caught:
        require_floor(policy)
    assert hint in caught.value.hint
    assert "generate.weak" == caught.value.code


@pytest.mark.parametrize(
    "policy",
    [
        Policy(Format.BASE64, size_bytes=14),
        Policy(Format.ALPHANUMERIC, length=19),
        Policy(Format.ASCII, length=18, minimums=((DIGIT, 1), (UPPER, 1))),
    ],
)
def test_the_smallest_that_suffices_does(policy):
    """What the hint names is let through, and its bits are told."""
    assert require_floor(policy) >= FLOOR_BITS


@pytest.mark.parametrize(
    ("safe_for", "never"),
    [
        (SafeFor.URL, ":/?#[]@!$&'()*+,;=%\" <>\\^`{|}"),
        (SafeFor.SQL, "'\"\\;%$:?` "),
        (SafeFor.SHELL, "'\"\\;$`&|<>(){}[]*?!#~=- ^"),
    ],
)
def test_a_safe_alphabet_has_nothing_unsafe(safe_for, never):
    """Each target's alphabet leaves out what would have to be escaped there."""
    alphabet = Policy(Format.ASCII, safe_for=safe_for).alphabet
    assert set() == set(alphabet) & set(never)
    assert len(set(alphabet)) == len(alphabet) > 62
