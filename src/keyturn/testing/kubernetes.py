"""
A Kubernetes API server played on this machine: Secrets, workloads, tokens and rights.

It answers as a kube-apiserver 1.36 was seen to answer: with `resourceVersion` as the
condition of a change, field managers, `Status` objects, and role-based access control.
What it does not play it answers with 404, never with something made up: JSON patches,
protobuf, server-side apply of workloads, admission, and every other sort of object.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from keyturn.core.clock import Clock, SystemClock
from keyturn.core.entropy import Entropy
from keyturn.testing._kubernetes_access import ANONYMOUS, Access, Ask, Identity, Rule
from keyturn.testing._kubernetes_fields import Object, as_mapping
from keyturn.testing._kubernetes_objects import UNREADABLE, Event, Objects, selected
from keyturn.testing._kubernetes_server import PEER, ApiServer, Stream
from keyturn.testing._kubernetes_status import Refused, bad_request, failure
from keyturn.testing._kubernetes_workloads import KINDS
from keyturn.testing.simulators._server import Fault, Reply, Request, Simulator

__all__ = ["Fault", "KubernetesSimulator", "Rule"]

_WATCH_SECONDS = 1800.0
_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_ABOUT_ME = "selfsubjectaccessreviews"
_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/v1(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[^/]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<part>[^/]+))?)?"
)
_SERVED = {
    "": {"secrets", "serviceaccounts"},
    "apps": set(KINDS),
    "authorization.k8s.io": {_ABOUT_ME},
    "authentication.k8s.io": {"tokenreviews"},
}
_METADATA_ONLY = re.compile(r"as=PartialObjectMetadata(List)?;")


@dataclass(slots=True)
class _Refusal:
    pattern: re.Pattern[str]
    status: int
    times: int
    retry_after: int | None


@dataclass(frozen=True, slots=True)
class _Target:
    """What a path points at; *name* is empty for a collection, *namespace* for all of them."""

    group: str
    resource: str
    namespace: str
    name: str = ""
    part: str = ""


class KubernetesSimulator(Simulator):
    """
    The API server.

    Args:
        tls: Serve https with it; a client certificate it verifies is a login, its
            common name the user.
        clock: For creation times and the end of tokens.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        super().__init__(entropy=entropy)
        self._tls = tls
        self._changed = threading.Condition(self._lock)
        self._api: ApiServer | None = None
        self._refusals: list[_Refusal] = []
        clock = clock or SystemClock()
        self.access = Access(clock, self.entropy)
        self.objects = Objects(clock, self.entropy, self._tell)

    @property
    def base_url(self) -> str:
        """Where it listens, without a path."""
        plain = super().base_url
        return plain if self._tls is None else plain.replace("http:", "https:", 1)

    # --- what a test sets up, and looks at around the API --------------------------------

    def admin(self) -> str:
        """Return a token of somebody who may do everything."""
        return self.access.issue("kubernetes-admin", ("system:masters",), None)

    def account(self, name: str, *rules: Rule, namespace: str = "default") -> str:
        """Make a service account that may do what *rules* say, and return a token of it."""
        with self._lock:
            self.objects.accounts.add((namespace, name))
        user = _account_user(namespace, name)
        self.access.bind(user, *rules)
        return self.access.issue(user, _account_groups(namespace), None)

    def stored(self, name: str, *, namespace: str = "default") -> dict[str, bytes] | None:
        """Return a Secret's values as they lie there; None where there is no such Secret."""
        with self._lock:
            return self.objects.values(namespace, name)

    def deploy(
        self,
        name: str,
        *,
        resource: str = "deployments",
        namespace: str = "default",
        replicas: int = 2,
        looks: int | None = 3,
    ) -> None:
        """
        Make a workload, rolled out as it is.

        Args:
            resource: `deployments`, `statefulsets` or `daemonsets`.
            looks: A change is rolled out when somebody has looked so often; None for
                when `settle` is called.
        """
        with self._lock:
            self.objects.deploy(resource, namespace, name, replicas, looks)

    def settle(
        self,
        name: str,
        *,
        done: bool = True,
        resource: str = "deployments",
        namespace: str = "default",
    ) -> None:
        """End the rollout now: *done*, or at its progress deadline."""
        with self._lock:
            self.objects.settle(resource, namespace, name, done=done)

    def refuse_next(
        self, pattern: str, status: int, *, times: int = 1, retry_after: int | None = None
    ) -> None:
        """Answer the next *times* such requests with *status* (429, 500, 503, 504), undone."""
        with self._lock:
            self._refusals.append(_Refusal(re.compile(pattern), status, times, retry_after))

    # --- running -------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen, on a port that the system chooses."""
        self._stopping.clear()
        self._api = ApiServer(self.host, self, self._tls)
        self._server = self._api
        self._thread = threading.Thread(
            target=self._api.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """End it, and every connection to it; a second call does nothing."""
        self._stopping.set()
        self._tell()
        api, self._api = self._api, None
        try:
            super().stop()
        finally:
            if api is not None:
                api.hang_up()

    def hang_up(self) -> None:
        """End the connections that are open, idle ones too, and go on."""
        if self._api is not None:
            self._api.hang_up()

    # --- requests ------------------------------------------------------------------------

    def error(self, status: int) -> object:
        """Return the server's body for a fault that is not about the request."""
        messages = {
            429: "too many requests, please try again later.",
            500: "Internal error occurred: etcdserver: request timed out",
            503: "the server is currently unable to handle the request",
            504: "Timeout: request did not complete within the allotted timeout",
        }
        return failure(status, messages[status])

    def handle(self, request: Request) -> Reply:
        """Answer *request*."""
        refused = self._refusal(request)
        if refused is not None:
            return refused
        try:
            who = self._who(request)
            if request.parts == ("version",):
                return Reply(200, {"major": "1", "minor": "36", "gitVersion": "v1.36.2"})
            target = _target(request.path)
            if target is None:
                message = "the server could not find the requested resource"
                return Reply(404, failure(404, message))
            return self._answer(request, target, who)
        except Refused as refusal:
            return refusal.reply

    def _answer(self, request: Request, target: _Target, who: Identity) -> Reply:
        if target.group == "authorization.k8s.io":
            return self._review(request, who)
        ask = _ask(request, target)
        who.require(ask)
        if target.group == "authentication.k8s.io":
            return self._token_review(request)
        if target.resource == "serviceaccounts":
            return self._token_request(request, target)
        key = (target.resource, target.namespace, target.name)
        options = _options(request)
        match ask.verb:
            case "watch":
                reply = Reply(200, Stream(self._watch(request, target)))
            case "list":
                reply = self._list(request, target)
            case "get":
                reply = Reply(200, _shown(request, self.objects.get(*key)))
            case "create":
                reply = self.objects.create(*key[:2], _body(request), options)
            case "update":
                reply = self.objects.replace(key, _body(request), options)
            case "patch":
                sort = request.headers.get("content-type", "")
                reply = self.objects.patch(key, sort, request.json(), options)
            case _:
                reply = self.objects.delete(key, request.json(), options)
        return reply

    def _refusal(self, request: Request) -> Reply | None:
        for one in self._refusals:
            if one.times > 0 and one.pattern.search(f"{request.method} {request.path}"):
                one.times -= 1
                after = {} if one.retry_after is None else {"Retry-After": str(one.retry_after)}
                return Reply(one.status, self.error(one.status), after)
        return None

    def _who(self, request: Request) -> Identity:
        peer = request.headers.get(PEER)
        if peer:
            return self.access.known(peer, ("system:authenticated",))
        if "authorization" not in request.headers:
            return ANONYMOUS
        found = self.access.who(request.bearer or "")
        if found is None:
            raise Refused(Reply(401, failure(401, "Unauthorized")))
        return found

    def _list(self, request: Request, target: _Target) -> Reply:
        found = self.objects.listed(target.resource, target.namespace, request.query)
        start = int(request.query.get("continue") or 0)
        limit = int(request.query.get("limit") or 0) or len(found)
        page = found[start : start + limit]
        metadata: Object = {"resourceVersion": str(self.objects.revision)}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
            metadata["remainingItemCount"] = len(found) - start - limit
        kind = "Secret" if target.resource == "secrets" else KINDS[target.resource]
        version = "v1" if target.resource == "secrets" else "apps/v1"
        # Items of a typed list do not repeat their kind.
        items: list[object] = [
            {name: part for name, part in one.items() if name not in {"kind", "apiVersion"}}
            for one in page
        ]
        if _METADATA_ONLY.search(request.headers.get("accept", "")):
            kind, version = "PartialObjectMetadata", "meta.k8s.io/v1"
            items = [_shown(request, one) for one in page]
        body = {
            "kind": f"{kind}List",
            "apiVersion": version,
            "metadata": metadata,
            "items": items,
        }
        return Reply(200, body)

    def _watch(self, request: Request, target: _Target) -> Iterator[object]:
        since = request.query.get("resourceVersion") or "0"
        if not since.isdigit():
            raise bad_request(f'resourceVersion: Invalid value: "{since}"')
        start = int(since)
        first: list[object] = []
        if start == 0:
            found = self.objects.listed(target.resource, target.namespace, request.query)
            first = [{"type": "ADDED", "object": one} for one in found]
            start = self.objects.revision
        seconds = float(request.query.get("timeoutSeconds") or _WATCH_SECONDS)
        return self._events(request, target, first, start, seconds)

    def _events(
        self, request: Request, target: _Target, first: list[object], at: int, seconds: float
    ) -> Iterator[object]:
        yield from first
        until = _Deadline(seconds)
        while not self._stopping.is_set() and not until.over():
            with self._changed:
                events: list[Event] = self.objects.since(at)
                if not events:
                    self._changed.wait(min(until.left(), 1.0))
                    continue
            for event in events:
                at = event.revision
                if event.about(target.resource, target.namespace) and selected(
                    event.object, request.query
                ):
                    yield {"type": event.type, "object": event.object}

    def _review(self, request: Request, who: Identity) -> Reply:
        body = _body(request)
        if who is ANONYMOUS:
            who.require(Ask("create", _ABOUT_ME, "", group="authorization.k8s.io"))
        spec = as_mapping(body.get("spec"))
        wanted = as_mapping(spec.get("resourceAttributes"))
        words = {name: str(wanted.get(name, "")) for name in ("verb", "resource", "subresource")}
        resource = words["resource"]
        if words["subresource"]:
            resource += "/" + words["subresource"]
        allowed = who.may(
            Ask(
                words["verb"],
                resource,
                str(wanted.get("namespace", "")),
                str(wanted.get("name", "")),
                str(wanted.get("group", "")),
            )
        )
        return Reply(201, body | {"metadata": {}, "status": {"allowed": allowed}})

    def _token_request(self, request: Request, target: _Target) -> Reply:
        if target.part != "token" or request.method != "POST":
            message = "the server could not find the requested resource"
            return Reply(404, failure(404, message))
        return self.objects.token_request(
            target.namespace, target.name, _body(request), self._issue_for
        )

    def _issue_for(self, namespace: str, name: str, seconds: int) -> str:
        return self.access.issue(
            _account_user(namespace, name), _account_groups(namespace), seconds
        )

    def _token_review(self, request: Request) -> Reply:
        body = _body(request)
        found = self.access.who(str(as_mapping(body.get("spec")).get("token", "")))
        status: Object = {"user": {}, "error": "[invalid bearer token]"}
        if found is not None:
            user = {"username": found.user, "groups": list(found.groups)}
            status = {"authenticated": True, "user": user}
        return Reply(201, body | {"metadata": {}, "status": status})

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._clock = SystemClock()
        self._end = self._clock.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self._end - self._clock.monotonic())

    def over(self) -> bool:
        return self.left() == 0.0


