"""
Calls to a Docker daemon, with the standard library alone.

Two rooms talk to it: the store that keeps secrets in a swarm, and the delivery that
updates services. Each call is one connection, so that it is always known whether a
request was sent: before that, nothing happened; after it, a change without an answer
may have been made.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from keyturn._internal import failpoints
from keyturn._internal.http import Patience, is_loopback
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.errors import (
    AccessDenied,
    KeyturnError,
    OutcomeUnknown,
    Rejected,
    Sealed,
    Unavailable,
)

__all__ = ["DEFAULT_HOST", "Answer", "Engine", "EngineAddress"]

DEFAULT_HOST = "unix:///var/run/docker.sock"
_TIMEOUT_SECONDS = 15.0
_RETRY_SECONDS = 10.0
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_WORDS_LIMIT = 200
_TLS_PORT = 2376
_PLAIN_PORT = 2375
_OK = range(200, 300)
_DENIED = 403
_SERVER_FAULT = 500
_UNAVAILABLE = 503
_DENIED_CODE = "store.denied"
# What a manager without a majority says; a change may yet be carried out when it has one.
_WAITED = ("DeadlineExceeded", "context deadline exceeded", "context canceled")
_LEADERLESS = ("does not have a leader", "no leader")
_LOCKED = "needs to be unlocked"
# Also 500 in daemons up to 20.10: the change named an older version of the object.
_STALE = "out of sequence"


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """
    Where a daemon answers.

    Args:
        host: `unix:///PATH` or `tcp://HOST:PORT`. Beyond this machine TLS is needed.
        tls_folder: Holds `ca.pem`, `cert.pem` and `key.pem`.
    """

    host: str = DEFAULT_HOST
    tls_folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the daemon answered: *body* is what its JSON meant."""

    status: int
    body: Any

    @property
    def good(self) -> bool:
        """Whether it answered yes."""
        return self.status in _OK

    @property
    def stale(self) -> bool:
        """Whether it refused because the object has changed since it was read."""
        return not self.good and _STALE in self.words

    @property
    def words(self) -> str:
        """Its reason for a refusal, on one line."""
        said = self.body.get("message", "") if isinstance(self.body, dict) else ""
        return " ".join(str(said).split())[:_WORDS_LIMIT]

    def require(self, what: str) -> Any:
        """
        Return the body of a good answer.

        Raises:
            Rejected: It answered no to *what*.
        """
        if self.good:
            return self.body
        raise Rejected(
            f"docker refused {what}: {self.status}: {self.words}",
            hint="look at the daemon's log; nothing was changed",
        )


