"""`keyturn rotate` with Compose: a container made anew has the new file, whatever is killed."""

from __future__ import annotations

import itertools
import os
import signal

import pytest

from keyturn.cli.exits import Exit
from tests.cli import projects

_NUMBERS = itertools.count(1)
KILLED = -signal.SIGKILL
MANIFEST = """\
[project]
name = "clipper"
[environments.development]
store = "files"
[stores.files]
kind = "compose"
folder = "secrets"
uid = 1000
gid = 1000
[secrets.session]
kind = "generated"
variable = "SESSION_SECRET"
[consumers.backend]
secrets = ["session"]
[consumers.backend.reload]
compose = "backend"
"""
COMPOSE = """\
name: PROJECT
services:
  backend:
    image: IMAGE
    user: "1000:1000"
    network_mode: none
    stop_grace_period: 0s
    command: ["sleep", "1000"]
    secrets: [session]
secrets:
  session: {file: ./secrets/development/session}
"""


@pytest.fixture
def keyturn(dockerd, tmp_path):
    """A project whose versions live in files of Compose, with a container that has the first."""
    if "v2" not in dockerd.docker("compose", "version", check=False):
        pytest.skip("docker compose is not installed")
    made = projects.empty(tmp_path, MANIFEST)
    made.environment.update(dockerd.environment)
    name = f"composing{os.getpid()}-{next(_NUMBERS)}"
    text = COMPOSE.replace("PROJECT", name).replace("IMAGE", dockerd.image)
    (made.folder / "compose.yaml").write_text(text)
    projects.start(made)
    assert Exit.DONE == made("generate", "--missing").code
    dockerd.docker("compose", "up", "-d", folder=made.folder)
    yield made
    dockerd.docker("compose", "down", "--timeout", "0", folder=made.folder, check=False)


@pytest.fixture
def inside(dockerd, keyturn):
    """Return a function that runs words in the container that runs now."""

    def run(*words):
        return dockerd.docker("compose", "exec", "-T", "backend", *words, folder=keyturn.folder)

    return run


def held(keyturn):
    return keyturn("get", "session").out.decode()


def test_rotation_makes_the_container_anew(keyturn, inside):
    """With the new value, which the container's own user alone may read."""
    old = held(keyturn)
    assert old == inside("cat", "/run/secrets/session")
    done = keyturn("rotate", "session", "--now")
    assert Exit.DONE == done.code, done.text
    assert "ran `docker`" in done.text
    assert held(keyturn) == inside("cat", "/run/secrets/session") != old
    assert "400 1000" == inside("stat", "-c", "%a %u", "/run/secrets/session")
    assert old not in done.text


@pytest.mark.parametrize(
    "failpoint", ["store.compose.journal.renamed", "store.compose.written", "deliver.consumer"]
)
def test_killed_before_the_container_is_made_anew(keyturn, inside, failpoint):
    """It works on with the old one, and `--resume` brings it the new one."""
    old = held(keyturn)
    assert KILLED == keyturn("rotate", "session", "--now", environ=armed(failpoint)).code
    assert old == inside("cat", "/run/secrets/session")
    done = keyturn("rotate", "--resume", "session", "--now")
    assert Exit.DONE == done.code, done.text
    assert held(keyturn) == inside("cat", "/run/secrets/session") != old


def armed(failpoint):
    return {"KEYTURN_FAILPOINT": failpoint}


def test_container_that_cannot_be_made_takes_the_rotation_back(keyturn, inside):
    """The file is as it was; what failed is told, without a value."""
    old = held(keyturn)
    place = keyturn.folder / "compose.yaml"
    text = place.read_text()
    place.write_text(text.replace("backend:", "other:", 1))
    failed = keyturn("rotate", "session", "--now")
    assert Exit.DONE != failed.code
    assert "no such service: backend" in failed.text
    assert old == held(keyturn)
    place.write_text(text)
    keyturn("rotate", "--resume", "session", "--now")
    (row,) = keyturn("status", "--json").json()
    assert "rolled-back" == row["last_rotation"]["state"]
    assert old == held(keyturn) == inside("cat", "/run/secrets/session")


def test_doctor_tells_of_a_file_that_the_container_cannot_read(keyturn):
    """As a warning, with the file's name."""
    (keyturn.folder / "secrets" / "development" / "session").chmod(0o444)
    found = keyturn("doctor", "--json")
    assert Exit.DONE == found.code
    (told,) = [each for each in found.json() if each["what"] == "stores"]
    assert "warn" == told["result"]
    assert "secrets/development/session" in told["detail"]
