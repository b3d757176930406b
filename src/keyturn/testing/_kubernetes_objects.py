"""The objects of the simulated API server: what is stored, and under which condition."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.testing._kubernetes_fields import Object, applied, as_mapping, merged, updated
from keyturn.testing._kubernetes_secrets import check_name, check_secret, normal_secret
from keyturn.testing._kubernetes_status import (
    Cause,
    Refused,
    already_exists,
    bad_request,
    conflict,
    failure,
    invalid,
    not_found,
    success,
)
from keyturn.testing._kubernetes_workloads import KINDS, Rollout, new_workload
from keyturn.testing.simulators._server import Reply

__all__ = ["UNREADABLE", "Event", "Objects", "selected"]

UNREADABLE = "the object provided is unrecognized (must be of type Object)"

_Key = tuple[str, str, str]

_FIRST_REVISION = 1000
_SHORTEST_TOKEN_SECONDS = 600
_HOUR = 3600
_MERGE = {"application/merge-patch+json", "application/strategic-merge-patch+json"}
_APPLY = {"application/apply-patch+yaml", "application/apply-patch+json"}


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as watches tell it."""

    revision: int
    type: str
    resource: str
    namespace: str
    object: Object

    def about(self, resource: str, namespace: str) -> bool:
        """Tell whether a watch of *resource* in *namespace* (empty: in all) tells it."""
        return self.resource == resource and namespace in {"", self.namespace}


