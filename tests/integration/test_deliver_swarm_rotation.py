"""`keyturn rotate` on a real swarm: a service's container has the new value, whatever is killed."""

from __future__ import annotations

import itertools
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from keyturn.cli.exits import Exit
from tests.cli import projects
from tests.worlds.docker import Service, references

_NUMBERS = itertools.count(1)
KILLED = -signal.SIGKILL
MANIFEST = """\
[project]
name = "PROJECT"
[environments.production]
store = "swarm"
[environments.laptop]
store = "local"
[stores.local]
kind = "embedded"
[stores.swarm]
kind = "swarm"
host = "HOST"
[secrets.session]
kind = "generated"
variable = "SESSION_SECRET"
[secrets.login]
kind = "generated"
fields = { spare = "", code = "LOGIN_CODE" }
[secrets.one]
kind = "generated"
variable = "ONE"
[secrets.two]
kind = "generated"
variable = "TWO"
[consumers.pair]
secrets = ["one", "two"]
[consumers.pair.reload]
swarm = ["PROJECT-pair"]
[consumers.backend]
secrets = ["session"]
[consumers.backend.reload]
swarm = ["PROJECT-api"]
[consumers.worker]
secrets = ["login"]
[consumers.worker.reload]
swarm = ["PROJECT-work"]
"""


@pytest.fixture
def name():
    return f"moving{os.getpid()}-{next(_NUMBERS)}"


@pytest.fixture
def keyturn(dockerd, tmp_path, name):
    """A project whose versions live in the swarm, each secret with a first one."""
    text = MANIFEST.replace("PROJECT", name).replace("HOST", dockerd.host)
    made = projects.empty(tmp_path, text)
    projects.start(made)
    assert Exit.DONE == made("generate", "--missing", "-e", "production").code
    return made


@pytest.fixture
def service(dockerd, name):
    """Return a function that makes a service, which is removed afterwards."""
    made = []

    def make(what, *secrets):
        found = Service(dockerd, f"{name}-{what}", secrets)
        made.append(found)
        return found

    yield make
    for found in made:
        found.remove()


@pytest.fixture
def api(service, name):
    """The service that has the session secret."""
    return service("api", f"source={name}_production_session_v1,target=session,mode=0400")


def held(keyturn, secret="session"):
    """Return the value that Keyturn has as current."""
    return keyturn("get", secret, "-e", "production").out.decode()


def listed(dockerd, name):
    found = dockerd.docker("secret", "ls", "--format", "{{.Name}}").split()
    return sorted(each for each in found if each.startswith(f"{name}_production_session_"))


def last(keyturn, secret="session"):
    rows = {each["secret"]: each for each in keyturn("status", "-e", "production", "--json").json()}
    found = rows[secret]["last_rotation"]
    return found and found["state"]


def test_rotation_moves_the_file_in_the_container(keyturn, dockerd, api, name):
    """To what Keyturn has as current, and the old secret is gone from the swarm."""
    old = held(keyturn)
    assert api.read("session") == old
    done = keyturn("rotate", "session", "-e", "production", "--now")
    assert Exit.DONE == done.code, done.text
    assert api.read("session") == held(keyturn) != old
    assert f"updated `{api.name}`" in done.text
    assert [f"{name}_production_session_v2"] == listed(dockerd, name)
    assert [("session", f"{name}_production_session_v2", 0o400, "0")] == api.secrets
    assert old not in done.text + done.out.decode()


@pytest.mark.parametrize(
    "failpoint",
    ["store.swarm.written", "deliver.consumer", "deliver.swarm.call", "deliver.swarm.called"],
)
def test_killed_between_promote_and_update(keyturn, dockerd, api, name, failpoint):
    """The service works on with the old one meanwhile, and `--resume` finishes; nothing is left."""
    old = held(keyturn)
    words = ("rotate", "session", "-e", "production")
    killed = keyturn(*words, "--now", environ={"KEYTURN_FAILPOINT": failpoint})
    assert KILLED == killed.code
    if failpoint != "deliver.swarm.called":
        assert api.read("session") == old
    done = keyturn("rotate", "--resume", "session", "-e", "production", "--now")
    assert Exit.DONE == done.code, done.text
    assert "done" == last(keyturn)
    assert api.read("session") == held(keyturn) != old
    assert [f"{name}_production_session_v2"] == listed(dockerd, name)
    # The service's description was changed once, and before that it had the first one.
    assert [f"{name}_production_session_v1"] == [each[1] for each in references(api.before)]


