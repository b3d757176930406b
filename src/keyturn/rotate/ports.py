"""What the runner asks of others, and what it says to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from keyturn.core.model import SecretRef
from keyturn.rotate.saga import Step

__all__ = ["DeliveryPort", "Listener", "Progress", "Recorder"]


class Recorder(Protocol):
    """Where the runner's audit records go."""

    def record(
        self,
        action: str,
        object: str,  # noqa: A002 - the audit log's own word for it
        outcome: str,
        detail: Mapping[str, str | int],
    ) -> None:
        """
        Write one record, in the control database's open transaction.

        Raises:
            KeyturnError: It cannot be written; then the step does not happen either.
        """
        ...


class DeliveryPort(Protocol):
    """How a version reaches those who use it."""

    def deliver(self, ref: SecretRef, version: int) -> Sequence[str]:
        """
        Bring every consumer of *ref* to *version* and wait until each is healthy on it.

        Returns:
            What was done, a line each; never a value.

        Raises:
            KeyturnError: A consumer did not come up on *version*. Called again it
                brings those that are there already to the same end.
        """
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """
    One thing that a person who watches is told.

    Args:
        event: `begun`, `done`, `failed`, `retried`, `waiting` or `interrupted`.
    """

    step: Step
    event: str
    detail: str


Listener = Callable[[Progress], None]
