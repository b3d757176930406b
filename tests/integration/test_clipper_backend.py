"""The example backend as a process, on a real PostgreSQL, reloaded as Keyturn reloads it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import FieldName
from keyturn.core.value import SecretValue
from keyturn.demo import database
from keyturn.demo.load import Load
from keyturn.generate import Settings, generate_fields
from keyturn.testing.postgres import PostgresServer
from keyturn.testing.redis import RedisServer

pytestmark = pytest.mark.postgres

EXAMPLE = Path(__file__).parents[2] / "examples" / "clipper"
PATIENCE_SECONDS = 20


@pytest.fixture(scope="module")
def server():
    """A server with Clipper's database and two logins, `clipper_a` and `clipper_b`."""
    with PostgresServer() as server:
        database.prepare(server, EXAMPLE / "schema.sql")
        yield server


@pytest.fixture
def passwords(server):
    """Fresh passwords of the two logins."""
    made = {name: secrets.token_hex(16) for name in ("clipper_a", "clipper_b")}
    with server.connect() as connection:
        for name, password in made.items():
            connection.execute(f"DROP ROLE IF EXISTS {name}")
            connection.execute(f"CREATE ROLE {name} LOGIN IN ROLE clipper PASSWORD '{password}'")
    return made


class Backend:
    """A running backend and the ways to talk to it."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.port = int(settings["PORT"])
        self.log = folder / "backend.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, EXAMPLE / "backend.py"],
                cwd=folder,
                env={"PATH": os.defpath, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def get(self, page: str, **headers: str) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        connection.request("GET", page, headers=headers)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        connection.close()
        return answer.status, document

    def wait_ready(self) -> None:
        wait_until((self.folder / "run" / "backend.pid").exists)

    def said(self, words: str) -> None:
        """Wait until the log holds *words*."""
        wait_until(lambda: words in self.log.read_text())


def wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def settings(server, passwords):
    """What the backend needs, on the login `clipper_a`."""
    return {
        "DB_HOST": server.host,
        "DB_PORT": str(server.port),
        "DB_USER": "clipper_a",
        "DB_PASSWORD": passwords["clipper_a"],
        "DB_NAME": database.DATABASE,
        "DB_SSLMODE": "disable",
        "ENVIRONMENT": "development",
        "PORT": str(free_port()),
        "KEYTURN_VERSIONS": "db=1 session=4",
    }


@pytest.fixture
def start(tmp_path, settings):
    """Start backends that end with the test."""
    started = []

    def begin(**changes: str) -> Backend:
        started.append(Backend(tmp_path, settings | changes))
        return started[-1]

    yield begin
    for backend in started:
        backend.process.kill()
        backend.process.wait()


def write_env(folder: Path, settings: dict[str, str]) -> None:
    (folder / "run").mkdir(exist_ok=True)
    text = "".join(f'{name}="{value}"\n' for name, value in settings.items())
    (folder / "run" / "backend.env").write_text(text)


def test_everything_missing_is_named_at_once(tmp_path):
    """An empty environment is refused with the name of each variable that it lacks."""
    found = subprocess.run(
        [sys.executable, EXAMPLE / "backend.py"],
        cwd=tmp_path,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr == (
        "clipper: cannot start: BadSettings: the environment lacks DB_HOST, DB_PORT, DB_USER, "
        "DB_PASSWORD, DB_NAME, DB_SSLMODE, ENVIRONMENT, PORT\n"
    )


def test_a_wrong_password_stops_the_start_and_is_not_shown(start):
    """The database's refusal is told, the password is not, and nothing listens."""
    wrong = secrets.token_hex(16)
    backend = start(DB_PASSWORD=wrong)
    assert backend.process.wait(PATIENCE_SECONDS) == 1
    assert "password authentication failed" in backend.log.read_text()
    assert wrong not in backend.log.read_text()
    assert not (backend.folder / "run" / "backend.pid").exists()


