"""
What a kind says of trying credentials that are over, beside its steps.

A system may count failures and lock whoever they are counted against, so an old one is
not simply tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keyturn.core.model import Values
from keyturn.core.value import SecretValue

__all__ = ["Evidence", "Triable"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    What a check saw.

    Args:
        method: What was done, such as `login refused`.
        detail: The other side's words, shortened; never a value.
    """

    method: str
    detail: str


class Triable(Protocol):
    """How old values of a secret may be tried."""

    def counted_on(self, values: Values) -> SecretValue | None:
        """
        Return whom a failed try of *values* is counted against, where others use that too.

        Such as the name of a login, or a role. None where *values* are an identity of
        their own, or where failures are not counted.
        """
        ...

    def ask_dead(self, old: Values, *, current: Values) -> Evidence | None:
        """
        Return what shows that *old* is no longer accepted, without trying it.

        Returns:
            None where only a try tells.

        Raises:
            VerificationFailed: It is still known there.
        """
        ...
