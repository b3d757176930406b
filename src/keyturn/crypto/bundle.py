"""
The sealed bundle: bytes for one reader, in the age format (age-encryption.org/v1).

The format carries its own version line, and plain `age -d` opens it, which is
what somebody needs who has the key and no Keyturn. Identities come from the age
library, which reads the operating system's generator itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.core.value import SecretValue
from keyturn.errors import Corrupt, UsageError

__all__ = ["new_identity", "open_bundle", "recipient", "seal_bundle"]


def new_identity() -> SecretValue:
    """Return a fresh private identity: `AGE-SECRET-KEY-1...`."""
    from pyrage import x25519

    return SecretValue.from_text(str(x25519.Identity.generate()))


def recipient(identity: SecretValue) -> str:
    """
    Return the public recipient of *identity*: `age1...`.

    Raises:
        Corrupt: *identity* is not one.
    """
    return str(_identity(identity).to_public())


def seal_bundle(data: SecretValue, recipients: Sequence[str]) -> bytes:
    """
    Return *data* sealed so that any of *recipients* can open it.

    Raises:
        UsageError: There is no recipient, or one is malformed.
    """
    import pyrage
    from pyrage import x25519

    if not recipients:
        raise UsageError("a bundle needs a recipient")
    try:
        keys = [x25519.Recipient.from_str(text) for text in recipients]
    except pyrage.RecipientError:
        raise UsageError(
            "a recipient of the bundle is not an age recipient", hint="it starts with `age1`"
        ) from None
    sealed: bytes = pyrage.encrypt(data.reveal(), keys)
    return sealed


def open_bundle(sealed: bytes, identity: SecretValue) -> SecretValue:
    """
    Return what `seal_bundle` sealed.

    Raises:
        Corrupt: *sealed* was changed or cut, or is for another identity.
    """
    import pyrage

    try:
        return SecretValue(pyrage.decrypt(sealed, [_identity(identity)]))
    except (pyrage.DecryptError, ValueError):
        raise Corrupt(
            "the sealed bundle does not open with this key",
            hint="any command that opens the store writes it anew",
            code="bundle.corrupt",
        ) from None


def _identity(identity: SecretValue):  # type: ignore[no-untyped-def]  # noqa: ANN202 - pyrage has no types
    import pyrage
    from pyrage import x25519

    try:
        return x25519.Identity.from_str(identity.reveal_text())
    except (pyrage.IdentityError, ValueError):
        raise Corrupt(
            "the bundle key is not an age identity",
            hint="restore the key file from its backup",
            code="key.corrupt",
        ) from None
