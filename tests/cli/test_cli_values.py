"""Transcripts of `set`, `get`, `list`, `history`, `rollback`, `generate` and `random`."""

from __future__ import annotations

import base64
import re

import pytest

from tests.cli.projects import VALUES

NEW = b"test-new-value-Qw3Er5Ty7Ui9Op1As"
PROTECTED = ("-e", "production")
WHY = ("--reason", "a test", "--yes")


# ---------------------------------------------------------------- set


@pytest.mark.parametrize(
    ("words", "stdin", "stored"),
    [
        (("set", "session", "-"), NEW, NEW),
        (("set", "session", "-"), NEW + b"\n", NEW),
        (("set", "session", "-"), NEW + b"\r\n", NEW),
        (("set", "session", "-"), NEW + b"\n\n", NEW + b"\n"),
        (("set", "session", "-"), NEW + b"\r", NEW + b"\r"),
        (("set", "session", "-"), b"\n" + NEW, b"\n" + NEW),
        (("set", "session", "-", "--keep-newline"), NEW + b"\n", NEW + b"\n"),
        (("set", "session", "-", "--keep-newline"), NEW + b"\r\n", NEW + b"\r\n"),
        (("set", "session", "-"), b"\x01\xff\xfe binary", b"\x01\xff\xfe binary"),
        (("set", "SESSION_SECRET", "-"), NEW, NEW),
        (("set", "session.value", "-"), NEW, NEW),
    ],
)
def test_set_takes_bytes_and_at_most_one_newline(words, stdin, stored, quick):
    """One final newline is the shell's, unless it is kept; every other byte is the value's."""
    result = quick(*words, stdin=stdin)
    assert (0, b"", "development/session: version 2 is current\n") == (
        result.code,
        result.out,
        result.text,
    )
    assert stored == quick("get", "session").out


def test_set_reads_a_file(quick, project):
    """`--from-file` follows the same rule."""
    path = project.folder / "value"
    path.write_bytes(NEW + b"\n")
    assert 0 == quick("set", "db.password", "--from-file", "value").code
    assert NEW == quick("get", "db.password").out
    assert VALUES["db.username"] == quick("get", "db.username").out
    assert 0 == quick("set", "api", "--from-file", "value", "--keep-newline").code
    assert NEW + b"\n" == quick("get", "api").out


def test_set_quietly(quick):
    """`-q` says nothing of a success."""
    result = quick("set", "session", "-", "-q", stdin=NEW)
    assert (0, b"", b"") == (result.code, result.out, result.err)


REFUSED = "error: a value for `{name}` was given on the command line and is not taken\n"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("db.password", "hunter2-canary"), "db.password"),
        (("db", "hunter2-canary"), "db"),
        (("DB_PASSWORD=hunter2-canary",), "DB_PASSWORD"),
        (("session", "-", "hunter2-canary"), "session"),
        (("session", "--", "--hunter2-canary"), "session"),
    ],
)
def test_set_takes_no_value_from_the_command_line(words, name, quick, project):
    """It is refused with the reason and what to do instead, and is not repeated."""
    result = quick("set", *words)
    assert (2, b"") == (result.code, result.out)
    assert result.text.startswith(REFUSED.format(name=name))
    assert "process list" in result.text
    assert f"`keyturn set {name} -`" in result.text
    assert "hunter2" not in result.text
    assert VALUES["session"] == quick("get", "session").out


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        (("nowhere", "-"), NEW, "`nowhere`"),
        (("db", "-"), NEW, "`db`"),
        (("session",), b"", "there is no terminal to ask for session.value on"),
        (("session", "-"), b"", "the value is empty"),
        (("session", "-"), b"\n", "the value is empty"),
        (("session", "-", "--from-file", "x"), NEW, "give `-` or `--from-file`, not both"),
        (("session", "--from-file", "absent"), b"", "`absent` cannot be read: No such file"),
        (("session", "--from-file", "."), b"", "`.` cannot be read: Is a directory"),
        (("session", "--value", "x"), b"", "no such option '--value'"),
        (("session", "-", "-e", "nowhere"), NEW, "`nowhere`"),
        ((), b"", "missing argument 'NAME'"),
    ],
)
def test_set_refuses(words, stdin, message, quick):
    """Each with the exit code of a wrong command line, and nothing stored."""
    result = quick("set", *words, stdin=stdin)
    assert (2, b"") == (result.code, result.out)
    assert message in result.text.splitlines()[0]
    assert "\nhint: " in result.text or "not both" in result.text
    assert b'"version": 1' in quick("history", "session", "--json").out


