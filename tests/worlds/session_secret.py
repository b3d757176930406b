"""A web application of two processes that sign cookies, and accept what any of their values signed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading

from tests.worlds.base import Setup
from tests.worlds.issued import Issued


def cookie(value, payload):
    """Return a signed cookie, as frameworks make them."""
    return f"{payload}.{hmac.new(value.encode(), payload.encode(), hashlib.sha256).hexdigest()}"


class Process:
    """The first value signs; all of them are accepted."""

    def __init__(self, text):
        self.read(text)

    def read(self, text):
        self.values = text.split(",")

    def issue(self):
        return cookie(self.values[0], secrets.token_hex(8))

    def accepts(self, given):
        payload = given.partition(".")[0]
        return any(hmac.compare_digest(cookie(value, payload), given) for value in self.values)


class SessionWorld:
    """
    Cookies go from one process to the other.

    *session_seconds* is how long a session lives; cookies that were issued within it
    must be accepted whenever the world is used.
    """

    def __init__(self, *, strategy="list", session_seconds=0.0):
        first = secrets.token_urlsafe(32)
        self.setup = Setup(
            kind="session-secret",
            fields=("value",),
            target={"keep": 2} if strategy == "list" else {},
            first={"value": first},
            strategy=strategy,
            overlaps=strategy == "list",
        )
        self.processes = [Process(first), Process(first)]
        self.issued = Issued(self.processes, seconds=session_seconds)
        self.lock = threading.Lock()

    def take(self, values):
        """Give *values* to one process after the other; cookies of each are good at both."""
        with self.lock:
            for process in self.processes:
                process.read(values["value"])
                for one in self.processes:
                    self.issued.add(one.issue())
            self.issued.look_back()

    def use(self, values):
        """Sign a cookie with what is given first, and show it to both."""
        given = Process(values["value"]).issue()
        with self.lock:
            return all(process.accepts(given) for process in self.processes)

    def credentials(self):
        with self.lock:
            values = {value for process in self.processes for value in process.values}
        return {hashlib.sha256(value.encode()).hexdigest()[:12] for value in values}

    def supply(self):
        raise NotImplementedError

    def person_ends_old(self):
        raise NotImplementedError

    def close(self):
        self.issued.given.clear()


def open_world():
    return SessionWorld()
