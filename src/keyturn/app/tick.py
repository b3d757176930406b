"""
Use case: do all that is due, as often and from as many places as anybody likes.

Nothing is kept between two runs: each asks the manifest, the journal and the store what
is true, and the schedule what to do about it. So a run that was missed or killed is made
up for by the next, and of two at once the journal lets one have each secret.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from keyturn.app.judging import FROZEN, PAIRED, Judged, guard_of
from keyturn.core.model import SecretRef
from keyturn.errors import Conflict, KeyturnError, NotFound
from keyturn.manifest import Manifest
from keyturn.rotate.schedule import Turn

if TYPE_CHECKING:
    from keyturn.app.session import Session
    from keyturn.app.waves import Ended

__all__ = ["Worker", "carry_out", "tick", "was_beaten"]

# Another run was faster, or may not be joined now: nothing is wrong.
_BEATEN = frozenset(
    {
        "rotation.running",
        "rotation.stale",
        "rotation.fenced",
        "rotation.none",
        PAIRED,
        FROZEN,
    }
)


class Worker(Protocol):
    """Does one thing at a time, in one thread."""

    def do(self, judged: Judged) -> Ended:
        """Rotate or resume what was judged."""
        ...

    def close(self) -> None:
        """Let go of what it holds, in its own thread."""
        ...


def tick(session: Session, judged: Sequence[Judged], *, at_once: int) -> Iterator[Ended]:
    """
    Do what is to be done of *judged*, and yield each end as it comes.

    One that fails stops nobody but those that depend on it.

    Args:
        at_once: How many run side by side, each with a connection of its own.
    """
    jobs = _in_order(session.manifest, [each for each in judged if each.to_do])
    if not jobs:
        return
    from keyturn.app.delivery import LateSeal

    turn = threading.Lock()
    session.database.take_turns(turn)
    late = LateSeal(session)
    for ended in carry_out(jobs, lambda: _SessionWorker(session, turn), at_once=at_once):
        late.moved(ended.ref.environment)
        yield ended
    late.seal()


def _in_order(manifest: Manifest, judged: Sequence[Judged]) -> list[Judged]:
    """Return *judged* with what is begun first, then by priority, each after what it needs."""
    if not judged:
        return []
    from keyturn.app.waves import waves_of

    refs = {each.ref for each in judged}
    ranks: dict[SecretRef, int] = {}
    for environment in dict.fromkeys(each.ref.environment for each in judged):
        for rank, wave in enumerate(waves_of(manifest, environment)):
            ranks |= {SecretRef(environment, secret.name): rank for secret in wave}

    jobs = [replace(each, after=_needs(manifest, each.ref) & refs) for each in judged]
    return sorted(jobs, key=lambda job: (job.decision.turn is Turn.ROTATE, ranks[job.ref], job.ref))


def _needs(manifest: Manifest, ref: SecretRef) -> frozenset[SecretRef]:
    """Return all that *ref* depends on, itself or through others."""
    found: set[SecretRef] = set()
    stack = [ref]
    while stack:
        secret = manifest.secret_in(ref.environment, stack.pop().name)
        new = {SecretRef(ref.environment, name) for name in secret.depends_on} - found
        found |= new
        stack += new
    return frozenset(found)


def carry_out(
    jobs: Sequence[Judged], hire: Callable[[], Worker], *, at_once: int
) -> Iterator[Ended]:
    """
    Do *jobs*, the first of them first, and yield each end as it comes.

    Args:
        jobs: None comes before one that it is `after`, but for resumed ones.
        hire: Makes a worker; called in its thread, at most *at_once* times at a time.
    """
    from keyturn.app.waves import Ended, WaveEnd

    tasks: queue.SimpleQueue[Judged | None] = queue.SimpleQueue()
    ends: queue.SimpleQueue[Ended] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_work, args=(hire, tasks, ends), name=f"rotation-{number}")
        for number in range(min(at_once, len(jobs)))
    ]
    for thread in threads:
        thread.start()
    waiting = {job.ref: job for job in jobs}
    running: set[SecretRef] = set()
    failed: set[SecretRef] = set()
    try:
        while waiting or running:
            for job in _ready(waiting, running, room=len(threads) - len(running)):
                del waiting[job.ref]
                if stopped := sorted(job.after & failed):
                    failed.add(job.ref)
                    text = f"`{stopped[0].name}`, which it depends on, failed"
                    yield Ended(job.ref, WaveEnd.SKIPPED, text)
                    continue
                running.add(job.ref)
                tasks.put(job)
            if not running:
                continue
            ended = ends.get()
            running.discard(ended.ref)
            if ended.end is WaveEnd.FAILED:
                failed.add(ended.ref)
            yield ended
    finally:
        for _ in threads:
            tasks.put(None)
        for thread in threads:
            thread.join()


def _ready(
    waiting: Mapping[SecretRef, Judged], running: Collection[SecretRef], *, room: int
) -> list[Judged]:
    found: list[Judged] = []
    for job in waiting.values():
        if len(found) >= room:
            break
        if not any(ref in waiting or ref in running for ref in job.after):
            found.append(job)
    return found


def _work(
    hire: Callable[[], Worker],
    tasks: queue.SimpleQueue[Judged | None],
    ends: queue.SimpleQueue[Ended],
) -> None:
    from keyturn.app.waves import fault_of

    worker: Worker | None = None
    try:
        while (job := tasks.get()) is not None:
            begun = time.monotonic()
            try:
                worker = worker or hire()
                ends.put(worker.do(job))
            except BaseException as error:  # noqa: BLE001 - whoever waits for an end gets one
                ends.put(fault_of(job.ref, error, time.monotonic() - begun))
                _let_go(worker)
                worker = None
    finally:
        if worker is not None:
            worker.close()


def _let_go(worker: Worker | None) -> None:
    # What it was at has failed already, and the next job gets a worker of its own.
    if worker is not None:
        with contextlib.suppress(Exception):
            worker.close()


class _SessionWorker:
    """
    Works with a session of its own.

    Args:
        turn: Held by whichever worker writes.
    """

    def __init__(self, session: Session, turn: threading.Lock) -> None:
        self._told = session.notes
        self._own = session.reopen()
        self._own.database.take_turns(turn)
        self._own.seals_late = True

    def do(self, judged: Judged) -> Ended:
        from keyturn.app.rotation import resume, rotate
        from keyturn.app.waves import Ended, WaveEnd

        ref, own, begun = judged.ref, self._own, time.monotonic()
        try:
            if judged.decision.turn is Turn.RESUME:
                report = resume(own, ref, now=False)
            else:
                guard = guard_of(own, ref)
                report = rotate(own, ref, now=False, judged=judged.version, guard=guard)
            report.require_success()
        except KeyturnError as error:
            seconds = time.monotonic() - begun
            if was_beaten(error):
                return Ended(ref, WaveEnd.SKIPPED, error.message, seconds)
            return Ended(ref, WaveEnd.FAILED, error.message, seconds, failure=error)
        end, text = WaveEnd.DONE, ""
        if report.rotation.is_open:
            end = WaveEnd.PERSON if report.rotation.waits_for_person else WaveEnd.WAITING
            text = report.rotation.error or ""
        return Ended(ref, end, text, time.monotonic() - begun, report=report)

    def close(self) -> None:
        self._told += [note for note in self._own.notes if note not in self._told]
        self._own.close()


def was_beaten(error: KeyturnError) -> bool:
    """Tell whether *error* only says that another run was faster, or has to end first."""
    return isinstance(error, Conflict | NotFound) and error.code in _BEATEN
