"""Hostile manifests, damaged stores, lost keys: a clear error, its exit code, and nothing changed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time

import pytest

from keyturn.testing import FakeClock
from tests.cli import projects
from tests.cli.projects import MANIFEST, VALUES, fingerprint
from tests.cli.test_cli_fresh import SHOW

VERBS = [("list",), SHOW, ("get", "session"), ("set", "session", "-")]


def unchanged(project, run, *words, code, stdin=b"x" * 30):
    """Run the command, which must fail with *code*, and return what it said; nothing changes."""
    before = fingerprint(project.folder, project.key_home)
    result = run(*words, stdin=stdin)
    assert (code, b"") == (result.code, result.out), result.text
    assert before == fingerprint(project.folder, project.key_home)
    assert result.text.startswith("error: ")
    assert "Traceback" not in result.text
    assert "fault in Keyturn" not in result.text
    return result.text


# ---------------------------------------------------------------- manifests

SECRET = '[secrets.x]\nkind = "guided"\nvariable = "X"\n'

HOSTILE = {
    "no TOML": (b"[project\n", "keyturn.toml:1"),
    "not UTF-8": (b'[project]\nname = "\xff\xfe"\n', "keyturn.toml"),
    "UTF-16": (MANIFEST.encode("utf-16"), "keyturn.toml"),
    "NUL": (MANIFEST.encode() + b"\0", "keyturn.toml"),
    "empty": (b"", "`project`"),
    "an unknown table": (MANIFEST.encode() + b"[secret.x]\n", "`secret`"),
    "an unknown key": (MANIFEST.encode() + SECRET.encode() + b"colour = 1\n", "`secrets.x.colour`"),
    "a wrong type": (
        MANIFEST.encode() + SECRET.encode() + b"max_age = 90\n",
        "`secrets.x.max_age`",
    ),
    "an unknown kind": (MANIFEST.encode() + b'[secrets.x]\nkind = "nowhere"\n', "`secrets.x.kind`"),
    "a variable used twice": (
        MANIFEST.encode() + SECRET.replace('"X"', '"API_KEY"').encode(),
        "API_KEY",
    ),
    "a variable that is a setting": (
        MANIFEST.encode() + SECRET.replace('"X"', '"PORT"').encode(),
        "PORT",
    ),
    "a cycle": (
        MANIFEST.encode()
        + SECRET.encode()
        + b'depends_on = ["y"]\n[secrets.y]\nkind = "guided"\nvariable = "Y"\ndepends_on = ["x"]\n',
        "x",
    ),
    "a value": (
        MANIFEST.replace('PORT = "8080"', 'DB_PASS = "aZ9kQ3mX7pL2vN8cR5tY1wE4"').encode(),
        "DB_PASS",
    ),
    "ten megabytes": (MANIFEST.encode() + b"# x\n" * 2_600_000, "keyturn.toml"),
    "deep nesting": (MANIFEST.encode() + b"x = " + b"[" * 200_000 + b"\n", "keyturn.toml"),
    "deep tables": (MANIFEST.encode() + b"[" + b"a." * 20_000 + b"a]\n", "keyturn.toml"),
    "a long name": (MANIFEST.encode() + b'[secrets."' + b"x" * 5_000 + b'"]\n', "keyturn.toml"),
    "control characters": (MANIFEST.encode() + b'["\\u001b]0;x\\u0007"]\n', "keyturn.toml"),
    "a path out of the project": (
        MANIFEST.replace("run/backend.env", "../../etc/passwd").encode(),
        "render",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_manifest(what, project, quick):
    """The place and the fault are named, in a bounded time; no store is opened."""
    data, named = HOSTILE[what]
    project.manifest.write_bytes(data)
    started = time.monotonic()
    text = unchanged(project, quick, "list", code=2)
    assert named in text
    assert time.monotonic() - started < 10
    assert len(text) < 10_000
    assert not set(text) & {"\x1b", "\x07"}
    assert "aZ9kQ3mX7pL2vN8cR5tY1wE4" not in text


def test_several_faults_are_told_at_once(project, quick):
    """Each on its line with its fix, in the order of the file."""
    project.manifest.write_text(
        MANIFEST
        + SECRET
        + 'colour = "red"\nmax_age = "soon"\n[secrets.y]\nkind = "guidde"\nvariable = "Y"\n'
    )
    text = unchanged(project, quick, "list", code=2)
    lines = text.splitlines()
    assert lines[0].startswith("error: 3 problems in the manifest:")
    numbers = [int(line.split("keyturn.toml:")[1].split(":")[0]) for line in lines[1:4]]
    assert sorted(numbers) == numbers
    assert "guided" in lines[3]


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_a_broken_manifest_stops_every_verb(words, project):
    """The fast path declines, and the full command line says why."""
    project.refresh()
    project.manifest.write_text("[project\n")
    text = unchanged(project, project, *words, code=2)
    assert "keyturn.toml:1" in text


def test_a_manifest_that_is_no_file(project, quick):
    """A folder, a pipe without a writer, or one that cannot be read."""
    project.manifest.unlink()
    project.manifest.mkdir()
    result = quick("list")
    assert result.code in {2, 7}
    assert "keyturn.toml" in result.text
    assert "fault" not in result.text


def test_without_a_project(tmp_path):
    """It says where it looked and what to do."""
    place = projects.Project(tmp_path, tmp_path / "keys")
    for words in (("list",), ("run", "--", "true"), ("get", "x")):
        result = place(*words)
        assert (2, b"") == (result.code, result.out)
        assert result.text == (
            "error: no `keyturn.toml` here or above\n\n"
            "hint: run `keyturn init --from .env.example` in the project's folder\n"
        )
    result = place("list", "--project-dir", str(tmp_path))
    assert (2, b"") == (result.code, result.out)
    assert f"error: no `keyturn.toml` in `{tmp_path}`" in result.text


@pytest.mark.parametrize("words", [("run", "--project-dir", "sub", "--", "true"), ("get", "api")])
def test_a_folder_that_is_named_is_not_searched_above(words, project):
    """Both ways agree on what `--project-dir` means."""
    (project.folder / "sub").mkdir()
    project.refresh()
    result = project(*words)
    assert (2 if "sub" in words else 0) == result.code


def test_without_a_store(tmp_path):
    """A manifest alone, as after a clone: the command that makes the store is named."""
    place = projects.empty(tmp_path)
    for words in (("list",), ("run", "--", "true")):
        text = (
            unchanged(place, place, *words, code=2)
            if place.key_home.mkdir(exist_ok=True) is None
            else ""
        )
        assert "has a manifest but no store" in text
        assert "hint: run `keyturn init` there" in text


# ---------------------------------------------------------------- damaged stores


def rewrite(path, function):
    data = bytearray(path.read_bytes())
    path.write_bytes(function(data))


def flipped(data):
    # The first page is SQLite's own; values lie behind it.
    for at in range(5000, len(data), 997):
        data[at] ^= 0x10
    return data


def one_value_flipped(path):
    """Change one bit of one sealed value, as a disk might."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        row, sealed = database.execute(
            "SELECT rowid, sealed FROM value WHERE secret = 'api'"
        ).fetchone()
        changed = bytes([*sealed[:-1], sealed[-1] ^ 1])
        database.execute("UPDATE value SET sealed = ? WHERE rowid = ?", (changed, row))


