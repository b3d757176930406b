"""Use case: bring back what a backup has and the stores have not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyturn._internal import durable, failpoints
from keyturn.app.backup_file import Outline, Summary, fingerprint, read_backup
from keyturn.app.backup_format import Head, Held, Item, LogLine, Part
from keyturn.app.config import Settings
from keyturn.app.histories import read_histories
from keyturn.app.project import ProjectPaths
from keyturn.app.restore_plan import judge_restored, was_written
from keyturn.app.session import Session
from keyturn.app.sides import Side
from keyturn.app.start import start_project
from keyturn.app.sync_plan import Facts, Planned, Way
from keyturn.audit import Action, Outcome
from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import Move
from keyturn.core.ports import Drift
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, Corrupt, KeyturnError, NotFound, Rejected, VerificationFailed
from keyturn.manifest import Manifest, load

__all__ = [
    "Restored",
    "Step",
    "Steps",
    "audit_lines",
    "make_place",
    "plan_restore",
    "protected_in",
    "require_same_project",
    "restore",
]

# Written together: so many, and not more than so many bytes.
_TOGETHER = 50
_BATCH_BYTES = 4 * 1024 * 1024
_DENIED = "store.denied"


@dataclass(frozen=True, slots=True)
class Step:
    """
    What is to be done for one secret of a backup.

    Args:
        target: Where it belongs now.
    """

    outline: Outline
    target: Side
    planned: Planned
    overwrite: bool

    @property
    def label(self) -> str:
        """How it is shown."""
        return f"{self.target}/{self.outline.name}"


@dataclass(frozen=True, slots=True)
class Steps:
    """
    What is to be done.

    Args:
        skipped: Parts that have no place here, and why.
        unused: Parts that lay in a store which no environment used.
    """

    steps: Sequence[Step]
    skipped: Sequence[tuple[Part, str]] = ()
    unused: Sequence[Part] = ()

    @property
    def work(self) -> list[Step]:
        """Those that something is to be done for."""
        return [step for step in self.steps if step.planned.is_work]


@dataclass(slots=True)
class Restored:
    """
    What was done.

    Args:
        done: What is in its store now, read back and compared.
        failed: What is not, and why.
    """

    done: list[Step] = field(default_factory=list)
    failed: list[tuple[Step, KeyturnError]] = field(default_factory=list)


def require_same_project(summary: Summary, manifest: Manifest, as_project: str | None) -> None:
    """
    Refuse the backup of another project.

    Args:
        as_project: The name of the project that the person knows it is of.

    Raises:
        Conflict: `backup.project`: it is of another one.
    """
    theirs, own = summary.head.project, manifest.project.name
    if theirs not in {own, as_project}:
        raise Conflict(
            f"it is a backup of the project `{theirs[:100]}`, and this one is `{own}`",
            hint=f"where that is meant: `--as-project {theirs[:100]}`",
            code="backup.project",
        )


def protected_in(
    summary: Summary, manifest: Manifest | None, environments: Collection[str]
) -> list[str]:
    """
    Return the protected environments that the backup has values for.

    Args:
        manifest: What says so; the backup's own where there is none yet.
        environments: Those wanted; empty for all.

    Raises:
        NotFound: One of *environments* is none.
    """
    if manifest is None:
        manifest = load(summary.manifest.text.encode("utf-8"), file="keyturn.toml of the backup")
    for name in environments:
        manifest.environment(name)
    held = {each.part.environment for each in summary.secrets}
    return [
        name
        for name, each in manifest.environments.items()
        if each.protected and name in held and (not environments or name in environments)
    ]


def make_place(settings: Settings, folder: Path, summary: Summary) -> list[str]:
    """
    Make what is missing of a project in *folder*: its manifest, and a store with new keys.

    Returns:
        What was made, in words; nothing where all was there.

    Raises:
        NotFound: There is no such folder.

    Crash safety:
        Called again it makes what is still missing.
    """
    if not folder.is_dir():
        raise NotFound(f"no folder `{folder}`", hint="make it, or name another")
    paths = ProjectPaths(folder.resolve(), settings.key_home)
    made = []
    if not paths.manifest.exists():
        data = summary.manifest.text.encode("utf-8")
        failpoints.hit("restore.manifest")
        durable.replace(paths.manifest, data, mode=0o644, point="manifest")
        made.append(f"`{paths.manifest}`, as it is in the backup")
    if not paths.locator.exists():
        started = start_project(
            settings, folder=folder, example=None, name=None, ask_passphrase=None
        )
        made.append(f"a new store, with new keys in `{started.key_folder}`")
    return made


def plan_restore(
    session: Session,
    summary: Summary,
    *,
    environments: Collection[EnvironmentName],
    overwrite: Collection[str],
) -> Steps:
    """
    Return what is to be done for every secret of the backup; nothing is changed.

    Args:
        environments: Those wanted; empty for all.
        overwrite: Secrets that take the place of what is there: `NAME`, or
            `ENVIRONMENT/NAME`.

    Raises:
        NotFound: The backup has no secret that *overwrite* names.
    """
    _require_named(summary, overwrite)
    steps: list[Step] = []
    skipped: list[tuple[Part, str]] = []
    unused: list[Part] = []
    for part in summary.parts:
        if environments and part.environment not in environments:
            continue
        outlines = [each for each in summary.secrets if each.part == part]
        target = _target(session.manifest, part)
        if isinstance(target, Side):
            steps += _judged(session, summary, outlines, target, overwrite)
        elif part.in_use:
            skipped.append((part, target))
        elif outlines:
            unused.append(part)
    return Steps(steps, skipped, unused)


def _require_named(summary: Summary, overwrite: Collection[str]) -> None:
    known = {str(each.state.ref) for each in summary.secrets}
    known |= {each.name for each in summary.secrets}
    for name in overwrite:
        if name not in known:
            raise NotFound(
                f"the backup has no secret `{name[:100]}`",
                hint="`keyturn restore FILE --identity KEYFILE --list` shows what it has",
            )


def _target(manifest: Manifest, part: Part) -> Side | str:
    """Return where *part* belongs, or why it belongs nowhere."""
    environment = manifest.environments.get(part.side.environment)
    if environment is None:
        return f"keyturn.toml has no environment `{part.environment}`"
    if part.in_use:
        return Side(environment.store, environment.name)
    return "no environment used it"


def _judged(
    session: Session,
    summary: Summary,
    outlines: Sequence[Outline],
    target: Side,
    overwrite: Collection[str],
) -> list[Step]:
    store = session.store.named(target.store)
    theirs, damaged = {}, {}
    for each in read_histories(store, target.environment, [each.name for each in outlines]):
        if each.error is not None:
            damaged[each.name] = each.error.message
        if each.history is not None:
            theirs[each.name] = fingerprint(each.history, summary.digester)
    absent = {each.name: _fields(each) for each in outlines if each.name not in theirs}
    drifts = _drifts(session, target, absent)
    steps = []
    for outline in outlines:
        name = outline.name
        named = bool({name, str(outline.state.ref)} & set(overwrite))
        facts = _facts(session, outline, target, drifts.get(name), overwrite=named)
        planned = judge_restored(outline.fingerprint, theirs.get(name), facts)
        if name in damaged:
            planned = Planned(name, Way.CONFLICT, why=f"{target.store}: {damaged[name]}")
        steps.append(Step(outline, target, planned, named))
    return steps


def _fields(outline: Outline) -> Collection[FieldName]:
    return outline.versions[-1].fields if outline.versions else ()


def _drifts(
    session: Session, target: Side, absent: Mapping[SecretName, Collection[FieldName]]
) -> Mapping[SecretName, Drift]:
    watched = session.store.watched_named(target.store)
    return {} if watched is None else watched.drifts(target.environment, absent)


def _facts(
    session: Session, outline: Outline, target: Side, drift: Drift | None, *, overwrite: bool
) -> Facts:
    return Facts(
        "the backup",
        str(target.store),
        in_rotation=session.journal.live(outline.state.ref) is not None,
        drift=drift,
        overwrite=overwrite,
    )


def restore(
    session: Session,
    file: Path,
    identities: Sequence[SecretValue],
    summary: Summary,
    plan: Steps,
    *,
    progress: Callable[[int], None],
) -> Restored:
    """
    Do what *plan* says; each secret is read back and compared, and is whole or untouched.

    The file is read a second time, so it is known by now that it is whole. The same
    again after a crash does what is left. Bundles are stale afterwards, and are made by
    the first `run`: one holds all values of an environment at once.

    Raises:
        Corrupt: The file was changed since it was looked at.
        AccessDenied: An environment is protected and no reason was given.
        Unavailable: A store does not answer.
        OutcomeUnknown: No answer came. Call again.

    Audit:
        `backup.file.restore`: begun before, then each secret with its version, then the
        outcome, also that of runs that died.
    """
    work = plan.work
    for environment in dict.fromkeys(step.target.environment for step in work):
        session.access.require_reason(environment)
    run = _Run(session, summary, work, progress)
    if not work and not _left_open(session):
        return run.result
    with session.access.effect(
        Action.BACKUP_RESTORE,
        "backup",
        detail={
            "file": file.name,
            "sha256": summary.end.sha256,
            "store": summary.head.store,
            "seq": summary.audit.seq,
            "head": summary.audit.head,
            "secrets": len(work),
        },
    ) as notes:
        if work:
            end = read_backup(file, identities, run.take)
            run.flush()
            if end.sha256 != summary.end.sha256:
                raise _changed(file)
        notes["failed"] = len(run.result.failed)
    return run.result


def _changed(file: Path) -> Corrupt:
    return Corrupt(
        f"`{file.name}` was changed while it was read",
        hint="see that nobody writes to it, and run the command again",
        code="backup.corrupt",
    )


def _left_open(session: Session) -> bool:
    wanted = (Action.BACKUP_RESTORE, "backup")
    return any((each.action, each.object) == wanted for each in session.audit.open_begun())


class _Run:
    """Writes what comes out of the file, some secrets at a time."""

    def __init__(
        self,
        session: Session,
        summary: Summary,
        work: Sequence[Step],
        progress: Callable[[int], None],
    ) -> None:
        self._session = session
        self._summary = summary
        self._steps = {(step.outline.part, step.outline.name): step for step in work}
        self._progress = progress
        self._waiting: list[tuple[Step, Held]] = []
        self._bytes = 0
        self.result = Restored()

    def take(self, item: Item) -> None:
        """Keep a secret that is wanted, and write when there is enough."""
        if isinstance(item, Head) and item != self._summary.head:
            raise _changed(Path(item.project))
        if isinstance(item, Part):
            self.flush()
        if not isinstance(item, Held):
            return
        step = self._steps.get((item.part, item.history.ref.name))
        if step is None:
            return
        if (item.digests, item.history.state) != (step.outline.digests, step.outline.state):
            raise _changed(Path(step.label))
        self._waiting.append((step, item))
        self._bytes += item.size_bytes
        if len(self._waiting) == _TOGETHER or self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        self._write(waiting)

    def _write(self, waiting: Sequence[tuple[Step, Held]]) -> None:
        """Write *waiting* together; where one of them is in the way, each by itself."""
        if not waiting:
            return
        try:
            self._carry(waiting)
        except (Conflict, Rejected) as error:
            if error.code == _DENIED:
                raise
            if len(waiting) > 1:
                for each in waiting:
                    self._write([each])
                return
            self.result.failed.append((waiting[0][0], error))
            self._progress(1)

    def _carry(self, waiting: Sequence[tuple[Step, Held]]) -> None:
        session, target = self._session, waiting[0][0].target
        store = session.store.named(target.store)
        joins = store.capabilities.transactional
        failpoints.hit("restore.batch")
        with session.database.transaction() if joins else contextlib.nullcontext():
            moves = self._moves(waiting, target)
            session.store.carry_to(target.store, target.environment, moves)
            self._verify(moves, target)
            for move in moves:
                version = move.history.state.current or 0
                session.access.record(
                    Action.BACKUP_RESTORE,
                    str(move.history.ref),
                    Outcome.DONE,
                    {"store": str(target.store), "version": version},
                )
        failpoints.hit("restore.batched")
        self.result.done += [step for step, _ in waiting]
        self._progress(len(waiting))

    def _moves(self, waiting: Sequence[tuple[Step, Held]], target: Side) -> list[Move]:
        """Return what the store is asked, by what it has now."""
        store = self._session.store.named(target.store)
        names = [step.outline.name for step, _ in waiting]
        theirs = store.histories(target.environment, names)
        moves = []
        for step, held in waiting:
            outline = step.outline
            # What others did to the live values the store itself finds.
            facts = _facts(self._session, outline, target, None, overwrite=step.overwrite)
            planned = judge_restored(held.history, theirs.get(outline.name), facts)
            if planned.move is None or planned.way is not step.planned.way:
                raise Conflict(
                    f"`{step.label}` was changed meanwhile",
                    hint="run the command again: it looks anew",
                    code="store.moved",
                )
            moves.append(planned.move)
        return moves

    def _verify(self, moves: Sequence[Move], target: Side) -> None:
        names = [move.history.ref.name for move in moves]
        found = self._session.store.named(target.store).histories(target.environment, names)
        wrong = [
            move.history.ref.name
            for move in moves
            if not was_written(move.history, found.get(move.history.ref.name))
        ]
        if wrong:
            told = ", ".join(f"`{name}`" for name in wrong)
            raise VerificationFailed(
                f"`{target.store}` does not give back what was written: {told}",
                hint="look whether the store is sound, and run the command again",
                code="backup.restore",
            )


def audit_lines(
    file: Path, identities: Sequence[SecretValue], write: Callable[[bytes], object]
) -> int:
    """
    Write the audit log that is in a backup, as `keyturn audit verify FILE` reads it.

    Returns:
        The number of lines; 0 where the backup was made without.
    """
    count = 0

    def take(item: Item) -> None:
        nonlocal count
        if isinstance(item, LogLine):
            write(item.line.encode("utf-8") + b"\n")
            count += 1

    read_backup(file, identities, take)
    return count