def test_service_that_does_not_come_up_takes_the_rotation_back(keyturn, dockerd, service, name):
    """The version before is current again, and the service runs with it."""
    first = "first-value-0123456789abcdef"
    keyturn("set", "session", "-", "-e", "production", stdin=first.encode())
    api = service("api", f"source={name}_production_session_v2,target=session")
    picky = "case $(cat /run/secrets/session) in first-*) ;; *) exit 7;; esac; sleep 1000"
    dockerd.docker("service", "update", "--quiet", "--args", f"sh -c '{picky}'", api.name)
    failed = keyturn("rotate", "session", "-e", "production", "--now")
    assert Exit.DONE != failed.code
    assert f"the update of the service `{api.name}` was paused" in failed.text
    assert "rolled-back" == last(keyturn)
    assert first == held(keyturn) == api.read("session")
    assert first not in failed.text
    assert [f"{name}_production_session_v4"] == listed(dockerd, name)


def test_service_without_the_secret_is_not_rotated(keyturn, dockerd, api, name):
    """Nothing is changed that would have to be taken back: which service, and what to add."""
    old = held(keyturn)
    dockerd.docker(
        *("service", "update", "--quiet"),
        *("--secret-rm", f"{name}_production_session_v1", api.name),
    )
    failed = keyturn("rotate", "session", "-e", "production", "--now")
    assert Exit.DONE != failed.code
    assert held(keyturn) == old
    assert f"`{api.name}` has no secret under the name `session`" in failed.text
    assert last(keyturn) is None


def test_a_field_without_a_variable_need_not_be_in_the_service(keyturn, service, name):
    """What names the login may be known to the service otherwise; one that has it gets it anew."""
    work = service("work", f"source={name}_production_login_code_v1,target=login_code")
    assert Exit.DONE == keyturn("rotate", "login", "-e", "production", "--now").code
    shown = keyturn("get", "login.code", "-e", "production").out.decode()
    assert work.read("login_code") == shown


def test_two_rotations_of_one_service_at_once(keyturn, service, name):
    """Neither takes the other's update for somebody's who interferes, and both are done."""
    pair = service(
        "pair",
        f"source={name}_production_one_v1,target=one",
        f"source={name}_production_two_v1,target=two",
    )
    words = ["rotate", "-e", "production", "--now"]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda secret: keyturn(*words, secret), ("one", "two")))
    assert [Exit.DONE, Exit.DONE] == [each.code for each in done], [each.text for each in done]
    for secret in ("one", "two"):
        assert held(keyturn, secret) == pair.read(secret)
        assert "done" == last(keyturn, secret)


def test_doctor_tells_of_the_swarm_and_of_services_behind_it(keyturn, dockerd, api, name):
    """As warnings: nothing is broken, and the exit code is that of a store that is well."""
    keyturn("set", "session", "-", "-e", "production", stdin=b"set-by-hand-0123456789abcdef")
    found = keyturn("doctor", "--json")
    assert Exit.DONE == found.code
    said = {each["detail"]: each for each in found.json() if each["what"] == "stores"}
    assert {"warn"} == {each["result"] for each in said.values()}
    assert any("autolock is off" in words for words in said)
    assert any(f"no service `{name}-work`" in words for words in said)
    lines = [words for words in said if f"service `{api.name}` has `session`" in words]
    assert 1 == len(lines)
    assert "docker service update" in said[lines[0]]["fix"]


def test_nothing_is_updated_where_the_store_is_no_swarm(keyturn):
    """No service has what lives in Keyturn's own store: the rotation goes on and says so."""
    for secret in ("session", "login"):
        assert Exit.DONE == keyturn("generate", "--missing", secret, "-e", "laptop").code
    done = keyturn("rotate", "session", "-e", "laptop", "--now")
    assert Exit.DONE == done.code
    assert "not in a swarm" in done.text
