"""Use case: the retrieval test, which proves that every secret is there, is right and works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from keyturn import deliver
from keyturn.app.checks import Check, Result, value_checks
from keyturn.app.copies import read_copy, versions_of
from keyturn.app.delivery import resolve
from keyturn.app.denied import denied_outside
from keyturn.app.drift import drift_words
from keyturn.app.inspection import StatusRow, Verdict, status
from keyturn.app.kinds import kind_of
from keyturn.app.probing import (
    PROBE_SECONDS,
    Probe,
    live_check,
    not_asked,
    retired_check,
    side_by_side,
)
from keyturn.app.rendering import check_rendered
from keyturn.app.retired import ENDED, earlier_values, ended_values
from keyturn.app.session import Session
from keyturn.audit import Action
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef, VersionedValue
from keyturn.core.ports import RotationKind
from keyturn.errors import KeyturnError, NotFound, Unavailable, UsageError
from keyturn.manifest import Consumer, Render, SecretKind
from keyturn.rotate import State, Step

__all__ = ["Wanted", "prove_retrieval"]

_HEALTH_SECONDS = 5.0
# Where a stuck rotation has not shown that the old credential is dead.
_ENDING = frozenset({Step.RETIRE, Step.PROVE})


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What to test.

    Args:
        names: Only these secrets; what is delivered and denied is then left out.
        consumer: Only what this one is given.
        probe_seconds: How long each target may take to answer.
    """

    names: Sequence[str] = ()
    consumer: str | None = None
    probe_seconds: float = PROBE_SECONDS


@dataclass(frozen=True, slots=True)
class _Trial:
    """A secret whose values can be tried."""

    row: StatusRow
    held: VersionedValue
    kind: RotationKind


def prove_retrieval(
    session: Session,
    environment: EnvironmentName,
    wanted: Wanted,
    *,
    say: Callable[[str], None] | None = None,
) -> Iterator[Check]:
    """
    Yield what each check finds; go on after a failure.

    Checks that each secret is present, well-formed, strong and no placeholder, that its
    parts belong together, that it is not overdue, that it works and the one before it
    does not, that delivered copies and running consumers have the current versions, and
    that nobody reads what must be denied.

    Args:
        say: Told what is being waited for.

    Raises:
        NotFound: No such secret or consumer.

    Audit:
        `secret.value.probe`, before any value is used.
    """
    detail = {} if wanted.consumer is None else {"consumer": wanted.consumer}
    chosen = _chosen(session, environment, wanted)
    session.access.read(
        Action.VALUE_PROBE, str(environment), environment=environment, detail=detail
    )
    rows = [row for row in status(session, environment) if row.secret.name in chosen]
    current = session.store.read_many(environment, [row.secret.name for row in rows])
    trials: list[_Trial] = []
    for row in rows:
        held = current.get(row.secret.name)
        yield from _value_checks(session, row, held)
        if held is not None:
            found = _trial(session, environment, row, held)
            if isinstance(found, Check):
                yield found
            else:
                trials.append(found)
    # Before any thread is started: a process with threads is no place to fork in.
    denied = [] if wanted.names else list(_denied(session, environment, wanted))
    yield from _tried(session, environment, trials, wanted, say)
    if not wanted.names:
        yield from _consumer_checks(session, environment, wanted, say)
    yield from denied


def _chosen(session: Session, environment: EnvironmentName, wanted: Wanted) -> set[SecretName]:
    manifest = session.manifest
    if wanted.consumer is not None:
        given = manifest.consumer_secrets(wanted.consumer, environment)
    else:
        given = manifest.secrets_in(environment)
    found = {secret.name for secret in given}
    named = {manifest.secret_in(environment, name).name for name in wanted.names}
    strangers = sorted(named - found)
    if strangers:
        raise NotFound(
            f"`{wanted.consumer}` is not given `{strangers[0]}`",
            hint="leave out the name, or `--consumer`",
        )
    return named or found


# --- values ------------------------------------------------------------------------------


