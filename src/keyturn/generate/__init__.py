"""
Making values: what a new one looks like, how it is picked without bias, who makes which kind.

Pure: randomness comes in as `Entropy`. Key pairs are the exception that cannot
be: OpenSSL draws them from its own generator, seeded by the operating system.
"""

from __future__ import annotations

from keyturn.generate.kinds import GENERATED_KINDS, Settings, generate_fields, policy_for
from keyturn.generate.policy import (
    FLOOR_BITS,
    MAX_CHARACTERS,
    CharacterClass,
    Format,
    Policy,
    SafeFor,
    entropy_bits,
    require_floor,
)
from keyturn.generate.values import random_text, random_value

__all__ = [
    "FLOOR_BITS",
    "GENERATED_KINDS",
    "MAX_CHARACTERS",
    "CharacterClass",
    "Format",
    "Policy",
    "SafeFor",
    "Settings",
    "entropy_bits",
    "generate_fields",
    "policy_for",
    "random_text",
    "random_value",
    "require_floor",
]
