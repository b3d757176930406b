"""Mail to a real server: in the clear on this machine, by STARTTLS, by TLS, with a login."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, datetime

import pytest

from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, Unavailable, UsageError
from keyturn.notify import MailServer, Message
from keyturn.notify.mail import MailChannel
from tests.integration.reminding import HOST, PASSWORD, USER, authority, mail_server

# The test's server wants a login in the clear, as some do on one machine.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

TO = "mailto:security@example.com"
LOGIN = (SecretValue.from_text(USER), SecretValue.from_text(PASSWORD))
MESSAGE = Message(
    subject="keyturn clipper/production: 1 due",
    body="DUE  db: Größe\n  do: keyturn rotate db\n",
    id="0123abcd",
    at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
)


def elsewhere(address):
    """Take every server for one of another machine."""
    return False


def channel(port, *, scheme="smtp", to=TO, **settings):
    """Return the way to the server at *port*."""
    mail = {key: settings.pop(key) for key in ("login", "sender") if key in settings}
    return MailChannel(to, MailServer(f"{scheme}://{HOST}:{port}", **mail), **settings)


def test_a_mail_arrives_as_it_was_written():
    """Subject, text, sender, date and a header that keeps robots from answering."""
    with mail_server() as server:
        channel(server.port, sender="keyturn@example.com").send(MESSAGE)
    [mail] = server.taken
    assert MESSAGE.subject == mail["Subject"]
    assert MESSAGE.body == mail.get_content().replace("\r\n", "\n")
    assert ("keyturn@example.com", "security@example.com") == (mail["From"], mail["To"])
    assert MESSAGE.at == mail["Date"].datetime
    assert ("<0123abcd@example.com>", "auto-generated") == (
        mail["Message-ID"],
        mail["Auto-Submitted"],
    )
    assert mail["Importance"] is None


def test_several_recipients_get_one_mail():
    """Addresses joined by commas; without a sender it comes from the first of them."""
    with mail_server() as server:
        channel(server.port, to="mailto:a@example.com,b@example.com").send(MESSAGE)
    [mail] = server.taken
    assert ("a@example.com", "a@example.com, b@example.com") == (mail["From"], mail["To"])


def test_plain_text_does_not_leave_this_machine():
    """A server elsewhere without STARTTLS gets nothing, not even the login."""
    with mail_server(login=True) as server:
        with pytest.raises(Rejected, match="offers no STARTTLS"):
            channel(server.port, login=LOGIN, is_local=elsewhere).send(MESSAGE)
    assert ([], []) == (server.taken, server.logins)


def test_starttls_is_verified_elsewhere(tmp_path, monkeypatch):
    """Without its CA the mail does not go, and neither does the login; with it both do."""
    ca_file, context = authority(tmp_path)
    with mail_server(tls=context, login=True) as server:
        way = channel(server.port, login=LOGIN, is_local=elsewhere)
        with pytest.raises(Unavailable, match="its certificate was not accepted"):
            way.send(MESSAGE)
        assert ([], []) == (server.taken, server.logins)
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
        way.send(MESSAGE)
    assert [True] == [mail.is_encrypted for mail in server.taken]
    assert [(USER, True)] == server.logins


def test_starttls_on_this_machine_needs_no_ca(tmp_path):
    """The usual mail server there has a certificate that nobody vouches for."""
    _, context = authority(tmp_path)
    with mail_server(tls=context) as server:
        channel(server.port).send(MESSAGE)
    assert [True] == [mail.is_encrypted for mail in server.taken]


def test_smtps_is_always_verified(tmp_path, monkeypatch):
    """Whoever writes `smtps:` means it, on this machine too."""
    ca_file, context = authority(tmp_path)
    with mail_server(tls=context, first=True) as server:
        way = channel(server.port, scheme="smtps")
        with pytest.raises(Unavailable, match="its certificate was not accepted"):
            way.send(MESSAGE)
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
        way.send(MESSAGE)
    assert 1 == len(server.taken)


def test_a_wrong_login_is_refused_without_being_quoted():
    """The error names the server and the code, and nothing that was sent."""
    wrong = (LOGIN[0], SecretValue.from_text("canary-wrong-Zp3Lk8"))
    with mail_server(login=True) as server, pytest.raises(Rejected) as caught:
        channel(server.port, login=wrong).send(MESSAGE)
    assert "refused the login (535)" in caught.value.message
    assert "canary" not in caught.value.message + str(caught.value.__cause__)
    assert caught.value.__suppress_context__
    assert [] == server.taken


def test_a_login_that_a_server_does_not_know_is_told():
    """A server without AUTH is not mailed as if the login had been taken."""
    with mail_server() as server, pytest.raises(Rejected, match="takes no login"):
        channel(server.port, login=LOGIN).send(MESSAGE)
    assert [] == server.taken


@pytest.mark.parametrize(
    ("answers", "error", "text"),
    [
        ({"DATA": "554 no"}, Rejected, r"refused it \(554\)"),
        ({"DATA": "451 later"}, Unavailable, "it answered 451"),
        ({"security@example.com": "550 who?"}, Rejected, "refused 1 of 1 recipients"),
    ],
)
def test_a_mail_that_is_refused_is_told(answers, error, text):
    """For good, for now, or for one recipient: it has not arrived."""
    with mail_server(answers=answers) as server, pytest.raises(error, match=text):
        channel(server.port).send(MESSAGE)
    assert [] == server.taken


def test_one_recipient_of_two_refused_is_told():
    """The other got it, and still somebody was not told."""
    with mail_server(answers={"b@example.com": "550 who?"}) as server:
        with pytest.raises(Rejected, match="refused 1 of 2 recipients"):
            channel(server.port, to="mailto:a@example.com,b@example.com").send(MESSAGE)
    assert 1 == len(server.taken)


def test_nobody_there_is_told():
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        with pytest.raises(Unavailable, match="did not take it: Connection refused"):
            channel(free.getsockname()[1]).send(MESSAGE)


def test_a_server_that_drips_is_not_waited_for():
    """Each byte comes in time and the whole does not: the bound is on the whole."""
    done = threading.Event()
    with socket.create_server((HOST, 0)) as listener:

        def drip():
            connection, _ = listener.accept()
            with connection:
                while not done.wait(0.05):
                    try:
                        connection.sendall(b"2")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            way = channel(listener.getsockname()[1], seconds=0.4)
            with pytest.raises(Unavailable, match="no answer within 0.4 seconds"):
                way.send(MESSAGE)
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    ("to", "url", "text"),
    [
        ("mailto:nobody", "smtp://127.0.0.1", "no mail address"),
        ("mailto:a@example.com?subject=x", "smtp://127.0.0.1", "no mail address"),
        (TO, "http://127.0.0.1", "no mail server"),
        (TO, "smtp://127.0.0.1:port", "no mail server"),
    ],
)
def test_a_wrong_address_is_told_before_anything_is_connected(to, url, text):
    """The error does not quote what could be anything."""
    with pytest.raises(UsageError, match=text):
        MailChannel(to, MailServer(url))
