"""
What stands between Keyturn and a real server, and loses answers as a simulator does.

Only Keyturn goes through it; the world's own client asks the server itself.
"""

from __future__ import annotations

import http.client
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit

from keyturn.testing.simulators import Reply, Simulator

# Of one connection, and not of what is passed on.
_HOP = frozenset({"connection", "content-length", "transfer-encoding", "server", "date"})


class Relay(Simulator):
    """
    Passes each request on to *address*, and its answer back.

    Args:
        error: The body of a fault of the server's own.
    """

    def __init__(self, address, *, error=None):
        super().__init__()
        self.upstream = urlsplit(address).netloc
        self.body = error

    def error(self, status):
        return self.body

    def handle(self, request):
        connection = http.client.HTTPConnection(self.upstream, timeout=10)
        query = f"?{urlencode(request.query)}" if request.query else ""
        try:
            # As it was sent: a signature covers the name of the host.
            connection.putrequest(
                request.method, request.path + query, skip_host=True, skip_accept_encoding=True
            )
            for name, text in request.headers.items():
                if name not in _HOP:
                    connection.putheader(name, text)
            connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body)
            answer = connection.getresponse()
            kept = {name: text for name, text in answer.getheaders() if name.lower() not in _HOP}
            return Reply(answer.status, answer.read(), kept)
        finally:
            connection.close()


class AwsRelay(Relay):
    """In front of AWS, whose calls all have one path: here each has that of its name."""

    def respond(self, request):
        action = parse_qs(request.body.decode()).get("Action", ["nothing"])[0]
        return super().respond(replace(request, path=f"/{action}"))

    def handle(self, request):
        return super().handle(replace(request, path="/"))
