"""An application at Twitch's simulator, and a person at the developer console."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request

from keyturn.testing.simulators.twitch import TwitchSimulator
from tests.worlds.base import Setup


class TwitchWorld:
    """One application; a new secret ends the one before it at once."""

    def __init__(self):
        self.simulator = TwitchSimulator().start()
        made = self.simulator.make_application()
        self.client_id = made.client_id
        self.setup = Setup(
            kind="twitch-app",
            fields=("client_id", "client_secret"),
            target={"base_url": self.simulator.base_url},
            first={"client_id": made.client_id, "client_secret": made.client_secret},
            overlaps=False,
            guided=True,
        )

    def use(self, values):
        """Get a token as an application does, with nothing but the standard library."""
        form = {**values, "grant_type": "client_credentials"}
        request = urllib.request.Request(
            self.simulator.base_url + "/oauth2/token",
            data=urllib.parse.urlencode(form).encode(),
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bool(json.load(answer)["access_token"])
        except urllib.error.HTTPError as error:
            error.close()
            return False

    def tokens(self):
        """Return the app access tokens that are good now."""
        return self.simulator.applications[self.client_id].tokens

    def credentials(self):
        return {self.simulator.applications[self.client_id].client_secret}

    def supply(self):
        secret = self.simulator.new_secret(self.client_id)
        return {"client_id": self.client_id, "client_secret": secret}

    def person_ends_old(self):
        """Nothing is left to end: the new secret did."""

    def close(self):
        self.simulator.stop()


def open_world():
    return TwitchWorld()
