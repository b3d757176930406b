"""Somebody who gives out opaque passwords, and a door that knows which are good."""

from __future__ import annotations

import secrets

from tests.worlds.base import Setup


class GuidedWorld:
    """The door keeps its own list; nothing can be asked of it but to let in."""

    def __init__(self):
        self.accepted = []
        self.setup = Setup(
            kind="guided",
            fields=("value",),
            target={"instructions": ["ask the porter for a new password"]},
            first=self.supply(),
            guided=True,
        )

    def supply(self):
        self.accepted.append(secrets.token_urlsafe(24))
        return {"value": self.accepted[-1]}

    def use(self, values):
        return values["value"] in self.accepted

    def credentials(self):
        return set(self.accepted)

    def person_ends_old(self):
        del self.accepted[:-1]

    def person_keeps(self, values):
        self.accepted[:] = [values["value"]]

    def close(self):
        self.accepted.clear()


def open_world():
    return GuidedWorld()
