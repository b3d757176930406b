"""A workload's pods are restarted, once, and waited for."""

from __future__ import annotations

import pytest

from keyturn._internal import failpoints
from keyturn._internal.kubernetes import KubernetesApi
from keyturn._internal.kubernetes_login import ClusterLogin
from keyturn.core.entropy import SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.deliver.rollout import RolloutReload, Workload, restart_workload
from keyturn.errors import (
    AccessDenied,
    DeliveryError,
    OutcomeUnknown,
    Unavailable,
    VerificationFailed,
)
from keyturn.testing import FakeClock
from keyturn.testing.kubernetes import Fault, KubernetesSimulator, Rule
from keyturn.testing.simulators import Reply

WEB = RolloutReload(Workload.DEPLOYMENT, "web")
PATCH = "PATCH .*deployments/web$"


@pytest.fixture
def simulator():
    with KubernetesSimulator() as running:
        yield running


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def connect(simulator, clock):
    made = []

    def open_api(token=None):
        login = ClusterLogin(
            simulator.base_url,
            "the test's login",
            token=SecretValue.from_text(token or simulator.admin()),
        )
        made.append(KubernetesApi(login, clock=clock, entropy=SystemEntropy()))
        return made[-1]

    yield open_api
    failpoints.disarm()
    for api in made:
        api.close()


@pytest.fixture
def api(connect):
    return connect()


def found(api, name="web", resource="deployments"):
    """Return the workload as it is, without counting as one of ours."""
    return api.get(f"/apis/apps/v1/namespaces/default/{resource}/{name}", about="it")


def restarted(api):
    """Return when it was restarted last."""
    notes = found(api)["spec"]["template"]["metadata"].get("annotations", {})
    return notes.get("kubectl.kubernetes.io/restartedAt")


def change(api, patch, name="web", resource="deployments"):
    """Change the workload behind the helper's back."""
    api.request(
        "PATCH",
        f"/apis/apps/v1/namespaces/default/{resource}/{name}",
        patch,
        about="it",
        sort="application/merge-patch+json",
    )


def test_a_deployment_is_restarted_and_waited_for(api, simulator, clock):
    """One patch of the annotation, as `kubectl` does it, and looks until all pods are new."""
    simulator.deploy("web", looks=5)
    started = clock.monotonic()
    said = restart_workload(WEB, api, clock=clock)
    assert "restarted the deployment `web` in the namespace `default`" == said
    assert "2026-01-02T03:04:05Z" == restarted(api)
    assert 1 == simulator.asked(PATCH)
    assert clock.monotonic() > started
    assert 2 == found(api)["metadata"]["generation"]


@pytest.mark.parametrize("workload", list(Workload))
@pytest.mark.parametrize("looks", range(1, 8))
def test_no_workload_is_done_before_it_is(api, simulator, clock, workload, looks):
    """Not noticed, some pods old, old ones ending, new ones not ready: each is waited out."""
    simulator.deploy("db", resource=f"{workload}s", looks=looks)
    restart_workload(RolloutReload(workload, "db"), api, clock=clock)
    assert 1 == simulator.asked(f"PATCH .*{workload}s/db$")
    assert 1 + looks == simulator.asked(f"GET .*{workload}s/db$")


@pytest.mark.parametrize("workload", list(Workload))
def test_what_is_not_done_in_time_fails(api, simulator, clock, workload):
    """It tells what was missing; the rollout goes on without us."""
    simulator.deploy("db", resource=f"{workload}s", looks=None)
    reload = RolloutReload(workload, "db", timeout_seconds=30)
    with pytest.raises(VerificationFailed, match="within 30 s: 1 of 2 pods are ready") as caught:
        restart_workload(reload, api, clock=clock)
    assert "verification.rollout" == caught.value.code
    assert f"kubectl -n default describe {workload} db" in caught.value.hint


def test_pods_that_cannot_be_made_are_waited_for(api, simulator, clock):
    """The old ones have ended, and a quota lets no new one be made."""
    simulator.deploy("web")
    status = {
        "observedGeneration": 2,
        "replicas": 1,
        "updatedReplicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
    }
    short = found(api) | {"status": status}
    annotations = {"kubectl.kubernetes.io/restartedAt": "now"}
    short["spec"]["template"]["metadata"]["annotations"] = annotations
    simulator.answer_next("GET .*deployments/web$", Reply(200, short), times=1000)
    with pytest.raises(VerificationFailed, match="1 of 2 pods are new"):
        restart_workload(WEB, api, clock=clock, stamp="now")


def test_a_rollout_that_kubernetes_gives_up_fails_at_once(api, simulator, clock):
    """Nobody waits for the rest of the time."""
    simulator.deploy("web", looks=None)
    simulator.settle("web", done=True)
    restart = {"kubectl.kubernetes.io/restartedAt": "now"}
    change(api, {"spec": {"template": {"metadata": {"annotations": restart}}}})
    simulator.settle("web", done=False)
    with pytest.raises(VerificationFailed, match="at the progress deadline"):
        restart_workload(WEB, api, clock=clock, stamp="now")
    assert clock.monotonic() < 1_000.0 + 1


