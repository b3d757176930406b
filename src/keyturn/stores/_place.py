"""
What a store that is somebody else's must offer for Keyturn's versions to live there.

A place is one *live* document, which applications read, and what is kept *aside*
of it: a ledger, and the values of every version. `keyturn.stores.outside` is the
store over it; an adapter implements `Layout` and `Place` and decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import SecretRef
from keyturn.core.ports import StoreCapabilities
from keyturn.errors import Conflict

__all__ = ["MARK_CODE", "Advising", "Layout", "Place", "Seen", "mark_is_stale", "plain_key"]

# The code of the conflict that means: look again, what you looked at has changed.
MARK_CODE: Final = "store.mark"


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What a place held when it was looked at.

    Args:
        live: Every key of the live document, those of others too; empty where it was
            not asked for or is not there.
        ledger: None where nothing was written there yet.
        live_mark: What a write of the live document must name; None where there is
            no such document.
        ledger_mark: The same of the ledger.
    """

    live: Mapping[str, bytes] = field(repr=False)
    ledger: bytes | None = field(repr=False)
    live_mark: object
    ledger_mark: object


class Place(Protocol):
    """One live document and what is kept beside it."""

    def live_key(self, name: SecretName, field: FieldName) -> str:
        """Return the key of the live document that holds *field* of the secret *name*."""
        ...

    def look(self, *, live: bool, ledger: bool) -> Seen:
        """
        Read what is asked for; where both are, the ledger first.

        Raises:
            Unavailable: No answer.
            Corrupt: What is there cannot be read.
        """
        ...

    def write_live(self, changes: Mapping[str, bytes | None], *, seen: Seen) -> None:
        """
        Write the live document as *seen* with *changes*, in one step; None removes a key.

        Raises:
            Conflict: `store.mark`: it is no longer as *seen*; nothing was written.
            Unavailable: Nothing was written.
            OutcomeUnknown: No answer came.
            Rejected: It will never be taken, such as for its size.
        """
        ...

    def write_ledger(
        self, ledger: bytes, *, keep: Mapping[str, bytes], drop: Collection[str], seen: Seen
    ) -> None:
        """
        Replace the ledger. What it names anew, *keep*, is durable before it.

        Args:
            keep: Documents to keep aside, by key; the same key has the same content.
            drop: Keys to remove; may be done after, and what is not there is fine.

        Raises:
            As `write_live`.
        """
        ...

    def kept(self, key: str) -> bytes | None:
        """Return the document kept as *key*, or None."""
        ...


class Layout(Protocol):
    """
    The places of one store.

    Args:
        history_limit: How many versions that no stage points at keep their values;
            None for all.
        where: For messages, such as `secret/clipper on https://vault:8200`.
    """

    @property
    def capabilities(self) -> StoreCapabilities: ...

    @property
    def history_limit(self) -> int | None: ...

    @property
    def where(self) -> str: ...

    def place(self, ref: SecretRef) -> Place:
        """Return the place that holds *ref*."""
        ...

    def places(
        self, environment: EnvironmentName, names: Iterable[SecretName] | None
    ) -> Iterable[Place]:
        """Return the places that hold *names*, or all that are there; each one once."""
        ...

    def close(self) -> None:
        """Let connections go."""
        ...


@runtime_checkable
class Advising(Protocol):
    """A layout that knows something of its place that a person should know."""

    def advice(self, environment: EnvironmentName) -> list[str]:
        """
        Return in words what a person should know, the most urgent first; never a value.

        Raises:
            Unavailable: No answer.
        """
        ...


def plain_key(name: SecretName, field: FieldName) -> str:
    """Return the usual key: `db` and `password` are `db_password`, `value` is the name alone."""
    key = name if field == "value" else f"{name}_{field}"
    return key.replace("-", "_")


def mark_is_stale(what: str) -> Conflict:
    """Return the conflict that a write with a stale mark raises."""
    return Conflict(f"{what} was changed meanwhile", hint="run the command again", code=MARK_CODE)
