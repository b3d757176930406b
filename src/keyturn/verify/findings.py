"""What a check found; it can hold no value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Severity"]


class Severity(StrEnum):
    """How much a finding matters."""

    BAD = "bad"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that a check found wrong.

    Args:
        code: Stable, such as `form.placeholder`.
        subject: The field or the file that it is about.
        message: In words that never quote the value.
    """

    code: str
    severity: Severity
    subject: str
    message: str
