"""
Sealing, the key ladder, signatures and bundles: the only room that imports a crypto library.

Callers seal with a `DataKey` and bind every sealed value to its place with
`bind`; nothing here opens to wrong bytes: it opens, or raises. Every output
starts with a version, and what an older Keyturn sealed still opens.

The names load on first use, so that a command that needs only the bundle pays
for nothing else.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyturn.crypto.bundle import new_identity, open_bundle, recipient, seal_bundle
    from keyturn.crypto.envelope import KEY_BYTES, Envelope, bind
    from keyturn.crypto.keyring import DataKey, KeyedDigester, RootKey, new_key, subkey
    from keyturn.crypto.passphrase import (
        MINIMUM_CHARACTERS,
        PassphraseParameters,
        derive_root_key,
    )
    from keyturn.crypto.signing import new_signing_key, public_key, sign, verify

__all__ = [
    "KEY_BYTES",
    "MINIMUM_CHARACTERS",
    "DataKey",
    "Envelope",
    "KeyedDigester",
    "PassphraseParameters",
    "RootKey",
    "bind",
    "derive_root_key",
    "new_identity",
    "new_key",
    "new_signing_key",
    "open_bundle",
    "public_key",
    "recipient",
    "seal_bundle",
    "sign",
    "subkey",
    "verify",
]

_HOMES = {
    "bundle": ("new_identity", "open_bundle", "recipient", "seal_bundle"),
    "envelope": ("KEY_BYTES", "Envelope", "bind"),
    "keyring": ("DataKey", "KeyedDigester", "RootKey", "new_key", "subkey"),
    "passphrase": ("MINIMUM_CHARACTERS", "PassphraseParameters", "derive_root_key"),
    "signing": ("new_signing_key", "public_key", "sign", "verify"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"keyturn.crypto.{home}"), name)
    raise AttributeError(f"module 'keyturn.crypto' has no attribute {name!r}")
