"""
What PostgreSQL's refusals mean, told by SQLSTATE alone, in every language of a server.

    28P01   at a login: this name and password do not log in
    28000   before the password was asked for: pg_hba.conf has no line for us;
            after it: the password is right, and the role has no LOGIN
    53300   before: the server is full; after: the role's or database's own limit
    3D000, 42501 and others at a login: the target is described wrongly
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyturn.errors import KeyturnError, Rejected, Unavailable
from keyturn.targets._postgres_dial import Refused

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "ADMIN_REFUSED",
    "DENIED",
    "LOGIN_REFUSED",
    "NO_CONNECTION_LEFT",
    "denied",
    "login_error",
    "statement_error",
]

ADMIN_REFUSED = "target.admin-refused"
DENIED = "target.denied"
LOGIN_REFUSED = "target.login-refused"
# The server is full before it looks at the password; the role's limit comes after.
NO_CONNECTION_LEFT = "target.login-full"

_UNAVAILABLE = "target.unavailable"
_CONNECTION = "target.connection"
_WRONG_PASSWORD = "28P01"  # noqa: S105 - a SQLSTATE
_NOT_PERMITTED = "28000"
_TOO_MANY_CONNECTIONS = "53300"
_INSUFFICIENT_PRIVILEGE = "42501"
# 08, 53, 57, 58: connection, resources, starting up or shutting down, system.
# 40, 55P03: lost a race for a row or lock. XX: "tuple concurrently updated", and worse.
_PASSING = ("08", "53", "57", "58", "40", "55P03", "XX")
_WORDS_LIMIT = 200


def login_error(place: str, user: str, refused: Refused) -> KeyturnError:
    """Return what *refused* means for a login of *user* at *place*."""
    state, words = refused.sqlstate, refused.words
    if state is None:
        return _no_answer(place, user, words)
    if state == _WRONG_PASSWORD or (state == _NOT_PERMITTED and refused.asked):
        return Rejected(
            f"PostgreSQL at `{place}` refused the login of `{user}`: {words}",
            hint="check the user name and password, and that the role has LOGIN",
            code=LOGIN_REFUSED,
        )
    if state == _TOO_MANY_CONNECTIONS:
        return Unavailable(
            f"PostgreSQL at `{place}` has no connection left for `{user}`: {words}",
            hint="end some sessions, or raise max_connections or the CONNECTION LIMIT of the"
            " role or database; then run the command again",
            code=NO_CONNECTION_LEFT if refused.asked else _UNAVAILABLE,
        )
    if state.startswith(_PASSING):
        return Unavailable(
            f"PostgreSQL at `{place}` lets nobody in now: {words}",
            hint="wait until it is up, then run the command again",
            code=_UNAVAILABLE,
        )
    if state == _INSUFFICIENT_PRIVILEGE:
        database = place.rpartition("/")[2]
        hint = (
            f'as a superuser: GRANT CONNECT ON DATABASE "{database}" TO "{user}", or to the owner'
        )
    elif state == _NOT_PERMITTED:
        hint = "add a line for it to the server's pg_hba.conf; `+OWNER` there means both logins"
    else:
        hint = "check the secret's target in keyturn.toml, and the server's pg_hba.conf"
    return Rejected(
        f"PostgreSQL at `{place}` does not take connections of `{user}`: {words}",
        hint=hint,
        code=_CONNECTION,
    )


def statement_error(place: str, administrator: str, error: psycopg.Error) -> KeyturnError:
    """Return what *error* of a statement means; it may have lost its connection."""
    state, words = error.sqlstate or "", _words(error)
    if state == _INSUFFICIENT_PRIVILEGE:
        return denied(place, administrator, error, role=None)
    if not state or state.startswith(_PASSING):
        return Unavailable(
            f"PostgreSQL at `{place}` did not finish: {words}",
            hint="nothing was changed by this statement; run the command again",
            code=_UNAVAILABLE,
        )
    return Rejected(f"PostgreSQL at `{place}` answered {state}: {words}", code="target.rejected")


def denied(place: str, user: str, error: psycopg.Error, *, role: str | None) -> Rejected:
    """
    Return the refusal of a statement that *user* has no right to.

    Args:
        role: The one that ADMIN OPTION is needed on; None where it is not known.
    """
    named = '"ROLE", for each role of the application,' if role is None else f'"{role}"'
    return Rejected(
        f"`{user}` may not do this at `{place}`: {_words(error)}",
        hint=f'as a superuser: ALTER ROLE "{user}" CREATEROLE;'
        f' GRANT {named} TO "{user}" WITH ADMIN OPTION',
        code=DENIED,
    )


def _no_answer(place: str, user: str, words: str) -> KeyturnError:
    # These words are libpq's own, which stay English: nothing here sets a locale.
    if "authentication method requirement" in words:
        return Rejected(
            f"PostgreSQL at `{place}` did not ask `{user}` for a SCRAM password: {words}",
            hint="change `trust` or `password` to `scram-sha-256` in its pg_hba.conf",
            code="target.authentication",
        )
    if "SSL" in words or "certificate" in words:
        return Rejected(
            f"PostgreSQL at `{place}` does not take connections of `{user}`: {words}",
            hint="check sslmode and sslrootcert of the secret's target, and the server's"
            " certificate",
            code=_CONNECTION,
        )
    return Unavailable(
        f"PostgreSQL at `{place}` cannot be reached: {words}",
        hint="start the server or check host and port, then run the command again",
        code=_UNAVAILABLE,
    )


def _words(error: psycopg.Error) -> str:
    parts = (error.diag.message_primary, error.diag.message_detail)
    return ": ".join(part for part in parts if part)[:_WORDS_LIMIT] or type(error).__name__
