"""Key pairs are made whole, and read without quoting what cannot be read."""

from __future__ import annotations

import base64
import traceback

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from keyturn.core.value import SecretValue
from keyturn.crypto.keypairs import (
    ec_pair,
    ed25519_pair,
    public_pem,
    read_private,
    read_public,
    rsa_pair,
    unwrapped,
)
from keyturn.errors import VerificationFailed

CANARY = b"canary-in-a-damaged-key"
PEM, OPENSSH = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
PKCS8 = serialization.PrivateFormat.PKCS8


def private_text(key, form=PKCS8, encryption=None):
    return SecretValue(key.private_bytes(PEM, form, encryption or serialization.NoEncryption()))


def public_text(key, encoding=PEM, form=serialization.PublicFormat.SubjectPublicKeyInfo):
    return SecretValue(key.public_key().public_bytes(encoding, form))


@pytest.mark.parametrize("read", [read_private, read_public])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        CANARY,
        b"-----BEGIN PRIVATE " + b"KEY-----\n" + CANARY + b"\n-----END PRIVATE " + b"KEY-----\n",
        b"-----BEGIN OPENSSH PRIVATE " + b"KEY-----\n" + CANARY,
        b"ssh-ed25519 " + CANARY,
        b"\xff\xfe" + CANARY,
    ],
)
def test_what_is_no_key_is_refused_unquoted(read, text):
    """The error says which half cannot be read, and nothing of what stands there."""
    with pytest.raises(VerificationFailed, match="cannot be read") as caught:
        read(SecretValue(text))
    assert CANARY.decode() not in "".join(traceback.format_exception(caught.value))


def test_a_passphrase_is_named_as_the_reason():
    """A key that nobody can use unattended is told apart from a damaged one."""
    locked = private_text(
        ed25519.Ed25519PrivateKey.generate(),
        encryption=serialization.BestAvailableEncryption(b"obviously not a secret"),
    )
    with pytest.raises(VerificationFailed, match="passphrase"):
        read_private(locked)


def test_a_new_pair_belongs_together():
    """Both halves of a new RSA pair have the same public key, of the size asked for."""
    pair = rsa_pair(2048)
    private, public = read_private(pair.private), read_public(pair.public)
    assert private == public
    assert ("rsa", 2048) == (private.algorithm, private.size_bits)
    assert read_private(rsa_pair(2048).private).public_der != private.public_der


@pytest.mark.parametrize(
    ("key", "facts"),
    [
        (ed25519.Ed25519PrivateKey.generate(), ("ed25519", 256)),
        (ec.generate_private_key(ec.SECP256R1()), ("ec", 256)),
        (rsa.generate_private_key(65537, 2048), ("rsa", 2048)),
    ],
    ids=["ed25519", "ec", "rsa"],
)
def test_keys_of_others_are_read(key, facts):
    """PEM and OpenSSH forms of the usual algorithms are known, and give one canonical half."""
    public = serialization.PublicFormat
    read = [
        read_private(private_text(key)),
        read_private(private_text(key, OPENSSH)),
        read_public(public_text(key)),
        read_public(public_text(key, serialization.Encoding.OpenSSH, public.OpenSSH)),
    ]
    assert {facts} == {(each.algorithm, each.size_bits) for each in read}
    assert 1 == len({each.public_der for each in read})


def test_an_unusual_key_is_read_as_other():
    """An algorithm that we have no use for is named so, not refused as damaged."""
    assert "other" == read_private(private_text(dsa.generate_private_key(2048))).algorithm


@pytest.mark.parametrize(
    ("make", "facts"),
    [(ec_pair, ("ec", 256, "secp256r1")), (ed25519_pair, ("ed25519", 256, ""))],
)
def test_pairs_of_other_algorithms_belong_together(make, facts):
    """As those of RSA do, and each is another."""
    pair = make()
    private, public = read_private(pair.private), read_public(pair.public)
    assert private == public
    assert facts == (private.algorithm, private.size_bits, private.curve)
    assert read_private(make().private).public_der != private.public_der


def test_the_public_half_is_written_as_the_library_writes_it():
    """So that a version made by hand and one of ours look alike."""
    pair = rsa_pair(2048)
    assert pair.public == public_pem(read_private(pair.private))


def test_one_line_of_base64_is_unwrapped_and_the_rest_let_be():
    """What is neither is for its reader to refuse."""
    pair = ed25519_pair()
    assert pair.private == unwrapped(SecretValue(base64.b64encode(pair.private.reveal())))
    for value in (pair.private, SecretValue(b"ssh-ed25519 AAAA"), SecretValue(b"no key?")):
        assert value == unwrapped(value)
