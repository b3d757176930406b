"""Rotations on a cluster of three OpenBao nodes whose leader dies, and which is gone for a while."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from keyturn.app.config import Settings
from keyturn.app.generation import generate
from keyturn.app.session import open_session
from keyturn.cli.exits import Exit
from keyturn.core.clock import SystemClock
from keyturn.core.ids import SecretName
from keyturn.core.model import SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.errors import Unavailable
from keyturn.rotate import State
from keyturn.testing import FakeClock
from keyturn.testing.openbao import cluster
from tests.unit.stores.workshop import Workshop
from tests.worlds.rotating_store import VALUE, Machine, Made
from tests.worlds.vault_store import ENVIRONMENT, VaultStoreWorld

KEYTURN = str(Path(sys.executable).with_name("keyturn"))
THREADS = 4
EACH = 2
ROTATIONS = 200
KILLS = 3
SECONDS = 240


@pytest.fixture(scope="module")
def nodes():
    with cluster(3) as made:
        yield made


@pytest.fixture
def workshop(tmp_path):
    made = Workshop(tmp_path)
    made.create()
    yield made
    made.close()


class Fleet:
    """
    Threads that rotate secrets of one project until enough has been done.

    Each has a store and a journal's connection of its own, and secrets of its own; all of
    them write the same document.
    """

    def __init__(self, world, workshop):
        self.world = world
        self.workshop = workshop
        self.made = Made()
        self.lock = threading.Lock()
        self.acknowledged = defaultdict(list)
        self.ended = 0
        self.rolled_back = 0
        self.failures = []
        self.refs = [
            SecretRef(ENVIRONMENT, SecretName(f"s{number}")) for number in range(THREADS * EACH)
        ]
        self.threads = [
            threading.Thread(target=self._work, args=(self.refs[at::THREADS],))
            for at in range(THREADS)
        ]

    def _work(self, refs):
        control = self.workshop.open()
        # Only its own thread may close it.
        self.workshop.open_stores.remove(control)
        # As the manifest has it: how long it is patient is not for users to say.
        store = self.world.layout_store()
        try:
            machine = Machine(control, store, made=self.made)
            while self.ended < ROTATIONS and not self.failures:
                for ref in refs:
                    self._rotate(machine, ref)
        except Exception as error:  # noqa: BLE001 - judged by the test
            self.failures.append(error)
        finally:
            store.close()
            control.database.close()

    def _rotate(self, machine, ref):
        report = machine.start(ref)
        with self.lock:
            self.ended += 1
            if report.rotation.state is State.DONE:
                self.acknowledged[ref].append(report.rotation.new_version)
            elif report.rotation.state is State.ROLLED_BACK:
                self.rolled_back += 1
            else:
                self.failures.append(report.failure)


class Application(threading.Thread):
    """Reads the live document without Keyturn, and remembers what it must not find."""

    def __init__(self, world, made):
        super().__init__()
        self.world = world
        self.made = made
        self.stop = threading.Event()
        self.reads = 0
        self.wrong = []

    def run(self):
        seen = {}
        while not self.stop.wait(0.02):
            try:
                answer = self.world.server.request(
                    "GET", f"{self.world.mount}/data/clipper/production"
                )
            except (httpx.HTTPError, Unavailable):
                continue
            if answer.status_code != 200:
                continue
            self.reads += 1
            data = answer.json()["data"]["data"]
            self.wrong += [name for name in seen if name not in data]
            self.wrong += [name for name in data if data[name].encode() not in self.made]
            seen = data


class OnCluster(VaultStoreWorld):
    """Stores that know all three nodes."""

    def layout_store(self, **settings):
        """Return a store that the caller closes."""
        store = self.store(
            addresses=tuple(self.server.addresses), token=self.server.token, **settings
        )
        self.stores.remove(store)
        return store


def test_the_leader_dies_while_everything_is_rotated(nodes, workshop):
    """Nothing that was acknowledged is lost, nothing is stuck, and no number is left out."""
    nodes.wait_until_formed()
    world = OnCluster(nodes).fresh_mount()
    fleet = Fleet(world, workshop)
    reader = Application(world, fleet.made)
    begun = time.monotonic()
    for thread in [*fleet.threads, reader]:
        thread.start()
    try:
        for number in range(1, KILLS + 1):
            wait_for(lambda at=number: fleet.ended >= at * ROTATIONS // (KILLS + 1), fleet)
            victim = nodes.leader()
            victim.kill()
            # Its place is taken, and work goes on, before it comes back.
            wait_for(lambda at=fleet.ended: fleet.ended > at + THREADS, fleet)
            victim.start()
            nodes.wait_until_formed()
    finally:
        for thread in fleet.threads:
            thread.join(SECONDS)
        reader.stop.set()
        reader.join(30)
    took = time.monotonic() - begun
    print(f"{fleet.ended} rotations, {fleet.rolled_back} back, {reader.reads} reads, {took:.0f} s")
    assert fleet.failures == []
    assert fleet.ended >= ROTATIONS
    assert fleet.rolled_back <= ROTATIONS // 20
    assert reader.reads > 0
    assert reader.wrong == []
    check_all(fleet, world, workshop)


def wait_for(holds, fleet):
    until = time.monotonic() + SECONDS
    while not holds() and not fleet.failures and time.monotonic() < until:
        time.sleep(0.02)


def check_all(fleet, world, workshop):
    """The store, the journal and what was said to have been done agree."""
    machine = Machine(workshop.open(), world.layout_store())
    store = machine.store
    live = world.live()
    assert machine.journal.all_live() == []
    assert not store.drifts(ENVIRONMENT)
    for ref in fleet.refs:
        state = store.state(ref)
        assert (state.current, state.pending) == (fleet.acknowledged[ref][-1], None)
        numbers = [version.number for version in store.history(ref)]
        assert numbers == list(range(state.next_number - 1, 0, -1))
        assert set(fleet.acknowledged[ref]) <= set(numbers)
        for number in fleet.acknowledged[ref]:
            assert store.read(ref, number).values[VALUE].reveal() in fleet.made
        current = store.read(ref, Stage.CURRENT).values[VALUE].reveal()
        assert live[str(ref.name)].encode() == current
    store.close()


# --- gone for a while -----------------------------------------------------------------------

MANIFEST = """\
[project]
name = "clipper"
owner = "team"
[environments.production]
store = "team"
[environments.development]
store = "local"
[stores.local]
kind = "embedded"
[stores.team]
kind = "vault"
address = {addresses}
mount = "{mount}"
auth = {{ method = "token", token_file = "token" }}
[secrets.api]
kind = "generated"
variable = "API_TOKEN"
max_age = "90d"
grace = "0s"
"""


class Command:
    """The real command in a project whose production is on the cluster, all of it due."""

    def __init__(self, folder, world):
        self.folder = folder
        text = MANIFEST.format(addresses=json.dumps(world.server.addresses), mount=world.mount)
        (folder / "keyturn.toml").write_text(text)
        (folder / "token").write_text(world.server.token.reveal_text())
        self.must("init", "-qq")
        with closing(
            open_session(
                Settings.read(),
                project_dir=folder,
                reason="first",
                ask_passphrase=lambda: SecretValue(b""),
                clock=FakeClock(SystemClock().now() - timedelta(days=100)),
            )
        ) as session:
            for environment in session.manifest.environments:
                generate(session, environment, [])

    def run(self, *words):
        done = subprocess.run(
            [KEYTURN, *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def must(self, *words):
        code, out, err = self.run(*words)
        assert code == 0, (words, code, out, err)
        return out

    def version(self, environment):
        (row,) = json.loads(self.must("list", "-e", environment, "--json"))
        return row["current"], row["pending"]


def test_the_command_while_all_nodes_are_gone(nodes, tmp_path):
    """It says so and what to do, does the rest of its work, and the next one makes up for it."""
    nodes.wait_until_formed()
    command = Command(tmp_path, OnCluster(nodes).fresh_mount())
    for node in nodes.nodes:
        node.kill()
    try:
        code, out, err = command.run("tick")
        assert code == Exit.UNREACHABLE
        assert "development/api\tdone" in out
        assert "nothing can be done in `production` now: Vault at http://" in err
        assert "hint: check that `http://" in err
        for words in (["tick", "-e", "production"], ["rotate", "api", "-e", "production", "--now"]):
            code, _, err = command.run(*words)
            assert code == Exit.UNREACHABLE, err
            assert "did not answer" in err
            assert "hint: check that `http://" in err
        assert json.loads(command.must("tick", "-e", "development", "--json"))["done"] == []
    finally:
        for node in nodes.nodes:
            node.start()
        nodes.wait_until_formed()
    assert "production/api\tdone" in command.must("tick")
    assert command.version("production") == (2, None)
    assert command.version("development") == (2, None)
    command.must("audit", "verify")
