"""`init`: what it makes, what it leaves alone, and that one cut short is finished by the next."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tomllib

import pytest

from keyturn.errors import Conflict
from tests.cli.projects import KEYTURN, MANIFEST, Project, empty, fingerprint, start
from tests.cli.terminal import Terminal

EXAMPLE = b"""\
# The port to listen on
PORT=8080
LOG_LEVEL=info
SESSION_SECRET=change-me
DB_HOST=localhost
DB_USER=clipper
DB_PASSWORD=changeme
STRIPE_SECRET_KEY=sk_test_xxx
"""


@pytest.fixture
def place(tmp_path):
    """A folder with nothing but a `.env.example`."""
    made = Project(tmp_path / "Some App 1", tmp_path / "keys")
    made.folder.mkdir()
    (made.folder / ".env.example").write_bytes(EXAMPLE)
    return made


@pytest.fixture
def bare(place):
    """A folder with nothing in it."""
    (place.folder / ".env.example").unlink()
    return place


def git(folder, *words):
    """Run git there, whoever its user is."""
    return subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_from_an_example(place):
    """Manifest, store, keys and ignore rules, all said; the manifest is drafted from the example."""
    result = place("init", "--from", ".env.example")
    assert (0, b"") == (result.code, result.out)
    lines = result.text.splitlines()
    assert lines[0].startswith("keyturn.toml drafted: 3 secrets, 3 plain settings")
    assert ".gitignore: added .env, .env.*, !.env.example, .keyturn/, .*.keyturn-*" in lines
    assert f"store made in {place.state}" in lines
    assert f"keys in {place.keys}: back them up apart from the store" in lines
    assert lines[-1].startswith("next: ")
    manifest = tomllib.loads(place.manifest.read_text())
    assert "some-app-1" == manifest["project"]["name"]
    assert {"PORT", "LOG_LEVEL", "DB_HOST"} == manifest["config"].keys()
    assert "changeme" not in place.manifest.read_text()
    modes = {path.name: path.stat().st_mode & 0o777 for path in place.keys.iterdir()}
    assert {"root.key": 0o600, "bundle.key": 0o600, "anchor": 0o600} == modes
    assert [0o700] * 3 == [
        path.stat().st_mode & 0o777 for path in (place.state, place.keys, place.key_home)
    ]
    assert 0 == place("doctor").code


def test_without_an_example(tmp_path):
    """An empty folder gets an empty manifest, which works."""
    place = Project(tmp_path / "123", tmp_path / "keys")
    place.folder.mkdir()
    assert 0 == place("init").code
    assert "project" == tomllib.loads(place.manifest.read_text())["project"]["name"]
    assert (0, b"") == (place("list").code, place("list").out)
    assert 0 == place("run", "--", "true").code


def test_a_cloned_project_gets_its_store(tmp_path):
    """A manifest that is there is read, not touched; the files it renders are ignored too."""
    place = empty(tmp_path)
    result = place("init", "--json")
    assert 0 == result.code
    assert result.json()["manifest_written"] is False
    assert "/run/backend.env" in result.json()["ignored"]
    assert MANIFEST == place.manifest.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("init",), "has a store already"),
        (("init", "--from", ".env.example"), "has a store already"),
        (("init", "--passphrase"), "has a store already"),
    ],
)
def test_a_store_is_never_overwritten(words, message, project):
    """A second `init` changes not one byte."""
    (project.folder / ".env.example").write_bytes(EXAMPLE)
    before = fingerprint(project.folder, project.key_home)
    result = project(*words)
    assert (5, b"") == (result.code, result.out)
    assert message in result.text
    assert before == fingerprint(project.folder, project.key_home)


def test_a_manifest_is_never_overwritten(tmp_path):
    """An example cannot replace what somebody wrote; the way on is said."""
    place = empty(tmp_path)
    (place.folder / ".env.example").write_bytes(EXAMPLE)
    before = fingerprint(place.folder)
    result = place("init", "--from", ".env.example")
    assert (5, b"") == (result.code, result.out)
    assert "keyturn.toml` exists and is not overwritten\n" in result.text
    assert "hint: run `keyturn init` without `--from` to make its store" in result.text
    assert before == fingerprint(place.folder)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--from", "absent"), 2, "no file `absent`"),
        (("--from", "."), 2, "`.` cannot be read: Is a directory"),
        (("--project-dir", "absent"), 2, "absent"),
        (("--from", ".env.example", "--passphrase"), 2, "there is no terminal"),
        (("--from", ".env.example", "--name", "Not A Name"), 2, "hint: use `not-a-name`"),
    ],
)
def test_what_it_refuses(words, code, message, place):
    """Each by name, and no store is left that would have to be removed."""
    result = place("init", *words)
    assert (code, b"") == (result.code, result.out)
    assert message in result.text
    assert not (place.state / "locator").exists()
    shutil.rmtree(place.state, ignore_errors=True)


def test_a_placeholder_that_looks_real_is_reported(place):
    """A value in the example that seems to be one is told with its line, and not repeated."""
    value = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
    (place.folder / ".env.example").write_text(f"PORT=1\nSTRIPE_SECRET_KEY={value}\n")
    result = place("init", "--from", ".env.example")
    assert 0 == result.code
    assert "warning: .env.example:2: `STRIPE_SECRET_KEY`: looks like a real value" in result.text
    assert value.encode() not in result.err + place.manifest.read_bytes()


@pytest.mark.parametrize(
    "data", [b"", b"garbage\n" * 100, os.urandom(2048), b"A=1\0B=2", b"=\n==\nexport\n"]
)
def test_an_example_of_garbage(data, place):
    """It is drafted from what can be read, or refused; the manifest that is written is valid."""
    (place.folder / ".env.example").write_bytes(data)
    result = place("init", "--from", ".env.example")
    assert result.code in {0, 2}, result.text
    assert "fault" not in result.text
    if result.code == 0:
        assert 0 == place("list").code


# ---------------------------------------------------------------- version control


def test_the_rules_are_added_once_and_after_what_is_there(bare):
    """An ignore file keeps its lines and its missing last newline costs nothing."""
    rules = bare.folder / ".gitignore"
    rules.write_bytes(b"node_modules\n.env\n# \xff odd")
    bare("init")
    lines = rules.read_bytes().splitlines()
    assert [b"node_modules", b".env", b"# \xff odd", b""] == lines[:4]
    assert 1 == lines.count(b".env")
    assert [b".env.*", b"!.env.example", b".keyturn/", b".*.keyturn-*"] == lines[5:]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize(
    ("rules", "probe"),
    [
        (".env\n.env.*\n!.env.example\n.keyturn/\n.*.keyturn-*\n!.keyturn/\n", ".keyturn/store.db"),
        (".env\n.env.*\n!.env.example\n.keyturn/\n.*.keyturn-*\n!.env.production\n", ".env.prod"),
        (".env\n.env.*\n!.env.example\n.keyturn/\n.*.keyturn-*\n!.env*\n", "`.env`"),
    ],
)
def test_a_later_negation_is_seen(rules, probe, bare):
    """A rule that another line takes back is none, and git is asked what it does."""
    git(bare.folder, "init", "-q")
    (bare.folder / ".gitignore").write_text(rules)
    result = bare("init")
    assert 0 == result.code
    assert f"warning: git would still take in `{probe.strip('`')}" in result.text


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_what_git_has_already_is_told(bare):
    """A `.env` that was committed goes on being committed, whatever the rules say."""
    git(bare.folder, "init", "-q")
    (bare.folder / ".env").write_text("PORT=1\n")
    git(bare.folder, "add", ".env")
    result = bare("init", "--from", ".env")
    assert "git would still take in `.env`: it is tracked already; `git rm --cached .env`" in (
        result.text
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_takes_in_nothing_that_holds_a_value(tmp_path):
    """After `init`, values and a rendered file, `git add` takes the manifest and the rules."""
    place = empty(tmp_path)
    git(place.folder, "init", "-q")
    start(place)
    for name in ("session", "api", "db.username", "db.password"):
        place.put(name, b"test-value-Zz9Yy8Xx7Ww6Vv5Uu4Tt3")
    (place.folder / ".env").write_text("X=1")
    rendered = place("render")
    assert 0 == rendered.code, rendered.text
    git(place.folder, "add", ".")
    assert [".gitignore", "keyturn.toml"] == git(place.folder, "ls-files").split()


def test_without_git_the_rules_are_read(bare, tmp_path):
    """Where git is absent, a negation in the same file is still seen."""
    (bare.folder / ".gitignore").write_text("!.keyturn/\n")
    (bare.folder / ".gitignore").write_text(".env\n.env.*\n.keyturn/\n!.keyturn/\n")
    result = bare("init", environ={"PATH": str(tmp_path / "empty")})
    assert 0 == result.code
    assert "a later line of .gitignore takes it back in" in result.text


# ---------------------------------------------------------------- cut short


@pytest.mark.crash
def test_killed_at_every_point(tmp_path):
    """Wherever it is killed, `init` again makes a store that is whole; none is made twice."""
    points = 0
    for number in range(1, 60):
        place = Project(tmp_path / str(number) / "app", tmp_path / str(number) / "keys")
        place.folder.mkdir(parents=True)
        (place.folder / ".env.example").write_bytes(EXAMPLE)
        words = ("init", "--from", ".env.example")
        done = place(*words, environ={"KEYTURN_FAILPOINT": f"*:{number}"})
        if done.code == 0:
            break
        assert -signal.SIGKILL == done.code
        points = number
        if (place.state / "locator").exists():
            with pytest.raises(Conflict):
                start(place)
        elif place.manifest.exists():
            start(place)
        else:
            start(place, example=place.folder / ".env.example")
        place.put("SESSION_SECRET", b"test-session-Mm1Nn2Bb3Vv4Cc5Xx6Zz7")
        assert 1 == len([f for f in place.key_home.iterdir() if (f / "bundle.key").exists()])
        session = place.session()
        assert [] == session.embedded.verify()
        session.close()
    assert points >= 16


def test_the_way_on_after_one_that_was_cut_short(place):
    """The same command again says what is there already, and what finishes it."""
    words = ("init", "--from", ".env.example")
    assert -signal.SIGKILL == place(*words, environ={"KEYTURN_FAILPOINT": "init.locator"}).code
    assert "run `keyturn init` without `--from`" in place(*words).text
    assert 0 == place("init").code
    assert 0 == place("list").code


# ---------------------------------------------------------------- passphrase


PHRASE = "correct horse battery staple test"


def answer(terminal, phrase=PHRASE, *, label):
    terminal.until(f"{label}: ")
    assert not terminal.echoes()
    terminal.type(phrase + "\n")


def test_a_store_under_a_passphrase(bare):
    """It is asked for twice and then each time, never echoed, and no key lies on disk."""
    environ = bare.environ
    words = [KEYTURN, "init", "--passphrase"]
    with Terminal(words, cwd=bare.folder, env=environ) as terminal:
        answer(terminal, label="New passphrase of the store")
        answer(terminal, label="New passphrase of the store, again")
        assert 0 == terminal.finish()
    assert PHRASE not in terminal.seen
    assert ["anchor"] == [path.name for path in bare.keys.iterdir()]
    with Terminal([KEYTURN, "run", "--", "echo", "started"], cwd=bare.folder, env=environ) as run:
        answer(run, label="the passphrase of the store")
        assert 0 == run.finish()
    assert "started" in run.seen
    assert not bare.bundle.exists()
    with Terminal([KEYTURN, "list"], cwd=bare.folder, env=environ) as wrong:
        answer(wrong, "not it at all", label="the passphrase of the store")
        assert 4 == wrong.finish()
    without = bare("list")
    assert (2, b"") == (without.code, without.out)
    assert "error: there is no terminal to ask for the passphrase of the store on" in without.text
    assert "`-`" not in without.text


def test_a_store_that_has_its_passphrase_is_finished_without_asking(bare):
    """A second one would be taken for the store's, and open nothing."""
    environ = {**bare.environ, "KEYTURN_FAILPOINT": "init.locator"}
    with Terminal([KEYTURN, "init", "--passphrase"], cwd=bare.folder, env=environ) as terminal:
        answer(terminal, label="New passphrase of the store")
        answer(terminal, label="New passphrase of the store, again")
        assert -signal.SIGKILL == terminal.finish()
    again = bare("init", "--passphrase")
    assert 0 == again.code, again.text


@pytest.mark.parametrize("home", ["keys", "./keys", "INSIDE"])
def test_keys_inside_the_project_are_refused(place, home):
    """A key folder that git would take in, or that moves with the working folder, is none."""
    home = str(place.folder / "kk") if home == "INSIDE" else home
    result = place(
        "init", "--from", ".env.example", environ={**place.environ, "KEYTURN_HOME": home}
    )
    assert 2 == result.code
    assert "with the project" in result.text
    assert not (place.folder / ".keyturn").exists()
