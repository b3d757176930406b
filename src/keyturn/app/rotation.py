"""Use case: rotate a secret, resume what was interrupted, and change Keyturn's own keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from keyturn._internal import durable
from keyturn.app.delivery import refresh_bundle
from keyturn.app.generation import Generated, GenerateOutcome
from keyturn.app.kinds import by_hand, kind_of
from keyturn.app.probing import not_asked
from keyturn.app.reloading import remove_unused
from keyturn.app.rendering import ConsumerDelivery, require_places
from keyturn.app.retired import way_out
from keyturn.app.session import BUNDLE_KEY, Session, write_bundle_key
from keyturn.audit import Action, Outcome
from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef, Stage, Values
from keyturn.core.ports import Evidence, RotationKind, Supplier
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, NotFound, UsageError
from keyturn.manifest import Secret, Strategy, format_duration
from keyturn.rotate import (
    Listener,
    Plan,
    Rehearsed,
    Report,
    Rotation,
    Runner,
    Step,
    rehearsal_token,
    rehearse,
    steps_ahead,
)
from keyturn.stores import ResealProgress, rotate_root_key

__all__ = [
    "PlanLine",
    "asks_no_value",
    "awaits_value",
    "give_birth",
    "give_up",
    "open_rotations",
    "plan_rotation",
    "probe_secret",
    "rehearsal",
    "resume",
    "rotate",
    "rotate_data_keys",
    "rotate_root",
    "turn_back",
    "unseen_consumers",
]


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One step of a dry run, and what would happen in it."""

    step: str
    text: str


# The steps that change what is current.
_MOVING = frozenset({Step.PROMOTE.value, Step.DEMOTE.value, Step.ADVANCE.value})


