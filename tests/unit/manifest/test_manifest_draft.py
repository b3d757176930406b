"""Drafting the first manifest from a `.env.example`."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.errors import UsageError
from keyturn.manifest import SecretKind, draft, load, parse_env, project_name_from

LIVE = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"


def drafted(text, **options):
    data = text if isinstance(text, bytes) else text.encode()
    result = draft(parse_env(data, file=".env.example"), project_name="shop", **options)
    return result, load(result.text.encode(), file="keyturn.toml")


def kinds(text):
    result, manifest = drafted(text)
    assert [s.name for s in result.secrets] == list(manifest.secrets)
    return {name: s.kind.value for name, s in manifest.secrets.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DB_USER=a\nDB_PASSWORD=x", {"db": "postgres-login"}),
        ("POSTGRES_USER=a\nPOSTGRES_PASSWORD=x", {"postgres": "postgres-login"}),
        ("PGUSER=a\nPGPASSWORD=x", {"postgres": "postgres-login"}),
        ("DATABASE_USERNAME=a\nDATABASE_PASSWORD=x", {"database": "postgres-login"}),
        ("AUTH_DB_USER=a\nAUTH_DB_PASSWORD=x", {"auth-db": "postgres-login"}),
        ("DB_CONNECTION=mysql\nDB_USERNAME=a\nDB_PASSWORD=x", {"db": "guided"}),
        ("DB_PORT=3306\nDB_USERNAME=a\nDB_PASSWORD=x", {"db": "guided"}),
        ("DATABASE_URL=postgres://user:password@localhost/app", {"database-url": "guided"}),
        ("REDIS_PASSWORD=x", {"redis": "redis-login"}),
        ("REDIS_URL=redis://localhost:6379", {}),
        ("REDIS_URL=redis://:changeme@localhost:6379", {"redis-url": "guided"}),
        ("JWT_PRIVATE_KEY_B64=x\nJWT_PUBLIC_KEY_B64=y", {"jwt": "jwt-signing-key"}),
        ("JWT_PRIVATE_KEY=x\nJWT_PUBLIC_KEY=y", {"jwt": "jwt-signing-key"}),
        ("JWT_SECRET=x", {"jwt": "generated"}),
        ("SESSION_SECRET=x", {"session": "session-secret"}),
        ("SECRET_KEY=x", {"secret-key": "session-secret"}),
        ("APP_KEY=x", {"app-key": "session-secret"}),
        ("DJANGO_SECRET_KEY=x", {"django": "session-secret"}),
        ("NEXTAUTH_SECRET=x", {"nextauth": "session-secret"}),
        ("MFA_ENCRYPTION_KEY=x", {"mfa-encryption": "encryption-key"}),
        ("ENCRYPTION_KEY=x", {"encryption": "encryption-key"}),
        ("TWITCH_CLIENT_ID=x\nTWITCH_CLIENT_SECRET=y", {"twitch": "twitch-app"}),
        ("GOOGLE_CLIENT_ID=x\nGOOGLE_CLIENT_SECRET=y", {"google": "guided"}),
        ("GOOGLE_CLIENT_ID=x", {}),
        ("STRIPE_SECRET_KEY=x", {"stripe": "stripe-key"}),
        ("STRIPE_PUBLISHABLE_KEY=pk_test_x", {}),
        (
            "STRIPE_WEBHOOK_SECRET=x\nSTRIPE_WEBHOOK_SECRET_ALT=y",
            {"stripe-webhook": "stripe-webhook-secret"},
        ),
        (
            "STRIPE_WEBHOOK_SECRET=x\nSTRIPE_WEBHOOK_SECRET_EU=y",
            {
                "stripe-webhook": "stripe-webhook-secret",
                "stripe-webhook-eu": "stripe-webhook-secret",
            },
        ),
        ("OPENAI_API_KEY=x", {"openai": "openai-key"}),
        ("SENDGRID_API_KEY=x", {"sendgrid": "sendgrid-key"}),
        ("SENTRY_DSN=x", {"sentry": "guided"}),
        ("OPENSEARCH_USERNAME=shop\nOPENSEARCH_PASSWORD=y", {"opensearch": "generated"}),
        ("VAULT_ROLE_ID=x\nVAULT_SECRET_ID=y", {"vault": "vault-approle"}),
        ("VAULT_TOKEN=x", {"vault-token": "guided"}),
        ("AWS_ACCESS_KEY_ID=x\nAWS_SECRET_ACCESS_KEY=y", {"aws": "aws-access-key"}),
        ("SMTP_USERNAME=x\nSMTP_PASSWORD=y", {"smtp": "guided"}),
        ("SMTP_PASSWORD=y", {"smtp-password": "guided"}),
        ("SSH_PRIVATE_KEY=y", {"ssh": "ssh-key"}),
        ("GITHUB_TOKEN=x", {"github-token": "guided"}),
        ("MAPS_API_KEY=x", {"maps-api-key": "guided"}),
        ("CRON_SECRET=x", {"cron": "generated"}),
        ("REQUIRE_PASSWORD=true\nPASSWORD_MIN_LENGTH=12\nJWT_ACCESS_TOKEN_TTL=15m", {}),
        ("db_password=x", {"db": "postgres-login"}),
        ("FOO_TOKEN=a\nfoo_token=b", {"foo-token": "guided", "foo-token-2": "guided"}),
    ],
)
def test_a_kind_is_told_by_its_variables(text, expected):
    """The usual names become secrets of the right kind; their neighbours stay settings."""
    assert expected == kinds(text)


def test_a_pair_becomes_one_secret_with_both_fields():
    """Halves that change together are one secret; the names go on, the password does not."""
    result, manifest = drafted("# the app's login\nDB_USER=shop\nDB_PASSWORD=hunter2\nDB_HOST=h\n")

    secret = manifest.secrets["db"]
    assert {"username": "DB_USER", "password": "DB_PASSWORD"} == dict(secret.fields)
    assert {"username": "shop"} == dict(secret.identity)
    assert "the app's login" == secret.purpose
    assert "hunter2" not in result.text
    assert {"DB_HOST": "h"} == manifest.config_in("production")
    assert ("DB_HOST",) == result.settings


def test_the_target_waits_in_a_comment_until_there_is_an_admin():
    """So that generate, import and run work at once."""
    text = "DB_HOST=localhost\nDB_PORT=5432\nDB_NAME=shop\nDB_SSLMODE=disable\nDB_USER=shop\nDB_PASSWORD=x\n"
    result, manifest = drafted(text)

    assert {} == dict(manifest.secret_in("production", "db").target)
    assert "# [secrets.db.target]" in result.text
    assert any("administer" in note.reason for note in result.review)

    result, manifest = drafted(text + "DB_ADMIN_USER=postgres\nDB_ADMIN_PASSWORD=x\n")

    assert {
        "host": "localhost",
        "port": 5432,
        "database": "shop",
        "sslmode": "disable",
        "admin": "db-admin",
    } == dict(manifest.secret_in("production", "db").target)
    assert ("db",) == manifest.consumers["app"].secrets
    assert ("db-admin", "db") == manifest.order("production")


def test_the_commented_target_loads_once_it_is_uncommented():
    """The advice in the comment can be followed as it stands."""
    result, _ = drafted("DB_HOST=h\nDB_NAME=d\nDB_USER=u\nDB_PASSWORD=x\n")
    lines = result.text.split("\n")
    start = lines.index("# [secrets.db.target]")
    lines = [line.removeprefix("# ") if n >= start else line for n, line in enumerate(lines)]
    text = (
        "\n".join(lines)
        + '[secrets.db-admin]\nkind = "guided"\nfields = { username = "", password = "" }\n'
    )

    manifest = load(text.encode(), file="k")

    assert "db-admin" == manifest.secret_in("production", "db").target["admin"]


@pytest.mark.parametrize(
    "text",
    [
        "# OPENAI_API_KEY=",
        "# Optional\nOPENAI_API_KEY=your_key",
        "# --- Optional integrations ---\n\nOPENAI_API_KEY=your_key",
        "OPENAI_API_KEY=your_key # optional",
        "# --- Optional ---\n\n# Search\nSEARCH_URL=x\n\n# Models\nOPENAI_API_KEY=",
        "# Optional integrations\nSEARCH_URL=x\nOPENAI_API_KEY=",
        "# Optional: see the guide\n\nSEARCH_URL=x\nOPENAI_API_KEY=",
    ],
)
def test_what_may_lack_is_not_required(text):
    """Commented out, or called optional by its comment or its section."""
    _, manifest = drafted(text)

    assert not manifest.secrets["openai"].required


@pytest.mark.parametrize(
    "text",
    [
        "OPENAI_API_KEY=",
        "# Optional: the search\n# SEARCH_URL=\nOPENAI_API_KEY=",
        "# Optional variables are marked so, all the others must be there\nA=1\n\nOPENAI_API_KEY=",
        "# Not optional\nOPENAI_API_KEY=",
        "# --- Optional ---\n\nA=1\n\n# --- Models ---\n\nOPENAI_API_KEY=",
    ],
)
def test_an_empty_one_is_required(text):
    """Empty is how a secret that must be there is written; another's comment says nothing of it."""
    result, manifest = drafted(text)

    assert manifest.secrets["openai"].required
    assert "required" not in result.text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"STRIPE_SECRET_KEY={LIVE}", "a Stripe live key"),
        (f"ANYTHING={LIVE}", "a Stripe live key"),
        ("DB_PASSWORD=Tq9-vX2m.Lp4zR8k", "too irregular"),
        ("SOMETHING=kJ8s9Qw2Lm4Np6Rt8Vx0Zb2Dc4Ff6Gh8Jk", "a long random text"),
        ("LOG_URL=https://u:Tq9vX2mLp4@logs.example.org/", "an address with a password"),
        (f"# OLD_TOKEN={LIVE}", "a Stripe live key"),
    ],
)
def test_a_value_that_looks_real_is_reported_and_not_copied(line, reason):
    """The finding names line and variable, never the value; the manifest has neither."""
    result, _ = drafted(f"PORT=80\n{line}\n")
    value = line.partition("=")[2]

    (finding,) = result.findings
    assert (2, line.lstrip("# ").partition("=")[0]) == (finding.line, finding.key)
    assert reason in finding.message
    assert value not in result.text + str(finding)
    assert "Tq9vX2mLp4" not in result.text


