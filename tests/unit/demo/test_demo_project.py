"""The example as the demo sets it up: files, settings, made-up values."""

from __future__ import annotations

import tomllib

import pytest

from keyturn.demo import project
from keyturn.errors import NotFound
from keyturn.manifest import is_placeholder, load, parse_env
from keyturn.testing import SeededEntropy


def listed(name, kind, *variables, required=True, complete=False):
    """An entry of `keyturn list --json`."""
    return {
        "secret": name,
        "kind": kind,
        "variables": list(variables),
        "required": required,
        "complete": complete,
    }


def test_the_examples_files_are_copied(tmp_path):
    """All that the demo needs is part of this installation."""
    names = [".env.example", "backend.py", "schema.sql", "keyturn.toml"]
    project.copy(names, tmp_path)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())


def test_a_file_that_is_missing_says_what_to_do(tmp_path):
    """A broken installation is named as such."""
    with pytest.raises(NotFound, match="lacks the example's `nothing`") as caught:
        project.copy(["nothing"], tmp_path)
    assert "./dev demo" in caught.value.hint


def test_the_finished_manifest_has_our_settings_and_its_comments():
    """It loads, with the settings of this machine in every environment."""
    text = project.finished_manifest({"DB_PORT": "4711", "PORT": "4712"})
    manifest = load(text.encode(), file="keyturn.toml")
    assert tomllib.loads(text)["config"]["DB_PORT"] == "4711"
    assert manifest.config_in(next(iter(manifest.environments)))["PORT"] == "4712"
    assert "# Plain settings." in text


def test_only_what_nobody_here_can_make_is_bought():
    """Made by us, optional or there already: none of these needs a made-up value."""
    rows = [
        listed("stripe", "stripe-key", "STRIPE_SECRET_KEY"),
        listed("openai", "openai-key", "OPENAI_API_KEY", required=False),
        listed("db-admin", "guided", complete=True),
        listed("session", "session-secret", "SESSION_SECRET"),
        listed("db", "postgres-login", "DB_USER", "DB_PASSWORD"),
    ]
    assert [row["secret"] for row in project.bought(rows)] == ["stripe"]


def test_made_up_values_pass_for_real_ones_and_say_that_they_are_not():
    """Each has its vendor's form, none is a placeholder, each names the demo, all differ."""
    rows = [
        listed("stripe", "stripe-key", "STRIPE_SECRET_KEY"),
        listed("hook", "stripe-webhook-secret", "STRIPE_WEBHOOK_SECRET"),
        listed("openai", "openai-key", "OPENAI_API_KEY"),
        listed("sendgrid", "sendgrid-key", "SENDGRID_API_KEY"),
        listed("twitch", "twitch-app", "TWITCH_CLIENT_ID", "TWITCH_CLIENT_SECRET"),
        listed("other", "guided", "OTHER_TOKEN"),
    ]
    text = project.made_up_values(rows, entropy=SeededEntropy())
    parsed = parse_env(text.encode(), file=".env")
    values = dict(line.split("=", 1) for line in text.splitlines())
    assert not parsed.problems
    assert len(set(values.values())) == len(values) == 7
    assert not any(is_placeholder(value) for value in values.values())
    assert all("keyturndemo" in value for value in values.values())
    assert values["STRIPE_SECRET_KEY"].startswith("sk_test_")
    assert {len(values[f"TWITCH_CLIENT_{part}"]) for part in ("ID", "SECRET")} == {30}


def test_an_address_to_report_to_is_an_address():
    """Sentry's is a URL with a key in it."""
    text = project.made_up_values([listed("sentry", "guided", "SENTRY_DSN")])
    assert text.startswith("SENTRY_DSN=https://")
    assert text.endswith("@sentry.invalid/1\n")
