"""Use case: the status of every secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from keyturn.app.session import Session
from keyturn.audit import Action
from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef, VersionedValue
from keyturn.core.ports import Drift, WatchedStore
from keyturn.manifest import Secret
from keyturn.rotate import Rotation
from keyturn.rotate.schedule import Decision, Subject, Turn, judge

__all__ = ["StatusRow", "Verdict", "status"]


class Verdict(StrEnum):
    """How a secret stands against its schedule."""

    OK = "ok"
    DUE = "due"
    OVERDUE = "overdue"
    MISSING = "missing"
    ABSENT = "optional"
    ROTATING = "rotating"
    PENDING = "pending"
    DRIFTED = "drifted"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class StatusRow:
    """
    One line of `keyturn status`.

    Args:
        created_at: When the current version was made; its age counts from here.
        due_at: From when the schedule rotates it; None for never.
        overdue_at: When it reaches its max_age; None without one.
        last: The newest rotation, whatever became of it.
        consumers: Who uses it.
        drift: What others did to its value; None where nothing, or nobody else can.
    """

    secret: Secret
    version: int | None
    created_at: datetime | None
    due_at: datetime | None
    overdue_at: datetime | None
    verdict: Verdict
    last: Rotation | None
    open_rotation: Rotation | None
    consumers: Sequence[str]
    drift: Drift | None = None


def status(session: Session, environment: EnvironmentName) -> list[StatusRow]:
    """Return how every secret of *environment* stands; no value is read out."""
    session.access.read(Action.SECRET_STATUS, str(environment), environment=environment)
    declared = session.manifest.secrets_in(environment)
    current = session.store.read_many(environment, [secret.name for secret in declared])
    now = session.clock.now()
    rows = [
        _row(session, environment, secret, current.get(secret.name), now) for secret in declared
    ]
    watched = session.store.watched(environment)
    return rows if watched is None else _watched(watched, environment, rows)


def _watched(
    watched: WatchedStore, environment: EnvironmentName, rows: Sequence[StatusRow]
) -> list[StatusRow]:
    """Return *rows* with what others did, here or from another machine."""
    fields = {row.secret.name: tuple(row.secret.fields) for row in rows}
    drifts = watched.drifts(environment, fields)
    states = watched.states(environment)
    found = []
    for row in rows:
        state, drift = states.get(row.secret.name), drifts.get(row.secret.name)
        if drift is not None:
            found.append(replace(row, drift=drift, verdict=Verdict.DRIFTED))
        elif state is not None and state.pending is not None and row.open_rotation is None:
            found.append(replace(row, verdict=Verdict.PENDING))
        else:
            found.append(row)
    return found


def _row(
    session: Session,
    environment: EnvironmentName,
    secret: Secret,
    held: VersionedValue | None,
    now: datetime,
) -> StatusRow:
    ref = SecretRef(environment, secret.name)
    live = session.journal.live(ref)
    created = held.version.created_at if held else None
    number = held.version.number if held else None
    # Nobody is to rotate it here, so that what is left of the judgement is its age.
    subject = Subject(ref, secret.max_age, number, created, by_hand="by age alone")
    judged = judge(subject, now, session.manifest.schedule)
    return StatusRow(
        secret=secret,
        version=number,
        created_at=created,
        due_at=judged.at,
        overdue_at=created + secret.max_age if created and secret.max_age else None,
        verdict=_verdict(secret, held, live, judged),
        last=session.journal.last(ref),
        open_rotation=live,
        consumers=[c.name for c in session.manifest.consumers_of(environment, secret.name)],
    )


def _verdict(
    secret: Secret, held: VersionedValue | None, live: Rotation | None, judged: Decision
) -> Verdict:
    if live is not None:
        return Verdict.STUCK if live.state.value == "stuck" else Verdict.ROTATING
    if held is None or not set(secret.fields) <= set(held.values):
        return Verdict.MISSING if secret.required else Verdict.ABSENT
    if judged.turn is Turn.NOTHING:
        return Verdict.OK
    return Verdict.OVERDUE if judged.alarming else Verdict.DUE
