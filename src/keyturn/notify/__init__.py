"""
Notices: what is told to the contacts, once, by mail or by whatever Apprise reaches.

`levels` and `digest` are pure: how urgent, and in which words. `Ledger` remembers
what was told. `open_channel` gives the way to one contact.
"""

from keyturn.notify.address import address_of, is_mail, references
from keyturn.notify.channel import Channel, Message
from keyturn.notify.digest import MAX_NOTICES, Notice, compose
from keyturn.notify.ledger import Ledger
from keyturn.notify.levels import Level, level_of_age, reaches_on_call
from keyturn.notify.mail import MailServer
from keyturn.notify.opening import open_channel

__all__ = [
    "MAX_NOTICES",
    "Channel",
    "Ledger",
    "Level",
    "MailServer",
    "Message",
    "Notice",
    "address_of",
    "compose",
    "is_mail",
    "level_of_age",
    "open_channel",
    "reaches_on_call",
    "references",
]
