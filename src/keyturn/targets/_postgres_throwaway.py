"""
Roles made for a rehearsal and dropped after it, told from all others by their comment.

A role is dropped only where it carries the comment; one of the same name without it
is somebody's and is refused.
"""

from __future__ import annotations

from keyturn.errors import Rejected
from keyturn.targets import _postgres_roles as roles
from keyturn.targets._postgres_connection import Connection, transaction

__all__ = [
    "drop",
    "is_ours",
    "mark",
    "name_for",
    "refuse_strangers",
    "remove",
    "whereabouts",
]

_MARK = "made by a Keyturn rehearsal, may be dropped"
_NAME_LIMIT_BYTES = 63


def name_for(role: str, suffix: str = "_rehearsal") -> str:
    """Return the name of the throw-away role beside *role*, cut to what PostgreSQL takes."""
    stem = role.encode("utf-8")[: _NAME_LIMIT_BYTES - len(suffix)]
    return stem.decode("utf-8", "ignore") + suffix


def is_ours(connection: Connection, name: str) -> bool:
    """Return whether a rehearsal made the role *name*."""
    row = connection.execute(
        "SELECT pg_catalog.shobj_description(oid, 'pg_authid') = %s"
        " FROM pg_catalog.pg_roles WHERE rolname = %s",
        (_MARK, name),
    ).fetchone()
    return row is not None and bool(row[0])


def refuse_strangers(connection: Connection, name: str) -> None:
    """
    Return where the role *name* does not exist, or a rehearsal made it.

    Raises:
        Rejected: It is somebody's.
    """
    if roles.find(connection, name) is None or is_ours(connection, name):
        return
    raise Rejected(
        f"the role `{name}` exists and no rehearsal made it, so none uses it",
        hint=f'rename or drop it: a rehearsal makes and drops a role "{name}"',
        code="target.role",
    )


def mark(connection: Connection, name: str) -> None:
    """Note at the role *name*, in the open transaction, that it may be dropped."""
    roles.comment(connection, name, _MARK)


def remove(connection: Connection, name: str) -> None:
    """Drop the role *name*, in the open transaction, where a rehearsal made it."""
    if is_ours(connection, name):
        roles.drop(connection, name)


def whereabouts(name: str) -> tuple[str, str]:
    """Return what a person is told of the role *name*, and how to end it."""
    quoted = name.replace('"', '""')
    return f"the login `{name}`", f'the next rehearsal drops it; or now: DROP ROLE "{quoted}"'


def drop(connection: Connection, name: str) -> None:
    """
    Let the role *name* in no more, end its sessions and drop it; nothing where it is gone.

    Raises:
        Rejected: No rehearsal made it, or the administrator may not drop it.
        Unavailable: Its sessions do not end.
    """
    refuse_strangers(connection, name)
    if roles.find(connection, name) is None:
        return
    with transaction(connection, point="rehearsal-shut"):
        roles.disable(connection, name)
    roles.end_sessions(connection, name)
    with transaction(connection, point="rehearsal-drop"):
        remove(connection, name)
