"""
What a store does and refuses, apart from how it keeps things: pure.

Both stores of this room ask here, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import replace

from keyturn.core.ids import Token, is_field_name, is_name
from keyturn.core.model import SecretRef, SecretState, Stage, Values
from keyturn.errors import Conflict, Corrupt, NotFound, Rejected

__all__ = [
    "MAX_VALUE_BYTES",
    "check_destroy",
    "check_idle",
    "check_put",
    "check_sizes",
    "destroyed_error",
    "discarded",
    "no_version",
    "number_at",
    "promoted",
    "token_conflict",
    "unwritten",
]

MAX_VALUE_BYTES = 10 * 1024 * 1024
_MAX_FIELDS = 64
_MAX_TOKEN_CHARACTERS = 256


def unwritten(ref: SecretRef) -> SecretState:
    """Return the state of a secret that was never written."""
    return SecretState(ref, current=None, pending=None, previous=None, next_number=1)


def check_put(ref: SecretRef, values: Values, token: Token) -> None:
    """
    Refuse what no store of ours takes, before anything is changed.

    Raises:
        Rejected: The message names the field, never its value.
    """
    if not is_name(ref.environment) or not is_name(ref.name):
        raise Rejected("the secret or environment has a name that stores cannot take")
    if not 0 < len(token) <= _MAX_TOKEN_CHARACTERS:
        raise Rejected(f"`{ref}` was written with no token, or with one that is too long")
    if not values:
        raise Rejected(f"`{ref}` was written without a field", hint="give it at least one field")
    if len(values) > _MAX_FIELDS:
        raise Rejected(f"`{ref}` has more than {_MAX_FIELDS} fields")
    if not all(is_field_name(field) for field in values):
        raise Rejected(f"`{ref}` has a field whose name stores cannot take")
    check_sizes(ref, values, MAX_VALUE_BYTES)


def check_sizes(ref: SecretRef, values: Values, limit_bytes: int) -> None:
    """
    Refuse a value of more than *limit_bytes*.

    Raises:
        Rejected: The message names the field.
    """
    for field, value in values.items():
        if value.size_bytes > limit_bytes:
            raise Rejected(
                f"field `{field}` of `{ref}` is {value.size_bytes} bytes",
                hint=f"a value has at most {limit_bytes} bytes in this store",
                code="store.too_large",
            )


def check_idle(state: SecretState) -> None:
    """
    Refuse a second pending version.

    Raises:
        Conflict: One is pending.
    """
    if state.pending is not None:
        raise Conflict(
            f"version {state.pending} of `{state.ref}` is pending already",
            hint="finish or resume what began it: `keyturn rotate --resume`",
            code="store.pending",
        )


def token_conflict(ref: SecretRef, number: int) -> Conflict:
    """Return the error for a token that made version *number* from other values."""
    return Conflict(
        f"the token of version {number} of `{ref}` was used again with other values",
        hint="make a new token for a new write",
        code="store.token",
    )


def promoted(state: SecretState, number: int, *, expected_current: int | None) -> SecretState:
    """
    Return *state* with `current` at *number*; the same object when nothing changes.

    Raises:
        Conflict: `current` is not *expected_current*.
    """
    if state.current == number and expected_current in (state.previous, number):
        return state
    if state.current != expected_current:
        raise Conflict(
            f"`{state.ref}` is at {_named(state.current)}, not at {_named(expected_current)}",
            hint="read the secret's history and decide again",
            code="store.moved",
        )
    pending = None if state.pending == number else state.pending
    return replace(state, current=number, previous=state.current, pending=pending)


def discarded(state: SecretState, number: int) -> SecretState:
    """
    Return *state* without its pending version; the same object when there was none.

    Raises:
        Conflict: `pending` points at another version than *number*.
    """
    if state.pending is None:
        return state
    if state.pending != number:
        raise Conflict(
            f"version {state.pending} of `{state.ref}` is pending, not version {number}",
            hint="read the secret's history and decide again",
            code="store.moved",
        )
    return replace(state, pending=None)


def check_destroy(state: SecretState, number: int) -> None:
    """
    Refuse to destroy a version that is in use.

    Raises:
        Conflict: A stage points at it.
    """
    for stage in Stage:
        if state.at(stage) == number:
            raise Conflict(
                f"version {number} of `{state.ref}` is {stage}",
                hint="destroy it when no stage points at it",
                code="store.in_use",
            )


def number_at(state: SecretState, selector: Stage | int) -> int:
    """
    Return the version number that *selector* means.

    Raises:
        NotFound: The stage points at nothing.
    """
    if not isinstance(selector, Stage):
        return selector
    number = state.at(selector)
    if number is None:
        raise NotFound(
            f"`{state.ref}` has no {selector} version",
            hint=f"`keyturn set {state.ref.name}` or `keyturn generate --missing` makes one",
        )
    return number


def no_version(ref: SecretRef, number: int) -> NotFound:
    """Return the error for a version that never was."""
    return NotFound(
        f"`{ref}` has no version {number}", hint=f"`keyturn history {ref.name}` lists them"
    )


def destroyed_error(state: SecretState, number: int) -> NotFound | Corrupt:
    """Return the error for a version whose values are gone."""
    if number in (state.current, state.pending, state.previous):
        # `destroy` refuses these, so somebody else marked it.
        return Corrupt(
            f"version {number} of `{state.ref}` is in use and marked destroyed",
            hint="run `keyturn doctor`; restore from a backup",
        )
    return NotFound(
        f"version {number} of `{state.ref}` was destroyed",
        hint=f"`keyturn history {state.ref.name}` lists what is left",
    )


def _named(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"
