"""
Questions about roles of a PostgreSQL server, and changes to them.

Names and values go through the driver's quoting only. A password leaves as a
SCRAM verifier made here, because the server may log the statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString, cast

from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, Unavailable
from keyturn.targets._postgres_connection import APPLICATION_NAME, Connection
from keyturn.targets._postgres_errors import denied

if TYPE_CHECKING:
    from psycopg import sql

__all__ = [
    "Role",
    "act_as_itself",
    "acts_as",
    "attributes",
    "comment",
    "copy_settings",
    "count_sessions",
    "create",
    "direct_rights",
    "disable",
    "drop",
    "enable",
    "end_sessions",
    "find",
    "grant",
    "may_change",
    "may_create",
    "memberships",
    "refuse_unfit",
    "refuse_unfit_name",
    "set_password",
]

# PostgreSQL cuts longer names without a word, and two names could become one.
_NAME_LIMIT_BYTES = 63
_GRANT_OPTIONS_SINCE = 160000
_END_ROUNDS = 500
_END_PAUSE_SECONDS = 0.02
# A login that was let in may not be listed yet: gone means not seen twice.
_END_LOOKS = 2
# Settings that say who acts, which are not copied from one login to the other.
_IDENTITY_SETTINGS = frozenset({"role", "session_authorization"})
# In the order of the question below.
_ATTRIBUTES = ("CREATEDB", "CREATEROLE", "BYPASSRLS")

# A setting's database ("" for all) and name.
_SettingKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Role:
    """What is asked of a role."""

    name: str
    superuser: bool
    replication: bool
    login: bool
    connection_limit: int


def find(connection: Connection, name: str) -> Role | None:
    """Return the role *name*, or None."""
    row = connection.execute(
        "SELECT rolname, rolsuper, rolreplication, rolcanlogin, rolconnlimit"
        " FROM pg_catalog.pg_roles WHERE rolname = %s",
        (name,),
    ).fetchone()
    return None if row is None else Role(*cast("tuple[str, bool, bool, bool, int]", row))


def refuse_unfit_name(name: str) -> None:
    """
    Return where *name* can be a role's.

    Raises:
        Rejected: It is a system's name, or too long.
    """
    if name.startswith("pg_") or "\0" in name or not name:
        raise Rejected(f"`{name}` is a name that PostgreSQL keeps for itself", code="target.role")
    if len(name.encode("utf-8")) > _NAME_LIMIT_BYTES:
        raise Rejected(
            f"the role name `{name}` is longer than {_NAME_LIMIT_BYTES} bytes",
            hint='name shorter ones: logins = ["app_a", "app_b"] in the secret\'s target',
            code="target.role",
        )


def refuse_unfit(connection: Connection, name: str) -> Role | None:
    """
    Return the role *name*, or None where there is none.

    Raises:
        Rejected: It has rights over the whole server, which no application's login has.
    """
    refuse_unfit_name(name)
    role = find(connection, name)
    if role is not None and (role.superuser or role.replication):
        what = "a superuser" if role.superuser else "a replication role"
        raise Rejected(
            f"`{name}` is {what}, and Keyturn does not rotate those",
            hint="give the application a role of its own that owns its tables",
            code="target.role",
        )
    return role


def acts_as(connection: Connection, login: str) -> str | None:
    """Return the role that *login* takes on when it logs in (`ALTER ROLE ... SET role`)."""
    return _settings(connection, login).get(("", "role"))


def act_as_itself(connection: Connection) -> None:
    """Put aside the role that the session's login takes on: a login has rights on itself."""
    connection.execute("SET ROLE NONE")


def memberships(connection: Connection, name: str) -> set[str]:
    """Return the roles that *name* was granted, directly."""
    rows = connection.execute(
        "SELECT granted.rolname FROM pg_catalog.pg_auth_members m"
        " JOIN pg_catalog.pg_roles granted ON granted.oid = m.roleid"
        " JOIN pg_catalog.pg_roles member ON member.oid = m.member"
        " WHERE member.rolname = %s",
        (name,),
    ).fetchall()
    return {cast("str", row[0]) for row in rows}


