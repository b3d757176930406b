"""What the demo's database lets whom do, on every PostgreSQL that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.core.value import SecretValue
from keyturn.demo import database
from keyturn.errors import Unavailable
from keyturn.testing.postgres import PostgresServer, available_versions

pytestmark = pytest.mark.postgres

SCHEMA = Path(__file__).parents[2] / "examples" / "clipper" / "schema.sql"


@pytest.mark.parametrize("version", available_versions())
def test_the_administrator_is_no_superuser_and_its_password_is_in_no_log(version):
    """It may make logins for the owner's members; the log saw a verifier only."""
    with PostgresServer(version) as server:
        password = database.prepare(server, SCHEMA)
        with server.connect(
            user=database.ADMIN, password=password, database=database.DATABASE
        ) as connection:
            query = "SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = session_user"
            assert connection.execute(query).fetchone() == (False, True)
            connection.execute("CREATE ROLE clipper_a LOGIN IN ROLE clipper")
        with server.connect(database=database.DATABASE) as connection:
            assert connection.execute("SELECT count(*) FROM clips").fetchone() == (200,)
        assert password.reveal() not in server.log_path.read_bytes()


def test_a_refusal_has_the_servers_words_and_silence_is_none():
    """A wrong password and an unknown login are refused; a dead server refuses nobody."""
    server = PostgresServer()
    with server:
        password = database.prepare(server, SCHEMA)
        assert database.refusal(server, database.ADMIN, password) is None
        wrong = SecretValue(b"wrong")
        expected = 'password authentication failed for user "keyturn_admin"'
        assert database.refusal(server, database.ADMIN, wrong) == expected
        assert database.refusal(server, "nobody_here", wrong) is not None
    with pytest.raises(Unavailable):
        database.refusal(server, database.ADMIN, password)
