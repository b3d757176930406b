"""`keyturn run` starts nothing where a value is missing, or cannot or must not be handed over."""

from __future__ import annotations

import pytest

from tests.cli import projects
from tests.cli.test_cli_fresh import went_short


def declare(project, text):
    """Add *text* to the manifest."""
    with project.manifest.open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")


def setting(project, line):
    """Add *line* to the plain settings."""
    text = project.manifest.read_text(encoding="utf-8")
    project.manifest.write_text(text.replace("[config]\n", f"[config]\n{line}\n"), encoding="utf-8")


MARK = ("run", "--", "touch", "started")


def refused(project, *words):
    """Run the command twice, and return what it said; nothing was started either time."""
    said = []
    for _ in range(2):
        result, short = went_short(project, *words)
        assert not short
        assert (1, b"") == (result.code, result.out)
        said.append(result.text)
    assert not (project.folder / "started").exists()
    assert said[0] == said[1]
    return said[0]


def test_all_that_is_missing_is_listed_at_once(tmp_path):
    """One run tells every required value that is missing, and how to come by each."""
    project = projects.empty(tmp_path)
    projects.start(project)
    result = project(*MARK)
    assert (1, b"") == (result.code, result.out)
    assert result.text == (
        "error: 4 required values are missing in `development`:\n"
        "  SESSION_SECRET (secret `session`)\n"
        "  API_KEY (secret `api`)\n"
        "  DB_USER (secret `db`)\n"
        "  DB_PASSWORD (secret `db`)\n"
        "\n"
        "hint: `keyturn generate --missing -e development` makes what can be made; "
        "`keyturn set NAME -e development` takes the rest\n"
    )
    assert not (project.folder / "started").exists()
    assert [] == project.actions(action="environment.value.deliver")


def test_what_a_consumer_does_not_use_does_not_stop_it(tmp_path):
    """A consumer needs its own secrets only; a field that is missing is listed by its variable."""
    project = projects.empty(tmp_path)
    projects.start(project)
    project.put("session", b"test-session-aaaaaaaaaaaaaaaaaaaaaa")
    project.put("api", b"test-api-aaaaaaaaaaaaaaaaaaaaaa")
    project.put("DB_PASSWORD", b"test-password-aaaaaaaaaaaaaaaaaaaaaa")
    assert 0 == project("run", "--consumer", "worker", "--", "true").code
    text = refused(project, "run", "--consumer", "backend", "--", "touch", "started")
    assert text.startswith(
        "error: 1 required value is missing in `development` for `backend`:\n"
        "  DB_USER (secret `db`)\n"
    )


def test_an_optional_secret_may_be_missing(either):
    """`token` has no value and is not required; its variable is not there."""
    result = either("run", "--", "sh", "-c", "test -z ${WEBHOOK_TOKEN+x} && echo absent")
    assert (0, b"absent\n") == (result.code, result.out)


def test_a_value_with_a_nul(project):
    """No environment carries one; the message names the variable and nothing of the value."""
    project.put("api", b"canary-left\0canary-right")
    text = refused(project, *MARK)
    assert "error: the value for `API_KEY` holds a NUL byte" in text
    assert "canary" not in text
    assert 0 == project("run", "--consumer", "worker", "--", "true").code
    assert went_short(project, "run", "--consumer", "worker", "--", "true")[1]


def test_the_hint_for_what_no_environment_carries_holds(project):
    """Done as it says, a file carries the value and the program starts."""
    project.put("api", b"left\0right")
    with project.manifest.open("a") as file:
        file.write(
            '[consumers.big]\nsecrets = ["api"]\nrender = { path = "run/big", format = "files" }\n'
        )
    assert 0 == project("render", "--consumer", "big", "-e", "development").code
    assert b"left\0right" == (project.folder / "run" / "big" / "API_KEY").read_bytes()
    assert 0 == project("run", "--consumer", "worker", "--", "true").code


