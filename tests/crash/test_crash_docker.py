"""Docker's stores: killed at every point, answers lost, and two writers at once."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

from keyturn._internal.docker_engine import EngineAddress
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import SecretName
from keyturn.core.model import SecretRef, Stage
from keyturn.deliver.swarm import ServiceUpdater, SwarmUpdate
from keyturn.errors import Conflict
from keyturn.stores import swarm
from tests.crash.test_crash_store import in_child
from tests.worlds.docker import (
    DB,
    PRODUCTION,
    LossyRelay,
    Service,
    activate,
    compose_store,
    current,
    put,
    swarm_context,
    swarm_daemon,
    swarm_store,
)

pytestmark = [
    pytest.mark.crash,
    # The child uses no thread of its parent's.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

MAX_POINTS = 200
ROUNDS = 100
OLD = {"username": b"u1", "password": b"p1"}
NEW = {"username": b"u2", "password": b"p2"}
OTHER = SecretRef(PRODUCTION, SecretName("other"))
_PROJECTS = itertools.count(1)


@pytest.fixture(scope="module")
def dockerd():
    """A real Docker daemon that is the one manager of a swarm of its own."""
    with swarm_daemon() as server:
        yield server


@pytest.fixture
def project():
    return f"crash{os.getpid()}-{next(_PROJECTS)}"


@pytest.fixture
def short():
    """A folder whose path a socket can have."""
    folder = Path(tempfile.mkdtemp(prefix="keyturn-relay-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def relay(dockerd, short):
    made = LossyRelay(dockerd, short)
    yield made
    made.close()


def killed(action, arm):
    """Run *action* in a process with the failpoints *arm*; tell whether it was killed."""
    return in_child(action, arm) != 0


def secrets_of(dockerd, project):
    listed = dockerd.docker("secret", "ls", "--format", "{{.Name}}").split()
    return sorted(name for name in listed if name.startswith(f"{project}_"))


def finish(store, number):
    """Do again what was interrupted, as whoever comes next does, and look at each state."""
    state = store.state(DB)
    seen = current(store)
    assert (state.current, seen) in ((1, OLD), (number, NEW))
    assert store.promote(DB, number, expected_current=1).current == number
    assert current(store) == NEW
    assert {f: v.reveal() for f, v in store.read(DB, Stage.PREVIOUS).values.items()} == OLD
    assert store.drifts(PRODUCTION) == {}


class TestKilled:
    """A process killed at each point of a change."""

    def test_compose_promote(self, tmp_path):
        """Killed anywhere, the files are of one version for whoever looks next, and then right."""
        for point in range(1, MAX_POINTS):
            folder = tmp_path / str(point)
            store = compose_store(folder)
            activate(store, **OLD)
            number = put(store, **NEW)
            was_killed = killed(
                lambda at=folder, n=number: compose_store(at).promote(DB, n, expected_current=1),
                f"*:{point}",
            )
            finish(store, number)
            live = folder / "secrets" / "production"
            activate(store, **OLD)
            assert {path.name: path.read_bytes() for path in live.iterdir()} == {
                f"db_{field}": data for field, data in OLD.items()
            }
            if not was_killed:
                break
        assert 10 < point < MAX_POINTS - 1

    def test_compose_put(self, tmp_path):
        """Killed anywhere, a version is there or not, and nothing is kept that is not listed."""
        for point in range(1, MAX_POINTS):
            folder = tmp_path / str(point)
            was_killed = killed(
                lambda at=folder: put(compose_store(at), token="t", **NEW), f"*:{point}"
            )
            store = compose_store(folder)
            assert put(store, token="t", **NEW) == 1
            store.promote(DB, 1, expected_current=None)
            assert current(store) == NEW
            kept = folder / "secrets/.keyturn-state/production/kept"
            assert len(list(kept.iterdir())) == 1
            if not was_killed:
                break
        assert 5 < point < MAX_POINTS - 1

    def test_swarm_promote(self, dockerd, tmp_path, project):
        """Killed anywhere, one version is current, and later writes remove what was left."""
        for point in range(1, MAX_POINTS):
            name, folder = f"{project}-{point}", tmp_path / str(point)
            store = swarm_store(dockerd, folder, name)
            activate(store, **OLD)
            number = put(store, **NEW)
            was_killed = killed(
                lambda at=folder, p=name, n=number: swarm_store(dockerd, at, p).promote(
                    DB, n, expected_current=1
                ),
                f"*:{point}",
            )
            finish(store, number)
            activate(store, **OLD)
            assert len(secrets_of(dockerd, name)) == 2
            if not was_killed:
                break
        assert 10 < point < MAX_POINTS - 1

    def test_service_update(self, dockerd, tmp_path, project):
        """Killed around the update, the next one brings the service there."""
        store = swarm_store(dockerd, tmp_path, project)
        layout = swarm.layout(swarm_context(dockerd, tmp_path, project))
        activate(store, password=b"p0")
        api = Service(
            dockerd,
            f"{project}-api",
            [f"source={project}_production_db_password_v1,target=db_password"],
        )
        try:
            for number, point in enumerate(("deliver.swarm.call", "deliver.swarm.called"), 1):
                activate(store, password=b"p%d" % number)
                update = SwarmUpdate((api.name,), layout.current(PRODUCTION))
                assert killed(lambda up=update: updater(dockerd.host).update(up), point)
                updater(dockerd.host).update(update)
                assert api.read("db_password") == f"p{number}"
        finally:
            api.remove()


def updater(host):
    return ServiceUpdater(EngineAddress(host), clock=SystemClock(), entropy=SystemEntropy())


class TestLostAnswers:
    """Requests that went astray, there or on the way back."""

    @pytest.mark.parametrize("how", ["before", "after", "fault"])
    @pytest.mark.parametrize(
        "start",
        [
            "POST /secrets/create",
            "POST /configs/create",
            "POST /configs/",
            "DELETE /secrets/",
            "GET /secrets",
            "GET /configs",
            "GET /_ping",
        ],
    )
    def test_promote_ends_right(self, dockerd, relay, tmp_path, project, start, how):
        """Whoever asked is not told of it; the value is current once, and nothing is left."""
        store = swarm_store(dockerd, tmp_path, project, host=relay.host)
        if start != "POST /configs/create":
            activate(store, **OLD)
        expected = store.state(DB).current
        number = put(store, **NEW)
        relay.lose(start, how)
        store = swarm_store(dockerd, tmp_path, project, host=relay.host)
        store.promote(DB, number, expected_current=expected)
        assert relay.lost == [(start, how)]
        assert current(store) == NEW
        activate(store, **OLD)
        assert len(secrets_of(dockerd, project)) == 2
        assert store.drifts(PRODUCTION) == {}

    @pytest.mark.parametrize("how", ["before", "after"])
    def test_service_update_ends_right(self, dockerd, relay, tmp_path, project, how):
        """It is asked what is true, then sent again or not."""
        store = swarm_store(dockerd, tmp_path, project)
        layout = swarm.layout(swarm_context(dockerd, tmp_path, project))
        activate(store, password=b"one")
        secret = f"source={project}_production_db_password_v1,target=db_password"
        api = Service(dockerd, f"{project}-api", [secret])
        try:
            activate(store, password=b"two")
            relay.lose("POST /services/", how)
            update = SwarmUpdate((api.name,), layout.current(PRODUCTION))
            assert updater(relay.host).update(update) == f"updated `{api.name}`"
            assert relay.lost == [("POST /services/", how)]
            assert api.read("db_password") == "two"
        finally:
            api.remove()


class TestTwoWriters:
    """Two writers behind each other's back, two hundred changes in all."""

    @pytest.fixture(params=["compose", "swarm"])
    def reopen(self, request, tmp_path):
        if request.param == "compose":
            return lambda: compose_store(tmp_path)
        dockerd = request.getfixturevalue("dockerd")
        project = request.getfixturevalue("project")
        return lambda: swarm_store(dockerd, tmp_path, project)

    def test_of_one_secret(self, reopen):
        """Each change went on from the one before it: none was lost, none made twice."""
        steps = [
            each for found in self._both(lambda who: _changes(reopen(), who)) for each in found
        ]
        assert len(steps) == 2 * ROUNDS
        after = dict(steps)
        chain = [None]
        while chain[-1] in after:
            chain.append(after[chain[-1]])
        assert len(chain) == 2 * ROUNDS + 1
        store = reopen()
        assert store.state(DB).current == chain[-1]
        assert store.drifts(PRODUCTION) == {}

    def test_of_two_secrets_in_one_place(self, reopen):
        """They share one document and never lose each other's change of it."""

        def run(who):
            store, ref = reopen(), (DB, OTHER)[who]
            for number in range(ROUNDS):
                activate(store, ref, value=b"%d %d" % (who, number))
                assert current(store, ref) == {"value": b"%d %d" % (who, number)}
            return [store.state(ref).current]

        assert self._both(run) == [[ROUNDS], [ROUNDS]]
        store = reopen()
        assert current(store, DB) == {"value": b"0 %d" % (ROUNDS - 1)}
        assert current(store, OTHER) == {"value": b"1 %d" % (ROUNDS - 1)}
        assert store.drifts(PRODUCTION) == {}

    def _both(self, run):
        found = [None, None]

        def body(who):
            try:
                found[who] = run(who)
            except BaseException as error:
                found[who] = error

        threads = [threading.Thread(target=body, args=(who,)) for who in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        for result in found:
            if isinstance(result, BaseException):
                raise result
        return found


def _changes(store, who):
    """Make `ROUNDS` changes, and return from which version to which each went."""
    steps = []
    clock = SystemClock()
    while len(steps) < ROUNDS:
        expected = store.state(DB).current
        try:
            number = put(store, token=f"{who} {len(steps)} {expected}", value=b"%d" % who)
            store.promote(DB, number, expected_current=expected)
        except Conflict as error:
            assert error.code in {"store.pending", "store.moved"}
            if error.code == "store.moved":
                store.discard_pending(DB, number)
            clock.sleep(0.002)
        else:
            steps.append((expected, number))
    return steps
