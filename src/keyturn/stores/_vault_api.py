"""
Requests to a Vault or OpenBao cluster, and what its answers mean; no login, no secrets engine.

    not connected                          the next address, then again
    sealed                                 Sealed
    429, 412, 472, 473; standby, starting  again, until patience ends: Unavailable
    307 to an address of ours              followed; to any other, Unavailable
    5xx                                    to a read: again; to a change: OutcomeUnknown
    anything else                          the caller's

A standby may answer a read from a copy that is behind, and goes on doing so where it is
cut off from the others. Each request therefore carries an index that no copy has reached
yet, and asks to be passed on to the active node; the first read of a process is repeated
once the cluster's name is known, which an index is made with.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from keyturn._internal.http import Patience, Reply, Server
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, OutcomeUnknown, Rejected, Sealed, Unavailable
from keyturn.stores._vault_settings import VaultSettings

__all__ = ["Cluster", "said_of", "words"]

_TEMPORARY_REDIRECT = 307
_BAD_REQUEST = 400
_SERVER_ERROR = 500
_UNAVAILABLE = 503
_TOO_LARGE = 413
# Asked too often; behind; a standby of another cluster for disaster or for reading.
_NOT_NOW: Final = frozenset({412, 429, 472, 473})
# What a node says that has not looked at the request; each surely changed nothing.
_STARTING: Final = (
    "local node not active",
    "upgrading from non-versioned to versioned",
    "waiting for the primary to upgrade",
)
_SEALED: Final = ("vault is sealed", "openbao is sealed")
# The last is OpenBao's bound on what one JSON document may be made of.
_LARGE: Final = (
    "value being too large",
    "request body too large",
    "exceeds max entry size",
    "exceeded maximum number of strings",
)
_HOPS = 3
# What a server takes in one request, unless it was told otherwise.
_LIMIT_BYTES = 32 * 1_048_576
_AHEAD = 2**53
_KNOWN: Final = (
    "invalid role or secret id",
    "invalid role id",
    "invalid secret id",
    "invalid username or password",
    "token is expired",
    "no known key successfully validated",
    "invalid audience",
    "invalid issuer",
    "error validating claims",
    "service account name not authorized",
    "namespace not authorized",
    "could not be found",
    "failed to validate totp passcode",
    "code already used",
    "login mfa validation failed",
    "missing client token",
    "no handler for route",
    "unsupported path",
    "unsupported operation",
    "permission denied",
)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)
    changing: bool


@dataclass(frozen=True, slots=True)
class _NotYet:
    """Why there is no answer, which may go away; *onward*: the server we are sent to."""

    error: KeyturnError
    pause_seconds: float | None = None
    onward: int | None = None


class Cluster:
    """
    The servers at the addresses of *settings*.

    It may be used by several threads at once.
    """

    def __init__(self, settings: VaultSettings, *, clock: Clock, entropy: Entropy) -> None:
        self._servers = [
            Server("Vault", address, clock=clock, ca_file=settings.ca_file)
            for address in settings.addresses
        ]
        self._origins = {_origin(server.address): at for at, server in enumerate(self._servers)}
        self._preferred = 0
        self._clock = clock
        self._entropy = entropy
        self._patience_seconds = settings.patience_seconds
        self._headers = {"X-Vault-Request": "true"}
        if settings.namespace is not None:
            self._headers["X-Vault-Namespace"] = settings.namespace
        self._lock = threading.Lock()
        self._index: str | None = None
        self._is_current = False
        self.where = ", ".join(server.address for server in self._servers)

    def send(
        self,
        method: str,
        path: str,
        *,
        token: SecretValue | None,
        body: Mapping[str, object] | None = None,
        changing: bool = False,
        patient: bool = True,
    ) -> Reply:
        """
        Send one request to whichever server serves.

        Args:
            path: Below `/v1/`; parts that are not ours went through `segment`.
            changing: Whether a lost answer leaves something in doubt.
            patient: Try again where nobody serves.

        Raises:
            Sealed: It is sealed.
            Unavailable: Nobody serves, and nothing was changed.
            OutcomeUnknown: No answer to a change.
            Rejected: It is too large, or a server does not prove who it is.
        """
        headers = dict(self._headers)
        content = None
        if body is not None:
            content = _encoded(body)
            headers["Content-Type"] = "application/json"
        if token is not None:
            headers["X-Vault-Token"] = token.reveal_text()
        request = _Request(method, f"/v1/{path}", headers, content, changing)
        patience = Patience(self._clock, self._entropy, self._patience_seconds if patient else 0)
        unsure = method == "GET" and not self._is_current
        while True:
            found = self._try_each(request)
            if isinstance(found, Reply):
                if not unsure or not self._may_be_behind(found):
                    return found
                unsure = False
            elif isinstance(found.error, Sealed) or not patience.pause(found.pause_seconds):
                raise found.error

    def serving(self) -> tuple[str, str] | None:
        """
        Return the address that serves, and an index that only the active node answers to.

        The index is empty where the server knows none; None where it is of a form that
        this Keyturn cannot put ahead.
        """
        with self._lock:
            index = self._index
        if index is not None and _ahead(index) is None:
            return None
        return self._servers[self._preferred].address, index or ""

    def close(self) -> None:
        """Let connections go."""
        for server in self._servers:
            server.close()

    def _try_each(self, request: _Request) -> Reply | _NotYet:
        """Return an answer, or why there is none yet; each address is asked once."""
        at, hops, untried = self._preferred, 0, set(range(len(self._servers)))
        while True:
            untried.discard(at)
            found = self._try(self._servers[at], request)
            if isinstance(found, Reply):
                self._preferred = at
                return found
            if found.onward is not None and hops < _HOPS:
                at, hops = found.onward, hops + 1
            elif untried:
                at = min(untried)
            else:
                return found

    def _try(self, server: Server, request: _Request) -> Reply | _NotYet:
        with self._lock:
            index = self._index
        headers = dict(request.headers)
        if index is not None:
            headers |= {"X-Vault-Index": index, "X-Vault-Inconsistent": "forward-active-node"}
        try:
            reply = server.send(
                request.method,
                request.path,
                headers=headers,
                content=request.content,
                changing=request.changing,
            )
        except Unavailable as error:
            return _NotYet(error)
        self._learn(reply)
        if reply.status == _TEMPORARY_REDIRECT:
            return self._onward(server, reply)
        why = _temporary(server, reply, changing=request.changing)
        return reply if why is None else _NotYet(why, reply.retry_after)

    def _onward(self, server: Server, reply: Reply) -> _NotYet:
        origin = _origin(reply.headers.get("location", ""))
        known = self._origins.get(origin)
        hint = "wait until a node is active, then run the command again"
        if known is None and origin:
            hint = f"add `{origin}` to the store's `address` if that server is yours"
        whither = f"to `{origin}`" if origin else "elsewhere"
        message = f"Vault at {server.address} is on standby and sends us {whither}"
        return _NotYet(Unavailable(message, hint=hint), onward=known)

    def _may_be_behind(self, reply: Reply) -> bool:
        """
        Tell whether the first *reply* to a read may come from a copy that is behind.

        From now on each request carries an index, where the server knows such.
        """
        self._is_current = True
        if self._index is not None:
            return True
        if reply.succeeded:
            return False
        # No error comes with an index, and what is not there may be there already.
        server = self._servers[self._preferred]
        try:
            told = server.send("GET", "/v1/sys/health", headers=self._headers, changing=False)
        except Unavailable:
            return False
        name = told.at("cluster_id")
        if told.at("standby") is not True or not isinstance(name, str):
            return False
        with self._lock:
            self._index = _index(name, _AHEAD)
        return True

    def _learn(self, reply: Reply) -> None:
        """Remember how new an answer is."""
        found = reply.headers.get("x-vault-index")
        if found is None:
            return
        with self._lock:
            self._index = _ahead(found) or found


def words(reply: Reply) -> str:
    """Return what is wrong: the server's words where they are known ones, else its status."""
    # Others are not repeated: whatever stands between may echo what was sent.
    said = said_of(reply)
    known = [part for part in _KNOWN if part in said]
    return f"{known[0]} ({reply.status})" if known else f"it answered {reply.status}"


