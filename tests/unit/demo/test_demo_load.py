"""
The load generator against a small real HTTP server on loopback.

What it counts is the demo's evidence, so what it must not miss is tested: an error
status, a dropped connection, an answer that is cut, and a service that is gone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from keyturn.demo.load import Load, _percentile

_FEW = 12
_PATIENCE_SECONDS = 20


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    connections: set[tuple[str, int]]

    def do_GET(self) -> None:
        self.server.seen.add(self.client_address)
        match self.path:
            case "/drop":
                self.close_connection = True
            case "/cut":
                self._answer(200, b'{"login": "cl', length=500)
                self.close_connection = True
            case "/busy":
                self._answer(503, b'{"reason": "the database is busy"}')
            case "/list":
                self._answer(200, b"[]")
            case _:
                self._answer(200, json.dumps({"login": "clipper_a"}).encode())

    def _answer(self, status: int, body: bytes, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _service() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.seen = set()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _tally_of(server: ThreadingHTTPServer, *pages: str, requests: int = _FEW):
    load = Load(server.server_port, pages=pages, threads=2, rate=2000)
    load.start()
    assert load.wait_for(requests, timeout=_PATIENCE_SECONDS)
    return load.stop()


def test_an_error_status_is_a_failure_with_the_reason_of_the_answer():
    """A 503 counts as failed and keeps the service's own words."""
    with _service() as server:
        tally = _tally_of(server, "/busy")
    assert tally.requests == tally.failed
    assert list(tally.reasons) == ["/busy: 503 the database is busy"]


def test_a_dropped_connection_is_a_failure_and_the_load_goes_on():
    """A connection closed without an answer is counted, never tried again in silence."""
    with _service() as server:
        tally = _tally_of(server, "/drop")
    assert tally.requests == tally.failed >= _FEW
    assert set(tally.reasons) <= {"/drop: RemoteDisconnected", "/drop: ConnectionResetError"}


def test_an_answer_cut_short_is_a_failure():
    """Fewer bytes than the head promised are not taken for an answer."""
    with _service() as server:
        tally = _tally_of(server, "/cut")
    assert tally.failed == tally.requests
    assert tally.logins == {}


def test_another_kind_of_document_is_a_failure():
    """A list where an object belongs is not an answer of the service."""
    with _service() as server:
        tally = _tally_of(server, "/list")
    assert tally.failed == tally.requests


def test_a_service_that_is_gone_is_a_failure():
    """Where nothing listens, each request is refused and counted."""
    with _service() as server:
        pass
    tally = _tally_of(server, "/clips")
    assert list(tally.reasons) == ["/clips: ConnectionRefusedError"]
    assert tally.failed == tally.requests


def test_good_answers_count_and_name_the_login():
    """All succeed, the login is known, and each thread keeps one connection."""
    with _service() as server:
        tally = _tally_of(server, "/clips")
        connections = len(server.seen)
    assert (tally.failed, tally.reasons) == (0, {})
    assert tally.logins == {"clipper_a": tally.requests}
    assert tally.latest_login == "clipper_a"
    assert 0 < tally.median_ms <= tally.p99_ms
    assert connections <= 2


def test_every_thread_takes_the_pages_in_turn():
    """One bad page of two makes half of the requests fail."""
    with _service() as server:
        tally = _tally_of(server, "/clips", "/busy", requests=100)
    assert abs(tally.failed * 2 - tally.requests) <= 4


def test_waiting_for_more_than_comes_ends_with_the_time():
    """The wait tells that the count was not reached."""
    load = Load(1, pages=["/"], threads=1)
    assert load.wait_for(1, timeout=0.01) is False


def test_stopping_what_never_started_is_harmless():
    """An early failure of the demo stops a load that did not begin."""
    assert Load(1, pages=["/"]).stop().requests == 0


def test_percentiles_of_little():
    """None, one and a hundred samples have percentiles."""
    assert _percentile([], 0.99) == 0.0
    assert _percentile([0.5], 0.99) == 0.5
    assert _percentile([n / 100 for n in range(100)], 0.50) == 0.5
    assert _percentile([n / 100 for n in range(100)], 0.99) == 0.99
