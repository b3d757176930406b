"""An account at Stripe's simulator, and a person at its dashboard."""

from __future__ import annotations

from keyturn.testing.simulators.stripe import StripeSimulator
from tests.worlds.base import Setup


def client(simulator, key):
    """Return the vendor's own client, which is the independent half of these tests."""
    import stripe

    # Else it sends, and keeps on disk, facts of this machine.
    stripe.enable_telemetry = False
    return stripe.StripeClient(
        key, base_addresses={"api": simulator.base_url}, max_network_retries=0
    )


class StripeKeyWorld:
    """One account with one secret key for live mode."""

    preview = False

    def __init__(self):
        self.simulator = StripeSimulator().start()
        self.account = self.simulator.make_account()
        first = self.simulator.make_key(self.account)
        target = {"base_url": self.simulator.base_url}
        self.setup = Setup(
            kind="stripe-key",
            fields=("value",),
            target=target | {"preview": True} if self.preview else target,
            first={"value": first.value},
            guided=not self.preview,
        )

    def use(self, values):
        import stripe

        try:
            client(self.simulator, values["value"]).v1.balance.retrieve()
        except stripe.AuthenticationError:
            return False
        except stripe.PermissionError:
            # A restricted key that may not read the balance; it is accepted all the same.
            return True
        return True

    def credentials(self):
        return {key.id for key in self.simulator.live_keys()}

    def supply(self):
        return {"value": self.simulator.make_key(self.account).value}

    def person_ends_old(self):
        for key in self.simulator.live_keys()[:-1]:
            self.simulator.delete_key(key.value)

    def person_ends_new(self):
        for key in self.simulator.live_keys()[1:]:
            self.simulator.delete_key(key.value)

    def close(self):
        self.simulator.stop()


def open_world():
    return StripeKeyWorld()
