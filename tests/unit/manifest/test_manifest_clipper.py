"""The worked example: its manifest is faultless, and a draft knows every secret of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from keyturn.manifest import SignalReload, Strategy, draft, load, parse_env, target_spec

EXAMPLE = Path(__file__).parents[3] / "examples" / "clipper"

SECRETS = {
    "db": ("postgres-login", {"DB_USER", "DB_PASSWORD"}),
    "redis": ("redis-login", {"REDIS_PASSWORD"}),
    "jwt": (
        "jwt-signing-key",
        {"JWT_PRIVATE_KEY_B64", "JWT_PUBLIC_KEY_B64", "JWT_JWKS", "JWT_KEY_ID"},
    ),
    "session": ("session-secret", {"SESSION_SECRET"}),
    "mfa-encryption": ("encryption-key", {"MFA_ENCRYPTION_KEY", "MFA_ENCRYPTION_KEYS"}),
    "twitch": ("twitch-app", {"TWITCH_CLIENT_ID", "TWITCH_CLIENT_SECRET"}),
    "stripe": ("stripe-key", {"STRIPE_SECRET_KEY"}),
    "stripe-webhook": (
        "stripe-webhook-secret",
        {"STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET_ALT"},
    ),
    "vault": ("vault-approle", {"VAULT_ROLE_ID", "VAULT_SECRET_ID"}),
    "openai": ("openai-key", {"OPENAI_API_KEY"}),
    "sendgrid": ("sendgrid-key", {"SENDGRID_API_KEY"}),
    "sentry": ("guided", {"SENTRY_DSN"}),
    "opensearch": ("generated", {"OPENSEARCH_USERNAME", "OPENSEARCH_PASSWORD"}),
}
# A draft cannot know that a program of ours tells the server.
FINISHED = SECRETS | {"opensearch": ("command", SECRETS["opensearch"][1])}
OPTIONAL = {"vault", "openai", "sendgrid", "sentry"}
# What other secrets are administered with; no program is given one.
ADMINS = {"db-admin", "opensearch-admin", "openai-admin", "sendgrid-admin", "vault-admin"}


@pytest.fixture(scope="module")
def example():
    return parse_env((EXAMPLE / ".env.example").read_bytes(), file=".env.example")


@pytest.fixture(scope="module")
def manifest():
    return load((EXAMPLE / "keyturn.toml").read_bytes(), file="keyturn.toml")


def shape(manifest):
    return {n: (s.kind.value, set(s.variables)) for n, s in manifest.secrets.items()}


def test_the_manifest_is_faultless(manifest):
    """Not even a warning."""
    assert () == manifest.warnings
    assert "team-core" == manifest.project.owner
    assert "mailto:security@clipper.gg" == manifest.contacts.security


def test_the_manifest_has_every_secret_and_setting_of_the_example(manifest, example):
    """No variable of the service is forgotten, and none is made up."""
    assert FINISHED | {name: ("guided", set()) for name in ADMINS} == shape(manifest)
    assert OPTIONAL == {n for n, s in manifest.secrets.items() if not s.required} - ADMINS
    variables = {v for _, names in SECRETS.values() for v in names}
    settings = set(manifest.config_in("production"))
    assert {e.name for e in example.live} <= variables | settings
    assert settings <= {e.name for e in example.entries}


def test_the_database_login_can_be_rotated(manifest):
    """Two logins under one owner, an admin that the backend never sees, an hour's grace."""
    db = manifest.secret_in("production", "db")

    assert (Strategy.TWO_LOGINS, timedelta(hours=1)) == (db.strategy, db.grace)
    assert {
        "host": "localhost",
        "port": 5432,
        "database": "clipper",
        "sslmode": "disable",
        "admin": "db-admin",
        "owner_role": "clipper",
        "logins": ("clipper_a", "clipper_b"),
    } == dict(db.target)
    backend = manifest.consumer_in("production", "backend")
    assert "db-admin" not in backend.secrets
    assert SignalReload("HUP", "run/backend.pid") == backend.reload
    assert "http://127.0.0.1:8080/health" == backend.health.url
    assert timedelta(0) == manifest.secret_in("development", "db").grace


def test_every_secret_can_be_rotated(manifest):
    """Each has what its kind needs, and what must not run side by side comes in order."""
    for environment in manifest.environments:
        secrets = {secret.name: secret for secret in manifest.secrets_in(environment)}
        lacking = {
            name: key
            for name, secret in secrets.items()
            for key in target_spec(secret.kind).required
            if key not in secret.target
        }
        assert {} == lacking
        assert {"db"} == set(secrets["mfa-encryption"].depends_on)
        for name, admin in [("openai", "openai-admin"), ("stripe-webhook", "stripe")]:
            assert admin in secrets[name].depends_on
    assert Strategy.LIST == manifest.secrets["session"].strategy
    assert not ADMINS & set(manifest.consumer_in("production", "backend").secrets)


def test_a_draft_recognises_every_secret(example):
    """By kind, fields and need, without a finding: all that looks like a value is a placeholder."""
    result = draft(example, project_name="clipper")
    drafted = load(result.text.encode(), file="keyturn.toml")

    assert SECRETS == shape(drafted)
    assert OPTIONAL == {n for n, s in drafted.secrets.items() if not s.required}
    assert () == result.findings
    assert ["backend"] == list(drafted.consumers)
    assert () == drafted.warnings


def test_the_example_is_read_without_a_problem(example):
    """About sixty variables."""
    assert () == example.problems
    assert 55 <= len(example.entries) <= 70