def _value_checks(session: Session, row: StatusRow, held: VersionedValue | None) -> Iterator[Check]:
    secret = row.secret
    lacking = [f for f in secret.fields if held is None or f not in held.values]
    if held is None or lacking:
        detail = "no value" if held is None else f"lacks {', '.join(lacking)}"
        result = Result.FAIL if secret.required else Result.SKIPPED
        optional = "" if secret.required else "; optional"
        yield Check(secret.name, "present", result, f"{detail}{optional}")
    else:
        yield Check(secret.name, "present", Result.PASS, f"version {held.version.number}")
    if row.drift is not None:
        words = drift_words(row.drift)
        yield Check(secret.name, "drift", Result.FAIL, words)
    if held is None:
        return
    yield from value_checks(secret, held.values)
    if row.verdict is Verdict.OVERDUE and row.overdue_at is not None:
        days = (session.clock.now() - row.overdue_at) // timedelta(days=1)
        yield Check(secret.name, "age", Result.WARN, f"overdue for {max(days, 0)} days")


# --- targets -----------------------------------------------------------------------------


def _trial(
    session: Session, environment: EnvironmentName, row: StatusRow, held: VersionedValue
) -> _Trial | Check:
    """Return what is needed to try a secret, read in this thread; or why it is not tried."""
    secret = row.secret

    def skipped(why: str) -> Check:
        return Check(secret.name, "live", Result.SKIPPED, why)

    if any(field not in held.values for field in secret.fields):
        return skipped("not tried: it is not whole")
    why = not_asked(secret)
    if why is not None:
        return skipped(why)
    try:
        kind = kind_of(session, environment, secret, administer=False)
    except UsageError as error:
        return skipped(f"{error.message}; {error.hint}" if error.hint else error.message)
    except KeyturnError as error:
        return Check(secret.name, "live", Result.FAIL, error.message.partition("\n")[0])
    return _Trial(row, held, kind)


def _tried(
    session: Session,
    environment: EnvironmentName,
    trials: Sequence[_Trial],
    wanted: Wanted,
    say: Callable[[str], None] | None,
) -> Iterator[Check]:
    by_name = {str(trial.row.secret.name): trial for trial in trials}
    working = []
    for found in side_by_side(
        [_live(name, trial) for name, trial in by_name.items()],
        clock=session.clock,
        seconds=wanted.probe_seconds,
        say=say,
    ):
        yield from found
        working += [check.subject for check in found if check.result is Result.PASS]
    # Only then: of a target that refuses what is in use, a refusal would prove nothing.
    ended = []
    for name in working:
        trial = by_name[name]
        is_signing = trial.row.secret.kind is SecretKind.JWT_SIGNING_KEY
        probe = (_published_again if is_signing else _retired)(session, environment, trial)
        if isinstance(probe, Check):
            yield probe
        elif probe is not None:
            ended.append(probe)
    for found in side_by_side(ended, clock=session.clock, seconds=wanted.probe_seconds, say=say):
        yield from found


def _live(name: str, trial: _Trial) -> Probe:
    return Probe(name, "live", lambda: [live_check(name, trial.kind, trial.held.values)])


def _retired(session: Session, environment: EnvironmentName, trial: _Trial) -> Probe | Check | None:
    """Return the trial of the versions before the one in use; None where there is none to try."""
    secret = trial.row.secret
    if secret.kind not in ENDED:
        return None
    ref = SecretRef(environment, secret.name)
    number = session.store.state(ref).previous
    name = str(secret.name)
    open_one = trial.row.open_rotation
    if open_one is not None and number is not None:
        if open_one.state is State.STUCK and open_one.step in _ENDING:
            words = f"version {number} is not proven dead: the rotation is stuck at"
            return Check(name, "retired", Result.FAIL, f"{words} `{open_one.step}`")
        words = f"version {number} may still work: a rotation is open"
        return Check(name, "retired", Result.SKIPPED, words)
    if open_one is not None:
        return None
    current = trial.held.values
    olds, more = earlier_values(session, ref, frozenset(secret.fields), in_use=current)
    if not olds:
        return None

    def ask() -> list[Check]:
        return [retired_check(name, trial.kind, olds, current=current, untried=more)]

    return Probe(name, "retired", ask)


def _published_again(session: Session, environment: EnvironmentName, trial: _Trial) -> Probe | None:
    """Return the trial of signing keys that a rotation ended: verifiers shall not know them."""
    secret, name = trial.row.secret, str(trial.row.secret.name)
    if trial.row.open_rotation is not None:
        return None
    ref = SecretRef(environment, secret.name)
    olds, more = ended_values(session, ref, frozenset(secret.fields))
    if not olds:
        return None
    current, number = trial.held.values, trial.held.version.number

    def ask() -> list[Check]:
        check = retired_check(
            name, trial.kind, olds, current=current, untried=more, used=False, in_use=number
        )
        return [check]

    return Probe(name, "retired", ask)


