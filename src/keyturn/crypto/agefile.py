"""
Files in the age format (age-encryption.org/v1) for several readers, as text.

Only X25519 recipients, `age1...`, are written to. Sealing says nothing of who
sealed: whoever knows the recipients, which are public, can.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from keyturn.core.value import SecretValue
from keyturn.errors import Corrupt, Sealed, UsageError

__all__ = [
    "identity_of",
    "is_recipient",
    "open_text",
    "parse_identities",
    "recipient_of",
    "recipients_of",
    "seal_text",
]

_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_IDENTITY = re.compile(rb"AGE-SECRET-KEY-1[0-9A-Z]{58}")
_NO_MATCH = "No matching keys found"


def is_recipient(text: str) -> bool:
    """Tell whether *text* has the form of an X25519 recipient."""
    return _RECIPIENT.fullmatch(text) is not None


def parse_identities(file: SecretValue) -> list[SecretValue]:
    """Return the X25519 identities of an identity file; what else is in it is passed over."""
    lines = [line.strip() for line in file.reveal().splitlines()]
    found = [SecretValue(line) for line in lines if _IDENTITY.fullmatch(line)]
    for identity in found:
        identity_of(identity)
    return found


def recipients_of(identities: Sequence[SecretValue]) -> list[str]:
    """Return the public recipient of each of *identities*."""
    return [str(identity_of(identity).to_public()) for identity in identities]


def seal_text(data: SecretValue, recipients: Sequence[str]) -> str:
    """
    Return *data* sealed, in armor, so that any of *recipients* can open it.

    Raises:
        UsageError: There is no recipient, or one is malformed.
    """
    import pyrage

    if not recipients:
        raise UsageError("an age file needs a recipient")
    keys = [recipient_of(text) for text in recipients]
    sealed: bytes = pyrage.encrypt(data.reveal(), keys, armored=True)
    return sealed.decode("ascii")


def open_text(sealed: str, identities: Sequence[SecretValue], *, what: str) -> SecretValue:
    """
    Return what `seal_text` sealed.

    Args:
        what: Names the thing in an error.

    Raises:
        Sealed: It is for none of *identities*.
        Corrupt: It was changed or cut.
    """
    import pyrage

    try:
        keys = [identity_of(identity) for identity in identities]
        return SecretValue(pyrage.decrypt(sealed.encode("utf-8"), keys))
    except (pyrage.DecryptError, ValueError) as error:
        # The library tells the two apart by its text alone.
        if str(error) == _NO_MATCH:
            raise Sealed(f"{what} is not for any age identity here") from None
        raise Corrupt(f"{what} is damaged: it does not open") from None


def recipient_of(text: str) -> Any:
    """
    Return the library's recipient for *text*.

    Raises:
        UsageError: It is malformed.
    """
    import pyrage
    from pyrage import x25519

    try:
        return x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise UsageError(
            f"`{text[:100]}` is not an age recipient",
            hint="`age-keygen -y` prints the one of an identity; it starts with `age1`",
        ) from None


def identity_of(identity: SecretValue) -> Any:
    """
    Return the library's identity for *identity*.

    Raises:
        Corrupt: It is damaged.
    """
    import pyrage
    from pyrage import x25519

    try:
        return x25519.Identity.from_str(identity.reveal_text())
    except (pyrage.IdentityError, ValueError):
        raise Corrupt(
            "an age identity is damaged", hint="restore the file from its backup"
        ) from None
