"""
The key ladder: a root key wraps data keys, and a data key seals values.

Changing the root key rewraps the data keys and touches no value. No key is used
for two purposes: each use has a sub key of its own, derived with HKDF-SHA256
(RFC 5869) under a name that ends in the derivation's version.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import final

from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.crypto.envelope import KEY_BYTES, Envelope, bind
from keyturn.errors import Corrupt

__all__ = ["DataKey", "KeyedDigester", "RootKey", "new_key", "subkey"]

_KEY_ID_BYTES = 8
_DIGEST_BYTES = 16
_TAG_FORMAT = 1
_TAG_HEADER_BYTES = 5


def new_key(entropy: Entropy) -> SecretValue:
    """Return a fresh 256-bit key."""
    return SecretValue(entropy.random_bytes(KEY_BYTES))


def subkey(key: SecretValue, purpose: str) -> SecretValue:
    """
    Return the 256-bit key for *purpose* that belongs to *key*.

    Args:
        purpose: A fixed name; two purposes give unrelated keys.
    """
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = f"keyturn/{purpose}/1".encode("ascii")
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info)
    return SecretValue(derivation.derive(key.reveal()))


@final
@dataclass(frozen=True, slots=True, eq=False)
class RootKey:
    """
    The key at the top of the ladder.

    Args:
        value: 32 bytes.
        origin: Where it came from, for errors: "key file `PATH`" or "the passphrase".
    """

    value: SecretValue
    origin: str

    def __post_init__(self) -> None:
        if self.value.size_bytes != KEY_BYTES:
            raise Corrupt(
                f"the root key from {self.origin} is {self.value.size_bytes} bytes, "
                f"not {KEY_BYTES}",
                hint="restore the key from its backup",
                code="key.corrupt",
            )

    @property
    def id(self) -> str:
        """A name for the key, 16 hexadecimal digits, that gives nothing of it away."""
        return subkey(self.value, "root-key-id").reveal()[:_KEY_ID_BYTES].hex()

    def wrapper(self) -> Envelope:
        """Return the cipher that wraps data keys."""
        return Envelope(subkey(self.value, "root-key-wrap"))


@final
class DataKey:
    """
    A key that seals values, seals Keyturn's own items, and authenticates rows.

    Args:
        number: Its id in the store; never used twice there.
        value: 32 bytes.
    """

    __slots__ = ("_authentication", "_value", "items", "number", "values")

    def __init__(self, number: int, value: SecretValue) -> None:
        self.number = number
        self._value = value
        self.values = Envelope(subkey(value, "value"))
        self.items = Envelope(subkey(value, "item"))
        self._authentication = subkey(value, "row-authentication")

    def wrap(self, root_key: RootKey, *, store_id: str, entropy: Entropy) -> bytes:
        """Return this key sealed under *root_key*, for the store *store_id* only."""
        binding = bind("data-key", store_id, self.number)
        return root_key.wrapper().seal(self._value, binding, entropy=entropy)

    @classmethod
    def unwrap(cls, number: int, wrapped: bytes, root_key: RootKey, *, store_id: str) -> DataKey:
        """
        Return the key that `wrap` sealed.

        Raises:
            Corrupt: It was changed, or belongs to another root key, store or number.
        """
        binding = bind("data-key", store_id, number)
        what = f"data key {number}"
        return cls(number, root_key.wrapper().open(wrapped, binding, what=what))

    def authenticate(self, message: bytes) -> bytes:
        """
        Return a tag that only a holder of this key can make for *message*.

        The tag, format 1: | 0x01 | key number, 4 bytes | HMAC-SHA256, 32 bytes |
        """
        header = bytes((_TAG_FORMAT,)) + self.number.to_bytes(4, "big")
        return header + hmac.digest(self._authentication.reveal(), header + message, "sha256")

    def check(self, message: bytes, tag: bytes, *, what: str) -> None:
        """
        Compare *tag* with what `authenticate` gives, in constant time.

        Raises:
            Corrupt: They differ.
        """
        if not hmac.compare_digest(self.authenticate(message), tag):
            raise Corrupt(
                f"{what} is not what was stored",
                hint="run `keyturn doctor` to see what else is damaged; restore from a backup",
            )

    @staticmethod
    def number_in(tag: bytes) -> int | None:
        """Return the number of the key that made *tag*, or None when it is no tag."""
        if len(tag) <= _TAG_HEADER_BYTES or tag[0] != _TAG_FORMAT:
            return None
        return int.from_bytes(tag[1:_TAG_HEADER_BYTES], "big")

    def __repr__(self) -> str:
        return f"DataKey({self.number})"


@final
class KeyedDigester:
    """
    Digests of values that can be compared by holders of the key and by nobody else.

    HMAC-SHA256 cut to 128 bits. The key is an item of its own, changed by neither
    root-key nor data-key rotation, so that old audit records stay comparable.
    """

    __slots__ = ("_key",)

    def __init__(self, key: SecretValue) -> None:
        self._key = subkey(key, "value-digest")

    def digest(self, value: SecretValue) -> str:
        """Return the keyed digest of *value*: 32 hexadecimal digits."""
        return hmac.digest(self._key.reveal(), value.reveal(), "sha256")[:_DIGEST_BYTES].hex()

    def __repr__(self) -> str:
        return "KeyedDigester(***)"
