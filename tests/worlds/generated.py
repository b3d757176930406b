"""A service whose clients show it a value that no other system knows."""

from __future__ import annotations

import hashlib
import secrets

from tests.worlds.base import Setup


class GeneratedWorld:
    """One process, which accepts the value that it was given last."""

    def __init__(self):
        first = {"value": secrets.token_urlsafe(32)}
        self.setup = Setup(kind="generated", fields=("value",), target={}, first=first)
        self.held = first["value"]

    def take(self, values):
        """Give *values* to the process: its clients show them from now on."""
        self.held = values["value"]

    def use(self, values):
        return secrets.compare_digest(values["value"], self.held)

    def credentials(self):
        return {hashlib.sha256(self.held.encode()).hexdigest()[:12]}

    def close(self):
        self.held = ""


def open_world():
    return GeneratedWorld()
