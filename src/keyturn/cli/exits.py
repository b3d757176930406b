"""
Every exit code, here and nowhere else. `keyturn help exit-codes` prints this table.

`keyturn run` ends with its program's own code, and like `env(1)` with 126 or 127
where the program cannot be started.
"""

from __future__ import annotations

from enum import IntEnum

from keyturn import errors

__all__ = ["MEANINGS", "Exit", "exit_of"]


class Exit(IntEnum):
    """The codes."""

    DONE = 0
    BAD = 1
    USAGE = 2
    NOTHING = 3
    DENIED = 4
    CONFLICT = 5
    UNKNOWN = 6
    UNREACHABLE = 7
    BUG = 70
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.DONE: "done",
    Exit.BAD: "checked, and something is wrong: a finding, a failed test, a broken chain, "
    "a missing value, a rotation that was rolled back",
    Exit.USAGE: "the command line or the manifest is wrong",
    Exit.NOTHING: "there was nothing to check",
    Exit.DENIED: "not allowed, or the store is sealed",
    Exit.CONFLICT: "somebody else was first, or holds what is needed",
    Exit.UNKNOWN: "the outcome is unknown: run the command again, or `keyturn rotate --resume`",
    Exit.UNREACHABLE: "the store, a target or the disk did not answer, or it is too early: "
    "try again later",
    Exit.BUG: "a fault in Keyturn itself: please report it",
    Exit.INTERRUPTED: "interrupted",
}

_BY_FAMILY: dict[type[errors.KeyturnError], Exit] = {
    errors.UsageError: Exit.USAGE,
    errors.ManifestError: Exit.USAGE,
    errors.AccessDenied: Exit.DENIED,
    errors.Sealed: Exit.DENIED,
    errors.NotFound: Exit.USAGE,
    errors.Missing: Exit.BAD,
    errors.Conflict: Exit.CONFLICT,
    errors.StoreError: Exit.UNREACHABLE,
    errors.Unavailable: Exit.UNREACHABLE,
    errors.Rejected: Exit.BAD,
    errors.Corrupt: Exit.BAD,
    errors.OutcomeUnknown: Exit.UNKNOWN,
    errors.VerificationFailed: Exit.BAD,
    errors.RotationFailed: Exit.BAD,
    errors.NotYet: Exit.UNREACHABLE,
    errors.IntegrityError: Exit.BAD,
    errors.DeliveryError: Exit.BAD,
    errors.InternalError: Exit.BUG,
    errors.KeyturnError: Exit.BUG,
}


def exit_of(error: errors.KeyturnError) -> Exit:
    """Return the code for *error*: the one of its nearest family."""
    for family in type(error).__mro__:
        code = _BY_FAMILY.get(family)
        if code is not None:
            return code
    return Exit.BUG
