"""Two logins of one owner role that take turns; see `keyturn.targets.postgres`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected
from keyturn.targets import _postgres_roles as roles
from keyturn.targets import _postgres_throwaway as throwaway
from keyturn.targets._base import OnePhase
from keyturn.targets._postgres_connection import (
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
    not_working,
    probe,
    prove_refused,
    refuse_used_login,
    require_current,
    require_unshared,
    used_login,
    username_of,
)
from keyturn.targets._postgres_rights import (
    require_acting_as,
    require_administered,
    require_same_rights,
)

__all__ = ["TwoLogins", "TwoLoginsRehearsal"]


@dataclass(frozen=True, slots=True)
class _Pair:
    """The roles of one rotation by two logins; *current* is None at a birth."""

    owner: str
    current: str | None
    idle: str


class TwoLogins(OnePhase):
    """
    Rotates between two logins of one owner role.

    The owner role is the one the target names; or the one that the current login
    acts as; or the current login itself, which is then adopted.

    Args:
        make_password: Returns a fresh password, safe in SQL and in URLs.
    """

    def __init__(self, target: PostgresTarget, *, make_password: Callable[[], SecretValue]) -> None:
        self._target = target
        self._make_password = make_password

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """
        Return what a rotation will do, after looking at the roles that exist.

        Raises:
            Rejected: As `create`.
        """
        with admin(self._target) as connection:
            pair = self._pair(connection, current)
            self._require_free(connection, pair)
        lines = [
            ("create", f"a new password for `{pair.idle}`"),
            ("apply", f"`{pair.idle}` may log in with it and acts as `{pair.owner}`"),
            ("check", f"log in as `{pair.idle}` and compare its rights"),
        ]
        if pair.current is not None:
            lines += [
                ("retire", f"`{pair.current}` may log in no more; its sessions are ended"),
                ("prove", f"a login as `{pair.current}` is refused"),
            ]
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """
        Return the name of the idle login and a new password.

        Raises:
            Rejected: The roles are not ones that Keyturn may rotate, *current* does
                not log in (code `target.current`), or the idle login is in use (code
                `target.in-use`).
        """
        with admin(self._target) as connection:
            pair = self._pair(connection, current)
            self._require_free(connection, pair)
        require_current(self._target, current)
        return {
            USERNAME: SecretValue.from_text(pair.idle),
            PASSWORD: self._make_password(),
        }

    def apply(self, current: Values | None, pending: Values) -> None:
        """
        Let the idle login in with the new password, with the rights of the current one.

        Crash safety:
            One transaction, the same one again on every call.
        """
        with (
            admin(self._target) as connection,
            transaction(connection, point="apply"),
        ):
            pair = self._pair(connection, current)
            _require_login(pair.idle, pending)
            if pair.current is None:
                self._refuse_used(connection, pair, pending)
            limit = self._prepare(connection, pair)
            roles.enable(
                connection,
                pair.idle,
                pending[PASSWORD],
                acting_as=pair.owner,
                connection_limit=limit,
            )

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Log in with *pending* and compare its rights with those of *current*.

        Raises:
            VerificationFailed: It is refused, does not act as the owner role, or
                lacks something that the current login has.
        """
        login = username_of(pending)
        try:
            with log_in(self._target, login, pending[PASSWORD]) as connection:
                pair = self._pair(connection, current)
                require_acting_as(connection, pair.owner)
                if pair.current is not None:
                    require_same_rights(
                        connection, current=pair.current, new=pair.idle, owner=pair.owner
                    )
        except Rejected as error:
            raise not_working(error) from error
        return Evidence("login accepted", f"`{login}` logged in, acting as `{pair.owner}`")

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Let the idle login in no more and end its sessions; *current* is not touched."""
        with admin(self._target) as connection:
            pair = self._pair(connection, current)
            login = username_of(pending)
            # Only what `apply` made: a member of the owner role that is not in use.
            if login == pair.current or pair.owner not in roles.memberships(connection, login):
                return
            if pair.current is None:
                role = roles.find(connection, login)
                # A login that `apply` refused to take over is not ours to end.
                if role is not None and is_somebodys(self._target, role, pending):
                    return
            self._shut_out(connection, login, point="withdraw")

    def retire(self, current: Values, old: Values) -> None:
        """Let the old login in no more and end its sessions."""
        login = username_of(old)
        if login == username_of(current):
            raise Rejected(
                f"`{login}` is the login in use, and is not retired",
                hint="see `keyturn history`: old and new version have the same username",
                code="target.role",
            )
        with admin(self._target) as connection:
            self._require_ordinary(connection, login)
            self._shut_out(connection, login, point="retire")

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:  # noqa: ARG002 - the port's
        """
        Log in with *old* and be refused.

        Raises:
            VerificationFailed: The old login still works.
            Unavailable: The server did not answer, so nothing is proven.
        """
        return prove_refused(self._target, old)

    def probe(self, values: Values) -> Evidence:
        """Log in with *values*, as `probe`."""
        return probe(self._target, values)

    def counted_on(self, values: Values) -> SecretValue | None:
        """Return the login: a server may lock it after some failures."""
        return values.get(USERNAME)

    def rehearsal(self) -> TwoLoginsRehearsal:
        """Return the same steps for a throw-away login, which touch neither real one."""
        return TwoLoginsRehearsal(self._target, make_password=self._make_password)

    def _require_free(self, connection: Connection, pair: _Pair) -> None:
        require_unshared(self._target, pair.current, pair.idle)
        _require_idle(connection, pair)

    def _refuse_used(self, connection: Connection, pair: _Pair, pending: Values) -> None:
        refuse_used_login(self._target, roles.find(connection, pair.idle), pending)

    def _prepare(self, connection: Connection, pair: _Pair) -> int | None:
        """
        Make sure that owner and idle login exist and that the idle one has the rights.

        Returns:
            The connection limit that the idle login shall have.
        """
        if roles.find(connection, pair.owner) is None:
            if pair.current is not None:
                raise Rejected(
                    f"there is no role `{pair.owner}` to act as",
                    hint="correct owner_role in the secret's target, or create the role",
                    code="target.role",
                )
            roles.create(connection, pair.owner)
        if roles.find(connection, pair.idle) is None:
            roles.create(connection, pair.idle)
        wanted = {pair.owner}
        limit = None
        if pair.current is not None:
            if pair.current != pair.owner:
                wanted |= roles.memberships(connection, pair.current)
            current = roles.find(connection, pair.current)
            limit = None if current is None else current.connection_limit
            roles.copy_settings(connection, source=pair.current, to=pair.idle)
        for role in sorted(wanted - roles.memberships(connection, pair.idle)):
            roles.grant(connection, role, to=pair.idle)
        return limit

    def _shut_out(self, connection: Connection, login: str, *, point: str) -> None:
        role = roles.find(connection, login)
        if role is None:
            return
        if role.login:
            with transaction(connection, point=point):
                roles.disable(connection, login)
        roles.end_sessions(connection, login)

    def _pair(self, connection: Connection, current: Values | None) -> _Pair:
        """
        Return the roles that this rotation is about.

        Raises:
            Rejected: They cannot be told, or are not fit.
        """
        login = None if current is None else username_of(current)
        owner = self._owner(connection, login)
        first, second = self._target.logins or (f"{owner}_a", f"{owner}_b")
        idle = second if login == first else first
        if owner in (first, second) or first == second:
            raise Rejected(
                f"`{owner}`, `{first}` and `{second}` must be three different roles",
                hint="correct owner_role and logins in the secret's target",
                code="target.role",
            )
        for name in {owner, idle} | ({login} if login is not None else set()):
            self._require_ordinary(connection, name)
        if roles.find(connection, idle) is not None and owner not in roles.memberships(
            connection, idle
        ):
            raise Rejected(
                f"the role `{idle}` exists and is not a member of `{owner}`: it may be somebody's",
                hint=f'as an administrator: GRANT "{owner}" TO "{idle}"; or name other logins in'
                " the secret's target",
                code="target.role",
            )
        return _Pair(owner, login, idle)

    def _owner(self, connection: Connection, login: str | None) -> str:
        if self._target.owner_role is not None:
            return self._target.owner_role
        if login is None:
            raise Rejected(
                "a first login needs to know which role shall own the application's tables",
                hint='set owner_role = "NAME" in the secret\'s target',
                code="target.role",
            )
        acting = roles.acts_as(connection, login)
        if acting is not None:
            return acting
        if self._target.logins is None or login not in self._target.logins:
            return login
        found = roles.memberships(connection, login)
        if len(found) != 1:
            raise Rejected(
                f"`{login}` is a member of {len(found)} roles, so its owner role cannot be told",
                hint='set owner_role = "NAME" in the secret\'s target',
                code="target.role",
            )
        return found.pop()

    def _require_ordinary(self, connection: Connection, name: str) -> None:
        if name == self._target.admin_user:
            raise Rejected(
                f"`{name}` administers the logins and cannot be one of them",
                hint='give the application a login of its own, or set strategy = "in-place"',
                code="target.role",
            )
        roles.refuse_unfit(connection, name)


class TwoLoginsRehearsal(TwoLogins):
    """
    The steps of `TwoLogins` on a login that `apply` makes and `withdraw` drops.

    Of the real logins it only asks whether the administrator could change them. A
    birth's owner role, where there is none yet, is a throw-away one as well.
    """

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return the login of *pending*, and how it is dropped."""
        return throwaway.whereabouts(username_of(pending))

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rehearsal will do, as `TwoLogins.describe`."""
        with admin(self._target) as connection:
            pair = self._pair(connection, current)
        return [
            ("create", f"a password for `{pair.idle}`, a login for this rehearsal alone"),
            ("apply", f"make `{pair.idle}`; it may log in and acts as `{pair.owner}`"),
            ("check", f"log in as `{pair.idle}` and compare its rights"),
            ("withdraw", f"drop `{pair.idle}`"),
            ("prove", f"a login as `{pair.idle}` is refused"),
        ]

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """
        Return the name of the throw-away login and a password, after asking about the real ones.

        Raises:
            Rejected: As `TwoLogins.create`; or the administrator may not change the
                current or the idle login (code `target.denied`).
        """
        with admin(self._target) as connection:
            real = super()._pair(connection, current)
            self._require_free(connection, real)
            for login in (real.current, real.idle):
                if login is not None and roles.find(connection, login) is not None:
                    require_administered(connection, self._target, login)
            pair = self._pair(connection, current)
        require_current(self._target, current)
        return {
            USERNAME: SecretValue.from_text(pair.idle),
            PASSWORD: self._make_password(),
        }

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Drop what `apply` made; a second call does nothing."""
        with admin(self._target) as connection:
            pair = self._pair(connection, current)
            throwaway.drop(connection, username_of(pending))
            if throwaway.is_ours(connection, pair.owner):
                throwaway.drop(connection, pair.owner)

    def retire(self, current: Values, old: Values) -> None:  # noqa: ARG002 - the port's
        """Drop *old* where it is a throw-away login, and refuse any other."""
        with admin(self._target) as connection:
            throwaway.drop(connection, username_of(old))

    def _pair(self, connection: Connection, current: Values | None) -> _Pair:
        real = super()._pair(connection, current)
        owner = real.owner
        if current is None and roles.find(connection, owner) is None:
            owner = throwaway.name_for(real.owner, "_rehearsal_owner")
            throwaway.refuse_strangers(connection, owner)
        login = throwaway.name_for(real.owner)
        throwaway.refuse_strangers(connection, login)
        return _Pair(owner, real.current, login)

    def _refuse_used(
        self,
        connection: Connection,
        pair: _Pair,  # noqa: ARG002 - as in `TwoLogins`
        pending: Values,  # noqa: ARG002 - as in `TwoLogins`
    ) -> None:
        # At a birth it is the real login that nobody may be using yet. A password made
        # for the throw-away one tells nothing of it: having LOGIN is enough.
        real = super()._pair(connection, None)
        role = roles.find(connection, real.idle)
        if role is not None and role.login:
            raise used_login(role)

    def _prepare(self, connection: Connection, pair: _Pair) -> int | None:
        # What a rehearsal that died has left is made anew, in the same transaction.
        throwaway.remove(connection, pair.idle)
        throwaway.remove(connection, pair.owner)
        borrowed = roles.find(connection, pair.owner) is not None
        limit = super()._prepare(connection, pair)
        throwaway.mark(connection, pair.idle)
        if not borrowed:
            throwaway.mark(connection, pair.owner)
        return limit


def _require_idle(connection: Connection, pair: _Pair) -> None:
    """
    Return where nobody uses the login that is to get a new password.

    After a rollback to a version whose login was retired, the application may still
    run on the other one. At a birth there is no version to compare with; `apply`
    refuses a login that it did not make.

    Raises:
        Rejected: An application has sessions of it.
    """
    role = roles.find(connection, pair.idle)
    if pair.current is None or role is None or not role.login:
        return
    count = roles.count_sessions(connection, pair.idle)
    if count:
        raise Rejected(
            f"`{pair.idle}` ought to be idle and has {count}"
            f" {'session' if count == 1 else 'sessions'}: its password is not changed",
            hint=f"the service still runs on `{pair.idle}`, so the store's current version, for"
            f" `{pair.current}`, is not what it uses: see `keyturn history`; give the store what"
            " is used with `keyturn set`, or restart the consumers",
            code="target.in-use",
        )


def _require_login(expected: str, pending: Values) -> None:
    found = username_of(pending)
    if found != expected:
        raise Rejected(
            f"the login to change is `{expected}`, but the new version is for `{found}`",
            hint="the secret's target was changed during the rotation: change it back",
            code="target.role",
        )
