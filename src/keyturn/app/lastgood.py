"""What `run` goes by while a store of others does not answer: the last sealed bundle."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from keyturn import _fastread, fast
from keyturn.app.session import Session
from keyturn.core.ids import EnvironmentName
from keyturn.crypto import open_bundle
from keyturn.errors import Corrupt, KeyturnError
from keyturn.manifest import format_duration

__all__ = ["LastGood", "last_good"]

_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LastGood:
    """
    A bundle that was true when its store was last reached.

    Args:
        age_seconds: Since then.
    """

    bundle: fast.Bundle
    age_seconds: int


def last_good(session: Session, environment: EnvironmentName, failure: KeyturnError) -> LastGood:
    """
    Return the bundle of *environment* where the manifest lets it be used, and it is not too old.

    It has to be of the manifest that is there now, and of the values that Keyturn on
    this machine last made current: what it replaced itself is never served again.

    Args:
        failure: Of the store; raised, with the reason in its hint, where none can be used.
    """
    allowed = session.manifest.environments[environment].last_good
    if allowed is None:
        raise failure
    try:
        bundle, true_at = _opened(session, environment)
    except (OSError, KeyturnError, KeyError, ValueError, IndexError):
        raise _refused(failure, "there is no sealed bundle to go by") from failure
    age = int(session.clock.now().timestamp()) - true_at
    if age > allowed.total_seconds() or age < -fast.CLOCK_SKEW_SECONDS:
        seconds = format_duration(allowed)
        raise _refused(failure, f"the sealed bundle is older than last_good = {seconds}")
    with session.database.transaction():
        generation = session.bundles.generation(environment)
    if bundle.one(b"generation")[0].decode() != generation:
        raise _refused(failure, "a value was changed since the bundle was sealed")
    if b" ".join(bundle.one(b"manifest")).decode() != session.manifest_stamp:
        raise _refused(failure, "keyturn.toml was changed since the bundle was sealed")
    return LastGood(bundle, max(age, 0))


def _opened(session: Session, environment: EnvironmentName) -> tuple[fast.Bundle, int]:
    """Return the bundle, and the second in which its store was last known to hold the same."""
    path = Path(session.paths.bundles) / f"{environment}.age"
    identity = session.bundle_identity
    if identity is None:
        raise Corrupt("there is no key for it on disk")
    sealed = fast.read_private(str(path), _MAX_BYTES)
    bundle = fast.Bundle(open_bundle(sealed, identity).reveal())
    if bundle.one(b"store")[0].decode() != session.store_id:
        raise Corrupt("it is of another store")
    if bundle.one(b"environment")[0].decode() != environment:
        raise Corrupt("it is of another environment")
    stamp = b""
    with contextlib.suppress(OSError):
        path = session.keys / f"{_fastread.STAMP}.{environment}"
        stamp = fast.read_private(str(path), _fastread.STAMP_BYTES)
    checked = _fastread.checked_at(stamp, sealed)
    return bundle, max(checked, int(bundle.one(b"created")[0]))


def _refused(failure: KeyturnError, why: str) -> KeyturnError:
    failure.hint = f"{why}; {failure.hint or 'run the command again when the store answers'}"
    return failure
