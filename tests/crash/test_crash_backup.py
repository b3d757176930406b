"""Backups and restores are killed at every point that the real command reaches."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from keyturn.crypto import new_identity, recipient
from tests.cli import projects
from tests.cli.projects import DEVELOPMENT, KEYTURN, MANIFEST, Project

pytestmark = pytest.mark.crash

MOST_POINTS = 200
TWO_STORES = MANIFEST.replace(
    '[stores.local]\nkind = "embedded"\n',
    '[stores.local]\nkind = "embedded"\n[stores.team]\nkind = "dotenv"\n'
    'path = "team.{environment}.env"\n',
)
IDENTITY = new_identity()


def run(project, *words, failpoint=None, **environ):
    """Run a command, to be killed at *failpoint*."""
    environ = {**project.environ, **environ}
    if failpoint:
        environ["KEYTURN_FAILPOINT"] = failpoint
    return subprocess.run(
        [KEYTURN, *words],
        cwd=project.folder,
        env=environ,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def points(kill, start=1):
    """Call *kill* with each point from the one numbered *start*, until it is not killed any more."""
    for number in range(start, MOST_POINTS):
        done = kill(f"*:{number}")
        if done.returncode == 0:
            return number - start
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    raise AssertionError("it never ended")


def everything(project, store):
    """Return all that *store* has of `development`, by name."""
    session = project.session()
    try:
        held = session.store.named(store)
        return dict(held.histories(DEVELOPMENT, held.states(DEVELOPMENT)))
    finally:
        session.close()


@pytest.fixture
def place(tmp_path):
    """A project with history, and the identity that opens its backups."""
    project = projects.copied(tmp_path)
    project.manifest.write_text(TWO_STORES)
    project.put("api", b"second-test-api-key-for-history-1")
    project.put("api", b"third-test-api-key-for-history-22")
    (tmp_path / "key.txt").write_bytes(IDENTITY.reveal())
    return project


def test_a_killed_backup_leaves_no_half(place, tmp_path):
    """The file is whole or not there, the next one succeeds, and what was begun is settled."""
    target = tmp_path / "out" / "b.age"
    target.parent.mkdir()
    key = str(tmp_path / "key.txt")
    words = ("backup", "--to", str(target), "--recipient", recipient(IDENTITY), "--replace")

    def kill(point):
        target.unlink(missing_ok=True)
        done = run(place, *words, failpoint=point)
        if target.exists():
            listed = run(place, "restore", str(target), "--identity", key, "--list")
            assert listed.returncode == 0, listed.stderr
        return done

    assert points(kill) >= 6
    assert [target] == list(target.parent.iterdir())
    assert b"begun" not in run(place, "doctor").stdout.replace(b"never begun", b"")
    begun = place.session()
    assert [] == [each.action for each in begun.audit.open_begun()]
    begun.close()


@pytest.mark.parametrize("store", ["local", "team"])
def test_a_killed_restore_is_finished_by_the_next(place, tmp_path, store):
    """From nothing: each secret is absent or as it was, and what is left comes with the next."""
    if store == "team":
        assert run(place, "sync", "local", "team").returncode == 0
        text = place.manifest.read_text().replace(
            '[environments.development]\nstore = "local"',
            '[environments.development]\nstore = "team"',
        )
        place.manifest.write_text(text)
    target = tmp_path / "b.age"
    made = run(place, "backup", "--to", str(target), "--recipient", recipient(IDENTITY))
    assert made.returncode == 0, made.stderr
    before = everything(place, store)
    words = ("restore", str(target), "--identity", str(tmp_path / "key.txt"))
    count = 0
    (tmp_path / "traced").mkdir()
    traced = Project(tmp_path / "traced", tmp_path / "traced-keys")
    assert run(traced, *words, failpoint=f"trace={tmp_path / 'trace'}").returncode == 0
    start = (tmp_path / "trace").read_text().split().index("restore.batch")

    def kill(point):
        nonlocal count
        count += 1
        folder = tmp_path / f"n{count}"
        folder.mkdir()
        fresh = Project(folder, tmp_path / f"k{count}")
        done = run(fresh, *words, failpoint=point)
        if (folder / ".keyturn" / "locator").exists():
            for name, held in everything(fresh, store).items():
                # Until the last step no stage points at what is not all there.
                whole = before[name]
                assert held.state.current in {None, whole.state.current}
                if held.state.current is not None:
                    assert held.versions == whole.versions
                    assert held.state.previous in {None, whole.state.previous}
        again = run(fresh, *words)
        assert again.returncode == 0, (point, again.stderr)
        assert before == everything(fresh, store), point
        session = fresh.session()
        assert [] == session.audit.open_begun(), point
        session.close()
        return done

    # To make a project is the same for both.
    assert points(kill, start if store == "team" else 1) >= 4


def test_a_killed_overwrite_keeps_what_is_there(place, tmp_path):
    """The value that is in use is the old one or the restored one, and both are kept."""
    target = tmp_path / "b.age"
    run(place, "backup", "--to", str(target), "--recipient", recipient(IDENTITY))
    words = ("restore", str(target), "--identity", str(tmp_path / "key.txt"))
    number = 0

    def kill(point):
        nonlocal number
        number += 1
        newer = f"newer-test-api-key-number-{number:03}".encode()
        place.put("api", newer)
        done = run(place, *words, "--overwrite", "api", failpoint=point)
        now = run(place, "get", "api").stdout
        assert now in {newer, b"third-test-api-key-for-history-22"}
        assert run(place, *words, "--overwrite", "api").returncode == 0
        assert run(place, "get", "api").stdout == b"third-test-api-key-for-history-22"
        assert run(place, "get", "api", "--stage", "previous").stdout == newer
        return done

    assert points(kill) >= 4
    assert run(place, "doctor").returncode == 0


def test_a_killed_rehearsal_leaves_nothing_that_opens(place, tmp_path):
    """What is left is sealed under a key that is gone, and the next one removes it."""
    target, scratch = tmp_path / "b.age", tmp_path / "scratch"
    scratch.mkdir()
    run(place, "backup", "--to", str(target), "--recipient", recipient(IDENTITY))
    words = ("restore", str(target), "--identity", str(tmp_path / "key.txt"), "--rehearse")
    before = everything(place, "local")
    killed = run(place, *words, failpoint="rehearsal.filled", TMPDIR=str(scratch))
    assert killed.returncode == -signal.SIGKILL
    assert before == everything(place, "local")
    left = [*Path("/dev/shm").glob("keyturn-rehearsal-*"), *scratch.iterdir()]
    files = [each for folder in left for each in folder.rglob("*") if each.is_file()]
    assert any(each.name == "store.db" for each in files)
    for each in files:
        assert b"test-api-key-for-history" not in each.read_bytes()
        assert each.name != "root.key"
    done = run(place, *words, TMPDIR=str(scratch))
    assert done.returncode == 0, done.stderr
    assert [] == [each for each in left if each.exists()]
    session = place.session()
    assert [] == session.audit.open_begun()
    session.close()