def test_a_value_that_is_too_long(project):
    """The message says how long it is and how long it may be."""
    most = 131_071 - len("API_KEY=")
    project.put("api", b"c" * (most + 1))
    text = refused(project, *MARK)
    assert f"`API_KEY` has {most + 1} bytes; an environment carries {most}" in text
    assert '  secrets = ["api"]\n  render = { path = "run/NAME", format = "files" }\n' in text
    assert "`keyturn render --consumer NAME -e development` writes it" in text
    project.put("api", b"c" * most)
    for _ in range(2):
        result = project("run", "--", "sh", "-c", "printf %s ${#API_KEY}")
        assert (0, str(most).encode()) == (result.code, result.out)


@pytest.mark.parametrize("variable", ["PAGER", "GIT_PROXY_COMMAND", "OPENSSL_CONF", "npm_config_x"])
def test_a_secret_whose_variable_changes_how_programs_run(variable, project):
    """A stored value must not decide what else is executed."""
    declare(project, f'[secrets.odd]\nkind = "guided"\nvariable = "{variable}"\n')
    project.put("odd", b"canary-odd-value-1234567890")
    text = refused(project, *MARK)
    assert f"error: the variable `{variable}` would change how programs run" in text
    assert "canary" not in text
    assert 0 == project("run", "--consumer", "worker", "--", "true").code


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "PATH"])
def test_a_manifest_that_names_the_loader_s_variables(variable, project):
    """The worst of them are refused as soon as they are declared."""
    declare(project, f'[secrets.odd]\nkind = "guided"\nvariable = "{variable}"\n')
    result = project(*MARK)
    assert (2, b"") == (result.code, result.out)
    assert f"`{variable}` decides what programs run" in result.text


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "NODE_OPTIONS", "HOME"])
def test_a_setting_whose_name_changes_how_programs_run(variable, project):
    """A plain setting is held to the same, for those who get the settings."""
    setting(project, f'{variable} = "canary"')
    text = refused(project, *MARK)
    assert f"error: the variable `{variable}` would change how programs run" in text
    assert "canary" not in text
    assert 0 == project("run", "--consumer", "worker", "--", "true").code


def test_a_setting_with_a_nul(project):
    """The manifest can write one; no environment can carry it."""
    setting(project, 'ODD = "canary\\u0000right"')
    result = project(*MARK)
    assert result.code in {1, 2}
    assert "ODD" in result.text
    assert "canary" not in result.text
    assert not (project.folder / "started").exists()


def test_the_record_is_there_before_the_program(project):
    """A program that looks finds the record of its own start, by either way."""
    script = "cat .keyturn/audit/reads.log"
    assert 0 == project("run", "--", "true").code
    result = project("run", "--consumer", "backend", "--", "sh", "-c", script)
    last = result.out.splitlines()[-1]
    assert b'"action":"environment.value.deliver"' in last
    assert b'"versions":"api=1 db=2 session=1"' in last
    assert b'"consumer":"backend","command":"sh"' in last


@pytest.mark.parametrize(
    "name", ['a "quoted" \\ name', "tab\there", "new\nline", "ünïcode", "n" * 200, "\udcff\udcfe"]
)
def test_any_program_s_name_can_be_recorded(name, either):
    """Whatever bytes a program's name has, it starts and the log stays whole."""
    program = either.folder / name
    program.write_text("#!/bin/sh\necho started\n")
    program.chmod(0o755)
    result = either("run", "--", f"./{name}")
    assert (0, b"started\n", b"") == (result.code, result.out, result.err)
    assert 0 == either("audit", "verify").code
    record = either.actions(action="environment.value.deliver")[-1]
    assert len(record["detail"]["command"]) >= len(name) - 10


def test_a_program_s_name_that_is_too_long_for_a_record(either):
    """A name of any length starts or fails as it would; the log stays whole."""
    result = either("run", "--", "./" + "n" * 100_000)
    assert 126 == result.code
    assert "File name too long" in result.text
    assert 0 == either("audit", "verify").code
