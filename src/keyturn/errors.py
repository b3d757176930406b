"""
Every exception that Keyturn raises on purpose.

    KeyturnError
    ├── UsageError            the command line was not understood
    ├── ManifestError         keyturn.toml is wrong (carries every problem found)
    ├── AccessDenied          the principal may not do this
    ├── Sealed                the root key is absent
    ├── NotFound              no such secret, version, project
    ├── Missing               required secrets have no value
    ├── Conflict              somebody else was first
    ├── StoreError
    │   ├── Unavailable       no answer: retry later
    │   ├── Rejected          answered no
    │   └── Corrupt           what came back is not what was stored
    ├── OutcomeUnknown        a write may or may not have happened: recover
    ├── VerificationFailed    a check of a credential or copy did not hold
    ├── NotYet                a rotation waits: for a person, or for time to pass
    ├── RotationFailed        a rotation ended without the new version in use
    ├── IntegrityError        the audit chain or the store was tampered with or rolled back
    ├── DeliveryError         a value cannot be handed over in this form
    └── InternalError         our bug

An exception carries no value, never logs, never exits, and knows no HTTP. The
exit code of each family stands in `keyturn.cli.exits`, nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "AccessDenied",
    "Conflict",
    "Corrupt",
    "DeliveryError",
    "IntegrityError",
    "InternalError",
    "KeyturnError",
    "ManifestError",
    "Missing",
    "NotFound",
    "NotYet",
    "OutcomeUnknown",
    "Problem",
    "Rejected",
    "RotationFailed",
    "Sealed",
    "StoreError",
    "Unavailable",
    "UsageError",
    "VerificationFailed",
]


class KeyturnError(Exception):
    """
    The root of the tree.

    Args:
        message: What went wrong, and on what; lower case, no full stop, no values.
        hint: What to do next, as a sentence or a command.
        code: Stable identifier such as `store.unavailable`; defaults to the class's.
        context: Names and numbers for machines; never a value.
    """

    code = "keyturn.error"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        context: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code
        self.context: dict[str, str | int] = dict(context or {})


class UsageError(KeyturnError):
    code = "usage"


class Problem:
    """
    One fault in a manifest: where, what, and the fix.

    Args:
        line: One-based line in the file, or None when the fault has no line.
        key: Dotted key, such as `secrets.db.kind`.
    """

    __slots__ = ("column", "file", "fix", "key", "line", "message")

    def __init__(
        self,
        *,
        file: str,
        line: int | None,
        key: str,
        message: str,
        fix: str,
        column: int | None = None,
    ) -> None:
        self.file = file
        self.line = line
        self.column = column
        self.key = key
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        key = f" `{self.key}`:" if self.key else ""
        return f"{place}:{key} {self.message} ({self.fix})"


class ManifestError(KeyturnError):
    """*problems* holds every fault found in one reading, in file order."""

    code = "manifest.invalid"

    def __init__(self, problems: list[Problem], *, hint: str | None = None) -> None:
        count = len(problems)
        noun = "problem" if count == 1 else "problems"
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{count} {noun} in the manifest:\n{lines}", hint=hint)
        self.problems = problems


class AccessDenied(KeyturnError):
    code = "access.denied"


class Sealed(KeyturnError):
    code = "store.sealed"


class NotFound(KeyturnError):
    code = "not.found"


class Missing(KeyturnError):
    """*names* lists every required secret that has no value."""

    code = "secret.missing"

    def __init__(self, message: str, names: list[str], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, context={"names": ", ".join(names)})
        self.names = names


class Conflict(KeyturnError):
    code = "conflict"


class StoreError(KeyturnError):
    code = "store.error"


class Unavailable(StoreError):
    code = "store.unavailable"
    retryable = True


class Rejected(StoreError):
    code = "store.rejected"


class Corrupt(StoreError):
    code = "store.corrupt"


class OutcomeUnknown(KeyturnError):
    code = "outcome.unknown"
    retryable = True


class VerificationFailed(KeyturnError):
    code = "verification.failed"


class NotYet(KeyturnError):
    """
    A step cannot go on by itself yet; nothing failed.

    Args:
        person: Somebody has to do what the message says; else time has to pass.
        again_seconds: When trying the step again may help; None for whenever the
            person is ready.
    """

    code = "rotation.waiting"

    def __init__(
        self,
        message: str,
        *,
        person: bool,
        again_seconds: int | None = None,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.person = person
        self.again_seconds = again_seconds


class RotationFailed(KeyturnError):
    code = "rotation.failed"


class IntegrityError(KeyturnError):
    code = "integrity"


class DeliveryError(KeyturnError):
    code = "delivery"


class InternalError(KeyturnError):
    code = "internal"
