"""The HTTP side of the simulated API server: connections that stay open, watches, TLS."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from keyturn.testing._kubernetes_status import failure
from keyturn.testing.simulators._server import Reply, Request

__all__ = ["PEER", "ApiServer", "Responder", "Stream"]

# Where the name of the client's certificate stands; no client can send a header of it.
PEER = ":peer"

_LIMIT_BYTES = 3_145_728


@dataclass(frozen=True, slots=True)
class Stream:
    """A body that comes in pieces, until it ends or the server stops."""

    pieces: Iterator[object]


class Responder(Protocol):
    """What answers a request; None is no answer at all."""

    def respond(self, request: Request) -> Reply | None: ...


class ApiServer(ThreadingHTTPServer):
    """Listens on the loopback address, on a port that the system chooses."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, responder: Responder, tls: ssl.SSLContext | None) -> None:
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._tls = tls
        super().__init__((host, 0), _handler(responder))

    def finish_request(self, request: object, client_address: tuple[str, int]) -> None:
        """Serve one connection, and know of it while it is open."""
        if not isinstance(request, socket.socket):
            return
        made = request
        if self._tls is not None:
            made = self._tls.wrap_socket(request, server_side=True)
        with self._guard:
            self._open.add(made)
        try:
            super().finish_request(made, client_address)
        finally:
            with self._guard:
                self._open.discard(made)
            with contextlib.suppress(OSError):
                made.close()

    def hang_up(self) -> None:
        """End every connection, as a server does that goes away."""
        with self._guard:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that was killed closes its connection."""


def _handler(responder: Responder) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - short methods
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60
        wbufsize = -1
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > _LIMIT_BYTES:
                self.close_connection = True
                message = f"Request entity too large: limit is {_LIMIT_BYTES}"
                self._send(Reply(413, failure(413, message)))
                return
            parts = urlsplit(self.path)
            headers = {name.lower(): text for name, text in self.headers.items()}
            headers[PEER] = _peer(self.connection)
            request = Request(
                method=self.command,
                path=parts.path,
                query=dict(parse_qsl(parts.query, keep_blank_values=True)),
                headers=headers,
                body=self.rfile.read(length),
            )
            reply = responder.respond(request)
            if reply is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            elif isinstance(reply.body, Stream):
                self._stream(reply.body)
            else:
                self._send(reply)

        def _send(self, reply: Reply) -> None:
            content = reply.body
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            self.send_response(reply.status)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _stream(self, stream: Stream) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            for piece in stream.pieces:
                line = json.dumps(piece).encode() + b"\n"
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - its names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
            """Say nothing: the journal has it."""

    return Handler


def _peer(connection: socket.socket) -> str:
    """Return the name in the client's certificate; empty where there is none."""
    found = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    # A tuple of parts, each a tuple of pairs.
    subject = (found or {}).get("subject", ())
    for part in subject:
        for pair in part:
            if isinstance(pair, tuple) and pair[0] == "commonName":
                return str(pair[1])
    return ""
