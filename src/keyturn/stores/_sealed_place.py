"""A place inside the embedded store, for what another store cannot give back."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import final

from keyturn.core.ids import EnvironmentName, FieldName, SecretName, StoreName
from keyturn.core.value import SecretValue
from keyturn.errors import InternalError
from keyturn.stores._place import Seen, mark_is_stale, plain_key
from keyturn.stores.embedded import EmbeddedStore

__all__ = ["SealedPlace"]


@final
class SealedPlace:
    """
    Implements the half of `Place` that is aside; nothing is live in it.

    Each document is sealed by itself, like Keyturn's own keys, and is carried along
    when the data key changes.

    Args:
        store: The name of the store that it serves.
    """

    def __init__(
        self, embedded: EmbeddedStore, store: StoreName, environment: EnvironmentName
    ) -> None:
        self._embedded = embedded
        self._prefix = f"aside/{store}/{environment}/"
        self._ledger = f"{self._prefix}ledger"

    def live_key(self, name: SecretName, field: FieldName) -> str:
        """Return the usual key."""
        return plain_key(name, field)

    def look(self, *, live: bool, ledger: bool) -> Seen:
        """Return the ledger."""
        del live
        found = self._embedded.sealed_item(self._ledger) if ledger else None
        data = None if found is None else found.reveal()
        return Seen({}, data, None, _mark(data))

    def write_live(self, changes: Mapping[str, bytes | None], *, seen: Seen) -> None:
        """Refuse: nothing is live here."""
        del changes, seen
        raise InternalError("a live value was to be written where none is read")

    def write_ledger(
        self, ledger: bytes, *, keep: Mapping[str, bytes], drop: Collection[str], seen: Seen
    ) -> None:
        """Replace the ledger and what is kept, in one transaction."""
        with self._embedded.database.transaction():
            found = self._embedded.sealed_item(self._ledger)
            if _mark(None if found is None else found.reveal()) != seen.ledger_mark:
                raise mark_is_stale("the ledger in the embedded store")
            for key, data in keep.items():
                self._put(self._prefix + key, data)
            self._put(self._ledger, ledger)
            for key in drop:
                self._embedded.remove_sealed_item(self._prefix + key)

    def kept(self, key: str) -> bytes | None:
        """Return the document kept as *key*, or None."""
        found = self._embedded.sealed_item(self._prefix + key)
        return None if found is None else found.reveal()

    def _put(self, name: str, data: bytes) -> None:
        self._embedded.put_sealed_item(name, SecretValue(data), replace=True)


def _mark(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()
