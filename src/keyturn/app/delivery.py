"""Use cases of delivery: the sealed bundle, `run`, `render`, and what a rotation delivers."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from keyturn import fast
from keyturn.app.session import BUNDLE_KEY, Session, write_bundle_key
from keyturn.audit.events import Action
from keyturn.core.ids import ConsumerName, EnvironmentName, SecretName, VariableName
from keyturn.core.model import VersionedValue
from keyturn.core.value import SecretValue
from keyturn.crypto.bundle import recipient, seal_bundle
from keyturn.deliver import check_variables
from keyturn.deliver.bundle import BundleContent, SecretEntry, encode
from keyturn.errors import (
    Conflict,
    DeliveryError,
    InternalError,
    KeyturnError,
    Missing,
    Sealed,
    Unavailable,
)
from keyturn.manifest import Manifest, Secret, format_duration
from keyturn.stores import OutsideStore, Rechecked

__all__ = [
    "Delivered",
    "LateSeal",
    "compile_bundle",
    "prepare_run",
    "refresh_bundle",
    "resolve",
]

BUNDLE_SECONDS = 24 * 3600
_LATE_SECONDS = 5.0
# A store whose values change while they are read is read again so often.
_READS = 5


@dataclass(frozen=True, slots=True)
class Delivered:
    """
    What a consumer is given.

    Args:
        variables: Secrets and, where it wants them, plain settings, by variable.
        versions: The version of each secret among them.
    """

    variables: Mapping[VariableName, SecretValue]
    versions: Mapping[SecretName, int]


def compile_bundle(
    session: Session, environment: EnvironmentName, *, generation: str | None = None
) -> BundleContent:
    """
    Return the content of the bundle of *environment*; the caller holds a transaction.

    Args:
        generation: As it was before the values are read, where they are read outside
            of the transaction.
    """
    manifest = session.manifest
    secrets = manifest.secrets_in(environment)
    now = int(session.clock.now().timestamp())
    current = session.store.read_many(environment, [secret.name for secret in secrets])
    settings = session.store.settings(environment)
    # What others can change is good for a short while only.
    lasts = int(settings.cache.total_seconds()) if settings.is_outside else BUNDLE_SECONDS
    project = str(session.paths.folder)
    return BundleContent(
        store_id=session.store_id,
        environment=environment,
        created_seconds=now,
        not_after_seconds=now + min(lasts, BUNDLE_SECONDS),
        manifest_stamp=session.manifest_stamp,
        database_stamp=fast.database_stamps(project)[0],
        generation=generation or session.bundles.generation(environment),
        consumers={
            name: (
                manifest.consumer_in(environment, name).config,
                [secret.name for secret in manifest.consumer_secrets(name, environment)],
            )
            for name in manifest.consumers
        },
        config=manifest.config_in(environment),
        secrets=list(_entries(secrets, current)),
        lacking=lacking_fields(secrets, current),
        recheck=_recheck(session, environment, secrets, current),
    )


def _recheck(
    session: Session,
    environment: EnvironmentName,
    secrets: Sequence[Secret],
    current: Mapping[SecretName, VersionedValue],
) -> Sequence[Sequence[str]]:
    """Return how the store can be asked whether *current* is still true; empty where it cannot."""
    outside = session.store.watched(environment)
    asked: object = outside.layout if isinstance(outside, OutsideStore) else outside
    if not isinstance(asked, Rechecked):
        return ()
    declared = {secret.name: tuple(secret.fields) for secret in secrets}
    rows = asked.recheck(environment, declared, current)
    # A line of a bundle holds no other characters.
    plain = all(word.isascii() and word.isprintable() for row in rows for word in row)
    return rows if plain else ()


def _entries(
    secrets: Sequence[Secret], current: Mapping[SecretName, VersionedValue]
) -> Iterable[SecretEntry]:
    for secret in secrets:
        held = current.get(secret.name)
        if held is None:
            continue
        for field, variable in secret.fields.items():
            if field in held.values:
                yield SecretEntry(
                    name=secret.name,
                    version=held.version.number,
                    field=field,
                    variable=variable,
                    value=held.values[field],
                )


def lacking_fields(
    secrets: Iterable[Secret], current: Mapping[SecretName, VersionedValue]
) -> list[tuple[SecretName, str]]:
    """Return each field that a required secret must have and has not, by its variable."""
    lacking = []
    for secret in secrets:
        if not secret.required:
            continue
        held = current.get(secret.name)
        # A field that nobody is given hinders nobody, beside one that somebody is.
        wanted = [field for field, variable in secret.fields.items() if variable is not None]
        for field in wanted or secret.fields:
            if held is None or field not in held.values:
                variable = secret.fields[field]
                lacking.append((secret.name, str(variable or f"{secret.name}.{field}")))
    return lacking


def refresh_bundle(session: Session, environment: EnvironmentName) -> BundleContent:
    """
    Write the sealed bundle of *environment* as the store is now; return its content.

    Where the root key is a passphrase there is no key on disk that could open a
    bundle without asking, so none is written. Where one cannot be written, the
    session's notes say so: an old one is stale, and `run` does without.
    """
    if session.database.in_transaction:
        # It would hold what may still be undone, and say that it is current.
        raise InternalError("a bundle was to be written before the commit of what it holds")
    if session.store.watched(environment) is not None:
        return _refresh_outside(session, environment)
    with session.database.transaction():
        content = compile_bundle(session, environment)
        _seal(session, content)
    return content


def _refresh_outside(session: Session, environment: EnvironmentName) -> BundleContent:
    """Read from a store of others while nobody waits, and seal unless it changed meanwhile."""
    for _ in range(_READS):
        with session.database.transaction():
            generation = session.bundles.generation(environment)
        content = compile_bundle(session, environment, generation=generation)
        with session.database.transaction():
            if session.bundles.generation(environment) == generation:
                _seal(session, content)
                return content
    raise Conflict(
        f"the values of `{environment}` change faster than they can be read",
        hint="run the command again",
        code="store.busy",
    )


def _seal(session: Session, content: BundleContent) -> None:
    """Write *content* as the bundle of its environment; the caller holds a transaction."""
    try:
        to = session.bundles.recipient(session.keys / BUNDLE_KEY, lambda: _recipient(session))
        if to is not None:
            session.bundles.write(content.environment, seal_bundle(encode(content), [to]))
    except (KeyturnError, OSError) as error:
        why = error.message if isinstance(error, KeyturnError) else error.strerror
        session.notes.append(_not_renewed(why))


def _not_renewed(why: str | None) -> str:
    return f"the sealed bundle is not renewed, so `run` is slower: {why}"


def _recipient(session: Session) -> str | None:
    if session.has_key_file:
        write_bundle_key(session.keys)  # where it was lost
    identity = session.bundle_identity
    return None if identity is None else recipient(identity)


class LateSeal:
    """
    Seals the bundles that a batch of rotations makes stale: every few seconds, and at its end.

    A bundle holds a whole environment, so one for each rotation would cost a batch the
    square of its length. Nothing old is served meanwhile: each promote makes the bundle
    stale before it is durable, and the first `run` after it seals another.

    Args:
        session: Of the thread that watches the batch; its notes say what was not renewed.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stale: set[EnvironmentName] = set()
        self._sealed_at = time.monotonic()

    def moved(self, environment: EnvironmentName) -> None:
        """Take note that a rotation in *environment* ended, and seal where it is time to."""
        self._stale.add(environment)
        if time.monotonic() - self._sealed_at >= _LATE_SECONDS:
            self.seal()

    def seal(self) -> None:
        """Seal what is stale."""
        for environment in sorted(self._stale):
            try:
                refresh_bundle(self._session, environment)
            except KeyturnError as error:
                # Of a rotation that went well this takes nothing.
                self._session.notes.append(_not_renewed(error.message))
        self._stale.clear()
        self._sealed_at = time.monotonic()


