"""The way to one contact, and what goes over it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keyturn.errors import KeyturnError, Unavailable

__all__ = ["SEND_SECONDS", "Channel", "Message", "within"]

# For one message to one contact, whatever the other side does.
SEND_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Message:
    """
    What a contact is told.

    Args:
        subject: One line.
        body: Plain text.
        id: Differs from that of every other message.
        at: When it was written.
        is_urgent: Somebody should look now.
    """

    subject: str
    body: str
    id: str
    at: datetime
    is_urgent: bool = False


class Channel(Protocol):
    """
    The way to one contact.

    It holds no connection: each message is sent by itself, in bounded time.
    """

    @property
    def name(self) -> str:
        """What it is, such as `mail` or `Slack`; nothing of its address."""
        ...

    def send(self, message: Message) -> None:
        """
        Hand *message* over; return when the other side has taken it.

        Raises:
            Unavailable: No answer, or none in time; it may have been taken.
            Rejected: It was refused.
            UsageError: The address is wrong.
        """
        ...


def within(seconds: float, work: Callable[[], None]) -> None:
    """
    Do *work*, and wait for it for so long.

    Raises:
        Unavailable: It has not ended in time; its thread is left behind.
        KeyturnError: Its own failure.
    """
    # A socket's own timeout starts again with each byte, and name resolution has none.
    failures: list[KeyturnError] = []

    def run() -> None:
        try:
            work()
        except KeyturnError as error:
            failures.append(error)
        except Exception as error:  # noqa: BLE001 - a bug in an adapter must not end the run
            # Its text is left out, and its traceback: they may hold a credential.
            failures.append(Unavailable(f"it failed unexpectedly: {type(error).__name__}"))

    thread = threading.Thread(target=run, name="notice", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Unavailable(f"no answer within {seconds:g} seconds", hint="run it again later")
    if failures:
        raise failures[0]
