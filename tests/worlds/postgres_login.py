"""A PostgreSQL server whose application logs in as the owner of its tables."""

from __future__ import annotations

import contextlib

import psycopg

from keyturn.testing.postgres import PostgresServer
from tests.conftest import make_database
from tests.worlds.base import Setup


class PostgresWorld:
    def __init__(self, version="any"):
        self.server = PostgresServer(version).start()
        try:
            self.database = make_database(self.server)
        except BaseException:
            self.server.stop()
            raise
        self.setup = Setup(
            kind="postgres-login",
            fields=("username", "password"),
            target={
                "host": self.server.host,
                "port": self.server.port,
                "database": self.database.name,
                "sslmode": "disable",
            },
            first={
                "username": self.database.application_user,
                "password": self.database.application_password.reveal_text(),
            },
            admin={
                "username": self.database.admin_user,
                "password": self.database.admin_password.reveal_text(),
            },
        )

    def connect(self, values):
        return psycopg.connect(
            host=self.server.host,
            port=self.server.port,
            dbname=self.database.name,
            user=values["username"],
            password=values["password"],
            autocommit=True,
        )

    def use(self, values):
        try:
            with self.connect(values) as connection:
                connection.execute("SELECT count(*) FROM clip")
        except psycopg.OperationalError:
            return False
        return True

    def credentials(self):
        """Return the roles of the application that may log in now."""
        rows = self.database.execute(
            "SELECT rolname FROM pg_roles WHERE rolcanlogin"
            f" AND rolname ~ '^{self.database.name}(_[ab]|_rehearsal.*)?$'"
        )
        return {row[0] for row in rows}

    @contextlib.contextmanager
    def session(self, values):
        """Stay connected; yields whether the server still has that session."""
        with self.connect(values) as connection:
            pid = connection.info.backend_pid
            yield lambda: bool(
                self.database.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}")
            )

    def restart(self):
        self.server.restart()

    def supply(self):
        raise NotImplementedError

    def person_ends_old(self):
        raise NotImplementedError

    def close(self):
        self.server.stop()


def open_world():
    return PostgresWorld()
