"""What the command line shows, and with which code it ends."""

from __future__ import annotations

import errno
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn import errors
from keyturn.cli import main as entry
from keyturn.cli import prompt
from keyturn.cli.exits import MEANINGS, Exit, exit_of
from keyturn.cli.output import Output, age, plain_text
from keyturn.core.value import SecretValue
from keyturn.errors import AccessDenied, KeyturnError, UsageError

CANARY = "canary-Kk8Jj7Hh6Gg5Ff4"
TESTS = Path(__file__).parents[2]


def families(root=errors.KeyturnError):
    """Return *root* and every class below it."""
    return [root, *(found for child in root.__subclasses__() for found in families(child))]


OURS = [family for family in families() if family.__module__ == "keyturn.errors"]


def test_every_error_has_a_code_of_its_own_accord():
    """No family ends with the code of a bug by oversight: only a bug does."""
    from keyturn.cli import exits

    assert set(OURS) == set(exits._BY_FAMILY)
    assert {errors.InternalError, errors.KeyturnError} == {
        family for family, code in exits._BY_FAMILY.items() if code is Exit.BUG
    }


def test_every_code_is_explained_and_below_those_of_shells():
    """126 and above belong to shells, but for an interrupt."""
    assert list(Exit) == list(MEANINGS)
    assert [Exit.INTERRUPTED] == [code for code in Exit if code >= 126]


@pytest.mark.parametrize("family", OURS, ids=lambda family: family.__name__)
def test_every_error_is_raised_in_some_test(family):
    """An error that no test has seen has a message that nobody has read."""
    own = Path(__file__)
    needle = family.__name__
    assert any(
        needle in path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py") if path != own
    )


def made(family):
    """Return an error of *family*."""
    if family is errors.ManifestError:
        problem = errors.Problem(file="f", line=1, key="k", message="m", fix="x")
        return family([problem])
    if family is errors.Missing:
        return family("m", ["A"])
    if family is errors.NotYet:
        return family("m", person=True)
    return family("m")


@pytest.mark.parametrize("family", OURS, ids=lambda family: family.__name__)
def test_an_error_ends_with_its_code(family, monkeypatch, capsys):
    """Whatever a verb raises, the code is the table's and the message is on standard error."""

    def failing(words):
        raise made(family)

    monkeypatch.setattr(entry, "_run", failing)
    assert exit_of(made(family)) == entry.main(["keyturn", "list"])
    out, err = capsys.readouterr()
    assert "" == out
    assert err.startswith("error: ")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (EOFError(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (click.exceptions.Exit(0), 0, ""),
        (OSError(errno.ENOSPC, "No space left on device", "/a/file"), 7, "`/a/file`: No space"),
        (OSError(errno.EROFS, "Read-only file system", b"/b\xff"), 7, "Read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/c"), 4, "`/c`: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), 7, "the system: Input/output error"),
        (ValueError(CANARY), 70, "a fault in Keyturn: ValueError"),
        (MemoryError(), 70, "a fault in Keyturn: MemoryError"),
        (RecursionError(CANARY), 70, "a fault in Keyturn: RecursionError"),
    ],
)
@pytest.mark.parametrize("verbose", [(), ("-v",)])
def test_what_is_not_ours(raised, code, said, verbose, monkeypatch, capsys):
    """A foreign exception is told by its kind alone: its text may hold anything."""

    def failing(words):
        local = CANARY
        try:
            raise KeyError(local)
        except KeyError as cause:
            raise raised from cause

    monkeypatch.setattr(entry, "_run", failing)
    assert code == entry.main(["keyturn", "list", *verbose])
    out, err = capsys.readouterr()
    assert "" == out
    assert said in err
    assert CANARY not in err
    assert (bool(verbose) and code in {4, 7, 70}) == ('File "' in err)


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("rotate", "interrupted: `keyturn rotate --resume` goes on where a rotation stopped\n"),
        ("sync", "interrupted: the same command again does what is left\n"),
        ("list", "interrupted\n"),
    ],
)
def test_an_interrupt_says_how_this_command_goes_on(verb, said, monkeypatch, capsys):
    """Advice about rotations helps nobody who interrupted something else."""

    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_run", interrupted)
    assert 130 == entry.main(["keyturn", verb])
    assert said == capsys.readouterr().err


