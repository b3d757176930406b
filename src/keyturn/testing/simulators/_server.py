"""
A vendor's API played on this machine: state, the vendor's own errors, faults on demand.

A simulator listens on a free port of the loopback address, from `start` to `stop`.
It keeps a journal of what was asked, which holds no value and no query.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import socket
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.errors import InternalError

__all__ = ["Credential", "Entry", "Fault", "Reply", "Request", "Simulator", "Spread"]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_LIMIT_BYTES = 1_048_576
_JOIN_SECONDS = 10


class Fault(StrEnum):
    """
    What goes wrong with a request.

    `lost` does the work and closes the connection without an answer; `silent` does
    it and keeps the connection open; `slow` answers late. `late` closes the connection
    too, and does the work only when more was asked of the vendor.
    """

    LOST = "lost"
    LATE = "late"
    SILENT = "silent"
    LIMITED = "limited"
    BROKEN_BEFORE = "broken-before"
    BROKEN_AFTER = "broken-after"
    SLOW = "slow"


@dataclass(slots=True)
class Spread:
    """
    How late the vendor's machines learn of a change, in uses of the credential.

    Args:
        refuse_new: A new one is refused so often first.
        accept_ended: An ended one is still accepted so often.
    """

    refuse_new: int = 0
    accept_ended: int = 0


@dataclass(slots=True)
class Credential:
    """One credential at the vendor, and what its machines know of it."""

    value: str = field(repr=False)
    live: bool = True
    unseen: int = 0
    lingering: int = 0

    def use(self) -> bool:
        """Use it once; False where it is refused."""
        if self.live:
            if self.unseen > 0:
                self.unseen -= 1
                return False
            return True
        if self.lingering > 0:
            self.lingering -= 1
            return True
        return False

    def end(self, spread: Spread) -> None:
        """End it; *spread* says how long that takes to be known."""
        if self.live:
            self.live, self.lingering = False, spread.accept_ended


@dataclass(frozen=True, slots=True)
class Request:
    """One request; *path* is without the query, each of its parts decoded by `parts`."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """The segments of the path."""
        return tuple(unquote(part) for part in self.path.strip("/").split("/"))

    @property
    def bearer(self) -> str | None:
        """The bearer token; None where there is none."""
        return self.authorization("Bearer")

    @property
    def basic_user(self) -> str | None:
        """The user name of basic authentication; None where there is none."""
        text = self.authorization("Basic")
        try:
            return None if text is None else base64.b64decode(text).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return None

    def authorization(self, scheme: str) -> str | None:
        """Return what the header `Authorization` says for *scheme*."""
        found, _, text = self.headers.get("authorization", "").partition(" ")
        return text.strip() if found.lower() == scheme.lower() and text.strip() else None

    def json(self) -> dict[str, object]:
        """Return the body as a JSON object; empty where it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def form(self) -> list[tuple[str, str]]:
        """Return the body's fields in order; a name such as `events[]` may repeat."""
        return parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered; no body where it is None, bytes as they are, else JSON."""

    status: int
    body: object = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal; *status* is None where no answer was given."""

    method: str
    path: str
    status: int | None
    fault: Fault | None


@dataclass(slots=True)
class _Trap:
    pattern: re.Pattern[str]
    times: int
    fault: Fault | None = None
    seconds: float = 0.0
    reply: Reply | None = None
    skip: int = 0
    after: int | None = None


@dataclass(slots=True)
class _Late:
    """A request that was given up; *wait* is how many others are answered before it is done."""

    request: Request
    wait: int | None