# --- consumers ---------------------------------------------------------------------------


def _consumer_checks(
    session: Session,
    environment: EnvironmentName,
    wanted: Wanted,
    say: Callable[[str], None] | None,
) -> Iterator[Check]:
    manifest = session.manifest
    consumers = [
        consumer
        for consumer in manifest.resolved_consumers[environment].values()
        if wanted.consumer in {None, consumer.name}
    ]
    for consumer in consumers:
        if consumer.render is not None:
            yield from _delivered_checks(session, environment, consumer, consumer.render)
    versions = {
        name: version.number
        for name, version in session.store.current_versions(
            environment, [secret.name for secret in manifest.secrets_in(environment)]
        ).items()
    }
    moving = {
        rotation.ref.name
        for rotation in session.journal.all_live()
        if rotation.ref.environment == environment
    }
    asked = [
        _health(consumer, {n: versions[n] for n in consumer.secrets if n in versions}, moving)
        for consumer in consumers
        if consumer.health is not None
    ]
    for found in side_by_side(asked, clock=session.clock, seconds=wanted.probe_seconds, say=say):
        yield from found


def _delivered_checks(
    session: Session, environment: EnvironmentName, consumer: Consumer, render: Render
) -> Iterator[Check]:
    subject = f"{consumer.name} {render.path.rpartition('/')[2]}"
    try:
        results = check_rendered(session, environment, consumer.name)
        ought = resolve(session, environment, consumer.name).versions
    except KeyturnError as error:
        yield Check(subject, "delivered", Result.FAIL, error.message.partition("\n")[0])
        return
    for result in results:
        if not result.differences:
            words = f"{result.state}: {deliver.versions_text(ought)}"
            yield Check(subject, "delivered", Result.PASS, words)
            continue
        words = "; ".join(result.differences)
        stale = _stale(session, render, ought)
        yield Check(subject, "delivered", Result.FAIL, f"{words}{stale}")


def _stale(session: Session, render: Render, ought: Mapping[SecretName, int]) -> str:
    try:
        held = versions_of(read_copy(session.paths.folder, render))
    except (OSError, KeyturnError):
        return ""
    if held is None:
        return ""
    behind = [
        f"{name}={held.get(name, 'none')} instead of {number}"
        for name, number in ought.items()
        if held.get(name) != number
    ]
    return f": it holds {', '.join(behind)}" if behind else ""


def _health(consumer: Consumer, versions: dict[SecretName, int], moving: set[SecretName]) -> Probe:
    def ask() -> list[Check]:
        return [_healthy(consumer, versions, moving)]

    return Probe(str(consumer.name), "health", ask)


def _healthy(consumer: Consumer, versions: dict[SecretName, int], moving: set[SecretName]) -> Check:
    found = Check(str(consumer.name), "health", Result.PASS)
    if consumer.health is None:
        raise ValueError("a consumer without a health check was asked for it")
    seen = deliver.look_at(
        consumer.health.url,
        consumer.health.versions,
        versions,
        timeout_seconds=min(consumer.health.timeout.total_seconds(), _HEALTH_SECONDS),
    )
    if seen.status is None:
        raise Unavailable(f"unreachable: no answer at `{consumer.health.url.partition('?')[0]}`")
    if not 200 <= seen.status < 300:  # noqa: PLR2004 - HTTP's own
        return replace(found, result=Result.FAIL, detail=f"answers {seen.status}")
    if consumer.health.versions is None:
        return replace(found, detail=f"{seen}; it names no versions")
    other = {
        name: seen.versions[name]
        for name, number in versions.items()
        if seen.versions.get(name, number) != number
    }
    if other:
        words = ", ".join(f"{n}={told} instead of {versions[n]}" for n, told in other.items())
        still = all(name in moving for name in other)
        result = Result.WARN if still else Result.FAIL
        return replace(found, result=result, detail=f"runs on {words}")
    untold = sorted(set(versions) - set(seen.versions))
    if untold and not seen.versions:
        words = f"names no version at `{consumer.health.versions}`"
        return replace(found, result=Result.FAIL, detail=words)
    more = f"; says nothing of {', '.join(untold)}" if untold else ""
    return replace(found, detail=f"{seen}{more}")


def _denied(session: Session, environment: EnvironmentName, wanted: Wanted) -> Iterator[Check]:
    for check in denied_outside(session.manifest, environment, session.paths, session.keys):
        if wanted.consumer is None or check.subject in {"store", wanted.consumer}:
            yield check
