"""
What a kind of one's own is written with; everything else of the package may change.

A package offers a kind by an entry point of the group `keyturn.kinds`, whose object
is a function `build(context: KindContext) -> RotationKind`. A secret of the kind
`external` names the entry point in its target:

    [secrets.users.target]
    plugin = "acme-users"
    options = { url = "https://acme.example.com" }

`context.target["options"]` is that table. `RotationKind` says what each step must do,
and what it may raise; `OnePhase` supplies what most kinds have in common. A step
raises one of the errors below, and its message never holds a value.
"""

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import FieldName, Token
from keyturn.core.model import SecretRef, Values
from keyturn.core.ports import Evidence, KindContext, RotationKind, Supplier
from keyturn.core.value import SecretValue
from keyturn.errors import (
    KeyturnError,
    NotYet,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
    VerificationFailed,
)
from keyturn.targets import OnePhase

__all__ = [
    "Clock",
    "Entropy",
    "Evidence",
    "FieldName",
    "KeyturnError",
    "KindContext",
    "NotYet",
    "OnePhase",
    "OutcomeUnknown",
    "Rejected",
    "RotationKind",
    "SecretRef",
    "SecretValue",
    "Supplier",
    "Token",
    "Unavailable",
    "UsageError",
    "Values",
    "VerificationFailed",
]
