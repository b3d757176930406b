"""What a store asks before it takes a history in: pure, and the same for every store."""

from __future__ import annotations

from dataclasses import replace

from keyturn.core.ids import Token
from keyturn.core.model import History, Move, SecretState, Values, Version
from keyturn.errors import Conflict, InternalError
from keyturn.stores._rules import check_idle, check_put, check_sizes

__all__ = ["additions", "carried_token", "check_move", "target_of"]


def carried_token(number: int) -> Token:
    """Return the token that version *number* has in the store that it was carried to."""
    return Token(f"carried {number}")


def check_move(move: Move, *, limit_bytes: int) -> None:
    """
    Refuse what no store takes in, before anything is changed.

    Raises:
        Conflict: A version is pending.
        Rejected: A value is too large, or a name not acceptable.
    """
    history = move.history
    check_idle(history.state)
    numbers = [version.number for version, _ in history.versions]
    staged = (history.state.current, history.state.previous)
    if numbers != list(range(1, history.state.next_number)) or any(
        number is not None and history.values(number) is None for number in staged
    ):
        raise InternalError(f"the history of `{history.ref}` was to be carried in part")
    for version, values in history.versions:
        if values is not None:
            check_put(history.ref, values, carried_token(version.number))
            check_sizes(history.ref, values, limit_bytes)


def target_of(move: Move, present: SecretState) -> SecretState:
    """
    Return the state that the store is to have.

    It may be on its way there already: whoever wrote it died, or heard no answer.

    Raises:
        Conflict: Its present state is neither what was expected nor on the way from there.
    """
    expected, wanted = move.expected, move.history.state
    check_idle(present)
    if (
        present.current not in {expected.current, wanted.current}
        or present.previous not in {expected.previous, expected.current, wanted.previous}
        or not expected.next_number <= present.next_number <= wanted.next_number
    ):
        raise Conflict(
            f"`{present.ref}` was changed meanwhile",
            hint="run the command again: it looks anew",
            code="store.moved",
        )
    return replace(wanted, ref=present.ref)


def additions(
    history: History, present: SecretState, *, differs: set[int]
) -> list[tuple[Version, Values | None]]:
    """
    Return the versions that the store has not yet.

    Args:
        differs: The numbers whose values here and there are not the same.

    Raises:
        Conflict: `store.diverged`: there are such.
    """
    if differs:
        raise Conflict(
            f"version {min(differs)} of `{history.ref}` has another value in each of the stores",
            hint="each store went its own way; `keyturn sync` adds the value as a new version",
            code="store.diverged",
        )
    return [pair for pair in history.versions if pair[0].number >= present.next_number]
