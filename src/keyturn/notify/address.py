"""
The address of a contact, as the manifest writes it.

    mailto:security@example.com[,second@example.com]      by the mail server of `[contacts]`
    slack://${secret:slack.token_a}/...                   an address that Apprise knows
    ${secret:chat.url}                                    the whole address is the value

A credential stands in it by reference, and is filled in when something is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from keyturn.core.value import SecretValue
from keyturn.errors import UsageError

__all__ = ["address_of", "is_mail", "mail_recipients", "references"]

_REFERENCE = re.compile(r"\$\{secret:([^{}]*)\}")
_MAIL = re.compile(r"mailto:(?!/)", re.IGNORECASE)
_RECIPIENT = re.compile(r"[^@\s,;<>()\"\x00-\x1f]{1,64}@[^@\s,;<>()\"\x00-\x1f]{1,255}")


def references(contact: str) -> list[str]:
    """Return what the `${secret:...}` of *contact* name, such as `slack.token_a`, each once."""
    return list(dict.fromkeys(match[1] for match in _REFERENCE.finditer(contact)))


def is_mail(contact: str) -> bool:
    """Tell whether *contact* is told by the project's own mail server."""
    return _MAIL.match(contact) is not None


def address_of(contact: str, values: Mapping[str, SecretValue]) -> SecretValue:
    """
    Return *contact* with its references filled in.

    Args:
        values: One for each of `references`.

    Raises:
        UsageError: A value is no text that an address can carry.
    """
    whole = _REFERENCE.fullmatch(contact)

    def filled(match: re.Match[str]) -> str:
        try:
            text = values[match[1]].reveal_text().strip()
        except ValueError:
            text = ""
        if not text or not text.isprintable() or (whole and " " in text):
            raise UsageError(
                f"the value of `{match[1]}` cannot stand in an address",
                hint=f"`keyturn set {match[1]}` stores another one: text of one line",
                code="notice.address",
            ) from None
        return text if whole else quote(text, safe="")

    return SecretValue.from_text(_REFERENCE.sub(filled, contact))


def mail_recipients(text: str) -> list[str]:
    """
    Return the mail addresses of *text*: `mailto:a@example.com,b@example.com`, or without `mailto:`.

    Raises:
        UsageError: One is no mail address.
    """
    listed = [unquote(part).strip() for part in _MAIL.sub("", text, count=1).split(",")]
    for one in listed:
        if _RECIPIENT.fullmatch(one) is None or "?" in one:
            raise UsageError(
                "a contact is no mail address",
                hint="write it like `mailto:security@example.com`",
                code="notice.address",
            )
    return listed
