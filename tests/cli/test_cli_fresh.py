"""Whatever happened since the sealed bundle was written, `run` never serves an old value."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time

import pytest

from keyturn import fast
from keyturn.core.model import SecretRef, Stage
from keyturn.testing import FakeClock
from tests.cli import projects
from tests.cli.projects import DEVELOPMENT, VALUES

OLD = VALUES["session"]
NEW = b"test-session-after-the-change-9Kq"
SHOW = ("run", "--", "printenv", "SESSION_SECRET")


def short_reads(project):
    """Return how many values left by the short way: lines of the read log after its head."""
    return len((project.state / "audit" / "reads.log").read_bytes().splitlines()) - 1


def went_short(project, *words, **options):
    """Run the command and return its result, and whether it went the short way."""
    before = short_reads(project)
    result = project(*words, **options)
    return result, short_reads(project) > before


@pytest.fixture
def fresh(project):
    """A project whose next `run` goes the short way."""
    project.refresh()
    return project


def test_the_second_run_goes_the_short_way(project):
    """The first `run` after a change writes the bundle that the next ones are served from."""
    first, short = went_short(project, *SHOW)
    assert (0, OLD + b"\n", False) == (first.code, first.out, short)
    second, short = went_short(project, *SHOW)
    assert (0, OLD + b"\n", True) == (second.code, second.out, short)
    got, short = went_short(project, "get", "session")
    assert (OLD, b"", True) == (got.out, got.err, short)


def test_an_edited_manifest_is_seen_at_once(fresh):
    """A plain setting that was changed reaches the very next program."""
    text = fresh.manifest.read_text()
    before = fresh.manifest.stat()
    fresh.manifest.write_text(text.replace("8080", "8081"))
    # Same size, and the time set back as unpacking an archive does.
    os.utime(fresh.manifest, ns=(before.st_atime_ns, before.st_mtime_ns))
    result, short = went_short(fresh, "run", "--", "printenv", "PORT")
    assert (b"8081\n", False) == (result.out, short)


def test_an_edited_manifest_that_is_wrong_stops_the_next_run(fresh):
    """Nothing is served by a manifest that can no longer be read."""
    fresh.manifest.write_text(fresh.manifest.read_text() + "[secrets.session]\n")
    result = fresh(*SHOW)
    assert (2, b"") == (result.code, result.out)


def test_a_secret_added_to_the_manifest_is_asked_for(fresh):
    """A new required secret stops the next `run`, which was served from a bundle before."""
    with fresh.manifest.open("a") as file:
        file.write('\n[secrets.extra]\nkind = "guided"\nvariable = "EXTRA"\n')
    result = fresh(*SHOW)
    assert (1, b"") == (result.code, result.out)
    assert "  EXTRA (secret `extra`)" in result.text


HARMLESS = {
    "another file": lambda p: (
        shutil.copy2(p.state / "store.db", p.state / "copy"),
        (p.state / "copy").rename(p.state / "store.db"),
    ),
    "another generation": lambda p: (p.keys / "generation.development").write_bytes(b"f" * 32),
    "a pipe for a generation": lambda p: (
        (p.keys / "generation.development").unlink(),
        os.mkfifo(p.keys / "generation.development", 0o600),
    ),
    "a folder for a generation": lambda p: (
        (p.keys / "generation.development").unlink(),
        (p.keys / "generation.development").mkdir(),
    ),
    "a link for a generation": lambda p: (
        (p.keys / "generation.development").rename(p.keys / "elsewhere"),
        (p.keys / "generation.development").symlink_to(p.keys / "elsewhere"),
    ),
    "a folder for a mark of the store": lambda p: (
        (p.keys / fast.CLOSED).unlink(),
        (p.keys / fast.CLOSED).mkdir(),
    ),
    "no generation": lambda p: (p.keys / "generation.development").unlink(),
    "an open generation": lambda p: (p.keys / "generation.development").chmod(0o644),
    "no bundle": lambda p: p.bundle.unlink(),
    "no bundles": lambda p: shutil.rmtree(p.bundle.parent),
    "a cut bundle": lambda p: os.truncate(p.bundle, 100),
    "an open bundle": lambda p: p.bundle.chmod(0o644),
    "a linked bundle": lambda p: (
        p.bundle.rename(p.state / "elsewhere"),
        p.bundle.symlink_to(p.state / "elsewhere"),
    ),
    "no bundle key": lambda p: (p.keys / "bundle.key").unlink(),
    "a store of another time": lambda p: (p.state / "store.db").chmod(0o600),
    "no mark of the store": lambda p: (p.keys / fast.CLOSED).unlink(),
    "a torn mark of the store": lambda p: os.truncate(p.keys / fast.CLOSED, 30),
    "an open mark of the store": lambda p: (p.keys / fast.CLOSED).chmod(0o644),
    "a pipe for a mark of the store": lambda p: (
        (p.keys / fast.CLOSED).unlink(),
        os.mkfifo(p.keys / fast.CLOSED, 0o600),
    ),
    "a link for a mark of the store": lambda p: (
        (p.keys / fast.CLOSED).rename(p.keys / "elsewhere"),
        (p.keys / fast.CLOSED).symlink_to(p.keys / "elsewhere"),
    ),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_the_long_way_serves_and_mends(what, fresh):
    """Where only the bundle is unfit, the store serves the value, and the next `run` is quick again."""
    HARMLESS[what](fresh)
    result, short = went_short(fresh, *SHOW)
    assert (0, OLD + b"\n", False) == (result.code, result.out, short)
    result, short = went_short(fresh, *SHOW)
    assert (0, OLD + b"\n", b"", True) == (result.code, result.out, result.err, short)


@pytest.mark.parametrize("what", HARMLESS)
def test_a_slow_get_mends_as_a_run_does(what, fresh):
    """Whoever only ever calls `get` waits once, and not each time."""
    HARMLESS[what](fresh)
    for expected in (False, True):
        result, short = went_short(fresh, "get", "session")
        assert (0, OLD, b"", expected) == (result.code, result.out, result.err, short)


def test_a_get_after_an_edit_is_slow_once(fresh):
    """The manifest's file is another one: its bundle is sealed by the `get` that sees it."""
    fresh.manifest.write_text(fresh.manifest.read_text() + "\n")
    seen = [went_short(fresh, "get", "session")[1] for _ in range(2)]
    assert [False, True] == seen


