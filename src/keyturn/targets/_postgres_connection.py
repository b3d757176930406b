"""
Connections to PostgreSQL: stated in full, never in clear over a network, errors translated.

Nothing of a connection comes from the environment or from files of the user: a
`PGSERVICE` or `PGPASSFILE` that happens to be set must not move a rotation to
another server.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from keyturn._internal import failpoints
from keyturn.core.value import SecretValue
from keyturn.errors import OutcomeUnknown, Rejected
from keyturn.targets._postgres_dial import LIBPQ_NEEDED, Refused, dial
from keyturn.targets._postgres_errors import (
    ADMIN_REFUSED,
    DENIED,
    LOGIN_REFUSED,
    NO_CONNECTION_LEFT,
    login_error,
    statement_error,
)

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "ADMIN_REFUSED",
    "APPLICATION_NAME",
    "DENIED",
    "LOGIN_REFUSED",
    "NO_CONNECTION_LEFT",
    "Connection",
    "PostgresTarget",
    "admin",
    "log_in",
    "require_libpq",
    "transaction",
]

Connection: TypeAlias = "psycopg.Connection[tuple[object, ...]]"

# Tells our sessions from an application's, at the server.
APPLICATION_NAME = "keyturn"

_BOUND_EVERY_STATEMENT = """
SELECT pg_catalog.set_config('statement_timeout', '15s', false),
       pg_catalog.set_config('lock_timeout', '5s', false),
       pg_catalog.set_config('idle_in_transaction_session_timeout', '60s', false)
