"""JSON from outside: one way in, and one kind of error whatever is wrong with it."""

from __future__ import annotations

from typing import TypeVar

import msgspec

__all__ = ["parsed"]

_Kind = TypeVar("_Kind")


def parsed(raw: bytes, kind: type[_Kind]) -> _Kind:
    """
    Return the *kind* that the JSON *raw* holds.

    Raises:
        ValueError: It is no JSON, no *kind*, no UTF-8, or nested without end.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error
