"""
Random values without bias.

A byte is used only where it is below the largest multiple of the alphabet's size,
so that every character is exactly as likely as any other; class minimums are met
by picking the whole value again, so that every accepted value is.
"""

from __future__ import annotations

import base64

from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.errors import InternalError
from keyturn.generate.policy import CharacterClass, Format, Policy

__all__ = ["random_text", "random_value"]

_BYTE_VALUES = 256
# A sound source needs one or two; more than this means that it repeats itself.
_MAX_DRAWS = 64
# A policy is refused where fewer than 1 in 64 values meet it, so that this many
# tries all miss with a chance below 2^-90.
_MAX_TRIES = 4096


def random_value(policy: Policy, *, entropy: Entropy) -> SecretValue:
    """
    Return a new value, uniform over all that *policy* allows.

    Raises:
        InternalError: The source of randomness is broken.
    """
    if policy.size_bytes is not None:
        raw = entropy.random_bytes(policy.size_bytes)
        if len(raw) != policy.size_bytes:
            raise _broken_source()
        return SecretValue(_encode(raw, policy.format))
    alphabet = policy.alphabet.encode("ascii")
    for _ in range(_MAX_TRIES):
        picked = random_text(alphabet, policy.length or 0, entropy=entropy)
        if _meets(picked, policy.minimums):
            return SecretValue(picked)
    raise _broken_source()


def random_text(alphabet: bytes, length: int, *, entropy: Entropy) -> bytes:
    """
    Return *length* characters, each any of *alphabet* with the same chance.

    Args:
        alphabet: 2 to 256 different bytes.

    Raises:
        InternalError: The source of randomness is broken.
    """
    size = len(alphabet)
    limit = _BYTE_VALUES - _BYTE_VALUES % size
    table = (alphabet * (_BYTE_VALUES // size + 1))[:_BYTE_VALUES]
    rejected = bytes(range(limit, _BYTE_VALUES))
    picked = b""
    for _ in range(_MAX_DRAWS):
        missing = length - len(picked)
        if missing <= 0:
            return picked[:length]
        # A little more than is needed on average, so that one draw mostly does.
        raw = entropy.random_bytes(missing * _BYTE_VALUES // limit + missing // 8 + 8)
        picked += raw.translate(table, rejected)
    raise _broken_source()


def _encode(raw: bytes, form: Format) -> bytes:
    match form:
        case Format.HEX:
            return raw.hex().encode("ascii")
        case Format.URL:
            return base64.urlsafe_b64encode(raw).rstrip(b"=")
        case _:
            return base64.b64encode(raw)


def _meets(picked: bytes, minimums: tuple[tuple[CharacterClass, int], ...]) -> bool:
    return all(_count(picked, name) >= minimum for name, minimum in minimums)


def _count(picked: bytes, name: CharacterClass) -> int:
    text = picked.decode("ascii")
    match name:
        case CharacterClass.LOWER:
            return sum(map(str.islower, text))
        case CharacterClass.UPPER:
            return sum(map(str.isupper, text))
        case CharacterClass.DIGIT:
            return sum(map(str.isdigit, text))
        case CharacterClass.SYMBOL:
            return sum(not character.isalnum() for character in text)


def _broken_source() -> InternalError:
    return InternalError(
        "the source of randomness repeats itself or ran dry",
        hint="do not use values made on this machine until that is explained",
    )
