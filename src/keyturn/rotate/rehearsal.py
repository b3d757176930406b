"""
A rehearsal: a rotation's steps at the target, on a credential that nobody uses.

Nothing is stored and nothing is delivered. It goes on after a failure as far as that
makes sense, so that every missing right is found at once, and always cleans up. Where
that is refused, what is left is named. All rehearsals of a secret have one token, by
which the next one, and the next rotation, find and end what an earlier one left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keyturn.core.ids import Token
from keyturn.core.model import SecretRef, Values
from keyturn.core.ports import Evidence, NamingKind, RotationKind
from keyturn.errors import KeyturnError, NotYet, OutcomeUnknown, RotationFailed, VerificationFailed

__all__ = ["Rehearsed", "rehearsal_token", "rehearse"]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """
    One step of a rehearsal.

    Args:
        text: What was seen, or what is missing.
        failure: Why it did not work; None where it did.
    """

    step: str
    text: str
    failure: KeyturnError | None = None


def rehearsal_token(ref: SecretRef) -> Token:
    """
    Return the token of every rehearsal of *ref*.

    It is the same each time, so that nothing has to be remembered to find what a
    rehearsal left that was killed. Nobody uses what it names, so that to end it harms at
    most another rehearsal that goes on at the same time.
    """
    digest = hashlib.sha256(f"{ref.environment}/{ref.name}".encode()).hexdigest()
    # Names at a vendor show the first letters of a token.
    return Token(f"rehearse{digest[:24]}")


def rehearse(kind: RotationKind, current: Values | None, *, token: Token) -> Iterator[Rehearsed]:
    """
    Go through the steps of *kind*, which is a `RotationKind.rehearsal`.

    Args:
        current: What is in use; it is not changed.
        token: Names what is made, so that nothing is left behind.

    Yields:
        A line for each step; the last ones are the clean-up and its proof, or what is
        left and how a person ends it.
    """
    pending: Values | None = None
    try:
        pending = kind.create(current, token=token)
    except KeyturnError as error:
        yield _failed("create", error)
        yield from _cleaned_up(kind, current, token, lost=isinstance(error, OutcomeUnknown))
        return
    yield Rehearsed("create", "a throw-away credential")
    made = pending
    usable = False
    for line in _tried("apply", lambda: kind.apply(current, made)):
        usable = line.failure is None
        yield line
    if usable:
        yield from _tried("check", lambda: kind.check(current, made))
    withdrawn = False
    for line in _tried("withdraw", lambda: kind.withdraw(current, made)):
        withdrawn = line.failure is None
        yield line
    if not withdrawn:
        yield from _left(kind, made)
    elif usable:
        yield from _tried("prove", lambda: kind.prove_dead(made, current=current))


def _cleaned_up(
    kind: RotationKind, current: Values | None, token: Token, *, lost: bool
) -> Iterator[Rehearsed]:
    for line in _tried("clean up", lambda: kind.clean_up(token, current=current)):
        yield line
        if lost and line.failure is not None:
            text = (
                "a throw-away credential may have been made and be left at the target, without"
                " anybody having its value; the next rehearsal or rotation looks for it"
            )
            yield Rehearsed("left", text, RotationFailed(text, code="rotation.left"))


def _left(kind: RotationKind, made: Values) -> Iterator[Rehearsed]:
    """Say what could not be withdrawn and how a person ends it, unless it is refused already."""
    try:
        kind.probe(made)
        state = "it works"
    except VerificationFailed:
        return
    except KeyturnError:
        state = "it may work"
    what, ending = "the throw-away credential", "end it at the target"
    if isinstance(kind, NamingKind):
        what, ending = kind.whereabouts(made)
    text = f"{what} is left at the target, and {state}"
    yield Rehearsed("left", text, RotationFailed(text, hint=ending, code="rotation.left"))


def _tried(step: str, act: Callable[[], Evidence | None]) -> Iterator[Rehearsed]:
    try:
        seen = act()
    except KeyturnError as error:
        yield _failed(step, error)
        return
    yield Rehearsed(step, "done" if seen is None else f"{seen.method}: {seen.detail}")


def _failed(step: str, error: KeyturnError) -> Rehearsed:
    if isinstance(error, NotYet) and step != "withdraw":
        return Rehearsed(step, f"a person is needed here: {error.message}")
    return Rehearsed(step, error.message, error)
