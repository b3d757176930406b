"""Reading a manifest: every fault at once, each with file, line, key and fix."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyturn.errors import ManifestError
from keyturn.manifest import (
    GenerateFormat,
    GenerateSettings,
    Priority,
    SecretKind,
    SignalReload,
    Strategy,
    load,
)

HEAD = """\
[project]
name = "clipper"
owner = "team-core"
[environments.development]
[environments.production]
protected = true
"""
FAKE_STRIPE = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
FAKE_JWT = "eyJhbGciOiJSUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "c2lnbmF0dXJlLWhlcmU"


def problems(text):
    with pytest.raises(ManifestError) as caught:
        load(text if isinstance(text, bytes) else text.encode(), file="keyturn.toml")
    return caught.value.problems


def told(text):
    """The faults of HEAD + *text*, as (line within *text*, key, message)."""
    start = HEAD.count("\n")
    return [(p.line and p.line - start, p.key, p.message) for p in problems(HEAD + text)]


def loaded(text):
    return load((HEAD + text).encode(), file="keyturn.toml")


def test_every_fault_is_told_at_once_in_file_order():
    """One reading finds faults of every sort, each with its line, and sorts them by line."""
    found = problems(
        HEAD
        + """\
[config]
PORT = 1.5
[secrets.db]
kind = "postgress-login"
[secrets.session]
kind = "session-secret"
variable = "SESSION_SECRET"
max_age = "90 days"
depends_on = ["jwt"]
colour = "red"
"""
    )

    assert [8, 10, 14, 15, 16] == [p.line for p in found]
    assert [
        "config.PORT",
        "secrets.db.kind",
        "secrets.session.max_age",
        "secrets.session.depends_on[0]",
        "secrets.session.colour",
    ] == [p.key for p in found]
    assert "did you mean `postgres-login`?" == found[1].fix
    assert all(p.file == "keyturn.toml" and p.fix for p in found)


def test_the_error_lists_each_problem_on_a_line_of_its_own():
    """What a person sees names file, line, key and fix."""
    with pytest.raises(ManifestError) as caught:
        load((HEAD + "[secrets.x]\n").encode(), file="keyturn.toml")

    assert "keyturn.toml:7: `secrets.x`: a secret lacks `kind`" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "line", "key", "words", "fix"),
    [
        ("[secret.x]\n", 1, "secret", "no such key", "did you mean `secrets`?"),
        ("[project.x]\n", 1, "project.x", "no such key", "remove it"),
        ("[secrets.Db]\nkind = 'guided'\n", 1, "secrets.Db", "is not a name", "small letters"),
        ("[config]\n'1X' = 'a'\n", 2, "config.1X", "is not a variable name", "letters"),
        ("[config]\nX = { staging = 'a' }\n", 2, "config.X.staging", "no environment", "add"),
        ("[config]\nX = { prodution = 'a' }\n", 2, "config.X.prodution", "no", "`production`?"),
        ("[config]\nX = [1]\n", 2, "config.X", "not a list", "write a text"),
        ("[config]\nX = 1979-05-27\n", 2, "config.X", "not a date or time", "write"),
        ("[config]\nKEYTURN_X = 'a'\n", 2, "config.KEYTURN_X", "Keyturn's own", "rename"),
        ("[stores.local]\nkind = 'valt'\n", 2, "stores.local.kind", "does not know", "vault"),
        ("[environments.e]\nstore = 'locl'\n", 2, "environments.e.store", "no store", "local"),
        ("[environments.default]\n", 1, "environments.default", "cannot be called", "call it"),
        ("[consumers.a]\n", 1, "consumers.a", "lacks `secrets`", "add `secrets`"),
        ("[consumers.a]\nsecrets = ['x']\n", 2, "consumers.a.secrets[0]", "no secret", "add"),
        ("[consumers.a]\nsecrets = 'all'\n", 2, "consumers.a.secrets", "does not know", "`*`"),
        ("[consumers.a]\nsecrets = 1\n", 2, "consumers.a.secrets", "not a number", "list"),
    ],
)
def test_a_fault_of_the_outer_tables(text, line, key, words, fix):
    """Each points at its line and key and says what to do."""
    (found,) = problems(HEAD + text)

    assert (line + HEAD.count("\n"), key) == (found.line, found.key)
    assert words in found.message
    assert fix in found.fix


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("kind = 'session-secret'\nstrategy = 'in-place'", "strategy", "is no strategy of"),
        ("kind = 'openai-key'\nstrategy = 'in-place'", "strategy", "has no strategies"),
        ("kind = 'session-secret'\nmax_age = '0d'", "max_age", "overdue"),
        ("kind = 'session-secret'\nmax_age = '900w'", "max_age", "ten years"),
        ("kind = 'session-secret'\nmax_age = 90", "max_age", "not a number"),
        ("kind = 'session-secret'\nmax_age = '1y'", "max_age", "is not a duration"),
        ("kind = 'session-secret'\nrequired = 'yes'", "required", "not a string"),
        ("kind = 'generated'\ntarget = { host = 'a', database = 'b' }", "target", "no target"),
        ("kind = 'session-secret'\ntarget = { host = 'a' }", "target.host", "no such key"),
        ("kind = 'stripe-key'\ngenerate = { format = 'hex' }", "generate", "is not generated"),
        ("kind = 'session-secret'\ngenerate = { format = 'pem' }", "generate.format", "cannot be"),
        (
            "kind = 'jwt-signing-key'\nvariable = ''\ngenerate = { format = 'hex' }",
            "generate.format",
            "cannot be",
        ),
        (
            "kind = 'generated'\ngenerate = { format = 'hex', length = 40 }",
            "generate.length",
            "`bytes`",
        ),
        (
            "kind = 'generated'\ngenerate = { format = 'hex', bytes = 13 }",
            "generate.bytes",
            "from 14",
        ),
        (
            "kind = 'generated'\ngenerate = { format = 'hex', bytes = 9999999 }",
            "generate.bytes",
            "to 1024",
        ),
        (
            "kind = 'encryption-key'\ngenerate = { format = 'hex', bytes = 31 }",
            "generate.bytes",
            "no cipher",
        ),
        (
            "kind = 'encryption-key'\ngenerate = { format = 'ascii' }",
            "generate.format",
            "whole number of bytes",
        ),
        ("kind = 'generated'\nfields = { A = 'X' }", "fields.A", "is not a field name"),
        ("kind = 'postgres-login'\nvariable = 'X'", "variable", "several fields"),
        ("kind = 'postgres-login'\nfields = { user = 'X' }", "fields.user", "no field `user`"),
        ("kind = 'generated'\nvariable = 'X'\nfields = { value = 'Y' }", "variable", "same thing"),
        ("kind = 'generated'\nvariable = 'MY-VAR'", "variable", "is not a variable name"),
        ("kind = 'generated'\nvariable = 'LD_PRELOAD'", "variable", "decides what programs run"),
        ("kind = 'generated'\nvariable = 'KEYTURN_VERSIONS'", "variable", "Keyturn's own"),
        ("kind = 'generated'\nonly = ['prod']", "only[0]", "no environment"),
        ("kind = 'generated'\nonly = []", "only", "1 to 100"),
        (
            "kind = 'generated'\nonly = ['production']\nenvironments.development.grace = '1h'",
            "environments.development",
            "keeps it out",
        ),
        ("kind = 'generated'\nenvironments.dev.grace = '1h'", "environments.dev", "no environment"),
        (
            "kind = 'generated'\nenvironments.production.kind = 'x'",
            "environments.production.kind",
            "no such key",
        ),
        ("kind = 'generated'\nidentity = { value = 'x' }", "identity.value", "is secret"),
        ("kind = 'generated'\nidentity = { other = 'x' }", "identity.other", "no such field"),
        ("kind = 'generated'\npurpose = 'a\\nb'".replace("'", '"'), "purpose", "one line"),
    ],
)
def test_a_fault_of_a_secret(text, key, words):
    """What a kind or a form forbids is told at its key."""
    variable = "" if "variable" in text or "fields" in text else "\nvariable = 'X'"
    if "postgres-login" in text or "jwt" in text:
        variable = ""
    (found,) = problems(f"{HEAD}[secrets.x]\n{text}{variable}\n")

    assert f"secrets.x.{key}".rstrip(".") == found.key
    assert words in found.message


@pytest.mark.parametrize(
    ("reload", "words"),
    [
        ("", "exactly one"),
        ("signal = 'HUP'", "needs `pid_file`"),
        ("pid_file = 'a'\nhttp = 'http://localhost/'", "needs `signal`"),
        ("signal = 'KILL'\npid_file = 'a'", "does not know"),
        ("signal = 'HUP'\npid_file = 'a'\ncompose = 'b'", "found `signal` and `compose`"),
        ("action = 'restart'\ncompose = 'b'", "needs `systemd`"),
        ("command = []", "1 to 256 items"),
        ("command = 'a b'", "must be a list of arguments"),
        ("http = 'ftp://x/'", "is not an address"),
        ("http = 'http://backend:8080/reload'", "plain HTTP to another machine"),
        ("http = 'http://user@localhost/reload'", "no user name"),
    ],
)
def test_a_fault_of_a_reload(reload, words):
    """A reload is exactly one of five, complete, and sends nothing in clear over a network."""
    found = problems(f"{HEAD}[consumers.a]\nsecrets = []\n[consumers.a.reload]\n{reload}\n")

    assert any(words in p.message for p in found), found


@pytest.mark.parametrize(
    ("render", "words"),
    [
        ("path = '/etc/passwd'", "out of the project folder"),
        ("path = '../x.env'", "out of the project folder"),
        ("path = 'run/../../x'", "out of the project folder"),
        ("path = '~/x'", "out of the project folder"),
        ("path = 'run/'", "out of the project folder"),
        ("path = '.keyturn/x'", "not for rendered files"),
        ("path = '.git/hooks/pre-commit'", "not for rendered files"),
        ("path = 'a'\nmode = '0644'", "lets others read"),
        ("path = 'a'\nmode = '0700'", "lets somebody run"),
        ("path = 'a'\nmode = '0200'", "keeps its owner out"),
        ("path = 'a'\nmode = 600", "not a number"),
        ("path = 'a'\nmode = '6000'", "is not permission bits"),
        ("path = 'a'\nformat = 'yaml'", "does not know `yaml`"),
        ("path = 'a'\nowner = 'root;id'", "is not `name`"),
    ],
)
def test_a_fault_of_a_rendered_file(render, words):
    """A rendered file stays inside the project and away from others."""
    found = problems(f"{HEAD}[consumers.a]\nsecrets = []\n[consumers.a.render]\n{render}\n")

    assert any(words in p.message for p in found), [p.message for p in found]


def test_a_variable_may_belong_to_one_field_only():
    """Two secrets, or a secret and a setting, with one variable in an environment are refused."""
    found = told(
        """\
