"""Use cases: the status of every secret, and the retrieval test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from keyturn.app.generation import form_policy
from keyturn.app.rendering import check_rendered
from keyturn.app.rotation import probe_login
from keyturn.app.session import Session
from keyturn.audit import Action
from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef, VersionedValue
from keyturn.errors import KeyturnError
from keyturn.manifest import Secret, SecretKind
from keyturn.rotate import Rotation
from keyturn.verify import Severity, check_form, check_halves

__all__ = ["Check", "Result", "StatusRow", "Verdict", "prove_retrieval", "status"]


class Verdict(StrEnum):
    """How a secret stands against its schedule."""

    OK = "ok"
    DUE = "due"
    OVERDUE = "overdue"
    MISSING = "missing"
    ABSENT = "optional"
    ROTATING = "rotating"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class StatusRow:
    """
    One line of `keyturn status`.

    Args:
        created_at: When the current version was made; its age counts from here.
        due_at: When it reaches its max_age; None without one.
        last: The newest rotation, whatever became of it.
        consumers: Who uses it.
    """

    secret: Secret
    version: int | None
    created_at: datetime | None
    due_at: datetime | None
    verdict: Verdict
    last: Rotation | None
    open_rotation: Rotation | None
    consumers: Sequence[str]


# A secret is due for this last part of its life, so that there is time to act.
_DUE_PART = 0.1


def status(session: Session, environment: EnvironmentName) -> list[StatusRow]:
    """Return how every secret of *environment* stands; no value is read out."""
    session.access.read(Action.SECRET_STATUS, str(environment), environment=environment)
    declared = session.manifest.secrets_in(environment)
    current = session.store.read_many(environment, [secret.name for secret in declared])
    now = session.clock.now()
    return [
        _row(session, environment, secret, current.get(secret.name), now) for secret in declared
    ]


def _row(
    session: Session,
    environment: EnvironmentName,
    secret: Secret,
    held: VersionedValue | None,
    now: datetime,
) -> StatusRow:
    ref = SecretRef(environment, secret.name)
    live = session.journal.live(ref)
    created = held.version.created_at if held else None
    due = created + secret.max_age if created and secret.max_age else None
    return StatusRow(
        secret=secret,
        version=held.version.number if held else None,
        created_at=created,
        due_at=due,
        verdict=_verdict(secret, held, live, due, now),
        last=session.journal.last(ref),
        open_rotation=live,
        consumers=[c.name for c in session.manifest.consumers_of(environment, secret.name)],
    )


def _verdict(
    secret: Secret,
    held: VersionedValue | None,
    live: Rotation | None,
    due: datetime | None,
    now: datetime,
) -> Verdict:
    if live is not None:
        return Verdict.STUCK if live.state.value == "stuck" else Verdict.ROTATING
    if held is None or not set(secret.fields) <= set(held.values):
        return Verdict.MISSING if secret.required else Verdict.ABSENT
    if due is None or secret.max_age is None:
        return Verdict.OK
    if now >= due:
        return Verdict.OVERDUE
    return Verdict.DUE if now >= due - secret.max_age * _DUE_PART else Verdict.OK


class Result(StrEnum):
    """What a check of the retrieval test found."""

    PASS = "pass"  # noqa: S105 - a word, not a password
    FAIL = "fail"
    WARN = "warn"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """
    One check of the retrieval test.

    Args:
        subject: A secret or a delivered file.
        check: `present`, `form`, `halves`, `live`, `age` or `delivered`.
        detail: What was seen, in words that hold no value.
    """

    subject: str
    check: str
    result: Result
    detail: str = ""


def prove_retrieval(
    session: Session, environment: EnvironmentName, names: Sequence[str]
) -> Iterator[Check]:
    """
    Yield what each check finds; go on after a failure.

    Checks that each secret is present, well-formed, strong and no placeholder,
    that halves of a pair match, that it is not overdue, that a login works, and
    that delivered copies are current.

    Args:
        names: Only these secrets; delivered copies are then left out.
    """
    session.access.read(Action.VALUE_PROBE, str(environment), environment=environment)
    rows = {row.secret.name: row for row in status(session, environment)}
    wanted = {session.manifest.secret_in(environment, name).name for name in names} or set(rows)
    current = session.store.read_many(environment, list(rows))
    for name, row in rows.items():
        if name not in wanted:
            continue
        yield from _secret_checks(session, environment, row, current.get(name))
    if not names:
        yield from _delivered_checks(session, environment)


def _secret_checks(
    session: Session,
    environment: EnvironmentName,
    row: StatusRow,
    held: VersionedValue | None,
) -> Iterator[Check]:
    secret = row.secret
    lacking = [f for f in secret.fields if held is None or f not in held.values]
    if held is None or lacking:
        detail = "no value" if held is None else f"lacks {', '.join(lacking)}"
        if not secret.required:
            yield Check(secret.name, "present", Result.SKIPPED, f"{detail}; optional")
            return
        yield Check(secret.name, "present", Result.FAIL, detail)
    if held is None:
        return
    if not lacking:
        yield Check(secret.name, "present", Result.PASS, f"version {held.version.number}")
    yield from _form_checks(secret, held)
    if row.verdict is Verdict.OVERDUE and row.due_at is not None:
        days = (session.clock.now() - row.due_at) // timedelta(days=1)
        yield Check(secret.name, "age", Result.WARN, f"overdue for {days} days")
    yield from _live_checks(session, environment, secret)


def _form_checks(secret: Secret, held: VersionedValue) -> Iterator[Check]:
    policy = form_policy(secret)
    found = [
        finding
        for field in secret.fields
        if field in held.values and field not in secret.identifiers
        for finding in check_form(str(secret.kind), field, held.values[field], policy)
    ]
    found += check_halves(str(secret.kind), held.values)
    for finding in found:
        result = Result.FAIL if finding.severity is Severity.BAD else Result.WARN
        yield Check(secret.name, "form", result, f"{finding.subject} {finding.message}")
    if not found:
        yield Check(secret.name, "form", Result.PASS)


def _live_checks(session: Session, environment: EnvironmentName, secret: Secret) -> Iterator[Check]:
    if secret.kind is not SecretKind.POSTGRES_LOGIN:
        if secret.spec.rotates or secret.kind in _LOCAL_KINDS:
            return
        yield Check(secret.name, "live", Result.SKIPPED, f"no probe for `{secret.kind}` yet")
        return
    if not secret.target:
        yield Check(
            secret.name, "live", Result.SKIPPED, "the manifest describes no target to log in to"
        )
        return
    try:
        evidence = probe_login(session, environment, secret)
    except KeyturnError as error:
        yield Check(secret.name, "live", Result.FAIL, error.message)
        return
    yield Check(secret.name, "live", Result.PASS, f"{evidence.method}: {evidence.detail}")


# Nobody outside could be asked whether these are right.
_LOCAL_KINDS = frozenset(
    {SecretKind.SESSION_SECRET, SecretKind.ENCRYPTION_KEY, SecretKind.JWT_SIGNING_KEY}
)


def _delivered_checks(session: Session, environment: EnvironmentName) -> Iterator[Check]:
    try:
        results = check_rendered(session, environment, None)
    except KeyturnError as error:
        yield Check("delivered files", "delivered", Result.FAIL, error.message.partition("\n")[0])
        return
    for result in results:
        verdict = Result.FAIL if result.differences else Result.PASS
        detail = "; ".join(result.differences) or result.state
        yield Check(f"{result.consumer} {result.path.name}", "delivered", verdict, detail)
