"""What is new in an example is put into the manifest, and nothing in it is touched."""

from __future__ import annotations

import tomllib

import pytest

from keyturn.errors import ManifestError, UsageError
from keyturn.manifest import load, parse_env, update
from keyturn.manifest.edit import add_lines

MANIFEST = """\
# Ours; hands off.
[project]
name = "shop"   # short
owner = "team-shop"

[environments.development]
[environments.production]
protected = true

[config]
# The port
PORT = "8080"
HOST = { default = "a", production = "b" }  # where

# Who is given what
[consumers.app]
secrets = "*"

[secrets.db]
kind = "postgres-login"
fields = { username = "DB_USER", password = "DB_PASSWORD" }

# Twitch is by hand.
[secrets.twitch]
kind = "guided"
variable = "TWITCH_CLIENT_SECRET"
# the end
"""
DECLARED = "PORT=1\nHOST=h\nDB_USER=u\nDB_PASSWORD=changeme\nTWITCH_CLIENT_SECRET=x\n"


def updated(new, text=MANIFEST, **options):
    """Return the update of *text* by what the manifest declares and *new*, checked."""
    parsed = parse_env((DECLARED + new).encode(), file=".env.example")
    done = update(text, parsed, **options)
    load(done.text.encode(), file="keyturn.toml")
    kept = iter(done.text.splitlines())
    assert all(line in kept for line in text.splitlines()), "a line was changed or moved"
    return done


def test_nothing_new_changes_nothing():
    """The text is the same to the byte."""
    done = updated("")
    assert MANIFEST == done.text
    assert ((), (), (), ()) == (done.secrets, done.settings, done.review, done.absent)


def test_settings_stand_behind_the_last_one_with_their_comments():
    """In `[config]`, before the comment that belongs to the next table."""
    done = updated("# Where pictures go\nBUCKET=pictures\nBASE_URL=http://localhost:3000\n")
    assert (
        'HOST = { default = "a", production = "b" }  # where\n'
        "# Where pictures go\n"
        'BUCKET = "pictures"\n'
        'BASE_URL = "http://localhost:3000"  # review: production needs its own\n'
        "\n# Who is given what\n" in done.text
    )
    assert ("BUCKET", "BASE_URL") == done.settings


def test_secrets_stand_at_the_end():
    """Drafted as in a first manifest, those that are commented out as not required."""
    done = updated("STRIPE_SECRET_KEY=sk_test_xxx\n# SENTRY_DSN=\n# LOG_LEVEL=debug\n")
    assert done.text.startswith(MANIFEST + "\n[secrets.stripe]\n")
    assert [("stripe", True), ("sentry", False)] == [(s.name, s.required) for s in done.secrets]
    assert "LOG_LEVEL" not in done.text
    assert "xxx" not in done.text


def test_what_belongs_to_a_declared_secret_is_named_and_not_added():
    """Half of a pair alone would be another secret than the one that is meant."""
    done = updated("TWITCH_CLIENT_ID=\n")
    assert MANIFEST == done.text
    assert [
        "`TWITCH_CLIENT_ID`: not added: it belongs to `TWITCH_CLIENT_SECRET`, so add it there"
    ] == [str(note) for note in done.review]


def test_a_name_that_is_taken_gets_a_number():
    """A secret of the same name, of other variables, stays the one that it is."""
    text = MANIFEST.replace("[secrets.twitch]", "[secrets.stripe]")
    assert ["stripe-2"] == [s.name for s in updated("STRIPE_SECRET_KEY=\n", text).secrets]


def test_a_new_secret_that_nobody_is_given_is_told():
    """Where no consumer takes them all."""
    text = MANIFEST.replace('secrets = "*"', 'secrets = ["db"]')
    assert ["`openai`: no consumer is given it: add it to the `secrets` of one"] == [
        str(note) for note in updated("OPENAI_API_KEY=\n", text).review
    ]


def test_what_keyturn_takes_from_nobody_is_left_out():
    """It is said each time, and never written."""
    done = updated("LD_PRELOAD=x\nKEYTURN_HOME=/x\n")
    assert MANIFEST == done.text
    assert ["LD_PRELOAD", "KEYTURN_HOME"] == sorted(
        (note.name for note in done.review), reverse=True
    )