def test_a_broken_pipe_is_the_front_door_s():
    """It ends the command quietly there, whichever way it went."""

    def failing(words):
        raise BrokenPipeError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entry, "_run", failing)
        with pytest.raises(BrokenPipeError):
            entry.main(["keyturn", "list"])


# ---------------------------------------------------------------- output


@given(text=st.text(st.characters(exclude_categories=[])))
def test_plain_text_drives_no_terminal(text):
    """Of what came from outside, only what can be seen is written as it is."""
    for keep, lines in (("\t", False), ("\t\n", True)):
        shown = plain_text(text, lines=lines)
        assert all(c.isprintable() or c in keep for c in shown)
    assert plain_text(shown, lines=True) == shown


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (86_399, "23h"),
        (86_400, "1d"),
        (90 * 86_400, "90d"),
        (-1, "in the future"),
        (-7200, "in the future"),
    ],
)
def test_ages(seconds, expected):
    """One unit, cut and not rounded up, so that nothing looks older than it is."""
    assert expected == age(timedelta(seconds=seconds))


def test_a_document_holds_times_and_no_value(capsys):
    """Times are RFC 3339; a value that slipped in is refused, and not shown."""
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    Output().data({"at": when, "for": timedelta(hours=1)})
    assert {"at": "2026-01-02T03:04:05Z", "for": 3600} == json.loads(capsys.readouterr().out)
    for document in ({"v": SecretValue(CANARY.encode())}, [object()]):
        with pytest.raises(TypeError) as caught:
            Output().data(document)
        assert CANARY not in str(caught.value)
    assert "" == capsys.readouterr().out


@pytest.mark.parametrize(
    ("quiet", "expected"),
    [(0, ["talk", "important", "warning: w"]), (1, ["important", "warning: w"]), (2, [])],
)
def test_quiet(quiet, expected, capsys):
    """`-q` leaves what is important, `-qq` leaves errors."""
    output = Output(quiet=quiet)
    output.say("talk")
    output.say("important", important=True)
    output.warn("w")
    assert expected == capsys.readouterr().err.splitlines()
    output.error(KeyturnError("e", hint="h"))
    assert "error: e\n\nhint: h\n" == capsys.readouterr().err


def test_json_stays_json_whatever_the_encoding(monkeypatch):
    """What the stream cannot carry is escaped as JSON does it."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Output().data({"name": "日本", "path": "odd \udcff"})
    assert {"name": "日本", "path": "odd \udcff"} == json.loads(raw.getvalue())


# ---------------------------------------------------------------- prompts


@pytest.fixture
def answers(monkeypatch):
    """Return a function that sets what the person types."""

    def set_answers(*given):
        typed = iter(given)
        monkeypatch.setattr(prompt, "has_terminal", lambda: True)
        monkeypatch.setattr("getpass.getpass", lambda label: next(typed))

    return set_answers


def test_a_value_that_was_typed_twice(answers):
    """Bytes of the terminal that are no text come back as they were."""
    answers("a\udcff", "a\udcff")
    assert SecretValue(b"a\xff") == prompt.ask_value("x")
    answers("once")
    assert SecretValue(b"once") == prompt.ask_value("x", twice=False)


@pytest.mark.parametrize(
    ("given", "message"), [(("", ""), "the value is empty"), (("a", "b"), "the two values differ")]
)
def test_answers_that_are_refused(given, message, answers):
    """Neither is in the message."""
    answers(*given)
    with pytest.raises(UsageError) as caught:
        prompt.ask_value("x")
    assert message == caught.value.message


def test_without_a_terminal(monkeypatch):
    """What to do instead is said by whoever asks."""
    monkeypatch.setattr(prompt, "has_terminal", lambda: False)
    with pytest.raises(UsageError) as caught:
        prompt.ask_value("x", instead="do this")
    assert "do this" == caught.value.hint
    with pytest.raises(UsageError) as caught:
        prompt.confirm("sure?", yes=False, flag="--sure")
    assert "give `--sure`" == caught.value.hint
    prompt.confirm("sure?", yes=True)


def test_a_no_is_a_refusal():
    """Told apart from a wrong command line by its code."""
    assert Exit.DENIED == exit_of(AccessDenied("not confirmed"))