[config]
PORT = "1"
[secrets.a]
kind = "guided"
variable = "TOKEN"
[secrets.b]
kind = "guided"
variable = "TOKEN"
[secrets.c]
kind = "guided"
fields = { one = "PORT", two = "X", three = "X" }
"""
    )

    assert [
        (8, "secrets.b.variable"),
        (11, "secrets.c.fields.one"),
        (11, "secrets.c.fields.three"),
    ] == sorted({(line, key) for line, key, _ in found})
    assert any("`secrets.a" not in message and "`a.value`" in message for _, _, message in found)


def test_one_variable_may_serve_two_secrets_in_different_environments():
    """Names clash within an environment only."""
    manifest = loaded(
        """\
[secrets.test-key]
kind = "stripe-key"
variable = "STRIPE_SECRET_KEY"
only = ["development"]
[secrets.live-key]
kind = "stripe-key"
variable = "STRIPE_SECRET_KEY"
only = ["production"]
"""
    )

    assert ("live-key", "value") == manifest.find_field("STRIPE_SECRET_KEY", "production")
    assert ("test-key", "value") == manifest.find_field("STRIPE_SECRET_KEY", "development")


def test_a_cycle_is_named():
    """Secrets that wait for each other are refused, with the way round."""
    secrets = "".join(
        f'[secrets.{name}]\nkind = "guided"\nvariable = ""\ndepends_on = ["{other}"]\n'
        for name, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"))
    )

    ((line, key, message),) = told(secrets)

    assert (12, "secrets.c.depends_on[0]") == (line, key)
    assert "`a` -> `b` -> `c` -> `a`" in message


def test_a_secret_cannot_depend_on_one_that_its_environment_lacks():
    """A dependency must exist wherever the secret does."""
    ((_, key, message),) = told(
        '[secrets.a]\nkind = "guided"\nvariable = ""\nonly = ["production"]\n'
        '[secrets.b]\nkind = "guided"\nvariable = ""\ndepends_on = ["a"]\n'
    )

    assert "secrets.b.depends_on[0]" == key
    assert "`a` does not exist there (in `development`)" == message


POSTGRES = """\
[secrets.admin]
kind = "guided"
fields = { username = "", password = "" }
[secrets.db]
kind = "postgres-login"
fields = { username = "DB_USER", password = "DB_PASSWORD" }
[secrets.db.target]
"""


@pytest.mark.parametrize(
    ("target", "key", "words"),
    [
        ("host = 'h'\ndatabase = 'd'", "", "needs `admin`"),
        ("host = 'h'\nadmin = 'admin'", "", "lacks `database`"),
        ("host = 'h'\ndatabase = 'd'\nadmin = 'db'", ".admin", "cannot administer itself"),
        ("host = 'h'\ndatabase = 'd'\nadmin = 'amdin'", ".admin", "no secret `amdin`"),
        ("host = '${H}'\ndatabase = 'd'\nadmin = 'admin'", ".host", "`${H}` has no value"),
        (
            "host = '${DB_USER}'\ndatabase = 'd'\nadmin = 'admin'",
            ".host",
            "belongs to a secret",
        ),
        ("host = 'h'\ndatabase = 'd'\nadmin = 'admin'\nport = '0'", ".port", "not a port"),
        ("host = 'h'\ndatabase = 'd'\nadmin = 'admin'\nport = '${P}'", ".port", "not a port"),
        ("host = 'h'\ndatabase = 'd'\nadmin = 'admin'\nport = 70000", ".port", "65535"),
        ("host = 'h'\ndatabase = 'd'\nadmin = 'admin'\nsslmode = '${M}'", ".sslmode", "TLS mode"),
        ("host = 'h'\ndatabase = 'd'\nadmin = 'admin'\nlogins = ['a']", ".logins", "2 to 2"),
        (
            "host = 'h'\ndatabase = 'd'\nadmin = 'admin'\nlogins = ['a', 'a']",
            ".logins",
            "something twice",
        ),
        ("host = 'h'\ndatabase = 'd'\nadmin = 'admin'\nhots = 'x'", ".hots", "no such key"),
    ],
)
def test_a_fault_of_a_database(target, key, words):
    """A target that no login could be changed at is refused before anything is tried."""
    found = told(f"[config]\nP = 'many'\nM = 'maybe'\n{POSTGRES}{target}\n")

    assert any(f"secrets.db.target{key}" == k and words in m for _, k, m in found), found


def test_settings_are_filled_in_for_each_environment():
    """A `${NAME}` takes the setting of the environment; one that lacks there is told with it."""
    text = (
        "[config]\nH = { production = 'db.internal' }\nP = 5433\n"
        + POSTGRES
        + "host = '${H}'\ndatabase = 'd'\nadmin = 'admin'\nport = '${P}'\n"
    )
    ((_, key, message),) = told(text)
    assert ("secrets.db.target.host", "`${H}` has no value (in `development`)") == (key, message)

    manifest = loaded(text.replace("{ production", "{ default = 'localhost', production"))

    assert "localhost" == manifest.secret_in("development", "db").target["host"]
    assert "db.internal" == manifest.secret_in("production", "db").target["host"]
    assert 5433 == manifest.secret_in("production", "db").target["port"]


def test_a_human_password_with_a_max_age_warns():
    """Calendar rotation of people's passwords is allowed but advised against."""
    manifest = loaded(
        '[secrets.root]\nkind = "human-password"\nvariable = ""\nmax_age = "90d"\n'
        '[secrets.ok]\nkind = "human-password"\nvariable = ""\n'
    )

    (warning,) = manifest.warnings
    assert (10, "secrets.root.max_age") == (warning.line, warning.key)
    assert "NIST SP 800-63B-4" in warning.message
    assert timedelta(days=90) == manifest.secrets["root"].max_age
    assert manifest.secrets["ok"].max_age is None


