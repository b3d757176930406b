"""A project whose store is a SOPS file, and the people who may read it."""

from __future__ import annotations

from keyturn.core.ids import StoreName
from keyturn.core.value import SecretValue
from keyturn.crypto import new_identity, recipient
from keyturn.manifest import LiveKeys, StoreKind, StoreSettings
from keyturn.stores import sops
from keyturn.stores._context import StoreContext
from keyturn.testing import FakeClock, SeededEntropy

__all__ = ["new_person", "open_store"]


def new_person(file):
    """Write an identity to *file* and return its recipient."""
    identity = new_identity()
    file.write_text(f"# made by a test\n{identity.reveal_text()}\n")
    return recipient(identity)


def open_store(folder, *, clock=None, keys=LiveKeys.VARIABLES, **options):
    """Return the store in *folder* that the manifest describes by *options*."""
    settings = StoreSettings(StoreName("team"), StoreKind.SOPS, options, keys=keys)
    return sops.build(
        StoreContext(
            settings,
            project="clipper",
            folder=folder,
            state=folder / ".keyturn",
            clock=clock or FakeClock(),
            entropy=SeededEntropy(),
            variable=lambda ref, field: None,
            facts=lambda ref: {},
            ask=lambda prompt: SecretValue(b""),
            keep=lambda environment: None,
        )
    )
