"""
Key pairs: making them, and reading what others made.

OpenSSL draws the key from its own generator, which the operating system seeds;
the `Entropy` seam does not reach into it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyturn.core.value import SecretValue
from keyturn.errors import VerificationFailed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from cryptography.hazmat.primitives.serialization import SSHPublicKeyTypes
    from cryptography.hazmat.primitives.serialization.ssh import SSHPrivateKeyTypes

__all__ = ["KeyFacts", "KeyPair", "read_private", "read_public", "rsa_pair"]

_PUBLIC_EXPONENT = 65537


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The two halves, in PEM."""

    private: SecretValue
    public: SecretValue


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """
    What is known of a key; nothing of it is secret.

    Args:
        algorithm: `rsa`, `ed25519`, `ec`, or `other`.
        size_bits: As the algorithm counts it.
        public_der: The public half, in one canonical form; equal for the halves of a pair.
    """

    algorithm: str
    size_bits: int
    public_der: bytes = field(repr=False)


def rsa_pair(size_bits: int) -> KeyPair:
    """Return a new RSA pair: PKCS#8 and SubjectPublicKeyInfo, in PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(_PUBLIC_EXPONENT, size_bits)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return KeyPair(SecretValue(private), SecretValue(public))


def read_private(text: SecretValue) -> KeyFacts:
    """
    Return what is known of a private key in PEM or OpenSSH form.

    Raises:
        VerificationFailed: It is not such a key, is damaged, or has a passphrase.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    raw = text.reveal()
    key: PrivateKeyTypes | SSHPrivateKeyTypes
    try:
        if b"OPENSSH PRIVATE KEY" in raw:
            key = serialization.load_ssh_private_key(raw, password=None)
        else:
            key = serialization.load_pem_private_key(raw, password=None)
    except TypeError:
        raise VerificationFailed(
            "the private key has a passphrase", hint="supply it without one"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        # The library may quote what it could not read.
        raise _unreadable("private") from None
    if not hasattr(key, "public_key"):
        raise _unreadable("private")
    return _facts(key.public_key())


def read_public(text: SecretValue) -> KeyFacts:
    """
    Return what is known of a public key in PEM or OpenSSH form.

    Raises:
        VerificationFailed: It is not such a key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    raw = text.reveal()
    key: PublicKeyTypes | SSHPublicKeyTypes
    try:
        if raw.startswith((b"ssh-", b"ecdsa-", b"sk-")):
            key = serialization.load_ssh_public_key(raw)
        else:
            key = serialization.load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise _unreadable("public") from None
    return _facts(key)


def _facts(key: PublicKeyTypes | SSHPublicKeyTypes) -> KeyFacts:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    match key:
        case rsa.RSAPublicKey():
            return KeyFacts("rsa", key.key_size, der)
        case ed25519.Ed25519PublicKey():
            return KeyFacts("ed25519", 256, der)
        case ec.EllipticCurvePublicKey():
            return KeyFacts("ec", key.key_size, der)
        case _:
            return KeyFacts("other", 0, der)


def _unreadable(half: str) -> VerificationFailed:
    return VerificationFailed(
        f"the {half} key cannot be read",
        hint=f"supply the {half} key as PEM or in OpenSSH form",
    )
