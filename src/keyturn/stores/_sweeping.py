"""
Removing what was kept for a version that never came to be.

Where each version's values are a document of their own, they are written before the
ledger names them. A writer that then loses the race for the ledger, or dies, leaves a
document behind that no version has, and that no `destroy` would find.

Such a document is known by its number. Every write that adds a version numbers it from
the ledger's next number on, and is taken only where that ledger is still the newest
(compare-and-set); the next number never goes down. So a number below the next one that
the ledger does not name under this key is named by no write to come: whoever holds it
has lost already, an equal writer with the same values among them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Protocol, runtime_checkable

from keyturn.core.ids import SecretName
from keyturn.errors import KeyturnError
from keyturn.stores._ledger import Ledger, decode_values
from keyturn.stores._looking import Looker
from keyturn.stores._place import Place, Seen

__all__ = ["Sweepable", "sweep"]


@runtime_checkable
class Sweepable(Protocol):
    """A place that keeps each version in a document of its own."""

    def list_kept(self, *, seen: Seen) -> Collection[str]:
        """
        Return the keys of all that is kept, without what the next write removes anyhow.

        Raises:
            Rejected: It may not be listed.
            Unavailable: No answer.
        """
        ...

    def remove_kept(self, key: str) -> None:
        """
        Remove the document kept as *key*, and nothing else.

        Raises:
            As `Place.write_ledger`.
        """
        ...


def sweep(place: Place, looker: Looker, *, own: Collection[str] = ()) -> int:
    """
    Remove what *place* keeps for versions that never came to be, and return how many.

    It is no part of what was asked for, so that it does not fail: what stays now goes
    another time.

    Args:
        own: Keys that the caller wrote. Of others it is asked whether they belong to
            this ledger, since what an older one named can be had back with it.
    """
    removed = 0
    if not isinstance(place, Sweepable):
        return removed
    with contextlib.suppress(KeyturnError):
        seen = place.look(live=False, ledger=True)
        ledger = looker.ledger(seen)
        for key in sorted(place.list_kept(seen=seen)):
            if not _is_left(key, ledger):
                continue
            if key in own or _is_of(key, place.kept(key), ledger):
                place.remove_kept(key)
                removed += 1
    return removed


def _is_left(key: str, ledger: Ledger) -> bool:
    """Tell whether no version has *key*, nor ever will."""
    name, _, rest = key.partition(".")
    number = rest.partition(".")[0]
    entry = ledger.entry(SecretName(name))
    if not (number.isascii() and number.isdecimal()) or int(number) >= entry.next_number:
        return False
    return all(line.destroyed or line.key(SecretName(name)) != key for line in entry.lines)


def _is_of(key: str, data: bytes | None, ledger: Ledger) -> bool:
    """Tell whether *data* was written beside this ledger, not one that lay there before."""
    if data is None:
        return False
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        plain = {name: value.reveal() for name, value in decode_values(data).items()}
        return key.endswith(f".{ledger.digest(plain)[:16]}")
    return False
