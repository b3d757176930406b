"""
Requests to a server: bounded in time and size, verified, and never in doubt.

A request ends in one of four ways: an answer, whatever its status; `Rejected`, since
the server does not prove who it is; `Unavailable`, since nothing was sent or only
something was asked; `OutcomeUnknown`, since a change was sent and no answer came.
What a status means is the caller's to know.

The deadline is of the whole request, so that a server which sends a byte a second
cannot hold it. Connections are kept for the next request. A redirect is an answer.
No proxy, credential or setting is taken from the environment.

This stands on the standard library alone: every command that reads an outside store
goes through here, and to import a client library takes longer than to ask the server.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import json
import re
import select
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote, urlsplit

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.errors import KeyturnError, OutcomeUnknown, Rejected, Unavailable, UsageError

__all__ = ["Patience", "Reply", "Server", "checked_address", "is_loopback", "segment"]

_TIMEOUT_SECONDS = 10.0
_CONNECT_SECONDS = 5.0
_LIMIT_BYTES = 4 * 1_048_576
_CHUNK_BYTES = 65_536
# Servers and what stands before them drop a silent connection after a minute or so.
_IDLE_SECONDS = 20.0
_IDLE_CONNECTIONS = 4
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_HEADER = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What a server answered.

    Args:
        body: The parsed JSON; None where there is none. It may hold values.
        headers: By name in lower case.
    """

    status: int
    body: object = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the range of success

    @property
    def retry_after(self) -> float | None:
        """How many seconds the server asks to wait; None where it does not say."""
        text = self.headers.get("retry-after", "")
        found = re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text, re.ASCII)
        return None if found is None else float(text)

    def at(self, *path: str) -> object:
        """Return what is at *path* of the body; None where there is nothing."""
        found = self.body
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found


class Server:
    """
    One server, by its address.

    It may be used by several threads at once.

    Args:
        name: For messages, such as "Vault".
        address: Paths are added to it; https, or http on this machine.
        ca_file: Certificates to verify the server with; the system's where None.
        trust: In place of *ca_file*, such as one with a certificate of our own.

    Raises:
        UsageError: The address or *ca_file* cannot be used.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        clock: Clock,
        ca_file: str | None = None,
        trust: ssl.SSLContext | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        limit_bytes: int = _LIMIT_BYTES,
    ) -> None:
        self.name = name
        self.address = checked_address(address)
        parts = urlsplit(self.address)
        self._host, self._port, self._prefix = parts.hostname or "", parts.port, parts.path
        self._trust = trust or (_trust(ca_file) if parts.scheme == "https" else None)
        self._clock = clock
        self._timeout = timeout_seconds
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._idle: list[tuple[_Connection, float]] = []

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        changing: bool,
    ) -> Reply:
        """
        Send one request, once, and return the answer.

        Args:
            path: Begins with a slash; parts that are not ours went through `segment`.
            changing: Whether it may change something.

        Raises:
            Unavailable: No answer, and nothing was changed.
            OutcomeUnknown: No answer to a change.
            Rejected: The server does not prove who it is, or a header cannot be sent.
        """
        _check_headers(headers)
        until = self._clock.monotonic() + self._timeout
        connection = self._connected(until)
        reusable = False
        try:
            connection.deadline(until)
            with self._translated(changing=changing):
                reply, reusable = self._exchange(connection, method, path, headers, content)
            return reply
        finally:
            self._give_back(connection, reusable=reusable)

    def close(self) -> None:
        """Let connections go; the next request makes a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes | None,
    ) -> tuple[Reply, bool]:
        raw = connection.http
        raw.putrequest(method, self._prefix + path, skip_accept_encoding=True)
        sent = {"Accept": "application/json", "Accept-Encoding": "identity"} | dict(headers)
        if content is not None or method not in {"GET", "HEAD", "LIST"}:
            sent["Content-Length"] = str(len(content or b""))
        for name, text in sent.items():
            raw.putheader(name, text)
        raw.endheaders(content)
        response = raw.getresponse()
        body = bytearray()
        while chunk := response.read(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._limit:
                raise http.client.IncompleteRead(b"")
        if response.length:
            # A read by parts ends without a word where the answer was cut.
            raise http.client.IncompleteRead(b"")
        found = {name.lower(): text for name, text in response.getheaders()}
        return Reply(response.status, _parsed(body), found), not response.will_close

    @contextlib.contextmanager
    def _translated(self, *, changing: bool) -> Iterator[None]:
        try:
            yield
        except (http.client.HTTPException, OSError, ValueError) as error:
            # Without its cause: theirs may quote what was sent.
            raise self._silent(type(error).__name__, changing=changing) from None

    def _silent(self, why: str, *, changing: bool) -> KeyturnError:
        if changing:
            return OutcomeUnknown(
                f"{self.name} gave no answer to a change ({why}): it may have been made",
                hint="run the command again: it asks what is true first",
            )
        return Unavailable(
            f"{self.name} at {self.address} did not answer ({why})",
            hint=f"check that `{self.address}` can be reached from here",
        )

    def _connected(self, until: float) -> _Connection:
        with self._lock:
            while self._idle:
                connection, since = self._idle.pop()
                if self._clock.monotonic() - since < _IDLE_SECONDS and connection.is_open():
                    return connection
                connection.close()
        seconds = max(0.001, min(_CONNECT_SECONDS, until - self._clock.monotonic()))
        try:
            return _Connection(self._host, self._port, self._trust, seconds, self._clock)
        except ssl.SSLCertVerificationError as error:
            raise Rejected(
                f"{self.name} at {self.address} does not prove who it is: {error.verify_message}",
                hint="name the file with its authority's certificate in `ca_file`",
                code="store.tls",
            ) from None
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise self._silent(type(error).__name__, changing=False) from None

    def _give_back(self, connection: _Connection, *, reusable: bool) -> None:
        if reusable:
            with self._lock:
                if len(self._idle) < _IDLE_CONNECTIONS:
                    self._idle.append((connection, self._clock.monotonic()))
                    return
        connection.close()


class Patience:
    """
    How long something is tried again: *seconds* in all, in pauses that grow, with jitter.

    Args:
        seconds: No pause is begun that would end later.
    """

    def __init__(self, clock: Clock, entropy: Entropy, seconds: float) -> None:
        self._clock = clock
        self._entropy = entropy
        self._until = clock.monotonic() + seconds
        self._attempt = 0

    def pause(self, asked: float | None = None) -> bool:
        """Wait, at least *asked* seconds; False, at once, where that would be too long."""
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0**self._attempt)
        # Between half and all of it, so that those who failed together do not come together.
        seconds = longest * (1 + self._entropy.random_bytes(1)[0] / 255) / 2
        seconds = max(seconds, asked or 0.0)
        if self._clock.monotonic() + seconds > self._until:
            return False
        self._attempt += 1
        self._clock.sleep(seconds)
        return True


