"""
The rotation journal: what is being rotated, by whom, how far, and what it did.

A step costs one commit: "this step is done" and "that step has begun" are one
write. Each write names the fence and the step it believes in, so a process that
lost its rotation to another loses cleanly.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from keyturn._internal.database import Database
from keyturn.core.clock import Clock, rfc3339
from keyturn.core.ids import RotationId
from keyturn.core.model import SecretRef
from keyturn.errors import Conflict, KeyturnError, NotFound, NotYet
from keyturn.rotate import _owner
from keyturn.rotate._rows import (
    COLUMNS,
    ERROR_LIMIT,
    PERSON,
    SAVE,
    TIME,
    Event,
    Rotation,
    State,
    event_of,
    inserted,
    rotation_of,
    saved,
    with_failure,
)
from keyturn.rotate.saga import WAY_BACK, End, Plan, Step, first_step

__all__ = ["LEASE_SECONDS", "Event", "Journal", "Rotation", "State"]

LEASE_SECONDS = 60


_SELECT = f"SELECT {COLUMNS} FROM rotation"  # noqa: S608 - made of constants
_INSERT = (
    f"INSERT INTO rotation ({COLUMNS}, step_state)"  # noqa: S608 - made of constants
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'begun')"
)
_NOTE = """
INSERT INTO rotation_event (rotation, seq, at, fence, step, event, detail)
SELECT ?1, 1 + COALESCE(MAX(seq), 0), ?2, ?3, ?4, ?5, ?6 FROM rotation_event WHERE rotation = ?1
"""


class Journal:
    """Reads and writes the tables `rotation` and `rotation_event`."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(self, ref: SecretRef, plan: Plan, *, rotation_id: RotationId, owner: str) -> Rotation:
        """
        Open a rotation of *ref* at its first step.

        Raises:
            Conflict: One is open already.

        Crash safety:
            Durable on return, or with the outer transaction.
        """
        now = self._clock.now()
        rotation = Rotation(
            id=rotation_id,
            ref=ref,
            plan=plan,
            state=State.LIVE,
            step=first_step(),
            new_version=None,
            owner=owner,
            fence=1,
            lease_until=now + timedelta(seconds=LEASE_SECONDS),
            wait_until=None,
            attempts=0,
            error_code=None,
            error=None,
            started_at=now,
            updated_at=now,
            finished_at=None,
        )
        with self._database.transaction():
            self._refuse_second(ref)
            self._database.execute(_INSERT, inserted(rotation))
            self._note(rotation, "begun")
        return rotation

    def advance(
        self,
        rotation: Rotation,
        to: Step,
        *,
        detail: str = "",
        new_version: int | None = None,
        wait_until: datetime | None = None,
        failure: KeyturnError | None = None,
    ) -> Rotation:
        """
        End the step that *rotation* is at and begin *to*, in one write.

        Args:
            failure: Why the step failed; None where it did not.

        Raises:
            Conflict: Another process took the rotation over.
        """
        after = replace(
            with_failure(self._renewed(rotation), failure),
            step=to,
            attempts=0,
            new_version=rotation.new_version if new_version is None else new_version,
            wait_until=wait_until,
        )
        if rotation.step is Step.ADVANCE and failure is None:
            # The version that was in use until now is what a failure goes back to.
            after = replace(after, phase=rotation.phase + 1, fallback=rotation.new_version)
        if to not in WAY_BACK:
            # A retry went well. On the way back the failure that began it is kept.
            after = replace(after, error_code=None, error=None)
        with self._database.transaction():
            self._save(rotation, after)
            self._note(rotation, "done" if failure is None else "failed", failure or detail)
            self._note(after, "begun")
        return after

    def finish(
        self,
        rotation: Rotation,
        end: End,
        *,
        detail: str = "",
        failure: KeyturnError | None = None,
    ) -> Rotation:
        """
        End the step and the run; a stuck rotation keeps its step, to be resumed.

        Raises:
            Conflict: Another process took the rotation over.
        """
        after = self._ended(with_failure(rotation, failure), State(end.value))
        if end is End.DONE:
            after = replace(after, error_code=None, error=None)
        with self._database.transaction():
            self._save(rotation, after)
            self._note(rotation, "done" if failure is None else "failed", failure or detail)
            self._note(after, end.value)
        return after

    def give_up(self, rotation: Rotation, failure: KeyturnError) -> Rotation:
        """
        End *rotation* at its step, unfinished; nobody takes it up again.

        Args:
            failure: What the row says of it from now on.

        Raises:
            Conflict: Another process took the rotation over.
        """
        after = self._ended(with_failure(rotation, failure), State.GIVEN_UP)
        with self._database.transaction():
            self._save(rotation, after)
            self._note(after, State.GIVEN_UP.value, failure)
        return after

    def retry(self, rotation: Rotation, failure: KeyturnError) -> Rotation:
        """Count a failed try of the step that *rotation* is at."""
        after = replace(
            with_failure(self._renewed(rotation), failure), attempts=rotation.attempts + 1
        )
        with self._database.transaction():
            self._save(rotation, after)
            self._note(rotation, "retried", failure)
        return after

    def renew(self, rotation: Rotation) -> Rotation:
        """
        Hold *rotation* for another lease.

        Raises:
            Conflict: Another process took it over.
        """
        after = self._renewed(rotation)
        with self._database.transaction():
            self._save(rotation, after)
        return after

    def release(self, rotation: Rotation, *, why: str) -> Rotation:
        """Let go of *rotation* as it is, so that the next run need not wait for the lease."""
        after = self._released(rotation)
        with self._database.transaction():
            self._save(rotation, after)
            self._note(rotation, why)
        return after

    def wait(self, rotation: Rotation, reason: NotYet) -> Rotation:
        """
        Let go of *rotation* at its step, which cannot be done yet for *reason*.

        Raises:
            Conflict: Another process took the rotation over.
        """
        after = replace(
            with_failure(self._released(rotation), reason),
            error_code=PERSON if reason.person else TIME,
            attempts=0,
            wait_until=None
            if reason.again_seconds is None
            else self._clock.now() + timedelta(seconds=reason.again_seconds),
        )
        with self._database.transaction():
            self._save(rotation, after)
            self._note(rotation, "waiting", reason)
        return after

    def _released(self, rotation: Rotation) -> Rotation:
        now = self._clock.now()
        return replace(rotation, owner=_owner.NOBODY, lease_until=now, updated_at=now)

    def take_over(self, rotation: Rotation, *, owner: str, step: Step) -> Rotation:
        """
        Hold a rotation that another run left, at *step*, under a higher fence.

        A dead process of this machine is followed at once, a living one never, and
        one of another machine when its lease has ended.

        Raises:
            Conflict: It is held, or another process was faster.
        """
        if rotation.owner != owner and self.is_held(rotation):
            raise _already_open(rotation, held=True)
        after = replace(
            self._renewed(rotation),
            state=State.LIVE,
            step=step,
            owner=owner,
            fence=rotation.fence + 1,
            attempts=0,
        )
        with self._database.transaction():
            self._save(rotation, after)
            self._note(after, "resumed")
        return after

    def is_held(self, rotation: Rotation) -> bool:
        """Tell whether a process holds *rotation* that may be alive."""
        life = _owner.life_of(rotation.owner)
        if life is _owner.Life.ELSEWHERE:
            return self._clock.now() < rotation.lease_until
        return life is _owner.Life.LIVING

    def live(self, ref: SecretRef) -> Rotation | None:
        """Return the open rotation of *ref*, live or stuck."""
        found = self._database.row(
            f"{_SELECT} WHERE environment = ? AND secret = ? AND state IN ('live', 'stuck')",
            (ref.environment, ref.name),
        )
        return None if found is None else rotation_of(found)

    def all_live(self) -> list[Rotation]:
        """Return every open rotation, oldest first; at most one a secret."""
        rows = self._database.rows(
            f"{_SELECT} WHERE state IN ('live', 'stuck') ORDER BY started_at"
        )
        return [rotation_of(row) for row in rows]

    def history(self, ref: SecretRef, *, limit: int = 100) -> list[Rotation]:
        """Return the rotations of *ref*, newest first."""
        rows = self._database.rows(
            f"{_SELECT} WHERE environment = ? AND secret = ? ORDER BY started_at DESC LIMIT ?",
            (ref.environment, ref.name, limit),
        )
        return [rotation_of(row) for row in rows]

    def last(self, ref: SecretRef) -> Rotation | None:
        """Return the newest rotation of *ref*, whatever became of it."""
        found = self.history(ref, limit=1)
        return found[0] if found else None

    def failures(self, ref: SecretRef, version: int, *, limit: int = 20) -> list[Rotation]:
        """
        Return the rotations that were to replace *version* of *ref* and did not, newest first.

        By the version and not by their times, which a clock that was set may have mixed up.
        """
        rows = self._database.rows(
            f"{_SELECT} WHERE environment = ? AND secret = ? AND old_version = ?"
            " AND state IN ('rolled-back', 'given-up') ORDER BY started_at DESC LIMIT ?",
            (ref.environment, ref.name, version, limit),
        )
        return [rotation_of(row) for row in rows]

    def setbacks(self, rotation: Rotation) -> int:
        """Return how often *rotation* got stuck."""
        found = self._database.one(
            "SELECT count(*) FROM rotation_event WHERE rotation = ? AND event = ?",
            (rotation.id, State.STUCK.value),
        )
        return int(found[0])

    def get(self, rotation_id: RotationId) -> Rotation:
        """
        Return one rotation.

        Raises:
            NotFound: No such rotation.
        """
        found = self._database.row(f"{_SELECT} WHERE id = ?", (rotation_id,))
        if found is None:
            raise NotFound(f"no rotation `{rotation_id}`", hint="see `keyturn status`")
        return rotation_of(found)

    def events(self, rotation_id: RotationId) -> list[Event]:
        """Return what a rotation did, in order."""
        rows = self._database.rows(
            "SELECT seq, at, fence, step, event, detail FROM rotation_event"
            " WHERE rotation = ? ORDER BY seq",
            (rotation_id,),
        )
        return [event_of(row) for row in rows]

    def _refuse_second(self, ref: SecretRef) -> None:
        # Inside the write transaction, so nobody can begin one between look and insert.
        # The table's partial unique index holds the rule even so.
        found = self.live(ref)
        if found is not None:
            raise _already_open(found, held=self.is_held(found))

    def _ended(self, rotation: Rotation, state: State) -> Rotation:
        now = self._clock.now()
        return replace(
            rotation,
            state=state,
            owner=_owner.NOBODY,
            lease_until=now,
            attempts=0,
            updated_at=now,
            finished_at=None if state is State.STUCK else now,
        )

    def _renewed(self, rotation: Rotation) -> Rotation:
        now = self._clock.now()
        return replace(rotation, lease_until=now + timedelta(seconds=LEASE_SECONDS), updated_at=now)

    def _save(self, before: Rotation, after: Rotation) -> None:
        changed = self._database.execute(
            SAVE, (*saved(after), before.id, before.fence, before.step.value)
        )
        if changed != 1:
            raise Conflict(
                f"the rotation of `{before.ref.name}` was taken over by another process",
                hint="see `keyturn status`; this process stopped and changed nothing more",
                code="rotation.fenced",
            )

    def _note(self, rotation: Rotation, event: str, detail: KeyturnError | str = "") -> None:
        text = f"{detail.code}: {detail.message}" if isinstance(detail, KeyturnError) else detail
        at = rfc3339(self._clock.now())
        step = rotation.step.value
        self._database.execute(
            _NOTE, (rotation.id, at, rotation.fence, step, event, text[:ERROR_LIMIT])
        )


def _already_open(rotation: Rotation, *, held: bool) -> Conflict:
    name, where = rotation.ref.name, rotation.ref.environment
    resume = f"`keyturn rotate --resume {name} -e {where}`"
    by = ""
    if held:
        what, by = "already running", f" held by {_owner.describe(rotation.owner)},"
        hint = f"wait for it, or if it was interrupted: {resume}"
    elif rotation.state is State.STUCK:
        what, hint = "stuck", f"{resume} tries again"
    elif rotation.waits_for_person:
        what, hint = "open and waits for a person", f"when that is done: {resume}"
    elif rotation.wait_until is not None:
        what = f"open and waits until {rfc3339(rotation.wait_until)[:19]}Z"
        hint = f"{resume} goes on then, and with `--now` at once"
    else:
        what, hint = "open and was interrupted", f"{resume} goes on"
    return Conflict(
        f"a rotation of `{name}` is {what}: started {rfc3339(rotation.started_at)},{by} at step"
        f" `{rotation.step}`",
        hint=hint,
        code="rotation.running",
        context={"rotation": rotation.id, "step": rotation.step.value},
    )
