"""Two passwords on one ACL user; see `keyturn.targets.redis`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, RotationKind
from keyturn.errors import Rejected, VerificationFailed
from keyturn.targets import _redis_users as users
from keyturn.targets._base import OnePhase
from keyturn.targets._redis_connection import UNKNOWN, Connection
from keyturn.targets._redis_login import (
    PASSWORD,
    Server,
    probe,
    prove_refused,
    refuse_other_user,
    username_of,
    values_of,
)

__all__ = ["TwoPasswords"]


class TwoPasswords(OnePhase):
    """
    Adds a second password to a user, and takes the first one away at the end.

    Args:
        commands: What the user must be allowed to run, each with its arguments.
        make: Returns fresh values for every field.
    """

    def __init__(
        self, server: Server, *, commands: Sequence[tuple[str, ...]], make: Callable[[], Values]
    ) -> None:
        self._server = server
        self._commands = commands
        self._make = make

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """
        Return what a rotation will do, after looking at the server.

        Raises:
            Rejected: As `create`.
        """
        user = username_of(current if current is not None else self._make())
        with self._server.acting(current) as connection:
            users.require_rights(connection, user, tries=bool(self._commands))
            places = self._refuse_unfit(connection, user)
            count = users.replicas(connection)
        lines = [
            ("create", f"a second password for `{user}`"),
            ("apply", f"`{user}` takes either password; kept in {places[0]}"),
            ("check", f"log in as `{user}` with the new password{self._tried()}"),
        ]
        if current is not None:
            lines += [
                ("retire", f"`{user}` takes the old password no more"),
                (
                    "retire",
                    f"the sessions of `{user}` are ended; clients connect again",
                ),
                ("prove", f"a login of `{user}` with the old password is refused"),
            ]
        if count:
            lines.append(
                ("note", f"{count} replicas have users of their own, which stay as they are")
            )
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - nothing is made at the server
        """
        Return the same user with a new password.

        Raises:
            Rejected: There is no such user, it needs no password, rights are missing, or
                the server would forget the change (code `target.persistence`).
        """
        pending = values_of(current, self._make())
        user = username_of(pending)
        with self._server.acting(current) as connection:
            users.require_rights(connection, user, tries=bool(self._commands), writing=True)
            self._refuse_unfit(connection, user)
        return pending

    def apply(self, current: Values | None, pending: Values) -> None:
        """
        Add the new password, and let the server write its users down.

        Crash safety:
            It is written down on every call: a crash may have come in between. Where it
            cannot be, the password is taken out again, so that it is nowhere.
        """
        user, new = username_of(pending), users.sha256(pending[PASSWORD])
        with self._server.acting(current, pending) as connection:
            places = self._refuse_unfit(connection, user)
            if new not in users.refuse_unfit(connection, user).hashes:
                connection.change("ACL", "SETUSER", user, f"#{new}", point="apply")
            try:
                users.save(connection, places[0], point="apply")
            except Rejected:
                connection.change("ACL", "SETUSER", user, f"!{new}", point="apply.undo")
                raise
            _require(connection, user, new, there=True)

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """Log in with *pending*, and ask whether it may run the commands that it is for."""
        seen = probe(self._server.target, pending)
        user = username_of(pending)
        with self._server.acting(current, pending) as connection:
            for command in self._commands:
                try:
                    refusal = users.may_run(connection, user, command)
                except Rejected as error:
                    if error.code != UNKNOWN:
                        raise
                    return Evidence(seen.method, f"{seen.detail}; the server cannot try commands")
                if refusal is not None:
                    raise VerificationFailed(
                        f"`{user}` may not run `{command[0]}`: {refusal}",
                        hint="give the user the right, or correct `commands` in the target",
                    )
        return Evidence(seen.method, f"{seen.detail}{self._tried()}")

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """
        Take the new password away.

        Sessions are let be: before the new version was promoted they are all the old
        one's, and nothing tells one from the other.
        """
        name, new = username_of(pending), users.sha256(pending[PASSWORD])
        with self._server.acting(current, pending) as connection:
            user = users.find(connection, name)
            if user is not None and new not in user.hashes:
                # It never came to be, or is gone: `apply` leaves none that is not written
                # down. That the server cannot write now is no reason to get stuck.
                with contextlib.suppress(Rejected):
                    users.save(connection, users.places(connection)[0], point="withdraw")
                return
            if user is not None:
                # Taken out of memory alone, it would come back with a restart.
                users.save(connection, users.places(connection)[0], point="withdraw.first")
            self._remove(connection, pending, "withdraw")

    def retire(self, current: Values, old: Values) -> None:
        """
        Take the old password away, then end the sessions that there are.

        Raises:
            VerificationFailed: *current* does not log in, so the old one is let be.
        """
        user = refuse_other_user(current, old)
        probe(self._server.target, current)
        with self._server.acting(current) as connection:
            self._remove(connection, old, "retire")
            users.end_sessions(connection, user)

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:  # noqa: ARG002 - the port's
        """Log in with *old* and be refused."""
        return prove_refused(self._server.target, old)

    def probe(self, values: Values) -> Evidence:
        """Log in with *values*."""
        return probe(self._server.target, values)

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return the hash of *pending*, which the server shows too, and how it is removed."""
        user, new = username_of(pending), users.sha256(pending[PASSWORD])
        ending = f"ACL SETUSER {user} !{new}, then ACL SAVE or CONFIG REWRITE"
        what = f"a further password of `{user}`, `#{new}`"
        return what, f"as an administrator of the server: {ending}"

    def rehearsal(self) -> RotationKind | None:
        """Return these steps: a second password touches nothing that is in use."""
        return self

    def _refuse_unfit(self, connection: Connection, user: str) -> tuple[users.Place, ...]:
        users.refuse_unfit(connection, user)
        users.refuse_topology(connection, user)
        return users.places(connection)

    def _remove(self, connection: Connection, values: Values, point: str) -> None:
        name, gone = username_of(values), users.sha256(values[PASSWORD])
        user = users.find(connection, name)
        if user is None:
            return
        place = users.places(connection)[0]
        # To remove a password that is not there is an error.
        if gone in user.hashes:
            connection.change("ACL", "SETUSER", name, f"!{gone}", point=point)
        users.save(connection, place, point=point)
        _require(connection, name, gone, there=False)

    def _tried(self) -> str:
        names = ", ".join(f"`{command[0]}`" for command in self._commands)
        return f" and try {names}" if names else ""


def _require(connection: Connection, name: str, password: str, *, there: bool) -> None:
    user = users.find(connection, name)
    if user is not None and (password in user.hashes) is there:
        return
    raise VerificationFailed(
        f"the passwords of `{name}` at Redis `{connection.target}` are not what was set",
        hint="somebody else changes this user at the same time; run the command again",
        code="target.changed",
    )
