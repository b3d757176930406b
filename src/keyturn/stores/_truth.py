"""What is true of a secret in another's store: the ledger, put right by the live document."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from keyturn.core.ids import FieldName, SecretName
from keyturn.core.model import SecretRef, SecretState, Values
from keyturn.core.ports import Drift, DriftKind
from keyturn.errors import Conflict, Corrupt, NotFound, Rejected
from keyturn.stores import _rules
from keyturn.stores._ledger import Entry, Ledger, Line, decode_values
from keyturn.stores._place import Place, Seen

__all__ = [
    "Truth",
    "changes_to",
    "drifted",
    "foreign",
    "kept_values",
    "live_fields",
    "not_live",
    "require_own",
    "true_of",
]


@dataclass(frozen=True, slots=True)
class Truth:
    """
    What is true of one secret: the ledger's entry, put right by the live document.

    Args:
        entry: With the stages as they are.
        recorded: As the ledger has it.
        live: The values of the current version's fields that are live.
    """

    ref: SecretRef
    entry: Entry
    recorded: Entry
    live: Mapping[FieldName, bytes]
    drift: Drift | None

    @property
    def state(self) -> SecretState:
        return self.entry.state(self.ref)

    @property
    def clean(self) -> bool:
        """Whether the ledger says the same as the live document."""
        return self.drift is None and self.entry == self.recorded

    def line(self, number: int) -> Line:
        found = self.entry.line(number)
        if found is None:
            raise _rules.no_version(self.ref, number)
        return found


def true_of(place: Place, seen: Seen, ledger: Ledger, ref: SecretRef) -> Truth:
    recorded = ledger.entry(ref.name)
    for line in recorded.candidates():
        live = live_fields(place, seen.live, ref.name, line.fields)
        if set(live) == set(line.fields) and ledger.digest(live) == line.digest:
            if line.number == recorded.current:
                return Truth(ref, recorded, recorded, live, None)
            pending = None if recorded.pending == line.number else recorded.pending
            entry = replace(
                recorded, current=line.number, previous=recorded.current, pending=pending
            )
            return Truth(ref, entry, recorded, live, None)
    current = None if recorded.current is None else recorded.line(recorded.current)
    fields = () if current is None else current.fields
    live = live_fields(place, seen.live, ref.name, fields)
    if current is None:
        return Truth(ref, recorded, recorded, {}, None)
    gone = tuple(name for name in fields if name not in live)
    kind = DriftKind.REMOVED if gone else DriftKind.CHANGED
    return Truth(ref, recorded, recorded, live, Drift(ref, kind, current.number, gone or fields))


def foreign(
    place: Place, seen: Seen, ledger: Ledger, ref: SecretRef, fields: Collection[FieldName]
) -> Drift | None:
    """Return what of *fields* was live before Keyturn wrote *ref*; None where nothing was."""
    if ledger.entry(ref.name).current is not None:
        return None
    live = live_fields(place, seen.live, ref.name, fields)
    return Drift(ref, DriftKind.FOREIGN, 0, tuple(sorted(live))) if live else None


def kept_values(place: Place, ledger: Ledger, ref: SecretRef, line: Line, *, where: str) -> Values:
    """
    Return the values of the version *line* from where they are kept aside.

    Raises:
        Corrupt: They are gone, or not what was written.
    """
    hint = "restore it from the store's own history or a backup"
    data = place.kept(line.key(ref.name))
    if data is None:
        raise Corrupt(f"version {line.number} of `{ref}` is gone from {where}", hint=hint)
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        values = decode_values(data)
        plain = {name: value.reveal() for name, value in values.items()}
        if ledger.digest(plain) == line.digest:
            return values
    raise Corrupt(f"version {line.number} of `{ref}` is not what was stored in {where}", hint=hint)


def live_fields(
    place: Place, live: Mapping[str, bytes], name: SecretName, fields: Collection[FieldName]
) -> dict[FieldName, bytes]:
    keys = {field: place.live_key(name, field) for field in fields}
    return {field: live[key] for field, key in keys.items() if key in live}


def require_own(place: Place, ledger: Ledger, ref: SecretRef, wanted: Mapping[str, bytes]) -> None:
    """Refuse to write a key of the live document that is another secret's."""
    for name, entry in ledger.entries.items():
        line = None if entry.current is None else entry.line(entry.current)
        if name == ref.name or line is None:
            continue
        taken = {place.live_key(name, field) for field in line.fields} & set(wanted)
        if taken:
            raise Rejected(
                f"`{ref.name}` and `{name}` would both be `{min(taken)}` in the store",
                hint="give one of them another name, or its field",
                code="store.key_taken",
            )


def changes_to(
    place: Place, seen: Seen, ledger: Ledger, truth: Truth, values: Values, *, where: str
) -> dict[str, bytes | None]:
    """
    Return what the live document lacks to hold *values* of a secret, where it does not.

    Raises:
        Conflict: `store.drift`: something is there that Keyturn did not write.
        Rejected: Another secret has one of the keys.
    """
    wanted = {
        place.live_key(truth.ref.name, name): value.reveal() for name, value in values.items()
    }
    require_own(place, ledger, truth.ref, wanted)
    current = None if truth.state.current is None else truth.line(truth.state.current)
    stale = (
        set()
        if current is None
        else {place.live_key(truth.ref.name, name) for name in current.fields}
    )
    changes: dict[str, bytes | None] = {
        key: data for key, data in wanted.items() if seen.live.get(key) != data
    }
    if current is None and set(changes) & set(seen.live):
        # It was there before Keyturn was.
        names = tuple(sorted(values))
        raise drifted(Drift(truth.ref, DriftKind.FOREIGN, 0, names), where)
    changes.update(dict.fromkeys((stale - set(wanted)) & set(seen.live)))
    return changes


def drifted(drift: Drift, where: str) -> Conflict:
    """Return the refusal to write over what somebody else put in Keyturn's place."""
    ref = drift.ref
    since = f" since version {drift.recorded}" if drift.recorded else ""
    return Conflict(
        f"the live value of `{ref}` was {drift.kind} in {where}{since}, and not by Keyturn",
        hint=f"`keyturn drift {ref.name} -e {ref.environment}` tells more; add `--accept` to take "
        "it as a new version, or `--restore` to put the recorded one back",
        code="store.drift",
    )


def not_live(ref: SecretRef, where: str) -> NotFound:
    return NotFound(
        f"{where} does not hold all fields of `{ref}`",
        hint=f"`keyturn set {ref.name} -e {ref.environment}` gives it a value",
    )
