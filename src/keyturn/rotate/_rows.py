"""A rotation as the journal's table holds it, and the way between the two."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from keyturn.core.clock import parse_time, rfc3339
from keyturn.core.ids import EnvironmentName, RotationId, SecretName
from keyturn.core.model import SecretRef
from keyturn.errors import Corrupt, KeyturnError
from keyturn.rotate.saga import Plan, Step

__all__ = [
    "AHEAD",
    "COLUMNS",
    "ERROR_LIMIT",
    "PERSON",
    "SAVE",
    "TIME",
    "Event",
    "Rotation",
    "State",
    "event_of",
    "inserted",
    "rotation_of",
    "saved",
    "with_failure",
]

ERROR_LIMIT = 500
# What the row says as error code of a rotation that waits at a step; see `NotYet`.
PERSON = "rotation.person"
TIME = "rotation.time"
# How far ahead a time may lie and still be believed: more than clocks differ by, less
# than matters to any age. Beyond it, the clock has been set back since it was written.
AHEAD = timedelta(days=1)
_PLAN_FORMAT = 1

COLUMNS = (
    "id, environment, secret, kind, strategy, state, step, old_version, new_version, plan, owner,"
    " fence, lease_until, wait_until, attempts, error_code, error, started_at, updated_at,"
    " finished_at, phase, fallback"
)
# `saved` gives the values in this order.
SAVE = """
UPDATE rotation SET state = ?, step = ?, step_state = ?, new_version = ?, owner = ?, fence = ?,
    lease_until = ?, wait_until = ?, attempts = ?, error_code = ?, error = ?, updated_at = ?,
    finished_at = ?, phase = ?, fallback = ?
WHERE id = ? AND fence = ? AND step = ? AND step_state = 'begun'
"""


class State(StrEnum):
    """
    Where a rotation stands. One that is live or stuck bars a second one.

    `given-up` is no end of the saga: a person ended it at its step, unfinished.
    """

    LIVE = "live"
    STUCK = "stuck"
    DONE = "done"
    ROLLED_BACK = "rolled-back"
    GIVEN_UP = "given-up"


@dataclass(frozen=True, slots=True)
class Rotation:
    """
    One row of the journal.

    Args:
        step: Begun and not known to be done, unless it is done or rolled back.
        new_version: None until `create` is done.
        owner: Who holds it; empty where nobody does.
        fence: Rises with each take-over; an older holder's writes are refused.
        wait_until: When it goes on by itself: the end of a grace, or the next try.
        attempts: Failed tries of *step* so far.
        error: The last failure's message, or what it waits for; never a value.
        phase: How many phases are behind it.
        fallback: The version that the way back of a later phase leads to.
    """

    id: RotationId
    ref: SecretRef
    plan: Plan
    state: State
    step: Step
    new_version: int | None
    owner: str
    fence: int
    lease_until: datetime
    wait_until: datetime | None
    attempts: int
    error_code: str | None
    error: str | None
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    phase: int = 0
    fallback: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it still has something to do."""
        return self.state in (State.LIVE, State.STUCK)

    @property
    def waits_for_person(self) -> bool:
        """Whether it goes on when somebody has done what *error* says."""
        return self.state is State.LIVE and self.error_code == PERSON


@dataclass(frozen=True, slots=True)
class Event:
    """One line of what a rotation did."""

    seq: int
    at: datetime
    fence: int
    step: Step
    event: str
    detail: str


def with_failure(rotation: Rotation, failure: KeyturnError | None) -> Rotation:
    """Return *rotation* with *failure* as its last error; None leaves the one it has."""
    if failure is None:
        return rotation
    return replace(rotation, error_code=failure.code, error=failure.message[:ERROR_LIMIT])


def inserted(rotation: Rotation) -> tuple[Any, ...]:
    """Return the values of COLUMNS for a new row."""
    plan = rotation.plan
    return (
        rotation.id,
        rotation.ref.environment,
        rotation.ref.name,
        plan.kind,
        plan.strategy,
        rotation.state.value,
        rotation.step.value,
        plan.old_version,
        rotation.new_version,
        _plan_text(plan),
        rotation.owner,
        rotation.fence,
        rfc3339(rotation.lease_until),
        _time_text(rotation.wait_until),
        rotation.attempts,
        rotation.error_code,
        rotation.error,
        rfc3339(rotation.started_at),
        rfc3339(rotation.updated_at),
        _time_text(rotation.finished_at),
        rotation.phase,
        rotation.fallback,
    )


def saved(rotation: Rotation) -> tuple[Any, ...]:
    """Return the values that SAVE sets."""
    return (
        rotation.state.value,
        rotation.step.value,
        "begun" if rotation.is_open else "done",
        rotation.new_version,
        rotation.owner,
        rotation.fence,
        rfc3339(rotation.lease_until),
        _time_text(rotation.wait_until),
        rotation.attempts,
        rotation.error_code,
        rotation.error,
        rfc3339(rotation.updated_at),
        _time_text(rotation.finished_at),
        rotation.phase,
        rotation.fallback,
    )


def rotation_of(row: tuple[Any, ...]) -> Rotation:
    """Return the rotation of a row of COLUMNS."""
    return Rotation(
        id=RotationId(row[0]),
        ref=SecretRef(EnvironmentName(row[1]), SecretName(row[2])),
        plan=_plan(row),
        state=State(row[5]),
        step=Step(row[6]),
        new_version=row[8],
        owner=row[10],
        fence=row[11],
        lease_until=parse_time(row[12]),
        wait_until=None if row[13] is None else parse_time(row[13]),
        attempts=row[14],
        error_code=row[15],
        error=row[16],
        started_at=parse_time(row[17]),
        updated_at=parse_time(row[18]),
        finished_at=None if row[19] is None else parse_time(row[19]),
        phase=row[20],
        fallback=row[21],
    )


def event_of(row: tuple[Any, ...]) -> Event:
    """Return the event of a row of `rotation_event`, without its rotation."""
    return Event(row[0], parse_time(row[1]), row[2], Step(row[3]), row[4], row[5])


# The plan column: {"format": 1, "overlaps": true, "grace_seconds": 3600, "reversible":
# true, "later_waits": []}; the rest of the plan has columns of its own.
def _plan_text(plan: Plan) -> str:
    return json.dumps(
        {
            "format": _PLAN_FORMAT,
            "overlaps": plan.overlaps,
            "grace_seconds": plan.grace_seconds,
            "reversible": plan.reversible,
            "later_waits": plan.later_waits,
        }
    )


def _plan(row: tuple[Any, ...]) -> Plan:
    body = json.loads(row[9])
    if body.get("format") != _PLAN_FORMAT:
        raise Corrupt(
            f"rotation `{row[0]}` was written in a form that this Keyturn does not know",
            hint="upgrade this Keyturn",
        )
    return Plan(
        kind=row[3],
        strategy=row[4],
        old_version=row[7],
        overlaps=body["overlaps"],
        grace_seconds=body["grace_seconds"],
        reversible=body["reversible"],
        later_waits=tuple(body["later_waits"]),
    )


def _time_text(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
