"""`keyturn remind` as it is used: over weeks, by several at once, killed, and without contacts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest

from keyturn._internal import failpoints
from keyturn.app.reminders import remind
from keyturn.core.ids import SecretName
from keyturn.testing.clock import FakeClock
from tests.cli import projects
from tests.cli.projects import DEVELOPMENT, KEYTURN, VALUES
from tests.integration.reminding import HOST, PASSWORD, USER, mail_server, web_server

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

ROOT = Path(__file__).parents[1]
SECURITY, ON_CALL = "security@example.com", "oncall@example.com"
DAY = 86_400


def aged(project, *, contacts="", **ages):
    """Give the secrets of *project* a `max_age`, and the project its *contacts*."""
    text = project.manifest.read_text()
    for name, max_age in ages.items():
        text = text.replace(f"[secrets.{name}]\n", f'[secrets.{name}]\nmax_age = "{max_age}"\n')
    project.manifest.write_text(f"{text}\n[contacts]\n{contacts}\n")


def mailing(port, *, more=""):
    """Return contacts that are mailed by the server at *port*."""
    return (
        f'security = "mailto:{SECURITY}"\non_call = "mailto:{ON_CALL}"\n'
        f'smtp = "smtp://{HOST}:{port}"\nsender = "keyturn@example.com"\n{more}'
    )


@pytest.fixture
def project(tmp_path):
    """A project with values in `development`, made a moment ago: what lives for `1s` is due."""
    made = projects.copied(tmp_path)
    session = made.session()
    try:
        names = [SecretName(name) for name in ("api", "db", "session")]
        versions = session.store.current_versions(DEVELOPMENT, names).values()
        youngest = session.clock.now() - max(version.created_at for version in versions)
    finally:
        session.close()
    time.sleep(max(0.0, 1.1 - youngest.total_seconds()))
    return made


def made_at(project):
    """Return when its secrets were made."""
    session = project.session()
    try:
        found = session.store.current_versions(DEVELOPMENT, [SecretName("api")])
        return found["api"].created_at
    finally:
        session.close()


def run(project, clock, **options):
    """Remind once, with a session of its own."""
    session = project.session(clock=clock)
    try:
        return remind(session, DEVELOPMENT, **options)
    finally:
        session.close()


def by_day(mails, recipient, start):
    """Return {day: the level in the subject} of what *recipient* was sent."""
    return {
        (mail["Date"].datetime - start).days: mail["Subject"].partition(" (")[2].rstrip(")")
        for mail in mails.to(recipient)
    }


@pytest.mark.parametrize("hours", [24, 6])
def test_forty_days_of_ticks(project, hours):
    """Each level once, then weekly; on call from the due date on; no tick remembers another."""
    # A mail's date has no fractions of a second.
    start = made_at(project).replace(microsecond=0) + timedelta(minutes=1)
    clock = FakeClock(start)
    with mail_server() as server:
        aged(project, contacts=mailing(server.port), api="30d", session="20d")
        for _ in range(0, 46 * 24, hours):
            run(project, clock)
            clock.advance(hours * 3600)
    week = 7 if hours == 24 else 6.5
    security = by_day(server, SECURITY, start)
    on_call = by_day(server, ON_CALL, start)
    # `session` (20 days): 7 days before; it lives too short for 14. `api` (30 days): both.
    expected = {
        13: "7-days",
        16: "14-days",
        20: "due",
        23: "7-days",
        27: "overdue",
        30: "due",
    }
    assert expected == {day: text for day, text in security.items() if day <= 30}
    assert {20, 27, 30} == {day for day in on_call if day <= 30}
    overdue = sorted(day for day, text in on_call.items() if "overdue" in text)
    # From then on: `session` each week since day 27, `api` since day 37.
    assert {27, int(27 + week), 37, int(27 + 2 * week), int(37 + week)} == set(overdue)
    assert len(server.to(SECURITY)) == len(security)
    assert 0 == len([mail for mail in server.taken if "users" in str(mail["To"])])


def test_what_a_person_is_told(project):
    """What, since when, whose, for whom, and the command: and no value."""
    clock = FakeClock(made_at(project) + timedelta(days=31, minutes=1))
    with mail_server() as server:
        aged(project, contacts=mailing(server.port), api="30d", db="24d")
        run(project, clock)
    [mail] = server.to(ON_CALL)
    assert (
        f"keyturn clipper/development: rotate db now, due since"
        f" {made_at(project) + timedelta(days=24):%Y-%m-%d} (overdue); 1 more: 1 due"
    ) == mail["Subject"]
    assert "high" == mail["Importance"]
    text = mail.get_content().replace("\r\n", "\n")
    first, second = (
        text.index("OVERDUE  development/db: version 2 of"),
        text.index("DUE  development/api: version 1 of"),
    )
    assert first < second
    for part in (
        "7 days ago\n",
        "  owner team-core; used by backend\n",
        "  do, now: keyturn rotate api -e development\n",
        f"in {project.folder}.",
    ):
        assert part in text
    assert not [value for value in VALUES.values() if value.decode() in text + str(mail)]


def test_a_contact_that_fails_is_told_again_and_the_other_at_once(project):
    """Exit 7, the error without the credential; the next run tells that one alone."""
    clock_free = {"api": "1s"}
    with mail_server() as mails, web_server(status=503) as (port, refused):
        contacts = mailing(mails.port).replace(
            f"mailto:{ON_CALL}", f"json://u:${{secret:api}}@{HOST}:{port}/"
        )
        aged(project, contacts=contacts, **clock_free)
        result = project("remind")
        assert 7 == result.code, result.text
        assert "`on_call` of `development` was not told: JSON did not take it" in result.text
        assert b"test-api" not in result.out + result.err
        assert (1, 1) == (len(mails.taken), len(refused))
        assert 7 == project("remind", "-q").code
        assert (1, 2) == (len(mails.taken), len(refused))
    with web_server() as (port, taken):
        text = project.manifest.read_text()
        head, _, tail = text.partition("json://u:${secret:api}@")
        project.manifest.write_text(
            f"{head}json://u:${{secret:api}}@{HOST}:{port}/{tail[tail.index(chr(34)) :]}"
        )
        result = project("remind", "-q")
        assert (0, b"", b"") == (result.code, result.out, result.err)
        assert 1 == len(taken)
        assert 0 == project("remind").code
        assert 1 == len(taken)
    outcomes = [
        record["outcome"]
        for record in project.actions(action="notice.message.send")
        if record["object"] == "development/on_call"
    ]
    assert ["begun", "failed", "begun", "failed", "begun", "done"] == outcomes
    # The credential was read for each of the three, and that is recorded.
    assert 3 == len(project.actions(action="secret.value.read", object="development/api"))


def test_the_mail_servers_login_comes_from_the_store(project):
    """Read through the choke point, and in no output."""
    text = project.manifest.read_text() + (
        '\n[secrets.mailer]\nkind = "guided"\n'
        'fields = { username = "MAIL_USER", password = "MAIL_PASSWORD" }\n'
    )
    project.manifest.write_text(text)
    with mail_server(login=True) as server:
        more = 'smtp_login = "mailer"\n'
        aged(project, contacts=mailing(server.port, more=more), api="1s")
        result = project("remind", "-e", "development")
        assert 7 == result.code
        assert "keyturn set mailer" in result.text
        project.put("mailer.username", USER.encode())
        project.put("mailer.password", PASSWORD.encode())
        result = project("remind", "-e", "development")
    assert 0 == result.code, result.text
    assert PASSWORD not in result.text
    assert 2 == len(server.taken)
    assert {USER} == {name for name, _ in server.logins}
    read = project.actions(action="secret.value.read", object="development/mailer")
    assert {"username", "password"} == {record["detail"]["field"] for record in read}


def test_two_at_once_tell_once(project):
    """Processes that start together: each contact gets each notice once."""
    with mail_server() as server:
        aged(project, contacts=mailing(server.port), api="1s", session="1s", db="1s")
        running = [
            subprocess.Popen([KEYTURN, "remind", "-q"], cwd=project.folder, env=project.environ)
            for _ in range(4)
        ]
        assert [0] * 4 == [each.wait(60) for each in running]
    told = sorted(mail["To"] for mail in server.taken)
    assert [ON_CALL, SECURITY] == told


@pytest.mark.crash
@pytest.mark.parametrize(("point", "mails"), [("notify.send.call", 1), ("notify.send.called", 2)])
def test_killed_while_sending_tells_again_rather_than_never(project, point, mails):
    """Not at once, for it may still be under way: ten minutes later."""
    with mail_server() as server:
        contacts = mailing(server.port).replace(f'on_call = "mailto:{ON_CALL}"\n', "")
        aged(project, contacts=contacts, api="1s")
        killed = project("remind", environ={"KEYTURN_FAILPOINT": point})
        assert -9 == killed.code
        assert 0 == project("remind").code
        assert mails - 1 == len(server.taken)
        clock = FakeClock(made_at(project) + timedelta(minutes=20))
        [telling] = run(project, clock).tellings
        assert telling.failure is None
        assert mails == len(server.taken)
        assert () == tuple(run(project, clock).tellings)


def test_what_cannot_be_noted_is_not_sent(project):
    """The disk is full when the claim is written; the next run tells."""
    clock = FakeClock(made_at(project) + timedelta(minutes=1))
    with mail_server() as server:
        aged(project, contacts=mailing(server.port), api="1s")
        session = project.session(clock=clock)
        failpoints.arm("database.commit:full")
        try:
            with pytest.raises(OSError, match="No space left"):
                remind(session, DEVELOPMENT)
        finally:
            failpoints.disarm()
            session.close()
        assert [] == server.taken
        run(project, clock)
        assert 2 == len(server.taken)


def test_without_contacts_it_is_printed(project):
    """And said that nobody is told; exit 0."""
    aged(project, api="1s")
    result = project("remind")
    assert 0 == result.code, result.text
    out = result.out.decode()
    assert out.startswith("keyturn clipper/development: rotate api now, due since ")
    assert "do, now: keyturn rotate api -e development" in out
    assert "nobody was told of 1 in `development`" in result.text
    assert [] == project.actions(action="notice.message.send")


def test_a_dry_run_tells_nobody_and_leaves_no_trace(project):
    """It prints what would go to whom; the real run after it tells."""
    with mail_server() as server:
        aged(project, contacts=mailing(server.port), api="1s")
        result = project("remind", "--dry-run")
        assert (0, []) == (result.code, server.taken)
        assert b"to security: keyturn clipper/development: rotate api now, due since " in result.out
        assert b"to on_call: keyturn clipper/development: rotate api now, due since " in result.out
        assert 0 == project("remind").code
        assert 2 == len(server.taken)


def test_nothing_to_tell_is_silent_and_loads_nothing(project):
    """For cron: no output with `-q`, and neither Apprise nor what speaks SMTP is imported."""
    aged(project, contacts='security = "json://127.0.0.1:9/"', api="400d")
    result = project("remind", "-q")
    assert (0, b"", b"") == (result.code, result.out, result.err)
    program = (
        "import sys\nfrom keyturn.cli.main import main\n"
        "try:\n    main(['remind', '-q'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(sys.modules.keys() & {'apprise', 'smtplib', 'requests', 'email.message'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project.folder,
        env=project.environ,
        capture_output=True,
        check=True,
    )
    assert b"[]\n" == done.stdout


def test_one_contact_alone_is_told_of_everything(project):
    """Where only `on_call` is named, the early notices go there too."""
    clock = FakeClock(made_at(project) + timedelta(days=17))
    with mail_server() as server:
        contacts = mailing(server.port).replace(f'security = "mailto:{SECURITY}"\n', "")
        aged(project, contacts=contacts, api="30d")
        run(project, clock)
    assert ["14-days"] == list(by_day(server, ON_CALL, clock.now()).values())


def test_other_environments_are_asked_for_by_name(project):
    """An unknown one is an error; a known one is looked at alone."""
    aged(project, contacts='security = "mailto:security@example.com"', api="1s")
    assert 2 == project("remind", "-e", "nowhere").code
    result = project("remind", "-e", "production")
    assert (0, b"") == (result.code, result.out)
    assert "production: nothing needs attention" in result.text
    told = project("remind", "-e", "development", "--dry-run", "--json").json()
    schema = json.loads((ROOT / "cli/schemas/remind.json").read_text())
    jsonschema.validate(told, schema, cls=jsonschema.Draft202012Validator)
    result = project("remind", "-e", "development", "-e", "production", "--json")
    assert 7 == result.code
    assert "no mail server is configured" in result.text
    documents = result.json()
    jsonschema.validate(documents, schema, cls=jsonschema.Draft202012Validator)
    assert [("development", 1), ("production", 0)] == [
        (each["environment"], len(each["notices"])) for each in documents
    ]
