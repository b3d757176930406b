"""Use case: rotate a secret, resume what was interrupted, and change Keyturn's own keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from keyturn._internal import durable
from keyturn.app.delivery import refresh_bundle
from keyturn.app.generation import Generated, GenerateOutcome, make_values
from keyturn.app.rendering import ConsumerDelivery
from keyturn.app.session import BUNDLE_KEY, Session, write_bundle_key
from keyturn.audit import Action, Outcome
from keyturn.core.ids import EnvironmentName, FieldName
from keyturn.core.model import SecretRef, Stage
from keyturn.core.ports import Evidence, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Missing, NotFound, UsageError
from keyturn.manifest import Secret, SecretKind, Strategy
from keyturn.rotate import Listener, Plan, Report, Rotation, Runner, steps_ahead
from keyturn.stores import ResealProgress, rotate_root_key
from keyturn.targets import Generated as GeneratedKind
from keyturn.targets import InPlace, PostgresTarget, TwoLogins, probe

__all__ = [
    "PlanLine",
    "give_birth",
    "give_up",
    "open_rotations",
    "plan_rotation",
    "probe_login",
    "resume",
    "rotate",
    "rotate_data_keys",
    "rotate_root",
    "unseen_consumers",
]

_PASSWORD = FieldName("password")
_USERNAME = FieldName("username")


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One step of a dry run, and what would happen in it."""

    step: str
    text: str


