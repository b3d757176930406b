"""Kubernetes passes the contract of stores, in both layouts."""

from __future__ import annotations

import pytest

from keyturn._internal.kubernetes_login import ClusterLogin
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.stores.kubernetes import KubernetesLayout, KubernetesSettings
from keyturn.stores.outside import OutsideStore
from keyturn.testing import StoreContract
from keyturn.testing.kubernetes import KubernetesSimulator

pytestmark = pytest.mark.store("kubernetes", real=False)


class _Kubernetes(StoreContract):
    settings: KubernetesSettings

    @pytest.fixture
    def simulator(self):
        with KubernetesSimulator() as running:
            yield running

    @pytest.fixture
    def reopen(self, simulator):
        opened = []
        token = simulator.admin()

        def open_another():
            login = ClusterLogin(simulator.base_url, "the test", token=SecretValue.from_text(token))
            layout = KubernetesLayout(
                self.settings,
                login,
                project="clipper",
                clock=SystemClock(),
                entropy=SystemEntropy(),
            )
            store = OutsideStore(layout, clock=SystemClock(), entropy=SystemEntropy())
            opened.append(store)
            return store

        yield open_another
        for store in opened:
            store.close()

    @pytest.fixture
    def store(self, reopen):
        return reopen()


class TestKubernetesOneSecret(_Kubernetes):
    """One Secret for each environment."""

    settings = KubernetesSettings(name="{project}-{environment}")


class TestKubernetesSecretEach(_Kubernetes):
    """One Secret for each secret."""

    settings = KubernetesSettings(name="{environment}-{secret}", per_secret=True)


del _Kubernetes, StoreContract