def _target(path: str) -> _Target | None:
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    found = {name: unquote(text or "") for name, text in match.groupdict().items()}
    target = _Target(**found)
    return target if target.resource in _SERVED.get(target.group, ()) else None


def _ask(request: Request, target: _Target) -> Ask:
    resource = target.resource + (f"/{target.part}" if target.part else "")
    verb, name = _VERBS[request.method], target.name
    if verb == "get" and not name:
        verb = "watch" if request.query.get("watch") in {"1", "true", "True"} else "list"
        # A list of the one object that is named is that object's.
        for term in request.query.get("fieldSelector", "").split(","):
            key, _, found = term.partition("=")
            name = found.lstrip("=") if key == "metadata.name" else name
    elif not name and verb != "create":
        raise Refused(Reply(405, failure(405, "the server does not allow this method")))
    return Ask(verb, resource, target.namespace, name, target.group)


def _body(request: Request) -> Object:
    found = request.json()
    if not found:
        raise bad_request(UNREADABLE)
    return found


def _options(request: Request) -> dict[str, str]:
    agent = request.headers.get("user-agent", "").partition("/")[0] or "unknown"
    return (
        {"fieldManager": agent}
        | {
            name: text
            for name, text in request.query.items()
            if name in {"fieldManager", "force", "dryRun"}
        }
        | {"stated": request.query.get("fieldManager", "")}
    )


def _shown(request: Request, found: Object) -> Object:
    if not _METADATA_ONLY.search(request.headers.get("accept", "")):
        return found
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": found["metadata"],
    }


def _account_user(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def _account_groups(namespace: str) -> tuple[str, ...]:
    return (
        "system:serviceaccounts",
        f"system:serviceaccounts:{namespace}",
        "system:authenticated",
    )
