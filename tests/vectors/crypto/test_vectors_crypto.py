"""What was sealed, wrapped, signed or derived once is still read, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyturn.core.value import SecretValue
from keyturn.crypto import (
    DataKey,
    Envelope,
    KeyedDigester,
    PassphraseParameters,
    RootKey,
    bind,
    derive_root_key,
    open_bundle,
    public_key,
    recipient,
    sign,
    subkey,
    verify,
)

HERE = Path(__file__).parent


def load(name):
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def secret(text):
    return SecretValue(bytes.fromhex(text))


def test_envelope_1_opens():
    """Values sealed in format 1, and the binding they were sealed with."""
    vector = load("envelope-1.json")
    binding = bind(vector["label"], *vector["place"])
    assert binding.hex() == vector["binding"]
    cipher = Envelope(secret(vector["key"]))
    for name, case in vector["sealed"].items():
        opened = cipher.open(bytes.fromhex(case["sealed"]), binding, what=name)
        assert opened.reveal().hex() == case["value"]


def test_keyring_1_unwraps():
    """Key ids, sub keys, wrapped data keys, row tags and digests of format 1."""
    vector = load("keyring-1.json")
    root = RootKey(secret(vector["root_key"]), "a vector")
    assert root.id == vector["root_key_id"]
    for purpose, key in vector["subkeys"].items():
        assert subkey(root.value, purpose).reveal().hex() == key
    number = vector["data_key"]["number"]
    wrapped = bytes.fromhex(vector["wrapped"])
    unwrapped = DataKey.unwrap(number, wrapped, root, store_id=vector["store_id"])
    message, tag = bytes.fromhex(vector["message"]), bytes.fromhex(vector["tag"])
    unwrapped.check(message, tag, what="the vector")
    assert DataKey(number, secret(vector["data_key"]["value"])).authenticate(message) == tag
    for data, digest in vector["digests"].items():
        assert KeyedDigester(root.value).digest(secret(data)) == digest


def test_passphrase_1_derives():
    """A phrase gives the key that it gave, with the parameters of its time."""
    vector = load("passphrase-1.json")
    for parameters, key in vector["keys"].items():
        phrase = SecretValue.from_text(vector["phrase"])
        derived = derive_root_key(phrase, PassphraseParameters.parse(parameters))
        assert derived.value.reveal().hex() == key


def test_signing_1_holds():
    """Signatures of format 1, which are the same whenever they are made."""
    vector = load("signing-1.json")
    key, public = secret(vector["key"]), bytes.fromhex(vector["public"])
    assert public_key(key) == public
    for message, signature in vector["signatures"].items():
        verify(public, bytes.fromhex(message), bytes.fromhex(signature), what="the vector")
        assert sign(key, bytes.fromhex(message)).hex() == signature


def test_bundle_1_opens():
    """Bundles in age's format, version 1."""
    vector = load("bundle-1.json")
    identity = SecretValue.from_text(vector["identity"])
    assert recipient(identity) == vector["recipient"]
    for data, sealed in vector["sealed"].items():
        assert open_bundle(bytes.fromhex(sealed), identity).reveal().hex() == data


# RFC 8032, 7.1, tests 1 to 3: the primitive beneath our format is the one we think it is.
@pytest.mark.parametrize(
    ("seed", "public"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        ),
    ],
)
def test_ed25519_is_that_of_the_rfc(seed, public):
    """Public keys are those of the RFC's test vectors."""
    assert public_key(secret(seed)).hex() == public
