"""What a check of the retrieval test found, and the checks that need nothing but the values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from keyturn.app.generation import form_policy
from keyturn.app.unfit import unfit_values
from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.manifest import Secret
from keyturn.verify import Finding, Severity, check_form, check_halves

__all__ = ["CHECKS", "Check", "Result", "value_checks"]

# Every name that a check has, in the order in which they are looked at.
CHECKS = (
    "present",
    "form",
    "halves",
    "age",
    "live",
    "retired",
    "delivered",
    "health",
    "fresh",
    "allowed",
    "denied",
)
# Fields that belong together: (one, the other).
_PAIRS = (
    (FieldName("private_key"), FieldName("public_key")),
    (FieldName("value"), FieldName("ring")),
)


class Result(StrEnum):
    """What a check of the retrieval test found."""

    PASS = "pass"  # noqa: S105 - a word, not a password
    FAIL = "fail"
    WARN = "warn"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """
    One check of the retrieval test.

    Args:
        subject: A secret, a delivered file, a consumer or a place.
        check: One of `CHECKS`.
        detail: What was seen, in words that hold no value.
        seconds: How long it took, where it asked somebody.
        unreachable: It failed because nobody answered, so nothing is proven.
    """

    subject: str
    check: str
    result: Result
    detail: str = ""
    seconds: float = 0.0
    unreachable: bool = False


def value_checks(secret: Secret, values: Values) -> Iterator[Check]:
    """Yield what the *values* of *secret* show without asking anybody: form, and halves."""
    policy = form_policy(secret)
    found = [
        finding
        for field in secret.fields
        if field in values and field not in secret.identifiers
        for finding in check_form(
            str(secret.kind), field, values[field], policy, strategy=secret.strategy
        )
    ]
    found += [
        Finding("form.unfit", Severity.WARNING, field, why)
        for field, why in unfit_values(secret, values).items()
    ]
    yield from _judged(secret, "form", found)
    if any(one in values and other in values for one, other in _PAIRS):
        yield from _judged(secret, "halves", check_halves(str(secret.kind), values))


def _judged(secret: Secret, check: str, found: list[Finding]) -> Iterator[Check]:
    for finding in found:
        result = Result.FAIL if finding.severity is Severity.BAD else Result.WARN
        yield Check(secret.name, check, result, f"{finding.subject} {finding.message}")
    if not found:
        yield Check(secret.name, check, Result.PASS)