def direct_rights(connection: Connection, name: str) -> int:
    """Return how many objects *name* itself owns, has grants on, or is in a policy of."""
    row = connection.execute(
        "SELECT count(*) FROM pg_catalog.pg_shdepend d"
        " JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid"
        " WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass"
        " AND d.deptype IN ('o', 'a', 'r') AND r.rolname = %s",
        (name,),
    ).fetchone()
    return cast("int", row[0]) if row is not None else 0


def create(connection: Connection, name: str) -> None:
    """Create *name* with no attribute but INHERIT: it cannot log in."""
    _alter(connection, "CREATE ROLE {} NOLOGIN INHERIT", name)


def drop(connection: Connection, name: str) -> None:
    """Drop *name*, which owns nothing."""
    _alter(connection, "DROP ROLE {}", name)


def comment(connection: Connection, name: str, text: str) -> None:
    """Make *text* the comment of *name*."""
    from psycopg import sql

    statement = sql.SQL("COMMENT ON ROLE {} IS {}")
    _execute(connection, statement.format(sql.Identifier(name), sql.Literal(text)), name)


def grant(connection: Connection, role: str, *, to: str) -> None:
    """Make *to* a member of *role* that has its rights and may act as it."""
    text = "GRANT {} TO {}"
    if connection.info.server_version >= _GRANT_OPTIONS_SINCE:
        text += " WITH INHERIT TRUE, SET TRUE"
    _alter(connection, text, role, to)


def enable(
    connection: Connection,
    login: str,
    password: SecretValue,
    *,
    acting_as: str | None = None,
    connection_limit: int | None = None,
) -> None:
    """Let *login* log in with *password*, and nothing else."""
    from psycopg import sql

    _alter(connection, "ALTER ROLE {} LOGIN INHERIT VALID UNTIL 'infinity'", login)
    if connection_limit is not None:
        limit = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}")
        numbered = limit.format(sql.Identifier(login), sql.Literal(connection_limit))
        _execute(connection, numbered, login)
    if acting_as is not None:
        _alter(connection, "ALTER ROLE {} SET role TO {}", login, acting_as)
    set_password(connection, login, password)


def set_password(connection: Connection, login: str, password: SecretValue) -> None:
    """Make *password* the only one of *login*."""
    from psycopg import sql

    verifier = connection.pgconn.encrypt_password(
        password.reveal(), login.encode("utf-8"), b"scram-sha-256"
    )
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(
        sql.Identifier(login), sql.Literal(verifier.decode("ascii"))
    )
    _execute(connection, statement, login)


def disable(connection: Connection, login: str) -> None:
    """Let *login* log in no more; what it owns and its memberships stay."""
    _alter(connection, "ALTER ROLE {} NOLOGIN PASSWORD NULL", login)


def copy_settings(connection: Connection, *, source: str, to: str) -> None:
    """Give *to* the role-level settings of *source* (`search_path` and the like), no others."""
    wanted, had = _settings(connection, source), _settings(connection, to)
    for key in had.keys() - wanted.keys():
        if key[1] not in _IDENTITY_SETTINGS:
            _alter_setting(connection, "RESET {}", key, to)
    for key, value in wanted.items():
        if key[1] in _IDENTITY_SETTINGS or had.get(key) == value:
            continue
        # The stored text is put in force for this transaction and taken over from
        # there: quoting it again would turn a list such as search_path into one name.
        connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (key[1], value))
        _alter_setting(connection, "SET {} FROM CURRENT", key, to)


def attributes(connection: Connection, name: str) -> set[str]:
    """Return the attributes of *name* that give rights and that membership does not pass on."""
    row = connection.execute(
        "SELECT rolcreatedb, rolcreaterole, rolbypassrls"
        " FROM pg_catalog.pg_roles WHERE rolname = %s",
        (name,),
    ).fetchone()
    held = row or ()
    return {word for word, has in zip(_ATTRIBUTES, held, strict=False) if has}


