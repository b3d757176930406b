"""The nouns of the domain, frozen; none of the metadata types can hold a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.value import SecretValue

__all__ = [
    "History",
    "Move",
    "Origin",
    "Principal",
    "SecretRef",
    "SecretState",
    "Stage",
    "Values",
    "Version",
    "VersionedValue",
]

# All fields of one version. They change together.
Values = Mapping[FieldName, SecretValue]


class Stage(StrEnum):
    """A pointer to a version."""

    CURRENT = "current"
    PENDING = "pending"
    PREVIOUS = "previous"


class Origin(StrEnum):
    """How a version came to be."""

    GENERATED = "generated"
    SET = "set"
    IMPORTED = "imported"
    ROTATED = "rotated"


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """A secret in one environment."""

    environment: EnvironmentName
    name: SecretName

    def __str__(self) -> str:
        return f"{self.environment}/{self.name}"


@dataclass(frozen=True, slots=True)
class Version:
    """
    What is known of one immutable version.

    Args:
        number: Rises from 1 within the secret and is never used twice.
        fields: The names of the fields it holds.
        destroyed: The value is gone for good; the number stays taken.
        drifted: Somebody changed the live value behind Keyturn's back, after this
            version was made current; what is read is theirs.
    """

    ref: SecretRef
    number: int
    created_at: datetime
    origin: Origin
    fields: tuple[FieldName, ...]
    destroyed: bool = False
    drifted: bool = False


@dataclass(frozen=True, slots=True)
class SecretState:
    """Where the stages of a secret point; None where a stage points at nothing."""

    ref: SecretRef
    current: int | None
    pending: int | None
    previous: int | None
    next_number: int

    def at(self, stage: Stage) -> int | None:
        """Return the version number that *stage* points at."""
        match stage:
            case Stage.CURRENT:
                return self.current
            case Stage.PENDING:
                return self.pending
            case Stage.PREVIOUS:
                return self.previous


@dataclass(frozen=True, slots=True)
class VersionedValue:
    """A version together with its values."""

    version: Version
    values: Values


@dataclass(frozen=True, slots=True)
class History:
    """
    All that a store has of one secret: what another store needs to go on with it.

    Args:
        versions: From number 1 on, each with its values, or None where they are gone.
    """

    state: SecretState
    versions: tuple[tuple[Version, Values | None], ...]

    @property
    def ref(self) -> SecretRef:
        """Whose it is."""
        return self.state.ref

    def values(self, number: int | None) -> Values | None:
        """Return the values of version *number*, where they are there."""
        found = (values for version, values in self.versions if version.number == number)
        return next(found, None)

    def version(self, number: int | None) -> Version | None:
        """Return what is known of version *number*."""
        return next((version for version, _ in self.versions if version.number == number), None)


@dataclass(frozen=True, slots=True)
class Move:
    """
    What a store is asked to hold of one secret.

    Args:
        expected: The state that it has now.
    """

    history: History
    expected: SecretState


@dataclass(frozen=True, slots=True)
class Principal:
    """
    An authenticated caller.

    Args:
        name: For a local user `NAME`, as the system's user database knows the uid.
        kind: `local` for a user of this machine.
        uid: Numeric user id for a local user.
    """

    name: str
    kind: str
    uid: int | None = None
