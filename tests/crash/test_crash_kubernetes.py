"""Kubernetes: killed at every point of a change, and whoever comes next puts it right."""

from __future__ import annotations

import pytest

from keyturn._internal.kubernetes import KubernetesApi
from keyturn._internal.kubernetes_login import ClusterLogin
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.deliver.rollout import RolloutReload, Workload, restart_workload
from keyturn.stores.kubernetes import KubernetesLayout, KubernetesSettings
from keyturn.stores.outside import OutsideStore
from keyturn.testing.kubernetes import KubernetesSimulator
from tests.crash.test_crash_store import in_child

pytestmark = [
    pytest.mark.crash,
    # The child uses no thread of its parent's.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

MAX_POINTS = 60
DB = SecretRef(EnvironmentName("production"), SecretName("db"))
FIELD = FieldName("password")


@pytest.fixture
def simulator():
    with KubernetesSimulator() as running:
        yield running


@pytest.fixture
def login(simulator):
    return ClusterLogin(
        simulator.base_url, "the test", token=SecretValue.from_text(simulator.admin())
    )


def opened(login, point=0):
    """Return the store; each point has a Secret of its own."""
    layout = KubernetesLayout(
        KubernetesSettings(name=f"clipper-{point}"),
        login,
        project="clipper",
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )
    return OutsideStore(layout, clock=SystemClock(), entropy=SystemEntropy())


def put(store, data, token):
    values = {FIELD: SecretValue(data)}
    return store.put_pending(DB, values, origin=Origin.SET, token=Token(token)).number


def test_a_promote_killed_anywhere_is_settled(simulator, login):
    """Applications see the old value or the new one, and the ledger follows."""
    for point in range(1, MAX_POINTS):
        store = opened(login, point)
        store.promote(DB, put(store, b"one", "a"), expected_current=None)
        number = put(store, b"two", "b")
        ended = in_child(
            lambda at=point, n=number: opened(login, at).promote(DB, n, expected_current=1),
            f"*:{point}",
        )
        live = simulator.stored(f"clipper-{point}")["db-password"]
        assert (store.state(DB).current, live) in {(1, b"one"), (2, b"two")}
        assert 2 == store.promote(DB, number, expected_current=1).current
        assert {"db-password": b"two"} == simulator.stored(f"clipper-{point}")
        assert SecretValue(b"one") == store.read(DB, Stage.PREVIOUS).values[FIELD]
        assert {} == dict(store.drifts(DB.environment))
        store.close()
        if ended == 0:
            break
    # Around the promotion, the live write, the ledger, and the write of it.
    assert 8 < point < MAX_POINTS - 1


def test_a_put_killed_anywhere_is_settled(simulator, login):
    """The version is there or not, once, and nothing is kept that is not listed."""
    for point in range(1, MAX_POINTS):
        ended = in_child(lambda at=point: put(opened(login, at), b"one", "a"), f"*:{point}")
        store = opened(login, point)
        assert 1 == put(store, b"one", "a")
        assert 2 == len(simulator.stored(f"clipper-{point}-keyturn"))
        assert simulator.stored(f"clipper-{point}") is None
        store.close()
        if ended == 0:
            break
    assert 4 < point < MAX_POINTS - 1


@pytest.mark.parametrize("point", ["call", "called"])
def test_a_restart_killed_anywhere_is_made_once(simulator, login, point):
    """Whoever goes on with the same stamp waits for it, or makes it."""
    simulator.deploy("web", looks=2)

    def restart():
        api = KubernetesApi(login, clock=SystemClock(), entropy=SystemEntropy())
        reload = RolloutReload(Workload.DEPLOYMENT, "web")
        try:
            restart_workload(reload, api, clock=SystemClock(), stamp="rotation-7")
            return api.get("/apis/apps/v1/namespaces/default/deployments/web", about="it")
        finally:
            api.close()

    assert 0 != in_child(restart, f"deliver.rollout.{point}")
    assert 2 == restart()["metadata"]["generation"]
    assert 1 == simulator.asked("PATCH")
