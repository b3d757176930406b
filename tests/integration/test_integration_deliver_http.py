"""Health checks and reloads over real sockets, with servers that behave badly."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from keyturn.core.clock import SystemClock
from keyturn.deliver import HttpReload, reload_consumer, wait_healthy
from keyturn.deliver._http import exchange
from keyturn.errors import DeliveryError, Unavailable, VerificationFailed


class Server:
    """Answers every connection with *behave(connection, request)* in a thread of its own."""

    def __init__(self, behave):
        self.requests = []
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            request = connection.recv(65_536)
            self.requests.append(request)
            self._behave(connection)

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def serve():
    """Start servers that end with the test."""
    servers = []

    def start(behave):
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answering(status, body=b"", extra=b""):
    head = b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n" % (status, extra, len(body))
    return lambda connection: connection.sendall(head + body)


def drip(connection):
    while True:
        connection.sendall(b"H")
        time.sleep(0.05)


def drip_body(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    drip(connection)


def silence(connection):
    connection.recv(1)


def flood(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65_536)


def flood_of_headers(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-A: b\r\n")


def garbage(connection):
    connection.sendall(b"\0\xff not http at all\r\n\r\n")


@pytest.mark.parametrize("behave", [drip, drip_body, silence], ids=["drip", "body", "silence"])
def test_the_time_limit_holds_for_the_whole(serve, behave):
    """A byte now and then does not keep us waiting beyond the limit."""
    server = serve(behave)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer") as caught:
        exchange("GET", server.url + "/x?token=canary", timeout_seconds=0.5, limit_bytes=1_000_000)
    assert time.monotonic() - started < 3
    assert "canary" not in str(caught.value)
    assert caught.value.retryable


@pytest.mark.parametrize("behave", [flood_of_headers, garbage, lambda connection: None])
def test_what_is_no_http_is_no_answer(serve, behave):
    """Endless headers, garbage and a closed door are one error of ours."""
    with pytest.raises(Unavailable):
        exchange("GET", serve(behave).url, timeout_seconds=5, limit_bytes=1_000)


def test_a_closed_port_is_no_answer():
    """Nobody listens: retry later."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(Unavailable, match="did not answer"):
            exchange("GET", f"http://127.0.0.1:{port}/", timeout_seconds=5, limit_bytes=10)


def test_a_body_without_end_is_cut(serve):
    """No more is read than the limit."""
    answer = exchange("GET", serve(flood).url, timeout_seconds=10, limit_bytes=65_536)
    assert (200, 65_536) == (answer.status, len(answer.body))


def test_redirects_are_not_followed(serve):
    """A reload that answers with a redirect did not reload, and the other place is not asked."""
    other = serve(answering(200))
    server = serve(answering(302, extra=b"Location: %s\r\n" % other.url.encode()))
    with pytest.raises(DeliveryError, match="status 302") as caught:
        reload_consumer(HttpReload(server.url + "/-/reload"), project=None)
    assert "redirects are not followed" in caught.value.hint
    assert [] == other.requests


def test_a_proxy_of_the_environment_is_not_used(serve, monkeypatch):
    """What is on this machine is spoken to directly."""
    proxy, server = serve(answering(500)), serve(answering(204))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    said = reload_consumer(HttpReload(server.url + "/-/reload"), project=None)
    assert "posted to its address, status 204" == said
    assert [] == proxy.requests


def test_a_reload_is_a_post_without_a_body(serve):
    """The consumer sees the path and the method it expects."""
    server = serve(answering(200))
    reload_consumer(HttpReload(server.url + "/-/reload?all=1"), project=None)
    head = server.requests[0].split(b"\r\n")
    assert b"POST /-/reload?all=1 HTTP/1.1" == head[0]
    assert b"Content-Length: 0" in head


def test_plain_http_by_a_name_that_leads_elsewhere_is_refused(monkeypatch):
    """`localhost` is believed only where it leads to this machine."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        real = socket.create_connection

        def elsewhere(address, *arguments, **options):
            made = real(("127.0.0.1", address[1]), *arguments, **options)
            return Elsewhere(made)

        monkeypatch.setattr(socket, "create_connection", elsewhere)
        with pytest.raises(DeliveryError, match="plain http to another machine"):
            exchange("GET", f"http://localhost:{port}/", timeout_seconds=5, limit_bytes=10)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            assert b"" == connection.recv(100)


class Elsewhere:
    """A socket whose other end says that it is another machine."""

    def __init__(self, made):
        self._made = made

    def getpeername(self):
        return ("192.0.2.1", 80)

    def __getattr__(self, name):
        return getattr(self._made, name)


def test_https_needs_a_certificate_that_holds(serve):
    """A server that cannot prove its name is no answer, and there is no switch for it."""
    server = serve(answering(200))
    with pytest.raises(Unavailable):
        exchange("GET", server.url.replace("http", "https"), timeout_seconds=5, limit_bytes=10)


def test_a_real_consumer_is_waited_for(serve):
    """Old version first, then the new one."""
    bodies = [b"", b'{"versions": {"db": 1}}', b'{"versions": {"db": 2}}']

    def behave(connection):
        answering(200, bodies.pop(0) if len(bodies) > 1 else bodies[0])(connection)

    server = serve(behave)
    seen = wait_healthy(server.url, "versions", {"db": 2}, timeout_seconds=10, clock=SystemClock())
    assert "status 200, versions db=2" == str(seen)
    assert 3 == len(server.requests)


def test_a_consumer_that_never_comes_up_is_given_up(serve):
    """The total time holds over real sockets too."""
    started = time.monotonic()
    with pytest.raises(VerificationFailed, match="last saw no answer"):
        wait_healthy(serve(silence).url, None, {}, timeout_seconds=0.5, clock=SystemClock())
    assert time.monotonic() - started < 3
