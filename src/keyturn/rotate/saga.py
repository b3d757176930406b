"""
What follows what in a rotation: pure transitions, no clock, no store, no target.

    forward     create → apply → check → promote → deliver → grace → retire → prove → done
    phases      ... deliver → grace → advance → deliver → grace → ... → retire → prove → done
    way back    demote → redeliver → withdraw → rolled back
                demote → restore → redeliver → rolled back (no overlap, or a later phase)

The rules:

1. Until `promote` nothing is in use, so a failure withdraws what was applied.
2. A failed `deliver` goes the whole way back: the old credential still works.
3. Once `retire` has begun there is no way back; the rotation is stuck until it
   is resumed. A way back that fails is stuck too.
4. A birth has no old version: no grace, no retirement, and from `promote` on
   nothing to go back to.
5. A step that got no answer is tried again, `MAX_ATTEMPTS` times in all.
6. "Perhaps promoted" goes back by `demote`, which asks; never by a guess.
7. A later phase that fails goes back to the phase before it, in which old and new
   are both accepted; nothing is withdrawn.
8. Where the old credential ended when the new one was made, there is no way back:
   from `check` on a failure is stuck, and the new credential is kept.
9. A person may turn it back where a failure would: at any step before `retire`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

__all__ = [
    "MAX_ATTEMPTS",
    "WAY_BACK",
    "End",
    "Outcome",
    "Plan",
    "Step",
    "first_step",
    "next_step",
    "resume_step",
    "steps_ahead",
    "turned_step",
]

MAX_ATTEMPTS = 3


class Step(StrEnum):
    """One step; each is idempotent and recorded before and after."""

    CREATE = "create"
    APPLY = "apply"
    CHECK = "check"
    PROMOTE = "promote"
    DELIVER = "deliver"
    GRACE = "grace"
    ADVANCE = "advance"
    RETIRE = "retire"
    PROVE = "prove"
    DEMOTE = "demote"
    RESTORE = "restore"
    REDELIVER = "redeliver"
    WITHDRAW = "withdraw"


WAY_BACK = frozenset({Step.DEMOTE, Step.RESTORE, Step.REDELIVER, Step.WITHDRAW})


class End(StrEnum):
    """How a run of the saga ends."""

    DONE = "done"
    ROLLED_BACK = "rolled-back"
    STUCK = "stuck"


class Outcome(StrEnum):
    """
    What became of a step.

    `refused` is a definite no. `unavailable` is no answer, and nothing happened.
    `unknown` is no answer, and it may have happened.
    """

    DONE = "done"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What one rotation is to do. The journal keeps it, so it holds no value.

    Args:
        kind: The secret's kind, such as `postgres-login`.
        strategy: The kind's way of doing it, or `default`.
        old_version: What is current; None for a secret that has no value yet.
        overlaps: Whether the old credential works until it is retired.
        grace_seconds: How long both stay valid after delivery, or the first phase lasts.
        reversible: Whether the old credential works again after the way back.
        later_waits: How many seconds each phase after the first lasts.
    """

    kind: str
    strategy: str
    old_version: int | None
    overlaps: bool
    grace_seconds: int = 0
    reversible: bool = True
    later_waits: tuple[int, ...] = ()

    @property
    def is_birth(self) -> bool:
        """Whether there is no old version to keep, retire or go back to."""
        return self.old_version is None

    @property
    def without_waits(self) -> Plan:
        """The same plan with every wait cut to nothing."""
        return replace(self, grace_seconds=0, later_waits=(0,) * len(self.later_waits))

    def wait_seconds(self, phase: int) -> int:
        """Return how long *phase* (0 is the first) lasts after its delivery."""
        if not self.overlaps or self.is_birth:
            return 0
        return self.grace_seconds if phase == 0 else self.later_waits[phase - 1]

    def is_last(self, phase: int) -> bool:
        """Tell whether no phase follows *phase*."""
        return phase >= len(self.later_waits)


