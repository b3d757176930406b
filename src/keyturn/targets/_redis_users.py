"""What the kinds of Redis logins ask of a server and change at it, one statement each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from keyturn.core.value import SecretValue
from keyturn.errors import Rejected
from keyturn.targets._redis_connection import (
    DEFAULT_USER,
    DENIED,
    NOT_ASKED,
    UNKNOWN,
    Connection,
    name_of,
    pairs,
    right_of,
)

__all__ = [
    "Place",
    "User",
    "end_sessions",
    "find",
    "may_run",
    "places",
    "refuse_topology",
    "refuse_unfit",
    "replicas",
    "require_may_save",
    "require_rights",
    "save",
    "sha256",
]


class Place(StrEnum):
    """Where a server keeps its users when it stops."""

    ACL_FILE = "its ACL file"
    CONFIGURATION = "its configuration file"


_SAVING: Mapping[Place, tuple[str, str]] = {
    Place.ACL_FILE: ("ACL", "SAVE"),
    Place.CONFIGURATION: ("CONFIG", "REWRITE"),
}


@dataclass(frozen=True, slots=True)
class User:
    """
    An ACL user.

    Args:
        open: It logs in with any password (`nopass`).
        hashes: SHA-256 of each password, in hexadecimal digits.
    """

    name: str
    on: bool
    open: bool
    hashes: frozenset[str]


def sha256(password: SecretValue) -> str:
    """Return what the server keeps of *password*, so that the text need not be sent."""
    return hashlib.sha256(password.reveal()).hexdigest()


def find(connection: Connection, name: str) -> User | None:
    """Return the user *name*, or None."""
    answer = connection.ask("ACL", "GETUSER", name)
    if answer is None:
        return None
    found = pairs(answer)
    flags = found.get("flags") or []
    hashes = (str(item).removeprefix("#") for item in found.get("passwords") or [])
    return User(name, "on" in flags, "nopass" in flags, frozenset(hashes))


def refuse_unfit(connection: Connection, name: str) -> User:
    """
    Return the user *name* where its passwords can be rotated.

    Raises:
        Rejected: It does not exist, is off, or asks for no password.
    """
    user, target = find(connection, name), connection.target
    if user is None:
        raise Rejected(
            f"there is no user `{name}` at Redis `{target}`",
            hint=f"make it, with the rights it shall have: ACL SETUSER {name} on ~PREFIX:* +@all"
            " -@admin",
            code="target.role",
        )
    if user.open:
        raise Rejected(
            f"the user `{name}` at Redis `{target}` logs in with any password",
            hint=f"give it one, which shuts out whoever comes without: ACL SETUSER {name}"
            " resetpass, with a password",
            code=NOT_ASKED,
        )
    if not user.on:
        raise Rejected(
            f"the user `{name}` at Redis `{target}` is switched off",
            hint=f"ACL SETUSER {name} on",
            code="target.role",
        )
    return user


def refuse_topology(connection: Connection, name: str) -> None:
    """
    Return where the one server that was asked is all there is to change.

    Raises:
        Rejected: It is one of several, which do not tell each other of users.
    """
    facts, target = pairs(connection.ask("INFO")), connection.target
    if str(facts.get("cluster_enabled", "0")) == "1":
        raise Rejected(
            f"Redis at `{target}` is one node of a cluster, and nodes have users of their own",
            hint="change the password at each node by a secret of kind `command`",
            code="target.topology",
        )
    if facts.get("role") == "slave":
        raise Rejected(
            f"Redis at `{target}` is a replica",
            hint="name the master in the secret's target",
            code="target.topology",
        )
    if any(session.replica for session in _sessions(connection, name)):
        raise Rejected(
            f"a replica of `{target}` logs in as `{name}`, and would lose its master",
            hint="give replication a user of its own: masteruser and masterauth at the replica",
            code="target.topology",
        )


def replicas(connection: Connection) -> int:
    """Return how many replicas follow the server; each has users of its own."""
    return int(pairs(connection.ask("INFO", "replication")).get("connected_slaves", 0))


def places(connection: Connection) -> tuple[Place, ...]:
    """
    Return where the server keeps its users.

    Raises:
        Rejected: Nowhere: a change would be forgotten when it stops.
    """
    found = []
    if pairs(connection.ask("CONFIG", "GET", "aclfile")).get("aclfile"):
        found.append(Place.ACL_FILE)
    if pairs(connection.ask("INFO", "server")).get("config_file"):
        found.append(Place.CONFIGURATION)
    if found:
        return tuple(found)
    raise Rejected(
        f"Redis at `{connection.target}` keeps its users in no file: a restart would bring the"
        " old password back",
        hint="start it with a configuration file (redis-server /etc/redis/redis.conf), or set"
        " `aclfile`",
        code="target.persistence",
    )


def save(connection: Connection, place: Place, *, point: str) -> None:
    """
    Write the users as they are to *place*.

    Raises:
        Rejected: The server cannot write there (code `target.persistence`).
    """
    try:
        connection.change(*_SAVING[place], point=f"{point}.save")
    except Rejected as error:
        if error.code == DENIED:
            raise
        raise Rejected(
            f"{error.message}; the change would be forgotten at a restart",
            hint="let the server write the file and its folder, then run the command again",
            code="target.persistence",
        ) from error


def may_run(connection: Connection, name: str, command: tuple[str, ...]) -> str | None:
    """
    Return why *name* may not run *command*; None where it may.

    Raises:
        Rejected: The server cannot tell (before version 7), or knows no such command.
    """
    answer = connection.ask("ACL", "DRYRUN", name, *command)
    return None if answer in {"OK", True} else str(answer)


def require_rights(
    connection: Connection, user: str, *, tries: bool, writing: bool = False
) -> None:
    """
    Return where this session may run all that a rotation of *user* takes.

    Nothing is changed: the server is asked, or a command is sent that does nothing.

    Args:
        tries: Whether the server is to try commands as *user* later.
        writing: Also let the server write its users down as they are, which proves that
            it can; for a server that cannot be asked it is the only proof.

    Raises:
        Rejected: It may not; the message names every right that is missing. Or the
            server cannot write its users down (code `target.persistence`).
    """
    # No session has this number, so none is ended.
    nobody = ("CLIENT", "KILL", "ID", str(2**62))
    harmless = (("ACL", "GETUSER", user), ("CLIENT", "ID"), ("CLIENT", "LIST"), nobody)
    missing = [name_of(command) for command in harmless if _is_denied(connection, command)]
    kept: tuple[Place, ...] = ()
    try:
        kept = places(connection)
    except Rejected as error:
        if error.code != DENIED:
            raise
        missing.append(str(error.context["command"]))
    changing = [("ACL", "SETUSER", user), *(_SAVING[place] for place in kept)]
    answers = _dry_runs(connection, changing)
    if answers is None and tries:
        missing.append("ACL DRYRUN")
    missing += [name_of(command) for command, may in (answers or {}).items() if not may]
    for place in kept if writing else ():
        name = name_of(_SAVING[place])
        if name not in missing and _is_save_denied(connection, place):
            missing.append(name)
    if missing:
        raise _lacking(connection, missing)


def require_may_save(connection: Connection, kept: Sequence[Place]) -> None:
    """
    Return where this session may write the users down, as far as it can be asked.

    Raises:
        Rejected: It may not.
    """
    answers = _dry_runs(connection, [_SAVING[place] for place in kept]) or {}
    missing = [name_of(command) for command, may in answers.items() if not may]
    if missing:
        raise _lacking(connection, missing)


def _is_denied(connection: Connection, command: tuple[str, ...]) -> bool:
    try:
        connection.ask(*command)
    except Rejected as error:
        if error.code != DENIED:
            raise
        return True
    return False


def _is_save_denied(connection: Connection, place: Place) -> bool:
    try:
        save(connection, place, point="create")
    except Rejected as error:
        if error.code != DENIED:
            raise
        return True
    return False


def _dry_runs(
    connection: Connection, commands: Sequence[tuple[str, ...]]
) -> Mapping[tuple[str, ...], bool] | None:
    """Return which of *commands* this session may run; None where it may not ask that."""
    found: dict[tuple[str, ...], bool] = {}
    for command in commands:
        try:
            found[command] = may_run(connection, connection.login.user, command) is None
        except Rejected as error:
            if error.code == DENIED:
                return None
            if error.code != UNKNOWN:
                raise
            # Before version 7: nothing can be told without doing it.
            return {}
    return found


def _lacking(connection: Connection, names: Sequence[str]) -> Rejected:
    listed = ", ".join(f"`{name}`" for name in names)
    rights = " ".join(f"+{right_of(name)}" for name in names)
    return Rejected(
        f"{connection.login.whose} may not run {listed} at `{connection.target}`",
        hint=f"as an administrator of the server: ACL SETUSER {connection.login.user} {rights}",
        code=DENIED,
    )


def end_sessions(connection: Connection, name: str) -> int:
    """
    End the sessions of *name* that there are now, but not this one, and return how many.

    Nothing tells which password a session came in with. One that begins after this
    was called came in with a password that is accepted now, and goes on.
    """
    own = str(connection.ask("CLIENT", "ID"))
    ended = 0
    for session in _sessions(connection, name):
        if session.id != own:
            connection.change("CLIENT", "KILL", "ID", session.id, point="retire.kill")
            ended += 1
    return ended


@dataclass(frozen=True, slots=True)
class _Session:
    id: str
    replica: bool


def _sessions(connection: Connection, name: str) -> list[_Session]:
    found = []
    for line in str(connection.ask("CLIENT", "LIST")).splitlines():
        facts = dict(item.partition("=")[::2] for item in line.split(" "))
        # A server without ACLs does not say: all are the one user that there is.
        if facts.get("user", DEFAULT_USER) == name and "id" in facts:
            found.append(_Session(facts["id"], "S" in facts.get("flags", "")))
    return found
