"""Requests of outside stores to a server that misbehaves, and to one that is not who it says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import pytest

from keyturn._internal.http import Patience, Server, checked_address
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.errors import OutcomeUnknown, Rejected, Unavailable, UsageError
from keyturn.testing import FakeClock
from tests.worlds.authority import Authority

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SILENT = (Unavailable, OutcomeUnknown)


class Peer:
    """
    Listens on this machine; *act* is given each connection, after one request's head was read.

    Args:
        trust: Speaks TLS where it is not None.
    """

    def __init__(self, act, trust=None):
        self.act = act
        self.trust = trust
        self.requests = []
        self.connections = 0
        self._current = self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with contextlib.suppress(OSError):
            self._current.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def _serve(self):
        with contextlib.suppress(OSError):
            while not self._stop.is_set():
                connection, _ = self._listener.accept()
                self.connections += 1
                self._current = connection
                with contextlib.suppress(OSError), connection:
                    self._talk(connection)

    def _talk(self, connection):
        connection.settimeout(5)
        if self.trust is not None:
            connection = self._current = self.trust.wrap_socket(connection, server_side=True)
        with connection:
            while head := self._head(connection):
                self.requests.append(head)
                if self.act(connection, self._stop) is not True:
                    return

    def _head(self, connection):
        head = b""
        while b"\r\n\r\n" not in head:
            part = connection.recv(1)
            if not part:
                return b""
            head += part
        return head


@pytest.fixture
def server():
    """Return a function that makes a client of a peer; each is closed at the end."""
    made = []

    def make(peer, scheme="http", **options):
        options.setdefault("timeout_seconds", 1.0)
        address = f"{scheme}://127.0.0.1:{peer.port}"
        made.append(Server("Vault", address, clock=SystemClock(), **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def ask(client, *, changing):
    return client.send("GET", "/v1/x", headers={"X-Token": "made for a test"}, changing=changing)


def drip_head(connection, stop):
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100:
        connection.sendall(bytes([byte]))
        if stop.wait(0.1):
            return


def drip_body(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not stop.wait(0.1):
        connection.sendall(b" ")


def endless(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    while not stop.is_set():
        connection.sendall(b" " * 65536)


def endless_chunks(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not stop.is_set():
        connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def headers_without_end(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000)


def long_header(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n")


def no_http(connection, stop):
    connection.sendall(b"hunter2 hunter2\r\n\r\n")


def nothing(connection, stop):
    stop.wait(5)


def closed(connection, stop):
    pass


def cut(connection, stop):
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":')


FAULTS = [
    drip_head,
    drip_body,
    endless,
    endless_chunks,
    headers_without_end,
    long_header,
    no_http,
    nothing,
    closed,
    cut,
]


@pytest.mark.parametrize("changing", [False, True])
@pytest.mark.parametrize("act", FAULTS)
def test_no_answer_in_time(server, act, changing):
    """However slow, long or broken it is, it ends in time, and a change is in doubt."""
    with Peer(act) as peer:
        client = server(peer)
        begun = time.monotonic()
        with pytest.raises(SILENT) as raised:
            ask(client, changing=changing)
        assert time.monotonic() - begun < 2.5
        assert isinstance(raised.value, OutcomeUnknown if changing else Unavailable)
        assert "hunter2" not in raised.value.message
        assert raised.value.__cause__ is None


@pytest.mark.parametrize("changing", [False, True])
def test_nobody_listens(server, changing):
    """Nothing was sent, so a change was certainly not made."""
    with Peer(closed) as peer:
        client = server(peer)
    with pytest.raises(Unavailable):
        ask(client, changing=changing)


def answers(reply):
    def act(connection, _stop):
        connection.sendall(reply)
        return True

    return act


def test_connections_are_kept(server):
    """Ten requests go over one connection."""
    with Peer(answers(OK)) as peer:
        client = server(peer)
        for _ in range(10):
            assert ask(client, changing=True).body == {}
        assert peer.connections == 1


def test_a_connection_that_was_closed_meanwhile_is_not_used(server):
    """A change is not sent over it, so nothing comes to be in doubt."""

    def once(connection, _stop):
        connection.sendall(OK)

    with Peer(once) as peer:
        client = server(peer)
        for _ in range(3):
            assert ask(client, changing=True).succeeded
            time.sleep(0.1)
        assert peer.connections == 3


def test_a_server_that_says_that_it_closes(server):
    """Its answer is read to the end."""
    reply = b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 70000\r\n\r\n{"a": "'
    reply += b"x" * (70000 - 9) + b'"}'

    def act(connection, _stop):
        connection.sendall(reply[:40_000])
        time.sleep(0.1)
        connection.sendall(reply[40_000:])

    with Peer(act) as peer:
        for _ in range(5):
            assert len(ask(server(peer), changing=True).at("a")) == 70000 - 9


def test_what_is_no_json_is_no_body(server):
    """Nor is what was compressed without our asking."""
    page = b"<html>hunter2</html>"
    reply = b"HTTP/1.1 502 Bad\r\nContent-Length: %d\r\nRetry-After: 3\r\n\r\n%s" % (
        len(page),
        page,
    )
    with Peer(answers(reply)) as peer:
        client = server(peer)
        found = ask(client, changing=False)
        assert (found.status, found.body, found.retry_after) == (502, None, 3.0)
        assert "hunter2" not in repr(found)
        assert b"Accept-Encoding: identity" in peer.requests[0]


def test_a_redirect_is_an_answer(server):
    """It is not followed, so what is sent goes to one server."""
    reply = b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    with Peer(answers(reply)) as peer:
        client = server(peer)
        assert ask(client, changing=True).headers["location"] == "http://127.0.0.1:9/"


def test_nothing_of_the_environment_is_used(server, monkeypatch):
    """A proxy that is set for others gets nothing."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Peer(answers(OK)) as peer:
        client = server(peer)
        assert ask(client, changing=False).succeeded


