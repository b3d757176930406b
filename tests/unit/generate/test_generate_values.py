"""Values are as long as asked, from the alphabet asked, and each as likely as any other."""

from __future__ import annotations

import base64
import itertools
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.entropy import SystemEntropy
from keyturn.errors import InternalError
from keyturn.generate import CharacterClass, Format, Policy, SafeFor, random_text, random_value
from keyturn.testing import SeededEntropy


class ConstantEntropy:
    def __init__(self, byte):
        self._byte = bytes([byte])

    def random_bytes(self, count):
        return self._byte * count


class EmptyEntropy:
    def random_bytes(self, count):
        return b""


def test_a_source_that_only_gives_unusable_bytes_is_reported():
    """Picking ends when every byte must be rejected."""
    with pytest.raises(InternalError, match="randomness") as caught:
        random_value(Policy(Format.ALPHANUMERIC), entropy=ConstantEntropy(255))
    assert caught.value.hint


def test_a_source_that_repeats_itself_is_reported():
    """Picking again and again for the class minimums ends."""
    policy = Policy(Format.ALPHANUMERIC, minimums=((CharacterClass.DIGIT, 1),))
    with pytest.raises(InternalError, match="randomness"):
        random_value(policy, entropy=ConstantEntropy(0))


@pytest.mark.parametrize("form", Format)
def test_a_source_that_runs_dry_is_reported(form):
    """Fewer bytes than asked for never make a shorter value."""
    with pytest.raises(InternalError, match="randomness"):
        random_value(Policy(form), entropy=EmptyEntropy())


@pytest.mark.parametrize(
    ("policy", "shape"),
    [
        (Policy(Format.BASE64), r"[A-Za-z0-9+/]{43}="),
        (Policy(Format.HEX), r"[0-9a-f]{64}"),
        (Policy(Format.URL), r"[A-Za-z0-9_-]{43}"),
        (Policy(Format.ALPHANUMERIC), r"[A-Za-z0-9]{40}"),
        (Policy(Format.ALPHANUMERIC, length=32), r"[A-Za-z0-9]{32}"),
        (Policy(Format.ASCII, length=33), r"[!-~]{33}"),
        (Policy(Format.ASCII, safe_for=SafeFor.SHELL), r"[A-Za-z0-9_@%+:,./]{40}"),
    ],
)
def test_a_value_has_the_shape_of_its_format(policy, shape):
    """The guide's formats: 44 characters of base64, 64 of hex, and so on."""
    text = random_value(policy, entropy=SystemEntropy()).reveal_text()
    assert re.fullmatch(shape, text)
    assert policy.characters == len(text)


def test_bytes_are_written_down_whole():
    """An encoded value decodes to the very bytes that were drawn."""
    drawn = SeededEntropy().random_bytes(32)
    made = {form: random_value(Policy(form), entropy=SeededEntropy()).reveal() for form in Format}
    assert drawn == base64.b64decode(made[Format.BASE64])
    assert drawn == base64.urlsafe_b64decode(made[Format.URL] + b"=")
    assert drawn == bytes.fromhex(made[Format.HEX].decode())


@given(
    length=st.integers(1, 300),
    excluded=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=90),
    seed=st.text(max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_length_and_alphabet_are_kept(length, excluded, seed):
    """No excluded character comes out, and the length is exact."""
    alphabet = set(map(chr, range(33, 127))) - set(excluded)
    if len(alphabet) >= 2:
        policy = Policy(Format.ASCII, length=length, excluded=excluded)
        text = random_value(policy, entropy=SeededEntropy(seed)).reveal_text()
        assert length == len(text)
        assert set(text) <= alphabet


@given(seed=st.text(max_size=8))
@settings(max_examples=40, deadline=None)
def test_class_minimums_hold(seed):
    """Every value has at least the characters that were demanded."""
    minimums = tuple((name, 2) for name in CharacterClass)
    policy = Policy(Format.ASCII, length=24, minimums=minimums)
    text = random_value(policy, entropy=SeededEntropy(seed)).reveal_text()
    assert 2 <= sum(map(str.isdigit, text))
    assert 2 <= sum(map(str.isupper, text))
    assert 2 <= sum(map(str.islower, text))
    assert 2 <= sum(not character.isalnum() for character in text)


def chi_square(counts, categories):
    total = sum(counts.values())
    expected = total / categories
    return sum((counts[key] - expected) ** 2 / expected for key in counts) + expected * (
        categories - len(counts)
    )


@pytest.mark.parametrize("size", [2, 3, 10, 57, 62, 64, 94, 129, 255, 256])
def test_no_character_is_favoured(size):
    """Over 200,000 picks the chi-square statistic is that of a fair choice, whatever the size."""
    alphabet = bytes(range(size))
    text = random_text(alphabet, 200_000, entropy=SeededEntropy(f"bias {size}"))
    freedom = size - 1
    # Mean and five standard deviations; a bias by the remainder gives thousands.
    assert chi_square(Counter(text), size) < freedom + 5 * (2 * freedom) ** 0.5


def test_every_accepted_value_is_as_likely():
    """With a minimum, the values that meet it are still uniform among themselves."""
    excluded = "".join(set(map(chr, range(33, 127))) - set("aB12"))
    policy = Policy(
        Format.ASCII, length=3, excluded=excluded, minimums=((CharacterClass.DIGIT, 1),)
    )
    entropy = SeededEntropy("uniform")
    counts = Counter(random_value(policy, entropy=entropy).reveal() for _ in range(20_000))
    accepted = [
        "".join(text) for text in itertools.product("aB12", repeat=3) if any(map(str.isdigit, text))
    ]
    assert {text.encode() for text in accepted} == set(counts)
    freedom = len(accepted) - 1
    assert chi_square(counts, len(accepted)) < freedom + 5 * (2 * freedom) ** 0.5


def test_no_value_comes_twice():
    """A hundred thousand values are all different."""
    policy, entropy = Policy(Format.ALPHANUMERIC), SystemEntropy()
    made = {random_value(policy, entropy=entropy).reveal() for _ in range(100_000)}
    assert 100_000 == len(made)
