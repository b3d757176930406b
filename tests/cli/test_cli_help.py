"""Help, suggestions, exit codes, completion."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from keyturn import errors
from keyturn.cli.commands import VERBS
from keyturn.cli.exits import MEANINGS, Exit
from tests.cli.projects import KEYTURN, clean_environment

SUBVERBS = [("audit", "log"), ("audit", "verify"), ("audit", "export")]


def test_the_list_of_verbs(quick):
    """Every verb stands under a heading of the lifecycle with one line of help."""
    result = quick("--help")
    assert (0, b"") == (result.code, result.err)
    text = result.out.decode()
    for name, verb in VERBS.items():
        assert f"  {name} " in text
        assert f"{verb.group}:" in text
        assert verb.help in text
    assert "`keyturn help exit-codes`" in text


def test_alone_it_shows_the_help_and_is_wrong(quick):
    """Without a verb the help goes to standard error, with the code of a wrong command line."""
    for words in ((), ("audit",)):
        result = quick(*words)
        assert (2, b"") == (result.code, result.out)
        assert result.text.startswith("Usage: keyturn")
        assert "error:" not in result.text


@pytest.mark.parametrize("words", [*((name,) for name in VERBS), *SUBVERBS], ids=" ".join)
def test_help_of_every_verb(words, quick):
    """Examples first, then what it does, then its options; `-h` is the same."""
    result = quick(*words, "--help")
    assert (0, b"") == (result.code, result.err)
    assert result.out == quick(*words, "-h").out
    text = result.out.decode()
    assert text.startswith(f"Usage: keyturn {' '.join(words)} ")
    if len(words) == 1:
        usage, examples, rest = text.partition("\nExamples:\n")
        assert usage.count("\n") <= 2
        assert f"  keyturn {words[0]}" in rest.splitlines()[0]
    for option in ("--value", "--password", "--secret"):
        assert option not in text


def test_help_needs_no_project(tmp_path):
    """It works anywhere, and touches nothing."""
    done = subprocess.run([KEYTURN, "set", "--help"], cwd=tmp_path, capture_output=True)
    assert (0, b"") == (done.returncode, done.stderr)
    assert [] == list(tmp_path.iterdir())


def test_the_version(quick):
    """One line."""
    assert b"keyturn 0.1.0\n" == quick("--version").out


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("lsit",), "there is no command `lsit`", "did you mean `keyturn list`?"),
        (("rotat", "db"), "there is no command `rotat`", "did you mean `keyturn rotate`?"),
        (("xyzzy",), "there is no command `xyzzy`", "`keyturn --help` lists all"),
        (
            ("list", "--jsn"),
            "no such option '--jsn'. Did you mean '--json'?",
            "`keyturn list --help`",
        ),
        (("--jsn",), "no such option '--jsn'", "`keyturn --help`"),
        (("list", "extra"), "got unexpected extra argument (extra)", "`keyturn list --help`"),
        (("audit", "lgo"), "no such command 'lgo'. Did you mean 'log'?", "`keyturn audit --help`"),
        (("get", "sesion"), "no secret or variable `sesion` in `development`", "session"),
        (("get", "API_KYE"), "no secret or variable `API_KYE` in `development`", "API_KEY"),
        (("list", "-e", "prodction"), "`prodction`", "production"),
        (("run", "--consumer", "wroker", "x"), "`wroker`", "worker"),
        (("help", "exit-code"), "'exit-code' is not one of 'exit-codes'", "`keyturn help --help`"),
    ],
)
def test_what_was_mistyped_is_guessed(words, error, hint, quick):
    """The likely command is suggested and never run; the message is one line."""
    result = quick(*words)
    assert (2, b"") == (result.code, result.out)
    first, empty, second = result.text.splitlines()
    assert error in first
    assert first.startswith("error: ")
    assert "" == empty
    assert second.startswith("hint: ")
    assert hint in second


def test_names_with_control_characters_drive_no_terminal(quick):
    """What came from outside is escaped before it is shown."""
    result = quick("get", "a\x1b]0;title\x07\x9b31m")
    assert 2 == result.code
    assert not set(result.text) & {"\x1b", "\x07", "\x9b"}


# ---------------------------------------------------------------- exit codes


def test_the_table_of_exit_codes_is_printed(quick):
    """`help exit-codes` prints every code with its meaning."""
    lines = quick("help", "exit-codes").out.decode().splitlines()
    assert [f"{code.value:>3}   {MEANINGS[code]}" for code in Exit] == lines


@pytest.mark.parametrize("topic", ["exit-codes", "environment", "formats", "kinds"])
def test_topics(topic, quick):
    """Each topic has a text that fits a terminal, and works in a pipe."""
    result = quick("help", topic)
    assert (0, b"") == (result.code, result.err)
    assert result.out.count(b"\n") >= 5


def test_every_variable_that_is_read_is_explained(quick):
    """A setting of ours that no help mentions could not be found."""
    from pathlib import Path

    import keyturn

    source = "".join(
        path.read_text(encoding="utf-8")
        for path in Path(keyturn.__file__).parent.rglob("*.py")
        if not {"_internal", "demo", "testing", "_examples"} & set(path.parts)
    )
    text = quick("help", "environment").out.decode()
    for name in ("KEYTURN_ENVIRONMENT", "KEYTURN_HOME", "KEYTURN_REASON", "KEYTURN_VERSIONS"):
        assert name in source
        assert f"\n{name} " in f"\n{text}"


def test_every_family_of_errors_has_its_code():
    """No error of ours ends with the code of a bug by accident."""
    from keyturn.cli import exits

    families = [
        family
        for name in errors.__all__
        if isinstance(family := getattr(errors, name), type)
        and issubclass(family, errors.KeyturnError)
    ]
    assert set(families) == set(exits._BY_FAMILY)


# ---------------------------------------------------------------- completion


def complete(project, *words, shell="bash"):
    """Return what is offered for the last of *words*."""
    environ = {
        "_KEYTURN_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(["keyturn", *words]),
        "COMP_CWORD": str(len(words)),
    }
    result = project(environ=environ)
    assert (0, b"") == (result.code, result.err)
    return [line.partition(",")[2] for line in result.out.decode().splitlines() if line]


@pytest.fixture
def storeless(project):
    """A project whose store and keys are gone: a completion that opened them would offer nothing."""
    shutil.rmtree(project.state)
    shutil.rmtree(project.key_home)
    return project


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ro",), ["rollback", "rotate"]),
        (("get", "s"), ["session"]),
        (("get", "db."), ["db.username", "db.password"]),
        (("rotate", ""), ["session", "api", "db", "token", "db.username", "db.password"]),
        (("list", "-e", "p"), ["production"]),
        (("run", "--consumer", "w"), ["worker"]),
        (("render", "--consumer", ""), ["backend", "worker"]),
        (("audit", "v"), ["verify"]),
        (("list", "--js"), ["--json"]),
        (("help", "ex"), ["exit-codes"]),
        (("get", "nothing-like-it"), []),
    ],
)
def test_completion_reads_the_manifest_alone(words, expected, storeless):
    """Names of secrets, environments and consumers, with no store to open."""
    assert expected == complete(storeless, *words)


@pytest.mark.parametrize("damage", ["broken = [", "", None])
def test_completion_without_a_manifest_is_silent(damage, storeless):
    """A person who presses Tab is not told of a fault."""
    if damage is None:
        storeless.manifest.unlink()
    else:
        storeless.manifest.write_text(damage)
    assert [] == complete(storeless, "get", "s")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(shell, quick):
    """A script that names the command and how it is asked."""
    result = quick("completion", shell)
    assert (0, b"") == (result.code, result.err)
    assert b"_KEYTURN_COMPLETE=" + shell.encode() + b"_complete" in result.out.replace(b"env ", b"")
    if shutil.which(shell) is not None:
        checked = subprocess.run([shell, "-n"], input=result.out, capture_output=True)
        assert (0, b"") == (checked.returncode, checked.stderr)


def test_completion_in_a_real_bash(storeless):
    """Sourced in bash, it completes the name of a secret."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    script = storeless("completion", "bash").out.decode()
    probe = (
        f"{script}\nCOMP_WORDS=(keyturn get sess); COMP_CWORD=2\n"
        "_keyturn_completion keyturn; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    path = f"{KEYTURN.parent}:{clean_environment()['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", probe],
        cwd=storeless.folder,
        env={**storeless.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert (0, "session\n", "") == (done.returncode, done.stdout, done.stderr)
