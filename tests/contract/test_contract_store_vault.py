"""The store in Vault passes the one contract, in both layouts, on a real OpenBao server."""

from __future__ import annotations

import pytest

from keyturn.stores.vault import VaultShape
from keyturn.testing import StoreContract
from tests.worlds.vault_store import VaultStoreWorld

pytestmark = pytest.mark.store("vault")


@pytest.fixture(scope="module")
def running():
    made = VaultStoreWorld()
    yield made
    made.close()


class VaultContract(StoreContract):
    """Each test has a KV engine of its own; a handle is a store with its own connections."""

    shape: VaultShape

    @pytest.fixture
    def world(self, running):
        yield running.fresh_mount()
        running.close_stores()

    @pytest.fixture
    def store(self, world):
        return world.store(shape=self.shape)

    @pytest.fixture
    def reopen(self, world, store):
        return lambda: world.store(shape=self.shape)


class TestVaultEnvironments(VaultContract):
    """One path for an environment, one field for each field of a secret."""

    shape = VaultShape.ENVIRONMENT


class TestVaultSecrets(VaultContract):
    """One path for each secret."""

    shape = VaultShape.SECRET
