"""Rotations whose value a person fetches: asked for on a terminal, given in a file, or waited for."""

from __future__ import annotations

import pytest

from tests.cli.projects import KEYTURN, VALUES
from tests.cli.terminal import Terminal

NEW = "test-api-fetched-Qq1Ww2Ee3Rr4"
STEP = "make a new `value` where the present one was made"


@pytest.fixture
def typing(project):
    """Return a function that starts `keyturn rotate api` on a terminal."""

    def start(*words):
        env = {**project.environ, "TERM": "xterm-256color"}
        words = (KEYTURN, "rotate", "api", *words)
        return Terminal(words, cwd=project.folder, env=env, size=(40, 200))

    return start


def open_steps(quick):
    """Return the steps at which rotations are open."""
    said = quick("status").text
    return [line for line in said.splitlines() if "a rotation is open" in line]


def test_the_question_stays_on_the_screen(typing, project):
    """No spinner draws over it while it waits; after the answer the steps go on."""
    with typing("--now") as terminal:
        terminal.until("New value: ")
        assert terminal.is_still(0.6)
        assert not terminal.echoes()
        terminal.type(f"{NEW}\n")
        assert 0 == terminal.finish()
    assert 1 == terminal.seen.count(STEP)
    assert "✓ promote" in terminal.seen
    assert NEW not in terminal.seen
    assert NEW.encode() == project("get", "api").out


def test_a_value_that_is_refused_is_asked_for_again(typing, project):
    """In sight as well, with the reason, and the steps are not told twice."""
    with typing("--now") as terminal:
        terminal.until("New value: ")
        terminal.type("changeme\n")
        terminal.until("only stands for a value")
        if terminal.seen.count("New value: ") == 1:
            terminal.until("New value: ")
        assert terminal.is_still(0.6)
        terminal.type(f"{NEW}\n")
        assert 0 == terminal.finish()
    assert 1 == terminal.seen.count(STEP)
    assert NEW.encode() == project("get", "api").out


def test_whoever_is_not_ready_comes_back(typing, project):
    """Enter alone leaves it waiting; the same command asks again, and nothing is told twice."""
    with typing() as terminal:
        terminal.until("New value: ")
        terminal.type("\n")
        assert 0 == terminal.finish()
    assert 1 == terminal.seen.count(STEP)
    assert "development/api: it waits for the new value" in terminal.seen
    with typing("--now") as terminal:
        terminal.until("New value: ")
        terminal.type(f"{NEW}\n")
        assert 0 == terminal.finish()
    assert NEW.encode() == project("get", "api").out


def test_without_a_terminal_it_says_what_to_do_in_lines(quick):
    """Once, and no line holds an escaped end of line."""
    waits = quick("rotate", "api")
    assert 0 == waits.code
    assert 1 == waits.text.count(STEP)
    assert "\\n" not in waits.text
    assert "then: keyturn rotate --resume api -e development" in waits.text.splitlines()


def test_a_value_for_what_waits_goes_on_with_it(quick, project):
    """`--resume` need not be said, and the rotation is the same one."""
    assert 0 == quick("rotate", "api").code
    result = quick("rotate", "api", "--now", "--from-file", "-", stdin=NEW.encode())
    assert 0 == result.code, result.text
    assert "version 2 is in use" in result.text
    assert NEW.encode() == quick("get", "api").out


def test_a_refused_value_says_that_it_is_open_and_how_to_go_on(quick):
    """With the command, which works as it stands."""
    result = quick("rotate", "api", "--from-file", "-", stdin=b"changeme")
    assert 1 == result.code
    assert "the rotation stays open" in result.text
    assert "`keyturn rotate api -e development --from-file PATH`" in result.text
    assert "`keyturn rotate api -e development --give-up`" in result.text
    assert 1 == len(open_steps(quick))
    words = ("rotate", "api", "-e", "development", "--now", "--from-file", "-")
    assert 0 == quick(*words, stdin=NEW.encode()).code
    assert NEW.encode() == quick("get", "api").out


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize(
    ("words", "given"), [(("api", "--from-file", "-"), b""), (("api", "--from-file", "/none"), b"")]
)
def test_exit_code_2_means_that_nothing_was_touched(words, given, waiting, quick):
    """A value that cannot be read begins nothing, and leaves what waits as it is."""
    if waiting:
        assert 0 == quick("rotate", "api").code
    assert 2 == quick("rotate", *words, stdin=given).code
    assert int(waiting) == len(open_steps(quick))
    assert VALUES["api"] == quick("get", "api").out


def test_a_value_that_nothing_asks_for_begins_nothing(quick, project):
    """What makes its own value is not rotated by the way."""
    project.put("token", b"test-token-Vv5Bb4Nn3Mm2Cc1Xx9Zz8")
    result = quick("rotate", "token", "--now", "--from-file", "-", stdin=NEW.encode())
    assert 2 == result.code
    assert "would not be taken" in result.text
    assert b"test-token-Vv5Bb4Nn3Mm2Cc1Xx9Zz8" == quick("get", "token").out


def test_one_that_has_its_value_takes_no_other(quick):
    """It waits for a time, held by nobody, and says so; nothing is touched."""
    assert 0 == quick("rotate", "api", "--from-file", "-", stdin=NEW.encode()).code
    given = quick("rotate", "api", "--from-file", "-", stdin=b"test-api-third-Tt5Yy6Uu7")
    assert 2 == given.code
    assert "open at `grace`" in given.text
    again = quick("rotate", "api")
    assert 5 == again.code
    assert "open and waits until" in again.text
    assert "`keyturn rotate --resume api -e development` goes on then" in again.text
    assert "nobody" not in again.text and "running" not in again.text
    assert NEW.encode() == quick("get", "api").out
