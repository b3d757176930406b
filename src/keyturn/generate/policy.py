"""
What a new value must look like, and how hard it is to guess.

Two families. A byte format (`base64`, `hex`, `url`) writes *size_bytes* random
bytes in an encoding. A character format (`alphanumeric`, `ascii`) is *length*
picks from an alphabet, of which some classes may have to occur a minimum number
of times; the value is then uniform over all texts that meet the minimums.

`entropy_bits` is exact for both, not an estimate: the logarithm of the number of
values that can come out, each as likely as any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from keyturn.errors import UsageError

__all__ = [
    "FLOOR_BITS",
    "MAX_CHARACTERS",
    "CharacterClass",
    "Format",
    "Policy",
    "SafeFor",
    "entropy_bits",
    "require_floor",
]

# The least that NIST SP 800-131A still accepts for a machine's secret.
FLOOR_BITS = 112
# A manifest may come from anybody's branch; no value a program takes is longer.
MAX_CHARACTERS = 4096
# A class minimum above this says something other than "must contain a digit".
_MAX_MINIMUM = 16
# One value in so many must meet the minimums, so that picking again soon ends.
_WORST_ACCEPTANCE = 64

_DEFAULT_BYTES = 32
_DEFAULT_LENGTH = 40


class Format(StrEnum):
    """How a value is written."""

    BASE64 = "base64"
    HEX = "hex"
    URL = "url"
    ALPHANUMERIC = "alphanumeric"
    ASCII = "ascii"

    @property
    def is_bytes(self) -> bool:
        """Whether the size is given in bytes (an encoding) and not in characters."""
        return self in {Format.BASE64, Format.HEX, Format.URL}


class CharacterClass(StrEnum):
    """The classes that a minimum can be asked of."""

    LOWER = "lower"
    UPPER = "upper"
    DIGIT = "digit"
    SYMBOL = "symbol"


class SafeFor(StrEnum):
    """Where a value must be usable as it stands, without quoting or escaping."""

    URL = "url"
    SQL = "sql"
    SHELL = "shell"


_LOWER = "abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()
_DIGIT = "0123456789"
_ALPHANUMERIC = _UPPER + _LOWER + _DIGIT
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))

_SAFE_SYMBOLS = {
    SafeFor.URL: "-._~",  # RFC 3986, unreserved
    # No quote, backslash or statement end, no LIKE wildcard but `_`, no `$`, `%`,
    # `:` or `?` that a driver may take for a parameter.
    SafeFor.SQL: "!*-.^_~",
    # No character that needs quoting, and no `-`, `=` or `~`, which mean something
    # at the start of a word.
    SafeFor.SHELL: "%+,./:@_",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """
    What a new value must look like.

    Args:
        size_bytes: For the byte formats; 32 where neither size is given.
        length: In characters, for the character formats; 40 where neither is given.
        minimums: At least so many characters of each class named.
        safe_for: Leaves out of `ascii` the symbols that are not safe there.
        excluded: Characters never used, such as `0O1l`.

    Raises:
        UsageError: The policy contradicts itself or is out of bounds.
    """

    format: Format
    size_bytes: int | None = None
    length: int | None = None
    minimums: tuple[tuple[CharacterClass, int], ...] = ()
    safe_for: SafeFor | None = None
    excluded: str = ""

    def __post_init__(self) -> None:
        if self.size_bytes is None and self.length is None:
            # Frozen, so the default is filled in the way dataclasses themselves do it.
            if self.format.is_bytes:
                object.__setattr__(self, "size_bytes", _DEFAULT_BYTES)
            else:
                object.__setattr__(self, "length", _DEFAULT_LENGTH)
        if self.format.is_bytes:
            _check_bytes(self)
        else:
            _check_characters(self)

    @property
    def alphabet(self) -> str:
        """The characters of a character format, each once; empty for a byte format."""
        if self.format.is_bytes:
            return ""
        if self.format is Format.ALPHANUMERIC:
            whole = _ALPHANUMERIC
        elif self.safe_for is None:
            whole = _PRINTABLE
        else:
            whole = _ALPHANUMERIC + _SAFE_SYMBOLS[self.safe_for]
        return "".join(character for character in whole if character not in self.excluded)

    @property
    def characters(self) -> int:
        """How long the value is as text."""
        if self.length is not None:
            return self.length
        return _encoded_length(self.format, self.size_bytes or 0)


def entropy_bits(policy: Policy) -> float:
    """
    Return the entropy of a value made under *policy*, in bits.

    Exact: the base-2 logarithm of the number of values that can come out, all of
    them equally likely. Class minimums make that number smaller, and are counted.
    """
    if policy.size_bytes is not None:
        return 8.0 * policy.size_bytes
    return math.log2(_accepted_count(policy.length or 0, _class_sizes(policy)))


def require_floor(policy: Policy, *, floor_bits: int = FLOOR_BITS) -> float:
    """
    Return the entropy of *policy* in bits where it reaches the floor for a machine's secret.

    Raises:
        UsageError: It does not; the hint names the smallest size that would.
    """
    bits = entropy_bits(policy)
    if bits >= floor_bits:
        return bits
    # Rounded down, so that 111.99 is never shown as the floor it misses.
    shown = math.floor(bits * 10) / 10
    raise UsageError(
        f"`{policy.format}` of {_size_text(policy)} has {shown} bits of entropy;"
        f" a machine's secret needs {floor_bits}",
        hint=_sufficient(policy, floor_bits),
        code="generate.weak",
    )


def _size_text(policy: Policy) -> str:
    size, unit = policy.length, "character"
    if policy.size_bytes is not None:
        size, unit = policy.size_bytes, "byte"
    return f"{size} {unit}" if size == 1 else f"{size} {unit}s"


def _sufficient(policy: Policy, floor_bits: int) -> str:
    if policy.size_bytes is not None:
        return f"ask for `bytes = {math.ceil(floor_bits / 8)}` or more"
    sizes = _class_sizes(policy)
    shortest = policy.length or 1
    for length in range(shortest, MAX_CHARACTERS + 1):
        # The floor is a whole number of bits, so the comparison needs no logarithm.
        if _accepted_count(length, sizes) >= 1 << floor_bits:
            return f"ask for `length = {length}` or more"
    return "allow more characters"


def _encoded_length(form: Format, size_bytes: int) -> int:
    match form:
        case Format.HEX:
            return 2 * size_bytes
        case Format.URL:
            return math.ceil(size_bytes * 4 / 3)
        case _:
            return 4 * math.ceil(size_bytes / 3)


def _check_bytes(policy: Policy) -> None:
    if policy.length is not None or policy.size_bytes is None:
        raise _refused(f"`{policy.format}` takes a size in bytes", "give `bytes`, not `length`")
    if policy.minimums or policy.safe_for is not None or policy.excluded:
        raise _refused(
            f"`{policy.format}` is an encoding of random bytes and has no alphabet to choose",
            "use the format `ascii` or `alphanumeric`",
        )
    if policy.size_bytes < 1 or policy.characters > MAX_CHARACTERS:
        raise _refused(
            f"a `{policy.format}` value of {policy.size_bytes} bytes is out of bounds",
            f"ask for at least 1 byte and at most {MAX_CHARACTERS} characters of text",
        )


def _check_characters(policy: Policy) -> None:
    if policy.size_bytes is not None or policy.length is None:
        raise _refused(
            f"`{policy.format}` takes a size in characters", "give `length`, not `bytes`"
        )
    if not 1 <= policy.length <= MAX_CHARACTERS:
        raise _refused(
            f"a length of {policy.length} is out of bounds",
            f"ask for 1 to {MAX_CHARACTERS} characters",
        )
    if policy.safe_for is not None and policy.format is not Format.ASCII:
        raise _refused(
            f"`{policy.format}` has no symbols to choose among",
            f"leave `{policy.safe_for}` out: letters and digits are safe there",
        )
    if len(policy.alphabet) < 2:  # noqa: PLR2004 - one character is no choice
        raise _refused("the alphabet is empty", "exclude fewer characters")
    _check_minimums(policy, policy.length)


def _check_minimums(policy: Policy, length: int) -> None:
    names = [name for name, _ in policy.minimums]
    if len(set(names)) != len(names):
        raise _refused("a character class has two minimums", "give one for each class")
    sizes = {name: len(_members(name, policy.alphabet)) for name in names}
    for name, minimum in policy.minimums:
        if not 0 <= minimum <= _MAX_MINIMUM:
            raise _refused(
                f"a minimum of {minimum} for `{name}` is out of bounds",
                f"ask for 0 to {_MAX_MINIMUM}",
            )
        if minimum and not sizes[name]:
            raise _refused(
                f"the alphabet has no character of the class `{name}`",
                "drop that minimum, or use the format `ascii`",
            )
    accepted = _accepted_count(length, _class_sizes(policy))
    if accepted * _WORST_ACCEPTANCE < len(policy.alphabet) ** length:
        raise _refused(
            f"the class minimums fit fewer than one in {_WORST_ACCEPTANCE}"
            f" values of {length} characters",
            "lower the minimums, or ask for a greater `length`",
        )


def _refused(message: str, hint: str) -> UsageError:
    return UsageError(message, hint=hint, code="generate.policy")


def _members(name: CharacterClass, alphabet: str) -> str:
    classes = {
        CharacterClass.LOWER: _LOWER,
        CharacterClass.UPPER: _UPPER,
        CharacterClass.DIGIT: _DIGIT,
    }
    if name is CharacterClass.SYMBOL:
        return "".join(character for character in alphabet if character not in _ALPHANUMERIC)
    return "".join(character for character in alphabet if character in classes[name])


def _class_sizes(policy: Policy) -> tuple[int, tuple[tuple[int, int], ...]]:
    # The size of the alphabet, and (size, minimum) of each class that has one.
    alphabet = policy.alphabet
    demanded = tuple(
        (len(_members(name, alphabet)), minimum) for name, minimum in policy.minimums if minimum
    )
    return len(alphabet), demanded


def _accepted_count(length: int, sizes: tuple[int, tuple[tuple[int, int], ...]]) -> int:
    """
    Return the number of texts of *length* that meet every minimum.

    Inclusion and exclusion over the classes that fall short: for each set of them,
    choose the places they take, count the ways to fill those places with too few
    of each, and fill the rest from the other characters. Whole numbers throughout.
    """
    alphabet, demanded = sizes
    total = 0
    for many in range(len(demanded) + 1):
        for short in combinations(demanded, many):
            others = alphabet - sum(size for size, _ in short)
            sign = -1 if many % 2 else 1
            for places, ways in enumerate(_short_ways(short)):
                if places <= length:
                    rest = others ** (length - places)
                    total += sign * math.comb(length, places) * ways * rest
    return total


def _short_ways(short: tuple[tuple[int, int], ...]) -> list[int]:
    # ways[n]: texts of n characters from these classes with fewer than the minimum of each.
    ways = [1]
    for size, minimum in short:
        longer = [0] * (len(ways) + minimum - 1)
        for used, count in enumerate(ways):
            for more in range(minimum):
                longer[used + more] += count * math.comb(used + more, more) * size**more
        ways = longer
    return ways
