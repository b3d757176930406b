"""
SSH key pairs and user certificates: making them, and reading what others made.

OpenSSL draws the key from its own generator, which the operating system seeds;
the `Entropy` seam does not reach into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyturn.core.value import SecretValue
from keyturn.errors import VerificationFailed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization.ssh import (
        SSHCertificate,
        SSHCertPublicKeyTypes,
        SSHPrivateKeyTypes,
    )

__all__ = [
    "ALGORITHMS",
    "PLAIN_KEY_EXTENSIONS",
    "Certificate",
    "SshKey",
    "certify",
    "new_ssh_key",
    "read_certificate",
    "read_ssh_key",
]

ALGORITHMS = ("ed25519", "rsa")
# What a certificate must say so that it may do what a key without options may.
PLAIN_KEY_EXTENSIONS = (
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
)
_PUBLIC_EXPONENT = 65537
_RSA_BITS = 3072


@dataclass(frozen=True, slots=True)
class SshKey:
    """
    A key pair that was read.

    Args:
        algorithm: `ed25519`, `rsa` or `ecdsa`.
        public_line: The public half as in `id_ed25519.pub`, without a comment.
        private: The private half in OpenSSH's format, without a passphrase.
    """

    algorithm: str
    public_line: str
    private: SecretValue = field(repr=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    What a user certificate says; nothing of it is secret.

    Args:
        public_line: The key that it is for, as `SshKey.public_line`.
        valid_after: Seconds since 1970, like *valid_before*.
    """

    public_line: str
    serial: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: Mapping[str, bytes]
    extensions: Mapping[str, bytes]


def new_ssh_key(algorithm: str, *, passphrase: SecretValue | None) -> tuple[SecretValue, SshKey]:
    """
    Return a new pair: its private half as it is kept, under *passphrase*, and the pair itself.

    Args:
        algorithm: One of `ALGORITHMS`.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    key: SSHPrivateKeyTypes
    if algorithm == "rsa":
        key = rsa.generate_private_key(_PUBLIC_EXPONENT, _RSA_BITS)
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.reveal())
    kept = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption
    )
    return SecretValue(kept), _facts(key)


def read_ssh_key(private: SecretValue, passphrase: SecretValue | None = None) -> SshKey:
    """
    Return the pair of a private key: OpenSSH's own format, or PEM.

    Raises:
        VerificationFailed: It is no such key, or *passphrase* does not open it.
    """
    return _facts(_load(private, passphrase))


def certify(
    ca: SecretValue,
    public_line: str,
    *,
    ca_passphrase: SecretValue | None = None,
    serial: int,
    key_id: str,
    principals: Sequence[str],
    valid_after: int,
    valid_before: int,
    critical_options: Mapping[str, bytes],
    extensions: Mapping[str, bytes],
) -> str:
    """
    Return a user certificate for *public_line*, signed by the private key *ca*, on one line.

    Raises:
        VerificationFailed: *ca* cannot be read, or *public_line* is no public key.
    """
    from cryptography.hazmat.primitives.serialization import ssh

    try:
        public = ssh.load_ssh_public_key(public_line.encode("ascii"))
    except Exception:  # noqa: BLE001 - its own errors may quote the input
        raise _unreadable("the public key") from None
    builder = (
        ssh.SSHCertificateBuilder()
        .public_key(_certifiable(public))
        .serial(serial)
        .type(ssh.SSHCertificateType.USER)
        .key_id(key_id.encode("utf-8"))
        .valid_principals([name.encode("utf-8") for name in principals])
        .valid_after(valid_after)
        .valid_before(valid_before)
    )
    for name in sorted(critical_options):
        builder = builder.add_critical_option(name.encode("ascii"), critical_options[name])
    for name in sorted(extensions):
        builder = builder.add_extension(name.encode("ascii"), extensions[name])
    signer = _load(ca, ca_passphrase)
    return builder.sign(_signing(signer)).public_bytes().decode("ascii")


def read_certificate(text: str) -> Certificate:
    """
    Return what the certificate *text* says.

    Raises:
        VerificationFailed: It is no user certificate.
    """
    from cryptography.hazmat.primitives.serialization import ssh

    try:
        found = ssh.load_ssh_public_identity(text.strip().encode("ascii"))
    except Exception:  # noqa: BLE001 - its own errors may quote the input
        raise _unreadable("the certificate") from None
    if not isinstance(found, ssh.SSHCertificate) or found.type is not ssh.SSHCertificateType.USER:
        raise _unreadable("the certificate")
    return Certificate(
        public_line=_certified_line(found),
        serial=found.serial,
        key_id=found.key_id.decode("utf-8", "replace"),
        principals=tuple(name.decode("utf-8", "replace") for name in found.valid_principals),
        valid_after=found.valid_after,
        valid_before=found.valid_before,
        critical_options={
            name.decode("ascii", "replace"): value for name, value in found.critical_options.items()
        },
        extensions={
            name.decode("ascii", "replace"): value for name, value in found.extensions.items()
        },
    )


def _certified_line(certificate: SSHCertificate) -> str:
    from cryptography.hazmat.primitives import serialization

    return (
        certificate.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode("ascii")
    )


def _load(private: SecretValue, passphrase: SecretValue | None) -> SSHPrivateKeyTypes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    text = private.reveal()
    password = None if passphrase is None else passphrase.reveal()
    if b"BEGIN OPENSSH" in text:
        load = serialization.load_ssh_private_key
    else:
        load = serialization.load_pem_private_key  # type: ignore[assignment]  # one more type of key
    try:
        # OpenSSH itself reads a file with or without a line end after its last line.
        key = load(text.strip() + b"\n", password)
    except Exception:  # noqa: BLE001 - a dozen errors of its own, some of which quote the input
        raise _unreadable("the private key") from None
    known = (ed25519.Ed25519PrivateKey, rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)
    if not isinstance(key, known):
        raise _unreadable("the private key")
    return key


def _facts(key: SSHPrivateKeyTypes) -> SshKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    algorithm = "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = "rsa"
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = "ecdsa"
    return SshKey(algorithm, public.decode("ascii"), SecretValue(private))


def _certifiable(public: object) -> SSHCertPublicKeyTypes:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(public, (ed25519.Ed25519PublicKey, rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        return public
    raise _unreadable("the public key")


def _signing(
    key: SSHPrivateKeyTypes,
) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import dsa

    if isinstance(key, dsa.DSAPrivateKey):
        raise _unreadable("the private key")
    return key


def _unreadable(what: str) -> VerificationFailed:
    return VerificationFailed(
        f"{what} is none that SSH uses here, or its passphrase does not open it",
        hint="Ed25519, RSA and ECDSA keys in OpenSSH's format or in PEM can be read",
        code="ssh.key",
    )
