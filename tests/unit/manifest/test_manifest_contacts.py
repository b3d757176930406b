"""Contacts: what may stand in their addresses, and the mail server's login."""

from __future__ import annotations

import pytest

from keyturn.errors import ManifestError
from keyturn.manifest import load

BASE = '[project]\nname = "shop"\n\n[environments.production]\n\n'


def loaded(contacts, more=""):
    return load(f"{BASE}[contacts]\n{contacts}\n{more}".encode(), file="keyturn.toml")


@pytest.mark.parametrize(
    "address",
    [
        "mailto:security@example.com",
        "json://hooks.example.com/keyturn",
        "slack://${secret:chat.path}",
        "pagerduty://${secret:pager.key}@${secret:pager.token}",
        "${secret:pager.url}",
    ],
)
def test_an_address_without_a_credential_is_taken(address):
    """A reference stands for what the store holds."""
    manifest = loaded(f'on_call = "{address}"')
    assert address == manifest.contacts.on_call
    assert () == manifest.warnings


@pytest.mark.parametrize("address", ["slack://A1/B2/C3", "discord://12/abc", "tgram://1:x/2"])
def test_an_address_that_is_a_credential_is_told(address):
    """Most services let in whoever knows the address."""
    (warning,) = loaded(f'security = "{address}"').warnings
    assert "contacts.security" == warning.key
    assert "${secret:NAME.FIELD}" in warning.fix


def test_an_address_with_a_password_is_refused():
    """The manifest holds no value, ever."""
    with pytest.raises(ManifestError, match="a password in it"):
        loaded('security = "mailtos://keyturn:hV7kq2Zr9TtW@mail.example.com"')


def test_the_login_of_the_mail_server_is_a_declared_secret():
    """A name that is not there would be found out only at three in the morning."""
    with pytest.raises(ManifestError, match="no secret `mail`"):
        loaded('smtp = "smtps://mail.example.com"\nsmtp_login = "mail"')
    more = '[secrets.mail]\nkind = "guided"\nfields = { username = "", password = "" }\n'
    manifest = loaded('smtp = "smtps://mail.example.com"\nsmtp_login = "mail"', more)
    assert "mail" == manifest.contacts.smtp_login