def test_comments_that_hold_a_value_are_not_carried_over():
    """A comment is copied only where it is short and harmless."""
    result, _ = drafted(f"# used to be {LIVE}\n# the port\nPORT=80 # {LIVE}\n# {'x' * 200}\nB=1\n")

    assert LIVE not in result.text
    assert "# the port\nPORT" in result.text
    assert "xxx" not in result.text


def test_settings_are_kept_and_those_of_a_laptop_marked():
    """Plain values are the defaults; what names this machine needs another in production."""
    result, manifest = drafted(
        'PORT=80\nBASE_URL=http://localhost:80\n# DEBUG=1\nNAME="a \'b\' \\"c\\""\n'
    )

    assert {"PORT": "80", "BASE_URL": "http://localhost:80", "NAME": "a 'b' \"c\""} == (
        manifest.config_in("development")
    )
    assert 'BASE_URL = "http://localhost:80"  # review: production needs its own' in result.text
    assert '# DEBUG = "1"' in result.text


def test_variables_that_decide_what_runs_are_left_out():
    """Nothing that a stranger's example says is preloaded into programs."""
    result, manifest = drafted("LD_PRELOAD=./evil.so\nPATH=/tmp\nKEYTURN_ENVIRONMENT=x\nA=1\n")

    assert {"A": "1"} == manifest.config_in("production")
    assert {"LD_PRELOAD", "PATH", "KEYTURN_ENVIRONMENT"} == {
        n.name for n in result.review if "left out" in n.reason
    }


