"""Transcripts of `import`: what it takes, what it leaves, and that it is whole or did not happen."""

from __future__ import annotations

import json
import os

import pytest

from tests.cli.projects import KEYTURN, VALUES
from tests.cli.terminal import Terminal

NEW = b"test-imported-Aa1Ss2Dd3Ff4Gg5Hh6"


@pytest.fixture
def dotenv(project):
    """Return a function that writes the project's `.env`."""

    def write(data):
        path = project.folder / ".env"
        path.write_bytes(data)
        return path

    return write


def test_it_says_what_it_took_and_what_not(dotenv, quick):
    """Secrets are stored, settings written down, strangers declared; no value is printed."""
    path = dotenv(
        b"SESSION_SECRET=" + NEW + b"\nAPI_KEY=" + VALUES["api"] + b"\nPORT=9000\n"
        b"WEBHOOK_TOKEN=\nSTRANGER=canary-stranger\n# DB_PASSWORD=canary-comment\n"
    )
    result = quick("import", ".env")
    assert (0, b"") == (result.code, result.out)
    assert (
        "development/session: version 2 is current\n"
        "development/stranger: version 1 is current\n"
        "unchanged: api\n"
        "keyturn.toml: settings for `development` taken: PORT\n"
        "keyturn.toml: STRANGER declared as the secret `stranger`: nothing says that everybody"
        " may know it; `config` takes it if they may\n"
        "`.env` is kept: it holds what was not taken: DB_PASSWORD (commented out, line 6)\n"
        == result.text
    )
    assert path.exists()
    assert NEW == quick("get", "session").out
    assert VALUES["db.password"] == quick("get", "db.password").out


def test_all_of_it_is_one_change(dotenv, quick, project):
    """Each secret has its record, and they stand in one transaction with that of the import."""
    dotenv(b"SESSION_SECRET=" + NEW + b"\nAPI_KEY=" + NEW)
    quick("import", ".env")
    actions = [record["action"] for record in project.actions()]
    assert 2 == actions.count("secret.version.import")
    assert 1 == actions.count("environment.value.import") + actions.count("environment.import")


def test_fields_that_are_not_given_are_kept(dotenv, quick):
    """A file with one half of a login changes that half."""
    dotenv(b"DB_PASSWORD=" + NEW)
    assert 0 == quick("import", ".env").code
    assert VALUES["db.username"] == quick("get", "db.username").out
    assert NEW == quick("get", "db.password").out


def test_a_half_of_what_is_not_there_is_told(dotenv, quick):
    """A secret that has some of its fields only is named."""
    dotenv(b"DB_PASSWORD=" + NEW)
    result = quick("import", ".env", "-e", "production", "--reason", "x", "--yes")
    assert 0 == result.code
    assert "warning: `db` has some of its fields only" in result.text


HOSTILE = (
    b"\xef\xbb\xbf# a comment with a quote ' and a = sign\r\n"
    b"export SESSION_SECRET = 'single $NOT ${EXPANDED} `no` #x'\r\n"
    b'API_KEY="double \\"q\\" \\n=a=b" # comment\r\n'
    b"DB_USER=plain=with=equals\r\n"
    b'DB_PASSWORD="line one\r\nline two"\r\n'
)


def test_a_real_file_with_all_its_quoting(dotenv, quick):
    """BOM, CRLF, export, comments, both quotes, several lines, equals signs: nothing is expanded."""
    dotenv(HOSTILE)
    result = quick("import", ".env")
    assert 0 == result.code, result.text
    assert b"single $NOT ${EXPANDED} `no` #x" == quick("get", "session").out
    assert b'double "q" \n=a=b' == quick("get", "api").out
    assert b"plain=with=equals" == quick("get", "db.username").out
    assert b"line one\nline two" == quick("get", "db.password").out.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"", 2, "`.env` holds no `NAME=value` line"),
        (b"\n# nothing\n", 2, "`.env` holds no `NAME=value` line"),
        (b"STRANGER=canary-x\n", 0, "declared as the secret `stranger`"),
        (b"PATH=canary-x\n", 1, "not in the manifest"),
        (b"\x00\x01\x02" * 50, 2, "`.env`"),
        (os.urandom(4096), None, ""),
        (b"x" * (1024 * 1024 + 1), 2, "`.env` is over 1048576 bytes"),
        (b'SESSION_SECRET="canary-unclosed\n', None, ".env:1"),
        (b"SESSION_SECRET=canary-first\nSESSION_SECRET=canary-second\n", None, ".env:2"),
        (b"canary garbage\nSESSION_SECRET=" + NEW + b"\n", 0, ".env:1"),
    ],
)
def test_garbage(data, code, message, dotenv, quick):
    """Whatever the file holds: an exit code, a line number, no value in the message, no fault."""
    dotenv(data)
    result = quick("import", ".env")
    assert result.code in ({0, 2, 3} if code is None else {code}), result.text
    assert message in result.text
    assert b"canary" not in result.err + result.out
    assert "fault" not in result.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("absent",), "`absent` cannot be read: No such file or directory"),
        ((".",), "`.` cannot be read: Is a directory"),
        ((), "missing argument 'FILE'"),
    ],
)
def test_what_cannot_be_read(words, message, quick):
    """It is named with the system's reason."""
    result = quick("import", *words)
    assert (2, b"") == (result.code, result.out)
    assert f"error: {message}" in result.text


