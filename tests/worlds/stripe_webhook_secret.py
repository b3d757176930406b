"""An account at Stripe's simulator that sends events to an application's webhook."""

from __future__ import annotations

import time

from keyturn.testing.simulators.stripe import StripeSimulator
from tests.worlds.base import Setup
from tests.worlds.stripe_key import client

URL = "https://clipper.example/webhooks/stripe"
EVENTS = ["invoice.paid", "customer.subscription.deleted"]
PAYLOAD = b'{"id":"evt_1","object":"event","type":"invoice.paid","data":{"object":{}}}'


class StripeWebhookWorld:
    """One endpoint, made in the dashboard; the application accepts one secret or two."""

    def __init__(self, *, fields=("value", "alt")):
        self.simulator = StripeSimulator().start()
        self.account = self.simulator.make_account()
        self.key = self.simulator.make_key(self.account).value
        self.client = client(self.simulator, self.key)
        made = self.client.v1.webhook_endpoints.create(
            {
                "url": URL,
                "enabled_events": EVENTS,
                "api_version": "2026-10-28.endive",
                "description": "of the application",
                "metadata": {"team": "payments"},
            }
        )
        self.first_id = made.id
        self.setup = Setup(
            kind="stripe-webhook-secret",
            fields=fields,
            target={"base_url": self.simulator.base_url, "url": URL},
            first={"value": made.secret} | ({"alt": ""} if "alt" in fields else {}),
            admin={"value": self.key},
        )

    def copies(self):
        """Return what Stripe sends of one event: (endpoint, signature) of each that is on."""
        at = int(time.time())
        return [
            (endpoint.id, self.simulator.sign(endpoint, PAYLOAD, at=at))
            for endpoint in list(self.simulator.endpoints.values())
            if endpoint.enabled
        ]

    def accepted(self, values, header):
        """Tell whether an application with *values* accepts a call with *header*."""
        import stripe

        for secret in filter(None, (values.get("value"), values.get("alt"))):
            try:
                stripe.Webhook.construct_event(PAYLOAD, header, secret, api_key="unused")
            except stripe.SignatureVerificationError:
                continue
            return True
        return False

    def use(self, values):
        # An event has arrived when one of its copies was accepted.
        return any(self.accepted(values, header) for _, header in self.copies())

    def credentials(self):
        return set(self.simulator.endpoints)

    def accepted_now(self):
        """Return the endpoints that send events: a disabled one could be enabled again."""
        return {name for name, _ in self.copies()}

    def close(self):
        self.simulator.stop()


def open_world():
    return StripeWebhookWorld()
