"""Logging in with a version's values: to see that they work, or that they are refused."""

from __future__ import annotations

from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.ports import Evidence
from keyturn.errors import Rejected, Unavailable, VerificationFailed
from keyturn.targets._postgres_connection import (
    LOGIN_REFUSED,
    NO_CONNECTION_LEFT,
    Connection,
    PostgresTarget,
    log_in,
)
from keyturn.targets._postgres_roles import Role

__all__ = [
    "PASSWORD",
    "USERNAME",
    "current_user",
    "is_somebodys",
    "not_working",
    "probe",
    "prove_refused",
    "refuse_used_login",
    "require_current",
    "require_unshared",
    "used_login",
    "username_of",
    "works",
]

USERNAME = FieldName("username")
PASSWORD = FieldName("password")


def probe(target: PostgresTarget, values: Values) -> Evidence:
    """
    Log in with *values*, and nothing else.

    Raises:
        VerificationFailed: They are refused.
        Unavailable: No answer.
    """
    login = username_of(values)
    try:
        with log_in(target, login, values[PASSWORD]) as connection:
            acting = current_user(connection)
    except Rejected as error:
        raise not_working(error) from error
    return Evidence("login accepted", f"`{login}` logged in, acting as `{acting}`")


def works(target: PostgresTarget, values: Values) -> bool:
    """
    Tell whether *values* log in; a refusal is an answer here, and no fault.

    Raises:
        Unavailable: No answer.
    """
    try:
        with log_in(target, username_of(values), values[PASSWORD]):
            return True
    except Rejected as error:
        if error.code != LOGIN_REFUSED:
            raise
        return False


def require_current(target: PostgresTarget, current: Values | None) -> None:
    """
    Return where *current* logs in, or there is none yet.

    A rotation away from values that no longer log in would not be away from what the
    service uses.

    Raises:
        Rejected: They are refused (code `target.current`).
        Unavailable: No answer.
    """
    if current is None:
        return
    login = username_of(current)
    try:
        with log_in(target, login, current[PASSWORD]):
            return
    except Rejected as error:
        if error.code != LOGIN_REFUSED:
            raise
        raise Rejected(
            f"the current version does not log in, so it is not what the service uses:"
            f" {error.message}",
            hint="give Keyturn the login that the service uses: keyturn set;"
            " then run the command again",
            code="target.current",
        ) from error
    except Unavailable as error:
        # The limit of a role is looked at after its password: the service fills it.
        if error.code != NO_CONNECTION_LEFT:
            raise


def is_somebodys(target: PostgresTarget, role: Role, pending: Values) -> bool:
    """
    Tell whether *role* logs in with another password than that of *pending*.

    Raises:
        Unavailable: No answer.
    """
    return role.login and not works(target, pending)


def refuse_used_login(target: PostgresTarget, role: Role | None, pending: Values) -> None:
    """
    Return where the first login of a secret is free to be made.

    Raises:
        Rejected: It logs in with a password that Keyturn does not know.
    """
    if role is not None and is_somebodys(target, role, pending):
        raise used_login(role)


def require_unshared(target: PostgresTarget, *logins: str | None) -> None:
    """
    Return where no other secret uses one of *logins*.

    Raises:
        Rejected: One does, and its consumers would be refused (code `target.shared`).
    """
    for login in logins:
        where = None if login is None else target.reserved.get(login)
        if where is not None:
            raise Rejected(
                f"`{login}` is the login of `{where}` as well, which would be refused",
                hint=f"give each its own: name other logins in the target of one of the two, or"
                f" have the consumers of `{where}` use this secret",
                code="target.shared",
            )


def used_login(role: Role) -> Rejected:
    """Return the refusal of a first login whose name is taken."""
    return Rejected(
        f"the login `{role.name}` exists, and somebody may be using it",
        hint="give Keyturn its password first: keyturn set, or keyturn import",
        code="target.role",
    )


def username_of(values: Values) -> str:
    """Return the login that *values* are for; its name is no secret, only kept beside one."""
    return values[USERNAME].reveal_text()


def current_user(connection: Connection) -> str:
    """Return the role that the session acts as."""
    row = connection.execute("SELECT current_user").fetchone()
    return "" if row is None else str(row[0])


def prove_refused(target: PostgresTarget, old: Values) -> Evidence:
    """
    Log in with *old* and be refused.

    Raises:
        VerificationFailed: The old login still works.
        Unavailable: The server did not answer, so nothing is proven.
    """
    login = username_of(old)
    try:
        with log_in(target, login, old[PASSWORD]):
            pass
    except Rejected as error:
        if error.code != LOGIN_REFUSED:
            raise
        return Evidence("login refused", error.message)
    raise VerificationFailed(
        f"the old login still works: `{login}` at `{target}`",
        hint="somebody may have set the old password again at the server; look at its role",
        code="target.still-works",
    )


def not_working(error: Rejected) -> Rejected | VerificationFailed:
    """Return what a refusal means for values that ought to work."""
    if error.code != LOGIN_REFUSED:
        return error
    return VerificationFailed(error.message, hint=error.hint, code="target.login-refused")