def test_shred_removes_the_file(dotenv, quick):
    """With `--shred` it is overwritten and gone; the copies that nobody can reach are named."""
    path = dotenv(b"SESSION_SECRET=" + NEW)
    twin = path.with_name("twin")
    os.link(path, twin)
    result = quick("import", ".env", "--shred")
    assert 0 == result.code
    assert not path.exists()
    assert bytes(twin.stat().st_size) == twin.read_bytes()
    assert "copies in backups, snapshots" in result.text


def test_shred_leaves_a_file_of_which_nothing_was_taken(dotenv, quick):
    """What is not in the store is not removed from anywhere."""
    path = dotenv(b"NODE_OPTIONS=x")
    assert 1 == quick("import", ".env", "--shred").code
    assert path.exists()


def test_shred_follows_no_link(dotenv, quick, project):
    """A link is left alone, and so is what it points at."""
    path = dotenv(b"SESSION_SECRET=" + NEW)
    target = path.rename(project.folder / "target")
    path.symlink_to(target)
    result = quick("import", ".env", "--shred")
    assert 2 == result.code
    assert "`.env` cannot be overwritten" in result.text
    assert b"SESSION_SECRET=" + NEW == target.read_bytes()


@pytest.mark.parametrize(("answer", "left"), [("y\n", False), ("n\n", True), ("\n", True)])
def test_on_a_terminal_it_offers_to_shred(answer, left, dotenv, project):
    """The file goes only after a yes."""
    path = dotenv(b"SESSION_SECRET=" + NEW)
    words = [KEYTURN, "import", ".env"]
    with Terminal(words, cwd=project.folder, env=project.environ) as terminal:
        terminal.until("overwrite and remove `.env` now? [y/N] ")
        terminal.type(answer)
        assert 0 == terminal.finish()
    assert left == path.exists()


def test_an_import_during_a_rotation_is_refused_whole(dotenv, quick, project):
    """Nothing of the file is taken where one of its secrets is being rotated."""
    project.put("token", NEW)
    assert 0 == quick("rotate", "token").code
    dotenv(b"SESSION_SECRET=" + NEW + b"\nWEBHOOK_TOKEN=" + NEW + b"2")
    result = quick("import", ".env")
    assert (5, b"") == (result.code, result.out)
    assert "a rotation of `development/token` is under way (step `grace`)" in result.text
    assert VALUES["session"] == quick("get", "session").out


def test_settings_are_taken_for_one_environment(dotenv, quick, project):
    """The manifest says what the file says, for this environment alone, and keeps its comments."""
    before = (project.folder / "keyturn.toml").read_text()
    dotenv(b"PORT=9000\n")
    assert 0 == quick("import", ".env").code
    after = (project.folder / "keyturn.toml").read_text()
    assert 'development = "9000"' in after
    assert [line for line in before.splitlines() if "PORT" not in line] == [
        line for line in after.splitlines() if "PORT" not in line
    ]
    again = quick("import", ".env", "--json")
    assert ["PORT"] == json.loads(again.out)["settings_unchanged"]


def test_settings_can_be_left_alone(dotenv, quick, project):
    """`--no-settings` writes nothing into the manifest, and says what differs."""
    before = (project.folder / "keyturn.toml").read_bytes()
    dotenv(b"PORT=9000\nSESSION_SECRET=" + NEW + b"\n")
    result = quick("import", ".env", "--no-settings")
    assert "not taken: PORT" in result.text
    assert before == (project.folder / "keyturn.toml").read_bytes()


