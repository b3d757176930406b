"""
A root key from a passphrase, by Argon2id (RFC 9106).

The parameters stand beside the salt, in the text form that argon2 tools share:

    argon2id$v=19$m=65536,t=3,p=4$SALT

so that a later Keyturn can ask for more work without locking anybody out. What
is read back is bounded on both sides: a hostile file can neither ask for a
terabyte nor make guessing cheap.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from dataclasses import dataclass

from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.crypto.envelope import KEY_BYTES
from keyturn.crypto.keyring import RootKey
from keyturn.errors import Corrupt, Unavailable, UsageError

__all__ = ["MINIMUM_CHARACTERS", "PassphraseParameters", "derive_root_key"]

MINIMUM_CHARACTERS = 12

_SALT_BYTES = 16
_VERSION = 19
_MEMORY_KIB = range(8 * 1024, 1024 * 1024 + 1)
_PASSES = range(1, 17)
_LANES = range(1, 17)
_SALT = range(_SALT_BYTES, 65)
_TEXT = re.compile(
    r"argon2id\$v=19\$m=(\d{1,9}),t=(\d{1,4}),p=(\d{1,4})\$([A-Za-z0-9+/]{1,100})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class PassphraseParameters:
    """
    How a passphrase becomes a root key; not secret.

    Args:
        memory_kib: RFC 9106's second recommended option by default, as are the others.
    """

    salt: bytes
    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    @classmethod
    def new(cls, entropy: Entropy) -> PassphraseParameters:
        """Return today's parameters with a fresh salt."""
        return cls(salt=entropy.random_bytes(_SALT_BYTES))

    @classmethod
    def parse(cls, text: str) -> PassphraseParameters:
        """
        Return the parameters that `str` wrote.

        Raises:
            Corrupt: *text* is not such parameters, or they are out of bounds.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise _corrupt("the passphrase parameters cannot be read")
        memory, passes, lanes = (int(found[group]) for group in (1, 2, 3))
        try:
            salt = base64.b64decode(found[4] + "=" * (-len(found[4]) % 4), validate=True)
        except binascii.Error:
            raise _corrupt("the passphrase salt cannot be read") from None
        if (
            memory not in _MEMORY_KIB
            or passes not in _PASSES
            or lanes not in _LANES
            or len(salt) not in _SALT
        ):
            raise _corrupt("the passphrase parameters are out of bounds")
        return cls(salt=salt, memory_kib=memory, passes=passes, lanes=lanes)

    def __str__(self) -> str:
        salt = base64.b64encode(self.salt).decode("ascii").rstrip("=")
        work = f"m={self.memory_kib},t={self.passes},p={self.lanes}"
        return f"argon2id$v={_VERSION}${work}${salt}"


def derive_root_key(phrase: SecretValue, parameters: PassphraseParameters) -> RootKey:
    """
    Return the root key that *phrase* stands for.

    Text is brought to Unicode form NFC first, so that one phrase typed on two
    keyboards is one phrase.

    Raises:
        UsageError: *phrase* is shorter than twelve characters.
        Unavailable: There is not enough memory for the derivation.
    """
    from argon2.exceptions import HashingError
    from argon2.low_level import Type, hash_secret_raw

    data = _normal(phrase)
    if len(data) < MINIMUM_CHARACTERS:
        raise UsageError(
            f"a passphrase has at least {MINIMUM_CHARACTERS} characters",
            hint="use several random words; whoever copies the store can try phrases at leisure",
        )
    try:
        raw = hash_secret_raw(
            data,
            parameters.salt,
            time_cost=parameters.passes,
            memory_cost=parameters.memory_kib,
            parallelism=parameters.lanes,
            hash_len=KEY_BYTES,
            type=Type.ID,
            version=_VERSION,
        )
    except HashingError:
        raise Unavailable(
            f"no {parameters.memory_kib // 1024} MiB of memory for the passphrase",
            hint="free memory and run the command again",
        ) from None
    return RootKey(SecretValue(raw), "the passphrase")


def _normal(phrase: SecretValue) -> bytes:
    try:
        return unicodedata.normalize("NFC", phrase.reveal_text()).encode("utf-8")
    except ValueError:
        # Not text: the bytes are the phrase.
        return phrase.reveal()


def _corrupt(message: str) -> Corrupt:
    return Corrupt(message, hint="restore the store from a backup", code="key.parameters")
