"""What a rehearsal may leave is named so that a person finds it, by every kind that makes one."""

from __future__ import annotations

import pytest

from keyturn.core.ids import Token
from keyturn.core.ports import NamingKind
from tests.worlds.base import kind_in, secret_values, texts_of
from tests.worlds.scene import open_world

TOKEN = Token("rehearse89abcdef0123456789abcdef")
# The fields of these kinds that let somebody in.
SECRET = {"password", "private_key", "secret_access_key", "secret_id", "value"}
pytestmark = [pytest.mark.kinds]


@pytest.mark.parametrize(
    ("name", "field", "ending"),
    [
        ("aws_access_key", "access_key_id", "aws iam delete-access-key"),
        ("openai_key", "key_id", "platform.openai.com"),
        ("sendgrid_key", "key_id", "app.sendgrid.com"),
        ("stripe_key_preview", "key_id", "dashboard"),
        ("stripe_webhook_secret", "endpoint_id", "dashboard"),
        ("vault_approle", "secret_id_accessor", "secret-id-accessor/destroy"),
        ("postgres_18", "username", "DROP ROLE"),
        ("ssh_key", None, "ssh-ed25519"),
    ],
)
def test_the_name_at_the_target_is_told_and_no_value(name, field, ending):
    """With the place or the command that ends it."""
    world = open_world(name)
    try:
        kind = kind_in(world.setup).rehearsal()
        current = secret_values(world.setup.first)
        made = kind.create(current, token=TOKEN)
        try:
            assert isinstance(kind, NamingKind)
            what, how = kind.whereabouts(made)
        finally:
            kind.withdraw(current, made)
    finally:
        world.close()
    texts = texts_of(made)
    assert ending in how
    assert field is None or texts[field] in what
    hidden = [text for key, text in texts.items() if key in SECRET and text]
    assert hidden
    assert not [text for text in hidden if text in what + how]
