"""
Bringing services of a swarm to new secrets: what `docker service update --secret-rm
OLD --secret-add source=NEW,target=NAME` does, for all secrets of a service at once.

A service is given back to Swarm as it was read, with other secrets under the same
names, owners and modes. Swarm then replaces its tasks in the order that the service's
own `update_config` says, and rolls back where that says so.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from keyturn._internal.docker_engine import Engine, EngineAddress
from keyturn._internal.http import segment
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.errors import Conflict, DeliveryError, OutcomeUnknown

__all__ = ["ServiceUpdater", "SwarmUpdate"]

_TIMEOUT_SECONDS = 180.0
_PAUSE_SECONDS = 0.25
_UPDATE_TRIES = 5
_WORDS_LIMIT = 200
_ABSENT = 404
# As the store writes them on every secret that it makes.
_STEM_LABEL = "keyturn.stem"
_KEY_LABEL = "keyturn.key"
_ROLLING_BACK = "rollback_started"
_STUCK = frozenset({"paused", "rollback_paused"})
# With the wanted secrets in its description: a rollback may have led back to them.
_AT_REST = frozenset({"", "completed", "rollback_completed"})
_HOW = {
    "paused": "was paused",
    "rollback_paused": "was rolled back, and the rollback was paused",
    "rollback_completed": "was rolled back",
}


@dataclass(frozen=True, slots=True)
class SwarmUpdate:
    """
    Bring services to the current secrets.

    Args:
        services: By name, in the order in which they are updated.
        secrets: The swarm's secret that is current, by the name a container has it by.
        spared: Names that a service may do without.
    """

    services: tuple[str, ...]
    secrets: Mapping[str, str]
    spared: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """
    What services ought to refer to.

    Args:
        by_key: (id, name) of the current secret, by key.
        family: The key of every secret that is or was of this environment, by id.
        spared: Keys that a service may do without.
    """

    by_key: Mapping[str, tuple[str, str]]
    family: Mapping[str, str]
    spared: frozenset[str]

    def key(self, reference: Mapping[str, Any]) -> str | None:
        """Return the key that *reference* of a service stands for, or None."""
        known = self.family.get(str(reference.get("SecretID")))
        if known is not None:
            return known if known in self.by_key else None
        # One that somebody made by hand, in the place of ours.
        target = PurePosixPath(str((reference.get("File") or {}).get("Name", ""))).name
        return target if target in self.by_key else None


class ServiceUpdater:
    """
    Updates services through a manager of their swarm.

    Args:
        timeout_seconds: How long one service may take to replace its tasks.
    """

    def __init__(
        self,
        address: EngineAddress,
        *,
        clock: Clock,
        entropy: Entropy,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        self._engine = Engine(address, clock=clock, entropy=entropy)
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    def update(self, update: SwarmUpdate) -> str:
        """
        Update each service once, wait until its tasks have the new secrets, and say what was done.

        A service that has them already is only waited for, so this may be called again
        after a crash at any point.

        Raises:
            DeliveryError: A service is missing, lacks a secret, was rolled back, or did
                not come up; services before it are updated.
            Unavailable: The manager did not answer.
            OutcomeUnknown: No answer to an update. Call again.
        """
        wanted = self._required(update)
        changed = [name for name in update.services if self._swap(name, wanted)]
        if not changed:
            return "every service had its secrets already"
        return "updated " + ", ".join(f"`{name}`" for name in changed)

    def require(self, update: SwarmUpdate) -> None:
        """
        Refuse services that `update` could not bring to new secrets; nothing is changed.

        Raises:
            DeliveryError: A service or a secret is missing, or a service lacks one.
            Unavailable: The manager did not answer.
        """
        self._required(update)

    def differences(self, update: SwarmUpdate) -> list[str]:
        """
        Return in words how services differ from having the current secrets.

        Raises:
            DeliveryError: A service or a secret is missing.
            Unavailable: The manager did not answer.
        """
        wanted = self._wanted(update)
        said = []
        for name in update.services:
            references = _references(self._service(name)["Spec"])
            found = {wanted.key(reference): reference for reference in references}
            for key, (secret_id, secret_name) in sorted(wanted.by_key.items()):
                reference = found.get(key)
                if reference is None and key in wanted.spared:
                    continue
                if reference is None:
                    said.append(f"service `{name}` has no `{key}`")
                elif reference["SecretID"] != secret_id:
                    other = str(reference.get("SecretName", ""))[:_WORDS_LIMIT]
                    ours = reference["SecretID"] in wanted.family
                    whose = "" if ours else ", which keyturn did not make"
                    said.append(
                        f"service `{name}` has `{key}` from `{other}`{whose},"
                        f" not from `{secret_name}`"
                    )
        return said

    def _required(self, update: SwarmUpdate) -> _Wanted:
        wanted = self._wanted(update)
        for name in update.services:
            _require_all(self._service(name), name, wanted)
        return wanted

    def _wanted(self, update: SwarmUpdate) -> _Wanted:
        by_key: dict[str, tuple[str, str]] = {}
        stems: set[str] = set()
        for key, name in update.secrets.items():
            answer = self._engine.get(f"/secrets/{segment(name)}")
            if answer.status == _ABSENT:
                raise _failed(
                    f"the swarm has no secret `{name}`", "see whether the store has it as current"
                )
            found = answer.require(f"the secret `{name}`")
            by_key[key] = (found["ID"], found["Spec"]["Name"])
            stems.add((found["Spec"].get("Labels") or {}).get(_STEM_LABEL, ""))
        family = {secret_id: key for key, (secret_id, _) in by_key.items()}
        for stem in stems - {""}:
            family |= self._family(stem)
        return _Wanted(by_key, family, update.spared)

    def _family(self, stem: str) -> dict[str, str]:
        listed = self._engine.get("/secrets", label=[f"{_STEM_LABEL}={stem}"])
        keys = {
            item["ID"]: (item["Spec"].get("Labels") or {}).get(_KEY_LABEL)
            for item in listed.require("the list of secrets")
        }
        return {secret_id: key for secret_id, key in keys.items() if key}

    def _service(self, name: str) -> Any:
        answer = self._engine.get(f"/services/{segment(name)}")
        if answer.status == _ABSENT:
            raise _failed(
                f"the swarm has no service `{name}`",
                "create it, or correct the consumer's services in the manifest",
            )
        return answer.require(f"the service `{name}`")

    def _swap(self, name: str, wanted: _Wanted) -> bool:
        """Update the service where it needs it, wait for its tasks, and tell whether it did."""
        changed = False
        for _ in range(_UPDATE_TRIES):
            service = self._service(name)
            _require_all(service, name, wanted)
            spec = _swapped(service["Spec"], wanted)
            if spec == service["Spec"]:
                self._await(name, wanted)
                return changed
            try:
                answer = self._engine.change(
                    "POST",
                    f"/services/{segment(service['ID'])}/update",
                    spec,
                    query={"version": service["Version"]["Index"], "registryAuthFrom": "spec"},
                    point="deliver.swarm",
                )
            except OutcomeUnknown:
                # It is read again; a late request names a version that is gone by then.
                changed = True
                continue
            if answer.stale:
                continue
            changed = True
            if not answer.good:
                raise _failed(
                    f"docker refused to update the service `{name}`: {answer.words}",
                    "look at the service with `docker service inspect`",
                )
        raise Conflict(
            f"the service `{name}` is changed by somebody else all the time",
            hint="run the command again when the other deployment is over",
        )

    def _await(self, name: str, wanted: _Wanted) -> None:
        until = self._clock.monotonic() + self._timeout_seconds
        while True:
            service = self._service(name)
            status = service.get("UpdateStatus") or {}
            state = str(status.get("State", ""))
            changed = _swapped(service["Spec"], wanted) != service["Spec"]
            if state in _STUCK or (changed and state != _ROLLING_BACK):
                raise self._rolled_back(service, name, status)
            tasks = self._tasks(service)
            if state in _AT_REST and not changed and _converged(service, tasks, wanted):
                return
            if self._clock.monotonic() > until:
                seconds = f"{self._timeout_seconds:g}"
                why = _last_words(tasks) or f"its update is `{state or 'not begun'}`"
                raise _failed(
                    f"the service `{name}` did not come up within {seconds} s: {why}",
                    f"see `docker service ps --no-trunc {name}`",
                )
            self._clock.sleep(_PAUSE_SECONDS)

    def _rolled_back(self, service: Any, name: str, status: Mapping[str, Any]) -> DeliveryError:
        state = str(status.get("State", ""))
        words = " ".join(str(status.get("Message", "")).split())[:_WORDS_LIMIT]
        why = ": ".join(
            part for part in (words, _last_words(self._tasks(service, ended=True))) if part
        )
        how = _HOW.get(state, "was followed by another update")
        return _failed(
            f"the update of the service `{name}` {how}: {why}",
            f"see `docker service ps --no-trunc {name}`; `docker service update --force {name}`"
            " goes on with a paused one",
        )

    def _tasks(self, service: Any, *, ended: bool = False) -> list[Any]:
        filters = {"service": [service["ID"]]}
        if not ended:
            filters["desired-state"] = ["running", "ready", "accepted"]
        found: list[Any] = self._engine.get("/tasks", **filters).require("the list of tasks")
        return found


def _references(spec: Mapping[str, Any]) -> list[Any]:
    container = (spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}
    return list(container.get("Secrets") or [])


def _swapped(spec: Mapping[str, Any], wanted: _Wanted) -> Mapping[str, Any]:
    """Return *spec* with the current secrets; name, owner and mode of each file stay."""
    made = copy.deepcopy(dict(spec))
    for reference in _references(made):
        key = wanted.key(reference)
        if key is not None:
            reference["SecretID"], reference["SecretName"] = wanted.by_key[key]
    return made


def _require_all(service: Any, name: str, wanted: _Wanted) -> None:
    has = {wanted.key(reference) for reference in _references(service["Spec"])}
    for key, (_, secret_name) in sorted(wanted.by_key.items()):
        if key not in has and key not in wanted.spared:
            raise _failed(
                f"the service `{name}` has no secret under the name `{key}`",
                f"docker service update --secret-add source={secret_name},target={key} {name}",
            )


def _converged(service: Any, tasks: Sequence[Any], wanted: _Wanted) -> bool:
    mode = service["Spec"].get("Mode") or {}
    if "ReplicatedJob" in mode or "GlobalJob" in mode:
        # A job's next run has them; nothing waits for it.
        return True
    current = {secret_id for secret_id, _ in wanted.by_key.values()}
    for task in tasks:
        references = _references({"TaskTemplate": task["Spec"]})
        ours = {ref["SecretID"] for ref in references if wanted.key(ref) is not None}
        if task["Status"]["State"] != "running" or not ours <= current:
            return False
    replicas = (mode.get("Replicated") or {}).get("Replicas")
    return len(tasks) >= 1 if replicas is None else len(tasks) == replicas


def _last_words(tasks: Sequence[Any]) -> str:
    """Return what the task that failed last said of itself."""
    failed = [task["Status"] for task in tasks if task["Status"].get("Err")]
    if not failed:
        return ""
    last = max(failed, key=lambda status: str(status.get("Timestamp", "")))
    return " ".join(str(last["Err"]).split())[:_WORDS_LIMIT]


def _failed(message: str, hint: str) -> DeliveryError:
    return DeliveryError(message, hint=hint, code="delivery.swarm")