def may_create(connection: Connection) -> bool:
    """Return whether the session's user may make roles."""
    row = connection.execute(
        "SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    return row is not None and bool(row[0])


def may_change(connection: Connection, name: str) -> bool:
    """Return whether the session's user may alter *name*, grant it, and end its sessions."""
    if connection.info.server_version < _GRANT_OPTIONS_SINCE:
        return may_create(connection)
    row = connection.execute(
        "SELECT rolsuper OR (rolcreaterole"
        " AND pg_catalog.pg_has_role(%s::pg_catalog.name, 'MEMBER WITH ADMIN OPTION'))"
        " FROM pg_catalog.pg_roles WHERE rolname = current_user",
        (name,),
    ).fetchone()
    return row is not None and bool(row[0])


def count_sessions(connection: Connection, login: str) -> int:
    """
    Return how many sessions *login* has on the whole server, Keyturn's own left out.

    Every role may see whose session one is and which application's; what it does is
    hidden, and not asked.
    """
    row = connection.execute(
        "SELECT count(*) FROM pg_catalog.pg_stat_activity"
        " WHERE usename = %s AND application_name IS DISTINCT FROM %s",
        (login, APPLICATION_NAME),
    ).fetchone()
    return cast("int", row[0]) if row is not None else 0


def end_sessions(connection: Connection, login: str) -> None:
    """
    End every session of *login* on the whole server and wait until they are gone.

    Raises:
        Unavailable: Some did not end.
    """
    looks = 0
    for _ in range(_END_ROUNDS):
        if _has_sessions(connection, login):
            _terminate(connection, login)
            looks = 0
        else:
            looks += 1
        if looks == _END_LOOKS:
            return
        connection.execute("SELECT pg_catalog.pg_sleep(%s)", (_END_PAUSE_SECONDS,))
    raise Unavailable(
        f"sessions of `{login}` do not end",
        hint="see pg_stat_activity at the server, then run the command again",
        code="target.unavailable",
    )


def _has_sessions(connection: Connection, login: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM pg_catalog.pg_stat_activity"
        " WHERE usename = %s AND pid <> pg_catalog.pg_backend_pid() LIMIT 1",
        (login,),
    ).fetchone()
    return row is not None


def _terminate(connection: Connection, login: str) -> None:
    # Ending another role's session needs membership in that role. It is granted in a
    # transaction that is always undone: the signals stay sent, the right never exists.
    connection.execute("BEGIN")
    try:
        row = connection.execute(
            "SELECT pg_catalog.pg_has_role(%s::pg_catalog.name, 'USAGE')"
            " OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')",
            (login,),
        ).fetchone()
        if row is not None and not row[0]:
            text = "GRANT {} TO CURRENT_USER"
            if connection.info.server_version >= _GRANT_OPTIONS_SINCE:
                text += " WITH INHERIT TRUE"
            _alter(connection, text, login)
        connection.execute(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
            " WHERE usename = %s AND pid <> pg_catalog.pg_backend_pid()",
            (login,),
        )
    finally:
        connection.execute("ROLLBACK")


def _alter(connection: Connection, text: LiteralString, *names: str) -> None:
    from psycopg import sql

    # The first role named is the one that a right is needed on; a new one, of nobody.
    subject = None if text.startswith("CREATE") else names[0]
    _execute(connection, sql.SQL(text).format(*map(sql.Identifier, names)), subject)


def _execute(connection: Connection, statement: sql.Composed, subject: str | None) -> None:
    """Run *statement*; where a right is missing, say which role it is missing on."""
    import psycopg

    try:
        connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege as error:
        info = connection.info
        place = f"{info.host}:{info.port}/{info.dbname}"
        raise denied(place, info.user, error, role=subject) from None


def _alter_setting(
    connection: Connection, text: LiteralString, key: _SettingKey, login: str
) -> None:
    from psycopg import sql

    database, name = key
    where = sql.SQL("IN DATABASE {} ").format(sql.Identifier(database)) if database else sql.SQL("")
    # A custom setting is a name in two parts: `myapp.tenant`.
    setting = sql.Identifier(*name.split("."))
    statement = sql.SQL("ALTER ROLE {} {}" + text).format(sql.Identifier(login), where, setting)
    _execute(connection, statement, login)


def _settings(connection: Connection, name: str) -> Mapping[_SettingKey, str]:
    rows = connection.execute(
        "SELECT coalesce(d.datname, ''), s.setconfig FROM pg_catalog.pg_db_role_setting s"
        " JOIN pg_catalog.pg_roles r ON r.oid = s.setrole"
        " LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase"
        " WHERE r.rolname = %s",
        (name,),
    ).fetchall()
    found: dict[_SettingKey, str] = {}
    for database, entries in rows:
        for entry in cast("list[str]", entries):
            setting, _, value = entry.partition("=")
            found[(cast("str", database), setting)] = value
    return found
