"""Deployments, stateful and daemon sets, as far as a rollout goes: pure."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.testing._kubernetes_fields import Object, as_mapping

__all__ = ["KINDS", "Rollout", "new_workload"]

KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"}


@dataclass(slots=True)
class Rollout:
    """
    How far the controller has come with the present generation.

    Args:
        looks: After so many looks it is rolled out; None for when it is told to be.
    """

    looks: int | None
    seen: int = 0
    outcome: bool | None = None

    def look(self) -> None:
        """Somebody looked."""
        self.seen += 1
        if self.looks is not None and self.outcome is None and self.seen >= self.looks:
            self.outcome = True

    def status(self, workload: Object) -> Object:
        """Return the status to show now."""
        generation = as_mapping(workload.get("metadata")).get("generation")
        wanted = as_mapping(workload.get("spec")).get("replicas", 2)
        wanted = wanted if isinstance(wanted, int) else 2
        # Noticed at the second look, and until then all is as it was; then one pod after
        # the other is new, then the old ones end, and at last the new ones are ready.
        noticed = self.seen > 1 or self.outcome is not None
        shown = generation if noticed else _before(workload)
        done = self.outcome is True or not noticed
        updated = wanted if done else min(wanted, max(self.seen - 1, 0))
        old = not done and self.seen - 1 <= wanted
        ready = wanted if done or old else max(wanted - 1, 0)
        match workload.get("kind"):
            case "Deployment":
                return _deployment(self, shown, wanted, updated, ready, old=old)
            case "StatefulSet":
                return {
                    "observedGeneration": shown,
                    "replicas": wanted,
                    "readyReplicas": ready,
                    "availableReplicas": ready,
                    "updatedReplicas": updated,
                    "currentRevision": f"r{shown}" if not old else "r0",
                    "updateRevision": f"r{shown}",
                }
            case _:
                return {
                    "observedGeneration": shown,
                    "currentNumberScheduled": wanted,
                    "desiredNumberScheduled": wanted,
                    "numberMisscheduled": 0,
                    "numberReady": wanted if done else max(wanted - 1, 0),
                    "numberAvailable": wanted if done else max(wanted - 1, 0),
                    "updatedNumberScheduled": updated,
                }


def new_workload(resource: str, namespace: str, name: str, replicas: int) -> Object:
    """Return a workload of one container, before the server has added its part."""
    labels = {"app": name}
    container = {
        "name": name,
        "image": f"{name}:1",
        "envFrom": [{"secretRef": {"name": f"{name}-secrets"}}],
    }
    spec: Object = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    if resource != "daemonsets":
        spec["replicas"] = replicas
    if resource == "statefulsets":
        spec["serviceName"] = name
    if resource != "deployments":
        spec["updateStrategy"] = {"type": "RollingUpdate"}
    return {
        "apiVersion": "apps/v1",
        "kind": KINDS[resource],
        "metadata": {"name": name, "namespace": namespace, "generation": 1},
        "spec": spec,
    }


def _before(workload: Object) -> object:
    generation = as_mapping(workload.get("metadata")).get("generation")
    return generation - 1 if isinstance(generation, int) else generation


def _deployment(
    rollout: Rollout, shown: object, wanted: int, updated: int, ready: int, *, old: bool
) -> Object:
    progress, reason = "True", "ReplicaSetUpdated"
    if rollout.outcome is False:
        progress, reason = "False", "ProgressDeadlineExceeded"
    elif rollout.outcome or rollout.seen <= 1:
        reason = "NewReplicaSetAvailable"
    status: Object = {
        "observedGeneration": shown,
        # One more while the old and the new run beside each other.
        "replicas": wanted + 1 if old else wanted,
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "conditions": [
            {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
            {"type": "Progressing", "status": progress, "reason": reason},
        ],
    }
    if ready < wanted:
        status["unavailableReplicas"] = wanted - ready
    return status
