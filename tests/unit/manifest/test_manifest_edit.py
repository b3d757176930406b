"""Edits keep comments, order and spelling, and do what was asked or nothing."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.errors import Conflict, ManifestError, NotFound, UsageError
from keyturn.manifest import add_secret, load, remove, set_key

TEXT = """\
# The first line.

[project]
name = "clipper"   # the product
owner = 'team-core'

# Where it runs.
[environments.development]
[environments.production]
protected = true

[config]
PORT = "8080"  # of the server
# where to find it
BASE_URL = { development = "http://localhost", production = "https://clipper.gg" }

# signs cookies
[secrets.session]
kind = "session-secret"  # HMAC
variable = "SESSION_SECRET"
max_age = "90d"          # the guide's

# the end
"""


def comments(text):
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


def test_one_line_changes_and_nothing_else():
    """Replacing a value leaves every other character as it was, the comment beside it too."""
    changed = set_key(TEXT, "secrets.session.max_age", "30d")

    assert TEXT.replace('max_age = "90d"  ', 'max_age = "30d"  ') == changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("project.owner", "team-b"),
        ("project.description", "clips"),
        ("environments.production.protected", False),
        ("environments.staging.store", "local"),
        ("config.PORT", 9090),
        ("config.BASE_URL.production", "https://example.com"),
        ("config.BASE_URL.staging", "https://staging.example.com"),
        ("secrets.session.required", False),
        ("secrets.session.depends_on", ["db"]),
        ("secrets.session.generate", {"format": "hex", "bytes": 32}),
        ("secrets.session.environments.production.grace", "2h"),
        ("consumers.backend.reload", {"signal": "HUP", "pid_file": "run/x.pid"}),
        ("contacts.security", "mailto:security@example.com"),
        (("config", "A.B"), "dotted"),
    ],
)
def test_a_key_is_set_wherever_it_belongs(path, value):
    """Old and new keys, in tables that exist and that do not, all comments kept in order."""
    changed = set_key(TEXT, path, value)

    found = tomllib.loads(changed)
    for part in path if isinstance(path, tuple) else path.split("."):
        found = found[part]
    assert value == found
    assert comments(TEXT) == comments(changed)
    assert changed == set_key(changed, path, value)


def test_a_secret_is_added_and_loads():
    """Fields and generation go on one line, the target under its own header."""
    changed = add_secret(
        TEXT,
        "db",
        {
            "kind": "postgres-login",
            "target": {"host": "localhost", "database": "clipper"},
            "strategy": "in-place",
            "fields": {"username": "DB_USER", "password": "DB_PASSWORD"},
        },
    )

    assert comments(TEXT) == comments(changed)
    assert 'fields = {username = "DB_USER", password = "DB_PASSWORD"}' in changed
    assert "[secrets.db.target]" in changed
    secret = load(changed.encode(), file="k").secret_in("production", "db")
    assert "localhost" == secret.target["host"]


def test_a_secret_is_not_added_twice():
    """What is there is edited, not doubled."""
    with pytest.raises(Conflict, match="has a secret `session` already"):
        add_secret(TEXT, "session", {"kind": "guided"})


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("secrets.session", ["# HMAC", "# the guide's", "# the end"]),
        ("secrets.session.max_age", ["# the guide's"]),
        ("config.PORT", ["# of the server"]),
        ("config.BASE_URL.production", []),
        ("environments.production", []),
    ],
)
def test_what_is_removed_takes_its_own_comments_only(path, gone):
    """Comments elsewhere stay."""
    changed = remove(TEXT, path)

    table = tomllib.loads(changed)
    *way, last = path.split(".")
    for part in way:
        table = table.get(part, {})
    assert last not in table
    assert [c for c in comments(TEXT) if c not in gone] == [
        c for c in comments(changed) if c not in gone
    ]


def test_what_is_not_there_is_not_removed():
    """An edit of nothing is an error, not a success."""
    with pytest.raises(NotFound, match=r"no `secrets.db.kind`"):
        remove(TEXT, "secrets.db.kind")


@pytest.mark.parametrize("path", ["", "a..b", ".a", ()])
def test_a_path_has_a_name_between_its_dots(path):
    """An empty part is refused before anything is read."""
    with pytest.raises(UsageError):
        set_key(TEXT, path, 1)


def test_a_path_through_a_value_is_refused():
    """`project.name.x` cannot be made without losing the name."""
    with pytest.raises(UsageError, match="not a table"):
        set_key(TEXT, "project.name.x", 1)


def test_a_broken_file_is_not_edited():
    """The fault is told as the loader tells it."""
    with pytest.raises(ManifestError, match="is not TOML"):
        set_key("[project\n", "project.name", "x")


@settings(max_examples=25, deadline=None)
@given(
    path=st.sampled_from(
        [
            "project.owner",
            "config.PORT",
            "secrets.session.purpose",
            "secrets.new.kind",
            "config.NEW",
        ]
    ),
    value=st.one_of(
        st.booleans(),
        st.integers(min_value=-(2**63), max_value=2**63 - 1),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    ),
)
def test_any_value_round_trips(path, value):
    """Quotes, line ends, control characters: what goes in is what is read back."""
    changed = set_key(TEXT, path, value)

    found = tomllib.loads(changed)
    for part in path.split("."):
        found = found[part]
    assert value == found and type(value) is type(found)
    # Of a line's text, because a value may have a `#` of its own before them.
    assert all(comment in changed for comment in comments(TEXT))
