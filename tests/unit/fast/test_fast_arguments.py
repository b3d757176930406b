"""The fast path reads arguments as the full command line does, or leaves them to it."""

from __future__ import annotations

import os

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn import fast
from keyturn.cli.commands.get import command as get
from keyturn.cli.commands.run import command as run


def understood(words, *, command=True):
    """Return what the fast path reads, as a tuple, or None where it declines."""
    found = fast.read_arguments(list(words), command=command)
    if found is None:
        return None
    return found.environment, found.consumer, found.project, found.words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["true"], ("development", "", "", ["true"])),
        (["--", "true"], ("development", "", "", ["true"])),
        (["-e", "production", "--", "a", "-e", "x"], ("production", "", "", ["a", "-e", "x"])),
        (["-e", "production", "a", "-e", "x"], ("production", "", "", ["a", "-e", "x"])),
        (["--environment=qa", "a"], ("qa", "", "", ["a"])),
        (["--consumer", "w", "--project-dir", "p", "a"], ("development", "w", "p", ["a"])),
        (["-e", "a", "-e", "b", "x"], ("b", "", "", ["x"])),
        (["a", "--", "b"], ("development", "", "", ["a", "--", "b"])),
        (["--", "--", "b"], ("development", "", "", ["--", "b"])),
        (["--", "-x"], ("development", "", "", ["-x"])),
        ([], ("development", "", "", [])),
    ],
)
def test_of_run(words, expected):
    """Options end at `--` or at the program; what follows is the program's own."""
    assert expected == understood(words)


@pytest.mark.parametrize(
    "words",
    [
        ["-q", "a"],
        ["-v", "a"],
        ["--reason", "x", "a"],
        ["--help"],
        ["-", "a"],
        ["-eproduction", "a"],
        ["-e=production", "a"],
        ["--env", "qa", "a"],
        ["-e"],
        ["-e", ""],
        ["--environment=", "a"],
        ["--consumer="],
    ],
)
def test_what_it_declines(words):
    """An option it does not know, or one without a value, is for the full command line."""
    assert understood(words) is None


@pytest.mark.parametrize("name", ["KEYTURN_ENVIRONMENT"])
def test_the_environment_may_name_the_environment(name, monkeypatch):
    """`KEYTURN_ENVIRONMENT` names it where no option does; an empty one names nothing."""
    monkeypatch.setenv(name, "qa")
    assert "qa" == understood(["a"])[0]
    assert "x" == understood(["-e", "x", "a"])[0]
    monkeypatch.setenv(name, "")
    assert "development" == understood(["a"])[0]


def test_options_of_get_may_follow_the_name():
    """`keyturn get NAME -e ENV`, as it is often typed."""
    assert ("qa", "", "", ["db"]) == understood(["db", "-e", "qa"], command=False)


WORDS = st.lists(
    st.sampled_from(
        ["-e", "qa", "--environment", "--environment=qa", "--consumer", "--consumer=w"]
        + ["--project-dir", "--project-dir=.", "--", "prog", "-x", "--flag", "-q", "", "-", "a=b"]
    ),
    max_size=7,
)


def by_click(command, words):
    """Return what the full command line reads from *words*, or None where it refuses."""
    try:
        parameters = command.make_context("x", list(words), resilient_parsing=False).params
    except click.exceptions.Exit:
        return None
    except click.ClickException:
        return None
    given = parameters.get("program", ()) or (parameters.get("name"),)
    return (
        parameters["environment"] or "development",
        parameters.get("consumer") or "",
        str(parameters["project_dir"] or ""),
        list(given),
    )


@given(words=WORDS)
def test_both_ways_read_run_alike(words):
    """Whatever the fast path understands, the full command line understands the same."""
    found = understood(words)
    if found is not None and found[3] and os.path.isdir(found[2] or "."):
        assert found == by_click(run, words)


@given(words=WORDS)
def test_both_ways_read_get_alike(words):
    """The same of `get`, with the one name that it takes."""
    found = understood(words, command=False)
    if found is not None and len(found[3]) == 1 and not found[1] and os.path.isdir(found[2] or "."):
        assert found == by_click(get, words)


def test_the_project_is_found_upwards_or_where_it_is_said_to_be(tmp_path, monkeypatch):
    """From the working folder it is looked for upwards; a folder that is named must hold it."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "keyturn.toml").touch()
    monkeypatch.chdir(inner)
    assert str(tmp_path) == fast.find_project("")
    assert str(tmp_path) == fast.find_project(str(tmp_path))
    assert fast.find_project(str(inner)) is None


def test_without_a_project_nothing_is_found(tmp_path):
    """The search ends at the root."""
    assert fast.find_project(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"KEYTURN_HOME": "/k", "XDG_DATA_HOME": "/x", "HOME": "/h"}, "/k"),
        ({"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/keyturn"),
        ({"HOME": "/h"}, "/h/.local/share/keyturn"),
        ({"KEYTURN_HOME": "", "XDG_DATA_HOME": "", "HOME": "/h"}, "/h/.local/share/keyturn"),
    ],
)
def test_where_the_keys_are(environ, expected, monkeypatch):
    """`KEYTURN_HOME`, else the data folder of the XDG rules, else its usual place."""
    for name in ("KEYTURN_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert expected == fast.key_home()
