"""Values that no outside system knows: made here, and in use as soon as they are delivered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.targets._base import OnePhase

__all__ = ["Generated", "build"]


def build(context: KindContext) -> RotationKind:
    """Return the steps of a secret of kind `generated`."""
    return Generated(make=context.make)


class Generated(OnePhase):
    """
    A kind with no target. Its old value works until its consumers have the new one.

    Args:
        make: Returns fresh values for every field.
    """

    def __init__(self, *, make: Callable[[], Values]) -> None:
        self._make = make

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - the port's
        """Return what a rotation will do."""
        return [
            ("create", "a new value"),
            ("prove", "nothing: no target to ask"),
        ]

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """Return new values."""
        return self._make()

    def apply(self, current: Values | None, pending: Values) -> None:
        """Do nothing: there is no target."""

    def check(self, current: Values | None, pending: Values) -> Evidence:  # noqa: ARG002 - the port's
        """Say that there is nothing to check it against."""
        return Evidence("not checked", "no target to ask")

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Do nothing: there is no target."""

    def retire(self, current: Values, old: Values) -> None:
        """Do nothing: there is no target."""

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:  # noqa: ARG002 - the port's
        """Say that nothing was proven: consumers stopped using the old value, no more."""
        return Evidence("not proven", "no target to ask")

    def probe(self, values: Values) -> Evidence:  # noqa: ARG002 - the port's
        """Say that there is nothing to try it on."""
        return Evidence("not tried", "no target to ask")
