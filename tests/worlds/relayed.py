"""Worlds of real servers, which Keyturn reaches through a relay that can lose answers."""

from __future__ import annotations

from dataclasses import replace

from tests.worlds.aws_access_key import AwsAccessKeyWorld
from tests.worlds.relay import AwsRelay, Relay
from tests.worlds.vault_approle import VaultAppRoleWorld


class RelayedWorld:
    """Another world; *simulator* is the relay, and *key* names the target's address."""

    def __init__(self, world, simulator, key):
        self.world = world
        self.simulator = simulator.start()
        self.setup = replace(
            world.setup, target={**world.setup.target, key: self.simulator.base_url}
        )
        self.use = world.use
        self.credentials = world.credentials

    def close(self):
        self.simulator.stop()
        self.world.close()


def vault_approle():
    """OpenBao and its AppRole."""
    world = VaultAppRoleWorld()
    return RelayedWorld(world, Relay(world.server.address, error={"errors": ["lost"]}), "address")


def aws_access_key():
    """moto's IAM."""
    world = AwsAccessKeyWorld()
    return RelayedWorld(world, AwsRelay(world.server.address), "endpoint_url")
