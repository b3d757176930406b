"""
The one choke point: authorise, record, act, record the outcome.

Every use case that touches a secret goes through `Access`. A change in the
control database and its record are one transaction, so neither exists without
the other. An effect elsewhere has a `begun` record before it and an outcome
after. A read is recorded before the value leaves. If a record cannot be
written, nothing happens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from keyturn._internal.database import Database
from keyturn.audit import Action, Event, Outcome, Record
from keyturn.core.model import Principal
from keyturn.errors import AccessDenied, KeyturnError, OutcomeUnknown

__all__ = ["Access", "Detail", "LocalPolicy", "Policy", "Recorder"]

Detail = dict[str, str | int]


class Recorder(Protocol):
    """The audit log, as seen from here."""

    def record(self, event: Event) -> Record:
        """Append *event*, in the transaction that is open or in its own."""
        ...

    def open_begun(self) -> Sequence[Record]:
        """Return the records of what was begun and never settled."""
        ...


class Policy(Protocol):
    """Who may do what."""

    def refusal(self, principal: Principal, action: Action, environment: str | None) -> str | None:
        """Return why *principal* may not, or None where it may."""
        ...


class LocalPolicy:
    """
    The policy of a store on one machine: its owner may do everything.

    Roles bind people only through a server: whoever can read the key file can
    read the store, and a rule here would only pretend otherwise.

    Args:
        owner_uid: Who owns the state folder.
    """

    def __init__(self, owner_uid: int) -> None:
        self._owner_uid = owner_uid

    def refusal(self, principal: Principal, action: Action, environment: str | None) -> str | None:
        del action, environment
        if principal.kind == "local" and principal.uid == self._owner_uid:
            return None
        return f"the store belongs to uid {self._owner_uid}"


class Access:
    """
    Args:
        audit: Where every decision is recorded; there is no way to build this without one.
        principal: Who acts.
        source: Where from: host, pid.
        reason: Why, in the person's own words; required to change what is protected.
        protected: The environments whose changes need a reason.
    """

    def __init__(
        self,
        *,
        audit: Recorder,
        database: Database,
        policy: Policy,
        principal: Principal,
        source: Mapping[str, str | int],
        reason: str | None,
        protected: frozenset[str],
    ) -> None:
        self._audit = audit
        self._database = database
        self._policy = policy
        self._principal = principal
        self._source = dict(source)
        self._reason = reason
        self._protected = protected

    @property
    def principal(self) -> Principal:
        """Who acts."""
        return self._principal

    @property
    def has_reason(self) -> bool:
        """Whether the person said why."""
        return bool(self._reason)

    def record(
        self,
        action: Action,
        subject: str,
        outcome: Outcome,
        detail: Mapping[str, str | int] | None = None,
        *,
        settles: int | None = None,
    ) -> Record:
        """
        Append one record, for what has been authorised already.

        Args:
            settles: The `begun` record whose outcome this is.
        """
        return self._audit.record(
            Event(
                action=action,
                object=subject,
                outcome=outcome,
                actor=self._principal,
                reason=self._reason,
                source=self._source,
                detail=dict(detail or {}),
                settles=settles,
            )
        )

    def settle(self, begun: Record, outcome: Outcome) -> None:
        """
        Record the *outcome* of what *begun* announced.

        It is that of earlier attempts at the same, too, which ended without telling theirs.
        """
        with self._database.transaction():
            for each in self._audit.open_begun():
                same = (each.action, each.object) == (begun.action, begun.object)
                if same and each.seq <= begun.seq:
                    self.record(
                        Action(each.action), each.object, outcome, each.detail, settles=each.seq
                    )

    def read(
        self,
        action: Action,
        subject: str,
        *,
        environment: str | None = None,
        detail: Mapping[str, str | int] | None = None,
    ) -> None:
        """
        Authorise and record a read; return only when the record is durable.

        Raises:
            AccessDenied: The policy says no; the refusal is recorded.
        """
        self.authorise(action, subject, environment=environment)
        self.record(action, subject, Outcome.DONE, detail)

    def authorise(self, action: Action, subject: str, *, environment: str | None) -> None:
        """
        Ask the policy, and record a refusal.

        Raises:
            AccessDenied: The policy says no.
        """
        refusal = self._policy.refusal(self._principal, action, environment)
        if refusal is None:
            return
        self.record(Action.ACCESS_DENIED, subject, Outcome.DENIED, {"action": str(action)})
        raise AccessDenied(
            f"{self._principal.name} may not `{action}` on `{subject}`: {refusal}",
            hint="run the command as the owner, for example with `sudo -u`",
        )

    @contextlib.contextmanager
    def change(
        self,
        action: Action,
        subject: str,
        *,
        environment: str | None = None,
        detail: Mapping[str, str | int] | None = None,
    ) -> Iterator[Detail]:
        """
        Run the block, a change in the control database, in one transaction with its record.

        The block may add to the detail that this yields, such as the new version's
        number. Where the block fails, its changes are undone and the failure is
        recorded instead.

        Raises:
            AccessDenied: The policy says no, or the environment is protected and
                no reason was given.
        """
        self.authorise(action, subject, environment=environment)
        self.require_reason(environment)
        notes: Detail = dict(detail or {})
        try:
            with self._database.transaction():
                yield notes
                self.record(action, subject, Outcome.DONE, notes)
        except KeyturnError as error:
            # Inside a larger change the record would be undone with it; that one records.
            # Best effort: if this cannot be written either, the first error says why.
            if not self._database.in_transaction:
                with contextlib.suppress(KeyturnError):
                    self.record(action, subject, Outcome.FAILED, {**notes, "error": error.code})
            raise

    @contextlib.contextmanager
    def effect(
        self,
        action: Action,
        subject: str,
        *,
        environment: str | None = None,
        detail: Mapping[str, str | int] | None = None,
    ) -> Iterator[Detail]:
        """
        Run the block, a change outside the control database, between two records.

        The block may add to the detail that this yields. Where its answer was lost,
        the outcome is recorded as unknown; where the process dies, `begun` stays.

        Raises:
            AccessDenied: The policy says no, or the environment is protected and
                no reason was given.
        """
        self.authorise(action, subject, environment=environment)
        self.require_reason(environment)
        notes: Detail = dict(detail or {})
        begun = self.record(action, subject, Outcome.BEGUN, notes)
        try:
            yield notes
        except KeyturnError as error:
            lost = isinstance(error, OutcomeUnknown)
            outcome = Outcome.UNKNOWN if lost else Outcome.FAILED
            # Best effort: if this cannot be written either, the first error says why.
            with contextlib.suppress(KeyturnError):
                told = {**notes, "error": error.code}
                self.record(action, subject, outcome, told, settles=None if lost else begun.seq)
            raise
        with self._database.transaction():
            self.record(action, subject, Outcome.DONE, notes, settles=begun.seq)
            self.settle(begun, Outcome.DONE)

    def require_reason(self, environment: str | None) -> None:
        """
        Refuse a change of a protected environment that nobody has explained.

        Raises:
            AccessDenied: *environment* is protected and there is no reason.
        """
        if environment in self._protected and not self._reason:
            raise AccessDenied(
                f"`{environment}` is protected: a change needs a reason",
                hint="add `--reason 'why'`, or set KEYTURN_REASON",
                code="access.reason_required",
            )
