"""Waiting until a consumer is healthy, and seen on the versions it ought to run on."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from keyturn.core.clock import Clock
from keyturn.deliver import _http
from keyturn.errors import Unavailable, VerificationFailed

__all__ = ["Fetch", "Health", "look_at", "wait_healthy"]

_LIMIT_BYTES = 64 * 1024
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.5
_LONGEST_EXCHANGE_SECONDS = 5.0
_MAX_DEPTH = 16

# (address, timeout in seconds) -> the answer.
Fetch = Callable[[str, float], _http.Answer]


@dataclass(frozen=True, slots=True)
class Health:
    """
    What one look at a consumer saw.

    Args:
        status: The HTTP status, or None where no answer came.
        versions: Of the secrets asked for, those that the answer names.
    """

    status: int | None
    versions: Mapping[str, int]

    def __str__(self) -> str:
        if self.status is None:
            return "no answer"
        seen = " ".join(f"{name}={self.versions[name]}" for name in sorted(self.versions))
        return f"status {self.status}" + (f", versions {seen}" if seen else "")


def _fetch(url: str, timeout_seconds: float) -> _http.Answer:
    return _http.exchange("GET", url, timeout_seconds=timeout_seconds, limit_bytes=_LIMIT_BYTES)


def look_at(
    url: str, versions_key: str | None, names: Collection[str], *, timeout_seconds: float
) -> Health:
    """
    Ask at *url* once, and return what was seen; no answer is an answer too.

    Args:
        versions_key: As of `wait_healthy`.
        names: The secrets whose versions are wanted.

    Raises:
        DeliveryError: The address is not one that we talk to.
    """
    return _look(url, versions_key, names, timeout_seconds, _fetch)


def wait_healthy(
    url: str,
    versions_key: str | None,
    expected: Mapping[str, int],
    *,
    timeout_seconds: float,
    clock: Clock,
    fetch: Fetch = _fetch,
) -> Health:
    """
    Ask at *url* until the answer is 2xx and names the *expected* versions.

    Args:
        versions_key: Where in the JSON answer the versions stand, dotted; None asks
            for the status alone.
        expected: Version number by secret.

    Returns:
        What was seen.

    Raises:
        VerificationFailed: It did not become so in time; tells what was seen last.
        DeliveryError: The address is not one that we talk to.
    """
    deadline = clock.monotonic() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        left = max(deadline - clock.monotonic(), _FIRST_PAUSE_SECONDS)
        seen = _look(url, versions_key, expected, min(left, _LONGEST_EXCHANGE_SECONDS), fetch)
        if _is_healthy(seen, versions_key, expected):
            return seen
        if clock.monotonic() + pause > deadline:
            raise _gave_up(seen, versions_key, expected, timeout_seconds)
        clock.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _look(
    url: str,
    versions_key: str | None,
    expected: Collection[str],
    timeout_seconds: float,
    fetch: Fetch,
) -> Health:
    try:
        answer = fetch(url, timeout_seconds)
    except Unavailable:
        # Not up yet is what we are waiting out.
        return Health(None, {})
    versions = {} if versions_key is None else _versions(answer.body, versions_key)
    # Only what was asked for: the rest of the answer is the consumer's own affair.
    return Health(answer.status, {name: versions[name] for name in expected if name in versions})


def _is_healthy(seen: Health, versions_key: str | None, expected: Mapping[str, int]) -> bool:
    if seen.status is None or not 200 <= seen.status < 300:  # noqa: PLR2004 - HTTP's own
        return False
    return versions_key is None or dict(seen.versions) == dict(expected)


def _versions(body: bytes, key: str) -> dict[str, int]:
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    for part in key.split(".")[:_MAX_DEPTH]:
        if not isinstance(found, dict):
            return {}
        found = found.get(part)
    if not isinstance(found, dict):
        return {}
    # JSON's `true` is an int to Python, and no version.
    return {name: number for name, number in found.items() if type(number) is int}


def _gave_up(
    seen: Health,
    versions_key: str | None,
    expected: Mapping[str, int],
    timeout_seconds: float,
) -> VerificationFailed:
    wanted = "a healthy answer"
    if versions_key is not None and expected:
        wanted += " with " + " ".join(f"{name}={expected[name]}" for name in sorted(expected))
    return VerificationFailed(
        f"the consumer was not healthy within {timeout_seconds:g} s:"
        f" expected {wanted}, last saw {seen}",
        hint="look at the consumer's own log",
        code="verification.health",
    )
