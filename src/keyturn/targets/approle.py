"""
AppRole secret-ids of Vault and OpenBao: two of one role, until the old one is destroyed.

A new secret-id carries the rotation's token in its metadata. Where the answer that had
it was lost, it is found by that and destroyed: nobody has its value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from keyturn.core.ids import FieldName, Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Rejected, VerificationFailed
from keyturn.targets import _approle_lifetime as lifetimes
from keyturn.targets import _target_table as table
from keyturn.targets._approle_vault import Session, Vault
from keyturn.targets._base import OnePhase
from keyturn.targets._http import DENIED, LOGIN_REFUSED, Login, until

__all__ = ["ACCESSOR", "ROLE_ID", "SECRET_ID", "AppRole", "build"]

ROLE_ID = FieldName("role_id")
SECRET_ID = FieldName("secret_id")
ACCESSOR = FieldName("secret_id_accessor")

_TOKEN_KEY = "keyturn"  # noqa: S105 - the name of a key
_SECRET_KEY = "keyturn-secret"  # noqa: S105 - the name of a key


def build(context: KindContext) -> RotationKind:
    """
    Return the steps of a secret of kind `vault-approle`.

    Raises:
        UsageError: The target does not say enough, or httpx is not installed.
    """
    vault = Vault(
        table.needed_text(context, "address", example="https://vault.example.net:8200"),
        mount=(table.optional_text(context, "mount") or "approle").strip("/"),
        role=table.needed_text(context, "role", example="my-app"),
        namespace=table.optional_text(context, "namespace"),
        ca_file=table.ca_file(context),
        clock=context.clock,
    )
    return AppRole(vault, context)


class AppRole(OnePhase):
    """Rotates the secret-id of one role; see the module."""

    def __init__(self, vault: Vault, context: KindContext) -> None:
        self._vault = vault
        self._context = context
        self._made = self._denied = False

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """
        Return what a rotation will do, after looking at the role.

        Raises:
            Rejected: As `create`.
        """
        with self._acting(current) as session:
            session.require_rights()
            role = self._fit_role(session)
            left = self._left_behind(session, current)
        name = self._vault.role
        lines = [("create", f"a second secret-id for the role `{name}`{_limits(role)}")]
        lines.append(("check", "log in with it, compare policies, end the token"))
        if current is not None:
            lines += [
                ("retire", f"the old secret-id of `{name}` is destroyed, by its accessor"),
                ("retire", "tokens that it was given live on until their own TTL ends"),
                ("prove", "a login with the old secret-id is refused"),
            ]
        lines += [
            ("note", f"made by an earlier rotation and not current: the secret-id of {accessor}")
            for accessor in left
        ]
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:
        """
        Destroy what an earlier try with *token* left, then make a secret-id.

        Raises:
            Rejected: Secret-ids of the role cannot be rotated: they expire too soon, can
                be used once, or are not asked for.
            OutcomeUnknown: The answer was lost. Call again with the same *token*.
        """
        with self._acting(current) as session:
            self._require_rights(session)
            self._fit_role(session)
            self._sweep(session, token)
            self._made = True
            role_id = current[ROLE_ID] if current is not None else session.role_id()
            ref = self._context.ref
            where = f"{self._context.project}/{ref.environment}/{ref.name}"
            secret_id, made = session.create({_TOKEN_KEY: str(token), _SECRET_KEY: where})
            # The mount may cut what the role allows.
            problem = lifetimes.ttl_problem(made.ttl_seconds, self._context.grace_seconds)
            if problem is not None:
                session.destroy(made.accessor, point="create.undo")
                raise self._unfit(problem)
        return {
            ROLE_ID: role_id,
            SECRET_ID: secret_id,
            ACCESSOR: SecretValue.from_text(made.accessor),
        }

    def sweep(self, token: Token, *, current: Values) -> None:
        """End what *token* made besides *current*: a request that was given up came late."""
        self.clean_up(token, current=current)

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:
        """Destroy what `create` with *token* made and nobody stored."""
        if self._context.admin is None and current is None:
            # A first secret-id without an administrator: `create` could not ask either.
            return
        if self._denied:
            # This very process was refused before it made anything.
            return
        with self._acting(current) as session:
            self._require_rights(session)
            found = None if current is None else session.look_up_value(current[SECRET_ID])
            self._sweep(session, token, spare=None if found is None else found.accessor)

    def apply(self, current: Values | None, pending: Values) -> None:
        """Do nothing: a secret-id works from the moment it is made."""

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """Log in with *pending*; compare its policies with those of *current*."""
        # Its machines learn of a new one one after the other.
        policies = until(self._context.clock, lambda: self._policies_if_let_in(pending))
        if policies is None:
            policies = self._policies(pending)
        if current is not None and self._may_be_tried(current, pending):
            lacking = (self._policies_if_let_in(current) or frozenset()) - policies
            if lacking:
                names = ", ".join(f"`{name}`" for name in sorted(lacking))
                raise VerificationFailed(
                    f"a login with the new secret-id lacks the policies {names}",
                    hint=f"the current version may be for another role than `{self._vault.role}`",
                )
        names = ", ".join(f"`{name}`" for name in sorted(policies))
        return Evidence("login accepted", f"the role `{self._vault.role}` with {names}")

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Destroy the new secret-id."""
        with self._acting(current, pending) as session:
            self._destroy(session, pending, "withdraw")

    def retire(self, current: Values, old: Values) -> None:
        """
        Destroy the old secret-id; the tokens that it was given live on until their TTL.

        Raises:
            VerificationFailed: *current* does not log in, so the old one is let be.
        """
        if current[SECRET_ID] == old[SECRET_ID]:
            raise Rejected(
                "the old and the new version have the same secret-id",
                hint="look at `keyturn history`, and rotate again",
                code="target.role",
            )
        self.probe(current)
        with self._acting(current) as session:
            self._destroy(session, old, "retire")

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:  # noqa: ARG002 - the port's
        """
        Log in with *old* and be refused.

        Raises:
            VerificationFailed: It still works.
            Unavailable: No answer, so nothing is proven.
        """
        refused = until(self._context.clock, lambda: self._refusal(old))
        if refused is None:
            raise VerificationFailed(
                f"the old secret-id of `{self._vault.role}` still logs in",
                hint="it may be one of another role: see role_id in the old version, and"
                " destroy it there",
                code="target.still-works",
            )
        return Evidence("login refused", refused)

    def probe(self, values: Values) -> Evidence:
        """
        Log in with *values* and end the token.

        Raises:
            VerificationFailed: They are refused.
            Unavailable: No answer.
        """
        names = ", ".join(f"`{name}`" for name in sorted(self._policies(values)))
        return Evidence("login accepted", f"policies {names}")

    def counted_on(self, values: Values) -> SecretValue | None:
        """Return the role: the server locks it, for every secret-id, after a few failures."""
        return values.get(ROLE_ID)

    def ask_dead(self, old: Values, *, current: Values) -> Evidence | None:
        """
        Look *old* up, which is no login and counted against nobody.

        Returns:
            None where it is of another role, may have expired, or nobody may look it up.

        Raises:
            VerificationFailed: The role still has it.
        """
        if old[ROLE_ID] != current[ROLE_ID]:
            return None
        try:
            with self._acting(current) as session:
                found = session.look_up_value(old[SECRET_ID])
        except KeyturnError:
            return None
        if found is not None and found.ttl_seconds:
            # It may have expired since: the server forgets those some time later.
            return None
        if found is not None:
            raise VerificationFailed(
                f"the role `{self._vault.role}` still has the old secret-id",
                hint=f"destroy the one with the accessor {found.accessor}",
                code="target.still-works",
            )
        return Evidence("not known", f"to the role `{self._vault.role}`, which was asked")

    def rehearsal(self) -> RotationKind | None:
        """Return these steps: another secret-id touches nothing that is in use."""
        return self

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return the accessor of *pending*, and the command that destroys it."""
        accessor, role = pending[ACCESSOR].reveal_text(), self._vault.role
        path = f"{self._vault.role_path.removeprefix('/v1/')}/secret-id-accessor/destroy"
        return (
            f"the secret-id of the role `{role}` with the accessor `{accessor}`",
            f"destroy it: bao write {path} secret_id_accessor={accessor}",
        )

    @contextlib.contextmanager
    def _acting(self, *known: Values | None) -> Iterator[Session]:
        """
        Act as the administrator; without one, as the role itself.

        Args:
            known: Values of the role, the likeliest to work first.
        """
        admin = self._context.admin
        if admin is not None:
            with self._as_admin(admin) as session:
                yield session
            return
        own = next((values for values in known if values is not None), None)
        if own is None:
            raise table.faulty(
                self._context,
                "names nobody who may make a secret-id",
                'add admin = "NAME", the secret of a token or another AppRole,',
            )
        with self._trying(own) as session:
            yield session

    def _trying(self, values: Values) -> contextlib.AbstractContextManager[Session]:
        whose = f"the role `{self._vault.role}`"
        return self._vault.logged_in(values[ROLE_ID], values[SECRET_ID], whose)

    @contextlib.contextmanager
    def _as_admin(self, admin: Values) -> Iterator[Session]:
        whose = f"the administrator `{self._context.admin_name}`"
        token = admin.get(FieldName("token"), admin.get(FieldName("value")))
        if token is not None:
            yield Session(self._vault, Login.bearer(token, whose), frozenset(), minted=False)
            return
        role_id = table.admin_field(self._context, admin, ROLE_ID)
        secret_id = table.admin_field(self._context, admin, SECRET_ID)
        with self._vault.logged_in(role_id, secret_id, whose) as session:
            yield session

    def _require_rights(self, session: Session) -> None:
        if self._made:
            # Then each request tells: what was made is ended by as little as it takes.
            return
        try:
            session.require_rights()
        except Rejected as error:
            self._denied = error.code == DENIED
            raise

    def _fit_role(self, session: Session) -> Mapping[str, object]:
        role = session.role()
        problem = lifetimes.role_problem(role, self._context.grace_seconds)
        if problem is not None:
            raise self._unfit(problem)
        return role

    def _unfit(self, problem: str) -> Rejected:
        return Rejected(
            f"the role `{self._vault.role}` cannot be rotated: {problem}",
            hint="change the role (secret_id_ttl, secret_id_num_uses, bind_secret_id), or the"
            " secret's grace",
            code="target.role",
        )

    def _sweep(self, session: Session, token: Token, *, spare: str | None = None) -> None:
        for accessor in session.accessors():
            if accessor == spare:
                continue
            found = session.look_up(accessor)
            if found is not None and found.metadata.get(_TOKEN_KEY) == str(token):
                session.destroy(accessor, point="sweep")

    def _left_behind(self, session: Session, current: Values | None) -> list[str]:
        ref, own = self._context.ref, None
        if current is not None:
            found = session.look_up_value(current[SECRET_ID])
            own = None if found is None else found.accessor
        where = f"{self._context.project}/{ref.environment}/{ref.name}"
        others = (session.look_up(item) for item in session.accessors() if item != own)
        return [
            item.accessor
            for item in others
            if item is not None and item.metadata.get(_SECRET_KEY) == where
        ]

    def _destroy(self, session: Session, values: Values, point: str) -> None:
        # One made by hand has no accessor beside it; the server tells it by the value.
        found = session.look_up_value(values[SECRET_ID])
        if found is not None:
            session.destroy(found.accessor, point=point)

    def _may_be_tried(self, current: Values, pending: Values) -> bool:
        # A login is a use, and the current one's may be counted. One that this role does
        # not know is another role's, or has expired.
        with self._acting(current, pending) as session:
            found = session.look_up_value(current[SECRET_ID])
        return found is None or found.uses == 0

    def _policies(self, values: Values) -> frozenset[str]:
        try:
            with self._trying(values) as session:
                return session.policies
        except Rejected as error:
            if error.code != LOGIN_REFUSED:
                raise
            raise VerificationFailed(error.message, hint=error.hint, code=error.code) from error

    def _policies_if_let_in(self, values: Values) -> frozenset[str] | None:
        try:
            return self._policies(values)
        except VerificationFailed:
            return None

    def _refusal(self, old: Values) -> str | None:
        try:
            with self._trying(old):
                return None
        except Rejected as error:
            if error.code != LOGIN_REFUSED:
                raise
            return error.message


def _limits(role: Mapping[str, object]) -> str:
    ttl, uses = role.get("secret_id_ttl"), role.get("secret_id_num_uses")
    said = ""
    if isinstance(ttl, int) and ttl > 0:
        said += f"; it expires after {lifetimes.lifetime(ttl)}, so rotate more often than that"
    if isinstance(uses, int) and uses > 0:
        said += f"; it can be used {uses} times, once by the check"
    return said