"""
# "KTRN": one Keyturn at a time changes roles, as two ALTER ROLE of one row fail.
_ADVISORY_LOCK = 0x4B54524E
_TCP_TIMEOUT_MILLISECONDS = 15_000
_ENCRYPTED = ("require", "verify-ca", "verify-full")

# Guards os.environ while `PGSERVICE` is hidden from libpq.
_environment_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """
    A PostgreSQL server, and who may administer logins there.

    Args:
        admin_user: A role with CREATEROLE; on PostgreSQL 16 and later it also needs
            ADMIN OPTION on the roles that it did not create.
        owner_role: The role that owns the application's objects; see `TwoLogins`.
        logins: The two login roles; `OWNER_a` and `OWNER_b` where not given.
        reserved: Logins that other secrets use, each with the secret that does: these
            are neither given a password nor shut out.
        admin_secret: The secret that holds the administrator's login, for hints.
        ca_file: Certificates to verify the server with; libpq's default where None.
    """

    host: str
    port: int
    database: str
    sslmode: str
    admin_user: str
    admin_password: SecretValue
    owner_role: str | None = None
    logins: tuple[str, str] | None = None
    connect_timeout_seconds: int = 10
    ca_file: str | None = None
    admin_secret: str | None = None
    reserved: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"


@contextlib.contextmanager
def log_in(target: PostgresTarget, user: str, password: SecretValue) -> Iterator[Connection]:
    """
    Connect as *user*; each statement is its own transaction.

    Raises:
        Rejected: The server refused the login (code `target.login-refused`), lets
            anybody in without a password, or the connection would be in clear.
        Unavailable: No answer.
    """
    _require_driver()
    import psycopg

    _require_encryption(target)
    parameters = {**_parameters(target), "user": user, "password": password.reveal_text()}
    with _no_service():
        opened = dial(parameters, timeout_seconds=target.connect_timeout_seconds)
    if isinstance(opened, Refused):
        raise login_error(str(target), user, opened)
    connection = psycopg.Connection(opened)
    try:
        connection.autocommit = True
        with _translated(target):
            connection.execute(_BOUND_EVERY_STATEMENT)
            yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def admin(target: PostgresTarget) -> Iterator[Connection]:
    """
    Connect as the administrator.

    Raises:
        Rejected: As `log_in`, but a refused login has the code `target.admin-refused`:
            it says nothing of the login that is rotated.
        Unavailable: As `log_in`.
    """
    with contextlib.ExitStack() as opened:
        try:
            connection = opened.enter_context(
                log_in(target, target.admin_user, target.admin_password)
            )
        except Rejected as error:
            if error.code != LOGIN_REFUSED:
                raise
            named = target.admin_secret or "NAME, for the secret named by `admin` in the target"
            raise Rejected(
                f"{error.message}; it is the administrator's",
                hint=f"give Keyturn the password that works: keyturn set {named}",
                code=ADMIN_REFUSED,
            ) from error
        yield connection


@contextlib.contextmanager
def transaction(connection: Connection, *, point: str) -> Iterator[None]:
    """
    Run the block in one transaction of the target.

    Args:
        point: Names the failpoints `postgres.POINT.commit` and `.committed`.

    Raises:
        OutcomeUnknown: The connection broke during the commit.
    """
    import psycopg

    connection.execute("BEGIN")
    try:
        connection.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
        yield
        failpoints.hit(f"postgres.{point}.commit")
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        raise
    try:
        connection.execute("COMMIT")
    except psycopg.OperationalError:
        raise OutcomeUnknown(
            "the connection to PostgreSQL broke during a commit",
            hint="run the command again: it asks the server what is true first",
        ) from None
    failpoints.hit(f"postgres.{point}.committed")


def _parameters(target: PostgresTarget) -> dict[str, Any]:
    # Every parameter that has an environment variable, so that none is read.
    parameters: dict[str, Any] = {
        "host": target.host,
        "hostaddr": "",
        "port": target.port,
        "dbname": target.database,
        "sslmode": target.sslmode,
        "passfile": os.devnull,
        "options": "",
        "application_name": APPLICATION_NAME,
        "connect_timeout": target.connect_timeout_seconds,
        "tcp_user_timeout": _TCP_TIMEOUT_MILLISECONDS,
        "target_session_attrs": "read-write",
        "load_balance_hosts": "disable",
        "gssencmode": "disable",
        "client_encoding": "UTF8",
        # A server that asks for no password would make every check of one worthless,
        # and one that asks for it in clear would be given it.
        "require_auth": "scram-sha-256,md5",
    }
    if target.ca_file is not None:
        parameters["sslrootcert"] = target.ca_file
    return parameters


def _require_driver() -> None:
    import importlib.util

    if importlib.util.find_spec("psycopg") is None:
        raise Rejected(
            "the PostgreSQL driver is not installed",
            hint="pip install 'psycopg[binary]'",
            code="target.driver",
        )
    from psycopg import pq

    require_libpq(pq.version())


def require_libpq(version: int) -> None:
    """
    Return where libpq of *version* tells why a login failed.

    Raises:
        Rejected: It does not (code `target.driver`).
    """
    if version < LIBPQ_NEEDED:
        raise Rejected(
            f"the PostgreSQL driver uses libpq {version // 10000}, and Keyturn needs"
            f" {LIBPQ_NEEDED // 10000} or later, which tells why a login failed",
            hint="pip install --upgrade 'psycopg[binary]', which brings its own libpq",
            code="target.driver",
        )


@contextlib.contextmanager
def _no_service() -> Iterator[None]:
    # libpq has no parameter that says "no service": the variable itself must go.
    if "PGSERVICE" not in os.environ:
        yield
        return
    with _environment_lock:
        hidden = os.environ.pop("PGSERVICE", None)
        try:
            yield
        finally:
            if hidden is not None:
                os.environ["PGSERVICE"] = hidden


def _require_encryption(target: PostgresTarget) -> None:
    if target.sslmode in _ENCRYPTED or all(map(_is_local, target.host.split(","))):
        return
    raise Rejected(
        f"the connection to `{target.host}` would not be encrypted for certain:"
        f" sslmode is `{target.sslmode}`",
        hint='set sslmode to "verify-full" (or "require" where the server has no certificate'
        " that can be verified); only loopback may go without",
        code="target.plaintext",
    )


def _is_local(host: str) -> bool:
    if host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def _translated(target: PostgresTarget) -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise statement_error(str(target), target.admin_user, error) from None