def test_a_get_of_a_day_later_is_slow_once(project):
    """A bundle lasts for a day."""
    clock = FakeClock()
    clock.step(time.time() - 25 * 3600 - clock.now().timestamp())
    project.refresh(clock=clock)
    seen = [went_short(project, "get", "session")[1] for _ in range(2)]
    assert [False, True] == seen


def test_a_get_of_something_else_seals_nothing(fresh):
    """An older version, and what a program reads as JSON, never come out of the bundle."""
    fresh.bundle.unlink()
    for words in (("--version", "1"), ("--stage", "current"), ("--json",)):
        assert 0 == fresh("get", "session", *words).code
    assert not fresh.bundle.exists()


def test_a_folder_that_is_not_empty_is_named(fresh):
    """It is somebody's, so it stays: a `get` is served, and a `run` says what to do."""
    mark = fresh.keys / "generation.development"
    mark.unlink()
    mark.mkdir()
    (mark / "kept").touch()
    got = fresh("get", "session")
    assert (0, OLD) == (got.code, got.out)
    assert "warning: each `get` is slow: " in got.text
    assert "it is a folder, and none of Keyturn's" in got.text
    result = fresh(*SHOW)
    assert 7 == result.code
    assert "hint: it is a folder, and none of Keyturn's: move it away" in result.text
    assert (mark / "kept").exists()


@pytest.mark.parametrize("made_ago_seconds", [25 * 3600, -3600])
def test_a_bundle_of_another_time_is_renewed(made_ago_seconds, project):
    """An expired bundle, or one from the future because the clock was set back, is made anew."""
    clock = FakeClock()
    clock.step(time.time() - made_ago_seconds - clock.now().timestamp())
    project.refresh(clock=clock)
    result, short = went_short(project, *SHOW)
    assert (0, OLD + b"\n", False) == (result.code, result.out, short)
    assert went_short(project, *SHOW)[1]


def test_a_bundle_key_that_others_can_read_is_complained_of(fresh):
    """The value is served from the store; the person hears of it each time, and what to do."""
    (fresh.keys / "bundle.key").chmod(0o644)
    for _ in range(2):
        result, short = went_short(fresh, *SHOW)
        assert (0, OLD + b"\n", False) == (result.code, result.out, short)
        assert "bundle.key` cannot be used: it is no plain file, or not yours alone" in result.text
    assert 1 == fresh("doctor").code


def test_a_locator_that_others_can_read_is_refused(fresh):
    """Whoever may write it could name another store."""
    (fresh.state / "locator").chmod(0o644)
    result = fresh(*SHOW)
    assert (4, b"") == (result.code, result.out)
    assert f"`chmod 600 {fresh.state / 'locator'}`" in result.text


