"""Values that come back: is what a person gives that of a version which was replaced?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keyturn.app.retired import reason_flag
from keyturn.app.session import Session
from keyturn.core.ids import FieldName
from keyturn.core.model import SecretRef, Stage, Values, VersionedValue
from keyturn.errors import Corrupt, NotFound
from keyturn.manifest import Secret

__all__ = ["MAX_COMPARED", "Earlier", "current_values", "find_earlier", "older_note"]

# So many of the versions are compared, the newest first: a store of others is asked for each.
MAX_COMPARED = 20


@dataclass(frozen=True, slots=True)
class Earlier:
    """
    What was given and had been replaced.

    Args:
        number: The newest version that has it.
        current: The version that is current instead.
        fields: Those of the fields given that are of no use any more.
    """

    number: int
    current: int
    fields: frozenset[FieldName]


def current_values(session: Session, ref: SecretRef) -> VersionedValue | None:
    """Return the current version of *ref*; None where there is none that can be read."""
    try:
        return session.store.read(ref, Stage.CURRENT)
    except (NotFound, Corrupt):
        return None


def find_earlier(
    session: Session, secret: Secret, ref: SecretRef, given: Values, *, held: VersionedValue
) -> Earlier | None:
    """
    Find what of *given* the store has in a version that is not current any more.

    What names something, as a user name does, goes with the values beside it: where all
    of those are old, so is it; where one of them is new, it is taken as given.

    Args:
        held: The current version.

    Returns:
        None where nothing of *given* is old.
    """
    changed = {
        field: value
        for field, value in given.items()
        if field in held.values and held.values[field] != value
    }
    proving = {field for field in changed if field not in secret.identifiers} or set(changed)
    newest: tuple[int, frozenset[FieldName]] | None = None
    old: set[FieldName] = set()
    for version in _versions(session, ref, held) if changed else ():
        same = {field for field in proving if version.values.get(field) == changed[field]}
        old |= same
        # The version that has most of it is the one that a person means.
        if same and (newest is None or len(same) > len(newest[1])):
            newest = version.version.number, frozenset(same)
        if same == proving:
            break
    if newest is None:
        return None
    fields = frozenset(changed) if old == proving else frozenset(old)
    return Earlier(newest[0], held.version.number, fields)


def _versions(session: Session, ref: SecretRef, held: VersionedValue) -> Iterator[VersionedValue]:
    """Yield the versions beside the current one that can be read, newest first."""
    numbers = [
        version.number
        for version in session.store.history(ref)
        if not version.destroyed and version.number != held.version.number
    ]
    for number in sorted(numbers, reverse=True)[:MAX_COMPARED]:
        try:
            yield session.store.read(ref, number)
        except (NotFound, Corrupt):
            continue  # destroyed since, or damaged: what it held cannot be told


def older_note(session: Session, ref: SecretRef, found: Earlier) -> str:
    """Return what to tell a person of a value that an import has left alone."""
    where = f"{ref.name} --to {found.number} -e {ref.environment}"
    since = (
        f"older than what is current (version {found.current})"
        if found.number < found.current
        else f"taken back since (version {found.current} is current)"
    )
    return (
        f"`{ref.name}` in the file is of version {found.number}, {since}: left alone; "
        f"`keyturn rollback {where}"
        f"{reason_flag(session.manifest, ref.environment)}` or `--force-old` takes it"
    )