def another_program_s(path):
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (x)")


DAMAGES = {
    "cut in the middle": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut to a page": lambda path: os.truncate(path, 4096),
    "cut to nothing": lambda path: os.truncate(path, 0),
    "zeroed": lambda path: rewrite(path, lambda data: bytes(len(data))),
    "its head zeroed": lambda path: rewrite(path, lambda data: bytes(100) + data[100:]),
    "text in its place": lambda path: path.write_text("not a database at all\n" * 500),
    "another program's database": lambda path: another_program_s(path),
    "gone": lambda path: path.unlink(),
}


def without_log(found):
    return {path: what for path, what in found.items() if not path.endswith(("-wal", "-shm"))}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store(damage, project, quick):
    """It is named, nothing is overwritten, and no wrong value is served."""
    DAMAGES[damage](project.state / "store.db")
    for words in (("get", "session"), ("run", "--", "true"), ("set", "session", "-"), ("list",)):
        before = fingerprint(project.folder, project.key_home)
        result = quick(*words, stdin=b"x" * 30)
        assert result.code in {1, 7}, (words, result.text)
        assert b"" == result.out
        assert "fault in Keyturn" not in result.text
        assert "store.db" in result.text or "development/session" in result.text
        assert "\nhint: " in result.text
        after = fingerprint(project.folder, project.key_home)
        # SQLite may leave the empty companions of a log beside the file.
        assert without_log(before) == without_log(after)
    examined = quick("doctor")
    assert examined.code in {1, 7}
    assert "fault in Keyturn" not in examined.text


def test_flipped_bits_never_give_a_wrong_value(project, quick):
    """What can still be read is right, and what cannot is refused."""
    rewrite(project.state / "store.db", flipped)
    for name, value in VALUES.items():
        result = quick("get", name)
        assert result.code in {0, 1, 7}, result.text
        assert (value if result.code == 0 else b"") == result.out
        assert "fault in Keyturn" not in result.text
    result = quick("set", "session", "-", stdin=b"x" * 30)
    assert result.code in {0, 1, 7}, result.text
    assert quick("doctor").code in {1, 7}


