"""Manifests to generate from, one of them written by somebody with bad intentions."""

from __future__ import annotations

import pytest

from keyturn.core.ids import EnvironmentName
from keyturn.manifest import load
from keyturn.scaffold import Deployment, Family, plan

PLAIN = """
[project]
name = "shop"
owner = "team-shop"

[contacts]
security = "mailto:security@example.com"
on_call = "mailto:night@example.com"

[environments.development]
[environments.production]
protected = true
timezone = "Europe/Vienna"
freeze = ["fri 16:00..mon 08:00"]

[config]
PORT = "8080"
LEVEL = { development = "debug", production = "info" }

[consumers.app]
secrets = "*"
[consumers.app.render]
path = "run/app.env"
[consumers.app.reload]
signal = "HUP"
pid_file = "run/app.pid"
[consumers.app.health]
url = "http://127.0.0.1:8080/health"

[secrets.admin]
kind = "guided"
variable = ""

[secrets.db]
kind = "postgres-login"
purpose = "The shop's database login"
fields = { username = "DB_USER", password = "DB_PASSWORD" }
target = { host = "db.example.com", database = "shop", admin = "db-admin" }

[secrets.db.environments.development]
grace = "0s"

[secrets.db-admin]
kind = "guided"
fields = { username = "", password = "" }

[secrets.jwt]
kind = "jwt-signing-key"
fields = { private_key = "JWT_KEY", public_key = "JWT_PUBLIC" }

[secrets.stripe-live]
kind = "stripe-key"
variable = "STRIPE_KEY"
required = false

[secrets.search]
kind = "generated"
fields = { username = "SEARCH_USER", password = "SEARCH_PASSWORD" }
identity = { username = "o'shop" }
"""


@pytest.fixture
def generate():
    """Return a function from a manifest's text to its generated files, by path."""

    def made(text=PLAIN, *, families=tuple(Family), example=None, **changes):
        manifest = load(text.encode(), file="keyturn.toml")
        found = {
            "environment": EnvironmentName("production"),
            "folder": "/opt/shop",
            "program": "/usr/local/bin/keyturn",
            "user": "shop",
            "key_home": "/var/lib/shop/keyturn",
            **changes,
        }
        order = [[name] for name in manifest.order(found["environment"])]
        files = plan(manifest, Deployment(**found), families=families, order=order, example=example)
        return {file.path: file for file in files}

    return made
