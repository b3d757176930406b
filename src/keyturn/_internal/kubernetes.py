"""
Requests to a Kubernetes API server: bounded in time and size, verified, never in doubt.

Two rooms ask it: the store that keeps Secrets, and the delivery that restarts what
uses them. What came of a request is one of four:

    an answer                                       returned, or raised as what it means
    not connected; 429; no answer or 5xx on a read  tried again for a while, then Unavailable
    5xx on a change                                 tried again, then OutcomeUnknown
    no answer to a change                           OutcomeUnknown, at once

A change is tried again since every change of ours says what it expects: done twice, it
is refused the second time, and then the answer is OutcomeUnknown: look again. A
refusal's own words are not passed on, as they may quote a value: only which field it is.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final
from urllib.parse import urlencode

from keyturn._internal.http import Patience, Reply, Server, segment
from keyturn._internal.kubernetes_login import ClusterLogin
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.errors import (
    AccessDenied,
    Conflict,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
)

__all__ = ["APPLY_PATCH", "MERGE_PATCH", "ClusterAnswer", "KubernetesApi", "object_path"]

MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"

_TIMEOUT_SECONDS = 10.0
_PATIENCE_SECONDS = 10.0
_LIMIT_BYTES = 8 * 1024 * 1024
_MAX_PAGES = 1_000
_MAX_FAULTS = 5
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_DENIED = "store.denied"
# What a refusal calls a field; a value never stands in one.
_FIELD = re.compile(r"[A-Za-z0-9_.\[\]/-]{1,120}", re.ASCII)
_OK = range(200, 300)
_LIMITED, _SERVER_FAULT = 429, 500
_VERBS = {"GET": "read", "POST": "make", "PUT": "replace", "PATCH": "change", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class ClusterAnswer:
    """An answer: *body* is its JSON object, empty where it was none."""

    status: int
    body: Mapping[str, object] = field(repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether it is a yes."""
        return self.status in _OK

    @property
    def reason(self) -> str:
        """Why it is a no, in the server's one word for it."""
        found = self.body.get("reason")
        return found if isinstance(found, str) and found.isalpha() else ""

    @property
    def faults(self) -> str:
        """Which fields it is about, without what is in them."""
        details = self.body.get("details")
        causes = details.get("causes") if isinstance(details, dict) else None
        fields = [
            str(cause["field"])
            for cause in (causes if isinstance(causes, list) else [])
            if isinstance(cause, dict) and _FIELD.fullmatch(str(cause.get("field", "")))
        ]
        return ", ".join(f"`{name}`" for name in fields[:_MAX_FAULTS])