def prepare_run(
    session: Session, environment: EnvironmentName, consumer: str | None, command: Sequence[str]
) -> dict[bytes, bytes]:
    """
    Return the environment for *command*; the record is durable.

    Raises:
        Missing: Required secrets have no value; all are listed.
        DeliveryError: A value cannot be carried by an environment.
    """
    if consumer is not None:
        session.manifest.consumer_in(environment, consumer)
    try:
        content = refresh_bundle(session, environment)
    except (Unavailable, Sealed) as failure:
        if session.store.watched(environment) is None:
            raise
        return _run_on_last_good(session, environment, consumer, command, failure)
    names = _wanted(session.manifest, environment, consumer)
    refuse_missing([row for row in content.lacking if row[0] in names], environment, consumer or "")
    _refuse_unfit(session.manifest, content, consumer, names)
    bundle = fast.Bundle(encode(content).reveal())
    return _environ(session, environment, consumer, command, bundle)


def _run_on_last_good(
    session: Session,
    environment: EnvironmentName,
    consumer: str | None,
    command: Sequence[str],
    failure: KeyturnError,
) -> dict[bytes, bytes]:
    from keyturn.app.lastgood import last_good

    found = last_good(session, environment, failure)
    age = format_duration(timedelta(seconds=found.age_seconds))
    session.notes.append(
        f"{failure.message}: `{command[0]}` is given the values of {age} ago (last_good)"
    )
    more = {"last_good_seconds": found.age_seconds}
    try:
        return _environ(session, environment, consumer, command, found.bundle, more=more)
    except (ValueError, KeyError):
        # The bundle itself says that something is lacking in it, or does not fit.
        raise failure from None