class _Recorder:
    """Hands the runner's records to the choke point, in the transaction that is open."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def record(
        self, action: str, subject: str, outcome: str, detail: Mapping[str, str | int]
    ) -> None:
        access = self._session.access
        access.record(Action(action), subject, Outcome(outcome), detail)
        moved = detail.get("step") in _MOVING and outcome == Outcome.DONE
        if action == Action.ROTATION_STEP_FINISH and moved:
            # So that `secret.version.*` tells every change of what is current.
            access.record(Action.VERSION_PROMOTE, subject, Outcome.DONE, detail)


def rotate(
    session: Session,
    ref: SecretRef,
    *,
    now: bool,
    supplier: Supplier | None = None,
    listener: Listener | None = None,
    say: Callable[[str], None] | None = None,
    judged: int | None = None,
    guard: Callable[[], None] | None = None,
) -> Report:
    """
    Rotate *ref* as far as it goes in this run.

    Args:
        now: Without waiting, for the grace or between phases.
        supplier: Whom to ask for a value that only a person can fetch.
        judged: The version that was found due; None to rotate whatever is current.
        guard: Raises where it may not begin; called when nobody else can begin one.

    Raises:
        UsageError: This kind cannot be rotated, or its target is not described.
        Conflict: A rotation of it is under way, or *judged* is no longer current.
        AccessDenied: The environment is protected and no reason was given.
        DeliveryError: A consumer's file stands where Keyturn may not write.
    """
    session.access.authorise(Action.ROTATION_BEGIN, str(ref), environment=ref.environment)
    session.access.require_reason(ref.environment)
    secret = session.manifest.secret_in(ref.environment, ref.name)
    require_places(session, ref)
    kind = kind_of(session, ref.environment, secret, supplier=supplier)
    plan = _plan(session, ref, secret, kind)
    if judged is not None:
        # Another process may have rotated it since: the runner compares with what is current.
        plan = replace(plan, old_version=judged)
    runner = _runner(session, ref, listener, say)
    return _tidied(session, runner.start(ref, kind, plan, now=now, guard=guard))


def resume(
    session: Session,
    ref: SecretRef,
    *,
    now: bool,
    supplier: Supplier | None = None,
    listener: Listener | None = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """
    Go on with the rotation of *ref* that was interrupted, waits, or is stuck.

    Raises:
        NotFound: None is open, or the manifest no longer has the secret.
        Conflict: A living process holds it.
        AccessDenied: The environment is protected and no reason was given.
    """
    kind = _kind_as_begun(session, ref, supplier)
    return _tidied(session, _runner(session, ref, listener, say).resume(ref, kind, now=now))


def _kind_as_begun(session: Session, ref: SecretRef, supplier: Supplier | None) -> RotationKind:
    """Return the steps of the rotation of *ref* that is open, for whoever may go on with it."""
    session.access.authorise(Action.ROTATION_RESUME, str(ref), environment=ref.environment)
    session.access.require_reason(ref.environment)
    open_one = session.journal.live(ref)
    if open_one is None:
        raise NotFound(
            f"no rotation of `{ref}` is open",
            hint=f"`keyturn rotate {ref.name} -e {ref.environment}` starts one",
            code="rotation.none",
        )
    secret = _declared(session, ref)
    # The manifest may have been edited since.
    strategy = open_one.plan.strategy
    if secret.strategy is not None and strategy in list(Strategy):
        secret = replace(secret, strategy=Strategy(strategy))
    return kind_of(session, ref.environment, secret, supplier=supplier)


def turn_back(
    session: Session,
    ref: SecretRef,
    *,
    listener: Listener | None = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """
    Take the open rotation of *ref* back: the old version is current and delivered again.

    Raises:
        NotFound: None is open, or the manifest no longer has the secret.
        Conflict: The old credential may have been ended already, or a living process
            holds the rotation.
        AccessDenied: The environment is protected and no reason was given.
    """
    kind = _kind_as_begun(session, ref, None)
    return _tidied(session, _runner(session, ref, listener, say).turn_back(ref, kind))


def _tidied(session: Session, report: Report) -> Report:
    """Remove what only the grace had kept, where the rotation is over."""
    if not report.rotation.is_open:
        remove_unused(session, report.rotation.ref.environment)
    return report


def _declared(session: Session, ref: SecretRef) -> Secret:
    try:
        return session.manifest.secret_in(ref.environment, ref.name)
    except NotFound as error:
        raise NotFound(
            f"the rotation of `{ref}` is open, and keyturn.toml no longer has the secret",
            hint=way_out(session.manifest, ref),
            code="rotation.undeclared",
        ) from error


def unseen_consumers(session: Session, ref: SecretRef) -> list[str]:
    """Return the consumers of *ref* that have neither a reload nor a health check."""
    return [
        str(consumer.name)
        for consumer in session.manifest.consumers_of(ref.environment, ref.name)
        if consumer.reload is None and consumer.health is None
    ]


def give_up(session: Session, ref: SecretRef) -> Report:
    """
    End the open rotation of *ref* where it is; a person cleans up at the target.

    Raises:
        NotFound: None is open.
        Conflict: A living process holds it.
    """
    session.access.authorise(Action.ROTATION_RESUME, str(ref), environment=ref.environment)
    session.access.require_reason(ref.environment)
    report = _runner(session, ref, None, None).give_up(ref)
    refresh_bundle(session, ref.environment)
    return report


def open_rotations(session: Session) -> list[Rotation]:
    """Return every rotation that has not ended, oldest first."""
    return session.journal.all_live()


def awaits_value(session: Session, ref: SecretRef) -> bool:
    """Tell whether a rotation of *ref* is open, held by nobody, for want of a new value."""
    found = session.journal.live(ref)
    return (
        found is not None
        and found.step is Step.CREATE
        and not session.journal.is_held(found)
        and asks_no_value(session, ref) is None
    )


def asks_no_value(session: Session, ref: SecretRef) -> str | None:
    """Return why a rotation of *ref* asks nobody for a value; None where it will."""
    secret = session.manifest.secret_in(ref.environment, ref.name)
    if not secret.spec.rotates or by_hand(secret, ref.environment) is None:
        return f"a `{secret.kind}` gets its value from no person"
    found = session.journal.live(ref)
    if found is not None and found.step is not Step.CREATE:
        return f"its rotation is open at `{found.step}`, and has its value"
    return None


def plan_rotation(session: Session, ref: SecretRef, *, now: bool) -> list[PlanLine]:
    """
    Return what a rotation of *ref* would do; nothing is touched.

    Raises:
        UsageError: This kind cannot be rotated, or its target is not described.
    """
    session.access.read(Action.SECRET_STATUS, str(ref), environment=ref.environment)
    secret = session.manifest.secret_in(ref.environment, ref.name)
    kind = kind_of(session, ref.environment, secret)
    plan = _plan(session, ref, secret, kind)
    if now:
        plan = plan.without_waits
    state = session.store.state(ref)
    said: dict[str, list[str]] = {}
    person: list[str] = []
    for step, text in kind.describe(_current_values(session, ref)):
        if step == Step.CREATE and by_hand(secret, ref.environment) is not None:
            person.append(text)
        else:
            said.setdefault(step, []).append(text)
    consumers = [c.name for c in session.manifest.consumers_of(ref.environment, ref.name)]
    number, phase = state.next_number, 0
    # What a person does comes before what is done with it, a line each.
    lines = [
        PlanLine(Step.CREATE.value, f"you, {place} of {len(person)}: {text}")
        for place, text in enumerate(person, 1)
    ]
    for step in steps_ahead(plan):
        known = {
            "create": f"version {number} is stored as pending",
            "promote": f"version {number} becomes current",
            "deliver": f"version {number} to "
            + (", ".join(consumers) if consumers else "nobody: it has no consumer"),
            "grace": f"old and new are both valid; wait {_span(plan.wait_seconds(phase))}",
            "advance": f"version {number + 1} is made from it and becomes current",
        }
        text = "; ".join(filter(None, (known.get(step.value), _said_of(step, said, phase))))
        lines.append(PlanLine(step.value, text or "nothing to do for this kind"))
        if step is Step.ADVANCE:
            number, phase = number + 1, phase + 1
    lines += [
        PlanLine(step, text)
        for step, texts in said.items()
        if step not in _STEP_NAMES
        for text in texts
    ]
    return lines


_STEP_NAMES = frozenset(step.value for step in Step)


def _said_of(step: Step, said: Mapping[str, Sequence[str]], phase: int) -> str:
    """Return what the kind says of *step* in *phase*; of `advance` it has a line for each."""
    texts = said.get(step.value, ())
    if step is Step.ADVANCE:
        texts = texts[phase : phase + 1]
    elif step is Step.DELIVER and phase:
        # What it says of the delivery is of the first version that is delivered.
        texts = ()
    return "; ".join(texts)


def _span(seconds: int) -> str:
    return format_duration(timedelta(seconds=seconds))


def give_birth(session: Session, environment: EnvironmentName, result: Generated) -> Generated:
    """
    Give a secret that opens a target its first value, there and in the store.

    Raises:
        KeyturnError: The target refused, or did not answer; the secret still has no value.
    """
    ref = SecretRef(environment, result.secret.name)
    report = rotate(session, ref, now=True)
    report.require_success()
    version = report.rotation.new_version
    return Generated(result.secret, GenerateOutcome.MADE, version=version)


def probe_secret(session: Session, environment: EnvironmentName, secret: Secret) -> Evidence:
    """
    Use the current values of *secret* where they belong, harmlessly.

    Raises:
        VerificationFailed: They are refused.
        Unavailable: No answer.
        UsageError: The manifest does not say where to try them.
    """
    held = session.store.read(SecretRef(environment, secret.name), Stage.CURRENT)
    return kind_of(session, environment, secret, administer=False).probe(held.values)


def rehearsal(session: Session, ref: SecretRef) -> Iterator[Rehearsed]:
    """
    Go through a rotation of *ref* on a throw-away credential; nothing is stored.

    Raises:
        UsageError: This kind cannot be rehearsed, or its target is not described.
        AccessDenied: The environment is protected and no reason was given.

    Audit:
        `rotation.plan.rehearse`: begun before the first step, then its outcome.
    """
    access = session.access
    access.authorise(Action.ROTATION_REHEARSE, str(ref), environment=ref.environment)
    access.require_reason(ref.environment)
    secret = session.manifest.secret_in(ref.environment, ref.name)
    kind = kind_of(session, ref.environment, secret).rehearsal()
    if kind is None:
        raise _no_rehearsal(ref, secret)
    token = rehearsal_token(ref)
    begun = access.record(Action.ROTATION_REHEARSE, str(ref), Outcome.BEGUN)
    outcome = Outcome.FAILED
    try:
        failed = False
        for line in rehearse(kind, _current_values(session, ref), token=token):
            failed = failed or line.failure is not None
            yield line
        outcome = Outcome.FAILED if failed else Outcome.DONE
    finally:
        access.settle(begun, outcome)


def _no_rehearsal(ref: SecretRef, secret: Secret) -> UsageError:
    where = f"{ref.name} -e {ref.environment}"
    plan = f"`keyturn rotate {where} --dry-run` shows the plan"
    why = "there is no throw-away one"
    if by_hand(secret, ref.environment) is not None:
        why = "a person makes the new one, so there is no throw-away one to try"
        tried = "looks at the form of the one in use: nothing can be asked about it"
        if not_asked(secret) is None:
            tried = "tries the one in use, and changes nothing"
        plan = (
            f"`keyturn test {where}` {tried}; `keyturn rotate {where} --dry-run` shows what"
            " the person will do"
        )
    return UsageError(
        f"a `{secret.kind}` cannot be rehearsed: {why}", hint=plan, code="rotation.rehearsal"
    )


def _current_values(session: Session, ref: SecretRef) -> Values | None:
    if session.store.state(ref).current is None:
        return None
    return session.store.read(ref, Stage.CURRENT).values


def _plan(session: Session, ref: SecretRef, secret: Secret, kind: RotationKind) -> Plan:
    grace = int(secret.grace.total_seconds())
    return Plan(
        kind=str(secret.kind),
        strategy=str(secret.strategy or "default"),
        old_version=session.store.state(ref).current,
        overlaps=kind.overlaps,
        grace_seconds=kind.first_wait(grace),
        reversible=kind.reversible,
        later_waits=tuple(kind.later_waits(grace)),
    )


def _runner(
    session: Session,
    ref: SecretRef,
    listener: Listener | None,
    say: Callable[[str], None] | None,
) -> Runner:
    return Runner(
        database=session.database,
        store=session.store,
        journal=session.journal,
        audit=_Recorder(session),
        delivery=ConsumerDelivery(session, say=say),
        clock=session.clock,
        entropy=session.entropy,
        listener=listener,
        joins=session.store.of(ref.environment).capabilities.transactional,
        swept=(rehearsal_token(ref),),
    )


def rotate_root(session: Session, *, phrase: SecretValue | None) -> Path:
    """
    Change the root key, and the key of the sealed bundles with it; return their folder.

    Args:
        phrase: Take the new root key from this passphrase instead of a key file.

    Raises:
        KeyturnError: The key folder cannot be written; the old key goes on.

    Crash safety:
        Whatever it dies at, the key that the store needs is on disk. Once it has
        ended, no bundle is left that the old key opens.
    """
    with session.access.change(Action.ROOT_KEY_ROTATE, "root-key") as notes:
        rotate_root_key(
            session.database,
            session.embedded.keys,
            home=session.keys,
            phrase=phrase,
            entropy=session.entropy,
        )
        notes["root_key"] = "key-file" if phrase is None else "passphrase"
        # Under the write lock, which whoever seals a bundle holds too.
        session.bundles.remove_all()
        if phrase is None:
            write_bundle_key(session.keys, replace_old=True)
        else:
            durable.unlink(session.keys / BUNDLE_KEY)
    return session.keys


def rotate_data_keys(session: Session) -> ResealProgress:
    """
    Seal every value under a new data key, or finish what was begun.

    Crash safety:
        Each batch is durable; called again it goes on.
    """
    session.access.authorise(Action.DATA_KEY_ROTATE, "data-key", environment=None)
    begun = session.access.record(Action.DATA_KEY_ROTATE, "data-key", Outcome.BEGUN)
    try:
        progress = session.embedded.rotate_data_key()
    except KeyturnError:
        session.access.settle(begun, Outcome.FAILED)
        raise
    session.access.settle(begun, Outcome.DONE)
    return progress
