"""
Kinds whose new value every process knows before anything is made with it.

    phase 0   the old value is used; the new one is known
    phase 1   the new value is used; the old one is known
    phase 2   the new value alone

Processes take a version one after the other. In this order none of them meets what it
cannot read, whether the rotation goes forward or back.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.core.model import Values
from keyturn.targets._base import OnePhase

__all__ = ["LAST_PHASE", "LearntFirst"]

LAST_PHASE = 2

# How long processes may take to read what was delivered to them.
_SETTLE_SECONDS = 600


class LearntFirst(OnePhase):
    """The waits of such a kind, and the steps in which no system is told anything."""

    def first_wait(self, grace_seconds: int) -> int:
        """Return how long processes may take to learn the new value: the grace at most."""
        return min(grace_seconds, _SETTLE_SECONDS)

    def later_waits(self, grace_seconds: int) -> Sequence[int]:
        """Return the grace, in which the new value is used, then nothing."""
        return (grace_seconds, 0)

    def apply(self, current: Values | None, pending: Values) -> None:
        """Do nothing: the application is told by delivery."""

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Do nothing: nothing was made with the new value."""
