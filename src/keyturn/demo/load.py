"""Steady load on a web service, with a count of every request that did not succeed."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.core.clock import Clock, SystemClock

__all__ = ["Load", "Tally"]

_ANSWER_SECONDS = 15
_MAX_SAMPLES = 100_000
_MAX_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Tally:
    """
    What the load has seen so far.

    Args:
        requests: Finished ones, failed ones included.
        reasons: Why requests failed, with how often.
        logins: Who the database said the service was, with how often.
        median_ms: Half of the latest requests were answered within this.
        p99_ms: 99 of 100 were.
        latest_login: The last of `logins` to be seen.
    """

    requests: int
    failed: int
    reasons: dict[str, int]
    logins: dict[str, int]
    latest_login: str
    median_ms: float
    p99_ms: float


class Load:
    """
    Threads that each ask for one page after the other over a connection kept open.

    Nothing is tried twice: a request that a retry would have saved counts as failed,
    because a client without retries would have seen it.

    Args:
        port: Of the service on loopback.
        pages: Asked for in turn by every thread.
        rate: Requests a second, of all threads together.
    """

    def __init__(
        self,
        port: int,
        *,
        pages: Sequence[str],
        threads: int = 4,
        rate: float = 100.0,
        clock: Clock | None = None,
    ) -> None:
        self._port = port
        self._pages = tuple(pages)
        self._interval = threads / rate
        self._clock = clock or SystemClock()
        self._ending = threading.Event()
        # Guards all that follows, up to the threads; held for arithmetic only.
        self._changed = threading.Condition()
        self._requests = 0
        self._reasons: Counter[str] = Counter()
        self._logins: Counter[str] = Counter()
        self._latest_login = ""
        self._seconds: deque[float] = deque(maxlen=_MAX_SAMPLES)
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"load-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Begin asking."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> Tally:
        """Let the last requests finish and return what was seen; a second call does nothing."""
        self._ending.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_ANSWER_SECONDS * 2)
        return self.tally()

    def wait_for(self, requests: int, *, timeout: float) -> bool:
        """Return once *requests* are finished, or False after *timeout* seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._requests >= requests, timeout)

    def tally(self) -> Tally:
        """Return what was seen so far."""
        with self._changed:
            samples = sorted(self._seconds)
            return Tally(
                requests=self._requests,
                failed=self._reasons.total(),
                reasons=dict(self._reasons.most_common()),
                logins=dict(sorted(self._logins.items())),
                latest_login=self._latest_login,
                median_ms=_percentile(samples, 0.50) * 1000,
                p99_ms=_percentile(samples, 0.99) * 1000,
            )

    def _work(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_SECONDS)
        turn = number
        # The threads start one after the other, so that requests are spread evenly.
        due = self._clock.monotonic() + self._interval * number / len(self._threads)
        while not self._ending.wait(max(0.0, due - self._clock.monotonic())):
            page = self._pages[turn % len(self._pages)]
            turn += 1
            started = self._clock.monotonic()
            reason, login = _ask(connection, page)
            finished = self._clock.monotonic()
            self._record(reason, login, finished - started)
            # What a slow answer cost is not made up for: load stays steady.
            due = max(due + self._interval, finished)
        connection.close()

    def _record(self, reason: str | None, login: str | None, seconds: float) -> None:
        with self._changed:
            self._requests += 1
            self._seconds.append(seconds)
            if reason is not None:
                self._reasons[reason] += 1
            if login is not None:
                self._logins[login] += 1
                self._latest_login = login
            self._changed.notify_all()


def _ask(connection: http.client.HTTPConnection, page: str) -> tuple[str | None, str | None]:
    """Return why the request failed, or None, and the login that the answer names, or None."""
    try:
        connection.request("GET", page)
        answer = connection.getresponse()
        document = json.loads(answer.read(_MAX_ANSWER_BYTES))
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        return f"{page}: {type(error).__name__}", None
    if not isinstance(document, dict):
        return f"{page}: not an answer of the service", None
    if answer.status != http.client.OK:
        return f"{page}: {answer.status} {document.get('reason', '')}".strip(), None
    login = document.get("login")
    return None, login if isinstance(login, str) else None


def _percentile(ordered: Sequence[float], share: float) -> float:
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
