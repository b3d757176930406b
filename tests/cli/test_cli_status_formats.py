"""`status` for other programs: read back by the parsers of those who read it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import icalendar
import pytest
from prometheus_client.parser import text_string_to_metric_families

from keyturn.app.inspection import Verdict
from keyturn.cli.calendar_file import calendar_text
from keyturn.core.ids import EnvironmentName
from tests.cli.projects import VALUES

TOKEN = b"test-token-Ww1Ee2Rr3Tt4Yy5Uu6"


def samples(result):
    """Return the samples by (name, secret, state), and the families' types."""
    families = list(text_string_to_metric_families(result.out.decode()))
    found = {
        (s.name, s.labels.get("secret"), s.labels.get("state")): s
        for family in families
        for s in family.samples
    }
    return found, {family.name: family.type for family in families}


def test_prometheus(quick, project):
    """Every number that the table shows, as a gauge with the same labels."""
    project.put("token", TOKEN)
    assert 0 == quick("rotate", "token").code
    result = quick("status", "--format", "prometheus")
    assert (0, b"") == (result.code, result.err)
    found, types = samples(result)
    assert {"gauge"} == set(types.values())
    assert all(name.startswith("keyturn_") for name in types)
    db = found["keyturn_secret_version", "db", None]
    assert (2, "development", "clipper", "postgres-login") == (
        db.value,
        *(db.labels[name] for name in ("environment", "project", "kind")),
    )
    now = found["keyturn_status_timestamp_seconds", None, None].value
    assert abs(now - datetime.now(UTC).timestamp()) < 60
    due = found["keyturn_secret_due_timestamp_seconds", "db", None].value
    over = found["keyturn_secret_overdue_timestamp_seconds", "db", None].value
    made = now - found["keyturn_secret_age_seconds", "db", None].value
    assert 90 * 86400 == pytest.approx(over - made, abs=1)
    assert 0 <= over - due <= 90 * 86400 / 20
    states = {
        key[2]: s.value for key, s in found.items() if key[:2] == ("keyturn_secret_state", "token")
    }
    assert (1, len(Verdict)) == (states["rotating"], len(states))
    assert 1 == sum(states.values())
    assert 1 == found["keyturn_secret_rotation_open", "token", None].value
    assert ("keyturn_secret_last_rotation_timestamp_seconds", "token", None) in found
    assert ("keyturn_secret_last_rotation_timestamp_seconds", "db", None) not in found
    assert 1 == found["keyturn_secret_last_rotation_state", "token", "live"].value
    assert not any(value in result.out for name, value in VALUES.items() if name != "db.username")


def test_prometheus_without_values(quick):
    """What has no version has no age; its state says that it is missing."""
    found, _ = samples(quick("status", "-e", "production", "--format", "prometheus"))
    assert 1 == found["keyturn_secret_state", "db", "missing"].value
    assert 1 == found["keyturn_secret_state", "token", "optional"].value
    assert not any(name == "keyturn_secret_age_seconds" for name, _, _ in found)


def test_calendar(quick, project):
    """One all-day event a due date, which keeps its UID when a rotation moves it."""
    text = project.manifest.read_text()
    purpose = "opens; the, \\\\ database of Grüße " + "and tells what it is for " * 4
    project.manifest.write_text(
        text.replace("[secrets.db]", f'[secrets.db]\npurpose = "{purpose}"')
    )
    result = quick("status", "--format", "ics")
    assert (0, b"") == (result.code, result.err)
    lines = result.out.split(b"\r\n")
    assert b"" == lines.pop()
    assert not any(b"\n" in line for line in lines)
    assert 75 >= max(map(len, lines))
    calendar = icalendar.Calendar.from_ical(result.out)
    assert "2.0" == calendar["VERSION"]
    events = {str(event["UID"]): event for event in calendar.walk("VEVENT")}
    assert {"development.session", "development.api", "development.db"} == {
        uid.removesuffix("@clipper.keyturn") for uid in events
    }
    event = events["development.db@clipper.keyturn"]
    assert "Rotate development/db (postgres-login)" == event["SUMMARY"]
    assert str(event["DESCRIPTION"]).startswith(purpose.replace("\\\\", "\\").rstrip())
    assert type(event.decoded("DTSTART")) is date
    assert timedelta(days=1) == event.decoded("DTEND") - event.decoded("DTSTART")
    days = (event.decoded("DTSTART") - datetime.now(UTC).date()).days
    assert 85 <= days <= 90
    assert 2 == event["SEQUENCE"]
    assert not any(value in result.out for name, value in VALUES.items() if name != "db.username")


def test_calendar_of_nothing(quick):
    """A calendar that somebody subscribed to is empty, and no error."""
    result = quick("status", "-e", "production", "--format", "ics")
    assert 0 == result.code
    assert [] == icalendar.Calendar.from_ical(result.out).walk("VEVENT")


def test_a_calendar_has_no_other_lines_than_its_own():
    """A name cannot bring in a line."""
    now = datetime.now(UTC)
    text = calendar_text("x\r\nBEGIN:VALARM", EnvironmentName("e"), [], now=now)
    assert "BEGIN:VALARM" not in text.split("\r\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--format", "yaml"), "yaml"), (("--json", "--format", "ics"), "ask for two things")],
)
def test_refuses(words, message, quick):
    """Nothing is shown."""
    result = quick("status", *words)
    assert (2, b"") == (result.code, result.out)
    assert message in result.text


def test_json_by_either_name(quick):
    """`--json` is short for it."""
    assert quick("status", "--json").json() == quick("status", "--format", "json").json()
