"""
What a manifest says, frozen: the project, and every secret as each environment has it.

Nothing here can hold a value. A manifest comes from `keyturn.manifest.load`, which
has checked it; so every question below has an answer, and a name that is not in the
manifest is the caller's mistake and raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from keyturn.core.ids import (
    ConsumerName,
    EnvironmentName,
    FieldName,
    SecretName,
    StoreName,
    VariableName,
)
from keyturn.errors import NotFound, Problem, UsageError
from keyturn.manifest._nearest import nearest_name
from keyturn.manifest.consumers import Consumer
from keyturn.manifest.kinds import (
    GenerateSettings,
    KindSpec,
    Priority,
    SecretKind,
    Strategy,
    is_identifier,
    kind_spec,
)
from keyturn.manifest.stores import StoreSettings
from keyturn.manifest.windows import Window

__all__ = [
    "BackupSettings",
    "Contacts",
    "Environment",
    "Manifest",
    "Project",
    "ScheduleSettings",
    "Secret",
    "TargetValue",
]

TargetValue = str | int | bool | tuple[str, ...] | Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Project:
    """The project that the manifest belongs to."""

    name: str
    owner: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Contacts:
    """
    Where notices go; None or empty where nobody is named.

    Args:
        smtp: The mail server, `smtp://HOST[:PORT]` or `smtps://`.
        smtp_login: The secret with its user name and password.
        sender: The address that mail comes from.
    """

    security: str | None = None
    on_call: str | None = None
    users: tuple[str, ...] = ()
    smtp: str | None = None
    smtp_login: SecretName | None = None
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """
    How the schedule spreads its work.

    Args:
        jitter_percent: Part of max_age before the due date over which rotations are spread.
        pair_distance: How far apart members of a pair are rotated.
    """

    jitter_percent: int = 5
    pair_distance: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class BackupSettings:
    """
    What every backup is made with.

    Args:
        recipients: The age recipients that can open it.
    """

    recipients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Environment:
    """
    A place where the project runs.

    Args:
        protected: Changes ask for a confirmation and a reason.
        freeze: When the schedule rotates nothing.
        timezone: Whose clock *freeze* is read by, as the IANA database names it.
        last_good: How old the values may be that `run` uses while the store does not
            answer; None for never.
    """

    name: EnvironmentName
    store: StoreName
    protected: bool = False
    freeze: tuple[Window, ...] = ()
    timezone: str = "UTC"
    last_good: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """
    What the manifest says of one secret.

    Args:
        fields: Each field and the variable that carries it; None for none.
        identity: Plain text of the fields that only name something, such as a user
            name, for use when the rest is generated.
        generate: How new values are made; None where a person or a vendor supplies them.
        only: The environments that have it; None for all.
        depends_on: Secrets that come before it, its target's `admin` among them.
        target: What it opens; empty where nothing is said of it.
        automatic: The schedule rotates it; otherwise it only reminds.
        pair: Secrets that share this word are never rotated close together.
    """

    name: SecretName
    kind: SecretKind
    fields: Mapping[FieldName, VariableName | None]
    purpose: str = ""
    owner: str | None = None
    priority: Priority = Priority.MEDIUM
    max_age: timedelta | None = None
    grace: timedelta = timedelta(0)
    strategy: Strategy | None = None
    required: bool = True
    depends_on: tuple[SecretName, ...] = ()
    identity: Mapping[FieldName, str] = field(default_factory=dict)
    generate: GenerateSettings | None = None
    only: tuple[EnvironmentName, ...] | None = None
    target: Mapping[str, TargetValue] = field(default_factory=dict)
    automatic: bool = True
    pair: str | None = None

    @property
    def spec(self) -> KindSpec:
        """What holds for every secret of this kind."""
        return kind_spec(self.kind)

    @property
    def variables(self) -> Mapping[VariableName, FieldName]:
        """The variables that carry it, each with its field."""
        return {name: key for key, name in self.fields.items() if name is not None}

    @property
    def identifiers(self) -> tuple[FieldName, ...]:
        """The fields that name rather than prove; they are never random."""
        return tuple(key for key in self.fields if is_identifier(self.kind, key))

    def is_in(self, environment: EnvironmentName) -> bool:
        """Tell whether *environment* has this secret."""
        return self.only is None or environment in self.only


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    A checked manifest.

    Args:
        config: Each setting's text per environment; one that is missing there has none.
        consumers: As written; `consumer_in` fills in what depends on the environment.
        secrets: As written; `secret_in` applies what the environment overrides.
        resolved: Every environment's secrets, with overrides and settings applied.
        resolved_consumers: Every environment's consumers, with settings applied.
        warnings: What is allowed but probably not meant.
    """

    project: Project
    contacts: Contacts
    environments: Mapping[EnvironmentName, Environment]
    stores: Mapping[StoreName, StoreSettings]
    config: Mapping[VariableName, Mapping[EnvironmentName, str]]
    consumers: Mapping[ConsumerName, Consumer]
    secrets: Mapping[SecretName, Secret]
    resolved: Mapping[EnvironmentName, Mapping[SecretName, Secret]]
    resolved_consumers: Mapping[EnvironmentName, Mapping[ConsumerName, Consumer]]
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    backup: BackupSettings = field(default_factory=BackupSettings)
    warnings: tuple[Problem, ...] = ()

    def environment(self, name: str) -> Environment:
        """
        Return the environment called *name*.

        Raises:
            NotFound: There is none; the hint names the nearest.
        """
        found = self.environments.get(EnvironmentName(name))
        if found is None:
            raise NotFound(
                f"no environment `{_shown(name)}` in the manifest",
                hint=_nearest_hint(name, self.environments),
            )
        return found

    def secret_in(self, environment: EnvironmentName, name: str) -> Secret:
        """
        Return the secret *name* as *environment* has it: overrides and settings applied.

        Raises:
            NotFound: There is no such secret, or *environment* does not have it.
        """
        self.environment(environment)
        found = self.resolved[environment].get(SecretName(name))
        if found is not None:
            return found
        declared = self.secrets.get(SecretName(name))
        if declared is not None:
            raise NotFound(
                f"secret `{name}` does not exist in `{environment}`",
                hint=f"the manifest has it only in {_listed(declared.only or ())}",
            )
        raise NotFound(
            f"no secret `{_shown(name)}` in the manifest",
            hint=_nearest_hint(name, self.resolved[environment]),
        )

    def secrets_in(self, environment: EnvironmentName) -> tuple[Secret, ...]:
        """Return every secret of *environment*, in the manifest's order."""
        self.environment(environment)
        return tuple(self.resolved[environment].values())

    def config_in(self, environment: EnvironmentName) -> dict[VariableName, str]:
        """Return the plain settings of *environment*."""
        self.environment(environment)
        return {
            name: values[environment]
            for name, values in self.config.items()
            if environment in values
        }

    def consumer_in(self, environment: EnvironmentName, name: str) -> Consumer:
        """
        Return the consumer *name* with its `${NAME}`s filled in for *environment*.

        Raises:
            NotFound: There is no such consumer.
        """
        self.environment(environment)
        found = self.resolved_consumers[environment].get(ConsumerName(name))
        if found is None:
            raise NotFound(
                f"no consumer `{_shown(name)}` in the manifest",
                hint=_nearest_hint(name, self.consumers),
            )
        return found

    def consumers_of(self, environment: EnvironmentName, name: str) -> tuple[Consumer, ...]:
        """Return every consumer that is given the secret *name* in *environment*."""
        secret = self.secret_in(environment, name)
        return tuple(
            consumer
            for consumer in self.resolved_consumers[environment].values()
            if secret.name in consumer.secrets
        )

    def consumer_secrets(self, consumer: str, environment: EnvironmentName) -> tuple[Secret, ...]:
        """
        Return the secrets that *consumer* is given in *environment*, in the manifest's order.

        Raises:
            NotFound: There is no such consumer or environment.
        """
        wanted = frozenset(self.consumer_in(environment, consumer).secrets)
        return tuple(s for s in self.resolved[environment].values() if s.name in wanted)

    def find_field(self, text: str, environment: EnvironmentName) -> tuple[SecretName, FieldName]:
        """
        Return the field that *text* means: `session`, `db.password` or `DB_PASSWORD`.

        Raises:
            NotFound: Nothing in *environment* is called so; the hint names the nearest.
            UsageError: The secret has several fields and *text* names none of them.
        """
        self.environment(environment)
        secrets = self.resolved[environment]
        head, dot, tail = text.partition(".")
        secret = secrets.get(SecretName(head))
        if secret is None:
            return self._find_variable(text, environment)
        if dot:
            return secret.name, _field_of(secret, tail)
        if len(secret.fields) == 1:
            return secret.name, next(iter(secret.fields))
        choices = ", ".join(f"`{secret.name}.{key}`" for key in secret.fields)
        raise UsageError(
            f"secret `{secret.name}` has several fields",
            hint=f"name one of them: {choices}",
            code="usage.field",
        )

    def _find_variable(
        self, text: str, environment: EnvironmentName
    ) -> tuple[SecretName, FieldName]:
        secrets = self.resolved[environment]
        for secret in secrets.values():
            found = secret.variables.get(VariableName(text))
            if found is not None:
                return secret.name, found
        if text in self.config:
            raise NotFound(
                f"`{text}` is a plain setting, not a secret",
                hint="its value stands in the manifest under `[config]`",
            )
        if SecretName(text.partition(".")[0]) in self.secrets:
            self.secret_in(environment, text.partition(".")[0])
        names = [*secrets, *(name for s in secrets.values() for name in s.variables)]
        raise NotFound(
            f"no secret or variable `{_shown(text)}` in `{environment}`",
            hint=_nearest_hint(text, names),
        )

    def order(self, environment: EnvironmentName) -> tuple[SecretName, ...]:
        """Return the secrets of *environment*, each after all that it depends on."""
        self.environment(environment)
        secrets = self.resolved[environment]
        done: dict[SecretName, None] = {}
        for first in secrets:
            # Depth first without recursion: a chain may be as long as the manifest.
            stack = [first]
            while stack:
                name = stack[-1]
                waiting = [n for n in secrets[name].depends_on if n not in done]
                if waiting and name not in done:
                    stack.extend(reversed(waiting))
                else:
                    done[stack.pop()] = None
        return tuple(done)


def _field_of(secret: Secret, name: str) -> FieldName:
    if FieldName(name) in secret.fields:
        return FieldName(name)
    raise NotFound(
        f"secret `{secret.name}` has no field `{_shown(name)}`",
        hint=f"it has {_listed(secret.fields)}",
    )


def _shown(text: str) -> str:
    """Return *text* for a message: what a person typed may be long, or have control characters."""
    cut = text if len(text) <= 64 else text[:61] + "..."  # noqa: PLR2004 - the length of a name
    return "".join(c if c.isprintable() else "?" for c in cut)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _nearest_hint(name: str, candidates: Iterable[str]) -> str:
    pool = [str(candidate) for candidate in candidates]
    near = nearest_name(name, pool)
    if near is not None:
        return f"did you mean `{near}`?"
    if not pool:
        return "none is declared; add one to the manifest"
    shown = _listed(pool[:8]) + (", ..." if len(pool) > 8 else "")  # noqa: PLR2004 - one line
    return f"declared are {shown}"
