"""
The systems whose credential is changed: one file a kind, each implementing `RotationKind`.

`build` is the door: it imports the module of the kind that is asked for, and no
other. A driver is imported when its kind first connects, and comes as an extra of
the package.
"""

from keyturn.targets._base import OnePhase
from keyturn.targets._registry import BUILDERS, build
from keyturn.targets.generated import Generated
from keyturn.targets.postgres import InPlace, PostgresTarget, TwoLogins, probe

__all__ = [
    "BUILDERS",
    "Generated",
    "InPlace",
    "OnePhase",
    "PostgresTarget",
    "TwoLogins",
    "build",
    "probe",
]
