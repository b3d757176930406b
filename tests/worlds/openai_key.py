"""A project at OpenAI's simulator, used by OpenAI's own client."""

from __future__ import annotations

from keyturn.testing.simulators.openai import OpenAISimulator
from tests.worlds.base import Setup


class OpenAIWorld:
    """One project, one service account, and a key that a person made in the console."""

    def __init__(self, simulator=None):
        self.simulator = simulator or OpenAISimulator().start()
        self.project = self.simulator.add_project()
        self.account = self.simulator.add_account(self.project)
        self.setup = Setup(
            kind="openai-key",
            fields=("value",),
            target={
                "base_url": self.simulator.base_url,
                "project": self.project,
                "service_account": self.account,
            },
            first={"value": self.simulator.make_by_hand(self.project)},
            admin={"value": self.simulator.admin_key},
        )

    def client(self, key):
        import openai

        return openai.OpenAI(api_key=key, base_url=self.simulator.base_url, max_retries=0)

    def use(self, values):
        import openai

        with self.client(values["value"]) as client:
            try:
                return len(list(client.models.list())) > 0
            except openai.AuthenticationError:
                return False

    def credentials(self):
        return set(self.simulator.live())

    def close(self):
        self.simulator.stop()


def open_world():
    return OpenAIWorld()
