"""Use case: two environments or stores side by side, by keyed digest; no value is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from keyturn.app.session import Session
from keyturn.app.sides import Side
from keyturn.audit import Action
from keyturn.core.ids import FieldName, SecretName

__all__ = ["Compared", "Held", "Verdict", "compare"]


class Verdict(StrEnum):
    """What two sides have of a secret."""

    SAME = "same"
    DIFFERS = "differs"
    FIRST_ONLY = "only in the first"
    SECOND_ONLY = "only in the second"
    NEITHER = "in neither"


@dataclass(frozen=True, slots=True)
class Held:
    """
    What one side holds of a secret.

    Args:
        version: Which is current; None where none is.
        drifted: Others changed or removed the live value, or put it there.
        digests: The keyed digest of each field that is current.
    """

    version: int | None = None
    pending: int | None = None
    drifted: bool = False
    digests: Mapping[FieldName, str] | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """
    One secret on both sides.

    Args:
        fields: Those that differ.
    """

    name: SecretName
    verdict: Verdict
    fields: tuple[FieldName, ...]
    first: Held
    second: Held

    @property
    def is_same(self) -> bool:
        """Whether there is nothing to tell."""
        return self.verdict in {Verdict.SAME, Verdict.NEITHER}


def compare(session: Session, first: Side, second: Side) -> list[Compared]:
    """Return every secret that is declared or held on one of the sides, by name."""
    held = []
    for side in (first, second):
        session.access.read(Action.SECRET_STATUS, str(side), environment=side.environment)
        held.append(_held(session, side))
    names = sorted(held[0].keys() | held[1].keys())
    return [_compared(name, held[0].get(name, Held()), held[1].get(name, Held())) for name in names]


def _held(session: Session, side: Side) -> dict[SecretName, Held]:
    store, where = session.store.named(side.store), side.environment
    declared = {secret.name: tuple(secret.fields) for secret in session.manifest.secrets_in(where)}
    states = store.states(where)
    names = sorted(declared.keys() | states.keys())
    current = store.read_many(where, names)
    watched = session.store.watched_named(side.store)
    drifts = {} if watched is None else watched.drifts(where, declared)
    found = {}
    for name in names:
        state, value = states.get(name), current.get(name)
        digests = None
        if value is not None:
            digests = {field: session.digester.digest(each) for field, each in value.values.items()}
        found[name] = Held(
            version=state.current if state else None,
            pending=state.pending if state else None,
            drifted=name in drifts,
            digests=digests,
        )
    return found


def _compared(name: SecretName, first: Held, second: Held) -> Compared:
    mine, theirs = first.digests, second.digests
    if mine is None or theirs is None:
        verdict = (
            Verdict.FIRST_ONLY
            if mine is not None
            else Verdict.SECOND_ONLY
            if theirs is not None
            else Verdict.NEITHER
        )
        return Compared(name, verdict, (), first, second)
    fields = tuple(
        field for field in sorted({*mine, *theirs}) if mine.get(field) != theirs.get(field)
    )
    return Compared(name, Verdict.DIFFERS if fields else Verdict.SAME, fields, first, second)