class _Recorder:
    """Hands the runner's records to the choke point, in the transaction that is open."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def record(
        self, action: str, subject: str, outcome: str, detail: Mapping[str, str | int]
    ) -> None:
        access = self._session.access
        access.record(Action(action), subject, Outcome(outcome), detail)
        moved = detail.get("step") in ("promote", "demote") and outcome == Outcome.DONE
        if action == Action.ROTATION_STEP_FINISH and moved:
            # So that `secret.version.*` tells every change of what is current.
            access.record(Action.VERSION_PROMOTE, subject, Outcome.DONE, detail)


def rotate(
    session: Session,
    ref: SecretRef,
    *,
    now: bool,
    listener: Listener | None = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """
    Rotate *ref* as far as it goes in this run.

    Args:
        now: Without grace.

    Raises:
        UsageError: This kind cannot be rotated, or its target is not described.
        Conflict: A rotation of it is under way.
        AccessDenied: The environment is protected and no reason was given.
    """
    session.access.authorise(Action.ROTATION_BEGIN, str(ref), environment=ref.environment)
    session.access.require_reason(ref.environment)
    secret = session.manifest.secret_in(ref.environment, ref.name)
    kind = kind_of(session, ref.environment, secret)
    runner = _runner(session, listener, say)
    return runner.start(ref, kind, _plan(session, ref, secret, kind), now=now)


def resume(
    session: Session,
    ref: SecretRef,
    *,
    now: bool,
    listener: Listener | None = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """
    Go on with the rotation of *ref* that was interrupted, waits, or is stuck.

    Raises:
        NotFound: None is open.
        Conflict: A living process holds it.
    """
    session.access.authorise(Action.ROTATION_RESUME, str(ref), environment=ref.environment)
    open_one = session.journal.live(ref)
    if open_one is None:
        raise NotFound(
            f"no rotation of `{ref}` is open",
            hint=f"`keyturn rotate {ref.name} -e {ref.environment}` starts one",
            code="rotation.none",
        )
    secret = session.manifest.secret_in(ref.environment, ref.name)
    # As it was begun: the manifest may have been edited since.
    strategy = open_one.plan.strategy
    if secret.strategy is not None and strategy in list(Strategy):
        secret = replace(secret, strategy=Strategy(strategy))
    kind = kind_of(session, ref.environment, secret)
    return _runner(session, listener, say).resume(ref, kind, now=now)


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
    report = _runner(session, None, None).give_up(ref)
    refresh_bundle(session, ref.environment)
    return report


def open_rotations(session: Session) -> list[Rotation]:
    """Return every rotation that has not ended, oldest first."""
    return session.journal.all_live()


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
        plan = replace(plan, grace_seconds=0)
    state = session.store.state(ref)
    current = None
    if state.current is not None:
        current = session.store.read(ref, Stage.CURRENT).values
    said = dict(kind.describe(current))
    consumers = [c.name for c in session.manifest.consumers_of(ref.environment, ref.name)]
    known = {
        "create": f"version {state.next_number} is generated and stored as pending",
        "promote": f"version {state.next_number} becomes current",
        "deliver": "to " + (", ".join(consumers) if consumers else "nobody: it has no consumer"),
        "grace": f"both are valid for {plan.grace_seconds} seconds",
    }
    lines = []
    for step in steps_ahead(plan):
        text = "; ".join(filter(None, (known.get(step.value), said.get(step.value))))
        lines.append(PlanLine(step.value, text or "nothing to do for this kind"))
    lines += [PlanLine(step, text) for step, text in said.items() if step not in _STEP_NAMES]
    return lines


_STEP_NAMES = frozenset(
    {"create", "apply", "check", "promote", "deliver", "grace", "retire", "prove"}
)


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


def kind_of(session: Session, environment: EnvironmentName, secret: Secret) -> RotationKind:
    """
    Return the steps for *secret*.

    Raises:
        UsageError: This kind cannot be rotated, or its target is not described.
        Missing: The secret that administers its target has no value.
    """

    def make_password() -> SecretValue:
        named = replace(secret, identity={_USERNAME: "unused"})
        return make_values(named, entropy=session.entropy)[_PASSWORD]

    if secret.kind is SecretKind.GENERATED:
        return GeneratedKind(make=lambda: make_values(secret, entropy=session.entropy))
    if secret.kind is not SecretKind.POSTGRES_LOGIN:
        raise UsageError(
            f"a `{secret.kind}` is not rotated by this version",
            hint=f"make the new value where it comes from, then `keyturn set {secret.name} "
            f"-e {environment}` and restart its consumers",
            code="rotation.kind",
        )
    target = _postgres_target(session, environment, secret)
    if secret.strategy is Strategy.IN_PLACE:
        return InPlace(target, make_password=make_password)
    return TwoLogins(target, make_password=make_password)


def probe_login(session: Session, environment: EnvironmentName, secret: Secret) -> Evidence:
    """
    Log in with the current values of *secret*, and nothing else.

    Raises:
        VerificationFailed: They are refused.
        Unavailable: No answer.
    """
    held = session.store.read(SecretRef(environment, secret.name), Stage.CURRENT)
    target = _postgres_target(session, environment, secret, administer=False)
    return probe(target, held.values)


def _postgres_target(
    session: Session, environment: EnvironmentName, secret: Secret, *, administer: bool = True
) -> PostgresTarget:
    asked = secret.target or {}
    if "host" not in asked or (administer and "admin" not in asked):
        raise UsageError(
            f"the manifest does not say where `{secret.name}` logs in, or who may change it",
            hint=f"describe `[secrets.{secret.name}.target]`: host, port, database, and `admin`, "
            "the secret that holds a login which may administer others",
            code="rotation.target",
        )
    admin = (
        _admin(session, environment, str(asked["admin"]))
        if administer
        else {_USERNAME: SecretValue(b""), _PASSWORD: SecretValue(b"")}
    )
    logins = asked.get("logins")
    return PostgresTarget(
        host=str(asked["host"]),
        port=int(str(asked.get("port", 5432))),
        database=str(asked.get("database", "postgres")),
        sslmode=str(asked.get("sslmode", "prefer")),
        admin_user=admin[_USERNAME].reveal_text(),
        admin_password=admin[_PASSWORD],
        owner_role=str(asked["owner_role"]) if "owner_role" in asked else None,
        logins=(str(logins[0]), str(logins[1])) if isinstance(logins, tuple) else None,
        ca_file=str(asked["sslrootcert"]) if "sslrootcert" in asked else None,
    )


def _admin(
    session: Session, environment: EnvironmentName, name: str
) -> Mapping[FieldName, SecretValue]:
    secret = session.manifest.secret_in(environment, name)
    held = session.store.read_many(environment, [secret.name]).get(secret.name)
    lacking = [
        field for field in (_USERNAME, _PASSWORD) if held is None or field not in held.values
    ]
    if held is None or lacking:
        raise Missing(
            f"`{environment}/{name}`, the administering login, lacks {', '.join(lacking)}",
            [f"{name}.{field}" for field in lacking],
            hint=f"`keyturn set {name} -e {environment}`",
        )
    return held.values


def _plan(session: Session, ref: SecretRef, secret: Secret, kind: RotationKind) -> Plan:
    return Plan(
        kind=str(secret.kind),
        strategy=str(secret.strategy or "default"),
        old_version=session.store.state(ref).current,
        overlaps=kind.overlaps,
        grace_seconds=int(secret.grace.total_seconds()),
    )


def _runner(
    session: Session, listener: Listener | None, say: Callable[[str], None] | None
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