# What follows a success, but for the exceptions in `_after_success`.
_ORDER: Mapping[Step, Step | End] = {
    Step.CREATE: Step.APPLY,
    Step.APPLY: Step.CHECK,
    Step.CHECK: Step.PROMOTE,
    Step.PROMOTE: Step.DELIVER,
    Step.ADVANCE: Step.DELIVER,
    Step.RETIRE: Step.PROVE,
    Step.PROVE: End.DONE,
    Step.DEMOTE: Step.REDELIVER,
    Step.RESTORE: Step.REDELIVER,
    Step.REDELIVER: Step.WITHDRAW,
    Step.WITHDRAW: End.ROLLED_BACK,
}


def first_step() -> Step:
    """Return where every rotation begins."""
    return Step.CREATE


def next_step(
    plan: Plan, step: Step, outcome: Outcome, *, attempts: int = 1, phase: int = 0
) -> Step | End:
    """
    Return what follows *step*; the same step again means: wait a little, then retry.

    Args:
        attempts: How often *step* has been tried, this time included.
        phase: The phase that *step* belongs to; `advance` belongs to the one it ends.
    """
    if outcome is Outcome.DONE:
        return _after_success(plan, step, phase)
    if outcome is not Outcome.REFUSED and attempts < MAX_ATTEMPTS:
        return step
    return _after_failure(plan, step, outcome)


def resume_step(step: Step) -> Step:
    """
    Return where a rotation that stopped at *step* goes on.

    A failed proof is no use repeated: what it was to prove is done again first.
    """
    return Step.RETIRE if step is Step.PROVE else step


def turned_step(plan: Plan, step: Step) -> Step | None:
    """Return where the way back begins from *step*; None where there is none any more."""
    if step in WAY_BACK:
        return step
    if step is Step.ADVANCE:
        # The phase that it would end is still the one in use.
        return Step.DEMOTE
    following = _after_failure(plan, step, Outcome.UNKNOWN)
    return following if isinstance(following, Step) else None


def steps_ahead(plan: Plan) -> list[Step]:
    """Return the steps of *plan* in order, where none fails."""
    found: list[Step] = []
    step: Step | End = first_step()
    phase = 0
    while isinstance(step, Step):
        found.append(step)
        following = _after_success(plan, step, phase)
        phase += step is Step.ADVANCE
        step = following
    return found


def _after_success(plan: Plan, step: Step, phase: int) -> Step | End:
    match step:
        case Step.DELIVER if plan.is_birth:
            return End.DONE
        case Step.DELIVER if plan.wait_seconds(phase) > 0:
            return Step.GRACE
        case Step.DELIVER | Step.GRACE:
            return Step.RETIRE if plan.is_last(phase) else Step.ADVANCE
        case Step.DEMOTE if not plan.overlaps or phase:
            # The old values do not work yet: consumers get them after the target has.
            return Step.RESTORE
        case Step.REDELIVER if not plan.overlaps or phase:
            return End.ROLLED_BACK
        case _:
            return _ORDER[step]


def _after_failure(plan: Plan, step: Step, outcome: Outcome) -> Step | End:
    match step:
        case Step.CHECK | Step.PROMOTE | Step.DELIVER | Step.GRACE if not plan.reversible:
            return End.STUCK
        case Step.CREATE | Step.APPLY | Step.CHECK:
            return Step.WITHDRAW
        case Step.PROMOTE if outcome is Outcome.REFUSED:
            # A definite no: nothing was promoted.
            return Step.WITHDRAW
        case Step.PROMOTE | Step.DELIVER | Step.GRACE:
            return End.STUCK if plan.is_birth else Step.DEMOTE
        case Step.ADVANCE | Step.RETIRE | Step.PROVE:
            return End.STUCK
        case Step.DEMOTE | Step.RESTORE | Step.REDELIVER | Step.WITHDRAW:
            return End.STUCK
        case _:
            assert_never(step)