def test_a_secret_without_a_variable_warns_unless_it_is_meant():
    """Forgetting the variable would deliver nothing without a word."""
    manifest = loaded(
        '[secrets.a]\nkind = "guided"\n[secrets.b]\nkind = "guided"\nvariable = ""\n'
        '[secrets.c]\nkind = "postgres-login"\n'
    )

    assert ["secrets.a", "secrets.c"] == [w.key for w in manifest.warnings]
    assert {"username": None, "password": None} == dict(manifest.secrets["c"].fields)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"X = '{FAKE_STRIPE}'", "a Stripe live key"),
        (f"X = 'https://shop:{'h7Gq' * 3}@example.com'", "an address with a password"),
        (f"# X = '{FAKE_STRIPE}'", "a comment holds a Stripe live key"),
        ("X = '''-----BEGIN RSA " + "PRIVATE KEY-----\n'''", "a private key"),
        (f"X = '{FAKE_JWT}'", "a signed token"),
        ("X = 'AKIA" + "Z2X4Q7W9E1R3T5Y8'", "an AWS access key id"),
        ("X = 'ghp_" + "a1B2" * 9 + "'", "a GitHub token"),
        ("X = 'hvs." + "CAESI" * 6 + "9'", "a Vault token"),
        ("X = 'SG." + "abcDEF12345" + "." + "ghiJKL67890'", "a SendGrid key"),
        ("X = 'sk-" + "proj-9f8e7d6c5b4a39281706'", "an API key"),
        ("DB_PASSWORD = 'tr0ub4dor&3'", "a value under a name that says secret"),
        ("API_TOKEN = { production = 'q9w8e7r6' }", "a value under a name that says secret"),
    ],
)
def test_a_value_found_in_it_is_an_error_that_does_not_quote_it(line, what):
    """A manifest holds no value, ever: its shape or its name gives one away."""
    (found, *_) = problems(f"{HEAD}[config]\n{line}\n")
    everything = "".join(str(p) for p in problems(f"{HEAD}[config]\n{line}\n"))

    assert 8 == found.line
    assert what in found.message
    assert "keyturn set" in found.fix
    for value in (FAKE_STRIPE, FAKE_JWT, "h7Gq", "tr0ub4dor", "q9w8e7r6", "a1B2", "CAESI", "9f8e7"):
        assert value not in everything


