"""The choke point: no permission, no record, no action; and every outcome is told."""

from __future__ import annotations

import pytest

from keyturn.app.access import Access, LocalPolicy
from keyturn.audit import Action, Outcome
from keyturn.core.model import Principal, SecretRef
from keyturn.errors import AccessDenied, Conflict, Unavailable

OWNER = Principal(name="owner", kind="local", uid=1000)
REF = SecretRef("development", "session")


class Refusing:
    """A policy that says no to everybody."""

    def refusal(self, principal, action, environment):
        return "nobody may"


class FullDisk:
    """An audit log that cannot be written."""

    def record(self, event):
        raise Unavailable("the disk is full")

    def open_begun(self):
        return []


def access(session, **changes):
    """Return a choke point over the session's store, of which *changes* says what is different."""
    parts = {
        "audit": session.audit,
        "database": session.database,
        "policy": LocalPolicy(OWNER.uid),
        "principal": OWNER,
        "source": {"host": "here"},
        "reason": None,
        "protected": frozenset({"production"}),
        **changes,
    }
    return Access(**parts)


def last(session, count=1):
    """Return the newest records as `(action, outcome, detail)`."""
    head = session.audit.log.head().seq
    found = [session.audit.log.at(seq) for seq in range(head - count + 1, head + 1)]
    return [(record.action, record.outcome, dict(record.detail)) for record in found]


def mark(session):
    """A change that can be seen to have happened or not."""
    session.database.execute("INSERT INTO meta (key, value) VALUES ('mark', 'made')")


def marked(session):
    return session.database.row("SELECT 1 FROM meta WHERE key = 'mark'") is not None


def test_a_refusal_is_recorded_and_nothing_happens(session):
    """The record names what was asked for."""
    guarded = access(session, policy=Refusing())
    with pytest.raises(AccessDenied) as caught:
        with guarded.change(Action.VERSION_SET, str(REF)):
            mark(session)
    assert caught.value.hint
    assert not marked(session)
    assert [(Action.ACCESS_DENIED, Outcome.DENIED, {"action": "secret.version.set"})] == last(
        session
    )
    with pytest.raises(AccessDenied):
        guarded.read(Action.VALUE_READ, str(REF))


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        (OWNER, True),
        (Principal(name="other", kind="local", uid=1001), False),
        (Principal(name="root", kind="local", uid=0), False),
        (Principal(name="owner", kind="token", uid=1000), False),
    ],
)
def test_the_local_policy_knows_the_owner(principal, allowed):
    """Who owns the folder may do everything, and nobody else anything."""
    refusal = LocalPolicy(OWNER.uid).refusal(principal, Action.VALUE_READ, "production")
    assert allowed == (refusal is None)


def test_a_change_and_its_record_are_one(session):
    """What the block notes stands in the record."""
    with access(session).change(Action.VERSION_SET, str(REF), detail={"a": 1}) as notes:
        mark(session)
        notes["version"] = 7
    assert marked(session)
    assert [(Action.VERSION_SET, Outcome.DONE, {"a": 1, "version": 7})] == last(session)


def test_a_change_that_fails_is_undone_and_told(session):
    """The failure is recorded with its code, and the change is not there."""
    with pytest.raises(Conflict):
        with access(session).change(Action.VERSION_SET, str(REF)) as notes:
            mark(session)
            notes["version"] = 7
            raise Conflict("somebody was first", code="test.conflict")
    assert not marked(session)
    assert [(Action.VERSION_SET, Outcome.FAILED, {"version": 7, "error": "test.conflict"})] == last(
        session
    )


def test_a_change_inside_another_fails_with_it(session):
    """One failure is recorded: that of the whole."""
    guarded = access(session)
    before = session.audit.log.head().seq
    with pytest.raises(Conflict):
        with guarded.change(Action.ENVIRONMENT_IMPORT, "development"):
            with guarded.change(Action.VERSION_IMPORT, str(REF)):
                mark(session)
            with guarded.change(Action.VERSION_IMPORT, str(REF)):
                raise Conflict("no")
    assert not marked(session)
    assert before + 1 == session.audit.log.head().seq
    assert [(Action.ENVIRONMENT_IMPORT, Outcome.FAILED)] == [row[:2] for row in last(session)]


def test_what_cannot_be_recorded_does_not_happen(session):
    """Neither a change nor a read goes on without its record."""
    guarded = access(session, audit=FullDisk())
    with pytest.raises(Unavailable):
        with guarded.change(Action.VERSION_SET, str(REF)):
            mark(session)
    assert not marked(session)
    with pytest.raises(Unavailable):
        guarded.read(Action.VALUE_READ, str(REF))


def test_a_foreign_exception_undoes_the_change_as_well(session):
    """A fault of ours in the middle leaves nothing half-made."""
    with pytest.raises(ZeroDivisionError):
        with access(session).change(Action.VERSION_SET, str(REF)):
            mark(session)
            raise ZeroDivisionError
    assert not marked(session)


@pytest.mark.parametrize("reason", [None, ""])
def test_a_protected_environment_needs_a_reason(reason, session):
    """To change it, not to read it."""
    guarded = access(session, reason=reason)
    with pytest.raises(AccessDenied, match="needs a reason"):
        with guarded.change(Action.VERSION_SET, "production/x", environment="production"):
            mark(session)
    assert not marked(session)
    guarded.read(Action.VALUE_READ, "production/x", environment="production")
    with access(session, reason="why").change(
        Action.VERSION_SET, "production/x", environment="production"
    ):
        mark(session)
    head = session.audit.log.head().seq
    assert "why" == session.audit.log.at(head).reason


def test_an_outcome_settles_earlier_attempts_too(session):
    """One that was killed before it could tell is not open for ever; another's is left alone."""
    guarded = access(session)
    for subject in ("development/a", "development/b", "development/a"):
        begun = guarded.record(Action.CONSUMER_RENDER, subject, Outcome.BEGUN)
    guarded.settle(begun, Outcome.DONE)
    assert ["development/b"] == [record.object for record in session.audit.open_begun()]


def test_a_later_attempt_is_not_settled_by_an_earlier_one(session):
    """Two that run side by side each tell their own."""
    guarded = access(session)
    first = guarded.record(Action.CONSUMER_RENDER, "development/a", Outcome.BEGUN)
    second = guarded.record(Action.CONSUMER_RENDER, "development/a", Outcome.BEGUN)
    guarded.settle(first, Outcome.DONE)
    assert [second.seq] == [record.seq for record in session.audit.open_begun()]
    guarded.settle(second, Outcome.FAILED)
    assert [] == session.audit.open_begun()
