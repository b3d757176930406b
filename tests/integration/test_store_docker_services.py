"""Containers find what Keyturn wrote: services of a real swarm, and Compose's containers."""

from __future__ import annotations

import itertools
import os

import pytest

from keyturn._internal.docker_engine import EngineAddress
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.deliver import ComposeReload, reload_consumer
from keyturn.deliver.swarm import ServiceUpdater, SwarmUpdate
from keyturn.errors import DeliveryError, Unavailable
from keyturn.stores import swarm
from keyturn.testing import FakeClock
from tests.worlds.docker import (
    DB,
    PRODUCTION,
    Service,
    activate,
    compose_store,
    current,
    references,
    swarm_context,
    swarm_store,
)

_NUMBERS = itertools.count(1)
_PASSWORD = "target=db_password,mode=0400"


@pytest.fixture
def project():
    return f"serving{os.getpid()}-{next(_NUMBERS)}"


@pytest.fixture
def layout(dockerd, tmp_path, project):
    return swarm.layout(swarm_context(dockerd, tmp_path, project))


@pytest.fixture
def store(dockerd, tmp_path, project):
    return swarm_store(dockerd, tmp_path, project)


@pytest.fixture
def service(dockerd, project):
    """Return a function that makes a service, which is removed afterwards."""
    made = []

    def make(*secrets, words=(), name="api"):
        found = Service(dockerd, f"{project}-{name}", secrets, words=words)
        made.append(found)
        return found

    yield make
    for found in made:
        found.remove()


@pytest.fixture
def updater(dockerd):
    return ServiceUpdater(
        EngineAddress(dockerd.host),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        timeout_seconds=60,
    )


@pytest.fixture
def update(layout):
    """Return a function to the update that brings services to what is current."""

    def made(*services):
        names = tuple(service.name for service in services)
        return SwarmUpdate(names, layout.current(PRODUCTION))

    return made


class TestSwarm:
    """A consumer that is a service."""

    def test_container_reads_what_was_promoted(
        self, store, layout, service, updater, update, project
    ):
        """
        From `/run/secrets`, under the same name, with the same owner and mode.

        The old secret stays while the service uses it, and goes when it does not.
        """
        activate(store, password=b"one")
        api = service(
            f"source={project}_production_db_password_v1,target=db_password,mode=0440,uid=1000"
        )
        assert api.read("db_password") == "one"
        activate(store, password=b"two")
        assert api.read("db_password") == "one"
        assert layout.remove_unused(PRODUCTION) == [f"{project}_production_db_password_v1"]
        stem = f"{project}_production_db_password"
        (said,) = updater.differences(update(api))
        assert said == (
            f"service `{api.name}` has `db_password` from `{stem}_v1`, not from `{stem}_v2`"
        )
        assert updater.update(update(api)) == f"updated `{api.name}`"
        assert api.read("db_password") == "two"
        assert api.run("stat", "-c", "%a %u", "/run/secrets/db_password") == "440 1000"
        assert api.secrets == [
            ("db_password", f"{project}_production_db_password_v2", 0o440, "1000")
        ]
        assert updater.differences(update(api)) == []
        assert layout.remove_unused(PRODUCTION) == []

    def test_all_fields_change_in_one_update(self, store, service, updater, update, project):
        """The service was never described with the one's new and the other's old value."""
        activate(store, username=b"u1", password=b"p1")
        stem = f"{project}_production_db"
        api = service(
            f"source={stem}_username_v1,target=db_username",
            f"source={stem}_password_v1,{_PASSWORD}",
        )
        activate(store, username=b"u2", password=b"p2")
        updater.update(update(api))
        assert [secret for _, secret, *_ in references(api.before)] == [
            f"{stem}_password_v1",
            f"{stem}_username_v1",
        ]
        assert (api.read("db_username"), api.read("db_password")) == ("u2", "p2")

    def test_what_else_the_service_says_stays(self, store, service, updater, update, project):
        """Order, labels, environment and foreign secrets are given back as they were."""
        activate(store, password=b"one")
        api = service(
            f"source={project}_production_db_password_v1,{_PASSWORD}",
            words=(
                *("--update-order", "start-first", "--update-failure-action", "rollback"),
                *("--label", "team=clips", "--env", "MODE=fast", "--replicas", "2"),
            ),
        )
        before = api.spec
        activate(store, password=b"two")
        updater.update(update(api))
        after = api.spec
        for spec in (before, after):
            del spec["TaskTemplate"]["ContainerSpec"]["Secrets"]
        assert after == before
        assert api.read("db_password") == "two"

    def test_second_update_changes_nothing(self, store, service, updater, update, project):
        """It may be called again after a crash, and starts no task anew."""
        activate(store, password=b"one")
        api = service(f"source={project}_production_db_password_v1,{_PASSWORD}")
        version = api._inspect()["Version"]
        assert updater.update(update(api)) == "every service had its secrets already"
        assert api._inspect()["Version"] == version

    def test_rollback_is_a_failure_with_its_reason(
        self, dockerd, store, service, updater, update, project
    ):
        """Swarm brings the old tasks back; the way back in the store fits to it."""
        activate(store, password=b"one")
        api = service(
            f"source={project}_production_db_password_v1,{_PASSWORD}",
            words=("--update-failure-action", "rollback"),
        )
        activate(store, password=b"bad")
        with pytest.raises(DeliveryError) as failure:
            updater.update(update(api))
        assert "was rolled back" in failure.value.message
        assert "non-zero exit (7)" in failure.value.message
        assert api.read("db_password") == "one"
        store.promote(DB, 1, expected_current=2)
        updater.update(update(api))
        assert api.read("db_password") == "one"
        assert api.secrets[0][1] == f"{project}_production_db_password_v3"

    def test_paused_update_is_a_failure_with_its_reason(
        self, store, service, updater, update, project
    ):
        """It is told each time until somebody goes on; the way back goes on."""
        activate(store, password=b"one")
        api = service(f"source={project}_production_db_password_v1,{_PASSWORD}")
        activate(store, password=b"bad")
        for _ in range(2):
            with pytest.raises(DeliveryError, match="was paused"):
                updater.update(update(api))
        store.promote(DB, 1, expected_current=2)
        assert updater.update(update(api)) == f"updated `{api.name}`"
        assert api.read("db_password") == "one"

    def test_secret_made_by_hand_in_our_place_is_told_and_replaced(
        self, dockerd, store, service, updater, update, project
    ):
        """The service's own word counts, not what Keyturn thinks that it delivered."""
        activate(store, password=b"one")
        dockerd.docker("secret", "create", f"{project}-mine", "-", stdin=b"by hand")
        api = service(f"source={project}-mine,{_PASSWORD}")
        (said,) = updater.differences(update(api))
        assert f"`db_password` from `{project}-mine`, which keyturn did not make" in said
        updater.update(update(api))
        assert api.read("db_password") == "one"

    def test_other_name_in_the_container_is_kept(self, store, service, updater, update, project):
        """What is known as ours is replaced under whatever name the service has it by."""
        activate(store, password=b"one")
        api = service(f"source={project}_production_db_password_v1,target=pg.pass")
        activate(store, password=b"two")
        updater.update(update(api))
        assert api.read("pg.pass") == "two"

    def test_nothing_is_updated_where_a_service_lacks_a_secret(
        self, store, service, updater, update, project
    ):
        """Found for every service before the first one is touched, with the command that helps."""
        activate(store, username=b"u", password=b"one")
        api = service(f"source={project}_production_db_password_v1,{_PASSWORD}")
        activate(store, username=b"u2", password=b"two")
        with pytest.raises(DeliveryError) as failure:
            updater.update(update(api))
        assert "`db_username`" in failure.value.message
        assert f"--secret-add source={project}_production_db_username_v2" in failure.value.hint
        assert api.secrets[0][1] == f"{project}_production_db_password_v1"

    def test_missing_service_and_secret_are_told(self, store, updater, update, project):
        """By name."""
        activate(store, password=b"one")
        names = {"db_password": f"{project}_production_db_password_v1"}
        with pytest.raises(DeliveryError, match="no service `nowhere`"):
            updater.update(SwarmUpdate(("nowhere",), names))
        with pytest.raises(DeliveryError, match="no secret `gone`"):
            updater.update(SwarmUpdate(("nowhere",), {"db_password": "gone"}))

    def test_no_task_that_comes_up_is_told_in_time(self, dockerd, store, service, update, project):
        """A service that never gets there is not waited for without end."""
        activate(store, password=b"one")
        api = service(
            f"source={project}_production_db_password_v1,{_PASSWORD}",
            words=("--update-failure-action", "continue"),
        )
        activate(store, password=b"bad")
        hasty = ServiceUpdater(
            EngineAddress(dockerd.host),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            timeout_seconds=4,
        )
        with pytest.raises(DeliveryError, match="did not come up within 4 s"):
            hasty.update(update(api))

    def test_no_daemon_is_unavailable(self, tmp_path):
        """Nothing was changed."""
        address = EngineAddress(f"unix://{tmp_path}/none")
        updater = ServiceUpdater(address, clock=FakeClock(), entropy=SystemEntropy())
        with pytest.raises(Unavailable):
            updater.update(SwarmUpdate(("api",), {"db_password": "x"}))


