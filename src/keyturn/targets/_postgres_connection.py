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
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from keyturn._internal import failpoints
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, OutcomeUnknown, Rejected, Unavailable

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "APPLICATION_NAME",
    "DENIED",
    "LOGIN_REFUSED",
    "Connection",
    "PostgresTarget",
    "admin",
    "log_in",
    "transaction",
]

Connection: TypeAlias = "psycopg.Connection[tuple[object, ...]]"

# Tells our sessions from an application's, at the server.
APPLICATION_NAME = "keyturn"
DENIED = "target.denied"
LOGIN_REFUSED = "target.login-refused"

# The server's words for "this name and password do not log in"; a login that fails
# has no SQLSTATE in libpq, so the text is all there is.
_REFUSALS = ("password authentication failed", "is not permitted to log in")
_BOUND_EVERY_STATEMENT = """
SELECT pg_catalog.set_config('statement_timeout', '15s', false),
       pg_catalog.set_config('lock_timeout', '5s', false),
       pg_catalog.set_config('idle_in_transaction_session_timeout', '60s', false)
"""
# "KTRN": one Keyturn at a time changes roles, as two ALTER ROLE of one row fail.
_ADVISORY_LOCK = 0x4B54524E
_TCP_TIMEOUT_MILLISECONDS = 15_000
_WORDS_LIMIT = 200
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
    try:
        with _no_service():
            connection = psycopg.connect(
                **_parameters(target), user=user, password=password.reveal_text(), autocommit=True
            )
    except psycopg.Error as error:
        # Without its cause: libpq's own error is about a connection string with a password.
        raise _login_error(target, user, str(error)) from None
    try:
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
        Rejected, Unavailable: As `log_in`.
    """
    with log_in(target, target.admin_user, target.admin_password) as connection:
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


def _login_error(target: PostgresTarget, user: str, text: str) -> KeyturnError:
    words = _last_line(text)
    if _is_refusal(words):
        return Rejected(
            f"PostgreSQL at `{target}` refused the login of `{user}`: {words}",
            hint="check the user name and password, and that the role has LOGIN",
            code=LOGIN_REFUSED,
        )
    if "authentication method requirement" in words:
        return Rejected(
            f"PostgreSQL at `{target}` did not ask `{user}` for a SCRAM password: {words}",
            hint="change `trust` or `password` to `scram-sha-256` in its pg_hba.conf",
            code="target.authentication",
        )
    if any(part in words for part in ("pg_hba.conf", "does not exist", "SSL", "certificate")):
        return Rejected(
            f"PostgreSQL at `{target}` does not take connections of `{user}`: {words}",
            hint="check the secret's target in keyturn.toml, and the server's pg_hba.conf",
            code="target.connection",
        )
    return Unavailable(
        f"PostgreSQL at `{target}` cannot be reached: {words}",
        hint="start the server or check host and port, then run the command again",
        code="target.unavailable",
    )


def _is_refusal(words: str) -> bool:
    if words.startswith("role ") and words.endswith("does not exist"):
        return True
    return any(part in words for part in _REFUSALS)


def _last_line(text: str) -> str:
    # libpq lists every address it tried; the server's own words follow the severity.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason given"
    for line in reversed(lines):
        if "FATAL:" in line:
            last = line.partition("FATAL:")[2].strip()
            break
    return last[:_WORDS_LIMIT]


@contextlib.contextmanager
def _translated(target: PostgresTarget) -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise _statement_error(target, error) from None


def _statement_error(target: PostgresTarget, error: psycopg.Error) -> KeyturnError:
    state = error.sqlstate or ""
    parts = (error.diag.message_primary, error.diag.message_detail)
    words = ": ".join(part for part in parts if part)[:_WORDS_LIMIT] or type(error).__name__
    if state == "42501":
        named = re.search(r'role "([^"]+)"', words)
        role = f'"{named[1]}"' if named else "the application's role"
        return Rejected(
            f"`{target.admin_user}` may not do this at `{target}`: {words}",
            hint=f'as a superuser: ALTER ROLE "{target.admin_user}" CREATEROLE;'
            f' GRANT {role} TO "{target.admin_user}" WITH ADMIN OPTION',
            code=DENIED,
        )
    # No SQLSTATE: the connection broke. 08, 53, 57: connection, resources, shutdown or
    # cancel. 40, 55P03: lost a race for a row or lock. XX000: "tuple concurrently updated".
    if not state or state.startswith(("08", "53", "57", "40")) or state in {"55P03", "XX000"}:
        return Unavailable(
            f"PostgreSQL at `{target}` did not finish: {words}",
            hint="nothing was changed by this statement; run the command again",
            code="target.unavailable",
        )
    return Rejected(f"PostgreSQL at `{target}` answered {state}: {words}", code="target.rejected")