def test_the_environments_and_the_consumer_are_there():
    """Development and a protected production, and somebody to run."""
    _, manifest = drafted("# Settings of the backend\nA=1\n")

    assert {"development": False, "production": True} == {
        name: e.protected for name, e in manifest.environments.items()
    }
    assert ["backend"] == list(manifest.consumers)
    assert ["app"] == list(drafted("A=1")[1].consumers)
    assert "team-shop" == manifest.project.owner
    assert "ops" == drafted("A=1", owner="ops")[1].project.owner


def test_an_empty_example_makes_an_empty_manifest():
    """A project without a `.env.example` starts with a frame to fill in."""
    result, manifest = drafted("")

    assert {} == dict(manifest.secrets)
    assert () == result.findings


def test_a_jwt_pair_is_generated_in_the_form_its_variables_want():
    """`_B64` is one line of base64, without it the PEM stands as it is."""
    for names, form in (
        (("JWT_PRIVATE_KEY_B64", "JWT_PUBLIC_KEY_B64"), "pem-base64"),
        (("JWT_PRIVATE_KEY", "JWT_PUBLIC_KEY"), "pem"),
    ):
        _, manifest = drafted("".join(f"{name}=x\n" for name in names))
        assert form == manifest.secrets["jwt"].generate.format
        assert SecretKind.JWT_SIGNING_KEY is manifest.secrets["jwt"].kind


