"""
How Swarm's objects are named and labelled, and how a value is known to be theirs; pure.

Swarm's secrets are never changed and never read back, so each value gets an object of
its own, `STEM_KEY_v7`. Its number rises with every change of the key, and is no version
number of Keyturn's: a way back makes a new object as well. Its label carries a digest of
the value with a salt that is kept aside, so that it tells nobody else anything.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

__all__ = ["DIGEST", "HEAD", "KEY", "LIVE", "NUMBER", "STEM", "Pointer", "digest", "object_name"]

STEM = "keyturn.stem"
KEY = "keyturn.key"
NUMBER = "keyturn.number"
DIGEST = "keyturn.digest"
HEAD = "keyturn.head"
# Of the head: `keyturn.live.KEY` is `NUMBER ID`, and `NUMBER -` where the key was removed.
LIVE = "keyturn.live."

_NAME_LIMIT = 64
_SHORT_DIGITS = 12
_DIGEST_CHARACTERS = 32
_NO_ID = "-"
_POINTER = re.compile(r"([1-9][0-9]{0,17}) ([a-z0-9]{1,64}|-)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pointer:
    """
    Which object holds a key's live value.

    Args:
        id: None where the key was removed; the number stays taken.
    """

    number: int
    id: str | None

    def __str__(self) -> str:
        return f"{self.number} {self.id or _NO_ID}"

    @staticmethod
    def parse(text: str) -> Pointer | None:
        """Return what `str` wrote, or None for anything else."""
        match = _POINTER.fullmatch(text)
        if match is None:
            return None
        return Pointer(int(match[1]), None if match[2] == _NO_ID else match[2])


def object_name(stem: str, key: str, number: int | None) -> str:
    """Return the name of an object; what is too long for Swarm is cut and told apart by digest."""
    whole = f"{stem}_{key}"
    end = "" if number is None else f"_v{number}"
    room = _NAME_LIMIT - len(end)
    if len(whole) > room:
        short = hashlib.sha256(whole.encode()).hexdigest()[:_SHORT_DIGITS]
        whole = f"{whole[: room - _SHORT_DIGITS - 1]}_{short}"
    return whole + end


def digest(salt: bytes, key: str, data: bytes) -> str:
    """Return the salted digest of *data* as the value of *key*."""
    mac = hmac.new(salt, b"keyturn swarm 1 %d %s " % (len(key), key.encode()), hashlib.sha256)
    mac.update(data)
    return mac.hexdigest()[:_DIGEST_CHARACTERS]
