"""The demo's PostgreSQL: what a platform team would hand over, and what it can tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.errors import Unavailable

if TYPE_CHECKING:
    from keyturn.testing.postgres import PostgresServer

__all__ = ["ADMIN", "DATABASE", "OWNER", "prepare", "refusal"]

OWNER = "clipper"
DATABASE = "clipper"
ADMIN = "keyturn_admin"


def prepare(server: PostgresServer, schema: Path, *, entropy: Entropy | None = None) -> SecretValue:
    """
    Make the database, the role that owns it, and a login that may administer logins.

    Args:
        schema: SQL run in the new database.

    Returns:
        The password of the login `ADMIN`, which is no superuser.
    """
    password = SecretValue((entropy or SystemEntropy()).random_bytes(20).hex().encode())
    with server.connect() as connection:
        # The server's log must not hold a password, so it is sent as a SCRAM verifier.
        verifier = connection.pgconn.encrypt_password(
            password.reveal(), ADMIN.encode(), b"scram-sha-256"
        ).decode()
        for statement in (
            f"CREATE ROLE {OWNER} NOLOGIN",
            f"CREATE DATABASE {DATABASE} OWNER {OWNER}",
            f"CREATE ROLE {ADMIN} LOGIN CREATEROLE PASSWORD '{verifier}'",
            f"GRANT {OWNER} TO {ADMIN} WITH ADMIN OPTION",
        ):
            connection.execute(statement.encode())
    with server.connect(database=DATABASE) as connection:
        connection.execute(schema.read_bytes())
    return password


def refusal(server: PostgresServer, username: str, password: SecretValue) -> str | None:
    """
    Try to log in and return the server's words of refusal, or None where it let us in.

    Raises:
        Unavailable: No server answered, so nothing was refused.
    """
    import psycopg

    try:
        server.connect(user=username, password=password, database=DATABASE).close()
    except psycopg.OperationalError as error:
        _, answered, words = str(error).rpartition("FATAL:")
        if not answered:
            raise Unavailable("the database did not answer", hint="see its log") from error
        return words.strip()
    return None