@pytest.mark.parametrize(
    "line",
    [
        "DB_PASSWORD = ''",
        "DB_PASSWORD = 'changeme'",
        "DB_PASSWORD = '${OTHER}'",
        "DB_PASSWORD = '<from the vault>'",
        "STRIPE_SECRET_KEY = 'sk_test_your_key_here'",
        "DATABASE_URL = 'postgres://user:password@localhost/app'",
        "JWT_ACCESS_TOKEN_TTL = '15m'",
        "PASSWORD_MIN_LENGTH = 12",
        "REQUIRE_API_KEY = true",
        "SESSION_COOKIE_NAME = 'clipper_session'",
        "GOOGLE_APPLICATION_CREDENTIALS = '/run/secrets/google.json'",
        "STRIPE_PUBLISHABLE_KEY = 'pk_live_abcdefghijklmnop'",
        "AKIA = 'AKIAIOSFODNN7EXAMPLE'",
        "TASK = 'task-management-and-scheduling'",
    ],
)
def test_what_only_resembles_a_value_is_let_through(line):
    """Placeholders, times, switches and file names are plain settings."""
    assert 1 == len(loaded(f"[config]\n{line}\n").config)


def test_a_faulty_choice_that_could_be_a_value_is_not_quoted():
    """Text pasted into the wrong key may be a secret; the message leaves it out."""
    found = problems(f"{HEAD}[secrets.x]\nkind = '{FAKE_STRIPE}'\nvariable = ''\n")

    assert all(FAKE_STRIPE not in str(p) for p in found)
    assert {"secrets.x.kind"} == {p.key for p in found}


