"""The published JSON Schema agrees with the loader."""

from __future__ import annotations

import json
import tomllib

import pytest

from keyturn.errors import ManifestError
from keyturn.manifest import json_schema, load

jsonschema = pytest.importorskip("jsonschema")

SAMPLE = """
[project]
name = "clipper"
owner = "team-core"
description = "Clips of live streams"
[contacts]
security = "mailto:security@clipper.gg"
on_call = "https://clipper.gg/on-call"
[environments.development]
store = "local"
[environments.production]
store = "local"
protected = true
[stores.local]
kind = "embedded"
[config]
PORT = "8080"
DB_HOST = "localhost"
DB_PORT = 5432
DB_NAME = "clipper"
DB_SSLMODE = "disable"
BASE_URL = { development = "http://localhost:8080", production = "https://clipper.gg" }
[consumers.backend]
secrets = ["db", "session"]
config = true
[consumers.backend.render]
path = "run/backend.env"
format = "dotenv"
mode = "0600"
owner = "clipper:clipper"
[consumers.backend.reload]
signal = "HUP"
pid_file = "run/backend.pid"
[consumers.backend.health]
url = "http://127.0.0.1:8080/health"
versions = "versions"
timeout = "30s"
[secrets.db-admin]
kind = "guided"
fields = { username = "", password = "" }
[secrets.db]
kind = "postgres-login"
purpose = "the backend's database login"
owner = "team-core"
priority = "critical"
max_age = "90d"
grace = "1h"
strategy = "two-logins"
required = true
depends_on = ["db-admin"]
fields = { username = "DB_USER", password = "DB_PASSWORD" }
generate = { format = "alphanumeric", length = 40 }
only = ["production"]
[secrets.db.target]
host = "${DB_HOST}"
port = "${DB_PORT}"
database = "${DB_NAME}"
sslmode = "${DB_SSLMODE}"
admin = "db-admin"
owner_role = "clipper"
logins = ["clipper_a", "clipper_b"]
[secrets.db.environments.production]
grace = "2h"
target = { owner_role = "clipper_app" }
[secrets.session]
kind = "session-secret"
variable = "SESSION_SECRET"
"""

CHANGES = [
    ('kind = "embedded"', 'kind = "other"'),
    ('name = "clipper"', 'name = "Clipper"'),
    ('name = "clipper"', "name = 1"),
    ('name = "clipper"', ""),
    ("protected = true", 'protected = "yes"'),
    ("protected = true", "protect = true"),
    ('PORT = "8080"', "PORT = 1.5"),
    ('PORT = "8080"', '"8080" = "PORT"'),
    ('mode = "0600"', 'mode = "rw"'),
    ('signal = "HUP"', ""),
    ('signal = "HUP"', 'signal = "HUP"\nhttp = "http://localhost/"'),
    ('timeout = "30s"', 'timeout = "30"'),
    ('kind = "session-secret"', 'kind = "session"'),
    ('priority = "critical"', 'priority = "urgent"'),
    ('max_age = "90d"', "max_age = 90"),
    ('strategy = "two-logins"', 'strategy = "three-logins"'),
    ('depends_on = ["db-admin"]', 'depends_on = "db-admin"'),
    ("length = 40", "length = 4"),
    ('format = "alphanumeric"', 'format = "klingon"'),
    ('only = ["production"]', "only = []"),
    ('logins = ["clipper_a", "clipper_b"]', 'logins = ["clipper_a"]'),
    ('grace = "2h"', 'grace = "2h"\nkind = "guided"'),
    ('variable = "SESSION_SECRET"', 'variable = "SESSION-SECRET"'),
    ('username = "DB_USER"', 'Username = "DB_USER"'),
    ('security = "mailto', 'securty = "mailto'),
]


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_accepts_what_the_loader_accepts(validator):
    """The whole documented shape passes both."""
    load(SAMPLE.encode(), file="keyturn.toml")

    assert [] == [error.message for error in validator.iter_errors(tomllib.loads(SAMPLE))]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_the_schema_refuses_what_the_loader_refuses(validator, old, new):
    """An editor underlines every fault of structure that a command would stop at."""
    assert old in SAMPLE
    text = SAMPLE.replace(old, new, 1)

    with pytest.raises(ManifestError):
        load(text.encode(), file="keyturn.toml")
    assert not validator.is_valid(tomllib.loads(text))


def test_every_key_is_described():
    """Hover texts in editors: no property without one, and the whole is plain JSON."""
    schema = json_schema()
    json.dumps(schema)

    def walk(part, path):
        for name, entry in part.get("properties", {}).items():
            assert entry.get("description", "").strip(), f"{path}.{name}"
            walk(entry, f"{path}.{name}")
        if isinstance(part.get("additionalProperties"), dict):
            walk(part["additionalProperties"], f"{path}.*")

    walk(schema, "")