def test_an_earlier_failure_does_not_stop_a_restart(api, simulator, clock):
    """It is how the way back is gone."""
    simulator.deploy("web", looks=2)
    change(api, {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}})
    simulator.settle("web", done=False)
    restart_workload(WEB, api, clock=clock)
    assert restarted(api) is not None


def test_the_same_restart_is_not_made_twice(api, simulator, clock):
    """Called again after a crash it only waits."""
    simulator.deploy("web", looks=2)
    failpoints.arm("deliver.rollout.called:error")
    with pytest.raises(OSError, match="Input/output"):
        restart_workload(WEB, api, clock=clock, stamp="rotation-7")
    failpoints.disarm()
    restart_workload(WEB, api, clock=clock, stamp="rotation-7")
    assert 1 == simulator.asked(PATCH)
    restart_workload(WEB, api, clock=clock, stamp="rotation-8")
    assert 3 == found(api)["metadata"]["generation"]


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.BROKEN_AFTER, Fault.BROKEN_BEFORE])
def test_a_lost_answer_is_asked_for(api, simulator, clock, fault):
    """The annotation tells whether it was done; one generation, whatever happened."""
    simulator.deploy("web", looks=2)
    simulator.fail_next(PATCH, fault)
    restart_workload(WEB, api, clock=clock)
    assert 2 == found(api)["metadata"]["generation"]


def test_answers_that_stay_lost_leave_it_open(api, simulator, clock):
    """Nobody says that it was not done."""
    simulator.deploy("web", looks=2)
    simulator.refuse_next(PATCH, 504, times=1000)
    with pytest.raises(OutcomeUnknown):
        restart_workload(WEB, api, clock=clock)


def test_a_server_that_is_away_is_waited_out(api, simulator, clock):
    """While the rollout goes on, an answer that does not come is no failure."""
    simulator.deploy("web", looks=4)
    simulator.fail_next("GET .*deployments/web$", Fault.BROKEN_BEFORE, skip=2, times=40)
    started = clock.monotonic()
    restart_workload(WEB, api, clock=clock)
    assert clock.monotonic() - started > 15


def test_a_server_that_is_away_before_is_a_failure(api, simulator, clock):
    """Nothing was restarted."""
    simulator.deploy("web", looks=4)
    simulator.refuse_next("GET", 503, times=1000)
    with pytest.raises(Unavailable):
        restart_workload(WEB, api, clock=clock)
    assert 0 == simulator.asked(PATCH)


@pytest.mark.parametrize(
    ("resource", "patch", "words"),
    [
        ("deployment", {"paused": True}, "is paused"),
        ("statefulset", {"updateStrategy": {"type": "OnDelete"}}, "only when somebody deletes it"),
        ("statefulset", {"updateStrategy": {"rollingUpdate": {"partition": 1}}}, "a partition"),
        ("daemonset", {"updateStrategy": {"type": "OnDelete"}}, "only when somebody deletes it"),
    ],
)
def test_what_would_keep_old_pods_is_refused(api, simulator, clock, resource, patch, words):
    """Before anything is changed."""
    simulator.deploy("web", resource=f"{resource}s")
    change(api, {"spec": patch}, resource=f"{resource}s")
    asked = simulator.asked("PATCH")
    with pytest.raises(DeliveryError, match=words) as caught:
        restart_workload(RolloutReload(Workload(resource), "web"), api, clock=clock)
    assert "delivery.rollout" == caught.value.code
    assert asked == simulator.asked("PATCH")


def test_what_is_not_there_is_told(api, clock):
    """With the command that lists what is."""
    with pytest.raises(DeliveryError, match="`web` in the namespace `shop` is not there") as caught:
        restart_workload(
            RolloutReload(Workload.DEPLOYMENT, "web", namespace="shop"), api, clock=clock
        )
    assert "`kubectl -n shop get deployment`" in caught.value.hint


def test_a_workload_without_pods_is_done(api, simulator, clock):
    """There is nobody to wait for."""
    simulator.deploy("web", replicas=0, looks=2)
    assert restart_workload(WEB, api, clock=clock)


def test_a_missing_right_is_named(connect, simulator, clock):
    """Reading and patching, of this one deployment, is enough."""
    simulator.deploy("web", looks=2)
    rule = Rule(["get"], ["deployments"], names=["web"], group="apps")
    with pytest.raises(AccessDenied, match="may not change the deployment `web`"):
        restart_workload(WEB, connect(simulator.account("reader", rule)), clock=clock)
    rule = Rule(["get", "patch"], ["deployments"], names=["web"], group="apps")
    restart_workload(WEB, connect(simulator.account("restarter", rule)), clock=clock)
