"""
Runs a rotation: each step through the saga, recorded before and after.

There is no recovery code. `resume` takes the rotation over and goes on with the
same steps, each of which asks what is true before it acts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from keyturn._internal import failpoints
from keyturn._internal.database import Database
from keyturn.core.clock import Clock, rfc3339
from keyturn.core.entropy import Entropy
from keyturn.core.ids import RotationId, Token, new_id
from keyturn.core.model import SecretRef
from keyturn.core.ports import RotationKind, Store
from keyturn.errors import Conflict, KeyturnError, NotFound, NotYet
from keyturn.rotate import _owner
from keyturn.rotate._failing import StepFailedError, outcome_of, own_failures
from keyturn.rotate._report import Report, waiting_of
from keyturn.rotate._rows import AHEAD
from keyturn.rotate._steps import Effect, Steps
from keyturn.rotate._turning import (
    given_up,
    no_return,
    require_in_use,
    require_same_overlap,
    turned_back,
)
from keyturn.rotate.journal import Journal, Rotation, State
from keyturn.rotate.ports import DeliveryPort, Listener, Progress, Recorder
from keyturn.rotate.saga import End, Outcome, Plan, Step, next_step, resume_step, turned_step

__all__ = ["Report", "Runner"]

# A grace this short is waited for; a longer one is left to a later run.
INLINE_GRACE_SECONDS = 30
# Within the lease of 60 s, so that a wait never loses it.
_RENEW_SECONDS = 20
# Before the second and the third try of a step.
_BACK_OFF_SECONDS = (0.5, 2.0)


@dataclass(slots=True)
class _Run:
    rotation: Rotation
    steps: Steps
    now: bool
    notes: list[str] = field(default_factory=list)
    failure: KeyturnError | None = None
    waiting: NotYet | None = None
    hurried: Step | None = None


class Runner:
    """
    Starts rotations and takes them up again; one for each thread.

    Args:
        audit: Joins the transaction of each step: no record, no step.
        listener: Told of each step as it goes, outside of any transaction.
        joins: Whether *store* shares the journal's transaction. Where it does not, a
            step's writes come before its record, and are found by their token where
            the process died between the two.
        swept: As `Steps`.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: Store,
        journal: Journal,
        audit: Recorder,
        delivery: DeliveryPort,
        clock: Clock,
        entropy: Entropy,
        listener: Listener | None = None,
        joins: bool = True,
        swept: Sequence[Token] = (),
    ) -> None:
        self._database = database
        self._store = store
        self._journal = journal
        self._audit = audit
        self._delivery = delivery
        self._clock = clock
        self._entropy = entropy
        self._listener = listener
        self._joins = joins
        self._swept = swept
        self._owner = _owner.make(entropy)

    def start(
        self,
        ref: SecretRef,
        kind: RotationKind,
        plan: Plan,
        *,
        now: bool = False,
        guard: Callable[[], None] | None = None,
    ) -> Report:
        """
        Rotate *ref* by *plan*, as far as it goes in this run.

        Args:
            now: Without grace.
            guard: Raises where it may not begin; called when nobody else can begin one.

        Returns:
            The end of it, or a live rotation that waits for the end of its grace.

        Raises:
            Conflict: A rotation of *ref* is open, or it is not as *plan* says.

        Crash safety:
            Whatever line the process dies at, `resume` settles it.

        Audit:
            `rotation.run.begin`, then `rotation.step.begin` and `.finish` for each
            step, then `.finish`, `.rollback` or `.stick` of the run.
        """
        require_same_overlap(plan, kind, ref)
        if now:
            plan = plan.without_waits
        if not self._joins:
            # Others can change it at any time: what counts is that each write compares.
            self._require_unchanged(ref, plan)
        with self._database.transaction():
            rotation = self._journal.begin(
                ref, plan, rotation_id=RotationId(new_id(self._entropy)), owner=self._owner
            )
            if self._joins:
                self._require_unchanged(ref, plan)
            if guard is not None:
                guard()
            self._record_run(rotation, "begin", "begun")
            self._record_step(rotation, "begun")
        return self._run(_Run(rotation, self._steps(kind), now))

    def resume(self, ref: SecretRef, kind: RotationKind, *, now: bool = False) -> Report:
        """
        Settle the open rotation of *ref*: go on, or go back.

        Args:
            now: End a grace that has not passed.

        Returns:
            As `start`. A grace that has not passed is left to go on.

        Raises:
            NotFound: None is open.
            Conflict: A living process holds it.
        """
        rotation = self._journal.live(ref)
        if rotation is None:
            raise NotFound(
                f"no rotation of `{ref.name}` is open",
                hint=f"start one: keyturn rotate {ref.name}",
                code="rotation.none",
            )
        require_same_overlap(rotation.plan, kind, ref)
        rotation, restarted = self._true_wait(rotation)
        if (
            rotation.owner == _owner.NOBODY
            and not (now or restarted)
            and self._waits_long(rotation)
        ):
            return Report(rotation, waiting=waiting_of(rotation))
        with self._database.transaction():
            taken = self._journal.take_over(
                rotation, owner=self._owner, step=resume_step(rotation.step)
            )
            self._record_run(taken, "resume", "begun")
            self._record_step(taken, "begun")
        return self._run(_Run(taken, self._steps(kind), now))

    def turn_back(self, ref: SecretRef, kind: RotationKind) -> Report:
        """
        Take the open rotation of *ref* back, as after a failure; on the way back, go on.

        A later phase is taken back to the one before it.

        Returns:
            The end of it: rolled back, stuck on the way, or live and waiting there.

        Raises:
            NotFound: None is open.
            Conflict: The old credential may have been ended already, or a living
                process holds the rotation.

        Crash safety:
            Once the turn is recorded, `resume` goes the rest of the way back; before
            that, it goes on forward.

        Audit:
            `rotation.run.resume`, then the step that it was at as failed, with
            `rotation.turned-back`; then each step of the way back, and `.rollback`.
        """
        rotation = self._journal.live(ref)
        if rotation is None:
            raise NotFound(f"no rotation of `{ref.name}` is open", hint="see `keyturn status`")
        require_same_overlap(rotation.plan, kind, ref)
        to = turned_step(rotation.plan, rotation.step)
        if to is None:
            raise no_return(rotation)
        if to is rotation.step:
            return self.resume(ref, kind, now=True)
        require_in_use(rotation, self._store)
        with self._database.transaction():
            taken = self._journal.take_over(rotation, owner=self._owner, step=rotation.step)
            self._record_run(taken, "resume", "begun")
            self._record_step(taken, "begun")
        run = _Run(taken, self._steps(kind), now=True, failure=turned_back())
        try:
            self._turn(run, kind, to)
        except BaseException as error:
            self._let_go(run, error)
            raise
        return self._run(run)

    def _turn(self, run: _Run, kind: RotationKind, to: Step) -> None:
        rotation, failure = run.rotation, turned_back()
        failpoints.hit("rotate.turn.begin")
        if rotation.step is Step.ADVANCE and rotation.new_version is not None:
            # It may have begun the next phase at the target before it stopped.
            kind.recede(
                self._store.read(rotation.ref, rotation.new_version).values, rotation.phase + 1
            )
        with self._database.transaction():
            self._record_step(rotation, "failed", error=failure.code)
            after = self._journal.advance(rotation, to, failure=failure)
            self._record_step(after, "begun")
        run.rotation = after
        failpoints.hit("rotate.turn.end")

    def give_up(self, ref: SecretRef) -> Report:
        """
        End the open rotation of *ref* where it is, for a person to clean up after.

        The store keeps what is current; a pending version is discarded. The target is
        not asked: it may accept old and new. The row keeps the step, and ends as
        `given-up` whichever version is in use.

        Raises:
            NotFound: None is open.
            Conflict: A living process holds it.

        Audit:
            `rotation.run.resume`, then `rotation.run.finish` or `.rollback` as `failed`.
        """
        rotation = self._journal.live(ref)
        if rotation is None:
            raise NotFound(f"no rotation of `{ref.name}` is open", hint="see `keyturn status`")
        failure = given_up(rotation)
        with self._database.transaction():
            taken = self._journal.take_over(rotation, owner=self._owner, step=rotation.step)
            self._record_run(taken, "resume", "begun")
            state = self._store.state(ref)
            stored = self._store.find(ref, Token(taken.id))
            if stored is not None and state.pending == stored.number:
                self._store.discard_pending(ref, state.pending)
            in_use = taken.new_version is not None and state.current == taken.new_version
            self._record_run(taken, "finish" if in_use else "rollback", "failed")
            ended = self._journal.give_up(taken, failure)
        return Report(ended, failure=failure)

    def _run(self, run: _Run) -> Report:
        try:
            while run.rotation.state is State.LIVE and run.waiting is None:
                self._tell(run.rotation.step, "begun")
                if run.rotation.step is Step.GRACE and not self._wait_for_grace(run):
                    break
                self._take_step(run)
        except BaseException as error:
            self._let_go(run, error)
            raise
        return Report(run.rotation, tuple(run.notes), run.failure, run.waiting)

    def _take_step(self, run: _Run) -> None:
        step = run.rotation.step
        failure = self._try_step(run)
        if isinstance(failure, NotYet):
            self._wait_at_step(run, failure)
        elif failure is not None:
            self._fail(run, failure)
        failpoints.hit(f"rotate.{step}.end")

    def _try_step(self, run: _Run) -> KeyturnError | None:
        """
        Do the step, its writes, its record and the begin of the next one.

        Returns:
            The step's own failure. One of the journal or the audit log is raised:
            without them nothing more may be done.
        """
        step = run.rotation.step
        try:
            with own_failures(step):
                failpoints.hit(f"rotate.{step}.begin")
                effect = run.steps.perform(run.rotation)
                written = None if self._joins else effect.write()
            with self._database.transaction():
                with own_failures(step):
                    new_version = effect.write() if self._joins else written
                    failpoints.hit(f"rotate.{step}.effect")
                after = self._move_on(run.rotation, effect, new_version)
        except StepFailedError as failed:
            return failed.cause
        run.rotation = after
        run.notes.extend(effect.notes)
        self._tell(step, "done", "; ".join(effect.notes))
        return None

    def _move_on(self, rotation: Rotation, effect: Effect, new_version: int | None) -> Rotation:
        following = next_step(rotation.plan, rotation.step, Outcome.DONE, phase=rotation.phase)
        detail = "; ".join(effect.notes)
        self._record_step(rotation, "done", version=new_version)
        if isinstance(following, End):
            return self._end(rotation, following, detail=detail)
        after = self._journal.advance(
            rotation,
            following,
            detail=detail,
            new_version=new_version,
            wait_until=self._grace_end(rotation, following),
        )
        self._record_step(after, "begun")
        return after

    def _wait_at_step(self, run: _Run, reason: NotYet) -> None:
        step = run.rotation.step
        if run.now and not reason.person and run.hurried is not step:
            # Whoever wants no waiting gets the next try at once; a second no is obeyed.
            run.hurried = step
            return
        run.rotation = self._journal.wait(run.rotation, reason)
        run.waiting = reason
        self._tell(step, "waiting", reason.message)

    def _fail(self, run: _Run, failure: KeyturnError) -> None:
        rotation = run.rotation
        outcome = outcome_of(failure)
        following = next_step(
            rotation.plan,
            rotation.step,
            outcome,
            attempts=rotation.attempts + 1,
            phase=rotation.phase,
        )
        if following is rotation.step:
            run.rotation = self._journal.retry(rotation, failure)
            self._tell(rotation.step, "retried", failure.message)
            self._clock.sleep(_BACK_OFF_SECONDS[rotation.attempts])
            return
        if following is End.STUCK and run.failure is not None:
            # The way back failed as well: what made it go back is not to be lost.
            failure.message += f"; it went back because: {run.failure.message}"
        run.failure = failure if run.failure is None or following is End.STUCK else run.failure
        with self._database.transaction():
            word = "unknown" if outcome is Outcome.UNKNOWN else "failed"
            self._record_step(rotation, word, error=failure.code)
            if isinstance(following, End):
                after = self._end(rotation, following, failure=failure)
            else:
                after = self._journal.advance(rotation, following, failure=failure)
                self._record_step(after, "begun")
        run.rotation = after
        self._tell(rotation.step, "failed", failure.message)

    def _end(
        self,
        rotation: Rotation,
        end: End,
        *,
        detail: str = "",
        failure: KeyturnError | None = None,
    ) -> Rotation:
        match end:
            case End.DONE:
                self._record_run(rotation, "finish", "done")
            case End.ROLLED_BACK:
                self._record_run(rotation, "rollback", "done")
            case End.STUCK:
                self._record_run(rotation, "stick", "failed")
        return self._journal.finish(rotation, end, detail=detail, failure=failure)

    def _wait_for_grace(self, run: _Run) -> bool:
        """Wait out a short grace; release a long one and return False."""
        if run.now:
            return True
        if self._grace_left(run.rotation) > 0:
            self._tell(Step.GRACE, "waiting", f"both valid until {_until(run.rotation)}")
        if self._waits_long(run.rotation):
            run.rotation = self._journal.release(run.rotation, why="waiting")
            return False
        while (left := self._grace_left(run.rotation)) > 0:
            self._clock.sleep(min(left, _RENEW_SECONDS))
            run.rotation = self._journal.renew(run.rotation)
        return True

    def _waits_long(self, rotation: Rotation) -> bool:
        if rotation.state is not State.LIVE:
            return False
        if rotation.waits_for_person:
            # Somebody who resumes has done what was asked, or wants to know what it is.
            return False
        left = self._grace_left(rotation)
        return left > (INLINE_GRACE_SECONDS if rotation.step is Step.GRACE else 0)

    def _true_wait(self, rotation: Rotation) -> tuple[Rotation, bool]:
        """Begin a wait anew that was counted from a time which still lies in the future."""
        now = self._clock.now()
        if rotation.wait_until is None or rotation.updated_at - now <= AHEAD:
            return rotation, False
        # The clock was set back. How much of the wait has passed cannot be known.
        length = rotation.wait_until - rotation.updated_at
        return replace(rotation, wait_until=now + max(length, timedelta(0))), True

    def _grace_left(self, rotation: Rotation) -> float:
        if rotation.wait_until is None:
            return 0.0
        return (rotation.wait_until - self._clock.now()).total_seconds()

    def _grace_end(self, rotation: Rotation, step: Step) -> datetime | None:
        if step is not Step.GRACE:
            return None
        seconds = rotation.plan.wait_seconds(rotation.phase)
        return self._clock.now() + timedelta(seconds=seconds)

    def _let_go(self, run: _Run, error: BaseException) -> None:
        # The journal stays as it is, as after a crash. Only the hold is given up, so
        # that the next run need not ask whether this process still lives.
        if not (isinstance(error, Conflict) and error.code == "rotation.fenced"):
            with contextlib.suppress(KeyturnError):
                run.rotation = self._journal.release(run.rotation, why="interrupted")
        self._tell(run.rotation.step, "interrupted")

    def _require_unchanged(self, ref: SecretRef, plan: Plan) -> None:
        state = self._store.state(ref)
        if state.current != plan.old_version:
            raise Conflict(
                f"`{ref.name}` was changed since the rotation was planned: version"
                f" {state.current} is current, not {plan.old_version}",
                hint="run the command again",
                code="rotation.stale",
            )
        if state.pending is not None:
            raise Conflict(
                f"version {state.pending} of `{ref.name}` is pending already",
                hint="promote it or discard it first",
                code="rotation.pending",
            )

    def _steps(self, kind: RotationKind) -> Steps:
        store, delivery, journal = self._store, self._delivery, self._journal
        return Steps(kind, store=store, delivery=delivery, journal=journal, swept=self._swept)

    def _record_run(self, rotation: Rotation, verb: str, outcome: str) -> None:
        self._record(rotation, f"rotation.run.{verb}", outcome, {})

    def _record_step(
        self,
        rotation: Rotation,
        outcome: str,
        *,
        version: int | None = None,
        error: str | None = None,
    ) -> None:
        verb = "begin" if outcome == "begun" else "finish"
        detail: dict[str, str | int] = {"step": rotation.step.value}
        if version is not None:
            detail["version"] = version
        if error is not None:
            detail["error"] = error
        self._record(rotation, f"rotation.step.{verb}", outcome, detail)

    def _record(
        self, rotation: Rotation, action: str, outcome: str, detail: dict[str, str | int]
    ) -> None:
        facts: dict[str, str | int] = {"rotation": rotation.id, "fence": rotation.fence, **detail}
        if rotation.new_version is not None:
            facts.setdefault("version", rotation.new_version)
        self._audit.record(action, str(rotation.ref), outcome, facts)

    def _tell(self, step: Step, event: str, detail: str = "") -> None:
        if self._listener is not None:
            self._listener(Progress(step, event, detail))


def _until(rotation: Rotation) -> str:
    # To the second, as a person reads it.
    return "" if rotation.wait_until is None else f"{rfc3339(rotation.wait_until)[:19]}Z"
