"""What a real `.env` sets and a manifest does not declare: in doubt, a secret."""

from __future__ import annotations

import secrets

import pytest

from keyturn.core.ids import EnvironmentName
from keyturn.deliver.environment import DANGEROUS_NAMES
from keyturn.manifest import adopt, draft, load, parse_env
from keyturn.manifest._harmless import is_harmless, may_be_secret

DEVELOPMENT = EnvironmentName("development")
BASE = draft(parse_env(b"", file=".env.example"), project_name="shop").text


def adopted(lines, text=BASE):
    """Return the adoption of *lines*, checked to load, and its manifest."""
    done = adopt(text, parse_env(lines.encode(), file=".env"), DEVELOPMENT)
    return done, load(done.text.encode(), file="keyturn.toml")


@pytest.mark.parametrize(
    "line",
    """HTTP_PORT=8080 LOG_LEVEL=warn NODE_ENV=production FEATURE_X=on WORKERS=4 READ_TIMEOUT=15s
    ALLOWED_HOSTS=www.acme.io,acme.io TIME_ZONE=Europe/Vienna LANGUAGE_CODE=de-at S3_REGION=eu-west-1
    KAFKA_BROKERS=k1.acme.io:9092,k2.acme.io:9092 SITE_URL=https://www.acme.io/shop CACHE_STORE=redis
    TLS_KEY_FILE=/etc/app/tls.key GOMAXPROCS=4 NEXT_PUBLIC_GA=G-4QX7K2M1ZB APP_ID=482913 EMPTY=
    TENANT_ID=0a1b2c3d-1111-2222-3333-0123456789ab MAIL_FROM_ADDRESS=shop@acme.io VAT_RATE=0.19
    LOG_STACK=single,slack DB_CHARSET=utf8mb4 MODEL=gpt-4o-mini GIT_SHA=0123456789abcdef0123
    COOKIE_DOMAIN=.acme.io S3_BUCKET=acme-uploads-prod SENTRY_TRACES_SAMPLE_RATE=0.1""".split(),
)
def test_what_is_clearly_harmless_is_a_setting(line):
    """A port or a level in the store would be a nuisance."""
    name, _, value = line.partition("=")
    done, manifest = adopted(line)
    assert {name: value} == manifest.config_in("development")
    assert ((name,), ()) == (done.settings, done.secrets)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STRANGER", secrets.token_urlsafe(12)),
        ("WORD", "dragonfire"),
        ("WORDS", "correct horse battery staple"),
        ("DOOR_CODE", "8842"),
        ("DB_PORT", "48291736"),
        ("METRICS_PORT_2", "65536"),
        ("WAREHOUSE_LOGIN", "shop:x9y8z7"),
        ("CACHE_URL", f"redis://:{secrets.token_hex(5)}@cache:6379/1"),
        ("SOME_URL", f"https://{secrets.token_hex(5)}@acme.io/"),
        ("SOME_URL", f"https://acme.io/hook/{secrets.token_hex(12)}"),
        ("DB_HOST", secrets.token_hex(12)),
        ("OTLP_HEADERS", f"authorization=Bearer {secrets.token_hex(12)}"),
        ("MYSQL", "app:x9y8z7w6@tcp(db:3306)/app"),
        ("TWILIO_ACCOUNT_SID", "AC" + secrets.token_hex(16)),
        ("LONG_TEXT", "a word and another, " * 300),
    ],
    # Not the values: each process draws its own.
    ids=[str(number) for number in range(15)],
)
def test_what_is_in_doubt_is_a_secret(name, value):
    """Neither its value nor a piece of it stands in the manifest."""
    done, manifest = adopted(f'{name}="{value}"')
    assert [(name,)] == [one.variables for one in done.secrets]
    assert {} == manifest.config_in("development")
    assert value not in done.text
    assert not any(value in line for line in done.lines)


@pytest.mark.parametrize("name", ["REDIS_URL", "VAPID_X", "PARTNER_CODE"])
@pytest.mark.parametrize("before", ["", "changeme", "redis://localhost:6379"])
def test_a_setting_whose_real_value_may_be_a_secret_is_moved(name, before):
    """Whatever the example had in its place."""
    value = f"redis://:{secrets.token_hex(6)}@cache:6379"
    text = BASE.replace("[config]", f'[config]\n# about it\n{name} = "{before}"')
    done, manifest = adopted(f"{name}={value}", text)
    assert (name,) == done.moved
    assert name not in manifest.config
    assert f"# about it\n# {name} is a secret: see [secrets]\n" in done.text
    assert value not in done.text


def test_a_text_of_a_persons_own_is_held_for_a_setting():
    """They wrote one down there already: another one of that sort is no secret."""
    text = BASE.replace("[config]", '[config]\nGREETING = "grüß dich, Welt"')
    done, _ = adopted("GREETING=hallo ihr da", text)
    assert (text, ()) == (done.text, done.moved)
    assert not may_be_secret("GREETING", "hallo ihr da", "grüß dich, Welt")
    assert may_be_secret("GREETING", secrets.token_hex(12), "grüß dich, Welt")


def test_a_setting_that_something_refers_to_stays():
    """Without it the manifest would not load; nothing half-done comes out."""
    target = (
        '[secrets.db]\nkind = "postgres-login"\nfields = { username = "U", password = "P" }\n'
        '[secrets.db.target]\nhost = "${DB_PLACE}"\ndatabase = "x"\nadmin = "db-admin"\n'
        '[secrets.db-admin]\nkind = "guided"\nfields = { username = "AU", password = "AP" }\n'
    )
    text = BASE.replace("[config]", '[config]\nDB_PLACE = "localhost"') + target
    load(text.encode(), file="keyturn.toml")
    done, _ = adopted(f"DB_PLACE={secrets.token_hex(12)}", text)
    assert (text, ()) == (done.text, done.moved)


@pytest.mark.parametrize("name", sorted(DANGEROUS_NAMES | {"LD_PRELOAD", "KEYTURN_X"}))
def test_what_run_refuses_is_declared_nowhere(name):
    """A manifest with it would start no program."""
    done, _ = adopted(f"{name}=x")
    assert (BASE, ()) == (done.text, done.secrets)
    assert [name] == [note.name for note in done.review]


@pytest.mark.parametrize("draw", [secrets.token_hex, secrets.token_urlsafe])
@pytest.mark.parametrize("size", [6, 9, 16, 32])
def test_what_is_drawn_by_lot_is_harmless_under_no_unknown_name(draw, size):
    """Whatever it is made of; nor is a word that is written as no setting is."""
    for _ in range(100):
        assert not is_harmless("STRANGER", draw(size) + "x1")
    assert is_harmless("STRANGER", "AUTOMATIC")
    assert not is_harmless("STRANGER", "AUToMATiC")