def test_set_refuses_what_is_no_secret(quick):
    """A value beyond 10 MiB is somebody's file."""
    result = quick("set", "session", "-", stdin=b"x" * (10 * 1024 * 1024 + 1))
    assert 2 == result.code
    assert "error: the value is over 10485760 bytes" in result.text


def test_a_value_of_a_mebibyte_is_kept(quick):
    """It is stored and read back byte for byte, though no environment could carry it."""
    data = bytes(range(256)) * 4096
    assert 0 == quick("set", "session", "-", stdin=data).code
    assert data == quick("get", "session").out


# ---------------------------------------------------------------- protected environments


CHANGES = {
    "set": (("set", "session", "-"), NEW),
    "import": (("import", "values.env"), b""),
    "generate": (("generate", "session"), b""),
    "rollback": (("rollback", "token"), b""),
    "rotate": (("rotate", "token"), b""),
}


@pytest.fixture
def ready(project):
    """A project whose protected environment has two versions to choose from."""
    (project.folder / "values.env").write_bytes(b"SESSION_SECRET=" + NEW + b"\n")
    project.put("token", NEW, environment="production")
    project.put("token", NEW + b"2", environment="production")
    return project


def versions(quick):
    """Return what the protected environment holds."""
    return [quick("history", name, *PROTECTED, "--json").out for name in ("session", "token")]


@pytest.mark.parametrize("change", CHANGES)
def test_a_protected_environment_asks_for_a_reason(change, ready, quick):
    """Without one nothing is changed, and the refusal says how to give it."""
    words, stdin = CHANGES[change]
    before = versions(quick)
    result = quick(*words, *PROTECTED, "--yes", stdin=stdin)
    assert before == versions(quick)
    assert (4, b"") == (result.code, result.out)
    assert "error: `production` is protected: a change needs a reason\n" in result.text
    assert "--reason" in result.text


@pytest.mark.parametrize("change", CHANGES)
def test_a_protected_environment_asks_for_a_confirmation(change, ready, quick):
    """Without a terminal the flag that stands for the answer is named; nothing is changed."""
    words, stdin = CHANGES[change]
    before = versions(quick)
    result = quick(*words, *PROTECTED, "--reason", "a test", stdin=stdin)
    assert before == versions(quick)
    assert (2, b"") == (result.code, result.out)
    assert "not asked: no terminal" in result.text
    assert "hint: give `--yes`\n" in result.text


@pytest.mark.parametrize("change", CHANGES)
def test_a_protected_environment_changes_with_both(change, ready, quick):
    """The reason stands in the record, whether it came by option or by variable."""
    words, stdin = CHANGES[change]
    environ = {"KEYTURN_REASON": "said in the environment"}
    result = quick(*words, *PROTECTED, "--yes", stdin=stdin, environ=environ)
    assert 0 == result.code, result.text
    reasons = {record["reason"] for record in ready.actions() if record.get("reason")}
    assert {"said in the environment"} <= reasons


def test_reading_a_protected_environment_asks_for_nothing(ready, quick):
    """Nothing changes by looking."""
    assert NEW + b"2" == quick("get", "token", *PROTECTED).out
    assert 0 == quick("list", *PROTECTED).code


# ---------------------------------------------------------------- get


def test_get_writes_the_bytes_and_nothing_else(quick):
    """No newline, no talk: the output can be piped."""
    for name in ("db.password", "DB_PASSWORD"):
        result = quick("get", name)
        assert (0, VALUES["db.password"], b"") == (result.code, result.out, result.err)


def test_get_finds_older_versions(quick):
    """By number and by stage."""
    quick("set", "session", "-", stdin=NEW)
    assert VALUES["session"] == quick("get", "session", "--stage", "previous").out
    assert VALUES["session"] == quick("get", "session", "--version", "1").out
    assert NEW == quick("get", "session", "--version", "2").out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("session", "--version", "9"), 2, "development/session"),
        (("session", "--stage", "pending"), 2, "development/session"),
        (("token",), 2, "development/token"),
        (("db",), 2, "`db` has several fields"),
        (("nowhere",), 2, "`nowhere`"),
        (("sesion",), 2, "`sesion`"),
        (("session", "-e", "nowhere"), 2, "`nowhere`"),
        (("session", "--stage", "latest"), 2, "'latest'"),
        (("session", "--version", "0"), 2, "0"),
        ((), 2, "missing argument 'NAME'"),
    ],
)
def test_get_refuses(words, code, message, quick):
    """What is not there is named; nothing is written to standard output."""
    result = quick("get", *words)
    assert (code, b"") == (result.code, result.out)
    assert message in result.text.splitlines()[0]
    assert "\nhint: " in result.text


