"""From a contact's address to the way there."""

from __future__ import annotations

from collections.abc import Mapping

from keyturn.core.value import SecretValue
from keyturn.errors import UsageError
from keyturn.notify.address import address_of, is_mail
from keyturn.notify.channel import Channel
from keyturn.notify.mail import MailChannel, MailServer

__all__ = ["open_channel"]


def open_channel(
    contact: str, values: Mapping[str, SecretValue], *, server: MailServer | None
) -> Channel:
    """
    Return the way to *contact*; nothing is connected yet.

    Args:
        values: What the references of *contact* stand for.
        server: For `mailto:` addresses; None where none is configured.

    Raises:
        UsageError: The address is wrong, or what it needs is not configured.
    """
    if is_mail(contact):
        if server is None:
            raise UsageError(
                "no mail server is configured",
                hint='add `smtp = "smtps://mail.example.com:465"` to `[contacts]`',
                code="notice.smtp",
            )
        return MailChannel(contact, server)
    # Brings the logging that Apprise wants, and Apprise itself when it is made.
    from keyturn.notify.apprise import AppriseChannel

    return AppriseChannel(address_of(contact, values))
