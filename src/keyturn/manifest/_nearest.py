"""The nearest of several names to one that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

__all__ = ["nearest_name"]

# Beyond these a search costs more than it tells.
_MAX_CANDIDATES = 1_000
_MAX_LENGTH = 64
_CUTOFF = 0.6
_MIN_START = 3


def nearest_name(text: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that *text* was probably meant to be: `production` for `prod`."""
    # difflib is slow to import and needed for a mistake only.
    import difflib

    pool = list(islice(candidates, _MAX_CANDIDATES))
    asked = text[:_MAX_LENGTH]
    near = difflib.get_close_matches(asked, pool, n=1, cutoff=_CUTOFF)
    if near:
        return near[0]
    started = [name for name in pool if len(asked) >= _MIN_START and name.startswith(asked)]
    return started[0] if len(started) == 1 else None
