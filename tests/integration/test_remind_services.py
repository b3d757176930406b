"""Apprise to a real HTTP server: what arrives, what is refused, and what is never shown."""

from __future__ import annotations

import base64
import logging
import socket
import sys
from datetime import UTC, datetime

import pytest

from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, Unavailable, UsageError
from keyturn.notify import Message, open_channel
from tests.integration.reminding import HOST, web_server

TOKEN = "canary/token Kq7+Wm2%Xv9"  # noqa: S105 - made up for these tests
HOOK = "3ccdd113474722377935511fc85d3dd4"
MESSAGE = Message("keyturn shop/production: 1 stuck", "STUCK  db\n", "id", datetime.now(UTC))


def opened(contact, **values):
    """Return the way to *contact*."""
    return open_channel(
        contact, {name: SecretValue.from_text(text) for name, text in values.items()}, server=None
    )


def test_a_webhook_gets_subject_and_body():
    """JSON by POST; a credential from the store goes into the login, whatever is in it."""
    with web_server() as (port, taken):
        way = opened(f"json://keyturn:${{secret:hook}}@{HOST}:{port}/in", hook=TOKEN)
        way.send(MESSAGE)
    [(path, headers, document)] = taken
    assert (MESSAGE.subject, MESSAGE.body.strip()) == (
        document["title"],
        document["message"].strip(),
    )
    assert path.startswith("/in")
    assert f"keyturn:{TOKEN}" == base64.b64decode(headers["Authorization"].split()[1]).decode()
    assert "JSON" == way.name


def test_a_chat_of_the_slack_type_gets_text():
    """Mattermost's incoming webhook, whose token is a part of the path."""
    with web_server() as (port, taken):
        opened(f"mmost://{HOST}:{port}/${{secret:chat}}", chat=HOOK).send(MESSAGE)
    [(path, _, document)] = taken
    assert f"/hooks/{HOOK}" == path
    assert MESSAGE.subject in document["text"]
    assert "STUCK  db" in document["text"]


def test_a_value_may_be_the_whole_address():
    """As a provider shows it, to be copied in one piece."""
    with web_server() as (port, taken):
        opened("${secret:chat.url}", **{"chat.url": f"json://{HOST}:{port}/whole\n"}).send(MESSAGE)
    assert "/whole" == taken[0][0].rstrip("/")


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [(403, Rejected, r"JSON refused it \(403\)"), (503, Unavailable, "it answered 503")],
)
def test_what_is_refused_is_told(status, error, text, capfd, caplog):
    """With the status, and without the address that Apprise itself would log."""
    with web_server(status=status) as (port, taken):
        way = opened(f"json://keyturn:${{secret:hook}}@{HOST}:{port}/in", hook="canary-hook-1")
        with pytest.raises(error, match=text) as caught:
            way.send(MESSAGE)
    assert 1 == len(taken)
    said = capfd.readouterr()
    assert "canary" not in caught.value.message + said.out + said.err + caplog.text
    left = logging.getLogger("apprise").handlers
    assert [] == [each for each in left if not isinstance(each, logging.NullHandler)]


def test_nobody_there_is_told():
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        way = opened(f"json://{HOST}:{free.getsockname()[1]}/")
        with pytest.raises(Unavailable, match="JSON did not take it: no answer"):
            way.send(MESSAGE)


@pytest.mark.parametrize(
    ("contact", "text"),
    [
        ("nothing-known://canary-x", "none that Apprise knows"),
        ("pagerduty://canary-no-key", "none that Apprise knows"),
        ("json://canary@example.com/in", "JSON goes in the clear to another machine"),
        ("mmost://example.com/3ccdd113474722377935511fc85d3dd4", "in the clear"),
    ],
)
def test_an_address_that_is_wrong_or_unsafe_is_not_used(contact, text, capfd):
    """Nothing of it is in the message."""
    with pytest.raises(UsageError, match=text) as caught:
        opened(contact)
    said = capfd.readouterr()
    assert "canary" not in caught.value.message + said.out + said.err


@pytest.mark.parametrize(
    "contact",
    [
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops",
        f"pagerduty://{'A' * 32}@{'b' * 32}",
        f"jsons://example.com/{HOOK}",
    ],
)
def test_addresses_with_tls_are_taken(contact):
    """Their form alone: the services themselves are not on this machine."""
    assert opened(contact).name


def test_without_apprise_its_extra_is_named(monkeypatch):
    """The command that installs it."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(UsageError, match="is not installed") as caught:
        opened("json://127.0.0.1/")
    assert "keyturn[notify]" in caught.value.hint


def test_a_value_that_no_address_can_carry_is_refused():
    """Not text, or of two lines: it is named and not shown."""
    for value in (b"\xff\xfe", b"two\nlines", b""):
        with pytest.raises(UsageError, match="the value of `chat` cannot stand") as caught:
            open_channel(
                "json://x:${secret:chat}@127.0.0.1", {"chat": SecretValue(value)}, server=None
            )
        assert caught.value.__suppress_context__


def test_mail_needs_a_server():
    """A `mailto:` contact in a manifest without `smtp`."""
    with pytest.raises(UsageError, match="no mail server is configured"):
        opened("mailto:a@example.com")
