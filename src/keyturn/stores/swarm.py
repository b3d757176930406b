"""
Docker Swarm as a store: secrets that containers find in `/run/secrets`.

What Swarm does not give back is kept sealed in Keyturn's own store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from keyturn._internal.docker_engine import DEFAULT_HOST, Engine, EngineAddress
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import SecretRef
from keyturn.core.ports import StoreCapabilities
from keyturn.errors import UsageError
from keyturn.stores._context import StoreContext
from keyturn.stores._docker_swarm import MAX_SECRET_BYTES, SwarmNaming, SwarmPlace, SwarmSecret
from keyturn.stores._place import Place, plain_key
from keyturn.stores.outside import OutsideStore

__all__ = ["SwarmLayout", "SwarmSecret", "SwarmSettings", "build", "layout"]

_CAPABILITIES: Final = StoreCapabilities(
    atomic_promote=True,
    compare_and_set=True,
    history=True,
    transactional=False,
    max_value_bytes=MAX_SECRET_BYTES,
)
# What Swarm takes at the start of a name.
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_MAJORITY = 3
_WORDS_LIMIT = 200


@dataclass(frozen=True, slots=True)
class SwarmSettings:
    """
    The swarm, and what things are called in it.

    Args:
        host: A manager, as `unix:///PATH` or `tcp://HOST:PORT`.
        tls_folder: Holds `ca.pem`, `cert.pem` and `key.pem`; needed beyond this machine.
        stem: Returns what the names of an environment's secrets begin with.
        live_key: Returns the name that a container has a field by.
        facts: What people should see beside a secret, such as its owner.
    """

    stem: Callable[[EnvironmentName], str]
    host: str = DEFAULT_HOST
    tls_folder: Path | None = None
    live_key: Callable[[EnvironmentName, SecretName, FieldName], str] = lambda _, name, field: (
        plain_key(name, field)
    )
    facts: Callable[[SecretRef], Mapping[str, str]] = lambda _: {}


def build(context: StoreContext) -> OutsideStore:
    """
    Return the store that *context* describes.

    Raises:
        UsageError: The prefix cannot stand in a secret's name.
    """
    return OutsideStore(layout(context), clock=context.clock, entropy=context.entropy)


def layout(context: StoreContext) -> SwarmLayout:
    """
    Return the swarm of *context*, for what a store cannot be asked: advice, names, removal.

    Raises:
        UsageError: The prefix cannot stand in a secret's name.
    """
    prefix = context.text("prefix") or "{project}"
    if "{environment}" not in prefix:
        prefix += "_{environment}"
    folder = context.text("tls_folder")
    settings = SwarmSettings(
        stem=lambda environment: context.filled(prefix, environment),
        host=context.text("host") or DEFAULT_HOST,
        tls_folder=None if folder is None else context.folder / folder,
        live_key=context.live_key,
        facts=context.facts,
    )
    return SwarmLayout(settings, aside=context.keep, clock=context.clock, entropy=context.entropy)


@final
class SwarmLayout:
    """
    Swarm's secrets as a `Layout`: one place an environment.

    Args:
        aside: Gives the place that keeps what Swarm does not give back, one document an
            environment; nothing is live in it.
    """

    history_limit = None

    def __init__(
        self,
        settings: SwarmSettings,
        *,
        aside: Callable[[EnvironmentName], Place],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._settings = settings
        self._aside = aside
        self.address = EngineAddress(settings.host, settings.tls_folder)
        self._engine = Engine(self.address, clock=clock, entropy=entropy)

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store guarantees."""
        return _CAPABILITIES

    @property
    def where(self) -> str:
        """For messages."""
        return f"the swarm of `{self._settings.host}`"

    def place(self, ref: SecretRef) -> SwarmPlace:
        """Return the place that holds *ref*."""
        return self._place(ref.environment, ref)

    def places(
        self, environment: EnvironmentName, names: Iterable[SecretName] | None
    ) -> Iterable[SwarmPlace]:
        """Return the one place of *environment*."""
        del names
        return [self._place(environment, None)]

    def current(self, environment: EnvironmentName) -> Mapping[str, str]:
        """
        Return the names of the secrets that are current, by the name that containers have them by.

        Raises:
            Unavailable: No answer.
        """
        found = self._place(environment, None).current()
        return {key: secret.name for key, secret in sorted(found.items())}

    def remove_unused(self, environment: EnvironmentName) -> list[str]:
        """
        Remove old secrets that no service uses; return the names of those still in use.

        Raises:
            Unavailable: No answer.
            OutcomeUnknown: No answer to a removal; call again.
        """
        return self._place(environment, None).remove_unused()

    def advice(self, environment: EnvironmentName) -> list[str]:
        """
        Return in words what a person should know of this swarm.

        Raises:
            Unavailable: No answer.
            Sealed: The swarm is locked.
            Rejected: The daemon is no manager of a swarm.
        """
        swarm = self._engine.get("/swarm").require("what its swarm is")
        info = self._engine.get("/info").require("what it is")["Swarm"]
        said = _managers(info) + _autolock(swarm)
        said += [
            f"the swarm's secret `{name}` is named like one of keyturn's and is none: it was made"
            " by hand, and keyturn never uses it"
            for name in self._place(environment, None).strangers()
        ]
        return said

    def close(self) -> None:
        """Nothing is held: each call is a connection."""

    def _place(self, environment: EnvironmentName, ref: SecretRef | None) -> SwarmPlace:
        settings = self._settings
        stem = settings.stem(environment)
        if not _STEM.fullmatch(stem):
            raise UsageError(
                f"{stem!a} cannot stand at the start of a swarm secret's name",
                hint="write `prefix` with letters, digits, `-`, `_` and `.`",
                code="store.prefix",
            )

        def labels(name: SecretName | None) -> dict[str, str]:
            if name is None:
                return {"keyturn.environment": environment}
            facts = settings.facts(SecretRef(environment, name))
            told = {f"keyturn.{fact}": text for fact, text in facts.items()}
            return {**told, "keyturn.environment": environment, "keyturn.secret": name}

        naming = SwarmNaming(
            stem, lambda name, field: settings.live_key(environment, name, field), labels
        )
        return SwarmPlace(self._engine, self._aside(environment), naming, ref=ref, where=self.where)


def _managers(info: Any) -> list[str]:
    count = int(info.get("Managers") or 0)
    said = []
    if info.get("Error"):
        said.append(f"the manager reports: {str(info['Error'])[:_WORDS_LIMIT]}")
    if count < _MAJORITY:
        noun = "manager" if count == 1 else "managers"
        said.append(f"the swarm has {count} {noun}: without one nothing in it can be changed")
    return said


def _autolock(swarm: Any) -> list[str]:
    if swarm["Spec"].get("EncryptionConfig", {}).get("AutoLockManagers"):
        return []
    update = "`docker swarm update --autolock=true`"
    return [f"autolock is off: the key of the managers' log lies beside it on disk; run {update}"]
