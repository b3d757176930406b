"""
AES-256-GCM (NIST SP 800-38D) in parts, for formats of others that keep nonce and tag apart.

What is Keyturn's own is sealed with `keyturn.crypto.envelope`.
"""

from __future__ import annotations

from keyturn.core.value import SecretValue
from keyturn.errors import Corrupt, InternalError

__all__ = ["TAG_BYTES", "open_parts", "seal_parts"]

TAG_BYTES = 16
_KEY_BYTES = 32
# What the standard allows and the library takes.
_NONCE_BYTES = range(8, 129)


def seal_parts(
    key: SecretValue, value: SecretValue, binding: bytes, *, nonce: bytes
) -> tuple[bytes, bytes]:
    """
    Return the ciphertext of *value* and its tag.

    Args:
        binding: The same bytes are needed to open.
        nonce: Random, and never used with *key* before.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if key.size_bytes != _KEY_BYTES or len(nonce) not in _NONCE_BYTES:
        raise InternalError("a key or nonce is not of the size that AES-256-GCM takes")
    sealed = AESGCM(key.reveal()).encrypt(nonce, value.reveal(), binding)
    return sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]


def open_parts(
    key: SecretValue, ciphertext: bytes, tag: bytes, binding: bytes, *, nonce: bytes, what: str
) -> SecretValue:
    """
    Return the value that was sealed.

    Args:
        what: Names the thing in an error.

    Raises:
        Corrupt: It was changed, moved here from another place, or sealed with another key.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if key.size_bytes != _KEY_BYTES or len(nonce) not in _NONCE_BYTES or len(tag) != TAG_BYTES:
        raise Corrupt(f"{what} is not sealed with AES-256-GCM")
    try:
        return SecretValue(AESGCM(key.reveal()).decrypt(nonce, ciphertext + tag, binding))
    except InvalidTag:
        raise Corrupt(f"{what} is not what was sealed there") from None
