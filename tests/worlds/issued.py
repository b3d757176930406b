"""What an application gave out, and that everybody must accept as long as it lives."""

from __future__ import annotations

import time

MOST = 200


class Issued:
    """Tokens or cookies, each checked by every one of *judges* when it is issued and later."""

    def __init__(self, judges, *, seconds):
        self.judges = judges
        self.seconds = seconds
        self.given = []
        self.accepted_later = 0

    def add(self, given):
        if not all(judge.accepts(given) for judge in self.judges):
            raise AssertionError("what was signed just now is refused")
        self.given.append((time.monotonic(), given))

    def look_back(self):
        """Show everything that lives once more."""
        since = time.monotonic() - self.seconds
        self.given = [(when, given) for when, given in self.given if when > since][-MOST:]
        for _, given in self.given:
            if not all(judge.accepts(given) for judge in self.judges):
                raise AssertionError("what lives is refused")
            self.accepted_later += 1
