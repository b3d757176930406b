"""What stands before a server, keeps what was asked of it, and fails when it is told to."""

from __future__ import annotations

import http.client
import http.server
import ssl
import threading
from urllib.parse import urlsplit

_OWN = {"connection", "content-length", "date", "server", "transfer-encoding"}


class RecordingFront:
    """
    Forwards to *upstream*.

    Args:
        certificate: A PEM file with certificate and key; without one it speaks plain HTTP.
    """

    def __init__(self, upstream, *, certificate=None):
        self.upstream = urlsplit(upstream).netloc
        # `METHOD path` of each request, in order.
        self.asked = []
        # How many of the next requests get no answer; those who ask wait for one.
        self.silent = 0
        # What is answered instead, as (status, headers, body).
        self.instead = None
        self._released = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._secure = certificate is not None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def address(self):
        scheme = "https" if self._secure else "http"
        return f"{scheme}://127.0.0.1:{self._server.server_port}"

    def taken(self):
        """Return what was asked since the last call."""
        found, self.asked[:] = list(self.asked), []
        return found

    def calm(self):
        """Forget every fault, and what was asked."""
        self.silent, self.instead = 0, None
        self.asked.clear()

    def stop(self):
        self._released.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _handler(front):  # noqa: N805 - the handler has a self of its own
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def _answer(self):
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                front.asked.append(f"{self.command} {self.path}")
                if front.silent > 0:
                    front.silent -= 1
                    front._released.wait(30)
                    self.close_connection = True
                    return
                status, headers, body = front.instead or front._ask(
                    self.command, self.path, data, self.headers
                )
                self.send_response(status)
                for name, text in headers:
                    if name.lower() not in _OWN:
                        self.send_header(name, text)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _answer

            def log_message(self, *_):
                pass

        return Handler

    def _ask(self, method, path, data, headers):
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            kept = {n: t for n, t in headers.items() if n.lower() not in _OWN | {"host"}}
            connection.request(method, path, data or None, kept)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()