class Engine:
    """
    One daemon. A read is tried again for a while; a change is sent once.

    Args:
        retry_seconds: How long in all.
    """

    def __init__(
        self,
        address: EngineAddress,
        *,
        clock: Clock,
        entropy: Entropy,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self.host = address.host
        self._address = address
        self._clock = clock
        self._entropy = entropy
        self._timeout_seconds = timeout_seconds
        self._retry_seconds = retry_seconds
        self._prefix: str | None = None

    def get(self, path: str, **filters: list[str]) -> Answer:
        """
        Ask for *path*, of what *filters* let through.

        Raises:
            Unavailable: No answer.
            AccessDenied: The socket may not be used.
            Sealed: The swarm is locked.
        """
        query = {"filters": json.dumps(filters)} if filters else {}
        return self._patiently("GET", path, query, None, point=None)

    def change(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str | int] | None = None,
        point: str,
    ) -> Answer:
        """
        Ask for a change, once.

        Args:
            point: The failpoints `POINT.call` and `POINT.called` stand around it.

        Raises:
            Unavailable: Nothing was changed.
            OutcomeUnknown: No answer came.
            Sealed: The swarm is locked.
        """
        failpoints.hit(f"{point}.call")
        answer = self._patiently(method, path, query or {}, body, point=point)
        failpoints.hit(f"{point}.called")
        return answer

    def _patiently(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int],
        body: object,
        *,
        point: str | None,
    ) -> Answer:
        patience = Patience(self._clock, self._entropy, self._retry_seconds)
        while True:
            try:
                return self._once(method, path, query, body, changing=point is not None)
            except Unavailable:
                # Raised only where nothing was done, so that a change may be sent again.
                if not patience.pause():
                    raise

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int],
        body: object,
        *,
        changing: bool,
    ) -> Answer:
        if self._prefix is None:
            self._prefix = self._version()
        url = f"{self._prefix}{path}" + (f"?{urlencode(query)}" if query else "")
        answer, _ = self._exchange(method, url, body, changing=changing)
        if answer.status == _DENIED:
            raise AccessDenied(
                f"docker at `{self.host}` denies {method} to this client: {answer.words}",
                hint="ask who set the daemon's authorization up",
                code=_DENIED_CODE,
            )
        if answer.status >= _SERVER_FAULT and not answer.stale:
            raise self._fault(method, path, answer, changing=changing)
        return answer

    def _version(self) -> str:
        # The daemon's newest, so that a service's whole description is read and given back.
        answer, headers = self._exchange("GET", "/_ping", None, changing=False)
        version = headers.get("api-version", "")
        if not answer.good or not version.replace(".", "").isdigit():
            raise Unavailable(
                f"what answers at `{self.host}` is no docker daemon",
                hint="check the address of the daemon",
            )
        return f"/v{version}"

    def _exchange(
        self, method: str, url: str, body: object, *, changing: bool
    ) -> tuple[Answer, Mapping[str, str]]:
        connection = self._connection()
        sent = False
        try:
            connection.connect()
            # From here on the daemon may have all of it, whatever comes back.
            sent = True
            data = None if body is None else json.dumps(body).encode()
            headers = {"Host": "docker", "Content-Type": "application/json"}
            connection.request(method, url, body=data, headers=headers)
            response = connection.getresponse()
            found = _parsed(response)
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, found), lower
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._silence(method, error, unknown=sent and changing) from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.host)
        if parts.scheme == "unix":
            return _UnixConnection(parts.path, self._timeout_seconds)
        if parts.scheme != "tcp" or parts.hostname is None:
            raise Rejected(
                "the address of the docker daemon is neither `unix://` nor `tcp://`",
                hint=f'write it like "{DEFAULT_HOST}" or "tcp://manager.example:2376"',
            )
        if self._address.tls_folder is not None:
            return http.client.HTTPSConnection(
                parts.hostname,
                parts.port or _TLS_PORT,
                timeout=self._timeout_seconds,
                context=_tls(self._address.tls_folder),
            )
        if not is_loopback(parts.hostname):
            raise Rejected(
                f"the docker daemon at `{self.host}` would be given secrets without TLS",
                hint="name the folder of its `ca.pem`, `cert.pem` and `key.pem`",
            )
        return http.client.HTTPConnection(
            parts.hostname, parts.port or _PLAIN_PORT, timeout=self._timeout_seconds
        )

    def _silence(self, method: str, error: Exception, *, unknown: bool) -> KeyturnError:
        why = getattr(error, "strerror", None) or type(error).__name__
        if unknown:
            return OutcomeUnknown(
                f"docker at `{self.host}` gave no answer to {method} ({why}):"
                " it may have been done",
                hint="run the command again: it asks what is true first",
            )
        if isinstance(error, PermissionError):
            return AccessDenied(
                f"docker's socket at `{self.host}` may not be used",
                hint="run as a user of the group `docker`, or as root",
                code=_DENIED_CODE,
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            return Rejected(
                f"docker at `{self.host}` does not prove who it is: {error.verify_message}",
                hint="check `ca.pem`, and that the daemon's certificate has this address",
            )
        return Unavailable(
            f"docker at `{self.host}` does not answer: {why}", hint="check that the daemon runs"
        )

    def _fault(self, method: str, path: str, answer: Answer, *, changing: bool) -> KeyturnError:
        said = f"docker at `{self.host}` does not serve {path.split('/')[1]} now: {answer.words}"
        if _LOCKED in answer.words:
            return Sealed(
                f"the swarm of docker at `{self.host}` is locked", hint="run `docker swarm unlock`"
            )
        if answer.status == _UNAVAILABLE and "swarm manager" in answer.words:
            return Rejected(said, hint="name a manager of the swarm, or run `docker swarm init`")
        certain = answer.status == _UNAVAILABLE or any(w in answer.words for w in _LEADERLESS)
        if changing and not certain:
            waited = any(words in answer.words for words in _WAITED)
            why = "no majority in time" if waited else f"{answer.status}: {answer.words}"
            return OutcomeUnknown(
                f"docker at `{self.host}` did not say what became of {method} ({why})",
                hint="run the command again: it asks what is true first",
            )
        return Unavailable(
            said, hint="see `docker node ls` and the daemon's log; nothing was changed"
        )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("docker", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _tls(folder: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
    except OSError as error:
        raise Rejected(
            f"`{folder}` has no `ca.pem`, `cert.pem` and `key.pem` that can be used:"
            f" {error.strerror or type(error).__name__}",
            hint="make them as docker's guide to a protected socket says",
        ) from error
    return context


def _parsed(response: http.client.HTTPResponse) -> Any:
    text = response.read(_MAX_ANSWER_BYTES + 1)
    if len(text) > _MAX_ANSWER_BYTES:
        raise ValueError("longer than any answer that is read")
    if response.headers.get_content_type() != "application/json" or not text:
        return {}
    return json.loads(text)
