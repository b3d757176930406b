"""
A rotation on a real PostgreSQL, killed at every failpoint, settled by a fresh process.

After every kill: no login role has a password that the store does not hold. After
every settlement: done or rolled back, exactly the current version logs in. With two
logins an application that logs in all the time with what it was given never fails.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from keyturn._internal.database import Database
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import Token
from keyturn.core.model import Origin
from keyturn.errors import NotFound
from keyturn.rotate import Journal, State
from keyturn.stores import create
from keyturn.testing.postgres import available_versions
from tests.crash import rotation_child as child
from tests.crash.rotation_child import DB, open_scene

pytestmark = [pytest.mark.postgres, pytest.mark.crash]

VERSIONS = available_versions()
ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
SETTLED = (child.DONE, child.ROLLED_BACK)
# More than any rotation has; reaching it means that one never ends.
MOST_POINTS = 200


class Application:
    """Logs in all the time with the file that was delivered to it, and says which it uses."""

    def __init__(self, database, folder) -> None:
        self.database = database
        self.folder = folder
        self.failures = []
        self.logins = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stopping.is_set():
            delivered = json.loads((self.folder / "delivered").read_bytes())
            try:
                self.log_in(delivered)
            except psycopg.Error as error:
                self.failures.append(f"version {delivered['version']}: {error}")
            else:
                self.logins += 1
                # Only its reader waits for it, and a half-written number is not equal.
                (self.folder / "seen").write_text(str(delivered["version"]))
            time.sleep(0.02)

    def log_in(self, delivered):
        with psycopg.connect(
            host=self.database.server.host,
            port=self.database.server.port,
            dbname=self.database.name,
            user=delivered["username"],
            password=delivered["password"],
        ) as connection:
            connection.execute("SELECT count(*) FROM clip")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


class Scene:
    """A store whose version 1 is the application's login, and the process that rotates it."""

    def __init__(self, database, folder, strategy, *, store=None, environ=None) -> None:
        self.database = database
        self.folder = folder
        self.environ = environ or {}
        server = database.server
        self.description = {
            "folder": str(folder),
            "strategy": strategy,
            "store": store,
            "target": {
                "host": server.host,
                "port": server.port,
                "database": database.name,
                "sslmode": "disable",
                "admin_user": database.admin_user,
                "admin_password": database.admin_password.reveal_text(),
            },
        }
        self.create_store()
        self.process = self.launch()

    def create_store(self):
        with Database.open(self.folder / "store.db", create=True) as control:
            create(
                control,
                store_id="0123456789abcdef" * 2,
                project="clipper",
                home=self.folder / "home",
                clock=SystemClock(),
                entropy=SystemEntropy(),
            )
        store = self.open()
        values = self.database.application_values
        store.put_pending(DB, values, origin=Origin.IMPORTED, token=Token("first"))
        store.promote(DB, 1, expected_current=None)
        body = {name: value.reveal_text() for name, value in values.items()}
        (self.folder / "delivered").write_text(json.dumps({"version": 1, **body}))
        store.database.close()

    def open(self):
        return open_scene(self.description)

    def launch(self, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.rotation_child"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                **self.environ,
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        process.stdin.write(json.dumps(self.description) + "\n")
        process.stdin.flush()
        return process

    def run(self, action, *, failpoint=None, healthy=True):
        """Start or resume in a fresh process, and return how it ended."""
        command = {"action": action, "failpoint": failpoint, "healthy": healthy}
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def settle(self, *, healthy):
        """Resume what is open, if the kill left anything."""
        code = self.run("resume", healthy=healthy) if self.is_open() else child.DONE
        assert code in SETTLED
        return code

    def is_open(self):
        store = self.open()
        try:
            found = Journal(store.database, clock=SystemClock()).all_live()
        finally:
            store.database.close()
        assert len(found) <= 1
        return bool(found)

    def close(self):
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()
        self.process.wait(timeout=10)

    # --- what must hold ---------------------------------------------------------------

    def logins(self):
        """Return the roles of the application that may log in now."""
        rows = self.database.execute(
            "SELECT rolname FROM pg_roles WHERE rolcanlogin"
            f" AND rolname ~ '^{self.database.name}(_[ab])?$'"
        )
        return {row[0] for row in rows}

    def check_nothing_lost(self):
        """Each login that the target accepts has a password that the store holds."""
        store = self.open()
        try:
            open_logins = self.logins()
            for values in self.recent(store):
                if values["username"].reveal_text() in open_logins and self.accepts(values):
                    open_logins.discard(values["username"].reveal_text())
        finally:
            store.database.close()
        assert not open_logins, "a login has a password that is not in the store"

    def recent(self, store):
        """Return the values that a stage points at, and the newest ones besides."""
        state = store.state(DB)
        numbers = {state.current, state.pending, state.previous, state.next_number - 1}
        return [store.read(DB, number).values for number in sorted(numbers - {None})]

    def check_settled(self):
        """The current version logs in, no other does, nothing is pending or open."""
        store = self.open()
        try:
            state = store.state(DB)
            current = store.read(DB, state.current).values
            assert {current["username"].reveal_text()} == self.logins()
            assert [current] == [each for each in self.recent(store) if self.accepts(each)]
            assert state.pending is None
            last = Journal(store.database, clock=SystemClock()).last(DB)
            assert last is None or last.state in (State.DONE, State.ROLLED_BACK)
            delivered = json.loads((self.folder / "delivered").read_bytes())
            assert state.current == delivered["version"]
        finally:
            store.database.close()

    def accepts(self, values):
        try:
            self.database.connect(values).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture
def scene(request, database, tmp_path):
    made = Scene(database, tmp_path, request.param)
    yield made
    made.close()


def scenarios():
    """Parametrise over strategy and health, spread over the servers that there are."""
    cases = [(strategy, healthy) for strategy in child.STRATEGIES for healthy in (True, False)]
    return pytest.mark.parametrize(
        ("postgres", "scene", "healthy"),
        [
            pytest.param(
                VERSIONS[number % len(VERSIONS)] if VERSIONS else "any",
                strategy,
                healthy,
                id=f"{strategy}-{'forward' if healthy else 'way-back'}",
            )
            for number, (strategy, healthy) in enumerate(cases)
        ],
        indirect=["postgres", "scene"],
    )


def kill_everywhere(scene, tmp_path, *, healthy, every=1, again=None, only=None):
    """
    Kill a rotation at its first point, settle it, kill the next at its second, and so on.

    Args:
        every: Kill at each so-manieth point only.
        only: Kill at the points whose names it takes; the others are passed over.
        again: Gives, for the number of the kill, where to kill the settlement too.

    Returns:
        The points in order, and how often each end was reached.
    """
    trace = tmp_path / "trace"
    ends = Counter()
    names = []
    passed = [] if only is None else traced(scene, trace, healthy=healthy)
    for number in range(1, MOST_POINTS, every):
        if number <= len(passed) and not only(passed[number - 1]):
            continue
        trace.unlink(missing_ok=True)
        code = scene.run("start", failpoint=f"trace={trace},*:{number}", healthy=healthy)
        if code != KILLED:
            assert code == (child.DONE if healthy else child.ROLLED_BACK)
            break
        names.append(trace.read_text().split()[-1])
        scene.check_nothing_lost()
        if again is not None and scene.is_open():
            code = scene.run("resume", failpoint=f"*:{again(number)}", healthy=healthy)
            assert code in (KILLED, *SETTLED)
            scene.check_nothing_lost()
        ends[scene.settle(healthy=healthy)] += 1
        scene.check_settled()
    else:
        raise AssertionError("the rotation never ended by itself")
    return names, ends


def traced(scene, trace, *, healthy):
    """Rotate without a kill, and return the points in order."""
    code = scene.run("start", failpoint=f"trace={trace}", healthy=healthy)
    assert code == (child.DONE if healthy else child.ROLLED_BACK)
    return trace.read_text().split()


@scenarios()
def test_killed_at_every_point_a_rotation_is_settled(scene, healthy, tmp_path):
    """Every point of a rotation forward, and of one that goes back from its delivery."""
    with Application(scene.database, scene.folder) as application:
        names, ends = kill_everywhere(scene, tmp_path, healthy=healthy)
    print("\n".join(f"{number:3} {name}" for number, name in enumerate(names, 1)))
    print(f"{len(names)} kills, {len(set(names))} points, {application.logins} logins")
    assert len(set(names)) >= 20
    assert len(names) == ends.total()
    assert {"postgres.apply.commit", "postgres.apply.committed", "deliver.seen"} <= set(names)
    check_application(scene, application)


@scenarios()
def test_killed_again_while_it_is_settled_a_rotation_is_settled(scene, healthy, tmp_path):
    """The settlement dies as well, at a point that moves with the first one."""
    with Application(scene.database, scene.folder) as application:
        names, _ = kill_everywhere(
            scene, tmp_path, healthy=healthy, every=3, again=lambda number: 1 + (number * 5) % 17
        )
    assert len(names) >= 10
    check_application(scene, application)


def check_application(scene, application):
    """With two logins nobody noticed; no password is in the server's log."""
    assert application.logins > 20
    if scene.description["strategy"] == "two-logins":
        assert [] == application.failures
    assert "CANARY" not in scene.database.server.log_path.read_text(errors="replace")


@pytest.mark.parametrize("scene", ["two-logins"], indirect=True)
@pytest.mark.parametrize("point", ["rotate.apply.effect", "rotate.promote.end"])
def test_killed_through_the_environment_a_new_interpreter_resumes(scene, point):
    """As a person would do it: another `python`, armed by `KEYTURN_FAILPOINT`."""
    with Application(scene.database, scene.folder):
        victim = scene.launch(KEYTURN_FAILPOINT=point)
        command = {"action": "start", "failpoint": None, "healthy": True, "fork": False}
        victim.communicate(json.dumps(command) + "\n", timeout=30)
        assert KILLED == victim.returncode
        assert child.DONE == scene.run("resume")
        scene.check_settled()


@pytest.mark.parametrize("scene", ["two-logins"], indirect=True)
def test_of_two_rotations_started_together_one_runs(scene):
    """Ten times, each with two processes: one is done, the other refused, none is lost."""
    other = scene.launch()
    pair = (scene.process, other)
    ends = Counter()
    with Application(scene.database, scene.folder) as application:
        for current in range(1, 11):
            # Both planned to replace the same version, however late one of them starts.
            command = {"action": "start", "failpoint": None, "healthy": True, "old": current}
            for process in pair:
                process.stdin.write(json.dumps(command) + "\n")
            for process in pair:
                process.stdin.flush()
            ends[tuple(sorted(int(process.stdout.readline()) for process in pair))] += 1
            assert not scene.is_open()
    other.communicate(timeout=10)
    scene.check_settled()
    assert [] == application.failures
    assert {(child.DONE, child.BUSY): 10} == ends
    store = scene.open()
    assert 11 == store.state(DB).current
    store.database.close()


def test_a_version_that_is_not_there_says_so():
    """The fixture does not fall back to another server than the one asked for."""
    from keyturn.testing.postgres import PostgresServer

    with pytest.raises(NotFound, match="found:"):
        PostgresServer("7").start()
