"""
What a kind of credential is tested in: a real system, or its simulator, and a way to use it.

A world is started by the tests and used by an ordinary client of that system, never
by the adapter under test. The suites that run over every world are in
`tests/integration/test_kinds.py` and `tests/crash/test_crash_kinds.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Protocol

from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import SecretRef
from keyturn.core.ports import KindContext
from keyturn.core.value import SecretValue
from keyturn.generate import Settings, generate_fields
from keyturn.targets import build

REF = SecretRef(EnvironmentName("production"), SecretName("it"))


@dataclass(frozen=True)
class Setup:
    """
    All that another process needs to build the kind; every part can be JSON.

    Args:
        first: A credential that works, made as a person would have made it; empty for a
            world in which the first one is made by a rotation.
        admin: The values of the administering secret.
        overlaps: What the kind is expected to say of itself.
        guided: A person supplies the value and ends the old one.
    """

    kind: str
    fields: tuple[str, ...]
    target: dict[str, object]
    first: dict[str, str]
    admin: dict[str, str] | None = None
    companions: dict[str, dict[str, str]] = field(default_factory=dict)
    strategy: str | None = None
    grace_seconds: int = 3600
    overlaps: bool = True
    guided: bool = False

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @staticmethod
    def from_json(data) -> Setup:
        return Setup(**{**data, "fields": tuple(data["fields"])})


class World(Protocol):
    """One system, started for the tests."""

    setup: Setup

    def use(self, values: dict[str, str]) -> bool:
        """Use *values* once, as an ordinary client does; False where they are refused."""
        ...

    def credentials(self) -> set[str]:
        """Return a name for every credential that the system would accept now."""
        ...

    def session(self, values: dict[str, str]) -> AbstractContextManager[Callable[[], bool]]:
        """
        Log in and stay; what is returned tells whether that session still lives.

        Only of systems whose sessions would outlive the credential that began them.
        """
        ...

    def restart(self) -> None:
        """Stop the system and start it again; only of real servers that keep what they know."""
        ...

    def supply(self) -> dict[str, str]:
        """Guided kinds: return what a person would fetch from the provider now."""
        ...

    def person_ends_old(self) -> None:
        """Guided kinds: do what the person is told to do about the old credential."""
        ...

    def close(self) -> None:
        """Stop what was started."""
        ...


class NotSupplied:
    """A supplier with nobody behind it."""

    def supply(self, instructions, fields, examine):
        return None


class Supplied:
    """A supplier that has *values* at hand, as from standard input."""

    def __init__(self, values):
        self.values = secret_values(values)

    def supply(self, instructions, fields, examine):
        examine(self.values)
        return self.values


def secret_values(texts):
    return {FieldName(name): SecretValue.from_text(text) for name, text in texts.items()}


def texts_of(values):
    return {str(name): value.reveal_text() for name, value in values.items()}


def given_name(setup):
    """Return the user name that is not drawn by lot, where the secret has one."""
    if "username" not in setup.fields:
        return {}
    name = "unused" if setup.kind == "postgres-login" else setup.first["username"]
    return {FieldName("username"): SecretValue.from_text(name)}


def kind_in(setup, *, supplier=None, clock=None, protected=True):
    """Build the kind of *setup*, as the application does."""

    def make():
        return generate_fields(
            setup.kind,
            tuple(FieldName(name) for name in setup.fields),
            Settings(algorithm=setup.target.get("algorithm")),
            entropy=SystemEntropy(),
            # As the application does: the kind chooses PostgreSQL's, another keeps its own.
            given=given_name(setup),
        )

    context = KindContext(
        ref=REF,
        project="clipper",
        protected=protected,
        fields=tuple(FieldName(name) for name in setup.fields),
        strategy=setup.strategy,
        target=setup.target,
        admin=None if setup.admin is None else secret_values(setup.admin),
        admin_name=None if setup.admin is None else "it-admin",
        grace_seconds=setup.grace_seconds,
        make=make,
        supplier=supplier or NotSupplied(),
        clock=clock or SystemClock(),
        entropy=SystemEntropy(),
        companions={name: secret_values(texts) for name, texts in setup.companions.items()},
    )
    return build(setup.kind, context)
