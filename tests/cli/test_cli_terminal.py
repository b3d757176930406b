"""On a terminal: prompts without echo, confirmations, interruption, colour."""

from __future__ import annotations

import re

import pytest

from tests.cli.projects import KEYTURN, VALUES
from tests.cli.terminal import Terminal

NEW = "test-typed-Kk9Jj8Hh7Gg6Ff5Dd4Ss"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def typing(project):
    """Return a function that starts a command of the project on a terminal."""

    def start(*words, environ=None, **options):
        env = {**project.environ, "TERM": "xterm-256color", **(environ or {})}
        return Terminal([KEYTURN, *words], cwd=project.folder, env=env, **options)

    return start


def answer(terminal, label, text):
    terminal.until(f"{label}: ")
    assert not terminal.echoes()
    terminal.type(f"{text}\n")


def test_a_value_is_asked_for_twice_and_never_shown(typing, project):
    """What is typed is not echoed, and the terminal echoes again afterwards."""
    with typing("set", "session") as terminal:
        answer(terminal, "session.value", NEW)
        answer(terminal, "session.value, again", NEW)
        assert 0 == terminal.finish()
        assert terminal.echoes()
    assert NEW not in terminal.seen
    assert "development/session: version 2 is current" in terminal.seen
    assert NEW.encode() == project("get", "session").out


def test_each_field_of_a_login_is_asked_for(typing, project):
    """A name once, a password twice; they change together."""
    with typing("set", "db") as terminal:
        answer(terminal, "db.username", "clipper_b")
        answer(terminal, "db.password", NEW)
        answer(terminal, "db.password, again", NEW)
        assert 0 == terminal.finish()
    assert b"clipper_b" == project("get", "db.username").out
    assert NEW.encode() == project("get", "DB_PASSWORD").out


def test_answers_that_differ_store_nothing(typing, project):
    """Neither of them is shown."""
    with typing("set", "api") as terminal:
        answer(terminal, "api.value", NEW)
        answer(terminal, "api.value, again", NEW + "x")
        assert 2 == terminal.finish()
    assert "error: the two values differ" in terminal.seen
    assert NEW not in terminal.seen
    assert VALUES["api"] == project("get", "api").out


def test_an_empty_answer_stores_nothing(typing, project):
    """Enter alone is no value."""
    with typing("set", "api") as terminal:
        answer(terminal, "api.value", "")
        assert 2 == terminal.finish()
    assert "error: the value is empty" in terminal.seen


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_an_interrupted_prompt(key, typing, project):
    """Ctrl-C and Ctrl-D end it with their code and no traceback; the terminal echoes again."""
    with typing("set", "api") as terminal:
        terminal.until("api.value: ")
        terminal.type(key)
        assert 130 == terminal.finish()
        assert terminal.echoes()
    assert "interrupted" in terminal.seen
    assert "Traceback" not in terminal.seen
    assert VALUES["api"] == project("get", "api").out


def test_a_name_that_is_wrong_is_told_before_anything_is_typed(typing):
    """Nobody types a password for a secret that does not exist."""
    with typing("set", "nowhere") as terminal:
        assert 2 == terminal.finish()
    assert "again" not in terminal.seen


def test_a_missing_reason_is_told_before_anything_is_typed(typing):
    """The same for a protected environment."""
    with typing("set", "api", "-e", "production") as terminal:
        assert 4 == terminal.finish()
    assert "api.value: " not in terminal.seen


@pytest.mark.parametrize(("reply", "code"), [("y", 0), ("YES", 0), ("n", 4), ("", 4), ("yep", 4)])
def test_a_protected_change_is_confirmed(reply, code, typing, project):
    """Only a yes goes on; anything else changes nothing."""
    with typing("generate", "session", "-e", "production", "--reason", "r") as terminal:
        terminal.until("generate values in `production`? [y/N] ")
        terminal.type(f"{reply}\n")
        assert code == terminal.finish()
    made = project("history", "session", "-e", "production", "--json").json()
    assert (code == 0) == bool(made)
    assert code == 0 or "nothing was changed" in terminal.seen


def test_a_value_may_be_piped_while_the_person_confirms(typing, project):
    """The question goes to the terminal device, the value comes by standard input."""
    path = project.folder / "value"
    path.write_text(NEW)
    with path.open("rb") as file:
        # The login helper takes its terminal from descriptor 0; the shell puts the file there.
        script = f"'{KEYTURN}' set session - -e production --reason r < value"
        with Terminal(
            ["/bin/sh", "-c", script], cwd=project.folder, env=project.environ
        ) as terminal:
            terminal.until("[y/N] ")
            terminal.type("y\n")
            assert 0 == terminal.finish()
        del file
    assert NEW.encode() == project("get", "session", "-e", "production").out


def test_a_value_shown_on_a_terminal_ends_with_a_newline(typing, way, project):
    """So that the shell's prompt does not stick to it; a pipe gets the bytes alone."""
    if way == "short":
        project.refresh()
    with typing("get", "session") as terminal:
        assert 0 == terminal.finish()
    assert VALUES["session"].decode() + "\r\n" == terminal.seen


@pytest.mark.parametrize("words", [("list",), ("test",)])
def test_tables_have_heads_and_colours_on_a_terminal_only(words, typing, project):
    """`NO_COLOR` takes the colour, a pipe takes both; no status is told by colour alone."""
    with typing(*words, size=(40, 200)) as terminal:
        terminal.finish()
    assert COLOUR.search(terminal.seen)
    with typing(*words, size=(40, 200), environ={"NO_COLOR": "1"}) as plain:
        plain.finish()
    shown = re.sub(r"\x1b\[1m|\x1b\[0m", "", plain.seen)
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", plain.seen)
    assert "ok" in shown or "pass" in shown
    assert not COLOUR.search(project(*words).out.decode())


def test_a_rotation_on_a_terminal(typing, project):
    """A spinner while a step runs, and at the end the same lines as in a pipe."""
    project.put("token", b"test-token-Vv5Bb4Nn3Mm2Cc1Xx9Zz8")
    with typing("rotate", "token", "--now", size=(40, 120)) as terminal:
        assert 0 == terminal.finish()
    assert "✓ promote" in terminal.seen
    assert "version 2 is in use, rotation done" in terminal.seen


def test_ctrl_c_during_a_command(typing, project):
    """It stops with its code; what was begun is left for the next run."""
    project.put("token", b"test-token-Vv5Bb4Nn3Mm2Cc1Xx9Zz8")
    project.manifest.write_text(
        project.manifest.read_text().replace(
            '[consumers.worker]\nsecrets = ["session"]',
            '[consumers.worker]\nsecrets = ["session", "token"]',
        )
        + '\n[consumers.worker.reload]\ncommand = ["sleep", "30"]\n'
    )
    assert 0 == project("set", "token", "-", stdin=b"test-token-2-Vv5Bb4Nn3Mm2Cc1Xx").code
    with typing("rotate", "token", "--now", "-v") as terminal:
        terminal.until("reloading")
        terminal.type("\x03")
        assert 130 == terminal.finish()
    assert "interrupted: `keyturn rotate --resume` goes on" in terminal.seen
    assert "Traceback" not in terminal.seen