def test_defaults_come_from_the_kind_and_the_project():
    """What is not said is the kind's: age, grace, priority, generation; the owner is the project's."""
    manifest = loaded('[secrets.s]\nkind = "session-secret"\nvariable = "S"\n')

    secret = manifest.secrets["s"]
    assert SecretKind.SESSION_SECRET is secret.kind
    assert ("team-core", Priority.HIGH, True) == (secret.owner, secret.priority, secret.required)
    assert (timedelta(days=90), timedelta(hours=1)) == (secret.max_age, secret.grace)
    assert GenerateSettings(GenerateFormat.BASE64, bytes=32) == secret.generate
    assert {"value": "S"} == dict(secret.fields)
    assert Strategy.SINGLE is secret.strategy
    assert {} == dict(secret.target)
    assert "local" == manifest.environments["production"].store
    assert manifest.environments["production"].protected


def test_an_override_changes_one_environment_only():
    """What `[secrets.X.environments.ENV]` says holds there, target keys one by one."""
    manifest = loaded(
        POSTGRES
        + """\
host = "localhost"
database = "clipper"
admin = "admin"
[secrets.db.environments.production]
max_age = "30d"
grace = "2h"
priority = "high"
required = false
strategy = "in-place"
generate = { format = "hex", bytes = 24 }
target = { host = "db.internal" }
"""
    )

    here, there = (manifest.secret_in(e, "db") for e in ("development", "production"))
    assert (timedelta(days=90), Strategy.TWO_LOGINS, True) == (
        here.max_age,
        here.strategy,
        here.required,
    )
    assert (timedelta(days=30), timedelta(hours=2)) == (there.max_age, there.grace)
    assert (Priority.HIGH, False, Strategy.IN_PLACE) == (
        there.priority,
        there.required,
        there.strategy,
    )
    assert GenerateSettings(GenerateFormat.HEX, bytes=24) == there.generate
    assert ("localhost", "db.internal") == (here.target["host"], there.target["host"])
    assert "clipper" == there.target["database"]


