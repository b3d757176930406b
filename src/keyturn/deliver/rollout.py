"""
Restarting the pods of a Kubernetes workload, and waiting until the new ones have taken over.

It is what `kubectl rollout restart` and `kubectl rollout status` do: an annotation of
the pod template is changed, and the workload's controller replaces its pods one after
the other, by its own rules for how many may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from keyturn._internal import failpoints
from keyturn._internal.kubernetes import MERGE_PATCH, KubernetesApi, object_path
from keyturn.core.clock import Clock
from keyturn.errors import (
    DeliveryError,
    InternalError,
    OutcomeUnknown,
    Unavailable,
    VerificationFailed,
)

__all__ = ["RolloutReload", "Workload", "require_restartable", "restart_workload"]

_ANNOTATION: Final = "kubectl.kubernetes.io/restartedAt"
_FIELD_MANAGER: Final = "keyturn"
_DEFAULT_TIMEOUT_SECONDS = 300.0
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 4.0
_TRIES = 3


class Workload(StrEnum):
    """What has pods that can be restarted."""

    DEPLOYMENT = "deployment"
    STATEFULSET = "statefulset"
    DAEMONSET = "daemonset"


@dataclass(frozen=True, slots=True)
class RolloutReload:
    """
    Restart the pods of a workload.

    Args:
        namespace: The login's own where None.
        timeout_seconds: For all of it; a rollout goes on after that without us.
    """

    workload: Workload
    name: str
    namespace: str | None = None
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS


def restart_workload(
    reload: RolloutReload, api: KubernetesApi, *, clock: Clock, stamp: str | None = None
) -> str:
    """
    Restart the pods, wait until all are new and ready, and return in words what was done.

    Args:
        stamp: What the annotation becomes; the time where None. Called again with the
            same one, after a crash, it restarts nothing twice and waits for the rest.

    Raises:
        DeliveryError: It is not there, or would not restart all of its pods.
        VerificationFailed: The new pods were not ready in time; the old ones may still run.
        Unavailable: No answer.
        AccessDenied: We may not.
        OutcomeUnknown: It may have been restarted.

    Crash safety:
        The restart is one request; the wait changes nothing.
    """
    until = clock.monotonic() + reload.timeout_seconds
    one = _One(reload, api)
    generation = one.restart(stamp or clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
    pause, seen = _FIRST_PAUSE_SECONDS, "nothing"
    while True:
        try:
            found = one.look()
            _require_progress(found, generation, one)
            seen = _missing(reload.workload, found, generation)
        except Unavailable:
            seen = "no answer"
        if not seen:
            return f"restarted {one.about}"
        if clock.monotonic() + pause > until:
            raise one.late(f"was not done within {reload.timeout_seconds:g} s: {seen}")
        clock.sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)


def require_restartable(reload: RolloutReload, api: KubernetesApi) -> None:
    """
    Refuse a workload that `restart_workload` could not restart; nothing is changed.

    Raises:
        DeliveryError: It is not there, would keep pods as they are, or we may not change it.
        Unavailable: No answer.
        AccessDenied: We may not look at it.
    """
    one = _One(reload, api)
    _require_whole(one.look(), reload.workload, one)
    one.require_right()


class _One:
    def __init__(self, reload: RolloutReload, api: KubernetesApi) -> None:
        namespace = reload.namespace or api.namespace or "default"
        self._reload = reload
        self._api = api
        self._namespace = namespace
        self._path = object_path(f"{reload.workload}s", namespace, reload.name, group="apps")
        self.about = f"the {reload.workload} `{reload.name}` in the namespace `{namespace}`"

    def look(self) -> Mapping[str, object]:
        found = self._api.get(self._path, about=self.about)
        if found is None:
            raise _refused(
                f"{self.about} is not there",
                f"`kubectl -n {self._namespace} get {self._reload.workload}` lists what there is",
            )
        return found

    def require_right(self) -> None:
        kind, name = f"{self._reload.workload}s", self._reload.name
        if not self._api.may("patch", kind, namespace=self._namespace, name=name, group="apps"):
            raise _refused(
                f"keyturn's login may not restart {self.about}",
                f"bind it to a Role of the namespace `{self._namespace}` that has get and patch"
                f" of {kind} in the group apps",
            )

    def restart(self, stamp: str) -> int:
        """Change the annotation to *stamp* where it is not; return the generation with it."""
        lost: OutcomeUnknown | None = None
        for _ in range(_TRIES):
            found = self.look()
            template = _table(_table(found.get("spec")).get("template"))
            notes = _table(_table(template.get("metadata")).get("annotations"))
            if notes.get(_ANNOTATION) == stamp:
                return _number(_table(found.get("metadata")).get("generation"))
            _require_whole(found, self._reload.workload, self)
            failpoints.hit("deliver.rollout.call")
            try:
                changed = self._patch(stamp)
            except OutcomeUnknown as error:
                # The annotation tells whether it was done.
                lost = error
                continue
            failpoints.hit("deliver.rollout.called")
            return _number(_table(changed.get("metadata")).get("generation"))
        raise lost or InternalError("a restart was given up without a reason")

    def _patch(self, stamp: str) -> Mapping[str, object]:
        template = {"metadata": {"annotations": {_ANNOTATION: stamp}}}
        return self._api.request(
            "PATCH",
            self._path,
            {"spec": {"template": template}},
            about=self.about,
            sort=MERGE_PATCH,
            query={"fieldManager": _FIELD_MANAGER},
        ).body

    def late(self, what: str) -> VerificationFailed:
        return VerificationFailed(
            f"the restart of {self.about} {what}",
            hint=f"`kubectl -n {self._namespace} describe {self._reload.workload}"
            f" {self._reload.name}` tells what its pods wait for",
            code="verification.rollout",
        )


def _require_whole(found: Mapping[str, object], workload: Workload, one: _One) -> None:
    """Refuse a workload that would keep pods as they are."""
    spec = _table(found.get("spec"))
    strategy = _table(spec.get("updateStrategy"))
    if spec.get("paused") is True:
        raise _refused(f"{one.about} is paused", f"`kubectl rollout resume {workload}` goes on")
    if strategy.get("type") == "OnDelete":
        raise _refused(
            f"{one.about} replaces a pod only when somebody deletes it",
            "set its updateStrategy to RollingUpdate, or delete its pods by hand",
        )
    if _number(_table(strategy.get("rollingUpdate")).get("partition")):
        raise _refused(
            f"{one.about} has a partition: some of its pods would not be replaced",
            "set the partition to 0",
        )


def _require_progress(found: Mapping[str, object], generation: int, one: _One) -> None:
    """Fail where the controller has given up on *generation*, or a later one."""
    status = _table(found.get("status"))
    if _number(status.get("observedGeneration")) < generation:
        return
    conditions = status.get("conditions")
    for condition in conditions if isinstance(conditions, list) else []:
        if _table(condition).get("reason") == "ProgressDeadlineExceeded":
            raise one.late("was given up by Kubernetes at the progress deadline")


def _missing(workload: Workload, found: Mapping[str, object], generation: int) -> str:
    """Return in words what is not done yet; empty where all pods are new and ready."""
    status, spec = _table(found.get("status")), _table(found.get("spec"))
    if _number(status.get("observedGeneration")) < generation:
        return "its controller has not begun"
    match workload:
        case Workload.DEPLOYMENT:
            return _missing_of_deployment(status, _number(spec.get("replicas"), 1))
        case Workload.STATEFULSET:
            return _missing_of_statefulset(status, _number(spec.get("replicas"), 1))
        case Workload.DAEMONSET:
            return _missing_of_daemonset(status)


def _missing_of_deployment(status: Mapping[str, object], wanted: int) -> str:
    updated = _number(status.get("updatedReplicas"))
    old = _number(status.get("replicas")) - updated
    ready = _number(status.get("availableReplicas"))
    if updated < wanted:
        return f"{updated} of {wanted} pods are new"
    if old > 0:
        return f"{old} old pods have not ended"
    return "" if ready >= updated else f"{ready} of {updated} pods are ready"


def _missing_of_statefulset(status: Mapping[str, object], wanted: int) -> str:
    ready = _number(status.get("readyReplicas"))
    if ready < wanted:
        return f"{ready} of {wanted} pods are ready"
    if status.get("updateRevision") != status.get("currentRevision") and wanted:
        return f"{_number(status.get('updatedReplicas'))} of {wanted} pods are new"
    return ""


def _missing_of_daemonset(status: Mapping[str, object]) -> str:
    wanted = _number(status.get("desiredNumberScheduled"))
    updated = _number(status.get("updatedNumberScheduled"))
    ready = _number(status.get("numberAvailable"))
    if updated < wanted:
        return f"{updated} of {wanted} pods are new"
    return "" if ready >= wanted else f"{ready} of {wanted} pods are ready"


def _table(found: object) -> Mapping[str, object]:
    return found if isinstance(found, dict) else {}


def _number(found: object, otherwise: int = 0) -> int:
    return found if isinstance(found, int) and not isinstance(found, bool) else otherwise


def _refused(message: str, hint: str) -> DeliveryError:
    return DeliveryError(message, hint=hint, code="delivery.rollout")
