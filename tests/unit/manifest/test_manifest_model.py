"""The questions that a loaded manifest answers."""

from __future__ import annotations

import dataclasses

import pytest

from keyturn.errors import NotFound, UsageError
from keyturn.manifest import SecretKind, load

TEXT = b"""
[project]
name = "clipper"
[environments.development]
[environments.production]
[config]
PORT = "8080"
[consumers.backend]
secrets = ["session", "db", "alert"]
[consumers.worker]
secrets = ["session"]
[secrets.db]
kind = "postgres-login"
fields = { username = "DB_USER", password = "DB_PASSWORD" }
depends_on = ["vault"]
[secrets.session]
kind = "session-secret"
variable = "SESSION_SECRET"
[secrets.vault]
kind = "vault-approle"
fields = { role_id = "", secret_id = "VAULT_SECRET_ID" }
[secrets.alert]
kind = "guided"
variable = "ALERT_TOKEN"
only = ["production"]
"""


@pytest.fixture
def manifest():
    return load(TEXT, file="keyturn.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("session", ("session", "value")),
        ("session.value", ("session", "value")),
        ("SESSION_SECRET", ("session", "value")),
        ("db.password", ("db", "password")),
        ("DB_PASSWORD", ("db", "password")),
        ("vault.role_id", ("vault", "role_id")),
    ],
)
def test_a_field_is_found_by_secret_field_or_variable(manifest, text, expected):
    """A person may use whichever name is at hand."""
    assert expected == manifest.find_field(text, "production")


def test_a_secret_with_several_fields_wants_one_named(manifest):
    """The error lists them."""
    with pytest.raises(UsageError) as caught:
        manifest.find_field("db", "production")

    assert "name one of them: `db.username`, `db.password`" == caught.value.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("sesion", "did you mean `session`?"),
        ("DB_PASWORD", "did you mean `DB_PASSWORD`?"),
        ("db.pasword", "it has `username`, `password`"),
        ("PORT", "its value stands in the manifest under `[config]`"),
        ("zzzz", "declared are `db`, `session`, `vault`"),
        ("", "declared are"),
        ("x\x1b[31m" * 50, "declared are"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(manifest, text, hint):
    """Nobody has to look up the spelling, and control characters are not echoed."""
    with pytest.raises(NotFound) as caught:
        manifest.find_field(text, "development")

    assert hint in caught.value.hint
    assert "\x1b" not in caught.value.message


def test_a_secret_of_another_environment_is_said_to_be_there(manifest):
    """`alert` exists in production only; development is told so."""
    for find in (
        lambda: manifest.secret_in("development", "alert"),
        lambda: manifest.find_field("alert", "development"),
    ):
        with pytest.raises(NotFound) as caught:
            find()
        assert "only in `production`" in caught.value.hint


def test_unknown_environments_and_consumers_are_not_found(manifest):
    """Each question checks its environment first."""
    with pytest.raises(NotFound, match="no environment `prod`") as caught:
        manifest.secrets_in("prod")
    assert "did you mean `production`?" == caught.value.hint
    with pytest.raises(NotFound, match="no consumer `backnd`"):
        manifest.consumer_secrets("backnd", "production")
    with pytest.raises(NotFound, match="no secret `nothing`"):
        manifest.secret_in("production", "nothing")


def test_a_consumer_is_given_what_its_environment_has(manifest):
    """In the manifest's order, less what does not exist there."""
    names = lambda e: [s.name for s in manifest.consumer_secrets("backend", e)]  # noqa: E731

    assert ["db", "session"] == names("development")
    assert ["db", "session", "alert"] == names("production")
    assert ["backend"] == [c.name for c in manifest.consumers_of("production", "alert")]
    assert ["backend", "worker"] == [c.name for c in manifest.consumers_of("production", "session")]


def test_the_order_puts_dependencies_first_and_is_stable(manifest):
    """What depends on nothing keeps the manifest's order."""
    assert ("vault", "db", "session", "alert") == manifest.order("production")


def test_identifiers_are_told_from_what_proves(manifest):
    """A user name is not random, and is never searched for as a leak."""
    assert ("username",) == manifest.secrets["db"].identifiers
    assert ("role_id",) == manifest.secrets["vault"].identifiers
    assert () == manifest.secrets["session"].identifiers


def test_what_a_manifest_says_cannot_be_changed(manifest):
    """Frozen all the way down."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest.secrets["db"].purpose = "x"
    with pytest.raises(TypeError):
        manifest.secrets["db"].fields["password"] = "X"
    with pytest.raises(TypeError):
        manifest.resolved["production"]["db"] = None
    assert SecretKind.POSTGRES_LOGIN is manifest.secrets["db"].spec.kind


def test_an_empty_manifest_says_that_nothing_is_declared():
    """There is no nearest name where there is no name."""
    empty = load(b'[project]\nname = "a"\n[environments.e]\n', file="k")

    with pytest.raises(NotFound) as caught:
        empty.secret_in("e", "db")
    assert "none is declared; add one to the manifest" == caught.value.hint
    assert () == empty.order("e")
