"""What a vendor's API answered, and its words without anything that may be a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, OutcomeUnknown, Unavailable

__all__ = ["Answer"]

_WORDS_LIMIT = 200
# What may be a key, or a part of one that a vendor shows: long and mixed, or starred.
_KEYLIKE = re.compile(
    r"\b(?:sk|rk|pk|whsec)[-_]\S+|\bSG\.\S+|\S*\*{2,}\S*|(?=\S*\d)(?=\S*[A-Za-z])\S{20,}"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What came back: 2xx, or a status that was expected.

    Args:
        body: The parsed JSON; None where there is none. It may hold a new key.
        changing: The request was one that changes something.
    """

    status: int
    vendor: str
    body: object = field(repr=False)
    changing: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the range of success

    def at(self, *path: str) -> object:
        """Return what is at *path* of the body; None where there is nothing."""
        found = self.body
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def text(self, *path: str) -> str:
        """
        Return the text at *path*.

        Raises:
            OutcomeUnknown: There is none, and something was changed.
            Unavailable: There is none.
        """
        found = self.at(*path)
        if isinstance(found, str) and found:
            return found
        raise self.unreadable(".".join(path))

    def secret(self, *path: str) -> SecretValue:
        """Return the text at *path* as a value; raises as `text`."""
        return SecretValue.from_text(self.text(*path))

    def rows(self, *path: str) -> list[Mapping[str, object]]:
        """Return the list of objects at *path*; raises as `text`."""
        found = self.at(*path)
        if isinstance(found, list) and all(isinstance(row, dict) for row in found):
            return found
        raise self.unreadable(".".join(path))

    def words(self) -> str:
        """Return the vendor's own message, shortened and without anything like a key."""
        return _scrubbed(_message(self.body))

    def error_code(self) -> str:
        """Return the vendor's code for what is wrong; empty where it has none."""
        for path in (("error", "code"), ("error", "type"), ("code",)):
            found = self.at(*path)
            if isinstance(found, str):
                return found
        return ""

    def unreadable(self, what: str) -> KeyturnError:
        """Return the error for an answer of 2xx that lacks *what*."""
        message = f"{self.vendor} answered without `{what}`"
        hint = "check base_url in the secret's target"
        if self.changing:
            return OutcomeUnknown(message, hint=hint)
        return Unavailable(message, hint=hint)


def _message(body: object) -> str:
    if not isinstance(body, dict):
        return ""
    error, errors = body.get("error"), body.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    for found in (error, first, body):
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            return str(found["message"])
    for found in (error, first):
        if isinstance(found, str):
            return found
    return ""


def _scrubbed(text: str) -> str:
    # Cut late, so that no half of a key is left at the end.
    plain = "".join(letter if letter.isprintable() else " " for letter in text[:2000])
    return _KEYLIKE.sub("***", plain)[:_WORDS_LIMIT].strip()