def test_what_looks_like_a_secret_is_no_setting(dotenv, quick, project):
    """A manifest is committed, so a value that may be a secret stays out of it."""
    before = (project.folder / "keyturn.toml").read_bytes()
    dotenv(b"PORT=" + b"sk_live_" + b"0f9e8d7c6b5a4f3e2d1c0b9a\n")
    result = quick("import", ".env")
    assert "PORT declared as the secret `port` and no plain setting any more" in result.text
    assert b"sk_live_" not in result.err
    assert b"sk_live_" not in (project.folder / "keyturn.toml").read_bytes()
    kept = quick("import", ".env", "--no-settings")
    assert 0 == kept.code
    (project.folder / "keyturn.toml").write_bytes(before)
    left = quick("import", ".env", "--no-settings")
    assert (1, True) == (left.code, "not taken: PORT" in left.text)
    assert before == (project.folder / "keyturn.toml").read_bytes()


def test_a_file_with_what_was_not_taken_is_not_shredded(dotenv, quick):
    """Its only copy may be that one."""
    path = dotenv(b"SESSION_SECRET=" + NEW + b"\nNODE_OPTIONS=canary-stranger\n")
    result = quick("import", ".env", "--shred")
    assert 5 == result.code
    assert "holds what was not taken: NODE_OPTIONS" in result.text
    assert path.exists()


def test_an_empty_line_is_taken_where_nothing_is_held(dotenv, quick):
    """The program had it empty until now; but an empty line never replaces a value."""
    dotenv(b"SESSION_SECRET=\nDB_PASSWORD=\n")
    result = quick("import", ".env")
    assert "taken as empty" not in result.text
    assert VALUES["session"] == quick("get", "session").out


def test_a_file_with_a_line_that_was_not_read_is_not_shredded(dotenv, quick):
    """What stands there may be the only copy of a value."""
    path = dotenv(b"SESSION_SECRET=" + NEW + b'\nAPI_KEY="never closed\n')
    result = quick("import", ".env", "--shred")
    assert 5 == result.code
    assert "line 2" in result.text
    assert path.exists()


STRIPE = b"sk_live_" + b"0f9e8d7c6b5a4f3e2d1c0b9a"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (b"# STRIPE_SECRET_KEY=" + STRIPE, "STRIPE_SECRET_KEY (commented out, line 2)"),
        (b"#DB_PASSWORD=hunter-two", "DB_PASSWORD (commented out, line 2)"),
        (b"# until May: " + STRIPE, "a Stripe live key (in the comment on line 2)"),
        (b"API_KEY=x1y2 # was " + STRIPE, "a Stripe live key (in the comment on line 2)"),
        (b"API_KEY=first\nAPI_KEY=second", "API_KEY (line 2, which line 3 replaces)"),
        (
            b"# API_KEY=" + STRIPE + b"\n# API_KEY=rk_live_9a8b7c6d5e4f3a2b1c0d\nDB_USER=x",
            "API_KEY (commented out, line 2), API_KEY (commented out, line 3)",
        ),
    ],
)
def test_a_value_that_does_not_count_keeps_its_file(lines, told, dotenv, quick):
    """What is commented out, written in a comment or replaced is in no store: the file stays."""
    path = dotenv(b"SESSION_SECRET=" + NEW + b"\n" + lines + b"\n")
    asked = quick("import", ".env")
    assert (0, True) == (asked.code, f"was not taken: {told}\n" in asked.text)
    result = quick("import", ".env", "--shred")
    assert 5 == result.code
    assert f"error: `.env` is kept: it holds what was not taken: {told}\n" in result.text
    assert "\nhint: store with `keyturn set` what is needed" in result.text
    assert not any(value in result.err + asked.err for value in (STRIPE, b"hunter", b"first"))
    assert path.exists()


def test_what_only_stands_for_a_value_goes_with_its_file(dotenv, quick):
    """Placeholders, plain settings and repetitions in comments are no loss."""
    path = dotenv(
        b"SESSION_SECRET=" + NEW + b"\nSESSION_SECRET=" + NEW + b"\n# API_KEY=changeme\n"
        b"# STRIPE_SECRET_KEY=sk_live_xxx\n# DB_USER=clipper_a\n# PORT=9000\n# a = b\n"
        b"# SESSION_SECRET=" + NEW + b"\n"
    )
    result = quick("import", ".env", "--shred")
    assert 0 == result.code, result.text
    assert not path.exists()
