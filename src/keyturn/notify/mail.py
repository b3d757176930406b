"""
Mail over SMTP, by the server that `[contacts]` names.

`smtps:` speaks TLS from the first byte and `smtp:` from STARTTLS on; the certificate
is verified. To a server on this machine `smtp:` may go in the clear, which is decided
by the address that was in fact connected to. A login is sent only after that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Rejected, Unavailable, UsageError
from keyturn.notify.address import mail_recipients
from keyturn.notify.channel import SEND_SECONDS, Message, within

if TYPE_CHECKING:
    import smtplib
    import ssl
    from email.message import EmailMessage

__all__ = ["MailChannel", "MailServer"]

# For one exchange of lines with the server.
_STEP_SECONDS = 10.0
_TLS_PORT = 465
_SUBMISSION_PORT = 587
_LOCAL_PORT = 25


@dataclass(frozen=True, slots=True)
class MailServer:
    """
    The server that takes our mail.

    Args:
        url: `smtp://HOST[:PORT]` or `smtps://HOST[:PORT]`.
        login: User name and password; None for none.
        sender: Where mail comes from; None for the first of those it goes to.
    """

    url: str
    login: tuple[SecretValue, SecretValue] | None = None
    sender: str | None = None


def is_loopback(address: str) -> bool:
    """Tell whether *address*, an IP address, is this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class MailChannel:
    """
    Args:
        recipients: `mailto:a@example.com`, several joined by commas.
        is_local: Tells of the connected address whether plain text may go to it.
    """

    name = "mail"

    def __init__(
        self,
        recipients: str,
        server: MailServer,
        *,
        is_local: Callable[[str], bool] = is_loopback,
        seconds: float = SEND_SECONDS,
    ) -> None:
        self._recipients = mail_recipients(recipients)
        self._server = server
        self._sender = mail_recipients(server.sender or recipients)[0]
        self._tls, self._host, self._port = _place(server.url)
        self._is_local = is_local
        self._seconds = seconds

    def send(self, message: Message) -> None:
        """Hand *message* to the server; see `Channel.send`."""
        within(self._seconds, lambda: self._send(message))

    def _send(self, message: Message) -> None:
        import smtplib

        try:
            with self._connected() as server:
                self._log_in(server)
                refused = server.send_message(
                    self._written(message), self._sender, self._recipients
                )
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
        # Theirs may quote what was sent, so none of it goes on.
        except smtplib.SMTPAuthenticationError as error:
            raise self._refused(f"refused the login ({error.smtp_code})", _LOGIN_HINT) from None
        except smtplib.SMTPNotSupportedError:
            what = "takes no login, or no address outside ASCII"
            raise self._refused(what, _LOGIN_HINT) from None
        except smtplib.SMTPResponseException as error:
            raise self._failed(error.smtp_code) from None
        except smtplib.SMTPException as error:
            raise self._silent(type(error).__name__) from None
        except OSError as error:
            raise self._silent(_why(error)) from None
        if refused:
            count = f"{len(refused)} of {len(self._recipients)} recipients"
            raise self._refused(f"refused {count}", "look at the addresses in `[contacts]`")

    def _connected(self) -> smtplib.SMTP:
        import smtplib
        import socket

        # Our name is given: by default the resolver is asked for it, without a bound.
        name = socket.gethostname()
        if self._tls:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host,
                self._port,
                local_hostname=name,
                timeout=_STEP_SECONDS,
                context=_context(verified=True),
            )
            return server
        server = smtplib.SMTP(self._host, self._port, local_hostname=name, timeout=_STEP_SECONDS)
        try:
            self._upgrade(server)
        except BaseException:
            server.close()
            raise
        return server

    def _upgrade(self, server: smtplib.SMTP) -> None:
        if server.sock is None:
            raise self._silent("the connection was lost")
        is_local = self._is_local(server.sock.getpeername()[0])
        server.ehlo_or_helo_if_needed()
        if server.has_extn("starttls"):
            # On this machine nobody can stand in between who could not do worse; the
            # usual mail server there has a certificate that nobody vouches for.
            server.starttls(context=_context(verified=not is_local))
            server.ehlo_or_helo_if_needed()
        elif not is_local:
            raise self._refused(
                "offers no STARTTLS", "use `smtps://`; mail in the clear stays on this machine"
            )

    def _log_in(self, server: smtplib.SMTP) -> None:
        if self._server.login is not None:
            name, password = self._server.login
            server.login(name.reveal_text(), password.reveal_text())

    def _written(self, message: Message) -> EmailMessage:
        from email.message import EmailMessage
        from email.policy import SMTP
        from email.utils import format_datetime

        mail = EmailMessage(policy=SMTP)
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._recipients)
        mail["Subject"] = message.subject
        mail["Date"] = format_datetime(message.at)
        mail["Message-ID"] = f"<{message.id}@{self._sender.rpartition('@')[2]}>"
        # So that no robot answers it (RFC 3834).
        mail["Auto-Submitted"] = "auto-generated"
        if message.is_urgent:
            mail["Importance"] = "high"
        mail.set_content(message.body)
        return mail

    def _failed(self, code: int) -> KeyturnError:
        # 4yz is "not now", 5yz "no" (RFC 5321, 4.2.1).
        if 400 <= code < 500:  # noqa: PLR2004 - the reply codes themselves
            return self._silent(f"it answered {code}")
        return self._refused(f"refused it ({code})", "its log says why")

    def _refused(self, what: str, hint: str) -> Rejected:
        return Rejected(f"the mail server `{self._host}` {what}", hint=hint, code="notice.refused")

    def _silent(self, why: str) -> Unavailable:
        return Unavailable(
            f"the mail server `{self._host}:{self._port}` did not take it: {why}",
            hint="check `smtp` in `[contacts]`; it is told again by the next run",
            code="notice.unavailable",
        )


_LOGIN_HINT = "check the secret that `smtp_login` in `[contacts]` names"


def _place(url: str) -> tuple[bool, str, int]:
    """Return whether TLS comes first, the host and the port."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise UsageError(
            "`smtp` in `[contacts]` is no mail server",
            hint="write it like `smtps://mail.example.com:465`",
            code="notice.address",
        )
    if parts.scheme == "smtps":
        return True, parts.hostname, port or _TLS_PORT
    local = parts.hostname == "localhost" or is_loopback(parts.hostname)
    return False, parts.hostname, port or (_LOCAL_PORT if local else _SUBMISSION_PORT)


def _context(*, verified: bool) -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context()
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _why(error: OSError) -> str:
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or type(error).__name__