def test_a_bad_project_name_is_refused_with_a_good_one():
    """The hint can be used as it stands."""
    with pytest.raises(UsageError) as caught:
        draft(parse_env(b"", file="x"), project_name="My Shop")
    assert "use `my-shop`" == caught.value.hint
    assert ["my-shop", "app", "app", "shop"] == [
        project_name_from(t) for t in ("My Shop!", "", "42", "_shop_")
    ]


def test_more_than_a_manifest_holds_is_refused():
    """Before anything is written."""
    with pytest.raises(UsageError, match="more than 2000 variables"):
        drafted("".join(f"V{n}=1\n" for n in range(2_001)))
    with pytest.raises(UsageError, match="larger than 1 MB"):
        drafted("".join(f"V{n}={'é' * 1_000}\n" for n in range(500)))


@pytest.mark.parametrize(
    "name",
    """LDAP_BIND_PW FIREBASE_CREDENTIALS_JSON DISCORD_WEBHOOK TEAMS_WEBHOOK_URL SLACK_WEBHOOK_URL
    WEBHOOK_ENDPOINT BASIC_AUTH TELEGRAM_BOT PAGERDUTY_ROUTING_KEY MAILGUN_SENDING_KEY
    ALGOLIA_ADMIN_KEY SEGMENT_WRITE_KEY GOOGLE_MAPS_KEY SECRET_KEY_FALLBACKS OTP_SEED KEY
    TLS_KEY_B64 SOME_KEYS""".split(),
)
def test_a_name_in_doubt_is_a_secret(name):
    """A person is asked, since a plain setting would be committed."""
    result, manifest = drafted(f"{name}=")
    (secret,) = manifest.secrets.values()

    assert (SecretKind.GUIDED, True) == (secret.kind, secret.required)
    assert secret.name in {note.name for note in result.review}
    assert "# review: " in result.text.partition("[consumers.")[2]


@pytest.mark.parametrize(
    "name", ["COOKIE_HASH_KEY", "COOKIE_BLOCK_KEY", "HASHIDS_SALT", "PASSWORD_PEPPER"]
)
@pytest.mark.parametrize("value", ["", "changeme", "hunter22"])
def test_what_seals_or_hashes_is_made_here(name, value):
    """Nobody issues it; that it must not change lightly is said."""
    result, manifest = drafted(f"{name}={value}")

    assert [SecretKind.GENERATED] == [s.kind for s in manifest.secrets.values()]
    assert any("makes void" in note.reason for note in result.review)


@pytest.mark.parametrize(
    "line",
    [
        "SLACK_WEBHOOK_URL=https://hooks.slack.com/services/T1/B2/c3d4e5f6g7",
        "ALERTS_WEBHOOK=https://chat.internal/hooks/1",
        "BASIC_AUTH=admin:hunter22",
        "METRICS_AUTH_LINE=admin:hunter22",
        "LDAP_BIND_PW=1234",
        "TELEGRAM_BOT=123456:abc",
        "GOOGLE_MAPS_KEY=abc",
        "DB_PASSWORD=/run/x",
    ],
)
@pytest.mark.parametrize("example", [True, False])
def test_a_value_under_a_doubtful_name_is_not_copied(line, example):
    """Neither from an example nor from a real file."""
    result, manifest = drafted(line, example=example)

    assert 1 == len(manifest.secrets)
    assert line.partition("=")[2] not in result.text


