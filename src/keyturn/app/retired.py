"""Which versions of a secret are over: what may not come back by accident, or ought to be dead."""

from __future__ import annotations

from keyturn.app.session import Session
from keyturn.core.ids import EnvironmentName, FieldName
from keyturn.core.model import SecretRef, Values, VersionedValue
from keyturn.errors import NotFound, VerificationFailed
from keyturn.manifest import Manifest, SecretKind
from keyturn.rotate import Rotation, State, Step

__all__ = [
    "ENDED",
    "MAX_TRIED",
    "earlier_values",
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
# Of these nobody can be asked, and the old one is of no use all the same: the endpoint that
# signs with it is gone, and its ring lacks the key that everything is encrypted with now.
_OVER = ENDED | {SecretKind.STRIPE_WEBHOOK_SECRET, SecretKind.ENCRYPTION_KEY}
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
        The newest, `MAX_TRIED` of them at most; then the number of those left out.
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
    for number in sorted(shells, reverse=True)[:MAX_TRIED]:
        try:
            held = session.store.read(ref, number)
        except NotFound:
            continue  # destroyed since
        if not any(_is_same(held.values, other) for other in (in_use, *(f.values for f in found))):
            found.append(held)
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
        words = _end(rotation, number)
        if words is None:
            continue
        day = f"{rotation.finished_at or rotation.updated_at:%Y-%m-%d}"
        where = f"{ref.name} -e {ref.environment}"
        raise VerificationFailed(
            f"version {number} of `{ref}` {words} by the rotation of {day}: what it opened"
            " does not take it any more",
            hint=f"`keyturn rotate {where}` makes a new one; where you have made it valid"
            f" again yourself: `keyturn rollback {where} --to {number} --force`",
            code="version.retired",
        )


def _end(rotation: Rotation, number: int) -> str | None:
    """Return how *rotation* ended version *number*; None where it did not, or nobody knows."""
    if rotation.plan.kind not in _OVER:
        return None
    proved = rotation.state is State.GIVEN_UP and rotation.step is Step.PROVE
    if rotation.plan.old_version == number and (rotation.state is State.DONE or proved):
        return "was ended"
    if rotation.new_version == number and rotation.state is State.ROLLED_BACK:
        return "was taken back"
    return None


def undeclared_rotations(session: Session, environment: EnvironmentName) -> list[Rotation]:
    """Return the open rotations of *environment* whose secret the manifest no longer has."""
    declared = {secret.name for secret in session.manifest.secrets_in(environment)}
    return [
        rotation
        for rotation in session.journal.all_live()
        if rotation.ref.environment == environment and rotation.ref.name not in declared
    ]


def way_out(manifest: Manifest, ref: SecretRef) -> str:
    """Return what goes on with the open rotation of *ref*, or ends it, as a person types it."""
    where = f"{ref.name} -e {ref.environment}"
    environment = manifest.environments.get(ref.environment)
    reason = " --reason 'WHY'" if environment is not None and environment.protected else ""
    resume = f"`keyturn rotate --resume {where}{reason}`"
    if environment is None:
        return f"put the environment `{ref.environment}` back into keyturn.toml, then {resume}"
    if any(secret.name == ref.name for secret in manifest.secrets_in(ref.environment)):
        return resume
    return (
        f"put `{ref.name}` back into keyturn.toml and {resume}; or end it where it is, and look"
        f" at the target: `keyturn rotate {where} --give-up{reason}`"
    )