class Objects:
    """
    What is stored.

    Args:
        tell: Called after each change.
    """

    def __init__(self, clock: Clock, entropy: Entropy, tell: Callable[[], None]) -> None:
        self.namespaces = {"default", "kube-system"}
        self.accounts = {("default", "default")}
        self.revision = _FIRST_REVISION
        self._clock = clock
        self._entropy = entropy
        self._tell = tell
        self._objects: dict[_Key, Object] = {}
        self._rollouts: dict[_Key, Rollout] = {}
        self._looks: dict[_Key, int | None] = {}
        self._events: list[Event] = []

    # --- requests ------------------------------------------------------------------------

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """Return an object; a look at a workload is counted."""
        found = self._found((resource, namespace, name))
        rollout = self._rollouts.get((resource, namespace, name))
        if rollout is None:
            return found
        rollout.look()
        return found | {"status": rollout.status(found)}

    def listed(self, resource: str, namespace: str, query: Mapping[str, str]) -> list[Object]:
        """Return the objects of *namespace*, or of all where it is empty, that *query* selects."""
        return [
            found
            for (kind, space, _), found in sorted(self._objects.items(), key=lambda one: one[0])
            if kind == resource and namespace in {"", space} and selected(found, query)
        ]

    def create(
        self, resource: str, namespace: str, given: Object, options: Mapping[str, str]
    ) -> Reply:
        """Make an object."""
        if namespace not in self.namespaces:
            raise not_found("namespaces", namespace)
        if resource != "secrets":
            raise bad_request("workloads are made by the test")
        metadata = as_mapping(given.get("metadata"))
        name = str(metadata.get("name", ""))
        if metadata.get("namespace") not in {None, "", namespace}:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the"
                " request"
            )
        if metadata.get("resourceVersion"):
            message = "resourceVersion should not be set on objects to be created"
            raise Refused(Reply(500, failure(500, message)))
        check_name("Secret", name)
        key = (resource, namespace, name)
        new = normal_secret(given)
        check_secret(new, None)
        if key in self._objects:
            raise already_exists(resource, name)
        new = updated(
            None, self._born(new, key), manager=options["fieldManager"], time=self._time()
        )
        return Reply(201, self._keep(key, new, options))

    def replace(self, key: _Key, given: Object, options: Mapping[str, str]) -> Reply:
        """Put an object in the place of another."""
        resource, _, name = key
        metadata = as_mapping(given.get("metadata"))
        if metadata.get("name") != name:
            raise bad_request(
                f"the name of the object ({metadata.get('name', '')}) does not match the name on"
                f" the URL ({name})"
            )
        live = self._found(key)
        _check_version(resource, name, metadata, live)
        new = normal_secret(given) if resource == "secrets" else given
        return Reply(200, self._changed(key, live, new, options))

    def patch(
        self, key: _Key, content_type: str, given: Object, options: Mapping[str, str]
    ) -> Reply:
        """Change an object by a merge patch, or apply one."""
        sort = content_type.partition(";")[0].strip()
        resource, _, name = key
        if not given and sort in _MERGE | _APPLY:
            raise bad_request(UNREADABLE)
        if sort in _APPLY and resource == "secrets":
            return self._apply(key, given, options)
        if sort not in _MERGE:
            message = (
                "the body of the request was in an unknown format - accepted media types include:"
                " application/json-patch+json, application/merge-patch+json,"
                " application/apply-patch+yaml"
            )
            raise Refused(Reply(415, failure(415, message)))
        live = self._found(key)
        _check_version(resource, name, as_mapping(given.get("metadata")), live)
        new = as_mapping(merged(live, given))
        if resource == "secrets":
            new = normal_secret(new)
        return Reply(200, self._changed(key, live, new, options))

    def delete(self, key: _Key, given: Object, options: Mapping[str, str]) -> Reply:
        """Remove an object."""
        resource, namespace, name = key
        live = self._found(key)
        metadata = as_mapping(live.get("metadata"))
        wanted = as_mapping(given.get("preconditions"))
        for field, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if wanted.get(field) not in {None, metadata[field]}:
                raise conflict(
                    resource,
                    name,
                    f"the {word} in the precondition ({wanted[field]}) does not match the {word}"
                    f" in record ({metadata[field]}). The object might have been modified",
                )
        if not _is_dry(options):
            del self._objects[key]
            self.revision += 1
            gone = live | {"metadata": metadata | {"resourceVersion": str(self.revision)}}
            self._events.append(Event(self.revision, "DELETED", resource, namespace, gone))
            self._tell()
        return Reply(200, success(resource, name, metadata["uid"]))

    def token_request(
        self,
        namespace: str,
        name: str,
        given: Object,
        issue: Callable[[str, str, int], str],
    ) -> Reply:
        """Issue a token of a service account."""
        if (namespace, name) not in self.accounts:
            raise not_found("serviceaccounts", name)
        spec = as_mapping(given.get("spec"))
        seconds = spec.get("expirationSeconds") or _HOUR
        if not isinstance(seconds, int) or seconds < _SHORTEST_TOKEN_SECONDS:
            said = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            cause = Cause("spec.expirationSeconds", "FieldValueInvalid", said)
            raise invalid("TokenRequest", "", [cause])
        until = self._clock.now() + timedelta(seconds=seconds)
        status = {
            "token": issue(namespace, name, seconds),
            "expirationTimestamp": _stamp(until),
        }
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"audiences": [], "boundObjectRef": None}
            | spec
            | {"expirationSeconds": seconds},
            "status": status,
        }
        return Reply(201, answer)

    def since(self, revision: int) -> list[Event]:
        """Return what changed after *revision*."""
        return [event for event in self._events if event.revision > revision]

    # --- around the API ------------------------------------------------------------------

    def values(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """Return a Secret's values; None where there is none."""
        found = self._objects.get(("secrets", namespace, name))
        if found is None:
            return None
        data = as_mapping(found.get("data"))
        return {key: base64.b64decode(str(value)) for key, value in data.items()}

    def deploy(
        self, resource: str, namespace: str, name: str, replicas: int, looks: int | None
    ) -> None:
        """Make a workload, rolled out as it is."""
        key = (resource, namespace, name)
        made = new_workload(resource, namespace, name, replicas)
        made = updated(None, self._born(made, key), manager="kubectl", time=self._time())
        self._rollouts[key] = Rollout(looks, outcome=True)
        self._looks[key] = looks
        self._keep(key, made, {})

    def settle(self, resource: str, namespace: str, name: str, *, done: bool) -> None:
        """End a rollout."""
        self._rollouts[resource, namespace, name].outcome = done

    # --- the steps -----------------------------------------------------------------------

    def _apply(self, key: _Key, given: Object, options: Mapping[str, str]) -> Reply:
        resource, namespace, name = key
        if not options["stated"]:
            said = "Required value: is required for apply patch"
            cause = Cause("fieldManager", "FieldValueRequired", said)
            raise invalid("PatchOptions.meta.k8s.io", "", [cause])
        if namespace not in self.namespaces:
            raise not_found("namespaces", namespace)
        check_name("Secret", name)
        metadata = as_mapping(given.get("metadata"))
        if "managedFields" in metadata:
            raise bad_request("metadata.managedFields must be nil")
        live = self._objects.get(key)
        if live is None and metadata.get("resourceVersion"):
            raise conflict(resource, name, "the object has been deleted")
        if live is not None:
            _check_version(resource, name, metadata, live)
        wanted = {
            part: value
            for part, value in normal_secret(given).items()
            # Only what was given is applied; the type has a default of the server's.
            if part == "data" or part in given
        }
        new = applied(
            live,
            wanted,
            manager=options["fieldManager"],
            force=options.get("force") == "true",
            time=self._time(),
        )
        new = normal_secret(new)
        if live is None:
            new = self._born(new, key)
            check_secret(new, None)
            return Reply(201, self._keep(key, new, options))
        new["metadata"] = _system(new, live)
        check_secret(new, live)
        return Reply(200, self._keep(key, new, options))

    def _changed(self, key: _Key, live: Object, new: Object, options: Mapping[str, str]) -> Object:
        resource = key[0]
        new = dict(new) | {"apiVersion": live["apiVersion"], "kind": live["kind"]}
        new.pop("status", None)
        new["metadata"] = _system(new, live)
        if resource == "secrets":
            check_secret(new, live)
        elif new.get("spec") != live.get("spec"):
            metadata = as_mapping(new["metadata"])
            before = as_mapping(live["metadata"]).get("generation")
            metadata["generation"] = before + 1 if isinstance(before, int) else 1
            if not _is_dry(options):
                self._rollouts[key] = Rollout(self._looks[key])
        new = updated(live, new, manager=options["fieldManager"], time=self._time())
        return self._keep(key, new, options)

    def _keep(self, key: _Key, new: Object, options: Mapping[str, str]) -> Object:
        """Store *new*, and return what the server answers; a change of nothing is none."""
        if _is_dry(options):
            return copy.deepcopy(new)
        live = self._objects.get(key)
        if live is not None and live == new:
            return live
        self.revision += 1
        metadata = as_mapping(new["metadata"]) | {"resourceVersion": str(self.revision)}
        kept = copy.deepcopy(new | {"metadata": metadata})
        self._objects[key] = kept
        event = "ADDED" if live is None else "MODIFIED"
        self._events.append(Event(self.revision, event, key[0], key[1], kept))
        self._tell()
        return kept

    def _found(self, key: _Key) -> Object:
        found = self._objects.get(key)
        if found is None:
            raise not_found(key[0] if key[0] == "secrets" else f"{key[0]}.apps", key[2])
        return found

    def _born(self, new: Object, key: _Key) -> Object:
        hexadecimal = self._entropy.random_bytes(16).hex()
        cuts = (0, 8, 12, 16, 20, 32)
        uid = "-".join(hexadecimal[a:b] for a, b in pairwise(cuts))
        metadata = as_mapping(new.get("metadata")) | {
            "name": key[2],
            "namespace": key[1],
            "uid": uid,
            "creationTimestamp": self._time(),
        }
        kind = "Secret" if key[0] == "secrets" else KINDS[key[0]]
        version = "v1" if key[0] == "secrets" else "apps/v1"
        return new | {"kind": kind, "apiVersion": version, "metadata": metadata}

    def _time(self) -> str:
        return _stamp(self._clock.now())


def selected(found: Object, query: Mapping[str, str]) -> bool:
    """Tell whether the label and field selectors of *query* are met."""
    metadata = as_mapping(found.get("metadata"))
    labels = as_mapping(metadata.get("labels"))
    for term in filter(None, query.get("labelSelector", "").split(",")):
        if not _meets(term.strip(), labels):
            return False
    fields = {
        "metadata.name": metadata.get("name"),
        "metadata.namespace": metadata.get("namespace"),
    }
    fields["type"] = found.get("type")
    return all(
        _meets(term, fields) for term in filter(None, query.get("fieldSelector", "").split(","))
    )


def _meets(term: str, labels: Mapping[str, object]) -> bool:
    if "!=" in term:
        key, _, text = term.partition("!=")
        return labels.get(key) != text
    key, equals, text = term.partition("=")
    if equals:
        return labels.get(key) == text.lstrip("=")
    return key.lstrip("!") not in labels if key.startswith("!") else key in labels


def _check_version(resource: str, name: str, given: Object, live: Object) -> None:
    """Refuse a change that names another version or object than the one that is there."""
    metadata = as_mapping(live["metadata"])
    if given.get("resourceVersion") not in {None, "", metadata["resourceVersion"]}:
        raise conflict(resource, name)
    if given.get("uid") not in {None, "", metadata["uid"]}:
        why = f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: "
        raise conflict(resource, name, why + str(metadata["uid"]))


def _system(new: Object, live: Object) -> Object:
    """Return the metadata of *new*, with what only the server sets as it is in *live*."""
    before = as_mapping(live["metadata"])
    kept = {
        name: before[name]
        for name in (
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "resourceVersion",
            "generation",
        )
        if name in before
    }
    return as_mapping(new.get("metadata")) | kept


def _is_dry(options: Mapping[str, str]) -> bool:
    found = options.get("dryRun")
    if found not in {None, "", "All"}:
        said = f'Unsupported value: "{found}": supported values: "All"'
        cause = Cause("dryRun", "FieldValueNotSupported", said)
        raise invalid("PatchOptions.meta.k8s.io", "", [cause])
    return found == "All"


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