class KubernetesApi:
    """
    One server, through one connection that stays open.

    Args:
        patience_seconds: How long a request is tried, all in all.

    Raises:
        UsageError: A certificate cannot be used.
    """

    def __init__(
        self,
        login: ClusterLogin,
        *,
        clock: Clock,
        entropy: Entropy,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self.where = login.server
        self.namespace = login.namespace
        self._login = login
        self._clock = clock
        self._entropy = entropy
        self._patience_seconds = patience_seconds
        self._server = Server(
            "Kubernetes",
            login.server,
            clock=clock,
            trust=_trust(login),
            timeout_seconds=timeout_seconds,
            limit_bytes=_LIMIT_BYTES,
        )

    def close(self) -> None:
        """Let the connection go."""
        self._server.close()

    def get(self, path: str, *, about: str) -> Mapping[str, object] | None:
        """
        Return the object at *path*; None where there is none.

        Args:
            about: What it is, for messages: "the Secret `clipper-secrets`".

        Raises:
            Unavailable: No answer.
            AccessDenied: We may not.
        """
        answer = self.request("GET", path, about=about, expect={404})
        return answer.body if answer.succeeded else None

    def list_metadata(self, path: str, *, selector: str, about: str) -> list[Mapping[str, object]]:
        """
        Return the metadata of all objects at *path* with the labels of *selector*.

        What else they hold stays where it is.
        """
        found: list[Mapping[str, object]] = []
        query = {"labelSelector": selector, "limit": "500"}
        for _ in range(_MAX_PAGES):
            answer = self.request(
                "GET", path, about=about, query=query, accept=_METADATA.format("List")
            )
            items = answer.body.get("items")
            found += [
                _table(_table(item).get("metadata"))
                for item in (items if isinstance(items, list) else [])
            ]
            more = _table(answer.body.get("metadata")).get("continue")
            if not isinstance(more, str) or not more:
                return found
            query["continue"] = more
        raise Rejected(f"{self.where} lists {about} without an end", hint="look at the server")

    def may(
        self, verb: str, resource: str, *, namespace: str = "", name: str = "", group: str = ""
    ) -> bool:
        """Return whether we may; *namespace* empty asks for all of them."""
        attributes = {"verb": verb, "resource": resource, "namespace": namespace, "name": name}
        if resource == "*" or group:
            attributes["group"] = group or "*"
        answer = self.request(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
            about="what we may do",
            changing=False,
        )
        return _table(answer.body.get("status")).get("allowed") is True

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        about: str,
        query: Mapping[str, str] | None = None,
        sort: str = "application/json",
        accept: str = "application/json",
        changing: bool | None = None,
        expect: Collection[int] = (),
    ) -> ClusterAnswer:
        """
        Send a request and return its answer.

        Args:
            about: As of `get`.
            sort: The body's content type.
            changing: Whether it changes something; by the method where None.
            expect: Statuses besides 2xx that the caller deals with.

        Raises:
            Unavailable: No answer, and nothing was changed.
            OutcomeUnknown: It may have been changed.
            AccessDenied: We may not, or are not known.
            Conflict: It is not as we said it would be.
            NotFound: There is no such object or namespace.
            Rejected: The server will never do it.
        """
        changing = method != "GET" if changing is None else changing
        target = path + (f"?{urlencode(query)}" if query else "")
        content = None if body is None else json.dumps(body).encode()
        patience = Patience(self._clock, self._entropy, self._patience_seconds)
        doubtful = False
        while True:
            headers = {"Accept": accept} | self._login_header()
            if content is not None:
                headers["Content-Type"] = sort
            wait = None
            try:
                reply = self._server.send(
                    method, target, headers=headers, content=content, changing=changing
                )
                if reply.status < _SERVER_FAULT and reply.status != _LIMITED:
                    answer = ClusterAnswer(reply.status, _table(reply.body))
                    return self._judged(answer, method, about, expect, doubtful=doubtful)
                doubtful |= changing and reply.status != _LIMITED
                failure, wait = self._not_served(reply, about), reply.retry_after
            except Unavailable as error:
                failure = error
            if not patience.pause(wait):
                raise self._doubt(about) if doubtful else failure

    def _judged(
        self,
        answer: ClusterAnswer,
        method: str,
        about: str,
        expect: Collection[int],
        *,
        doubtful: bool,
    ) -> ClusterAnswer:
        if answer.succeeded:
            return answer
        if doubtful:
            # Our own earlier try may be what it is refused for.
            raise self._doubt(about)
        if answer.status in expect:
            return answer
        raise self._refusal(answer, method, about)

    def _login_header(self) -> dict[str, str]:
        token = self._login.bearer()
        if token is None:
            return {}
        return {"Authorization": _authorization(token, self._login.whose)}

    def _not_served(self, reply: Reply, about: str) -> Unavailable:
        if reply.status == _LIMITED:
            return Unavailable(
                f"{self.where} limits how often it is asked for {about}",
                hint="nothing was changed; run the command again later",
            )
        return Unavailable(
            f"{self.where} does not serve {about} now ({reply.status})",
            hint="look at the cluster's own state; nothing was changed",
        )

    def _doubt(self, about: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self.where} did not say what became of a change of {about}",
            hint="run the command again: it asks what is true first",
        )

    def _refusal(self, answer: ClusterAnswer, method: str, about: str) -> KeyturnError:
        verb = _VERBS.get(method, "use")
        of = f" ({answer.faults})" if answer.faults else ""
        match answer.status:
            case 401:
                return AccessDenied(
                    f"{self.where} does not know {self._login.whose}",
                    hint="its token has ended or is another cluster's: get a new one",
                    code=_DENIED,
                )
            case 403:
                return AccessDenied(
                    f"{self._login.whose} may not {verb} {about}",
                    hint="`kubectl auth can-i --list` tells what it may; a Role grants more",
                    code=_DENIED,
                )
            case 404:
                return NotFound(
                    f"{about} is not there to {verb}, or its namespace is not",
                    hint="`kubectl get namespaces` lists what there is",
                )
            case 409 | 410:
                return Conflict(f"{about} was changed meanwhile{of}", hint="run the command again")
            case status if status < 400:  # noqa: PLR2004 - HTTP's own numbers
                return Rejected(
                    f"{self.where} answered {status}, a redirect, which is not followed",
                    hint="check the server of the kubeconfig",
                )
            case status:
                word = f" {answer.reason}" if answer.reason else ""
                return Rejected(
                    f"{self.where} refuses to {verb} {about}: {status}{word}{of}",
                    hint="nothing was changed",
                )


def object_path(resource: str, namespace: str, name: str = "", *, group: str = "") -> str:
    """Return the path of an object, or of all of a namespace where *name* is empty."""
    root = f"/apis/{group}/v1" if group else "/api/v1"
    end = f"/{segment(name)}" if name else ""
    return f"{root}/namespaces/{segment(namespace)}/{resource}{end}"


@final
class _Trust(ssl.SSLContext):
    """Verifies the server, by *server_name* where it goes by another than its host's."""

    server_name: str | None = None

    def wrap_socket(self, *given: Any, **more: Any) -> ssl.SSLSocket:
        if self.server_name is not None:
            more["server_hostname"] = self.server_name
        return super().wrap_socket(*given, **more)


def _trust(login: ClusterLogin) -> ssl.SSLContext | None:
    # Nothing is encrypted on the way to this machine itself: no certificates are read.
    if login.server.startswith("http:"):
        return None
    made = _Trust(ssl.PROTOCOL_TLS_CLIENT)
    made.server_name = login.server_name
    try:
        if login.authority is None:
            made.load_default_certs()
        else:
            made.load_verify_locations(cadata=login.authority)
        if login.certificate is not None and login.key is not None:
            _load(made, login.certificate, login.key)
    except (ssl.SSLError, OSError, ValueError):
        raise UsageError(
            f"the certificates of {login.whose} cannot be used",
            hint="check that they are PEM, and that certificate and key belong together",
            code="store.kubeconfig",
        ) from None
    return made


def _load(made: ssl.SSLContext, certificate: str, key: SecretValue) -> None:
    """Give *made* the client's certificate; the library takes files only, so one in memory."""
    descriptor = os.memfd_create("certificate")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(certificate.encode() + b"\n" + key.reveal())
        # A password is asked for at the terminal otherwise.
        made.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)


def _authorization(token: SecretValue, whose: str) -> str:
    plain = token.reveal()
    # The library's own error for such a header would quote it.
    if not plain or any(byte <= 0x20 or byte >= 0x7F for byte in plain):  # noqa: PLR2004
        raise UsageError(
            f"the token of {whose} is empty or has characters that no token has",
            hint="get a new one",
            code="store.kubeconfig",
        )
    return f"Bearer {plain.decode()}"


def _table(found: object) -> Mapping[str, object]:
    return found if isinstance(found, dict) else {}
