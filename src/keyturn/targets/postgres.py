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

Whatever is granted to OWNER, at any time, both logins have. What is granted to one of
them is reported before consumers move to the other.

A pooler between the application and the server must know the new login before `check`
and let go of the old one at `retire`: have it ask the server (PgBouncer's `auth_query`),
not a file of its own. The target is better the server itself, which proves more.

`rehearsal` gives the same steps for a throw-away login, so that a right that is missing
is found on a quiet day.
"""

from __future__ import annotations

from keyturn.targets._postgres_connection import PostgresTarget
from keyturn.targets._postgres_in_place import InPlace
from keyturn.targets._postgres_login import PASSWORD, USERNAME, probe
from keyturn.targets._postgres_two_logins import TwoLogins

__all__ = ["PASSWORD", "USERNAME", "InPlace", "PostgresTarget", "TwoLogins", "probe"]
