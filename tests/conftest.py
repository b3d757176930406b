"""Fixtures for every suite: a home of its own for each test, and real PostgreSQL servers."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass

import pytest

from keyturn.core.ids import FieldName
from keyturn.core.value import SecretValue
from keyturn.errors import NotFound
from keyturn.testing.moto import MotoServer
from keyturn.testing.openbao import OpenBaoServer
from keyturn.testing.postgres import PostgresServer

_DATABASES = itertools.count(1)


@dataclass(frozen=True)
class ClipperDatabase:
    """
    A fresh database, an administrator without superuser, and the application's login.

    The application's login owns the table `clip`, as in the usual first set-up.
    """

    server: PostgresServer
    name: str
    admin_user: str
    admin_password: SecretValue
    application_user: str
    application_password: SecretValue

    @property
    def application_values(self):
        """The application's login as the fields of a version."""
        return {
            FieldName("username"): SecretValue.from_text(self.application_user),
            FieldName("password"): self.application_password,
        }

    def execute(self, sql):
        """Run *sql* as the superuser and return the rows it has."""
        with self.server.connect(database=self.name) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def connect(self, values):
        """Log in with *values*."""
        return self.server.connect(
            user=values["username"].reveal_text(),
            password=values["password"],
            database=self.name,
        )


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """Keep every test away from the home, the keys and the settings of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KEYTURN_HOME", str(home / "keyturn"))
    for name in ("KEYTURN_ENVIRONMENT", "KEYTURN_FAILPOINT", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture(scope="session")
def postgres_servers():
    """Return a function from a major version, or `any`, to a server that runs."""
    running = {}

    def server(version="any"):
        if version not in running:
            try:
                running[version] = PostgresServer(version).start()
            except NotFound as error:
                pytest.skip(error.message)
        return running[version]

    yield server
    for started in running.values():
        started.stop()


@pytest.fixture(scope="session")
def openbao():
    """A real OpenBao server, with an empty KV engine at `secret/`."""
    server = OpenBaoServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def moto_server():
    """An emulator of AWS."""
    server = MotoServer().start()
    yield server
    server.stop()


@pytest.fixture
def postgres(request, postgres_servers):
    """A running server; parametrise indirectly with a major version to choose one."""
    return postgres_servers(getattr(request, "param", "any"))


@pytest.fixture
def database(postgres):
    """A fresh database with its roles, dropped afterwards."""
    made = make_database(postgres)
    yield made
    drop_database(made)


def make_database(server):
    """Return a fresh `ClipperDatabase` on *server*."""
    number = next(_DATABASES)
    name = f"clipper{number}"
    made = ClipperDatabase(
        server=server,
        name=name,
        admin_user=f"{name}_admin",
        admin_password=SecretValue.from_text(secrets.token_hex(16)),
        application_user=name,
        application_password=SecretValue.from_text(secrets.token_hex(16)),
    )
    with server.connect() as connection:
        # Here the test plays the person who sets the server up; nothing is logged.
        connection.execute("SET log_statement = 'none'")
        connection.execute(
            f"CREATE ROLE {made.admin_user} LOGIN CREATEROLE"
            f" PASSWORD '{made.admin_password.reveal_text()}'"
        )
        connection.execute(
            f"CREATE ROLE {made.application_user} LOGIN"
            f" PASSWORD '{made.application_password.reveal_text()}'"
        )
        connection.execute(f"GRANT {made.application_user} TO {made.admin_user} WITH ADMIN OPTION")
        connection.execute(f"CREATE DATABASE {name} OWNER {made.application_user}")
    with made.connect(made.application_values) as connection:
        connection.execute("CREATE TABLE clip (id int PRIMARY KEY)")
    return made


def drop_database(made):
    """Remove the database and every role that has its name in it."""
    with made.server.connect() as connection:
        connection.execute(f"DROP DATABASE {made.name} WITH (FORCE)")
        rows = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname ~ %s", (f"^{made.name}(_|$)",)
        ).fetchall()
        # All in one statement: on 16 and later they are each other's grantors.
        names = ", ".join('"{}"'.format(row[0].replace('"', '""')) for row in rows)
        connection.execute(f"DROP OWNED BY {names}")
        connection.execute(f"DROP ROLE {names}")