def test_a_state_folder_that_others_can_write_is_refused(fresh):
    """Whoever may write it could put another bundle or store there."""
    fresh.state.chmod(0o770)
    result = fresh(*SHOW)
    assert (4, b"") == (result.code, result.out)
    assert f"hint: `chmod 700 {fresh.state}`" in result.text


def test_a_folder_of_another_user_is_refused(fresh):
    """Root does not run what another user prepared."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(fresh.state, 65534, 65534)
    result = fresh(*SHOW)
    assert (4, b"") == (result.code, result.out)
    assert "belongs to uid 65534" in result.text


def test_an_older_store_put_in_its_place_is_refused(fresh):
    """A backup of the whole state folder, bundle and all, is noticed by both ways."""
    shutil.copytree(fresh.state, fresh.folder / "backup")
    fresh.put("session", NEW)
    shutil.rmtree(fresh.state)
    (fresh.folder / "backup").rename(fresh.state)
    for words in (SHOW, ("get", "session")):
        result = fresh(*words)
        assert (1, b"") == (result.code, result.out)
        assert "the store was put back" in result.text


def write_over(path, content, *, before=None):
    """Write *content* over the file at *path*, and set its times to those of *before*."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
    if before is not None:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("timed", [False, True])
def test_an_older_store_written_over_it_is_refused(timed, fresh):
    """An older copy in the same file, as `cp` and `cp -p` write it, is noticed by both ways."""
    database = fresh.state / "store.db"
    older, before = database.read_bytes(), database.stat()
    fresh.put("session", NEW)
    result, short = went_short(fresh, *SHOW)
    assert (NEW + b"\n", True) == (result.out, short)
    inode = database.stat().st_ino
    write_over(database, older, before=before if timed else None)
    assert inode == database.stat().st_ino
    for words in (SHOW, ("get", "session"), ("doctor", "--accept-rollback"), SHOW):
        result = fresh(*words)
        assert 0 != result.code
        assert NEW not in result.out
    assert "the store was put back" in result.text
    reason = ("--reason", "the backup of Monday")
    assert 0 == fresh("doctor", "--accept-rollback", *reason).code
    # Not what the sealed bundle holds.
    for expected in (False, True):
        result, short = went_short(fresh, *SHOW)
        assert (OLD + b"\n", expected) == (result.out, short)


def test_an_older_store_that_no_anchor_tells_of_serves_its_own_values(fresh):
    """With the anchor gone too it is accepted with a warning, and never mixed with what was."""
    database = fresh.state / "store.db"
    older = database.read_bytes()
    fresh.put("session", NEW)
    assert NEW + b"\n" == fresh(*SHOW).out
    write_over(database, older)
    (fresh.keys / "anchor").unlink()
    assert "an older copy of the store would not be noticed" in fresh("list").text
    for expected in (False, True):
        result, short = went_short(fresh, *SHOW)
        assert (OLD + b"\n", expected) == (result.out, short)


@pytest.mark.crash
@pytest.mark.parametrize("point", ["bundle.closed", "bundle.remembered"])
def test_killed_where_a_command_closes_the_store(point, fresh):
    """The next `run` is slower once, at most, and serves what was set."""
    killed = fresh("set", "session", "-", stdin=NEW, environ={"KEYTURN_FAILPOINT": point})
    assert -signal.SIGKILL == killed.code
    for expected in (point == "bundle.remembered", True):
        result, short = went_short(fresh, *SHOW)
        assert (0, NEW + b"\n", expected) == (result.code, result.out, short)


def test_programs_started_while_the_store_is_written(fresh):
    """Beside a writer, each of many gets a value that was acknowledged; then all are quick again."""
    values = [b"test-session-of-many-%02d-9Kq7" % number for number in range(5)]
    seen = []

    def start_some():
        for _ in range(8):
            seen.append(fresh(*SHOW))

    starters = [threading.Thread(target=start_some) for _ in range(4)]
    for starter in starters:
        starter.start()
    for value in values:
        assert 0 == fresh("set", "session", "-", stdin=value).code
        assert value + b"\n" == fresh(*SHOW).out
    for starter in starters:
        starter.join()
    assert {0} == {result.code for result in seen}
    assert {result.out[:-1] for result in seen} <= {OLD, *values}
    fresh(*SHOW)
    result, short = went_short(fresh, *SHOW)
    assert (values[-1] + b"\n", True) == (result.out, short)