def test_one_damaged_value_leaves_the_others(project, quick):
    """The secret that does not open is named; another one is served; `doctor` finds it too."""
    one_value_flipped(project.state / "store.db")
    codes = {name: quick("get", name).code for name in VALUES}
    assert 1 in codes.values()
    assert 0 in codes.values()
    for name, code in codes.items():
        result = quick("get", name)
        assert (VALUES[name] if code == 0 else b"") == result.out
    assert 1 == quick("doctor").code
    assert 1 == quick("run", "--", "true").code


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("name", "change", "code", "message"),
    [
        ("root.key", lambda path: path.unlink(), 4, "root.key"),
        ("root.key", lambda path: path.write_text("garbage"), 1, "root.key"),
        ("root.key", lambda path: os.truncate(path, 0), 1, "root.key"),
        ("root.key", lambda path: path.chmod(0o644), 4, "chmod 600"),
        ("", lambda path: shutil.rmtree(path), 4, "root.key"),
    ],
)
def test_a_key_that_is_lost_or_unsafe(name, change, code, message, project, quick):
    """The file is named; a new key is never made over an existing store."""
    project.refresh()
    change(project.keys / name)
    for words in (("list",), ("set", "session", "-"), ("init",)):
        expected = 5 if words == ("init",) else code
        text = unchanged(project, quick, *words, code=expected)
        assert message in text or words == ("init",)
    if name:
        assert [] != list(project.keys.iterdir())


def test_the_key_of_another_store(project, quick, tmp_path):
    """It is told apart from a damaged store, and opens nothing."""
    other = projects.empty(tmp_path / "other")
    projects.start(other)
    shutil.copyfile(other.keys / "root.key", project.keys / "root.key")
    text = unchanged(project, quick, "get", "session", code=4)
    assert "root.key" in text


def test_two_projects_of_one_name(tmp_path):
    """Each has a store and keys of its own; neither reads the other's."""
    first = projects.empty(tmp_path / "a")
    second = projects.Project(tmp_path / "b" / "project", first.key_home)
    second.folder.mkdir(parents=True)
    second.manifest.write_text(MANIFEST, encoding="utf-8")
    for number, place in enumerate((first, second)):
        projects.start(place)
        place.put("session", b"test-session-of-number-%d-aaaaaaaaaa" % number)
    assert first.keys != second.keys
    assert 2 == len(list(first.key_home.iterdir()))
    for number, place in enumerate((first, second)):
        for _ in range(2):
            result = place("run", "--consumer", "worker", "--", "printenv", "SESSION_SECRET")
            assert b"test-session-of-number-%d-aaaaaaaaaa\n" % number == result.out


def test_a_state_folder_beside_another_s_keys(project, quick, tmp_path):
    """A store copied to another machine without its keys is sealed there."""
    copied = projects.Project(project.folder, tmp_path / "other-home")
    copied.key_home.mkdir()
    result = copied("list")
    assert (4, b"") == (result.code, result.out)
    assert "root.key" in result.text
    assert [] == list(copied.key_home.iterdir())


# ---------------------------------------------------------------- put back


def test_an_older_copy_is_refused_until_it_is_accepted(project, quick):
    """With a reason it goes on, from that copy; the record says what was lost."""
    shutil.copytree(project.state, project.folder / "copy")
    project.put("session", b"test-session-that-will-be-lost-123")
    shutil.rmtree(project.state)
    (project.folder / "copy").rename(project.state)
    for words in (("list",), ("get", "session"), ("set", "session", "-"), SHOW):
        text = unchanged(project, quick, *words, code=1)
        assert "the store was put back: its audit log ends at record" in text
        assert "`keyturn doctor --accept-rollback" in text
    examined = quick("doctor")
    assert 1 == examined.code
    assert b"the store was put back" in examined.out
    refused = quick("doctor", "--accept-rollback")
    assert (2, b"") == (refused.code, refused.out)
    assert "error: accepting an older state needs a reason" in refused.text
    accepted = quick("doctor", "--accept-rollback", "--reason", "the backup of Monday")
    assert 0 == accepted.code, accepted.text
    assert "accepted: the store goes on from record" in accepted.text
    assert VALUES["session"] == quick("get", "session").out
    record = project.actions(action="store.rollback.accept")[-1]
    assert "the backup of Monday" == record["reason"]
    assert record["detail"]["lost_records"] >= 1
    assert 0 == quick("audit", "verify").code


def test_only_the_database_put_back(project, quick):
    """A copy of one file is noticed like a copy of all."""
    database = project.state / "store.db"
    shutil.copy2(database, project.folder / "copy")
    project.put("session", b"test-session-that-will-be-lost-123")
    (project.folder / "copy").rename(database)
    result = quick("get", "session")
    assert (1, b"") == (result.code, result.out)
    assert "the store was put back" in result.text


# ---------------------------------------------------------------- clock


def test_a_clock_set_back(project):
    """Records keep their order, ages are told as they are, and `doctor` says what happened."""
    from keyturn.app.doctor import examine

    clock = FakeClock()
    clock.step(time.time() - 7200 - clock.now().timestamp())
    session = project.session(clock=clock)
    found = [look for look in examine(session) if look.what == "clock"]
    session.close()
    assert ["warn"] == [look.result for look in found]
    assert "the clock was set back" in found[0].detail
    assert 0 == project("audit", "verify").code
    assert (VALUES["session"] + b"\n") == project(*SHOW).out
