"""
Key pairs: making them, and reading what others made.

OpenSSL draws the key from its own generator, which the operating system seeds;
the `Entropy` seam does not reach into it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyturn.core.value import SecretValue
from keyturn.errors import VerificationFailed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from cryptography.hazmat.primitives.serialization import SSHPublicKeyTypes
    from cryptography.hazmat.primitives.serialization.ssh import SSHPrivateKeyTypes

__all__ = [
    "SIGNING_ALGORITHMS",
    "KeyFacts",
    "KeyPair",
    "ec_pair",
    "ed25519_pair",
    "public_pem",
    "read_private",
    "read_public",
    "rsa_pair",
    "unwrapped",
]

# What tokens are signed with here, as RFC 7518 and RFC 8037 name it.
SIGNING_ALGORITHMS = ("RS256", "ES256", "EdDSA")

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
        curve: Of an `ec` key, as OpenSSL names it, such as `secp256r1`.
    """

    algorithm: str
    size_bits: int
    public_der: bytes = field(repr=False)
    curve: str = ""


def rsa_pair(size_bits: int) -> KeyPair:
    """Return a new RSA pair: PKCS#8 and SubjectPublicKeyInfo, in PEM."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    return _pair(rsa.generate_private_key(_PUBLIC_EXPONENT, size_bits))


def ec_pair() -> KeyPair:
    """Return a new pair on the curve P-256; in PEM, as `rsa_pair`."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return _pair(ec.generate_private_key(ec.SECP256R1()))


def ed25519_pair() -> KeyPair:
    """Return a new Ed25519 pair; in PEM, as `rsa_pair`."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return _pair(ed25519.Ed25519PrivateKey.generate())


def _pair(key: RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey) -> KeyPair:
    from cryptography.hazmat.primitives import serialization

    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return KeyPair(SecretValue(private), SecretValue(public))


def public_pem(facts: KeyFacts) -> SecretValue:
    """Return the public half of a key that was read, in PEM."""
    lines = base64.encodebytes(facts.public_der).replace(b"\n", b"")
    body = b"\n".join(lines[at : at + 64] for at in range(0, len(lines), 64))
    return SecretValue(b"-----BEGIN PUBLIC KEY-----\n" + body + b"\n-----END PUBLIC KEY-----\n")


def unwrapped(value: SecretValue) -> SecretValue:
    """
    Return the PEM that *value* is, or is the base64 of.

    Environment variables mostly carry a PEM file as one line of base64. What is
    neither comes back as it is, for its reader to refuse.
    """
    raw = value.reveal()
    if b"-----BEGIN" in raw or raw.startswith(b"ssh-"):
        return value
    try:
        return SecretValue(base64.b64decode(raw, validate=True))
    except binascii.Error:
        return value


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
            return KeyFacts("ec", key.key_size, der, key.curve.name)
        case _:
            return KeyFacts("other", 0, der)


def _unreadable(half: str) -> VerificationFailed:
    return VerificationFailed(
        f"the {half} key cannot be read",
        hint=f"supply the {half} key as PEM or in OpenSSH form",
    )
