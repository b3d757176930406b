"""What needs attention: from the journal, the versions and the manifest."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest

from keyturn.app.access import Access
from keyturn.app.auditing import AuditFilter, show_log
from keyturn.app.noticing import notices_of
from keyturn.app.reminders import remind
from keyturn.audit import Action
from keyturn.core.ids import EnvironmentName, RotationId, SecretName
from keyturn.core.model import SecretRef
from keyturn.errors import AccessDenied, NotYet, Unavailable, VerificationFailed
from keyturn.notify import Level
from keyturn.rotate import End, Plan, Step
from keyturn.testing.clock import FakeClock
from tests.cli import projects

WHERE = EnvironmentName("development")
API = SecretName("api")
REF = SecretRef(WHERE, API)
PLAN = Plan(kind="guided", strategy="default", old_version=1, overlaps=True)


@pytest.fixture
def clock():
    """A clock that starts a minute after the values were made."""
    return FakeClock()


@pytest.fixture
def project(tmp_path):
    """A project whose `api` lives for 30 days."""
    made = projects.copied(tmp_path)
    text = made.manifest.read_text().replace(
        "[secrets.api]\n", '[secrets.api]\nmax_age = "30d"\npriority = "high"\n'
    )
    made.manifest.write_text(text)
    return made


@pytest.fixture
def session(project, clock):
    """That project, opened."""
    opened = project.session(clock=clock)
    made = opened.store.current_versions(WHERE, [API])["api"].created_at
    clock.step((made - clock.now()).total_seconds() + 60)
    yield opened
    opened.close()


@pytest.fixture
def rotation(session):
    """A rotation of `api` that this process began."""
    return session.journal.begin(REF, PLAN, rotation_id=RotationId("r1"), owner="")


def noticed(session, *, tended=False, failures=None):
    """Return what is noticed in `development`."""
    return notices_of(session, WHERE, tended=tended, failures=failures or {})


def only(session, **settings):
    """Return the one notice there is."""
    [found] = noticed(session, **settings)
    return found


def test_young_secrets_need_nothing(session):
    """Nor do those without max_age or without a value."""
    assert [] == noticed(session)


def test_age_is_told_with_the_date(session, clock):
    """Which version, since when it is due, and the command."""
    clock.advance(31 * 86_400)
    found = only(session)
    assert (Level.DUE, "v1", REF) == (found.level, found.about, found.ref)
    assert "version 1 of " in found.text
    assert found.text.endswith("1 day ago")
    assert "keyturn rotate api -e development" == found.command
    assert ("team-core", ["backend"]) == (found.owner, found.consumers)


def test_a_new_version_ends_it(session, clock, project):
    """Stored by hand, too."""
    clock.advance(31 * 86_400)
    project.put("api", b"test-api-of-the-second-month-1")
    clock.step(
        (
            session.store.current_versions(WHERE, [API])["api"].created_at - clock.now()
        ).total_seconds()
    )
    assert [] == noticed(session)


def test_what_the_schedule_rotates_is_told_when_it_did_not(session, project, clock):
    """A week after the due date; a guided secret is never left to it."""
    clock.advance(31 * 86_400)
    assert [Level.DUE] == [found.level for found in noticed(session, tended=True)]
    text = project.manifest.read_text().replace('max_age = "30d"', 'max_age = "400d"')
    project.manifest.write_text(
        text.replace("[secrets.session]", '[secrets.session]\nmax_age = "30d"')
    )
    with closing(project.session(clock=clock)) as opened:
        assert [] == noticed(opened, tended=True)
        assert Level.DUE == only(opened).level
        clock.advance(7 * 86_400)
        assert Level.OVERDUE == only(opened, tended=True).level


def test_a_running_rotation_is_left_alone(session, rotation, clock):
    """However old the secret is."""
    clock.advance(3_600)
    assert [] == noticed(session)
    waiting = session.journal.advance(
        rotation, Step.GRACE, wait_until=clock.now() + timedelta(days=40)
    )
    session.journal.release(waiting, why="waiting")
    clock.advance(39 * 86_400)
    assert [] == noticed(session)


def test_a_forgotten_rotation_is_told(session, rotation, clock):
    """Nobody went on with it for a day."""
    clock.advance(86_400)
    found = only(session)
    assert (Level.STUCK, "r1") == (found.level, found.about)
    assert "interrupted at `create`" in found.text
    assert "keyturn rotate --resume api -e development" == found.command


def test_a_stuck_rotation_is_told_once_however_often_it_is_tried(session, rotation, clock):
    """What it is told once of is the rotation, and not the try."""
    abouts = set()
    for _ in range(3):
        rotation = session.journal.finish(
            rotation, End.STUCK, failure=Unavailable("the server does not answer")
        )
        found = only(session)
        abouts.add((found.level, found.about))
        assert "stuck at `create` (version 1, the old one, is in use): the server" in found.text
        clock.advance(7_200)
        rotation = session.journal.take_over(rotation, owner="", step=rotation.step)
    assert {(Level.STUCK, "r1")} == abouts


@pytest.mark.parametrize(
    ("failure", "level"),
    [
        (VerificationFailed("it still logs in", code="target.still-works"), Level.ALARM),
        (Unavailable("no answer"), Level.STUCK),
    ],
)
def test_an_old_credential_that_lives_is_an_alarm(session, rotation, failure, level):
    """A proof that could not be had is none."""
    proving = session.journal.advance(rotation, Step.PROVE, new_version=2)
    session.journal.finish(proving, End.STUCK, failure=failure)
    found = only(session)
    assert level == found.level
    assert failure.message in found.text
    assert "(version 1, the old one, is in use)" in found.text


def test_one_that_waits_for_a_person_is_told_by_step(session, rotation, clock):
    """How long, and for what; at the next step it asks for something else."""
    waiting = session.journal.wait(rotation, NotYet("fetch a new key", person=True))
    clock.advance(3 * 86_400)
    found = only(session)
    assert (Level.WAITING, "r1/create") == (found.level, found.about)
    assert "at `create` (version 1, the old one, is in use): fetch a new key; begun " in found.text
    assert found.text.endswith("3 days ago")
    taken = session.journal.take_over(waiting, owner="", step=Step.CREATE)
    later = session.journal.advance(taken, Step.RETIRE)
    session.journal.wait(later, NotYet("end the old key", person=True))
    assert "r1/retire" == only(session).about


def test_a_failed_rotation_of_what_is_due_is_told(session, rotation, clock):
    """Of the version, so that trying again each hour is not told each hour."""
    back = session.journal.advance(
        rotation, Step.WITHDRAW, failure=VerificationFailed("the new one was refused")
    )
    session.journal.finish(back, End.ROLLED_BACK)
    assert [] == noticed(session), "it is young: whoever tried has seen it"
    clock.advance(30 * 86_400)
    found = only(session)
    assert (Level.FAILED, "v1") == (found.level, found.about)
    assert "the new one was refused; the old credential is in use, due since" in found.text


def test_a_failure_without_a_way_back_does_not_promise_the_old_one(session, clock):
    """Where the new credential ends the old one, nobody says that the old one is in use."""
    plan = Plan(
        kind="twitch-app", strategy="default", old_version=1, overlaps=False, reversible=False
    )
    begun = session.journal.begin(REF, plan, rotation_id=RotationId("r2"), owner="")
    back = session.journal.advance(begun, Step.WITHDRAW, failure=Unavailable("no answer"))
    session.journal.finish(back, End.ROLLED_BACK)
    clock.advance(31 * 86_400)
    assert "is in use, and may have ended at its vendor" in only(session).text


def test_one_that_could_not_even_begin_is_told(session):
    """The run that tried says why; the journal knows nothing of it."""
    found = only(session, failures={API: "its administrator has no value"})
    assert (Level.FAILED, "v1") == (found.level, found.about)
    assert "its rotation failed: its administrator has no value, due " in found.text


def test_a_rotation_that_the_manifest_forgot_is_told(project, session, rotation):
    """Nobody else would end it."""
    text = project.manifest.read_text()
    head, _, tail = text.partition("[secrets.api]")
    rest = tail.partition("[secrets.db]")[2]
    project.manifest.write_text(
        (head + "[secrets.db]" + rest).replace('["session", "api", "db"]', '["session", "db"]')
    )
    opened = project.session()
    try:
        found = only(opened)
    finally:
        opened.close()
    assert (Level.STUCK, "r1") == (found.level, found.about)
    assert "put it back" in found.text
    assert "keyturn rotate api -e development --give-up" == found.command


def test_a_protected_environment_needs_a_reason_in_its_command(project, clock):
    """As it is typed there."""
    project.put("api", b"test-api-of-production-1", environment=projects.PRODUCTION)
    opened = project.session(clock=clock)
    try:
        made = opened.store.current_versions(projects.PRODUCTION, [API])["api"].created_at
        clock.step((made - clock.now()).total_seconds() + 30 * 86_400)
        [found] = notices_of(opened, projects.PRODUCTION, tended=False, failures={})
    finally:
        opened.close()
    assert "keyturn rotate api -e production --reason 'WHY'" == found.command


def test_another_user_is_told_nothing(session):
    """The policy is asked first, and the refusal recorded."""

    class Nobody:
        def refusal(self, principal, action, environment):
            return "no" if action is Action.NOTICE_SEND else None

    session.access = Access(
        audit=session.audit,
        database=session.database,
        policy=Nobody(),
        principal=session.access.principal,
        source={},
        reason=None,
        protected=frozenset(),
    )
    with pytest.raises(AccessDenied, match=r"notice\.message\.send"):
        remind(session, WHERE)
    [row, *_] = show_log(session, AuditFilter(action="access.*"))
    assert ("access.request.deny", "denied") == (row.action, row.outcome)
