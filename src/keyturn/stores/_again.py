"""Doing a write again where somebody else was first, or where no answer came."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.errors import (
    AccessDenied,
    Conflict,
    InternalError,
    OutcomeUnknown,
    Rejected,
    Sealed,
    Unavailable,
)
from keyturn.stores._place import MARK_CODE

__all__ = ["again"]

# Sixteen writers of one document at once are each served within these tries.
_TRIES = 40
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.25

T = TypeVar("T")


def again(act: Callable[[], T], *, clock: Clock, entropy: Entropy) -> T:
    """
    Return what *act* returns; it looks before it writes, so that it may be called again.

    Raises:
        Conflict: `store.mark`: others write faster than it can be written.
        OutcomeUnknown: No answer came, however often it was asked; or none did, and then
            it could not be looked.
    """
    doubt: OutcomeUnknown | None = None
    for attempt in range(1, _TRIES + 1):
        try:
            return act()
        except (Conflict, OutcomeUnknown) as error:
            lost = isinstance(error, Conflict) and error.code == MARK_CODE
            if attempt == _TRIES or not (lost or isinstance(error, OutcomeUnknown)):
                raise
            doubt = error if isinstance(error, OutcomeUnknown) else doubt
        except (AccessDenied, Rejected, Sealed, Unavailable) as error:
            # Of themselves they say that nothing was written, which nobody knows now.
            if doubt is not None:
                raise doubt from error
            raise
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        clock.sleep(longest * (1 + entropy.random_bytes(1)[0] / 255) / 2)
    raise InternalError("a write was given up without a reason")
