"""The example's own programs, run as Keyturn runs them: one line in, an exit status out."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.demo import database
from keyturn.testing.postgres import PostgresServer
from tests.worlds.opensearch import OpenSearchSimulator

pytestmark = pytest.mark.postgres

EXAMPLE = Path(__file__).parents[2] / "examples" / "clipper"
TOKEN = "ab" * 16
ROWS = 1200


@pytest.fixture(scope="module")
def server():
    """A server with Clipper's database."""
    with PostgresServer() as server:
        database.prepare(server, EXAMPLE / "schema.sql")
        yield server


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a program of the example where *settings* were delivered."""

    def run(program, order, settings=None):
        if settings is not None:
            (tmp_path / "run").mkdir(exist_ok=True)
            lines = [f"{name}='{value}'\n" for name, value in settings.items()]
            (tmp_path / "run" / "backend.env").write_text("".join(lines))
        return subprocess.run(
            [sys.executable, EXAMPLE / program],
            cwd=tmp_path,
            env={"PATH": os.defpath},
            input=json.dumps(order) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def login(server):
    """The delivered settings of a login of its own."""
    password = secrets.token_hex(16)
    with server.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS clipper_r")
        connection.execute(f"CREATE ROLE clipper_r LOGIN IN ROLE clipper PASSWORD '{password}'")
    with server.connect(database=database.DATABASE) as connection:
        connection.execute("TRUNCATE mfa_seeds")
    return {
        "DB_HOST": server.host,
        "DB_PORT": str(server.port),
        "DB_USER": "clipper_r",
        "DB_PASSWORD": password,
        "DB_NAME": database.DATABASE,
        "DB_SSLMODE": "disable",
    }


def key(name):
    return {"id": name, "key": base64.b64encode(secrets.token_bytes(32)).decode()}


def fill(server, one, rows):
    """Store *rows* seeds under the key *one*, as the backend does."""
    code = (
        "import json, sys; from keys import Seeds; rows = int(sys.argv[1])\n"
        "seeds = Seeds({'MFA_ENCRYPTION_KEYS': sys.stdin.read()})\n"
        "made = [seeds.seal(n, b'seed %d' % n) for n in range(rows)]\n"
        "print(json.dumps([[k, n.hex(), s.hex()] for k, n, s in made]))"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, str(rows)],
        cwd=EXAMPLE,
        input=f"{one['id']}:{one['key']}",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    with server.connect(database=database.DATABASE) as connection:
        for user, (key_id, nonce, sealed) in enumerate(json.loads(made)):
            connection.execute(
                "INSERT INTO mfa_seeds VALUES (%s, %s, %s, %s)",
                (user, key_id, bytes.fromhex(nonce), bytes.fromhex(sealed)),
            )


def test_rows_are_re_encrypted_batch_by_batch(run, server, login):
    """Each run does some and counts the rest; at the end one more run finds nothing to do."""
    old, new = key("k1"), key("k2")
    fill(server, old, ROWS)
    order = {"step": "rewrap", "new": new, "old": [old]}
    seen = []
    for _ in range(4):
        ended = run("rewrap_mfa.py", order, login)
        assert ended.returncode == 0, ended.stderr
        seen.append(json.loads(ended.stdout))
    assert [(700, 500), (200, 500), (0, 200), (0, 0)] == [
        (each["remaining"], each["done"]) for each in seen
    ]
    with server.connect(database=database.DATABASE) as connection:
        rows = connection.execute("SELECT key_id, count(*) FROM mfa_seeds GROUP BY 1").fetchall()
    assert [("k2", ROWS)] == rows


def test_a_row_that_cannot_be_read_changes_none(run, server, login):
    """Where the old key is another one, the run breaks and its transaction is undone."""
    old = key("k1")
    fill(server, old, 10)
    ended = run("rewrap_mfa.py", {"new": key("k2"), "old": [key("k1")]}, login)
    assert ended.returncode not in (0, 10, 75, 77)
    assert old["key"] not in ended.stderr
    with server.connect(database=database.DATABASE) as connection:
        rows = connection.execute("SELECT key_id, count(*) FROM mfa_seeds GROUP BY 1").fetchall()
    assert [("k1", 10)] == rows


def test_without_a_login_nothing_is_re_encrypted(run, login):
    """Nothing delivered: a person has to render. A refused login: not now, and no password said."""
    order = {"new": key("k2"), "old": [key("k1")]}
    assert run("rewrap_mfa.py", order).returncode == 77
    wrong = secrets.token_hex(16)
    ended = run("rewrap_mfa.py", order, login | {"DB_PASSWORD": wrong})
    assert (75, "the database did not answer: OperationalError\n") == (
        ended.returncode,
        ended.stderr,
    )


@pytest.fixture
def opensearch():
    """OpenSearch's API of users."""
    with OpenSearchSimulator() as simulator:
        yield simulator


@pytest.fixture
def step(run, opensearch):
    """Return a function that runs a step, and returns its exit status and what it printed."""

    def step(name, *, admin=None, url=None, **given):
        order = {"step": name, "token": None, "current": None, "pending": None, "old": None}
        order |= {"admin": admin or opensearch.admin, **given}
        settings = {"OPENSEARCH_URL": url or opensearch.base_url}
        ended = run("opensearch_user.py", order, settings)
        assert opensearch.admin["password"] not in ended.stderr
        return ended.returncode, ended.stdout

    return step


def test_a_second_user_is_made_and_the_first_deleted(opensearch, step):
    """Both are let in until the old one is retired; a second try of a step does no harm."""
    first = opensearch.first
    made = [json.loads(step("create", token=TOKEN, current=first)[1]) for _ in range(2)][-1]
    assert opensearch.lets_in(first)
    assert opensearch.lets_in(made)
    assert 0 == step("status", pending=made)[0]
    for _ in range(2):
        assert 0 == step("retire", current=made, old=first)[0]
    assert 10 == step("status", pending=first)[0]
    assert {"admin", made["username"]} == set(opensearch.users)


def test_what_was_made_is_withdrawn(opensearch, step):
    """By its name, or by the rotation's token where nothing was stored; what is in use is not."""
    first = opensearch.first
    made = json.loads(step("create", token=TOKEN, current=first)[1])
    assert 10 == step("withdraw", current=made, pending=made)[0]
    assert 0 == step("withdraw", current=first, pending=made)[0]
    step("create", token=TOKEN, current=first)
    assert 0 == step("withdraw", token=TOKEN)[0]
    assert {"admin", first["username"]} == set(opensearch.users)


def test_an_administrator_without_the_right_needs_a_person(opensearch, step):
    """77 for a wrong password, and for a user that may not change users."""
    for admin in (opensearch.first, {"username": "admin", "password": "wrong"}):
        assert (77, "") == step("create", token=TOKEN, admin=admin)


def test_no_answer_is_not_now(opensearch, step, run):
    """75 where nobody answers, or answers with a fault; 77 where nothing tells the address."""
    assert (
        77 == run("opensearch_user.py", {"step": "status", "pending": opensearch.first}).returncode
    )
    url = opensearch.base_url
    opensearch.stop()
    assert 75 == step("status", pending=opensearch.first, url=url)[0]
