"""
Trying values where they belong, side by side: whoever does not answer holds nobody else up.

Each probe has a thread of its own and a time limit. A thread cannot be ended from
outside, so one whose time is up is left behind: it does no harm, and ends with the
process. What a probe needs of the store is read before, in the caller's thread.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from keyturn.app.checks import Check, Result
from keyturn.app.kinds import needs_target
from keyturn.core.clock import Clock
from keyturn.core.model import Values, VersionedValue
from keyturn.core.ports import RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Unavailable, UsageError, VerificationFailed
from keyturn.manifest import Secret, SecretKind

__all__ = [
    "PROBE_SECONDS",
    "Probe",
    "live_check",
    "not_asked",
    "retired_check",
    "side_by_side",
]

# Our own programs alone know these, or nobody knows who could be asked.
_NOBODY_KNOWS = frozenset({SecretKind.SESSION_SECRET, SecretKind.GENERATED, SecretKind.GUIDED})

AT_ONCE = 8
PROBE_SECONDS = 30.0
# What a kind says that had nobody to ask.
NOT_TRIED = "not tried"
NOT_PROVEN = "not proven"


@dataclass(frozen=True, slots=True)
class Probe:
    """
    One thing to find out by asking somebody.

    Args:
        subject: What its checks are about.
        check: The name of the check that fails where there is no answer in time.
        ask: Returns what was found; it may take long, and never come back.
    """

    subject: str
    check: str
    ask: Callable[[], Iterable[Check]]


def side_by_side(
    probes: Iterable[Probe],
    *,
    clock: Clock,
    seconds: float = PROBE_SECONDS,
    say: Callable[[str], None] | None = None,
) -> Iterator[list[Check]]:
    """
    Yield what each of *probes* found, as each comes back.

    Args:
        seconds: How long each may take.
        say: Told which ones are being waited for.
    """
    waiting = deque(probes)
    running: dict[int, tuple[Probe, float]] = {}
    answers: queue.SimpleQueue[tuple[int, list[Check]]] = queue.SimpleQueue()
    number = 0
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            number += 1
            probe = waiting.popleft()
            running[number] = (probe, clock.monotonic())
            threading.Thread(target=_answer, args=(number, probe, answers), daemon=True).start()
        if say is not None:
            names = ", ".join(dict.fromkeys(probe.subject for probe, _ in running.values()))
            say(f"{len(running) + len(waiting)} to go: {names}")
        first = min(begun for _, begun in running.values())
        try:
            who, found = answers.get(timeout=max(0.0, first + seconds - clock.monotonic()))
        except queue.Empty:
            yield from _given_up(running, clock.monotonic(), seconds)
            continue
        if who in running:
            _, begun = running.pop(who)
            yield _timed(found, clock.monotonic() - begun)


def _answer(number: int, probe: Probe, answers: queue.SimpleQueue[tuple[int, list[Check]]]) -> None:
    try:
        found = list(probe.ask())
    except KeyturnError as error:
        found = [_failed(probe.subject, probe.check, error)]
    except BaseException as error:  # noqa: BLE001 - a plug-in's fault fails its own check, no other
        # Its type alone: the text of a foreign exception may carry a value.
        words = f"the probe itself broke: {type(error).__name__}"
        found = [Check(probe.subject, probe.check, Result.FAIL, words)]
    answers.put((number, found))


def _given_up(
    running: dict[int, tuple[Probe, float]], now: float, seconds: float
) -> Iterator[list[Check]]:
    for who, (probe, begun) in list(running.items()):
        if now - begun >= seconds:
            del running[who]
            words = f"unreachable: no answer within {seconds:g} s"
            found = Check(probe.subject, probe.check, Result.FAIL, words, unreachable=True)
            yield _timed([found], now - begun)


def _timed(found: list[Check], seconds: float) -> list[Check]:
    # Where one question gave several answers, the time stands at the first.
    return [replace(check, seconds=seconds) for check in found[:1]] + found[1:]


def not_asked(secret: Secret) -> str | None:
    """Return why there is nobody to try *secret* on; None where there may be somebody."""
    if secret.kind in _NOBODY_KNOWS or not secret.spec.rotates:
        return "not tried: there is nobody to ask; its form was looked at"
    lacking = needs_target(secret)
    if lacking is not None:
        return f"the manifest describes no target to try it on; {lacking}"
    return None


def live_check(subject: str, kind: RotationKind, values: Values) -> Check:
    """Return what using *values* at their target showed."""
    try:
        evidence = kind.probe(values)
    except KeyturnError as error:
        return _failed(subject, "live", error)
    words = f"{evidence.method}: {evidence.detail}"
    result = Result.SKIPPED if evidence.method == NOT_TRIED else Result.PASS
    return Check(subject, "live", result, words)


def retired_check(
    subject: str,
    kind: RotationKind,
    olds: Sequence[VersionedValue],
    *,
    current: Values,
    untried: int = 0,
    used: bool = True,
    in_use: int | None = None,
) -> Check:
    """
    Return whether *olds*, versions that are no longer in use, are refused.

    Of those whose failures are counted against one identity only the first is tried: a
    system that locks it after some would lock whoever uses it.

    Args:
        olds: At least one.
        untried: How many more there are.
        used: Whether using one of them tells that it works.
        in_use: The number of the version that is in use.
    """
    found: list[Check] = []
    counted: list[SecretValue] = []
    spared = 0
    for old in olds:
        which = f"version {old.version.number}"
        check = _looked_up(subject, kind, old, current)
        if check is None:
            against = kind.counted_on(old.values)
            if against is not None and against in counted:
                spared += 1
                continue
            if against is not None:
                counted.append(against)
            still = f"{which} is no longer in use and still works"
            if old.version.number == in_use:
                still = f"{which} was ended by a rotation and is in use again"
            # Once is waited for, as long as the target may need to forget one.
            waited = used and any(each.result is Result.FAIL for each in found)
            check = _tried(subject, kind, old, current, still=still, waited=waited)
        found.append(check)
    failed = [check for check in found if check.result is Result.FAIL]
    words = "; ".join(check.detail for check in failed or found)
    if spared:
        words += f"; {spared} not tried: their failures would count against the login in use"
    if untried:
        words += f"; {untried} older not tried"
    skipped = any(check.result is Result.SKIPPED for check in found)
    result = Result.FAIL if failed else Result.SKIPPED if skipped else Result.PASS
    return Check(subject, "retired", result, words)


def _looked_up(
    subject: str, kind: RotationKind, old: VersionedValue, current: Values
) -> Check | None:
    """Return what the target says of *old* without a try of it; None where it does not."""
    which = f"version {old.version.number}"
    try:
        evidence = kind.ask_dead(old.values, current=current)
    except VerificationFailed as error:
        words = f"{which} is no longer in use and still works: {error.message}"
        return Check(subject, "retired", Result.FAIL, words)
    if evidence is None:
        return None
    words = f"{which}: {evidence.method}: {evidence.detail}"
    return Check(subject, "retired", Result.PASS, words)


def _tried(
    subject: str,
    kind: RotationKind,
    old: VersionedValue,
    current: Values,
    *,
    still: str,
    waited: bool,
) -> Check:
    which = f"version {old.version.number}"
    try:
        if waited:
            return _used_once(subject, kind, old, still=still)
        evidence = kind.prove_dead(old.values, current=current)
    except VerificationFailed as error:
        return Check(subject, "retired", Result.FAIL, f"{still}: {error.message}")
    except KeyturnError as error:
        words = f"{which} could not be tried: {error.message}"
        return Check(subject, "retired", Result.SKIPPED, words)
    result = Result.SKIPPED if evidence.method == NOT_PROVEN else Result.PASS
    return Check(subject, "retired", result, f"{which}: {evidence.method}: {evidence.detail}")


def _used_once(subject: str, kind: RotationKind, old: VersionedValue, *, still: str) -> Check:
    try:
        evidence = kind.probe(old.values)
    except VerificationFailed as error:
        words = f"version {old.version.number}: {error.message}"
        return Check(subject, "retired", Result.PASS, words)
    words = f"{still}: {evidence.method}: {evidence.detail}"
    return Check(subject, "retired", Result.FAIL, words)


def _failed(subject: str, check: str, error: KeyturnError) -> Check:
    message = error.message.partition("\n")[0]
    if isinstance(error, UsageError):
        hint = f"; {error.hint}" if error.hint else ""
        return Check(subject, check, Result.SKIPPED, f"{message}{hint}")
    if isinstance(error, Unavailable):
        words = message if "unreachable" in message else f"unreachable: {message}"
        return Check(subject, check, Result.FAIL, words, unreachable=True)
    return Check(subject, check, Result.FAIL, message)
