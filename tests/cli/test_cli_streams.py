"""Streams that are full, closed or broken, and locales that are not UTF-8."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.cli.projects import KEYTURN, VALUES

DATA = [("list",), ("list", "--json"), ("audit", "log", "--json"), ("--help",), ("random",)]


def shell(project, script, **environ):
    """Run *script*, where `$K` is the command; return exit code and standard error."""
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=project.folder,
        env={**project.environ, "K": str(KEYTURN), **environ},
        capture_output=True,
        start_new_session=True,
    )
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("words", [*DATA, ("get", "session"), ("list", "--help")], ids=" ".join)
def test_a_reader_that_has_gone_is_no_error(words, project, way):
    """`keyturn ... | true` is quiet, and the exit code is what was found out."""
    if way == "short":
        project.refresh()
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [KEYTURN, *words],
        cwd=project.folder,
        env=project.environ,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    expected = b"256 bits of entropy\n" if words == ("random",) else b""
    assert done.returncode == 0
    assert done.stderr in {b"", expected}


def test_a_reader_that_has_gone_hides_no_failure(project):
    """`keyturn test | head` under `pipefail` still fails where the test failed."""
    read, write = os.pipe()
    os.close(read)
    for words in (("test",), ("test", "--json")):
        done = subprocess.run(
            [KEYTURN, *words], cwd=project.folder, env=project.environ, stdout=write
        )
        assert 1 == done.returncode
    os.close(write)


@pytest.mark.parametrize("words", [*DATA, ("get", "session"), ("help", "formats")], ids=" ".join)
def test_a_full_disk_behind_standard_output(words, project, way):
    """What could not be written is never taken for written; the message is one line."""
    if way == "short":
        project.refresh()
    code, said = shell(project, f'"$K" {" ".join(words)} > /dev/full')
    assert 7 == code
    assert "No space left on device" in said
    assert "Traceback" not in said
    assert "Exception" not in said


@pytest.mark.parametrize("words", [("list",), ("get", "session"), ("list", "--json")], ids=" ".join)
def test_a_closed_standard_output(words, project, way):
    """A value is never written to whatever took the number of a closed descriptor."""
    if way == "short":
        project.refresh()
    code, said = shell(project, f'"$K" {" ".join(words)} >&-')
    assert (7, "error: `standard output`: it is closed") == (code, said.splitlines()[0])


def test_a_closed_standard_error(project, way):
    """Nobody listens, and the exit code still tells."""
    if way == "short":
        project.refresh()
    for script, expected in (
        ('"$K" get nowhere 2>&-', 2),
        ('"$K" run -- no-such-program 2>&-', 127),
        ('"$K" list 2>&- >/dev/null', 0),
        ('"$K" generate -e nowhere 2>&-', 2),
    ):
        assert (expected, "") == shell(project, script), script


def test_a_closed_standard_input(project):
    """Reading a value from nothing is refused."""
    code, said = shell(project, '"$K" set session - <&-')
    assert (2, "error: standard input is closed") == (code, said.splitlines()[0])
    assert 0 == shell(project, '"$K" list <&- >/dev/null')[0]


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("locale", [ASCII, LATIN, {"LC_ALL": "POSIX"}, {"LANG": "xx_YY.nowhere"}])
def test_a_locale_that_is_not_utf_8(locale, project):
    """Names beyond it are written out; JSON stays JSON; values are bytes and do not care."""
    text = project.manifest.read_text(encoding="utf-8")
    project.manifest.write_text(text.replace("team-core", "équipe-日本"), encoding="utf-8")
    project.put("session", "värde-日本-1234567890".encode())
    listed = project("list", "--json", environ=locale)
    assert 0 == listed.code, listed.text
    assert "équipe-日本" == listed.json()[0]["owner"]
    assert "värde-日本-1234567890".encode() == project("get", "session", environ=locale).out
    for words in (("list",), ("get", "日本")):
        result = project(*words, environ=locale)
        assert result.code in {0, 2}
        assert "fault" not in result.text
    greeting = project("run", "--", "printenv", "GREETING", environ=locale)
    assert "grüß dich\n".encode() == greeting.out


def test_a_folder_whose_name_is_no_text(tmp_path):
    """Bytes that are no UTF-8 in a path are shown escaped, and break nothing."""
    folder = os.fsencode(tmp_path) + b"/odd \xff name"
    os.mkdir(folder)
    environ = {**os.environ, "KEYTURN_HOME": str(tmp_path / "keys")}
    made = subprocess.run([KEYTURN, "init", "--json"], cwd=folder, env=environ, capture_output=True)
    assert 0 == made.returncode, made.stderr
    assert "odd \udcff name" in json.loads(made.stdout)["folder"]
    for words in (["list"], ["doctor"], ["run", "--", "true"], ["get", "x"]):
        done = subprocess.run([KEYTURN, *words], cwd=folder, env=environ, capture_output=True)
        assert done.returncode in {0, 2}, done.stderr
        assert b"fault" not in done.stderr


def test_nothing_but_data_is_on_standard_output(project):
    """Warnings and talk go to standard error, so that a pipe sees results alone."""
    (project.keys / "anchor").unlink()
    result = project("get", "session")
    assert VALUES["session"] == result.out
    assert "warning: the rollback anchor" in result.text
