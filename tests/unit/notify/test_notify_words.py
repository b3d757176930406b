"""Levels, addresses and the words of a digest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef
from keyturn.core.value import SecretValue
from keyturn.notify import (
    MAX_NOTICES,
    Level,
    Notice,
    address_of,
    compose,
    is_mail,
    level_of_age,
    reaches_on_call,
    references,
)
from keyturn.notify.digest import span

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def notice(name="db", level=Level.DUE, **settings):
    """Return a notice of `production/db`, or of what *settings* say."""
    return Notice(
        **{
            "ref": SecretRef(EnvironmentName("production"), SecretName(name)),
            "level": level,
            "about": "v1",
            "text": "version 1",
            "command": f"keyturn rotate {name} -e production",
            "since": NOW,
            **settings,
        }
    )


def digest(*notices):
    """Return the message of *notices*."""
    return compose(
        notices,
        project="clipper",
        environment="production",
        where="on web1 in /opt/clipper",
        message_id="id",
        at=NOW,
    )


@pytest.mark.parametrize(
    ("days", "level"),
    [
        (15, None),
        (14.01, None),
        (14, Level.FORTNIGHT),
        (7.01, Level.FORTNIGHT),
        (7, Level.WEEK),
        (0.01, Level.WEEK),
        (0, Level.DUE),
        (-6.99, Level.DUE),
        (-7, Level.OVERDUE),
        (-700, Level.OVERDUE),
    ],
)
def test_levels_rise_with_age(days, level):
    """The edges of each level, for a secret that lives long enough for all."""
    assert level == level_of_age(NOW + days * DAY, 90 * DAY, NOW)


@pytest.mark.parametrize(
    ("max_age", "levels"),
    [
        (28, {Level.FORTNIGHT, Level.WEEK, Level.DUE}),
        (27, {Level.WEEK, Level.DUE}),
        (14, {Level.WEEK, Level.DUE}),
        (13, {Level.DUE}),
        (1, {Level.DUE}),
    ],
)
def test_what_lives_short_is_not_always_about_to_end(max_age, levels):
    """Half a life at most is spent announcing its end."""
    found = {level_of_age(NOW + day * DAY, max_age * DAY, NOW) for day in range(max_age + 1)}
    assert levels == found - {None}


def test_on_call_is_woken_from_the_due_date_on():
    """What is only coming, or waits, wakes nobody."""
    quiet = {level for level in Level if not reaches_on_call(level)}
    assert {Level.FORTNIGHT, Level.WEEK, Level.WAITING} == quiet


def test_every_level_says_what_it_means():
    """And only what goes on being wrong is told again."""
    assert len({level.meaning for level in Level}) == len(Level)
    again = {level for level in Level if level.again}
    assert {Level.ALARM, Level.STUCK, Level.FAILED, Level.OVERDUE, Level.WAITING} == again


def test_the_most_urgent_comes_first():
    """By level, then by priority, then the oldest."""
    message = digest(
        notice("week", Level.WEEK),
        notice("due-low", place=3),
        notice("alive", Level.ALARM),
        notice("due-old", place=1, since=NOW - DAY),
        notice("due-new", place=1),
    )
    names = [line.split()[1] for line in message.body.splitlines() if line.endswith(": version 1")]
    expected = ["alive", "due-old", "due-new", "due-low", "week"]
    assert [f"production/{name}:" for name in expected] == names
    assert (
        "keyturn clipper/production: rotate alive now (alarm); 4 more: 3 due, 1 7-days"
        == message.subject
    )
    assert message.is_urgent


@pytest.mark.parametrize(
    ("level", "command", "subject"),
    [
        (Level.WEEK, "keyturn rotate db", "rotate db by 2026-01-02 (7-days)"),
        (Level.DUE, "keyturn set db", "set db now, due since 2026-01-02 (due)"),
        (Level.STUCK, "keyturn rotate --resume db", "resume db now (stuck)"),
        (Level.STUCK, "keyturn rotate db --give-up", "end db now (stuck)"),
    ],
)
def test_the_subject_says_what_to_do_and_by_when(level, command, subject):
    """Project, environment, secret, the deed and its day: without opening the mail."""
    message = digest(notice(level=level, command=command))
    assert f"keyturn clipper/production: {subject}" == message.subject
    until = ", by 2026-01-02 03:04 UTC" if level is Level.WEEK else ", now"
    assert f"\n  do{until}: {command}\n" in message.body


def test_what_is_only_coming_is_not_urgent():
    """A mail without the mark of one that cannot wait."""
    assert not digest(notice(level=Level.DUE), notice(level=Level.WAITING)).is_urgent
    assert digest(notice(level=Level.OVERDUE)).is_urgent


def test_a_long_digest_ends_in_a_count():
    """So many and no more; the last line says where the rest is."""
    message = digest(*(notice(f"s{number:03}") for number in range(MAX_NOTICES + 13)))
    assert message.body.count("  do, now: ") == MAX_NOTICES
    assert "... and 13 more: keyturn status -e production" in message.body
    assert message.subject.endswith(f"; {MAX_NOTICES + 12} more: {MAX_NOTICES + 12} due")


def test_text_from_elsewhere_stays_in_its_line():
    """Control characters, newlines and length; and many consumers are counted."""
    message = digest(
        notice(
            text="stuck: \x1b[31mred\nSubject: forged" + "x" * 1000,
            owner="team\r\nBcc: all@example.com",
            consumers=[f"c{number}" for number in range(9)],
        )
    )
    assert all(c.isprintable() or c == "\n" for c in message.body)
    assert "DUE  production/db: stuck: [31mred Subject: forgedxxx" in message.body
    assert (
        "\n  owner team Bcc: all@example.com; used by c0, c1, c2, c3, c4, 4 more\n" in message.body
    )
    assert max(map(len, message.body.splitlines())) < 400


def test_spans_are_words():
    """One unit, rounded down."""
    assert ["2 days", "1 day", "23 hours", "1 hour", "under an hour"] == [
        span(timedelta(hours=hours)) for hours in (49, -47, 23.9, 1, 0.5)
    ]


def test_references_are_found_and_filled():
    """Each once; what a URL gives a meaning to is quoted."""
    contact = "slack://${secret:chat.a}/${secret:chat.b}/${secret:chat.a}"
    assert ["chat.a", "chat.b"] == references(contact)
    values = {"chat.a": SecretValue(b"T/1@x"), "chat.b": SecretValue("ü ".encode())}
    filled = address_of(contact, values)
    assert SecretValue.from_text("slack://T%2F1%40x/%C3%BC/T%2F1%40x") == filled
    assert "T" not in repr(filled)[len("SecretValue") :]


def test_mail_is_ours_and_accounts_are_apprises():
    """`mailto:` with an address, and `mailto://` with an account."""
    assert is_mail("mailto:a@example.com")
    assert is_mail("MAILTO:a@example.com")
    assert not is_mail("mailto://user@example.com")
    assert not is_mail("${secret:chat}")
