"""
Use case: tell the contacts what needs attention, once.

One message an environment and contact: what is due, stuck, failed, waits for a person,
or is still accepted when it should be dead. `security` is told of all of it, `on_call`
from the due date on; where only one of them is named it is told of all. Users are
never told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from keyturn._internal import failpoints
from keyturn.app.config import local_source
from keyturn.app.noticing import notices_of
from keyturn.app.secrets import get_value
from keyturn.app.session import Session
from keyturn.audit import Action, Outcome
from keyturn.core.ids import EnvironmentName, SecretName, new_id
from keyturn.core.model import Stage
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError
from keyturn.notify import (
    Channel,
    Ledger,
    MailServer,
    Message,
    Notice,
    compose,
    is_mail,
    open_channel,
    reaches_on_call,
    references,
)

__all__ = ["Reminded", "Telling", "remind"]


@dataclass(frozen=True, slots=True)
class Telling:
    """
    What became of the message to one contact.

    Args:
        contact: `security` or `on_call`.
        channel: The way it took, such as `mail` or `Slack`; empty where it has none.
        notices: What it was told of.
        message: The message itself.
        failure: Why it did not arrive; it is told again by the next run.
    """

    contact: str
    notices: Sequence[Notice]
    message: Message
    channel: str = ""
    failure: KeyturnError | None = None


@dataclass(frozen=True, slots=True)
class Reminded:
    """
    What a run found in one environment, and whom it told.

    Args:
        notices: All that needs attention now, told before or not.
        tellings: One for each contact that was, or would be, told something now.
        nobody: No contact is named; *digest* is then for whoever runs this.
        digest: All of *notices* in one message; None where there are none.
    """

    environment: EnvironmentName
    notices: Sequence[Notice]
    tellings: Sequence[Telling]
    nobody: bool
    digest: Message | None

    @property
    def failures(self) -> list[KeyturnError]:
        """Why contacts were not told."""
        return [one.failure for one in self.tellings if one.failure is not None]


def remind(
    session: Session,
    environment: EnvironmentName,
    *,
    dry_run: bool = False,
    shown: bool = False,
    tended: bool = False,
    failures: Mapping[SecretName, str] | None = None,
) -> Reminded:
    """
    Tell the contacts of *environment* what they have not been told.

    Args:
        dry_run: Only return what would be told.
        shown: The caller shows what this returns to a person, which is recorded.
        tended: `keyturn tick` runs here: what it rotates by itself is told of only when
            it is overdue, or something is wrong.
        failures: Why the rotation that was just tried failed, by secret; never a value.

    Raises:
        AccessDenied: The policy says no.

    Crash safety:
        What died while it was sent is sent again ten minutes later or by the next run
        after that: twice, perhaps, rather than never.

    Audit:
        `notice.message.send`: begun before a message goes out, then its outcome. Each
        credential of a contact's address is read as `secret.value.read`.
    """
    session.access.authorise(Action.NOTICE_SEND, str(environment), environment=environment)
    notices = notices_of(session, environment, tended=tended, failures=failures or {})
    contacts = _contacts(session)
    if shown:
        session.access.read(Action.SECRET_STATUS, str(environment), environment=environment)
    ledger = Ledger(session.database, clock=session.clock)
    tellings: list[Telling] = []
    for contact, address, reached in _reached(contacts, notices):
        untold = ledger.untold(reached, contact)
        if not untold:
            continue
        if dry_run:
            tellings.append(Telling(contact, untold, _digest(session, environment, untold)))
            continue
        telling = _tell(session, environment, ledger, contact, address, untold)
        if telling is not None:
            tellings.append(telling)
    return Reminded(
        environment,
        notices,
        tellings,
        nobody=not contacts,
        digest=_digest(session, environment, notices) if notices else None,
    )


def _contacts(session: Session) -> list[tuple[str, str]]:
    named = session.manifest.contacts
    found = [("security", named.security), ("on_call", named.on_call)]
    return [(contact, address) for contact, address in found if address is not None]


def _reached(
    contacts: Sequence[tuple[str, str]], notices: Sequence[Notice]
) -> Iterator[tuple[str, str, list[Notice]]]:
    alone = len({address for _, address in contacts}) == 1
    for contact, address in contacts[:1] if alone else contacts:
        everything = alone or contact == "security"
        yield contact, address, [n for n in notices if everything or reaches_on_call(n.level)]


def _tell(  # noqa: PLR0917 - private, and called once
    session: Session,
    environment: EnvironmentName,
    ledger: Ledger,
    contact: str,
    address: str,
    untold: Sequence[Notice],
) -> Telling | None:
    run = new_id(session.entropy)
    subject, detail = f"{environment}/{contact}", {"run": run, "contact": contact}
    with session.database.transaction():
        claimed = ledger.claim(untold, contact, run=run)
        if not claimed:
            # Another run tells them now.
            return None
        session.access.record(
            Action.NOTICE_SEND, subject, Outcome.BEGUN, {**detail, "notices": len(claimed)}
        )
    message = _digest(session, environment, claimed)
    name, failure = "", None
    try:
        channel = _channel(session, environment, address)
        name = channel.name
        failpoints.hit("notify.send.call")
        channel.send(message)
        failpoints.hit("notify.send.called")
    except KeyturnError as error:
        failure = error
        detail["error"] = error.code
    with session.database.transaction():
        ledger.settle(run=run, contact=contact, sent=failure is None)
        session.access.record(
            Action.NOTICE_SEND,
            subject,
            Outcome.DONE if failure is None else Outcome.FAILED,
            detail,
        )
    return Telling(contact, claimed, message, name, failure)


def _digest(session: Session, environment: EnvironmentName, notices: Sequence[Notice]) -> Message:
    return compose(
        notices,
        project=session.manifest.project.name,
        environment=environment,
        where=f"on {local_source()['host']} in {session.paths.folder}",
        message_id=new_id(session.entropy),
        at=session.clock.now(),
    )


def _channel(session: Session, environment: EnvironmentName, address: str) -> Channel:
    values = {text: _value(session, environment, text) for text in references(address)}
    server = _mail_server(session, environment) if is_mail(address) else None
    return open_channel(address, values, server=server)


def _mail_server(session: Session, environment: EnvironmentName) -> MailServer | None:
    named = session.manifest.contacts
    if named.smtp is None:
        return None
    login = None
    if named.smtp_login is not None:
        user, password = (
            _value(session, environment, f"{named.smtp_login}.{field}")
            for field in ("username", "password")
        )
        login = (user, password)
    return MailServer(named.smtp, login=login, sender=named.sender)


def _value(session: Session, environment: EnvironmentName, text: str) -> SecretValue:
    found, field = get_value(session, environment, text, Stage.CURRENT)
    return found.values[field]
