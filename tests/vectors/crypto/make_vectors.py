"""
Makes the frozen vectors beside this file. Run once for each new format, by hand.

    python tests/vectors/crypto/make_vectors.py

A file that exists is never written again: what an older Keyturn sealed must
open for ever, and these files are the proof. Every key here is fake.
"""

from __future__ import annotations

import json
from pathlib import Path

from keyturn.core.value import SecretValue
from keyturn.crypto import (
    DataKey,
    Envelope,
    KeyedDigester,
    PassphraseParameters,
    RootKey,
    bind,
    derive_root_key,
    new_identity,
    public_key,
    recipient,
    seal_bundle,
    sign,
    subkey,
)
from keyturn.testing import SeededEntropy

HERE = Path(__file__).parent
KEY = SecretValue(bytes(range(32)))
VALUES = {"empty": b"", "short": b"fake value", "binary": bytes(range(256))}
PLACE = ["0123456789abcdef0123456789abcdef", "production", "db", 3, "password", 1, None]


def envelope():
    cipher, entropy = Envelope(KEY), SeededEntropy("vectors")
    binding = bind("value", *PLACE)
    return {
        "format": 1,
        "key": KEY.reveal().hex(),
        "label": "value",
        "place": PLACE,
        "binding": binding.hex(),
        "sealed": {
            name: {
                "value": data.hex(),
                "sealed": cipher.seal(SecretValue(data), binding, entropy=entropy).hex(),
            }
            for name, data in VALUES.items()
        },
    }


def keyring():
    root = RootKey(KEY, "a vector")
    data_key = DataKey(7, SecretValue(bytes(range(32, 64))))
    message = bind("state", *PLACE)
    return {
        "format": 1,
        "root_key": KEY.reveal().hex(),
        "root_key_id": root.id,
        "subkeys": {name: subkey(KEY, name).reveal().hex() for name in ("value", "item")},
        "data_key": {"number": 7, "value": bytes(range(32, 64)).hex()},
        "store_id": PLACE[0],
        "wrapped": data_key.wrap(root, store_id=PLACE[0], entropy=SeededEntropy("wrap")).hex(),
        "message": message.hex(),
        "tag": data_key.authenticate(message).hex(),
        "digests": {
            data.hex(): KeyedDigester(KEY).digest(SecretValue(data)) for data in VALUES.values()
        },
    }


def passphrase():
    phrase = "fake phrase for vectors, nöt a secret"
    cases = [
        PassphraseParameters(b"fake salt 123456"),
        PassphraseParameters(b"fake salt of thirty-two bytes...", 8 * 1024, 1, 1),
    ]
    return {
        "format": "argon2id, version 19",
        "phrase": phrase,
        "keys": {
            str(case): derive_root_key(SecretValue.from_text(phrase), case).value.reveal().hex()
            for case in cases
        },
    }


def signing():
    return {
        "format": 1,
        "key": KEY.reveal().hex(),
        "public": public_key(KEY).hex(),
        "signatures": {data.hex(): sign(KEY, data).hex() for data in VALUES.values()},
    }


def bundle():
    identity = new_identity()
    return {
        "format": "age-encryption.org/v1",
        "identity": identity.reveal_text(),
        "recipient": recipient(identity),
        "sealed": {
            data.hex(): seal_bundle(SecretValue(data), [recipient(identity)]).hex()
            for data in VALUES.values()
        },
    }


def main():
    for make in (envelope, keyring, passphrase, signing, bundle):
        path = HERE / f"{make.__name__}-1.json"
        if path.exists():
            print(f"{path.name}: kept")
            continue
        path.write_text(json.dumps(make(), indent=1) + "\n", encoding="utf-8")
        print(f"{path.name}: made")


if __name__ == "__main__":
    main()