class _Connection:
    """A connection whose reads and writes all end by one deadline."""

    def __init__(
        self,
        host: str,
        port: int | None,
        trust: ssl.SSLContext | None,
        seconds: float,
        clock: Clock,
    ) -> None:
        if trust is None:
            self.http = http.client.HTTPConnection(host, port, timeout=seconds)
        else:
            self.http = http.client.HTTPSConnection(host, port, timeout=seconds, context=trust)
        try:
            self.http.connect()
        except BaseException:
            self.http.close()
            raise
        self._socket: socket.socket = self.http.sock
        self._bounded = _Bounded(self._socket, clock)
        self.http.sock = self._bounded

    def deadline(self, until: float) -> None:
        """Let everything from now on end at *until*."""
        self._bounded.until = until

    def is_open(self) -> bool:
        """Tell whether the other side has not closed it, nor said anything unasked."""
        try:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return not poll.poll(0)
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.http.close()
        with contextlib.suppress(OSError):
            self._socket.close()


class _Bounded:
    """As much of a socket as `http.client` uses; what is left of the time bounds each call."""

    def __init__(self, raw: socket.socket, clock: Clock) -> None:
        self._raw = raw
        self._clock = clock
        self.until = 0.0

    def left(self) -> float:
        seconds = self.until - self._clock.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def sendall(self, data: bytes) -> None:
        self._raw.settimeout(self.left())
        self._raw.sendall(data)

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(cast("Any", _Reader(self, self._raw)))

    def close(self) -> None:
        """Do nothing: `http.client` closes before it has read the answer to its end."""


class _Reader(io.RawIOBase):
    def __init__(self, bounded: _Bounded, raw: socket.socket) -> None:
        self._bounded = bounded
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._raw.settimeout(self._bounded.left())
        return self._raw.recv_into(buffer)


def segment(part: str) -> str:
    """Return *part* as one segment of a path, whatever is in it."""
    return quote(part, safe="") if part not in {".", ".."} else "%2E" * len(part)


def is_loopback(host: str) -> bool:
    """Tell whether *host* is this machine, whatever a name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_address(address: str) -> str:
    """
    Return *address* without a slash at its end.

    Raises:
        UsageError: It is no https address, nor http on this machine.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise _unusable("is not an address") from None
    if not address.isascii() or not address.isprintable() or " " in address or not parts.hostname:
        raise _unusable("is not an address")
    if parts.username is not None or parts.query or parts.fragment:
        raise _unusable("holds more than scheme, host and path")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise _unusable("is plain http to another machine, where values would be read on the way")
    if parts.scheme not in {"http", "https"}:
        raise _unusable("is not an https address")
    return address.rstrip("/")


def _unusable(why: str) -> UsageError:
    return UsageError(
        f"the address of a store {why}",
        hint='write address = "https://HOST:PORT"',
        code="store.address",
    )


def _trust(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"the certificates in `{ca_file}` cannot be read ({type(error).__name__})",
            hint="name a PEM file with the authority's certificate in `ca_file`",
            code="store.tls",
        ) from None


def _check_headers(headers: Mapping[str, str]) -> None:
    # The library's own error for such a header would quote it.
    for name, text in headers.items():
        if _HEADER.fullmatch(text) is None:
            raise Rejected(
                f"what is to be sent as `{name}` has characters that no header can carry",
                hint="set it again, without line ends",
                code="store.header",
            )


def _parsed(body: bytes | bytearray) -> object:
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        # An error page of something in between; its text is of no use.
        return None
