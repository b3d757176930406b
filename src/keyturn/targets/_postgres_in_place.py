"""One login whose password is changed; see `keyturn.targets.postgres`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected
from keyturn.targets import _postgres_roles as roles
from keyturn.targets import _postgres_throwaway as throwaway
from keyturn.targets._base import OnePhase
from keyturn.targets._postgres_connection import (
    DENIED,
    LOGIN_REFUSED,
    Connection,
    PostgresTarget,
    admin,
    log_in,
    transaction,
)
from keyturn.targets._postgres_login import (
    PASSWORD,
    USERNAME,
    is_somebodys,
    probe,
    prove_refused,
    refuse_used_login,
    require_current,
    require_unshared,
    used_login,
    username_of,
    works,
)
from keyturn.targets._postgres_rights import require_administered

__all__ = ["InPlace", "InPlaceRehearsal"]


class InPlace(OnePhase):
    """
    Changes the password of one login.

    The administrator does it, or the login itself where it is the administrator or
    the administrator lacks the right.

    Args:
        make_password: Returns a fresh password, safe in SQL and in URLs.
    """

    overlaps = False

    def __init__(self, target: PostgresTarget, *, make_password: Callable[[], SecretValue]) -> None:
        self._target = target
        self._make_password = make_password

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do."""
        login = self._login(current)
        return [
            ("create", f"a new password for `{login}`"),
            ("apply", f"`{login}` takes the new password; the old one is refused from now on"),
            ("check", f"log in as `{login}` with the new password"),
            ("retire", f"end the sessions of `{login}`; clients log in again"),
            ("prove", f"a login of `{login}` with the old password is refused"),
        ]

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """
        Return the same login with a new password.

        Raises:
            Rejected: *current* does not log in (code `target.current`), or another
                secret uses this login (code `target.shared`).
        """
        login = self._login(current)
        require_unshared(self._target, login)
        require_current(self._target, current)
        return {
            USERNAME: SecretValue.from_text(login),
            PASSWORD: self._make_password(),
        }

    def apply(self, current: Values | None, pending: Values) -> None:
        """Change the password, unless it is changed already."""
        if works(self._target, pending):
            return
        if current is None:
            with admin(self._target) as connection:
                role = roles.find(connection, username_of(pending))
            refuse_used_login(self._target, role, pending)
        self._change("apply", username_of(pending), pending, (current,))

    def check(self, current: Values | None, pending: Values) -> Evidence:  # noqa: ARG002 - the port's
        """Log in with *pending*."""
        return probe(self._target, pending)

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Put the password of *current* back; at a birth let the login in no more."""
        if current is not None:
            if not works(self._target, current):
                self._change("withdraw", username_of(current), current, (pending,))
            return
        login = username_of(pending)
        with admin(self._target) as connection:
            role = roles.find(connection, login)
            # A login that `apply` refused to take over is not ours to end.
            if role is None or is_somebodys(self._target, role, pending):
                return
            with transaction(connection, point="withdraw"):
                roles.disable(connection, login)
            roles.end_sessions(connection, login)

    def retire(self, current: Values, old: Values) -> None:
        """
        End every session of the login: nothing tells which password one came in with.

        Raises:
            VerificationFailed: *current* does not log in, so its sessions are let be.
        """
        login = username_of(old)
        if username_of(current) != login:
            raise Rejected(
                f"the old version is for `{login}`, the new one for `{username_of(current)}`",
                hint='set strategy = "two-logins", which changes the login with the password',
                code="target.role",
            )
        probe(self._target, current)
        # The login ends its own sessions: that needs no right of anybody.
        with log_in(self._target, login, current[PASSWORD]) as connection:
            roles.act_as_itself(connection)
            roles.end_sessions(connection, login)

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:  # noqa: ARG002 - the port's
        """Log in with *old* and be refused; raises as `TwoLogins.prove_dead`."""
        return prove_refused(self._target, old)

    def probe(self, values: Values) -> Evidence:
        """Log in with *values*, as `probe`."""
        return probe(self._target, values)

    def counted_on(self, values: Values) -> SecretValue | None:
        """Return the login: a server may lock it after some failures."""
        return values.get(USERNAME)

    def rehearsal(self) -> InPlaceRehearsal:
        """Return the same steps for a throw-away login, which do not touch the real one."""
        return InPlaceRehearsal(self._target, make_password=self._make_password)

    def _login(self, current: Values | None) -> str:
        if current is not None:
            return username_of(current)
        name = self._target.logins[0] if self._target.logins else self._target.owner_role
        if name is None:
            raise Rejected(
                "a first login needs a name",
                hint='set owner_role = "NAME" in the secret\'s target',
                code="target.role",
            )
        return name

    def _change(self, point: str, login: str, to: Values, known: Sequence[Values | None]) -> None:
        """
        Give *login* the password of *to*.

        Args:
            known: Values that may log in now, for a login that must do it itself.
        """
        denied = self._change_as_admin(point, login, to)
        if denied is None:
            return
        for values in known:
            if values is not None and works(self._target, values):
                with log_in(self._target, login, values[PASSWORD]) as connection:
                    roles.act_as_itself(connection)
                    self._set(connection, point, login, to[PASSWORD])
                return
        raise denied

    def _change_as_admin(self, point: str, login: str, to: Values) -> Rejected | None:
        """Return why the administrator may not change it; None where it did."""
        if login == self._target.admin_user:
            # Its password is the one that changes, so the target's may be the old one.
            return Rejected(
                f"no password that Keyturn knows logs in as `{login}`",
                hint="set one at the server and give it to Keyturn: keyturn set",
                code=LOGIN_REFUSED,
            )
        try:
            with admin(self._target) as connection:
                self._set(connection, point, login, to[PASSWORD])
        except Rejected as error:
            if error.code != DENIED:
                raise
            return error
        return None

    def _set(self, connection: Connection, point: str, login: str, password: SecretValue) -> None:
        with transaction(connection, point=point):
            role = roles.refuse_unfit(connection, login)
            if role is None:
                roles.create(connection, login)
            if role is None or not role.login:
                roles.enable(connection, login, password)
            else:
                roles.set_password(connection, login, password)


class InPlaceRehearsal(InPlace):
    """
    The steps of `InPlace` on a login that `apply` makes and `withdraw` drops.

    Of the real login it only asks who could change its password: the administrator,
    or else the login itself, which `create` has seen to log in.
    """

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return the login of *pending*, and how it is dropped."""
        return throwaway.whereabouts(username_of(pending))

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rehearsal will do."""
        name = throwaway.name_for(self._login(current))
        return [
            ("create", f"a password for `{name}`, a login for this rehearsal alone"),
            ("apply", f"make `{name}`; it may log in"),
            ("check", f"log in as `{name}`"),
            ("withdraw", f"drop `{name}`"),
            ("prove", f"a login as `{name}` is refused"),
        ]

    def create(self, current: Values | None, *, token: Token) -> Values:
        """
        Return the name of the throw-away login and a password, after asking about the real one.

        Raises:
            Rejected: As `InPlace`; or the administrator may make no role, so that
                there is nothing to rehearse with (code `target.rehearsal`).
        """
        login = self._login(current)
        with admin(self._target) as connection:
            role = roles.refuse_unfit(connection, login)
            if current is None and role is not None and role.login:
                raise used_login(role)
            if current is None and role is not None:
                require_administered(connection, self._target, login)
            if not roles.may_create(connection):
                raise self._nothing_to_rehearse_with(current)
            name = throwaway.name_for(login)
            throwaway.refuse_strangers(connection, name)
        made = super().create(current, token=token)
        return {**made, USERNAME: SecretValue.from_text(name)}

    def apply(self, current: Values | None, pending: Values) -> None:  # noqa: ARG002 - the port's
        """
        Make the throw-away login with the password of *pending*.

        Crash safety:
            One transaction, the same one again on every call.
        """
        name = username_of(pending)
        with admin(self._target) as connection, transaction(connection, point="apply"):
            throwaway.refuse_strangers(connection, name)
            throwaway.remove(connection, name)
            roles.create(connection, name)
            throwaway.mark(connection, name)
            roles.enable(connection, name, pending[PASSWORD])

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """Log in with *pending*, and say who would change the real password."""
        seen = probe(self._target, pending)
        if current is None:
            return seen
        login = username_of(current)
        with admin(self._target) as connection:
            if login == self._target.admin_user or not roles.may_change(connection, login):
                by = f"`{login}` itself"
            else:
                by = f"`{self._target.admin_user}`"
        return Evidence(seen.method, f"{seen.detail}; {by} would change the real password")

    def withdraw(self, current: Values | None, pending: Values) -> None:  # noqa: ARG002 - the port's
        """Drop what `apply` made; a second call does nothing."""
        with admin(self._target) as connection:
            throwaway.drop(connection, username_of(pending))

    def retire(self, current: Values, old: Values) -> None:
        """Drop *old* where it is a throw-away login, and refuse any other."""
        self.withdraw(current, old)

    def _nothing_to_rehearse_with(self, current: Values | None) -> Rejected:
        user = self._target.admin_user
        if current is None:
            return Rejected(
                f"`{user}` may make no role at `{self._target}`",
                hint=f'as a superuser: ALTER ROLE "{user}" CREATEROLE',
                code=DENIED,
            )
        return Rejected(
            f"`{user}` may make no role at `{self._target}`, so there is none to rehearse with",
            hint=f"the rotation needs none: `{username_of(current)}` changes its own password;"
            f' for a rehearsal, as a superuser: ALTER ROLE "{user}" CREATEROLE',
            code="target.rehearsal",
        )
