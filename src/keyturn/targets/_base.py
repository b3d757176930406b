"""What most kinds have in common, so that each says only what is its own."""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import InternalError

__all__ = ["OnePhase"]


class OnePhase:
    """
    A kind whose consumers are brought to one new version, and which can go back.

    What it makes in `create` is known to nobody else, so that nothing is left
    behind by a lost answer; a kind whose provider makes the value says otherwise.
    """

    overlaps = True
    reversible = True

    def first_wait(self, grace_seconds: int) -> int:
        """Return the grace: old and new are valid for so long."""
        return grace_seconds

    def later_waits(self, grace_seconds: int) -> Sequence[int]:  # noqa: ARG002 - the port's
        """Return nothing: there is one phase."""
        return ()

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:
        """Do nothing: `create` leaves nothing at the target."""

    def sweep(self, token: Token, *, current: Values) -> None:
        """Do nothing: `create` leaves nothing at the target."""

    def advance(self, current: Values, phase: int) -> Values:  # noqa: ARG002 - the port's
        """
        Never called.

        Raises:
            InternalError: It was.
        """
        raise InternalError(f"a kind of one phase was asked for phase {phase}")

    def recede(self, current: Values, phase: int) -> None:
        """Do nothing: there is no later phase."""

    def counted_on(self, values: Values) -> SecretValue | None:  # noqa: ARG002 - the port's
        """Return None: a failed try of *values* is held against nobody else."""
        return None

    def ask_dead(self, old: Values, *, current: Values) -> Evidence | None:  # noqa: ARG002 - the port's
        """Return None: only a try tells."""
        return None

    def rehearsal(self) -> RotationKind | None:
        """Return None: what this would try cannot be tried without doing it."""
        return None
