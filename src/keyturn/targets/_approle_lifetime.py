"""Whether a role's secret-ids live long enough to be rotated; pure."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["lifetime", "role_problem", "ttl_problem", "uses_problem"]

_DAY_SECONDS = 86_400
_HOUR_SECONDS = 3_600
_MINUTE_SECONDS = 60


def ttl_problem(ttl_seconds: int, grace_seconds: int) -> str | None:
    """
    Return why a secret-id of *ttl_seconds* cannot take over; None where it can.

    While the grace lasts, the old one may be gone back to: the new one must outlive it.
    A time to live of 0 is for ever.
    """
    if ttl_seconds == 0 or ttl_seconds > grace_seconds:
        return None
    return (
        f"a new secret-id expires after {lifetime(ttl_seconds)}, before the grace of"
        f" {lifetime(grace_seconds)} ends"
    )


def uses_problem(uses: int) -> str | None:
    """Return why a secret-id for *uses* logins cannot be rotated; 0 is any number."""
    if uses == 1:
        return "a secret-id of it can be used once, and checking the new one is a use"
    return None


def role_problem(role: Mapping[str, object], grace_seconds: int) -> str | None:
    """Return why the role's secret-ids cannot be rotated; None where they can."""
    if role.get("bind_secret_id") is False:
        return "it logs in without a secret-id (bind_secret_id is false)"
    ttl, uses = role.get("secret_id_ttl"), role.get("secret_id_num_uses")
    return ttl_problem(ttl if isinstance(ttl, int) else 0, grace_seconds) or uses_problem(
        uses if isinstance(uses, int) else 0
    )


def lifetime(seconds: int) -> str:
    """Return *seconds* as people say them."""
    for unit, size in (("d", _DAY_SECONDS), ("h", _HOUR_SECONDS), ("min", _MINUTE_SECONDS)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
