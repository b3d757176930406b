"""Transcripts of values that were replaced and are given again: by `import` and by `set`."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from keyturn.app.earlier import find_earlier
from keyturn.core.ids import SecretName
from keyturn.core.model import SecretRef, Stage
from tests.cli.projects import DEVELOPMENT, PRODUCTION, VALUES

NEW = b"test-newer-Aa1Ss2Dd3Ff4Gg5Hh6"
OTHER = b"test-other-Qq1Ww2Ee3Rr4Tt5Yy6"
LEFT = (
    "warning: `session` in the file is of version 1, older than what is current (version 2): left"
    " alone; `keyturn rollback session --to 1 -e development` or `--force-old` takes it\n"
)


@pytest.fixture
def dotenv(project):
    """The project's `.env`, with the values that it has in `development`."""
    path = project.folder / ".env"
    names = {"session": "SESSION_SECRET", "api": "API_KEY"}
    names |= {"db.username": "DB_USER", "db.password": "DB_PASSWORD"}
    lines = [names[name].encode() + b"=" + value for name, value in VALUES.items()]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def current(quick, name):
    return quick("get", name).out


def test_a_rotated_value_does_not_come_back(dotenv, quick):
    """The old one is named and left alone; what else the file holds is taken, and it is no failure."""
    assert 0 == quick("rotate", "session", "--now").code
    made = current(quick, "session")
    dotenv.write_bytes(
        dotenv.read_bytes().replace(VALUES["api"], NEW) + b"STRANGER_KEY=Qq1Ww2Ee3\n"
    )
    result = quick("import", ".env")
    assert (0, b"") == (result.code, result.out)
    assert LEFT in result.text
    assert "development/api: version 2 is current\n" in result.text
    assert "unchanged: db\n" in result.text
    assert (made, NEW) == (current(quick, "session"), current(quick, "api"))
    assert b"Qq1Ww2Ee3" == current(quick, "stranger-key")
    assert VALUES["session"].decode() not in result.text


def test_a_file_with_nothing_but_old_values_is_no_failure(dotenv, quick):
    """And can be removed: the store has all of them, under their numbers."""
    for name in ("session", "api", "db.password"):
        quick("set", name, "-", stdin=NEW)
    dotenv.write_bytes(b"SESSION_SECRET=" + VALUES["session"] + b"\n")
    result = quick("import", ".env", "--shred")
    assert (0, False) == (result.code, dotenv.exists())
    assert LEFT in result.text


def test_a_machine_is_told_of_them(dotenv, quick):
    """By the version that each is of, beside what was stored and what was not."""
    quick("set", "session", "-", stdin=NEW)
    document = json.loads(quick("import", ".env", "--json").out)
    assert ({"session": 1}, ["api", "db"], {}) == (
        document["older"],
        document["unchanged"],
        document["stored"],
    )


def test_whoever_wants_them_gets_them(dotenv, quick):
    """With `--force-old` the file is what counts."""
    quick("set", "session", "-", stdin=NEW)
    result = quick("import", ".env", "--force-old")
    assert (0, False) == (result.code, "left alone" in result.text)
    assert VALUES["session"] == current(quick, "session")


def test_after_a_rollback_the_bad_value_is_the_old_one(dotenv, quick):
    """Which of two was replaced is no question of the higher number."""
    quick("set", "session", "-", stdin=NEW)
    quick("rollback", "session")
    dotenv.write_bytes(b"SESSION_SECRET=" + NEW + b"\n")
    result = quick("import", ".env")
    assert "`session` in the file is of version 2, taken back since (version 1 is current)" in (
        result.text
    )
    assert VALUES["session"] == current(quick, "session")


def test_a_protected_environment_s_way_out_has_a_reason(project, quick, dotenv):
    """The command can be typed as it stands."""
    for value in (VALUES["session"], NEW):
        project.put("session", value, environment=PRODUCTION)
    dotenv.write_bytes(b"SESSION_SECRET=" + VALUES["session"] + b"\n")
    result = quick("import", ".env", "-e", "production", "--reason", "x", "--yes")
    assert "`keyturn rollback session --to 1 -e production --reason 'WHY'`" in result.text


@pytest.mark.parametrize(
    ("username", "password", "kept"),
    [
        # An old name beside an old password, and beside none.
        (VALUES["db.username"], VALUES["db.password"], (b"clipper_b", NEW)),
        (VALUES["db.username"], None, (b"clipper_b", NEW)),
        (None, VALUES["db.password"], (b"clipper_b", NEW)),
        # A new name makes an old password no other one.
        (b"clipper_c", VALUES["db.password"], (b"clipper_b", NEW)),
        # With a new password the name is what the person means.
        (VALUES["db.username"], OTHER, (VALUES["db.username"], OTHER)),
    ],
)
def test_a_login_s_name_goes_with_its_password(username, password, kept, project, quick):
    """So that no import makes a pair of halves that never belonged together."""
    quick("set", "db.username", "-", stdin=b"clipper_b")
    quick("set", "db.password", "-", stdin=NEW)
    lines = [b"DB_USER=" + username] if username else []
    lines += [b"DB_PASSWORD=" + password] if password else []
    (project.folder / ".env").write_bytes(b"\n".join(lines) + b"\n")
    assert 0 == quick("import", ".env").code
    assert kept == (current(quick, "db.username"), current(quick, "db.password"))


