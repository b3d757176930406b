"""
Ed25519 signatures (RFC 8032) for the heads of the audit chain.

A signature, format 1: | 0x01 | 64 bytes |. The message is signed with the format
byte before it, so a signature of another format is never one of this.
"""

from __future__ import annotations

from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.errors import IntegrityError

__all__ = ["new_signing_key", "public_key", "sign", "verify"]

_FORMAT = b"\x01"
_SEED_BYTES = 32
_SIGNATURE_BYTES = 64


def new_signing_key(entropy: Entropy) -> SecretValue:
    """Return a fresh private key: the 32-byte seed of RFC 8032."""
    return SecretValue(entropy.random_bytes(_SEED_BYTES))


def public_key(signing_key: SecretValue) -> bytes:
    """Return the 32-byte public key of *signing_key*."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return (
        Ed25519PrivateKey.from_private_bytes(signing_key.reveal()).public_key().public_bytes_raw()
    )


def sign(signing_key: SecretValue, message: bytes) -> bytes:
    """Return the signature of *message*."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(signing_key.reveal())
    return _FORMAT + private.sign(_FORMAT + message)


def verify(public: bytes, message: bytes, signature: bytes, *, what: str) -> None:
    """
    Check that the holder of *public*'s private key signed *message*.

    Args:
        what: Names the thing in an error, such as `checkpoint 40`.

    Raises:
        IntegrityError: It is not so, or key or signature are malformed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(signature) != 1 + _SIGNATURE_BYTES or signature[:1] != _FORMAT:
        raise _refused(f"the signature of {what} is malformed")
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
    except ValueError:
        raise _refused(f"the public key for {what} is malformed") from None
    try:
        key.verify(signature[1:], _FORMAT + message)
    except InvalidSignature:
        raise _refused(f"the signature of {what} does not hold") from None


def _refused(message: str) -> IntegrityError:
    return IntegrityError(
        message,
        hint="run `keyturn audit verify` and compare with an exported copy",
        code="signature.invalid",
    )