def test_it_answers_with_the_versions_it_was_given(start):
    """Health names the versions, the pool serves clips, a new login says who we are."""
    backend = start()
    backend.wait_ready()
    assert backend.get("/health") == (
        200,
        {"status": "ok", "environment": "development", "versions": {"db": 1, "session": 4}},
    )
    status, document = backend.get("/clips")
    assert (status, len(document["clips"])) == (200, 20)
    assert backend.get("/fresh") == (200, {"login": "clipper_a"})
    assert backend.get("/nothing") == (404, {"reason": "no such page"})
    pid = int((backend.folder / "run" / "backend.pid").read_text())
    assert pid == backend.process.pid


def test_a_dead_login_shows_at_once_and_comes_back(start, server, passwords):
    """New logins and broken connections answer 503 with a reason; later requests recover."""
    backend = start()
    backend.wait_ready()
    with server.connect() as connection:
        connection.execute("ALTER ROLE clipper_a NOLOGIN")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'clipper_a'"
        )
        assert backend.get("/fresh")[0] == 503
        assert [backend.get("/clips")[0] for _ in range(2)] == [503, 503]
        status, document = backend.get("/health")
        assert (status, document["status"]) == (503, "unavailable")
        assert "clipper_a" not in document["reason"]
        connection.execute("ALTER ROLE clipper_a LOGIN")
    assert backend.get("/fresh")[0] == 200
    # Each pooled connection that broke is found once, then opened anew.
    wait_until(lambda: backend.get("/clips")[0] == 200)
    assert passwords["clipper_a"] not in backend.log.read_text()


def test_a_reload_under_load_drops_no_request(start, settings, passwords, server, tmp_path):
    """Back and forth between two logins, each old one cut off, without one failed request."""
    backend = start()
    backend.wait_ready()
    load = Load(backend.port, pages=["/clips", "/fresh"], threads=6, rate=400)
    load.start()
    try:
        for number in range(2, 8):
            new, old = ("clipper_b", "clipper_a") if number % 2 == 0 else ("clipper_a", "clipper_b")
            changed = {
                "DB_USER": new,
                "DB_PASSWORD": passwords[new],
                "KEYTURN_VERSIONS": f"db={number}",
            }
            write_env(tmp_path, settings | changed)
            backend.process.send_signal(signal.SIGHUP)
            wait_until(lambda n=number: backend.get("/health")[1].get("versions") == {"db": n})
            with server.connect() as connection:
                # What retiring the old login does: it is safe once health has the new version.
                connection.execute(f"ALTER ROLE {old} NOLOGIN")
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    f"WHERE usename = '{old}'"
                )
                assert load.wait_for(load.tally().requests + 30, timeout=PATIENCE_SECONDS)
                connection.execute(f"ALTER ROLE {old} LOGIN")
    finally:
        tally = load.stop()
    assert (tally.failed, tally.reasons) == (0, {})
    assert set(tally.logins) == {"clipper_a", "clipper_b"}
    assert database.refusal(server, "clipper_a", SecretValue(b"wrong")) is not None


@pytest.fixture(scope="module")
def signing():
    """Keys as Keyturn delivers them: a signing key, two session secrets, a ring of one key."""
    fields = ("private_key", "public_key", "jwks", "kid")
    made = generate_fields(
        "jwt-signing-key",
        tuple(map(FieldName, fields)),
        Settings(format="pem-base64", key_bits=2048),
        entropy=SystemEntropy(),
    )
    names = ("JWT_PRIVATE_KEY_B64", "JWT_PUBLIC_KEY_B64", "JWT_JWKS", "JWT_KEY_ID")
    texts = {name: made[field].reveal_text() for name, field in zip(names, fields, strict=True)}
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    listed = f"{secrets.token_hex(20)},{secrets.token_hex(20)}"
    return texts | {"SESSION_SECRET": listed, "MFA_ENCRYPTION_KEYS": f"k1:{key}"}


def test_what_it_was_not_given_it_does_not_serve(start):
    """Without signing keys, ring and Redis their pages say so, and the rest works."""
    backend = start()
    backend.wait_ready()
    for page in ("/token", "/seed", "/cached"):
        status, document = backend.get(page)
        assert (status, document["reason"][:19]) == (404, "this service has no")
    assert backend.get("/clips")[0] == 200