def _environ(
    session: Session,
    environment: EnvironmentName,
    consumer: str | None,
    command: Sequence[str],
    bundle: fast.Bundle,
    *,
    more: Mapping[str, str | int] | None = None,
) -> dict[bytes, bytes]:
    """Record what *command* is given of *bundle*, and return it."""
    wanted, config = fast.select(bundle, consumer or "")
    environ, versions = fast.child_environment(bundle, wanted, config=config)
    session.access.read(
        Action.ENVIRONMENT_DELIVER,
        str(environment),
        environment=environment,
        detail={
            "consumer": consumer or "",
            "versions": versions,
            "command": command[0],
            **(more or {}),
        },
    )
    return environ


def _wanted(
    manifest: Manifest, environment: EnvironmentName, consumer: str | None
) -> set[SecretName]:
    if consumer is None:
        return {secret.name for secret in manifest.secrets_in(environment)}
    return {secret.name for secret in manifest.consumer_secrets(consumer, environment)}


def refuse_missing(
    lacking: Sequence[tuple[SecretName, str]], environment: EnvironmentName, consumer: str
) -> None:
    """
    Refuse where anything required is lacking.

    Raises:
        Missing: All that is lacking, in the manifest's order.
    """
    if not lacking:
        return
    whom = f" for `{consumer}`" if consumer else ""
    count = len(lacking)
    noun = "value is" if count == 1 else "values are"
    lines = "\n".join(f"  {variable} (secret `{name}`)" for name, variable in lacking)
    raise Missing(
        f"{count} required {noun} missing in `{environment}`{whom}:\n{lines}",
        [variable for _, variable in lacking],
        hint=f"`keyturn generate --missing -e {environment}` makes what can be made; "
        f"`keyturn set NAME -e {environment}` takes the rest",
    )


def _refuse_unfit(
    manifest: Manifest, content: BundleContent, consumer: str | None, names: set[SecretName]
) -> None:
    """
    Refuse what the kernel cannot put into an environment.

    Raises:
        DeliveryError: With the secret that is too much for it, and where it can go instead.
    """
    for entry in content.secrets:
        if entry.name in names and entry.variable is not None:
            try:
                _check_alone(entry.variable, entry.value)
            except DeliveryError as error:
                error.hint = _by_file(entry.name, content.environment, error.hint or "")
                raise
    if consumer is None or manifest.consumer_in(content.environment, consumer).config:
        for name, text in content.config.items():
            _check_alone(name, SecretValue.from_text(text))


def _check_alone(variable: VariableName, value: SecretValue) -> None:
    # How much there is room for in all depends on the caller: the kernel tells at the start.
    check_variables({variable: value}, total_limit_bytes=sys.maxsize)


def _by_file(name: SecretName, environment: EnvironmentName, hint: str) -> str:
    return (
        f"{hint}, for which a consumer of its own names the secret `{name}` in keyturn.toml:\n"
        "  [consumers.NAME]\n"
        f'  secrets = ["{name}"]\n'
        f'  render = {{ path = "run/NAME", format = "files" }}\n'
        f"`keyturn render --consumer NAME -e {environment}` writes it; then start the program "
        f"with `keyturn run --consumer OTHER`, one that does not name `{name}`"
    )


def resolve(session: Session, environment: EnvironmentName, consumer: ConsumerName) -> Delivered:
    """
    Return what *consumer* is given in *environment* now; records nothing.

    Raises:
        Missing: Required secrets have no value; all are listed.
    """
    secrets = session.manifest.consumer_secrets(consumer, environment)
    current = session.store.read_many(environment, [secret.name for secret in secrets])
    refuse_missing(lacking_fields(secrets, current), environment, consumer)
    variables: dict[VariableName, SecretValue] = {}
    if session.manifest.consumer_in(environment, consumer).config:
        for name, text in session.manifest.config_in(environment).items():
            variables[name] = SecretValue.from_text(text)
    for entry in _entries(secrets, current):
        if entry.variable is not None:
            variables[entry.variable] = entry.value
    versions = {name: held.version.number for name, held in current.items()}
    return Delivered(variables=variables, versions=versions)