def test_get_as_json_holds_the_value_only_where_it_is_asked_for(quick):
    """`--json` is for machines that look; `--reveal` for those that need it."""
    assert "value" not in quick("get", "db.password", "--json").json()
    revealed = quick("get", "db.password", "--json", "--reveal").json()
    assert VALUES["db.password"].decode() == revealed["value"]
    quick("set", "session", "-", stdin=b"\xff\xfe")
    result = quick("get", "session", "--json", "--reveal")
    assert (2, b"") == (result.code, result.out)
    assert "error: the value is not text, which JSON is\n" in result.text


# ---------------------------------------------------------------- list, history, rollback


def test_list_is_a_table_without_a_frame_in_a_pipe(quick):
    """One line a secret, its cells parted by tabs."""
    rows = [line.split("\t") for line in quick("list").out.decode().splitlines()]
    assert [
        ["session", "session-secret", "SESSION_SECRET", "1", "ok"],
        ["api", "guided", "API_KEY", "1", "ok"],
        ["db", "postgres-login", "DB_USER, DB_PASSWORD", "2", "ok"],
        ["token", "generated", "WEBHOOK_TOKEN", "-", "optional"],
    ] == [[*row[:4], row[5]] for row in rows]
    assert re.fullmatch(r"\d+[smh]", rows[0][4])
    assert "-" == rows[3][4]


def test_list_tells_what_is_missing_and_what_is_half(quick):
    """A secret with some of its fields is neither there nor missing."""
    quick("set", "db.username", "-", *PROTECTED, *WHY, stdin=b"clipper_a")
    rows = [line.split("\t") for line in quick("list", *PROTECTED).out.decode().splitlines()]
    assert ["missing", "missing", "partial", "optional"] == [row[5] for row in rows]


def test_history_is_newest_first(quick):
    """Every version with where it came from and which stage points at it."""
    quick("set", "session", "-", stdin=NEW)
    rows = [line.split("\t") for line in quick("history", "session").out.decode().splitlines()]
    assert [
        ["2", "current", "set", "value"],
        ["1", "previous", "set", "value"],
    ] == [[row[0], row[1], *row[3:]] for row in rows]


def test_history_of_nothing(quick):
    """An empty table is said to be empty, on standard error; as JSON it is an empty list."""
    result = quick("history", "token")
    assert (0, b"", "`development/token` has no version yet\n") == (
        result.code,
        result.out,
        result.text,
    )
    assert [] == quick("history", "token", "--json").json()


def test_rollback_goes_back_and_forth(quick):
    """Without a number it is the previous version, so that twice is the way back."""
    quick("set", "session", "-", stdin=NEW)
    result = quick("rollback", "session")
    assert (0, "development/session: version 1 is current\n") == (result.code, result.text)
    assert VALUES["session"] == quick("get", "session").out
    quick("rollback", "session")
    assert NEW == quick("get", "session").out
    assert 0 == quick("rollback", "session", "--to", "1").code
    assert VALUES["session"] == quick("get", "session").out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("session",), 2, "`development/session` has no previous version"),
        (("token",), 2, "`development/token` has no previous version"),
        (("session", "--to", "1"), 5, "version 1 of `development/session` is current already"),
        (("session", "--to", "7"), 2, "development/session"),
        (("nowhere",), 2, "`nowhere`"),
    ],
)
def test_rollback_refuses(words, code, message, quick):
    """What there is to go back to is said; nothing moves."""
    result = quick("rollback", *words)
    assert (code, b"") == (result.code, result.out)
    assert message in result.text.splitlines()[0]
    assert VALUES["session"] == quick("get", "session").out


# ---------------------------------------------------------------- generate, random


def test_generate_makes_what_is_missing_and_can_be_made(quick):
    """What only a vendor or a person has is listed with the command that takes it."""
    result = quick("generate", *PROTECTED, *WHY)
    assert (0, b"") == (result.code, result.out)
    assert (
        "production/session: version 1 made\n"
        "production/token: version 1 made\n"
        "production/api: not made; `keyturn set api -e production`\n" in result.text
    )
    assert "production/db: not made; `keyturn set db -e production`" in result.text
    assert len(quick("get", "session", *PROTECTED).out) >= 43


