"""Use cases on values and versions: set, get, list, history, roll back, import, generate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from keyturn.app.delivery import refresh_bundle
from keyturn.app.earlier import Earlier, current_values, find_earlier
from keyturn.app.retired import require_not_retired
from keyturn.app.session import Session
from keyturn.app.unfit import unfit_values
from keyturn.audit.events import Action
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token, VariableName, new_id
from keyturn.core.model import (
    Origin,
    SecretRef,
    SecretState,
    Stage,
    Values,
    Version,
    VersionedValue,
)
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, KeyturnError, NotFound, OutcomeUnknown
from keyturn.manifest import EnvFile, Secret
from keyturn.rotate import turned_step

__all__ = [
    "Imported",
    "SecretRow",
    "get_value",
    "import_values",
    "is_whole",
    "list_history",
    "list_secrets",
    "record_read",
    "roll_back",
    "set_field",
    "set_fields",
    "undeclared_note",
    "undeclared_secrets",
]


_EMPTY = SecretValue(b"")
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class SecretRow:
    """One line of `keyturn list`."""

    secret: Secret
    current: int | None
    pending: int | None
    created_at: datetime | None
    complete: bool


@dataclass(frozen=True, slots=True)
class Imported:
    """
    What an import did.

    Args:
        stored: The new version of each secret that changed.
        unchanged: Secrets whose values were current already.
        settings: Variables that the manifest declares as plain settings.
        unknown: Variables that the manifest does not declare.
        partial: Secrets that got some of their fields only.
        empty: Required variables that the file leaves empty and that had no value:
            taken as empty, as the program had them until now.
        older: What was replaced since, and so is left alone.
    """

    stored: Mapping[SecretName, int]
    unchanged: Sequence[SecretName]
    settings: Sequence[VariableName]
    unknown: Sequence[VariableName]
    partial: Sequence[SecretName]
    empty: Sequence[VariableName]
    older: Mapping[SecretName, Earlier]


def set_fields(session: Session, ref: SecretRef, values: Values, *, force: bool = False) -> Version:
    """
    Make *values*, which a person gave, the current version of *ref*.

    Fields change together, so what *values* leaves out keeps its current value. The
    session's notes say what a person should know of them.

    Args:
        force: Also values that a rotation has ended.

    Raises:
        Conflict: A rotation of the secret is running, or another writer was first.
        VerificationFailed: A rotation has ended the version that had these values.
    """
    secret = session.manifest.secret_in(ref.environment, ref.name)
    held = current_values(session, ref)
    found = None if held is None else find_earlier(session, secret, ref, values, held=held)
    if found is not None:
        if not force:
            require_not_retired(session, ref, found.number)
        session.notes.append(
            f"`{ref}` had this in version {found.number} already, which version "
            f"{found.current} has replaced"
        )
    session.notes += unfit_values(secret, values).values()
    version = store_current(session, ref, values, origin=Origin.SET, action=Action.VERSION_SET)
    refresh_bundle(session, ref.environment)
    return version


def store_current(
    session: Session, ref: SecretRef, values: Values, *, origin: Origin, action: Action
) -> Version:
    """
    Store a version and promote it, in the frame that `Session.changing` gives.

    The caller refreshes the bundle, once the outermost transaction has ended.

    Raises:
        Conflict: A rotation of the secret is running.

    Audit:
        *action*, with the version's number and a keyed digest of each field.
    """
    token = Token(new_id(session.entropy))
    with session.changing(action, str(ref), environment=ref.environment) as notes:
        refuse_during_rotation(session, ref)
        state = session.store.state(ref)
        secret = session.manifest.secret_in(ref.environment, ref.name)
        fields = secret.fields
        # Read only where something is kept: a damaged version can then be replaced.
        if state.current is not None and not set(fields) <= set(values):
            current = session.store.read(ref, Stage.CURRENT).values
            # Not what a rotation keeps beside them, such as a vendor's id of the key: that
            # belongs to the value that is replaced.
            values = {**{name: current[name] for name in fields if name in current}, **values}
        # What only names something, and stands in the manifest, needs no giving.
        named = {
            name: SecretValue.from_text(text)
            for name, text in (secret.identity or {}).items()
            if name in fields and name not in values
        }
        values = {**values, **named}
        version = session.store.put_pending(ref, values, origin=origin, token=token)
        try:
            session.store.promote(ref, version.number, expected_current=state.current)
        except OutcomeUnknown:
            raise
        except KeyturnError:
            # Elsewhere no transaction takes it back, and it would be in the way.
            with contextlib.suppress(KeyturnError):
                session.store.discard_pending(ref, version.number)
            raise
        notes["version"] = version.number
        notes.update(digests(session, values))
    return version


def digests(session: Session, values: Values) -> dict[str, str]:
    """Return the keyed digest of each field, for a record."""
    return {f"digest.{field}": session.digester.digest(value) for field, value in values.items()}


def is_whole(session: Session, environment: EnvironmentName, text: str) -> bool:
    """Tell whether *text* is the name of a whole secret rather than of one of its fields."""
    return any(secret.name == text for secret in session.manifest.secrets_in(environment))


def set_field(
    session: Session,
    environment: EnvironmentName,
    text: str,
    value: SecretValue,
    *,
    force: bool = False,
) -> Version:
    """Store *value* for what *text* names: `db.password`, `DB_PASSWORD` or `session`."""
    name, field = session.manifest.find_field(text, environment)
    return set_fields(session, SecretRef(environment, name), {field: value}, force=force)


def get_value(
    session: Session, environment: EnvironmentName, text: str, selector: Stage | int
) -> tuple[VersionedValue, FieldName]:
    """
    Return the version that *selector* names and the field that *text* names.

    The record is durable before the value is returned.

    Raises:
        NotFound: There is no such version, or it lacks the field.
    """
    name, field = session.manifest.find_field(text, environment)
    ref = SecretRef(environment, name)
    try:
        found = session.store.read(ref, selector)
    except NotFound as error:
        error.hint = _where_versions_are(session, ref)
        raise
    if field not in found.values:
        raise NotFound(
            f"version {found.version.number} of `{ref}` has no field `{field}`",
            hint=f"`keyturn set {name}.{field} -e {environment}` gives it one",
        )
    record_read(session, ref, field, found.version.number)
    return found, field


def record_read(session: Session, ref: SecretRef, field: FieldName, number: int) -> None:
    """Record that a value is about to leave; durable on return."""
    session.access.read(
        Action.VALUE_READ,
        str(ref),
        environment=ref.environment,
        detail={"field": field, "version": number},
    )


def _where_versions_are(session: Session, ref: SecretRef) -> str:
    # The store knows no command line, so it cannot name the whole command.
    if session.store.history(ref):
        return f"`keyturn history {ref.name} -e {ref.environment}` lists its versions"
    return (
        f"`keyturn set {ref.name} -e {ref.environment}` or "
        f"`keyturn generate --missing -e {ref.environment}` gives it one"
    )


def list_secrets(session: Session, environment: EnvironmentName) -> list[SecretRow]:
    """Return every declared secret of *environment* with its state; no value is read out."""
    session.access.read(Action.SECRET_LIST, str(environment), environment=environment)
    rows = []
    declared = session.manifest.secrets_in(environment)
    current = session.store.read_many(environment, [secret.name for secret in declared])
    states = session.store.states(environment)
    for secret in declared:
        state = states.get(secret.name)
        held = current.get(secret.name)
        rows.append(
            SecretRow(
                secret=secret,
                current=state.current if state else None,
                pending=state.pending if state else None,
                created_at=held.version.created_at if held else None,
                complete=held is not None and set(secret.fields) <= set(held.values),
            )
        )
    return rows


def undeclared_secrets(session: Session, environment: EnvironmentName) -> list[SecretName]:
    """Return the secrets that the store holds for *environment* and the manifest does not name."""
    declared = {secret.name for secret in session.manifest.secrets_in(environment)}
    return sorted(name for name in session.store.states(environment) if name not in declared)


def undeclared_note(session: Session, environment: EnvironmentName) -> str | None:
    """Return what to tell a person of them, and how to keep their values; None without any."""
    names = undeclared_secrets(session, environment)
    if not names:
        return None
    held = ", ".join(f"`{name}`" for name in names[:_MAX_NAMED])
    held += f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    first = names[0]
    return (
        f"the store holds values for `{environment}` that keyturn.toml does not declare: {held}; "
        f"where `{first}` was renamed, give it its old name back; or declare that too, without a "
        f"variable, and run `keyturn get {first} -e {environment} | "
        f"keyturn set NEW-NAME - --keep-newline -e {environment}`"
    )


def list_history(
    session: Session, environment: EnvironmentName, text: str
) -> tuple[SecretRef, list[tuple[Version, list[Stage]]]]:
    """Return the versions of a secret, newest first, each with the stages that point at it."""
    ref = find_secret(session, environment, text)
    session.access.read(Action.SECRET_HISTORY, str(ref), environment=environment)
    state = session.store.state(ref)
    return ref, [
        (version, [stage for stage in Stage if state.at(stage) == version.number])
        for version in session.store.history(ref)
    ]


def find_secret(session: Session, environment: EnvironmentName, text: str) -> SecretRef:
    """
    Return the secret that *text* names: by its own name, a field's, or a variable's.

    Raises:
        NotFound: The manifest has no such secret in *environment*.
    """
    for secret in session.manifest.secrets_in(environment):
        if secret.name == text:
            return SecretRef(environment, secret.name)
    name, _ = session.manifest.find_field(text, environment)
    return SecretRef(environment, name)


def roll_back(
    session: Session,
    environment: EnvironmentName,
    text: str,
    *,
    to: int | None,
    force: bool = False,
) -> tuple[SecretRef, int]:
    """
    Make version *to*, by default the previous one, current again; return its number.

    Args:
        force: Also one that a rotation has ended.

    Raises:
        NotFound: There is no such version.
        Conflict: A rotation of the secret is running.
        VerificationFailed: A rotation has ended that version, so it does not work.
    """
    ref = find_secret(session, environment, text)
    with session.changing(Action.VERSION_ROLL_BACK, str(ref), environment=environment) as notes:
        refuse_during_rotation(session, ref)
        state = session.store.state(ref)
        number = _earlier(state, to)
        if not force:
            require_not_retired(session, ref, number)
        session.store.promote(ref, number, expected_current=state.current)
        notes["version"] = number
        notes["from"] = state.current or 0
    refresh_bundle(session, environment)
    return ref, number


def _earlier(state: SecretState, to: int | None) -> int:
    ref = state.ref
    number = to if to is not None else state.previous
    if number is None:
        raise NotFound(
            f"`{ref}` has no previous version",
            hint=f"`keyturn history {ref.name} -e {ref.environment}` lists the versions; "
            "name one with `--to`",
        )
    if number == state.current:
        raise Conflict(f"version {number} of `{ref}` is current already")
    return number


def import_values(
    session: Session, environment: EnvironmentName, file: EnvFile, *, force_old: bool = False
) -> Imported:
    """
    Store the values of *file* that the manifest declares as secrets of *environment*.

    Every secret becomes a new version only where a value differs. In Keyturn's own
    store all of them are one transaction, so an import is whole or did not happen;
    elsewhere the same import again goes on where it stopped.

    Args:
        force_old: Also what an earlier version had: a file outlives many rotations.
    """
    entries = {
        VariableName(entry.name): entry.value for entry in file.entries if not entry.commented_out
    }
    stored: dict[SecretName, int] = {}
    unchanged: list[SecretName] = []
    partial: list[SecretName] = []
    empty: list[VariableName] = []
    older: dict[SecretName, Earlier] = {}
    declared = session.manifest.secrets_in(environment)
    used = {name for secret in declared for name in secret.variables if name in entries}
    with session.changing(
        Action.ENVIRONMENT_IMPORT, str(environment), environment=environment
    ) as notes:
        current = session.store.read_many(environment, [secret.name for secret in declared])
        for secret in declared:
            ref = SecretRef(environment, secret.name)
            version = current.get(secret.name)
            held = version.values if version is not None else {}
            given = _given(secret, entries, held)
            if not given:
                continue
            empty += [
                name for name, field in secret.variables.items() if given.get(field) == _EMPTY
            ]
            if version is not None and not force_old:
                found = find_earlier(session, secret, ref, given, held=version)
                if found is not None:
                    older[secret.name] = found
                    given = {k: value for k, value in given.items() if k not in found.fields}
            merged = {**held, **given}
            if set(merged) | set(secret.identity or {}) < set(secret.fields):
                partial.append(secret.name)
            if merged == held:
                if secret.name not in older:
                    unchanged.append(secret.name)
                continue
            stored[secret.name] = store_current(
                session, ref, merged, origin=Origin.IMPORTED, action=Action.VERSION_IMPORT
            ).number
        notes["secrets"] = len(stored)
    if stored:
        refresh_bundle(session, environment)
    config = session.manifest.config_in(environment)
    rest = [name for name in entries if name not in used]
    return Imported(
        stored=stored,
        unchanged=unchanged,
        settings=[name for name in rest if name in config],
        unknown=[name for name in rest if name not in config],
        partial=partial,
        empty=empty,
        older=older,
    )


def _given(
    secret: Secret, entries: Mapping[VariableName, SecretValue], held: Values
) -> dict[FieldName, SecretValue]:
    """Return what *entries* hold of *secret*; an empty line never takes the place of a value."""
    return {
        field: entries[variable]
        for variable, field in secret.variables.items()
        if variable in entries and (entries[variable] or (secret.required and field not in held))
    }


def missing_secrets(session: Session, environment: EnvironmentName) -> list[Secret]:
    """Return the declared secrets that lack a value for one of their fields."""
    declared = session.manifest.secrets_in(environment)
    current = session.store.read_many(environment, [secret.name for secret in declared])
    return [
        secret
        for secret in declared
        if secret.name not in current or not set(secret.fields) <= set(current[secret.name].values)
    ]


def secrets_named(
    session: Session, environment: EnvironmentName, names: Iterable[str]
) -> list[Secret]:
    """Return the secrets that *names* name, in the order given."""
    return [
        session.manifest.secret_in(environment, find_secret(session, environment, name).name)
        for name in names
    ]


def refuse_during_rotation(session: Session, ref: SecretRef) -> None:
    live = session.journal.live(ref)
    if live is not None:
        where = f"{ref.name} -e {ref.environment}"
        back = turned_step(live.plan, live.step) is not None
        turn = f"; or turn it back: `keyturn rollback {where}`" if back else ""
        raise Conflict(
            f"a rotation of `{ref}` is under way (step `{live.step}`)",
            hint=f"finish it first: `keyturn rotate --resume {where}`{turn}",
            code="rotation.live",
        )