@pytest.mark.parametrize("text", ["a\r\nX: b", "ü", "a\x00b"])
def test_a_header_that_cannot_be_sent(server, text):
    """It is refused, and not shown."""
    with Peer(answers(OK)) as peer:
        with pytest.raises(Rejected) as raised:
            server(peer).send("GET", "/", headers={"X-Token": text}, changing=False)
        assert text not in raised.value.message
        assert peer.requests == []


# --- who it is ------------------------------------------------------------------------------


def context(file):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    return made


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_a_server_of_the_named_authority(server, authority):
    """It is asked, and the connection kept."""
    with Peer(answers(OK), context(authority.certificate())) as peer:
        client = server(peer, "https", ca_file=str(authority.file))
        for _ in range(3):
            assert ask(client, changing=True).succeeded
        assert peer.connections == 1


@pytest.mark.parametrize("case", ["unknown", "expired", "another host"])
def test_a_server_that_does_not_prove_who_it_is(server, authority, case, tmp_path):
    """An unknown authority, a certificate that expired or of another host: it is told nothing."""
    options = {"expired": {"days": -1}, "another host": {"host": "127.0.0.2"}}.get(case, {})
    with Peer(answers(OK), context(authority.certificate(**options))) as peer:
        trusted = None if case == "unknown" else str(authority.file)
        client = server(peer, "https", ca_file=trusted)
        with pytest.raises(Rejected, match="does not prove who it is") as raised:
            ask(client, changing=True)
        assert raised.value.code == "store.tls"
        assert peer.requests == []


def test_plain_text_where_tls_is_spoken(server):
    """It is no answer, and nothing was sent."""
    with Peer(answers(OK)) as peer, pytest.raises(Unavailable):
        ask(server(peer, "https"), changing=True)


@pytest.mark.parametrize(
    "address",
    [
        "http://vault.example.com",
        "http://10.0.0.1:8200",
        "https://user:pw@host",
        "https://host/?a=b",
        "https://host/#a",
        "ftp://127.0.0.1",
        "https://",
        "https://ho st",
        "https://host:99999",
        "https://höst",
        "",
    ],
)
def test_addresses_that_are_refused(address):
    """Values never go over plain http to another machine, nor to what is no address."""
    with pytest.raises(UsageError):
        checked_address(address)


def test_patience_grows_and_ends():
    """Pauses grow, differ, and end before the time that was set."""
    clock = FakeClock()
    begun = clock.monotonic()
    patience = Patience(clock, SystemEntropy(), 10)
    count = 0
    while patience.pause():
        count += 1
    assert 8 < clock.monotonic() - begun <= 10
    assert 10 < count < 30
    assert not patience.pause(60)