def test_generate_touches_nothing_that_is_there(quick):
    """By name it is a conflict, and without names it is passed over."""
    result = quick("generate", "session")
    assert (5, b"") == (result.code, result.out)
    assert "error: `development/session` has a value already\n" in result.text
    assert "hint: `keyturn rotate session -e development` replaces it\n" in result.text
    assert 0 == quick("generate", "--missing").code
    assert VALUES["session"] == quick("get", "session").out
    assert "nothing is missing in `development`\n" == quick("generate").text


def test_generate_of_an_unknown_name(quick):
    """Nothing is made where one of the names is wrong."""
    assert 2 == quick("generate", "token", "nowhere").code
    assert [] == quick("history", "token", "--json").json()


@pytest.mark.parametrize(
    ("words", "form", "bits"),
    [
        ((), rb"[A-Za-z0-9+/]{43}=", 256),
        (("--format", "hex"), rb"[0-9a-f]{64}", 256),
        (("--format", "url", "--bytes", "16"), rb"[A-Za-z0-9_-]{22}", 128),
        (("--format", "alphanumeric"), rb"[A-Za-z0-9]{32}", 190),
        (("--format", "alphanumeric", "--length", "64"), rb"[A-Za-z0-9]{64}", 381),
        (("--format", "ascii", "--length", "20"), rb"[ -~]{20}", 131),
    ],
)
def test_random(words, form, bits, quick):
    """One value, exactly; what it is worth is said beside it."""
    result = quick("random", *words)
    assert 0 == result.code
    assert re.fullmatch(form, result.out)
    assert f"{bits} bits of entropy\n" == result.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--bytes", "8"), "112"),
        (("--format", "alphanumeric", "--length", "8"), "112"),
        (("--length", "64"), "`base64` is measured in bytes"),
        (("--format", "alphanumeric", "--bytes", "64"), "measured in characters"),
        (("--bytes", "-5"), "-5"),
        (("--bytes", "0"), "out of bounds"),
        (("--bytes", "many"), "'many'"),
        (("--format", "rot13"), "'rot13'"),
        (("--bytes", "100000000000"), "100000000000"),
    ],
)
def test_random_refuses(words, message, quick):
    """What would be weak, or makes no sense, is refused with what it would have been."""
    result = quick("random", *words)
    assert (2, b"") == (result.code, result.out)
    assert message in result.text


def test_random_needs_no_project(quick, project):
    """It stores nothing and asks no store."""
    project.manifest.unlink()
    assert 32 == len(base64.b64decode(quick("random", "-q").out))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("session", "--version", "99"), "`keyturn history session -e development` lists"),
        (("token",), "`keyturn set token -e development` or `keyturn generate --missing -e dev"),
        (("api", "-e", "production"), "`keyturn set api -e production` or"),
    ],
)
def test_the_hint_names_the_whole_command(words, hint, quick):
    """With its environment, so that it can be run as it stands."""
    assert f"\nhint: {hint}" in quick("get", *words).text


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--bytes", "3"), "ask for `--bytes 14` or more"),
        (("--format", "alphanumeric", "--length", "3"), "ask for `--length 19` or more"),
    ],
)
def test_random_s_hint_is_a_flag_of_it(words, hint, quick):
    """Not a setting of the manifest; and what it says is enough."""
    assert f"\nhint: {hint}\n" in quick("random", *words).text
    enough = hint.split("`")[1].split()
    assert 0 == quick("random", *words[:-2], *enough).code


def test_list_tells_of_what_the_manifest_does_not_declare(quick, project):
    """A secret that was renamed keeps its values under the old name; the hint brings them over."""
    text = project.manifest.read_text()
    renamed = text.replace("secrets.api]", "secrets.vendor]").replace('"api"', '"vendor"')
    project.manifest.write_text(renamed)
    for words in (("list",), ("list", "--json")):
        result = quick(*words)
        assert 0 == result.code
        assert (
            "warning: the store holds values for `development` that keyturn.toml does not "
            "declare: `api`; where `api` was renamed, " in result.text
        )
    assert "does not declare" not in quick("list", "-e", "production").text
    project.manifest.write_text(f'{renamed}\n[secrets.api]\nkind = "guided"\n')
    value = quick("get", "api", "-e", "development").out
    moved = quick("set", "vendor", "-", "--keep-newline", "-e", "development", stdin=value)
    assert 0 == moved.code
    assert VALUES["api"] == quick("get", "vendor").out
