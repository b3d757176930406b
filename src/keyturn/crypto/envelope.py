"""
Sealing bytes with AES-256-GCM (NIST SP 800-38D), bound to the place they belong to.

A sealed value, format 1:

    | 0x01 | nonce, 12 bytes | ciphertext | tag, 16 bytes |

The associated data is the format byte followed by the caller's *binding*, so a
sealed value opens only where it was put, under the key it was sealed with.
Nonces are random: one key may seal 2^32 values before the chance that two
nonces meet exceeds 2^-32 (SP 800-38D, 8.3).
"""

from __future__ import annotations

from typing import final

from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.errors import Corrupt, InternalError

__all__ = ["KEY_BYTES", "Envelope", "bind"]

KEY_BYTES = 32

_FORMAT = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEADER_BYTES = 1 + _NONCE_BYTES


def bind(label: str, *parts: str | int | None) -> bytes:
    """
    Return *label* and *parts* as bytes that no other label and parts give.

    A text is `sLENGTH:TEXT`, a number `iDIGITS;`, a part that is absent `n;`, so
    that neither a separator within a name nor a missing part can make two places
    look alike. LENGTH counts characters; the whole is UTF-8.

    Args:
        label: What kind of thing is bound, such as `value`.
    """
    pieces = [
        f"s{len(part)}:{part}" if isinstance(part, str) else ("n;" if part is None else f"i{part};")
        for part in (label, *parts)
    ]
    return "".join(pieces).encode("utf-8", "surrogatepass")


@final
class Envelope:
    """
    The cipher of one key.

    Args:
        key: 32 bytes.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: SecretValue) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if key.size_bytes != KEY_BYTES:
            raise InternalError(f"an envelope key is {KEY_BYTES} bytes, not {key.size_bytes}")
        self._cipher = AESGCM(key.reveal())

    def seal(self, value: SecretValue, binding: bytes, *, entropy: Entropy) -> bytes:
        """
        Return *value* sealed to the place that *binding* names.

        Args:
            binding: Made by `bind`; the same bytes are needed to open.
        """
        nonce = entropy.random_bytes(_NONCE_BYTES)
        header = bytes((_FORMAT,))
        return header + nonce + self._cipher.encrypt(nonce, value.reveal(), header + binding)

    def open(self, sealed: bytes, binding: bytes, *, what: str) -> SecretValue:
        """
        Return the value that was sealed to the place that *binding* names.

        Args:
            what: Names the thing in an error, such as `production/db version 3`.

        Raises:
            Corrupt: *sealed* was changed, moved here from another place, sealed
                under another key, or written by a newer Keyturn.
        """
        from cryptography.exceptions import InvalidTag

        if len(sealed) < _HEADER_BYTES + _TAG_BYTES:
            raise _corrupt(f"{what} was cut short")
        if sealed[0] != _FORMAT:
            raise _corrupt(f"{what} is sealed in a format that this Keyturn does not know")
        header, nonce, body = sealed[:1], sealed[1:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        try:
            return SecretValue(self._cipher.decrypt(nonce, body, header + binding))
        except InvalidTag:
            raise _corrupt(f"{what} is not what was stored") from None


def _corrupt(message: str) -> Corrupt:
    return Corrupt(
        message, hint="run `keyturn doctor` to see what else is damaged; restore from a backup"
    )
