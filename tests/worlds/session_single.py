"""A web application of two processes that know one value each: its cookies end with it."""

from __future__ import annotations

from tests.worlds.session_secret import SessionWorld


class SingleSessionWorld(SessionWorld):
    """No cookie is good at both processes while one of them has the new value."""

    def __init__(self):
        super().__init__(strategy="single")

    def take(self, values):
        """Give *values* to both processes."""
        with self.lock:
            for process in self.processes:
                process.read(values["value"])


def open_world():
    return SingleSessionWorld()