def test_what_only_the_manifest_declares_is_named():
    """The other way round it is for the person to decide."""
    parsed = parse_env(b"PORT=1\nDB_USER=u\n", file=".env.example")
    assert ("DB_PASSWORD", "HOST", "TWITCH_CLIENT_SECRET") == update(MANIFEST, parsed).absent


def test_a_value_that_looks_real_is_a_finding_and_nowhere_else():
    """As in a first draft; of what is declared already nothing is said again."""
    real = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
    done = updated(f"STRIPE_SECRET_KEY={real}\n# was {real}\nPLAN=gold\n")
    assert ["STRIPE_SECRET_KEY"] == [problem.key for problem in done.findings]
    assert real not in f"{done}{done.text}"
    assert () == updated(f"STRIPE_SECRET_KEY={real}\n", example=False).findings


def test_a_wrong_manifest_is_told_as_such():
    """Its own faults come first."""
    with pytest.raises(ManifestError):
        updated("NEW=1\n", MANIFEST.replace('kind = "guided"', 'kind = "odd"'))


SHAPES = {
    "no config": ("[project]\nname = 'x'\n", "[project]\nname = 'x'\n\n[config]\nB = '2'\n"),
    "empty config": ("[config]\n[a]\nb = 1\n", "[config]\nB = '2'\n[a]\nb = 1\n"),
    "no final newline": ("[config]\nA = '1'", "[config]\nA = '1'\nB = '2'\n"),
    "windows": ("[config]\r\nA = '1'\r\n[a]\r\n", "[config]\r\nA = '1'\r\nB = '2'\r\n[a]\r\n"),
    "mark": ("\ufeff[config]\nA = '1'\n", "\ufeff[config]\nA = '1'\nB = '2'\n"),
    "spaces": ('[ "config" ]\nA = "1" # x\n\n', '[ "config" ]\nA = "1" # x\nB = \'2\'\n\n'),
    "several lines": (
        '[config]\nA = """\n[x]\nB = 1\n"""\n# c\n[a]\n',
        '[config]\nA = """\n[x]\nB = 1\n"""\nB = \'2\'\n# c\n[a]\n',
    ),
    "table of environments": (
        "[config]\nA = '1'\n[config.C]\nd = '1'\n",
        "[config]\nA = '1'\nB = '2'\n[config.C]\nd = '1'\n",
    ),
    "tables alone": ("[config.C]\nd = '1'\n", "[config.C]\nd = '1'\n\n[config]\nB = '2'\n"),
    "dotted": ("[config]\nA.d = '1'\nA.p = '2'\n", "[config]\nA.d = '1'\nA.p = '2'\nB = '2'\n"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_setting_finds_its_place(shape):
    """Whatever way `[config]` is written; the result says what was there and one thing more."""
    before, after = SHAPES[shape]
    found = add_lines(before, settings=["B = '2'"], tables=[])
    expected = tomllib.loads(before.removeprefix("\ufeff"))
    expected.setdefault("config", {})["B"] = "2"
    assert expected == tomllib.loads(found.removeprefix("\ufeff"))
    if shape != "dotted":
        assert after == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("config = { A = '1' }\n", "nothing can be added"),
        ("config.A = '1'\n", "nothing can be added"),
        ("[config]\nB = '1'\n", "is there already"),
        ("config = 1\n", "is there already"),
    ],
)
def test_a_text_without_a_place_for_it_is_left_alone(text, words):
    """It is said, with how to write it so that there is one."""
    with pytest.raises(UsageError, match=words) as caught:
        add_lines(text, settings=["B = '2'"], tables=[])
    assert caught.value.hint


def test_tables_are_added_after_all_else():
    """In a text whose last line has no end, too."""
    added = add_lines("[secrets.a]\nk = 1", settings=[], tables=["", "[secrets.b]", "k = 2"])
    assert "[secrets.a]\nk = 1\n\n[secrets.b]\nk = 2\n" == added
    with pytest.raises(UsageError, match="`secrets` is there already"):
        add_lines(added, settings=[], tables=["[secrets.b]", "k = 3"])
