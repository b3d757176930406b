"""How a run of a rotation ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from keyturn.errors import KeyturnError, NotYet, OutcomeUnknown, RotationFailed
from keyturn.rotate._rows import PERSON, TIME, Rotation, State

__all__ = ["GIVEN_UP", "Report", "waiting_of"]

GIVEN_UP = "rotation.given-up"


@dataclass(frozen=True, slots=True)
class Report:
    """
    How a run of a rotation ended.

    Args:
        rotation: Its row: done, rolled back, stuck, given up, or live and waiting.
        notes: What its steps saw and did, a line each.
        failure: What made it go back or get stuck, or that it was given up.
        waiting: Why it waits at a step, where it does.
    """

    rotation: Rotation
    notes: tuple[str, ...] = ()
    failure: KeyturnError | None = None
    waiting: NotYet | None = None

    def _is_back(self) -> bool:
        plan = self.rotation.plan
        return plan.reversible or plan.is_birth

    @property
    def waits_until(self) -> datetime | None:
        """When a live rotation goes on by itself; None where it does not wait for a time."""
        return self.rotation.wait_until if self.rotation.state is State.LIVE else None

    def require_success(self) -> None:
        """
        Return where the new version is in use.

        Raises:
            RotationFailed: It was rolled back or given up, or is stuck, from what made
                it so.
            OutcomeUnknown: It was taken back, and whether the old one still works is
                not known: what a person did at the vendor may have ended it.
        """
        name, state = self.rotation.ref.name, self.rotation.state
        if state is State.GIVEN_UP:
            raise RotationFailed(
                f"the rotation of `{name}` was {self.rotation.error}",
                hint=self.failure.hint if self.failure else None,
                code=GIVEN_UP,
            ) from self.failure
        if state is State.ROLLED_BACK and not self._is_back():
            where = f"{name} -e {self.rotation.ref.environment}"
            raise OutcomeUnknown(
                f"the rotation of `{name}` was taken back, and the old version may no longer"
                f" work: a new one ends it where it is made: {self.rotation.error}",
                hint=f"`keyturn test {where}` tells whether it works; where it does not, or a new"
                f" one has been made already: `keyturn rotate {where}`, and give that",
                code="rotation.no-way-back",
            ) from self.failure
        if state is State.ROLLED_BACK:
            raise RotationFailed(
                f"the rotation of `{name}` was rolled back, the old version is in use:"
                f" {self.rotation.error}",
                hint=self.failure.hint if self.failure else None,
                code="rotation.rolled-back",
            ) from self.failure
        if state is State.STUCK:
            hint = f"then `keyturn rotate --resume {name} -e {self.rotation.ref.environment}`"
            if self.failure is not None and self.failure.hint:
                hint = f"{self.failure.hint}; {hint}"
            raise RotationFailed(
                f"the rotation of `{name}` is stuck at `{self.rotation.step}`:"
                f" {self.rotation.error}",
                hint=hint,
                code="rotation.stuck",
            ) from self.failure


def waiting_of(rotation: Rotation) -> NotYet | None:
    """Return why *rotation* waits at its step; None where it does not."""
    if rotation.error_code not in (PERSON, TIME):
        return None
    return NotYet(rotation.error or "", person=rotation.waits_for_person)
