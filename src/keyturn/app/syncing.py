"""Use case: bring the secrets of an environment to another store, with their history."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from keyturn.app.delivery import refresh_bundle
from keyturn.app.session import Session
from keyturn.app.sides import Side
from keyturn.app.sync_plan import Facts, Planned, is_drifted, judge
from keyturn.audit import Action, Outcome
from keyturn.core.ids import FieldName, SecretName
from keyturn.core.model import History, Move, Values
from keyturn.core.ports import Drift, DriftKind, WatchedStore
from keyturn.errors import Conflict, KeyturnError, Rejected, UsageError, VerificationFailed

__all__ = ["BATCH", "Synced", "plan_sync", "require_one_environment", "sync"]

# Of secrets that are written together: one ledger, one live document, one record.
BATCH = 100
_DENIED = "store.denied"


@dataclass(frozen=True, slots=True)
class Synced:
    """
    What a sync did.

    Args:
        moved: What is in the target now, read back and compared.
        failed: What is not, and why; the others are no less there for it.
        changed: What went on at the source meanwhile.
    """

    moved: Sequence[Planned]
    failed: Sequence[tuple[SecretName, KeyturnError]]
    changed: Sequence[SecretName]


def require_one_environment(source: Side, target: Side) -> None:
    """
    Refuse to bring values from one environment into another.

    Raises:
        UsageError: The two sides are of different environments.
    """
    if source.environment != target.environment:
        raise UsageError(
            f"`{source}` and `{target}` are of different environments",
            hint="`sync` moves an environment from store to store; each environment has values of"
            " its own: `keyturn generate --missing`",
        )


def plan_sync(
    session: Session,
    source: Side,
    target: Side,
    *,
    overwrite: bool,
    names: Collection[SecretName] | None = None,
) -> list[Planned]:
    """
    Return what is to be done for every secret that the source holds; nothing is changed.

    Args:
        overwrite: What is newer or drifted at the target gives way.
        names: Of these alone.
    """
    where = source.environment
    session.access.read(Action.SECRET_STATUS, str(source), environment=where)
    here, there = session.store.named(source.store), session.store.named(target.store)
    held = sorted(here.states(where)) if names is None else names
    mine = here.histories(where, held)
    theirs = there.histories(where, held)
    drifts = _drifts(session, target, mine, theirs)
    return [
        judge(
            history,
            theirs.get(name),
            Facts(
                str(source.store),
                str(target.store),
                in_rotation=session.journal.live(history.ref) is not None,
                drift=drifts.get(name),
                overwrite=overwrite,
            ),
        )
        for name, history in sorted(mine.items())
    ]


def sync(
    session: Session,
    source: Side,
    target: Side,
    plan: Sequence[Planned],
    *,
    progress: Callable[[int], None],
) -> Synced:
    """
    Do what *plan* says, batch by batch; each is read back and compared before the next.

    Nothing is removed from the target but what gives way to a newer version. The same
    again after a crash does what is left.

    Args:
        progress: Told how many more secrets are done.

    Raises:
        VerificationFailed: The target does not give back what was written.
        Unavailable: It does not answer.
        OutcomeUnknown: No answer came. Call again.

    Audit:
        `secret.version.sync`: begun before, then each batch with its names, then the
        outcome, also that of runs that died.
    """
    todo = [each for each in plan if each.is_work]
    done = _Run(session, source, target, progress)
    if not todo and not _left_open(session, target):
        return Synced((), (), ())
    with session.access.effect(
        Action.VERSION_SYNC,
        str(target),
        environment=target.environment,
        detail={"from": str(source), "secrets": len(todo)},
    ) as notes:
        for start in range(0, len(todo), BATCH):
            done.batch(todo[start : start + BATCH])
        notes["failed"] = len(done.failed)
    with contextlib.suppress(KeyturnError):
        # What was moved is moved; a bundle is made by the first `run` as well.
        refresh_bundle(session, target.environment)
    return Synced(done.moved, done.failed, _changed(session, source, done.moved))


class _Run:
    def __init__(
        self, session: Session, source: Side, target: Side, progress: Callable[[int], None]
    ) -> None:
        self._session = session
        self._source = source
        self._target = target
        self._progress = progress
        self.moved: list[Planned] = []
        self.failed: list[tuple[SecretName, KeyturnError]] = []

    def batch(self, todo: Sequence[Planned]) -> None:
        """Write *todo* together; where one of them is in the way, each by itself."""
        drifted = [each for each in todo if each.drift is not None]
        clear = [each for each in todo if each.drift is None]
        for each in drifted:
            clear += self._settled(each)
        if not clear:
            return
        try:
            self._carry(clear)
        except (Conflict, Rejected) as error:
            if error.code == _DENIED:
                raise
            if len(clear) == 1:
                self._fail(clear[0], error)
                return
            for each in clear:
                self.batch([each])

    def _carry(self, todo: Sequence[Planned]) -> None:
        moves = [each.move for each in todo if each.move is not None]
        session, target = self._session, self._target
        joins = session.store.named(target.store).capabilities.transactional
        names = " ".join(_named(move) for move in moves)
        with session.database.transaction() if joins else contextlib.nullcontext():
            session.store.carry_to(target.store, target.environment, moves)
            self._verify(moves)
            session.access.record(
                Action.VERSION_SYNC,
                str(target),
                Outcome.DONE,
                {"from": str(self._source), "versions": names},
            )
        self.moved += todo
        self._progress(len(todo))

    def _verify(self, moves: Sequence[Move]) -> None:
        """Read back what was written, and compare the digests."""
        store = self._session.store.named(self._target.store)
        names = [move.history.ref.name for move in moves]
        found = store.histories(self._target.environment, names)
        wrong = [
            f"`{move.history.ref.name}`"
            for move in moves
            if not self._is_there(move.history, found.get(move.history.ref.name))
        ]
        if wrong:
            raise VerificationFailed(
                f"`{self._target.store}` does not give back what was written: {', '.join(wrong)}",
                hint="nothing was taken from the other store; run the command again, and see"
                f" `keyturn diff {self._source} {self._target}`",
                code="store.sync",
            )

    def _is_there(self, wanted: History, found: History | None) -> bool:
        if found is None or found.state != wanted.state:
            return False
        for version, values in wanted.versions:
            there = found.values(version.number)
            if there is None:
                # A store that keeps few versions has let the oldest go, never one in use.
                in_use = version.number in {wanted.state.current, wanted.state.previous}
                if in_use or found.version(version.number) is None:
                    return False
            elif values is not None and self._digests(values) != self._digests(there):
                return False
        return True

    def _digests(self, values: Values) -> dict[str, str]:
        return {name: self._session.digester.digest(value) for name, value in values.items()}

    def _settled(self, planned: Planned) -> list[Planned]:
        """Take in or put right what others did at the target; return what is to be done then."""
        session, target, drift = self._session, self._target, planned.drift
        watched = session.store.watched_named(target.store)
        if watched is None or drift is None:
            return [planned]
        try:
            _settle(session, watched, target, drift)
            (again,) = plan_sync(
                session, self._source, target, overwrite=True, names=[planned.name]
            )
        except (Conflict, Rejected) as error:
            self._fail(planned, error)
            return []
        if not again.is_work:
            self._progress(1)
        return [again] if again.is_work else []

    def _fail(self, planned: Planned, error: KeyturnError) -> None:
        self.failed.append((planned.name, error))
        self._progress(1)


def _settle(session: Session, watched: WatchedStore, target: Side, drift: Drift) -> None:
    taken = drift.kind is not DriftKind.REMOVED
    action = Action.VERSION_ACCEPT if taken else Action.VERSION_RESTORE
    detail = {"store": str(target.store)}
    with session.access.effect(
        action, str(drift.ref), environment=target.environment, detail=detail
    ):
        # Theirs is kept as a version, so that nothing of anybody is lost.
        if taken:
            history = watched.history(drift.ref)
            recorded = [each.fields for each in history if each.number == drift.recorded]
            watched.accept(drift.ref, recorded[0] if recorded else drift.fields)
        else:
            watched.restore(drift.ref)


def _drifts(
    session: Session,
    target: Side,
    mine: Mapping[SecretName, History],
    theirs: Mapping[SecretName, History],
) -> Mapping[SecretName, Drift]:
    """Return what others did at the target; asked only where there may be something."""
    watched = session.store.watched_named(target.store)
    # What was there before Keyturn has no history, and is not written over.
    unknown = {name: _fields(mine[name]) for name in mine if name not in theirs}
    if watched is None or not (unknown or any(map(is_drifted, theirs.values()))):
        return {}
    return watched.drifts(target.environment, unknown)


def _fields(history: History) -> Collection[FieldName]:
    version = history.version(history.state.current) or history.versions[-1][0]
    return version.fields


def _named(move: Move) -> str:
    return f"{move.history.ref.name}@{move.history.state.current or 0}"


def _left_open(session: Session, target: Side) -> bool:
    wanted = (Action.VERSION_SYNC, str(target))
    return any((each.action, each.object) == wanted for each in session.audit.open_begun())


def _changed(session: Session, source: Side, moved: Sequence[Planned]) -> list[SecretName]:
    """Return what is not at the source any more as it was when it was read."""
    states = session.store.named(source.store).states(source.environment)
    return [each.name for each in moved if states.get(each.name) != each.seen]
