"""What both kinds of Redis logins have in common: who logs in, and whether it is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.ports import Evidence
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, VerificationFailed
from keyturn.targets._redis_connection import (
    DEFAULT_USER,
    LOGIN_REFUSED,
    Connection,
    RedisLogin,
    RedisTarget,
    log_in,
)

__all__ = [
    "PASSWORD",
    "USERNAME",
    "Server",
    "login_of",
    "probe",
    "prove_refused",
    "refuse_other_user",
    "username_of",
    "values_of",
    "works",
]

USERNAME = FieldName("username")
PASSWORD = FieldName("password")


@dataclass(frozen=True, slots=True)
class Server:
    """
    A Redis server and who changes it.

    Args:
        admin: None where the login itself may do it.
    """

    target: RedisTarget
    admin: RedisLogin | None

    @contextlib.contextmanager
    def acting(self, *known: Values | None) -> Iterator[Connection]:
        """
        Log in as whoever changes the server.

        Args:
            known: Values of the login itself, the likeliest to work first.

        Raises:
            Rejected: None of them is let in.
            Unavailable: No answer.
        """
        logins = [login_of(values) for values in known if values is not None]
        if self.admin is not None:
            logins = [self.admin]
        refusal: Rejected | None = None
        for login in logins:
            with contextlib.ExitStack() as stack:
                try:
                    connection = stack.enter_context(log_in(self.target, login))
                except Rejected as error:
                    if error.code != LOGIN_REFUSED:
                        raise
                    refusal = error
                    continue
                yield connection
                return
        raise refusal or Rejected(
            f"nobody is named who may change users at Redis `{self.target}`",
            hint='add admin = "NAME" to the secret\'s target: the secret of a user with +acl',
            code="rotation.target",
        )


def login_of(values: Values) -> RedisLogin:
    """Return the login that *values* are for."""
    user = username_of(values)
    return RedisLogin(user, values[PASSWORD], f"the user `{user}`")


def username_of(values: Values) -> str:
    """Return the user that *values* are for; its name is no secret, only kept beside one."""
    name = values.get(USERNAME)
    return DEFAULT_USER if name is None else name.reveal_text()


def values_of(current: Values | None, made: Values) -> Values:
    """Return *made* with the user of *current*, where that names one."""
    named = made if current is None else current
    kept: dict[FieldName, SecretValue] = {PASSWORD: made[PASSWORD]}
    if USERNAME in named:
        kept[USERNAME] = named[USERNAME]
    return kept


def probe(target: RedisTarget, values: Values) -> Evidence:
    """
    Log in with *values*, and nothing else.

    Raises:
        VerificationFailed: They are refused.
        Unavailable: No answer.
    """
    login = login_of(values)
    try:
        with log_in(target, login):
            pass
    except Rejected as error:
        if error.code != LOGIN_REFUSED:
            raise
        raise VerificationFailed(error.message, hint=error.hint, code=LOGIN_REFUSED) from error
    return Evidence("login accepted", f"`{login.user}` logged in")


def works(target: RedisTarget, values: Values) -> bool:
    """
    Tell whether *values* log in; a refusal is an answer here, and no fault.

    Raises:
        Unavailable: No answer.
    """
    try:
        with log_in(target, login_of(values)):
            return True
    except Rejected as error:
        if error.code != LOGIN_REFUSED:
            raise
        return False


def prove_refused(target: RedisTarget, old: Values) -> Evidence:
    """
    Log in with *old* and be refused.

    Raises:
        VerificationFailed: The old password still works.
        Rejected: The server asks for no password, so that a refusal cannot be had.
        Unavailable: No answer, so nothing is proven.
    """
    if works(target, old):
        raise VerificationFailed(
            f"the old password of `{username_of(old)}` still works at Redis `{target}`",
            hint=f"somebody may have added it again at the server: ACL GETUSER {username_of(old)}",
            code="target.still-works",
        )
    return Evidence("login refused", f"`{username_of(old)}` with the old password")


def refuse_other_user(current: Values, old: Values) -> str:
    """
    Return the user of both.

    Raises:
        Rejected: They are for different users, or have the same password.
    """
    user = username_of(old)
    if username_of(current) != user:
        raise Rejected(
            f"the old version is for `{user}`, the new one for `{username_of(current)}`",
            hint=f"if nobody uses `{user}` any more, as an administrator: ACL DELUSER {user}",
            code="target.role",
        )
    if current[PASSWORD] == old[PASSWORD]:
        raise Rejected(
            f"the old and the new version of `{user}` have the same password",
            hint="look at `keyturn history`, and rotate again",
            code="target.role",
        )
    return user
