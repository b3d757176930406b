"""Use case: what others did to the values of a store that is theirs as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.app.delivery import refresh_bundle
from keyturn.app.secrets import find_secret, refuse_during_rotation
from keyturn.app.session import Session
from keyturn.audit import Action
from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef, Version
from keyturn.core.ports import Drift, DriftKind, WatchedStore
from keyturn.errors import Conflict, UsageError

__all__ = ["Drifted", "accept", "discard", "drift_words", "find_drifts", "restore"]


@dataclass(frozen=True, slots=True)
class Drifted:
    """
    A secret that is not as Keyturn left it.

    Args:
        drift: What others did; None where only a version is pending.
        pending: What is pending, and no rotation of this project knows of it.
    """

    ref: SecretRef
    drift: Drift | None
    pending: Version | None


def drift_words(drift: Drift) -> str:
    """Return what happened, for a line."""
    since = f" since version {drift.recorded}" if drift.recorded else ""
    return f"the live value was {drift.kind}{since}, and not by Keyturn: see `keyturn drift`"


def find_drifts(
    session: Session, environment: EnvironmentName, names: Sequence[str]
) -> list[Drifted]:
    """
    Return what is not as Keyturn left it; no value is read out.

    Raises:
        UsageError: Nobody else can write to the store of *environment*.
    """
    store = _watched(session, environment)
    session.access.read(Action.SECRET_STATUS, str(environment), environment=environment)
    secrets = session.manifest.secrets_in(environment)
    wanted = {find_secret(session, environment, name).name for name in names}
    drifts = store.drifts(environment, {secret.name: tuple(secret.fields) for secret in secrets})
    states = store.states(environment)
    found = []
    for name in sorted(drifts.keys() | states.keys()):
        ref = SecretRef(environment, name)
        state = states.get(name)
        number = None if state is None else state.pending
        pending = None
        if number is not None and session.journal.live(ref) is None:
            pending = next(each for each in store.history(ref) if each.number == number)
        if (name in drifts or pending is not None) and (not wanted or name in wanted):
            found.append(Drifted(ref, drifts.get(name), pending))
    return found


def accept(session: Session, drifted: Drifted) -> Version:
    """
    Take what others put there as a new version, which is then current.

    Raises:
        Conflict: A rotation of the secret is open, or a version is pending.
        NotFound: Not all of its fields are live.
    """
    ref = drifted.ref
    fields = tuple(session.manifest.secret_in(ref.environment, ref.name).fields)
    if drifted.drift is not None and drifted.drift.kind is DriftKind.REMOVED:
        raise Conflict(
            f"the value of `{ref}` was removed, so there is nothing to accept",
            hint=f"`keyturn drift {ref.name} -e {ref.environment} --restore` puts it back",
            code="store.drift",
        )
    with session.changing(Action.VERSION_ACCEPT, str(ref), environment=ref.environment) as notes:
        refuse_during_rotation(session, ref)
        version = _watched(session, ref.environment).accept(ref, fields)
        notes["version"] = version.number
    _renew(session, ref.environment)
    return version


def restore(session: Session, drifted: Drifted) -> Version:
    """
    Put the recorded version back where others changed or removed it.

    Raises:
        Conflict: A rotation of the secret is open.
        NotFound: No version is recorded.
    """
    ref = drifted.ref
    with session.changing(Action.VERSION_RESTORE, str(ref), environment=ref.environment) as notes:
        refuse_during_rotation(session, ref)
        version = _watched(session, ref.environment).restore(ref)
        notes["version"] = version.number
    _renew(session, ref.environment)
    return version


def discard(session: Session, drifted: Drifted) -> None:
    """
    Give up a version that is pending and that no rotation of this project knows of.

    Raises:
        Conflict: A rotation of the secret is open, or another version is pending.
    """
    ref, pending = drifted.ref, drifted.pending
    if pending is None:
        return
    with session.changing(Action.VERSION_DISCARD, str(ref), environment=ref.environment) as notes:
        refuse_during_rotation(session, ref)
        session.store.discard_pending(ref, pending.number)
        notes["version"] = pending.number


def _renew(session: Session, environment: EnvironmentName) -> None:
    session.bundles.invalidate(environment)
    refresh_bundle(session, environment)


def _watched(session: Session, environment: EnvironmentName) -> WatchedStore:
    store = session.store.watched(environment)
    if store is None:
        raise UsageError(
            f"the store of `{environment}` is Keyturn's own: nobody else writes to it",
            hint="`keyturn doctor` looks whether it is sound",
        )
    return store
