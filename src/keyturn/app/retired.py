"""Which versions of a secret are over: what may not come back by accident, or ought to be dead."""

from __future__ import annotations

import contextlib

from keyturn.app.session import Session
from keyturn.core.ids import EnvironmentName, FieldName, Token
from keyturn.core.model import SecretRef, Values, VersionedValue
from keyturn.errors import NotFound, VerificationFailed
from keyturn.manifest import Manifest, SecretKind
from keyturn.rotate import Rotation, State, Step

__all__ = [
    "ENDED",
    "MAX_TRIED",
    "earlier_values",
    "ended_values",
    "reason_flag",
    "require_not_retired",
    "undeclared_rotations",
    "way_out",
]

# Whoever is asked can tell an old one of these from the one in use; of the rest, what is
# signed or encrypted with the old one goes on being readable, and ought to.
ENDED = frozenset(
    {
        SecretKind.POSTGRES_LOGIN,
        SecretKind.REDIS_LOGIN,
        SecretKind.OPENAI_KEY,
        SecretKind.SENDGRID_KEY,
        SecretKind.STRIPE_KEY,
        SecretKind.TWITCH_APP,
        SecretKind.VAULT_APPROLE,
        SecretKind.AWS_ACCESS_KEY,
        SecretKind.SSH_KEY,
        SecretKind.COMMAND,
        SecretKind.EXTERNAL,
    }
)
# Of this nobody can be asked, and the old one is of no use all the same: the endpoint that
# signs with it is gone.
_OVER = ENDED | {SecretKind.STRIPE_WEBHOOK_SECRET}
# Every version before the end of a rotation of these has the key that it ended, which would
# be accepted again, and none has the key that everything was signed or encrypted with since.
_KEYS = frozenset(
    {SecretKind.JWT_SIGNING_KEY, SecretKind.SESSION_SECRET, SecretKind.ENCRYPTION_KEY}
)
# So many of the earlier versions are tried: a target may count failed logins.
MAX_TRIED = 5


def earlier_values(
    session: Session, ref: SecretRef, fields: frozenset[FieldName], *, in_use: Values
) -> tuple[list[VersionedValue], int]:
    """
    Return what the store still has of the versions that are not in use, and how many more.

    Args:
        fields: Those that a version must have to be tried.
        in_use: Whoever holds the same values again is left out.

    Returns:
        `MAX_TRIED` of them at most, those that a rotation was given up over first, then
        the newest; then the number of those left out.
    """
    state = session.store.state(ref)
    shells = [
        version.number
        for version in session.store.history(ref)
        if not version.destroyed
        and fields <= set(version.fields)
        and version.number not in (state.current, state.pending)
    ]
    found: list[VersionedValue] = []
    left = _left_to_a_person(session, ref)
    for number in sorted(shells, key=lambda n: (n in left, n), reverse=True)[:MAX_TRIED]:
        try:
            held = session.store.read(ref, number)
        except NotFound:
            continue  # destroyed since
        if not any(_is_same(held.values, other) for other in (in_use, *(f.values for f in found))):
            found.append(held)
    return found, max(0, len(shells) - MAX_TRIED)


def _left_to_a_person(session: Session, ref: SecretRef) -> set[int | None]:
    given_up = [each for each in session.journal.history(ref) if each.state is State.GIVEN_UP]
    return {number for each in given_up for number in (each.plan.old_version, each.new_version)}


def ended_values(
    session: Session, ref: SecretRef, fields: frozenset[FieldName]
) -> tuple[list[VersionedValue], int]:
    """
    Return what the store still has of the versions that a finished rotation proved dead.

    Args:
        fields: Those that a version must have to be tried.

    Returns:
        As `earlier_values`; one that is in use again is among them.
    """
    ended = {
        rotation.plan.old_version
        for rotation in session.journal.history(ref)
        if rotation.state is State.DONE
    }
    shells = sorted(
        (
            version.number
            for version in session.store.history(ref)
            if version.number in ended and not version.destroyed and fields <= set(version.fields)
        ),
        reverse=True,
    )
    found: list[VersionedValue] = []
    for number in shells[:MAX_TRIED]:
        with contextlib.suppress(NotFound):  # destroyed since
            found.append(session.store.read(ref, number))
    return found, max(0, len(shells) - MAX_TRIED)