def test_it_signs_verifies_and_encrypts_with_what_it_was_given(start, signing):
    """Tokens and sessions are its user's; a seed is stored once, encrypted, and read again."""
    backend = start(**signing)
    backend.wait_ready()
    given = backend.get("/token?user=7")[1]
    bearer = {"Authorization": f"Bearer {given['token']}"}
    assert backend.get("/whoami", Cookie=given["cookie"], **bearer) == (
        200,
        {"user": {"token": "7", "session": "7"}},
    )
    assert backend.get("/whoami")[0] == 401
    assert backend.get("/whoami", Cookie=given["cookie"] + "0")[0] == 401
    assert backend.get("/whoami", Authorization=f"Bearer {given['token'][:-6]}AAAAAA")[0] == 401
    assert backend.get("/seed?user=7") == backend.get("/seed?user=7")
    assert backend.get("/seed?user=7")[1] == {"bytes": 20, "key": "k1"}


@pytest.mark.parametrize(
    "variable", ["JWT_PRIVATE_KEY_B64", "JWT_JWKS", "MFA_ENCRYPTION_KEYS", "REDIS_PORT"]
)
def test_what_cannot_be_used_stops_the_start_and_is_not_shown(start, signing, variable):
    """The variable is named and its value is not."""
    backend = start(**signing | {variable: "unusable-value"})
    assert backend.process.wait(PATIENCE_SECONDS) == 1
    said = backend.log.read_text()
    assert "cannot start: BadSettings" in said
    assert "unusable" not in said


def test_a_redis_that_lets_nobody_in_any_more_refuses_the_reload(start, settings, tmp_path):
    """What worked before has to work after; one that never worked keeps nobody from starting."""
    with RedisServer() as server:
        given = {
            "REDIS_HOST": server.host,
            "REDIS_PORT": str(server.port),
            "REDIS_PASSWORD": server.password.reveal_text(),
        }
        backend = start(**given)
        backend.wait_ready()
        assert backend.get("/cached?user=7") == (200, {"cached": "7"})
        wrong = given | {"REDIS_PASSWORD": secrets.token_hex(16), "KEYTURN_VERSIONS": "redis=2"}
        write_env(tmp_path, settings | wrong)
        backend.process.send_signal(signal.SIGHUP)
        backend.said("Redis does not let us in, and did before")
        assert backend.get("/cached?user=8") == (200, {"cached": "8"})
        assert backend.get("/health")[1]["versions"] == {"db": 1, "session": 4}
    # The server is gone: its page fails, and nothing else does.
    assert backend.get("/cached")[0] == 503
    assert backend.get("/clips")[0] == 200
    assert wrong["REDIS_PASSWORD"] not in backend.log.read_text()


@pytest.mark.parametrize("fault", ["file", "variable", "login"])
def test_a_reload_that_cannot_work_changes_nothing(start, settings, passwords, tmp_path, fault):
    """Without a file, with an incomplete one or a refused login it stays on the old version."""
    backend = start()
    backend.wait_ready()
    wrong = secrets.token_hex(16)
    if fault == "variable":
        write_env(tmp_path, {"DB_USER": "clipper_b", "KEYTURN_VERSIONS": "db=2"})
    if fault == "login":
        write_env(tmp_path, settings | {"DB_PASSWORD": wrong, "KEYTURN_VERSIONS": "db=2"})
    backend.process.send_signal(signal.SIGHUP)
    backend.said("reload refused")
    assert backend.get("/health")[1]["versions"] == {"db": 1, "session": 4}
    assert backend.get("/fresh") == (200, {"login": "clipper_a"})
    assert not {wrong, *passwords.values()} & set(backend.log.read_text().split())


def test_it_ends_cleanly_when_told_to(start, server):
    """SIGTERM lets requests finish, closes the sessions and removes the pid file."""
    backend = start()
    backend.wait_ready()
    backend.process.send_signal(signal.SIGTERM)
    assert backend.process.wait(PATIENCE_SECONDS) == 0
    assert backend.log.read_text().endswith("clipper: stopped\n")
    assert not (backend.folder / "run" / "backend.pid").exists()
    with server.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'clipper_a'"
        wait_until(lambda: connection.execute(query).fetchone() == (0,))
