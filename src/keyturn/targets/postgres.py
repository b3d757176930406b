"""
PostgreSQL logins: two that take turns, or one whose password is changed in place.

    two-logins   OWNER (no login) owns everything; OWNER_a and OWNER_b are members
                 that act as it. The idle one gets a new password, consumers move
                 to it, then the other one can log in no more. Nothing is refused
                 at any moment.
    in-place     One login. Its old password stops working at once, so clients
                 that have not got the new one yet are refused for a while.

An application that logs in as the role that owns its tables is adopted as it is:
that role becomes OWNER and no ownership changes.
"""

from __future__ import annotations

from keyturn.targets._postgres_connection import PostgresTarget
from keyturn.targets._postgres_in_place import InPlace
from keyturn.targets._postgres_login import PASSWORD, USERNAME, probe
from keyturn.targets._postgres_two_logins import TwoLogins

__all__ = ["PASSWORD", "USERNAME", "InPlace", "PostgresTarget", "TwoLogins", "probe"]
