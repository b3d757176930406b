"""Use case: the value that is current, read so that the next read is quick."""

from __future__ import annotations

from keyturn.app.delivery import refresh_bundle
from keyturn.app.secrets import get_value, record_read
from keyturn.app.session import Session
from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Sealed, Unavailable

__all__ = ["get_current"]


def get_current(session: Session, environment: EnvironmentName, text: str) -> SecretValue:
    """
    Return the current value that *text* names, and seal the bundle that the next read goes by.

    The record is durable before the value is returned. What keeps the bundle from being
    sealed keeps nobody from the value.

    Raises:
        NotFound: It has no value.
    """
    name, field = session.manifest.find_field(text, environment)
    try:
        content = refresh_bundle(session, environment)
    except KeyturnError as error:
        content = None  # another secret's fault, perhaps: this one is read by itself
        if error.code == "bundle.unavailable":
            session.notes.append(f"each `get` is slow: {error.message}; {error.hint}")
        elif isinstance(error, Unavailable | Sealed) and _is_outside(session, environment):
            raise  # to ask it once more would be to wait once more
    entries = content.secrets if content is not None else ()
    for entry in entries:
        if (entry.name, entry.field) == (name, field):
            record_read(session, SecretRef(environment, name), field, entry.version)
            return entry.value
    found, field = get_value(session, environment, text, Stage.CURRENT)
    return found.values[field]


def _is_outside(session: Session, environment: EnvironmentName) -> bool:
    return session.store.settings(environment).is_outside