def test_a_faulty_override_is_told_where_it_stands():
    """A kind's rules hold in overrides too, and a missing setting is told once for each place."""
    ((line, key, _),) = told(
        '[secrets.s]\nkind = "session-secret"\nvariable = "S"\n'
        '[secrets.s.environments.production]\nmax_age = "0d"\n'
    )

    assert (5, "secrets.s.environments.production.max_age") == (line, key)


def test_a_consumer_is_read_whole():
    """Render, reload and health arrive typed, with settings filled in per environment."""
    manifest = loaded(
        """\
[config]
PORT = { development = 8080, production = 80 }
[consumers.backend]
secrets = "*"
config = false
render = { path = "run/${PORT}.env", format = "json", mode = "0640", owner = "app:app" }
reload = { signal = "HUP", pid_file = "run/${PORT}.pid" }
health = { url = "http://127.0.0.1:${PORT}/health", versions = "a.b", timeout = "5s" }
"""
    )

    consumer = manifest.consumer_in("production", "backend")
    assert ("run/80.env", "json", 0o640, "app:app") == (
        consumer.render.path,
        consumer.render.format,
        consumer.render.mode,
        consumer.render.owner,
    )
    assert SignalReload("HUP", "run/80.pid") == consumer.reload
    assert ("http://127.0.0.1:80/health", "a.b", timedelta(seconds=5)) == (
        consumer.health.url,
        consumer.health.versions,
        consumer.health.timeout,
    )
    assert not consumer.config
    assert "http://127.0.0.1:${PORT}/health" == manifest.consumers["backend"].health.url


def test_a_star_leaves_out_what_administers_others():
    """A backend that is given everything is still not given the login that makes logins."""
    manifest = loaded(
        '[consumers.app]\nsecrets = "*"\n[consumers.ops]\nsecrets = ["admin"]\n'
        + POSTGRES
        + 'host = "h"\ndatabase = "d"\nadmin = "admin"\n'
    )

    assert ("db",) == manifest.consumers["app"].secrets
    assert ("admin",) == manifest.consumers["ops"].secrets


def test_settings_become_text():
    """Numbers and truth values are delivered as environment variables are: as text."""
    manifest = loaded('[config]\nA = 1\nB = true\nC = { default = "x", production = false }\n')

    assert {"A": "1", "B": "true", "C": "x"} == manifest.config_in("development")
    assert {"A": "1", "B": "true", "C": "false"} == manifest.config_in("production")


