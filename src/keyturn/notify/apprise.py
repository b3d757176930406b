"""
Everything else that Apprise can reach: chat, pagers, push, webhooks.

Apprise is an extra (`pip install 'keyturn[notify]'`) and is imported when something
is sent. It writes nothing to disk here, and what it logs is not shown: its lines may
hold the address with its credentials.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, Unavailable, UsageError
from keyturn.notify.channel import SEND_SECONDS, Message, within
from keyturn.notify.mail import is_loopback

__all__ = ["AppriseChannel"]

# What Apprise's plugins write where a service answered: `error=403`.
_STATUS = re.compile(r"\berror\s*[=:]\s*([1-5][0-9]{2})\b")


class AppriseChannel:
    """
    Args:
        address: An address of one of Apprise's forms, with its credentials.

    Raises:
        UsageError: Apprise is not installed, or does not know the address.
    """

    def __init__(self, address: SecretValue, *, seconds: float = SEND_SECONDS) -> None:
        self._seconds = seconds
        # The modules that it loads warn of what is only its own to mend.
        with _silenced(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._apprise, self._service = _opened(address)
        # Of a plugin, not of the address: `Slack`, `JSON`.
        self._name = str(getattr(self._service, "service_name", "a service"))
        _require_private(self._service)

    @property
    def name(self) -> str:
        """The service, such as `Slack`."""
        return self._name

    def send(self, message: Message) -> None:
        """Hand *message* to the service; see `Channel.send`."""
        within(self._seconds, lambda: self._send(message))

    def _send(self, message: Message) -> None:
        kinds = self._apprise.NotifyType
        with _silenced() as lines:
            taken = self._service.notify(
                title=message.subject,
                body=message.body,
                notify_type=kinds.FAILURE if message.is_urgent else kinds.WARNING,
                body_format=self._apprise.NotifyFormat.TEXT,
            )
        if taken:
            return
        statuses = _STATUS.findall(lines.getvalue())
        if statuses and not statuses[-1].startswith("5"):
            raise Rejected(
                f"{self._name} refused it ({statuses[-1]})",
                hint="check the address in `[contacts]` and the secrets that it names",
                code="notice.refused",
            )
        answered = f"it answered {statuses[-1]}" if statuses else "no answer, or none that helps"
        raise Unavailable(
            f"{self._name} did not take it: {answered}",
            hint="check the address in `[contacts]`; it is told again by the next run",
            code="notice.unavailable",
        )


def _opened(address: SecretValue) -> tuple[Any, Any]:
    try:
        import apprise
    except ImportError:
        raise UsageError(
            "Apprise, which tells this contact, is not installed",
            hint="`pip install 'keyturn[notify]'`",
            code="notice.apprise",
        ) from None
    asset = apprise.AppriseAsset(
        app_id="Keyturn",
        app_desc="Keyturn",
        async_mode=False,
        interpret_escapes=False,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )
    try:
        service = apprise.Apprise.instantiate(address.reveal_text(), asset=asset)
    except Exception:  # noqa: BLE001 - its text may quote the address
        service = None
    if service is None:
        raise UsageError(
            "the address is none that Apprise knows",
            hint="its forms are listed in Apprise's own documentation, service by service",
            code="notice.address",
        )
    return apprise, service


def _require_private(service: Any) -> None:
    """Refuse the form without TLS of a service that has one with it, but on this machine."""
    secure = service.secure_protocol
    host = str(service.host or "")
    if not secure or service.secure or not service.protocol:
        return
    if host == "localhost" or is_loopback(host.strip("[]")):
        return
    named = secure if isinstance(secure, str) else secure[0]
    raise UsageError(
        f"the address of {service.service_name} goes in the clear to another machine",
        hint=f"use `{named}://`",
        code="notice.address",
    )


@contextlib.contextmanager
def _silenced() -> Iterator[io.StringIO]:
    """Keep what Apprise logs to ourselves while the block runs."""
    logger = logging.getLogger("apprise")
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    before = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate, level = before
        logger.setLevel(level)
