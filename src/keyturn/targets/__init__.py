"""
The systems whose credential is changed: one file a kind, each implementing `RotationKind`.

A driver is imported when its kind first connects, and comes as an extra of the
package.
"""

from keyturn.targets.generated import Generated
from keyturn.targets.postgres import InPlace, PostgresTarget, TwoLogins, probe

__all__ = ["Generated", "InPlace", "PostgresTarget", "TwoLogins", "probe"]