def test_a_byte_order_mark_and_windows_line_ends_are_read():
    """Files from Windows editors load, and their faults have the right lines."""
    crlf = b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode()

    assert "clipper" == load(crlf, file="k").project.name
    (found,) = problems(crlf + b"[config]\r\nX = 1.5\r\n")
    assert 8 == found.line


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (
            "[stores.a]\nkind = 'embedded'\n[stores.b]\nkind = 'embedded'\n",
            "environments.development",
            "several stores and it names none",
        ),
        (
            "[consumers.a]\nsecrets = []\nhealth = { url = 'http://localhost', timeout = '2h' }\n",
            "consumers.a.health.timeout",
            "from 1s to 1h",
        ),
        (
            "[consumers.a]\nsecrets = []\nhealth = { url = 'http://localhost', timeout = '0s' }\n",
            "consumers.a.health.timeout",
            "from 1s to 1h",
        ),
        (
            "[secrets.a]\nkind = 'guided'\nvariable = 'A'\n"
            + POSTGRES
            + "host = 'h'\ndatabase = 'd'\nadmin = 'a'\n",
            "secrets.db.target.admin",
            "has no `username` and `password`",
        ),
        (
            POSTGRES + "host = ''\ndatabase = 'd'\nadmin = 'admin'\n",
            "secrets.db.target.host",
            "not empty",
        ),
        (f"[config]\nX = '{'x' * 4_097}'\n", "config.X", "longer than 4096"),
        (f"[config]\n{'X' * 200} = '1'\n", f"config.{'X' * 61}...", "is not a variable name"),
        ("[consumers.a]\nsecrets = ['x', 'x']\n", "consumers.a.secrets", "something twice"),
    ],
)
def test_a_fault_that_shows_only_beside_other_parts(text, key, words):
    """Bounds, empty texts, and what one table demands of another."""
    found = told(text)

    assert any(key == k and words in m for _, k, m in found), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("command = ['systemctl', 'reload', '${X}']", "CommandReload(command=('systemctl', 'reload', '${X}'))"),
        ("systemd = 'clipper-${X}.service'", "SystemdReload(unit='clipper-one.service', action=<SystemdAction.RELOAD: 'reload'>)"),
        ("systemd = 'a'\naction = 'restart'", "SystemdReload(unit='a', action=<SystemdAction.RESTART: 'restart'>)"),
        ("compose = 'backend'\nfile = '${X}.yml'", "ComposeReload(service='backend', file='one.yml')"),
        ("compose = '${X}'", "ComposeReload(service='one', file=None)"),
        ("http = 'http://127.0.0.1/${X}'", "HttpReload(url='http://127.0.0.1/one')"),
        ("http = 'https://admin.example.com/-/reload'", "HttpReload(url='https://admin.example.com/-/reload')"),
    ],
)  # fmt: skip
def test_each_kind_of_reload_is_read(text, expected):
    """Settings are filled in everywhere but in a command, which may mean `${X}` for itself."""
    manifest = loaded(
        f"[config]\nX = 'one'\n[consumers.a]\nsecrets = []\n[consumers.a.reload]\n{text}\n"
    )

    assert expected == repr(manifest.consumer_in("production", "a").reload)


RENDERED = """\
[config]
PLACE = { development = "run/a", production = "run/b" }
[consumers.a]
secrets = []
render = { path = "run/a", format = "dotenv" }
[consumers.b]
secrets = []
render = { path = "PATH", format = "files" }
"""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("run/a", "`run/a` is the file of the consumer `a` already"),
        ("run/./a", "`run/a` is the file of the consumer `a` already"),
        ("run//a", "`run/a` is the file of the consumer `a` already"),
        ("${PLACE}", "`run/a` is the file of the consumer `a` already"),
        ("run/a/b", "`run/a/b` lies in `run/a`, which the consumer `a` is given"),
        ("run", "`run/a`, which the consumer `a` is given, lies in `run`"),
    ],
)
def test_two_consumers_in_one_place(path, message):
    """Each would write over the other: both are named, once, whatever the environments."""
    text = RENDERED.replace("PATH", path)
    assert [(8, "consumers.b.render.path", message)] == told(text)
    fix = problems(HEAD + text)[0].fix
    assert "give `b` and `a` each a path of its own" == fix


@pytest.mark.parametrize("path", ["run/ab", "run/b", "other/a"])
def test_consumers_in_places_of_their_own(path):
    """A name that only begins alike is another place."""
    assert 2 == len(loaded(RENDERED.replace("PATH", path)).consumers)