class Simulator(ABC):
    """
    The base of every vendor's simulator.

    A subclass implements `handle`, which one request enters at a time, and
    `error`, the vendor's body for a fault that is not about the request.
    """

    host = "127.0.0.1"

    def __init__(self, *, entropy: Entropy | None = None) -> None:
        self.entropy = entropy or SystemEntropy()
        self.spread = Spread()
        self.journal: list[Entry] = []
        self._traps: list[_Trap] = []
        self._late: list[_Late] = []
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._bugs: list[str] = []

    @property
    def base_url(self) -> str:
        """Where it listens, without a path."""
        if self._server is None:
            raise InternalError("the simulator is not running")
        return f"http://{self.host}:{self._server.server_address[1]}"

    @abstractmethod
    def handle(self, request: Request) -> Reply:
        """Answer *request*, as the vendor would."""

    def error(self, status: int) -> object:
        """Return the vendor's body for *status* 429 or 500."""
        return {"error": {"message": f"simulated {status}"}}

    def fail_next(
        self,
        pattern: str,
        fault: Fault,
        *,
        times: int = 1,
        seconds: float = 1.0,
        skip: int = 0,
        after: int | None = None,
    ) -> None:
        """
        Let the next *times* requests fail whose `METHOD /path` *pattern* is found in.

        Args:
            pattern: A regular expression, such as `POST /v3/api_keys`.
            seconds: How late a slow answer is, or what `Retry-After` asks for.
            skip: Let so many of them pass first.
            after: How many requests of any sort are answered before a late one is done;
                None for as many as come before `catch_up`.
        """
        trap = _Trap(re.compile(pattern), times, fault, seconds, skip=skip, after=after)
        with self._lock:
            self._traps.append(trap)

    def catch_up(self) -> int:
        """Do what late requests asked for, and return how many there were."""
        with self._lock:
            late, self._late = self._late, []
            for one in late:
                self._handled(one.request)
        return len(late)

    def answer_next(self, pattern: str, reply: Reply, *, times: int = 1) -> None:
        """Answer the next *times* such requests with *reply*, after doing what they ask."""
        with self._lock:
            self._traps.append(_Trap(re.compile(pattern), times, reply=reply))

    def asked(self, pattern: str) -> int:
        """Return how many requests *pattern* is found in the `METHOD /path` of."""
        with self._lock:
            return sum(
                re.search(pattern, f"{entry.method} {entry.path}") is not None
                for entry in self.journal
            )

    def letters(self, count: int) -> str:
        """Return *count* random letters and digits."""
        # Not uniform by a hair, which nobody's money depends on here.
        return "".join(_LETTERS[byte % 62] for byte in self.entropy.random_bytes(count))

    def start(self) -> Self:
        """Listen, on a port that the system chooses."""
        self._stopping.clear()
        self._server = _Server((self.host, 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """
        End it; a second call does nothing.

        Raises:
            InternalError: A request met a bug of the simulator.
        """
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._stopping.set()
        server.shutdown()
        server.server_close()
        thread.join(_JOIN_SECONDS)
        self._server = self._thread = None
        if self._bugs:
            raise InternalError(f"the simulator failed:\n{self._bugs[0]}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def respond(self, request: Request) -> Reply | None:
        """Answer *request* with the faults that are set; None is no answer at all."""
        with self._lock:
            self._do_late()
            trap = self._sprung(request)
            fault = None if trap is None else trap.fault
            reply = self._reply(request, trap)
            lost = fault in {Fault.LOST, Fault.SILENT, Fault.LATE}
            status = None if lost else reply.status
            self.journal.append(Entry(request.method, request.path, status, fault))
        if trap is not None and trap.fault is Fault.SLOW:
            self._stopping.wait(trap.seconds)
        if fault is Fault.SILENT:
            self._stopping.wait()
        return None if lost else reply

    def _reply(self, request: Request, trap: _Trap | None) -> Reply:
        if trap is not None and trap.fault is Fault.LIMITED:
            return Reply(429, self.error(429), {"Retry-After": f"{trap.seconds:g}"})
        if trap is not None and trap.fault is Fault.LATE:
            self._late.append(_Late(request, trap.after))
            return Reply(500, self.error(500))
        if trap is not None and trap.fault is Fault.BROKEN_BEFORE:
            return Reply(500, self.error(500))
        reply = self._handled(request)
        if trap is not None and trap.fault is Fault.BROKEN_AFTER:
            return Reply(500, self.error(500))
        return reply if trap is None or trap.reply is None else trap.reply

    def _handled(self, request: Request) -> Reply:
        try:
            return self.handle(request)
        except Exception:  # noqa: BLE001 - a bug of ours must not look like the vendor's answer
            self._bugs.append(traceback.format_exc())
            return Reply(500, self.error(500))

    def _do_late(self) -> None:
        due = [one for one in self._late if one.wait == 0]
        self._late = [one for one in self._late if one.wait != 0]
        for one in self._late:
            one.wait = None if one.wait is None else one.wait - 1
        for one in due:
            self._handled(one.request)

    def _sprung(self, request: Request) -> _Trap | None:
        for trap in self._traps:
            if trap.times > 0 and trap.pattern.search(f"{request.method} {request.path}"):
                if trap.skip > 0:
                    trap.skip -= 1
                    continue
                trap.times -= 1
                return trap
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that was killed closes its connection."""


def _handler(simulator: Simulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def _serve(self) -> None:
            length = min(int(self.headers.get("Content-Length") or 0), _LIMIT_BYTES)
            parts = urlsplit(self.path)
            request = Request(
                method=self.command,
                path=parts.path,
                query=dict(parse_qsl(parts.query, keep_blank_values=True)),
                headers={name.lower(): text for name, text in self.headers.items()},
                body=self.rfile.read(length),
            )
            self.close_connection = True
            reply = simulator.respond(request)
            if reply is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._send(reply)

        def _send(self, reply: Reply) -> None:
            content = _content(reply.body)
            self.send_response(reply.status)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            if content and not isinstance(reply.body, bytes):
                self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - its names
        do_LIST = _serve  # noqa: N815 - its name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
            """Say nothing: the journal has it."""

    return Handler


def _content(body: object) -> bytes:
    if body is None:
        return b""
    return body if isinstance(body, bytes) else json.dumps(body).encode()
