"""
The program that re-encrypts what an old key encrypted.

It is run without a shell and is given one line of JSON on its standard input:

    {"version": 1, "step": "rewrap", "secret": "...", "environment": "...",
     "project": "...", "token": "...", "new": {"id": "...", "key": "..."},
     "old": [{"id": "...", "key": "..."}]}

It re-encrypts with the new key some or all of what any of the old ones encrypted, and
prints what is left and what it did:

    {"remaining": 1200, "done": 500}

It is run again until nothing is left, also after a crash in the middle, so each row
must be changed in one step: decrypted with the key that its id names, encrypted with
the new one, and written with the new id only if nobody has changed it meanwhile. The
token is the same in every run of one rotation. The exit statuses are those of the
kind `command`: 0 done, 10 refused, 75 not now, 77 a person has to do something first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from keyturn._internal import failpoints
from keyturn.core.clock import Clock
from keyturn.crypto.ring import Entry
from keyturn.errors import OutcomeUnknown
from keyturn.targets._command_programs import Programs

__all__ = ["Progress", "Rewrap"]

_STEP = "rewrap"
# How long one run of a step goes on with batches, and how many it asks for.
_BUDGET_SECONDS = 30
_MOST_BATCHES = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """
    How far the re-encryption is.

    Args:
        remaining: How many rows an old key still encrypts.
        done: How many were re-encrypted.
    """

    remaining: int
    done: int


class Rewrap:
    """Runs the program, a batch at a time."""

    def __init__(self, programs: Programs, *, clock: Clock) -> None:
        self._programs = programs
        self._clock = clock

    @property
    def name(self) -> str:
        """The program."""
        return self._programs.commands[_STEP][0]

    def until_done(self, new: Entry, old: Sequence[Entry], *, token: str) -> Progress:
        """
        Run batches until nothing is left, one of them does nothing, or time is up.

        Raises:
            Rejected, Unavailable, NotYet: The program said so.
            OutcomeUnknown: It broke, or printed something else.
        """
        until = self._clock.monotonic() + _BUDGET_SECONDS
        done = 0
        for _ in range(_MOST_BATCHES):
            batch = self.once(new, old, token=token)
            done += batch.done
            if not batch.remaining or not batch.done or self._clock.monotonic() > until:
                break
        return Progress(batch.remaining, done)

    def once(self, new: Entry, old: Sequence[Entry], *, token: str) -> Progress:
        """Run one batch; raises as `until_done`."""
        message = {
            **self._programs.about,
            "step": _STEP,
            "token": token,
            "new": _shown(new),
            "old": [_shown(entry) for entry in old],
        }
        hidden = [entry.key for entry in (new, *old)]
        failpoints.hit("encryption.rewrap.call")
        ended = self._programs.tell(_STEP, message, hidden)
        failpoints.hit("encryption.rewrap.called")
        return self._printed(self._programs.ended_well(_STEP, ended).output)

    def _printed(self, output: bytes) -> Progress:
        try:
            found = json.loads(output)
        except ValueError:
            found = None
        numbers = [found.get("remaining"), found.get("done")] if isinstance(found, dict) else []
        counts = [number for number in numbers if type(number) is int and number >= 0]
        if len(counts) != 2:  # noqa: PLR2004 - both of them
            raise OutcomeUnknown(
                f"`{self.name}` did not say how many rows are left",
                hint='it prints {"remaining": 0, "done": 12} on standard output',
            )
        return Progress(*counts)


def _shown(entry: Entry) -> dict[str, str]:
    return {"id": entry.id, "key": entry.key.reveal_text()}
