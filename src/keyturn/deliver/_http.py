"""
One small HTTP exchange with a consumer: bounded in time and size, no redirects, no proxies.

Plain HTTP goes to this machine only, which is checked on the address that was in
fact connected to, before anything is sent.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyturn.errors import DeliveryError, Unavailable

if TYPE_CHECKING:
    from http.client import HTTPConnection
    from urllib.parse import SplitResult

__all__ = ["Answer", "exchange"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; *body* is cut at the limit."""

    status: int
    body: bytes


def exchange(method: str, url: str, *, timeout_seconds: float, limit_bytes: int) -> Answer:
    """
    Send one request without a body and return the answer.

    Args:
        timeout_seconds: For all of it, from the name's resolution to the last byte.

    Raises:
        DeliveryError: The address is not one that we talk to.
        Unavailable: No answer came in time.
    """
    parts = _split(url)
    work = _Exchange(method, parts, timeout_seconds, limit_bytes)
    # A socket's own timeout starts again with each byte, and name resolution has
    # none; so the whole is waited for from outside.
    thread = threading.Thread(target=work.run, daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    answer, failure = work.answer, work.failure
    if answer is not None:
        return answer
    if isinstance(failure, DeliveryError):
        raise failure
    work.abandon()
    why = "no answer in time" if failure is None else type(failure).__name__
    raise Unavailable(
        f"`{_shown(parts)}` did not answer: {why}", hint="check that the consumer is running"
    ) from failure


class _Exchange:
    def __init__(
        self, method: str, parts: SplitResult, timeout_seconds: float, limit_bytes: int
    ) -> None:
        self._method = method
        self._parts = parts
        self._limit_bytes = limit_bytes
        self._connection = _connection(parts, timeout_seconds)
        self.answer: Answer | None = None
        self.failure: Exception | None = None

    def run(self) -> None:
        from http.client import HTTPException

        try:
            self.answer = self._talk()
        except (OSError, HTTPException, ValueError, DeliveryError) as error:
            self.failure = error
        finally:
            self._connection.close()

    def abandon(self) -> None:
        # Wakes a thread that is still reading.
        connected = self._connection.sock
        if connected is not None:
            import socket

            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _talk(self) -> Answer:
        connection, parts = self._connection, self._parts
        connection.connect()
        if parts.scheme == "http" and not _is_loopback(connection.sock.getpeername()[0]):
            raise _refused(parts)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(self._method, target, headers={"Connection": "close"})
        response = connection.getresponse()
        return Answer(response.status, response.read(self._limit_bytes))


def _connection(parts: SplitResult, timeout_seconds: float) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection

    host = parts.hostname or ""
    if parts.scheme == "https":
        import ssl

        return HTTPSConnection(
            host, parts.port, timeout=timeout_seconds, context=ssl.create_default_context()
        )
    return HTTPConnection(host, parts.port, timeout=timeout_seconds)


def _split(url: str) -> SplitResult:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _malformed() from None
    odd = not url.isascii() or not url.isprintable() or " " in url
    if odd or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _malformed()
    if parts.username is not None or parts.password is not None:
        raise DeliveryError(
            "the address holds a user name or password",
            hint="an address in the manifest carries no credential",
            code="delivery.url",
        )
    if parts.scheme == "http" and not _names_loopback(parts.hostname):
        raise _refused(parts)
    return parts


def _names_loopback(host: str) -> bool:
    return host == "localhost" or _is_loopback(host)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _malformed() -> DeliveryError:
    return DeliveryError(
        "the address is not an http or https address",
        hint="write it like `http://127.0.0.1:8080/health`",
        code="delivery.url",
    )


def _refused(parts: SplitResult) -> DeliveryError:
    return DeliveryError(
        f"`{_shown(parts)}` is plain http to another machine",
        hint="use https; plain http is for 127.0.0.1, ::1 and localhost",
        code="delivery.url",
    )


def _shown(parts: SplitResult) -> str:
    # Without the query, where people put tokens.
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