@pytest.mark.parametrize(
    "line",
    """STRIPE_PUBLISHABLE_KEY=pk_test_x RECAPTCHA_SITE_KEY=x NEXT_PUBLIC_MAPS_KEY=x CACHE_KEY=x
    WEBHOOK_ID=7 WEBHOOK_PATH=/hooks WEBHOOK_RETRIES=3 WEBHOOK_EVENTS=push BCRYPT_SALT_ROUNDS=12
    SEED=42 CORS_ALLOW_CREDENTIALS=true AUTH_ENABLED=false AUTH_SCOPES=read:user AUTH_PORT=
    AUTH_ADDR=auth:8080 SMTP_AUTH=login BOT_NAME=x BOT_PREFIX=! API_KEY_HEADER=X-Key PW_LENGTH=12
    GOOGLE_APPLICATION_CREDENTIALS=/secrets/gcp.json SIGNING_KEY=/etc/app/signing
    TLS_KEY=certs/dev.pem AUTH_URL=https://auth.example.org""".split(),
)
def test_what_is_clearly_no_secret_stays_a_setting(line):
    """Public halves, identifiers, descriptions and paths."""
    name, _, value = line.partition("=")

    assert {name: value} == drafted(line)[1].config_in("production")


@pytest.mark.parametrize(
    "name", "SIGNING_KEY JWT_SECRET ENCRYPTION_KEY SESSION_SECRET JWT_PRIVATE_KEY WHATEVER".split()
)
@pytest.mark.parametrize("label", ["", "RSA ", "EC ", "ENCRYPTED "])
def test_a_private_key_is_never_made_of_random_text(name, label):
    """A new one must be a key too, so a person brings it."""
    head = f"-----BEGIN {label}PRIVATE " + "KEY-----"
    result, manifest = drafted(f'{name}="{head}\nabc\n"')

    assert [SecretKind.GUIDED] == [s.kind for s in manifest.secrets.values()]
    assert any("private key stands there" in note.reason for note in result.review)


def test_the_pair_that_signs_tokens_is_still_made_here():
    """Both halves are there, so what makes the next pair is known."""
    head = "-----BEGIN PRIVATE " + "KEY-----"
    _, manifest = drafted(f'JWT_PRIVATE_KEY="{head}\nabc\n"\nJWT_PUBLIC_KEY=x')

    assert SecretKind.JWT_SIGNING_KEY is manifest.secrets["jwt"].kind


@pytest.mark.parametrize(
    "text", ["DB_PASSWORD=", "DB_USER=\nDB_PASSWORD=x", "DB_USER=<user>\nDB_PASSWORD=x"]
)
def test_no_login_is_made_up(text):
    """Where the example names none, a person is asked."""
    result, manifest = drafted(text)

    assert {} == dict(manifest.secrets["db"].identity)
    assert "# review: which login?" in result.text


def test_no_login_is_drawn_by_lot_either():
    """A generated secret without its login's name would make one up: a person brings both."""
    result, manifest = drafted("OPENSEARCH_USERNAME=\nOPENSEARCH_PASSWORD=x")

    assert SecretKind.GUIDED is manifest.secrets["opensearch"].kind
    assert "# review: which login?" in result.text


@pytest.mark.parametrize(
    ("prefix", "name", "kind"),
    [
        ("S3_", "s3", "aws-access-key"),
        ("AWS_", "aws", "aws-access-key"),
        ("MINIO_", "minio-access-key", "guided"),
        ("", "access-key", "guided"),
    ],
)
def test_an_access_key_and_its_secret_key_are_one(prefix, name, kind):
    """They are issued together and change together."""
    _, manifest = drafted(f"{prefix}ACCESS_KEY=x\n{prefix}SECRET_KEY=y")

    assert {name: kind} == {n: s.kind.value for n, s in manifest.secrets.items()}
    assert {
        "access_key_id": f"{prefix}ACCESS_KEY",
        "secret_access_key": f"{prefix}SECRET_KEY",
    } == dict(manifest.secrets[name].fields)