def test_only_the_newest_versions_are_looked_at(project):
    """A store of others is asked for each: twenty of them, and no more."""
    name, ref = SecretName("session"), SecretRef(DEVELOPMENT, SecretName("session"))
    for number in range(21):
        project.put("session", b"test-many-Aa1Bb2Cc3Dd4Ee5-%d" % number)
    with closing(project.session()) as opened:
        secret = opened.manifest.secret_in(DEVELOPMENT, name)
        held = opened.store.read(ref, Stage.CURRENT)
        found = [
            find_earlier(opened, secret, ref, opened.store.read(ref, n).values, held=held)
            for n in (1, 2, 21, 22)
        ]
    assert [None, 2, 21, None] == [one.number if one else None for one in found]


def test_a_damaged_version_is_passed_over(project, quick, dotenv):
    """What it held cannot be told; what is beside it is imported."""
    for value in (NEW, OTHER):
        quick("set", "session", "-", stdin=value)
    with closing(project.session()) as opened, opened.database.transaction():
        changed = opened.database.execute(
            "UPDATE value SET sealed = zeroblob(length(sealed)) WHERE number = 2 AND secret = ?",
            ("session",),
        )
    assert 1 == changed
    assert 0 == quick("import", ".env").code
    assert OTHER == current(quick, "session")


def test_a_value_that_nobody_ended_is_set_with_a_word(project, quick):
    """A person may know better, and hears which version it was."""
    quick("set", "session", "-", stdin=NEW)
    result = quick("set", "session", "-", stdin=VALUES["session"])
    assert (0, True) == (result.code, "version 3 is current" in result.text)
    assert (
        "warning: `development/session` had this in version 1 already, which version 2 has"
        " replaced\n"
    ) in result.text
    assert VALUES["session"] == current(quick, "session")


def test_a_new_value_is_set_without_a_word(project, quick):
    """As is the one that is current."""
    for value in (NEW, NEW):
        assert "warning" not in quick("set", "session", "-", stdin=value).text


# --- what no environment carries ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"a\0b" * 10, "holds a NUL byte, which no environment carries: `run` refuses it; store"),
        (b"x" * 200_000, "has 200000 bytes; an environment carries"),
    ],
    ids=["a zero byte", "too large"],
)
def test_a_value_that_run_refuses_is_told_of_at_once(value, why, project, quick):
    """When it is set, and whenever it is tested; it is stored all the same, for a file."""
    result = quick("set", "api", "-", stdin=value)
    assert (0, True) == (result.code, "version 2 is current" in result.text)
    assert f"the value for `API_KEY` {why}" in result.text
    assert "format" in result.text
    checks = quick("test", "api", "--json").json()["checks"]
    (form,) = [one for one in checks if one["check"] == "form" and "API_KEY" in one["detail"]]
    assert ("warn", True) == (form["result"], why in form["detail"])
    assert why[:20] in quick("run", "--", "true").text


def test_a_field_without_a_variable_may_hold_anything(project, quick):
    """No environment is given it."""
    text = project.manifest.read_text()
    project.manifest.write_text(text + '\n[secrets.blob]\nkind = "guided"\nvariable = ""\n')
    assert "warning" not in quick("set", "blob", "-", stdin=b"a\0b" * 10).text


# --- standard input -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_what_another_program_writes_is_imported(name, project):
    """There is no file that stays, so none is to be removed."""
    result = project("import", name, stdin=b"SESSION_SECRET=" + NEW + b"\n")
    assert (0, "development/session: version 2 is current\n") == (result.code, result.text)
    assert NEW == project("get", "session").out


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_what_is_no_file_cannot_be_shredded(name, project):
    """Which is said before anything is taken."""
    result = project("import", name, "--shred", stdin=b"SESSION_SECRET=" + NEW + b"\n")
    assert (2, True) == (result.code, "is no file that could be removed" in result.text)
    assert VALUES["session"] == project("get", "session").out


def test_standard_input_is_named_in_messages(project):
    """By its name, with the line."""
    result = project("import", "-", stdin=b"what is this\nSESSION_SECRET=" + NEW + b"\n")
    assert "standard input:1" in result.text


@pytest.mark.parametrize("name", ["-", ".env"])
def test_a_file_that_is_too_large_says_what_is_not(name, project):
    """With the limit, and the way for a value that is large."""
    data = b"SESSION_SECRET=" + b"x" * 1024 * 1024 + b"\n"
    (project.folder / ".env").write_bytes(data)
    result = project("import", name, stdin=data)
    assert (2, True) == (result.code, "is over 1048576 bytes" in result.text)
    assert "hint: 1 MiB is the most that an .env may have" in result.text
