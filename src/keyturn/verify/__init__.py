"""Does a value have the right form, and do delivered copies match what the store holds."""

from __future__ import annotations

from keyturn.verify.delivered import DeliveredCopy, check_delivered
from keyturn.verify.findings import Finding, Severity
from keyturn.verify.form import check_form, check_halves

__all__ = [
    "DeliveredCopy",
    "Finding",
    "Severity",
    "check_delivered",
    "check_form",
    "check_halves",
]