def test_a_real_file_brings_no_finding_and_no_comment():
    """Real values are where they belong; its comments may say anything."""
    text = (
        "# was hunter22 before\nDB_USER=shop\nDB_PASSWORD=Tq9-vX2m.Lp4zR8k\nPORT=80 # see bob\n"
        "BANNER=it is Tq9-vX2m.Lp4zR8k\n"
    )
    result, manifest = drafted(text, example=False)

    assert () == result.findings
    assert {"PORT": "80"} == manifest.config_in("production")
    for word in ("Tq9", "hunter22", "bob"):
        assert word not in result.text
    # What a real file sets is lacking nowhere: it is a secret where it is in doubt.
    assert {"db", "banner"} == set(manifest.secrets)


_NAMES = st.one_of(
    st.sampled_from(
        "DB_HOST DB_PORT DB_NAME DB_SSLMODE DB_USER DB_PASSWORD DB_ADMIN_USER DB_ADMIN_PASSWORD "
        "DATABASE_URL REDIS_PASSWORD REDIS_USER JWT_PRIVATE_KEY_B64 JWT_PUBLIC_KEY_B64 JWT_SECRET "
        "SESSION_SECRET SECRET_KEY ENCRYPTION_KEY ENCRYPTION_KEY_HEX TWITCH_CLIENT_ID PGUSER "
        "TWITCH_CLIENT_SECRET STRIPE_SECRET_KEY STRIPE_WEBHOOK_SECRET STRIPE_WEBHOOK_SECRET_ALT "
        "SENTRY_DSN OPENSEARCH_USERNAME OPENSEARCH_PASSWORD VAULT_ROLE_ID VAULT_SECRET_ID PGPASSWORD "
        "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY SMTP_USER SMTP_PASSWORD LD_TOKEN PATH KEYTURN_X "
        "BASIC_AUTH SLACK_WEBHOOK_URL HASHIDS_SALT S3_ACCESS_KEY S3_SECRET_KEY TELEGRAM_BOT X_KEY "
        "OTP_SEED LDAP_BIND_PW GOOGLE_APPLICATION_CREDENTIALS SIGNING_KEY AUTH_X "
        "VAPID_PRIVATE_KEY VAPID_PUBLIC_KEY SSH_KEY A_TOKEN a_token _SECRET __KEY 9".split()
    ),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True),
    st.from_regex(
        r"[A-Z]{0,4}_(PASSWORD|SECRET|TOKEN|API_KEY|PRIVATE_KEY|DSN|URL)", fullmatch=True
    ),
)
_VALUES = st.one_of(
    st.sampled_from(
        [
            "",
            "localhost",
            "5432",
            "0",
            "disable",
            "changeme",
            "<x>",
            "${X}",
            "postgres",
            "true",
            LIVE,
        ]
        + [
            "https://u:Tq9vX2mLp4@h/",
            "redis://:x@h",
            "admin:hunter22",
            "/secrets/gcp.json",
            "/run/secrets",
            "-----BEGIN PRIVATE " + "KEY-----\nabc",
            "https://hooks.slack.com/services/T1/B2/c3d4e5f6g7",
            "a\nb",
            "2024-01-01",
            "kJ8s9Qw2Lm4Np6Rt8Vx0Zb2Dc4",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
)
_COMMENTS = st.one_of(
    st.none(),
    st.sampled_from(["optional", "backend", LIVE, "-----", "= Section ="]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r"), max_size=20),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(_NAMES, _VALUES, _COMMENTS, st.booleans()), max_size=14), st.booleans())
def test_whatever_is_drafted_loads(entries, example):
    """No `.env` file makes a manifest with an error in it, and no real-looking value gets in."""
    lines = []
    for name, value, comment, live in entries:
        if comment is not None:
            lines.append(f"# {comment}")
        text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        lines.append(f'{"" if live else "# "}{name}="{text}"')

    result, manifest = drafted("\n".join(lines), example=example)

    assert LIVE not in result.text
    assert "Tq9vX2mLp4" not in result.text
    assert "c3d4e5f6g7" not in result.text
    tomllib.loads(result.text)
    assert {s.name for s in result.secrets} == set(manifest.secrets)
    for environment in manifest.environments:
        manifest.order(environment)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_a_draft_of_garbage_loads(data):
    """Even what is no `.env` file at all."""
    try:
        drafted(data)
    except UsageError as error:
        assert "NUL" in error.message
