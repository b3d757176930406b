"""
A rehearsal: a rotation's steps at the target, on a credential that nobody uses.

Nothing is stored and nothing is delivered. It goes on after a failure as far as that
makes sense, so that every missing right is found at once, and always cleans up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, RotationKind
from keyturn.errors import KeyturnError, NotYet

__all__ = ["Rehearsed", "rehearse"]


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


def rehearse(kind: RotationKind, current: Values | None, *, token: Token) -> Iterator[Rehearsed]:
    """
    Go through the steps of *kind*, which is a `RotationKind.rehearsal`.

    Args:
        current: What is in use; it is not changed.
        token: Names what is made, so that nothing is left behind.

    Yields:
        A line for each step; the last ones are the clean-up and its proof.
    """
    pending: Values | None = None
    try:
        pending = kind.create(current, token=token)
    except KeyturnError as error:
        yield _failed("create", error)
        yield from _tried("clean up", lambda: kind.clean_up(token, current=current))
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
    if usable and withdrawn:
        yield from _tried("prove", lambda: kind.prove_dead(made, current=current))


def _tried(step: str, act: Callable[[], Evidence | None]) -> Iterator[Rehearsed]:
    try:
        seen = act()
    except KeyturnError as error:
        yield _failed(step, error)
        return
    yield Rehearsed(step, "done" if seen is None else f"{seen.method}: {seen.detail}")


def _failed(step: str, error: KeyturnError) -> Rehearsed:
    if isinstance(error, NotYet):
        return Rehearsed(step, f"a person is needed here: {error.message}")
    return Rehearsed(step, error.message, error)
