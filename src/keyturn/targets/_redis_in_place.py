"""The one password of a server (`requirepass`); see `keyturn.targets.redis`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence
from keyturn.errors import Rejected
from keyturn.targets import _redis_users as users
from keyturn.targets._base import OnePhase
from keyturn.targets._redis_connection import DEFAULT_USER, NOT_ASKED, Connection, pairs
from keyturn.targets._redis_login import (
    PASSWORD,
    Server,
    probe,
    prove_refused,
    refuse_other_user,
    username_of,
    values_of,
    works,
)

__all__ = ["InPlace"]


class InPlace(OnePhase):
    """
    Changes the password of the default user. The old one is refused from then on.

    Args:
        make: Returns fresh values for every field.
    """

    overlaps = False

    def __init__(self, server: Server, *, make: Callable[[], Values]) -> None:
        self._server = server
        self._make = make

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """
        Return what a rotation will do, after looking at the server.

        Raises:
            Rejected: As `create`.
        """
        with self._server.acting(current) as connection:
            places = self._refuse_unfit(connection)
            users.require_may_save(connection, places)
            count = users.replicas(connection)
        lines = [
            ("create", "a new password for the server"),
            (
                "apply",
                "the server takes the new password, kept in "
                + " and ".join(places)
                + "; clients that connect with the old one are refused until they have the new one",
            ),
            ("check", "log in with the new password"),
            ("retire", "all sessions are ended; clients connect again by themselves"),
            ("prove", "a login with the old password is refused"),
        ]
        if count:
            lines.append(("note", f"{count} replicas keep their passwords; see their masterauth"))
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - nothing is made at the server
        """
        Return a new password.

        Raises:
            Rejected: The server asks for no password, or would forget the change
                (code `target.persistence`).
        """
        pending = values_of(current, self._make())
        if username_of(pending) != DEFAULT_USER:
            raise Rejected(
                f"`{username_of(pending)}` is not the user whose password is the server's own",
                hint='leave out strategy = "in-place": a user takes two passwords',
                code="target.role",
            )
        with self._server.acting(current) as connection:
            places = self._refuse_unfit(connection)
            # Before anything is changed: what it cannot write down, a restart would undo.
            for place in places:
                users.save(connection, place, point="create")
        return pending

    def apply(self, current: Values | None, pending: Values) -> None:
        """Set the new password, unless it is so already, and let the server write it down."""
        self._set(pending, (current, pending), "apply")

    def check(self, current: Values | None, pending: Values) -> Evidence:  # noqa: ARG002 - the port's
        """Log in with *pending*."""
        return probe(self._server.target, pending)

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Set the password of *current* again."""
        if current is not None:
            self._set(current, (current, pending), "withdraw")

    def retire(self, current: Values, old: Values) -> None:
        """
        End every session: nothing tells which password one came in with.

        Raises:
            VerificationFailed: *current* does not log in, so its sessions are let be.
        """
        user = refuse_other_user(current, old)
        probe(self._server.target, current)
        with self._server.acting(current) as connection:
            users.end_sessions(connection, user)

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:  # noqa: ARG002 - the port's
        """Log in with *old* and be refused."""
        return prove_refused(self._server.target, old)

    def probe(self, values: Values) -> Evidence:
        """Log in with *values*."""
        return probe(self._server.target, values)

    def _set(self, to: Values, known: Sequence[Values | None], point: str) -> None:
        with self._server.acting(*known) as connection:
            places = self._refuse_unfit(connection)
            if not works(self._server.target, to):
                # Redis takes this password in clear only: it is kept so in its file.
                password = to[PASSWORD].reveal_text()
                connection.change("CONFIG", "SET", "requirepass", password, point=point)
            for place in places:
                users.save(connection, place, point=point)

    def _refuse_unfit(self, connection: Connection) -> tuple[users.Place, ...]:
        if not pairs(connection.ask("CONFIG", "GET", "requirepass")).get("requirepass"):
            raise Rejected(
                f"Redis at `{connection.target}` has no `requirepass`",
                hint='leave out strategy = "in-place" where users have passwords of their own;'
                " or set one at the server, which shuts out whoever comes without",
                code=NOT_ASKED,
            )
        users.refuse_topology(connection, DEFAULT_USER)
        return users.places(connection)