def test_options_that_the_short_way_does_not_know_change_nothing(fresh):
    """`-q` goes the long way round, to the same end."""
    result, short = went_short(fresh, "run", "-q", "--", "printenv", "SESSION_SECRET")
    assert (OLD + b"\n", False) == (result.out, short)


# ---------------------------------------------------------------- the very next run


def test_after_set_rollback_and_rotate(fresh):
    """Each change is seen by the next program, by the short way as well."""
    expected = OLD
    for words, stdin in (
        (("set", "session", "-"), NEW),
        (("rollback", "session"), OLD),
        (("import", "new.env", "--no-shred", "--force-old"), NEW),
    ):
        (fresh.folder / "new.env").write_bytes(b"SESSION_SECRET=" + NEW)
        assert 0 == fresh(*words, stdin=stdin).code
        expected = stdin
        result, short = went_short(fresh, *SHOW)
        assert (expected + b"\n", True) == (result.out, short)
    (fresh.folder / "new.env").unlink()
    shown = ("run", "--", "printenv", "WEBHOOK_TOKEN", "KEYTURN_VERSIONS")
    assert 0 == fresh("generate", "token").code
    first = fresh(*shown).out.splitlines()
    assert 0 == fresh("rotate", "token", "--now").code
    second, short = went_short(fresh, *shown)
    rotated = second.out.splitlines()
    assert short
    assert first[0] != rotated[0]
    assert b"token=1" == first[1].split()[-1]
    assert b"token=2" == rotated[1].split()[-1]


def served_and_stored(project, name, variable):
    """Return what the next program is given, and what the store says is current."""
    result = project("run", "--", "printenv", variable)
    session = project.session()
    try:
        current = session.store.read(SecretRef(DEVELOPMENT, name), Stage.CURRENT)
        return result, current.values["value"].reveal()
    finally:
        session.close()


CHANGES = {
    "set": (["set", "session", "-"], "session", "SESSION_SECRET", 9),
    "import": (["import", "new.env", "--no-shred"], "session", "SESSION_SECRET", 9),
    "rollback": (["rollback", "session"], "session", "SESSION_SECRET", 9),
    # Of its many points, those around the one where the new value becomes current.
    "rotate": (["rotate", "token", "--now"], "token", "WEBHOOK_TOKEN", 12),
}
AROUND = 6


def prepared(first, place):
    """Return a copy of the project *first* in the folder *place*, with a fresh bundle."""
    project = projects.Project(place / "project", place / "keys")
    shutil.copytree(first.folder, project.folder)
    shutil.copytree(first.key_home, project.key_home)
    (project.folder / "new.env").write_bytes(b"SESSION_SECRET=" + NEW)
    project.refresh()
    return project


@pytest.mark.crash
@pytest.mark.parametrize("change", CHANGES)
def test_killed_at_every_point(change, tmp_path):
    """Wherever the changing process is killed, the next program gets what the store holds."""
    words, name, variable, least = CHANGES[change]
    first = projects.copied(tmp_path / "0")
    first.put("session", b"test-session-before-the-one-before")
    first.put("session", OLD)
    first.put("token", b"test-token-1234567890abcdefghijkl")
    trace = tmp_path / "trace"
    whole = prepared(first, tmp_path / "whole")
    environ = {"KEYTURN_FAILPOINT": f"trace={trace}"}
    assert 0 == whole(*words, stdin=NEW, environ=environ).code
    points = trace.read_text().split()
    turn = points.index("bundle.invalidate") + 1
    tried = range(1, len(points) + 1)
    if len(points) > 2 * AROUND:
        tried = tried[max(0, turn - AROUND) : turn + AROUND]
    assert len(tried) >= least
    for number in tried:
        project = prepared(first, tmp_path / str(number))
        environ = {"KEYTURN_FAILPOINT": f"*:{number}"}
        assert -signal.SIGKILL == project(*words, stdin=NEW, environ=environ).code
        result, stored = served_and_stored(project, name, variable)
        assert (0, stored + b"\n") == (result.code, result.out), points[number - 1]


def test_the_bundle_is_for_one_reader_and_opens_with_plain_age(fresh):
    """In an emergency, the values are read with the age program and the key's own comment."""
    from pyrage import decrypt, x25519

    key = (fresh.keys / "bundle.key").read_text().splitlines()
    plain = decrypt(fresh.bundle.read_bytes(), [x25519.Identity.from_str(key[-1])])
    assert plain.startswith(fast.BUNDLE_MARK)
    assert b"\nSESSION_SECRET=" + OLD + b"\n" in plain
    assert "age -d -i bundle.key" in key[1]
