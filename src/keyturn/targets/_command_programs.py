"""The programs of the kind `command`: what they are told, and what their ends mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from keyturn._internal import failpoints
from keyturn.core.clock import Clock
from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, NotYet, OutcomeUnknown, Rejected, Unavailable
from keyturn.targets._command_run import Ended, run

__all__ = ["BY_HAND", "Programs"]

BY_HAND = "see what each exit status means in the guide of the kind `command`; run it by hand"

# 1 and 2 mean nothing: they are what a program ends with that broke.
_DONE = 0
_REFUSED = 10
_UNAVAILABLE = 75
_PERSON = 77
_PERSON_AGAIN_SECONDS = 3600

# By role: current, pending, old.
Given: TypeAlias = Mapping[str, Values | None]


@dataclass(frozen=True, slots=True)
class Programs:
    """
    The programs of one secret, by step, and how they are run.

    Args:
        about: What every program is told.
        admin: Current values of the administering secret.
    """

    commands: Mapping[str, Sequence[str]]
    about: Mapping[str, object]
    admin: Values | None
    timeout_seconds: float
    folder: str | None
    clock: Clock

    def has(self, step: str) -> bool:
        """Return whether there is a program for *step*."""
        return step in self.commands

    def run(self, step: str, values: Given, *, token: Token | None = None) -> Ended:
        """
        Run the program of *step* with *values* (current, pending, old).

        Raises:
            Rejected: It could not be started.
        """
        given = {"current": None, "pending": None, "old": None, "admin": self.admin, **values}
        message = {**self.about, "step": step, "token": token, **_revealed(given)}
        hidden = [value for held in given.values() if held for value in held.values()]
        return self.tell(step, message, hidden)

    def tell(
        self, step: str, message: Mapping[str, object], hidden: Iterable[SecretValue]
    ) -> Ended:
        """Run the program of *step* with *message*; *hidden* is what its words must not show."""
        return run(
            self.commands[step],
            json.dumps(message).encode("ascii") + b"\n",
            hidden=hidden,
            timeout_seconds=self.timeout_seconds,
            folder=self.folder,
            clock=self.clock,
        )

    def change(self, step: str, values: Given, *, token: Token | None = None) -> Ended:
        """
        Run a program that changes something, and return how it ended well.

        Raises:
            Rejected, Unavailable, NotYet: It said so.
            OutcomeUnknown: It broke, or took too long.
        """
        failpoints.hit(f"command.{step}.call")
        ended = self.run(step, values, token=token)
        failpoints.hit(f"command.{step}.called")
        return self.ended_well(step, ended)

    def ended_well(self, step: str, ended: Ended) -> Ended:
        """Return *ended* where it ended well; raises as `change` where not."""
        if ended.status != _DONE:
            raise self._failure(step, ended) or self._broken(step, ended)
        return ended

    def answers(self, step: str, values: Given) -> bool:
        """
        Return whether the `pending` of *values* works, by a program that only looks.

        Raises:
            Unavailable: It gave no answer.
            NotYet: It said so.
        """
        ended = self.run(step, values)
        if ended.status in (_DONE, _REFUSED):
            return ended.status == _DONE
        failure = self._failure(step, ended)
        if failure is not None:
            raise failure
        text = self._broken(step, ended)
        raise Unavailable(text.message, hint=text.hint, code="target.unavailable")

    def _failure(self, step: str, ended: Ended) -> KeyturnError | None:
        said = f": {ended.words}" if ended.words else ""
        name = f"`{self.commands[step][0]}` (`{step}`)"
        if ended.status == _REFUSED:
            return Rejected(f"{name} refused{said}", hint=BY_HAND, code="target.rejected")
        if ended.status == _UNAVAILABLE:
            return Unavailable(f"{name} cannot do it now{said}", code="target.unavailable")
        if ended.status == _PERSON:
            ref = f"{self.about['secret']} -e {self.about['environment']}"
            return NotYet(
                ended.words or f"{name} waits for a person, and did not say for what",
                person=True,
                again_seconds=_PERSON_AGAIN_SECONDS,
                hint=f"then run: keyturn rotate --resume {ref}",
            )
        return None

    def _broken(self, step: str, ended: Ended) -> OutcomeUnknown:
        said = f": {ended.words}" if ended.words else ""
        if ended.status is None:
            how = f"did not end within {self.timeout_seconds:g} s, and was stopped"
        elif ended.status < 0:
            how = f"was ended by signal {-ended.status}"
        else:
            how = f"ended with status {ended.status}, which is no answer"
        return OutcomeUnknown(f"`{self.commands[step][0]}` (`{step}`) {how}{said}", hint=BY_HAND)


def _revealed(given: Mapping[str, Values | None]) -> dict[str, dict[str, str] | None]:
    try:
        return {
            name: None if values is None else {key: values[key].reveal_text() for key in values}
            for name, values in given.items()
        }
    except ValueError:
        raise Rejected(
            "a value that is not text cannot be given to a program", code="target.value"
        ) from None
