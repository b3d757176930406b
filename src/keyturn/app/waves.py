"""
Use case: rotate many secrets, in order of priority and dependency, in waves.

A wave is what may run side by side. A secret comes after all that it depends on, and
what a more urgent one depends on is as urgent as that. One that fails stops nobody but
those that depend on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

from keyturn.app.delivery import LateSeal
from keyturn.app.kinds import by_hand, needs_target
from keyturn.app.rotation import rotate
from keyturn.app.session import Session
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef
from keyturn.errors import InternalError, KeyturnError
from keyturn.manifest import Manifest, Priority, Secret
from keyturn.rotate import Report, State

__all__ = ["Ended", "WaveEnd", "fault_of", "rotate_waves", "waves_of"]

_URGENCY = {word: place for place, word in enumerate(Priority)}


class WaveEnd(StrEnum):
    """What became of one secret."""

    DONE = "done"
    WAITING = "waiting"
    FAILED = "failed"
    PERSON = "person"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Ended:
    """
    What became of one secret of a wave.

    Args:
        text: Why, where it was not done: what is missing, or what a person must do.
        failure: What stopped it, where something did.
    """

    ref: SecretRef
    end: WaveEnd
    text: str = ""
    seconds: float = 0.0
    report: Report | None = None
    failure: KeyturnError | None = None


def fault_of(ref: SecretRef, error: BaseException, seconds: float) -> Ended:
    """Return the end of *ref* that *error*, which its worker met, makes of it."""
    failure = error
    if not isinstance(failure, KeyturnError):
        # The text of a foreign exception may hold anything, so only its kind is shown.
        failure = InternalError(f"a fault in Keyturn: {type(error).__name__}")
        failure.__cause__ = error
    return Ended(ref, WaveEnd.FAILED, failure.message, seconds, failure=failure)


def waves_of(
    manifest: Manifest, environment: EnvironmentName, *, priority: str | None = None
) -> list[list[Secret]]:
    """
    Return the secrets of *environment* in waves, most urgent first.

    Args:
        priority: Only those of this priority; what they depend on is left alone.
    """
    secrets = {secret.name: secret for secret in manifest.secrets_in(environment)}
    urgency = _urgencies(manifest, environment, secrets)
    chosen = [secret for secret in secrets.values() if priority in (None, secret.priority.value)]
    places: dict[SecretName, tuple[int, int]] = {}
    for name in manifest.order(environment):
        before = [places[other] for other in secrets[name].depends_on if other in places]
        depth = max((place[1] for place in before if place[0] == urgency[name]), default=-1) + 1
        places[name] = (urgency[name], depth)
    found: dict[tuple[int, int], list[Secret]] = {}
    for secret in chosen:
        found.setdefault(places[secret.name], []).append(secret)
    return [found[place] for place in sorted(found)]


def _urgencies(
    manifest: Manifest, environment: EnvironmentName, secrets: Mapping[SecretName, Secret]
) -> dict[SecretName, int]:
    urgency = {name: _URGENCY[secret.priority] for name, secret in secrets.items()}
    for name in reversed(manifest.order(environment)):
        for other in secrets[name].depends_on:
            urgency[other] = min(urgency[other], urgency[name])
    return urgency


def rotate_waves(
    session: Session,
    environment: EnvironmentName,
    waves: Sequence[Sequence[Secret]],
    *,
    now: bool,
    at_once: int,
    begun: Callable[[SecretRef], None] | None = None,
) -> Iterator[Ended]:
    """
    Rotate *waves* one after the other, and yield each secret's end as it comes.

    Args:
        at_once: How many of a wave run side by side, each with a connection of its own.
        begun: Told of each as it starts, from its own thread.
    """
    failed: set[SecretName] = set()
    turn = threading.Lock()
    session.database.take_turns(turn)
    late = LateSeal(session)
    for wave in waves:
        ready: list[Secret] = []
        for secret in wave:
            ended = _unready(session, environment, secret, failed)
            if ended is None:
                ready.append(secret)
                continue
            yield ended
        with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="rotation") as pool:
            futures: list[Future[Ended]] = [
                pool.submit(
                    _rotate_one,
                    session,
                    SecretRef(environment, secret.name),
                    now=now,
                    begun=begun,
                    turn=turn,
                )
                for secret in ready
            ]
            for future in as_completed(futures):
                ended = future.result()
                if ended.end is WaveEnd.FAILED:
                    failed.add(ended.ref.name)
                late.moved(environment)
                yield ended
    late.seal()


def _unready(
    session: Session, environment: EnvironmentName, secret: Secret, failed: set[SecretName]
) -> Ended | None:
    ref = SecretRef(environment, secret.name)
    blocked = [name for name in secret.depends_on if name in failed]
    if blocked:
        failed.add(secret.name)
        return Ended(ref, WaveEnd.SKIPPED, f"`{blocked[0]}`, which it depends on, failed")
    if session.store.state(ref).current is None:
        return Ended(ref, WaveEnd.SKIPPED, "it has no value yet")
    if session.journal.live(ref) is not None:
        # Such as one in its grace: to rotate it again is not what was asked.
        resume = f"`keyturn rotate --resume {secret.name} -e {environment}` goes on with it"
        return Ended(ref, WaveEnd.WAITING, f"a rotation of it is open; {resume}")
    person = by_hand(secret, environment)
    if person is not None:
        return Ended(ref, WaveEnd.PERSON, person)
    lacking = needs_target(secret)
    if lacking is not None:
        return Ended(ref, WaveEnd.PERSON, lacking)
    return None


def _rotate_one(
    session: Session,
    ref: SecretRef,
    *,
    now: bool,
    begun: Callable[[SecretRef], None] | None,
    turn: threading.Lock,
) -> Ended:
    started = time.monotonic()
    if begun is not None:
        begun(ref)
    try:
        with closing(session.reopen()) as own:
            own.database.take_turns(turn)
            own.seals_late = True
            report = rotate(own, ref, now=now)
            report.require_success()
    except BaseException as error:  # noqa: BLE001 - a plug-in's exit is no end of the program
        return fault_of(ref, error, time.monotonic() - started)
    end = WaveEnd.DONE if report.rotation.state is State.DONE else WaveEnd.WAITING
    text = "" if report.waiting is None else report.waiting.message
    return Ended(ref, end, text, time.monotonic() - started, report=report)
