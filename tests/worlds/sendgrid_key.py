"""An account at SendGrid's simulator, used by SendGrid's own client."""

from __future__ import annotations

from keyturn.testing.simulators.sendgrid import MAY_MANAGE, SendGridSimulator
from tests.worlds.base import Setup


class SendGridWorld:
    """A key that sends mail, and one that administers, both made in the console."""

    def __init__(self):
        self.simulator = SendGridSimulator().start()
        self.setup = Setup(
            kind="sendgrid-key",
            fields=("value",),
            target={"base_url": self.simulator.base_url},
            first={"value": self.simulator.make_by_hand("mail.send", "stats.read")},
            admin={
                "value": self.simulator.make_by_hand(
                    *MAY_MANAGE, "mail.send", "stats.read", name="admin"
                )
            },
        )

    def client(self, key):
        import sendgrid

        return sendgrid.SendGridAPIClient(key, host=self.simulator.base_url).client

    def use(self, values):
        from python_http_client.exceptions import UnauthorizedError

        try:
            return self.client(values["value"]).scopes.get().status_code == 200
        except UnauthorizedError as error:
            error_close(error)
            return False

    def credentials(self):
        return set(self.simulator.live())

    def close(self):
        self.simulator.stop()


def error_close(error):
    """Close what the client leaves open with an error."""
    cause = error.__cause__ or error.__context__
    if cause is not None and hasattr(cause, "close"):
        cause.close()


def open_world():
    return SendGridWorld()