def said_of(reply: Reply) -> str:
    """Return the server's words in lower case, to be compared and not to be shown."""
    errors = reply.at("errors")
    return " ".join(map(str, errors)).lower() if isinstance(errors, list) else ""


def _temporary(server: Server, reply: Reply, *, changing: bool) -> KeyturnError | None:
    """
    Return the error that may go away by itself; None for an answer.

    Raises:
        KeyturnError: It does not go away, or the outcome is in doubt.
    """
    low = said_of(reply)
    if reply.status == _TOO_LARGE or any(part in low for part in _LARGE):
        raise _too_large()
    if reply.status == _UNAVAILABLE and any(part in low for part in _SEALED):
        return Sealed(
            f"Vault at {server.address} is sealed",
            hint="have it unsealed (`bao operator unseal`), then run the command again",
        )
    starting = any(part in low for part in _STARTING)
    if reply.status in _NOT_NOW or (reply.status >= _BAD_REQUEST and starting):
        return Unavailable(
            f"Vault at {server.address} does not serve now ({reply.status})",
            hint="nothing was changed; run the command again later",
        )
    if reply.status < _SERVER_ERROR:
        return None
    if changing:
        raise OutcomeUnknown(
            f"Vault answered a change with {reply.status}: it may have been made",
            hint="run the command again: it asks what is true first",
        )
    return Unavailable(
        f"Vault at {server.address} answered {reply.status}",
        hint="nothing was changed; look at the server's log, or run the command again later",
    )


def _too_large() -> Rejected:
    return Rejected(
        "Vault does not take an entry of this size",
        hint="one entry holds 1 MiB in all, in OpenBao some 500 fields; use the layout with a path"
        ' for each secret: layout = "secret"',
        code="store.too_large",
    )


def _encoded(body: Mapping[str, object]) -> bytes:
    try:
        content = json.dumps(body, allow_nan=False).encode()
    except ValueError:
        # Without its cause, which may quote the value.
        raise Rejected(
            "a number beside the values cannot be written back as it was",
            hint="make that field a text",
            code="store.form",
        ) from None
    if len(content) > _LIMIT_BYTES:
        # The server would hang up in the middle of it, which looks like a lost answer.
        raise _too_large()
    return content


def _origin(address: str) -> str:
    try:
        parts = urlsplit(address)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname else ""


def _ahead(index: str) -> str | None:
    """Return an index that no copy has reached yet, so that only the active node answers."""
    try:
        found = json.loads(base64.b64decode(index, validate=True))
        return _index(str(found["cluster"]), int(found["value"]) + _AHEAD)
    except (ValueError, KeyError, TypeError):
        return None


def _index(name: str, value: int) -> str:
    document = {"cluster": name, "value": str(value)}
    return base64.b64encode(json.dumps(document).encode()).decode()