def _is_same(old: Values, other: Values) -> bool:
    return all(old.get(field) == value for field, value in other.items())


def require_not_retired(session: Session, ref: SecretRef, number: int) -> None:
    """
    Return where no rotation is known to have ended version *number* of *ref*.

    Raises:
        VerificationFailed: One has; what it opened does not take it any more.
    """
    for rotation in session.journal.history(ref):
        words = _end(session, rotation, number)
        if words is None:
            continue
        why = "what it opened does not take it any more"
        if rotation.plan.kind in _KEYS:
            why = "a key that was ended would be in use again"
        day = f"{rotation.finished_at or rotation.updated_at:%Y-%m-%d}"
        where = f"{ref.name} -e {ref.environment}"
        reason = reason_flag(session.manifest, ref.environment)
        raise VerificationFailed(
            f"version {number} of `{ref}` {words} by the rotation of {day}: {why}",
            hint=f"`keyturn rotate {where}{reason}` makes a new one; where you have made it valid"
            f" again yourself: `keyturn rollback {where} --to {number} --force{reason}`",
            code="version.retired",
        )


def _end(session: Session, rotation: Rotation, number: int) -> str | None:
    """Return how *rotation* ended version *number*; None where it did not, or nobody knows."""
    last, old = rotation.new_version, rotation.plan.old_version
    done = rotation.state is State.DONE
    if rotation.plan.kind in _KEYS:
        ended = done and old is not None and last is not None and number < last
        return "was ended" if ended else None
    if rotation.plan.kind not in _OVER:
        return None
    done = done or (rotation.state is State.GIVEN_UP and rotation.step is Step.PROVE)
    if done and number in (old, *_earlier_phases(session, rotation)):
        return "was ended"
    if rotation.new_version == number and rotation.state is State.ROLLED_BACK:
        return "was taken back"
    return None


def _earlier_phases(session: Session, rotation: Rotation) -> list[int]:
    """Return the versions of *rotation* that its own last phase took the place of."""
    tokens = [rotation.id, *(f"{rotation.id}.{phase}" for phase in range(1, rotation.phase))]
    if not rotation.phase or rotation.plan.old_version is None:
        return []
    found = [session.store.find(rotation.ref, Token(token)) for token in tokens]
    return [version.number for version in found if version is not None]


def undeclared_rotations(session: Session, environment: EnvironmentName) -> list[Rotation]:
    """Return the open rotations of *environment* whose secret the manifest no longer has."""
    declared = {secret.name for secret in session.manifest.secrets_in(environment)}
    return [
        rotation
        for rotation in session.journal.all_live()
        if rotation.ref.environment == environment and rotation.ref.name not in declared
    ]


def reason_flag(manifest: Manifest, environment: EnvironmentName) -> str:
    """Return what a command that changes *environment* needs besides, as a person types it."""
    found = manifest.environments.get(environment)
    return " --reason 'WHY'" if found is not None and found.protected else ""


def way_out(manifest: Manifest, ref: SecretRef) -> str:
    """Return what goes on with the open rotation of *ref*, or ends it, as a person types it."""
    where = f"{ref.name} -e {ref.environment}"
    environment = manifest.environments.get(ref.environment)
    reason = reason_flag(manifest, ref.environment)
    resume = f"`keyturn rotate --resume {where}{reason}`"
    if environment is None:
        return f"put the environment `{ref.environment}` back into keyturn.toml, then {resume}"
    if any(secret.name == ref.name for secret in manifest.secrets_in(ref.environment)):
        return resume
    return (
        f"put `{ref.name}` back into keyturn.toml and {resume}; or end it where it is, and look"
        f" at the target: `keyturn rotate {where} --give-up{reason}`"
    )