class TestCompose:
    """A consumer that is a service of Compose."""

    @pytest.fixture
    def folder(self, dockerd, tmp_path, monkeypatch, project):
        (tmp_path / "compose.yaml").write_text(
            f"""
name: {project}
services:
  api:
    image: {dockerd.image}
    user: "1000:1000"
    network_mode: none
    stop_grace_period: 0s
    command: ["sleep", "1000"]
    secrets: [db_username, db_password]
secrets:
  db_username: {{file: ./secrets/production/db_username}}
  db_password: {{file: ./secrets/production/db_password}}
"""
        )
        for name, text in dockerd.environment.items():
            monkeypatch.setenv(name, text)
        if "v2" not in dockerd.docker("compose", "version", check=False):
            pytest.skip("docker compose is not installed")
        yield tmp_path
        dockerd.docker("compose", "down", "--timeout", "0", folder=tmp_path, check=False)

    def test_container_that_is_made_anew_reads_what_was_promoted(self, dockerd, folder):
        """As its own user, from files that it alone may read; until then it has the old ones."""
        store = compose_store(folder, uid=1000, gid=1000)
        activate(store, username=b"u1", password=b"p1")
        reload = ComposeReload("api")
        reload_consumer(reload, project=folder)

        def read():
            words = ("sh", "-c", "cd /run/secrets; id -u; stat -c '%a %u' *; cat *")
            return dockerd.docker("compose", "exec", "-T", "api", *words, folder=folder).split()

        assert read() == ["1000", "400", "1000", "400", "1000", "p1u1"]
        activate(store, username=b"u2", password=b"p2")
        assert read()[-1] == "p1u1"
        reload_consumer(reload, project=folder)
        assert read()[-1] == "p2u2"
        store.promote(DB, 1, expected_current=2)
        reload_consumer(reload, project=folder)
        assert read()[-1] == "p1u1"
        assert current(store) == {"username": b"u1", "password": b"p1"}
