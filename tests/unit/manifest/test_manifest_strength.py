"""Telling placeholders, real values and secret names apart."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.manifest import is_placeholder, looks_like_secret, says_secret

PLACEHOLDERS = """
changeme CHANGE_ME change-this-in-production your_api_key_here your-secret xxx xxxxxxxx <token>
${DB_PASSWORD} {{secret}} $(cat/x) postgres password root admin guest localhost secret123 test
dev_password my-secret-key sk_test_your_key_here whsec_xxx SG.xxx example placeholder ******** ...
12345678 password1 super-secret-jwt-key TODO replace-me admin123 %PASSWORD% [fill-in] 0000 minioadmin
generate_with_openssl_rand_base64_32 https://examplePublicKey@o0.ingest.sentry.io/0
""".split()
REAL = [
    "tr0ub4dor&3-Kq",
    "9f8b7c6d5e4f3a2b1c0d",
    "hunter-Zq81x",
    "correcthorsebatterystaple",
    "postgresq1Zx",
]


@pytest.mark.parametrize("text", ["", "  ", *PLACEHOLDERS])
def test_a_placeholder_is_known(text):
    """What stands in examples, and what protects nothing."""
    assert is_placeholder(text)


@pytest.mark.parametrize("text", REAL)
def test_a_real_value_is_no_placeholder(text):
    """Anything that somebody may have chosen as a value."""
    assert not is_placeholder(text)


@settings(max_examples=150)
@given(st.binary(min_size=32, max_size=32))
def test_random_bytes_are_no_placeholder_in_any_encoding(value):
    """A freshly made secret must never fail the test for placeholders."""
    if len(set(value)) < 8:
        return
    for text in (
        base64.b64encode(value).decode(),
        value.hex(),
        base64.urlsafe_b64encode(value).decode(),
    ):
        assert not is_placeholder(text)


@pytest.mark.parametrize(
    "name",
    """DB_PASSWORD db_password SMTP_PASS API_TOKEN GITHUB_TOKEN STRIPE_SECRET_KEY OPENAI_API_KEY
    JWT_PRIVATE_KEY_B64 STRIPE_WEBHOOK_SECRET_ALT MFA_ENCRYPTION_KEY SECRET_KEY_BASE APP_KEY
    SENTRY_DSN VAULT_SECRET_ID AWS_SECRET_ACCESS_KEY KEY_PASSPHRASE X_APIKEY PASSWORD_2""".split(),
)
def test_a_name_that_promises_a_secret(name):
    """Told by its last words, whatever qualifies them."""
    assert says_secret(name)


@pytest.mark.parametrize(
    "name",
    """DB_HOST JWT_PUBLIC_KEY_B64 STRIPE_PUBLISHABLE_KEY AWS_ACCESS_KEY_ID TWITCH_CLIENT_ID
    SESSION_COOKIE_NAME JWT_ACCESS_TOKEN_TTL PASSWORD_MIN_LENGTH DB_PASSWORD_FILE KEY ID PRIMARY_KEY
    MAX_TOKENS VAPID_PUBLIC_KEY CACHE_KEY _""".split(),
)
def test_a_name_that_promises_none(name):
    """Public halves, identifiers and settings about secrets."""
    assert not says_secret(name)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("X", "rk_live_" + "a1b2c3d4e5f6", "a Stripe restricted key"),
        ("X", "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a webhook signing secret"),
        ("X", "xoxb-" + "123456789012-abcdefGHIJ", "a Slack token"),
        ("X", "AIza" + "SyD4x8Kq2mN7pR5tV9wX1zB3cF6hJ8kL0o", "a Google API key"),
        ("X", "glpat-" + "9xKq2mN7pR5tV9wX1zB3", "a GitLab token"),
        ("DB_PASSWORD", "Tq9-vX2m.Lp4zR8k", "a value too irregular for a placeholder"),
        ("X", "kJ8s9Qw2Lm4Np6Rt8Vx0Zb2Dc4Ff6Gh8Jk", "a long random text"),
    ],
)
def test_a_real_value_is_given_away_by_its_look(name, text, reason):
    """The reason names the shape and never the text."""
    assert reason == looks_like_secret(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DB_PASSWORD", "changeme"),
        ("DB_PASSWORD", "shop_dev_password1"),
        ("DB_PASSWORD", "hunter2"),
        ("VAPID_PUBLIC_KEY", "kJ8s9Qw2Lm4Np6Rt8Vx0Zb2Dc4Ff6Gh8Jk"),
        ("GIT_COMMIT", "3f2a9c81d4e5b6a7f8091a2b3c4d5e6f70819203"),
        ("URL", "https://example.com/a/b"),
        ("REDIS_URL", "redis://localhost:6379/0"),
        ("DATABASE_URL", "postgres://shop:shop@db:5432/shop"),
        ("DATABASE_URL", "postgres://user:${DB_PASSWORD}@db/shop"),
        ("CORS", "http://localhost:5173,http://localhost:3000"),
        ("TIMEOUT", "30s"),
        ("API_TOKEN", "true"),
        ("KEY_FILE_TOKEN", "./certs/dev.pem"),
    ],
)
def test_an_ordinary_setting_is_left_alone(name, text):
    """A wrong alarm would be put out with an ignore rule, and then a right one too."""
    assert looks_like_secret(name, text) is None
