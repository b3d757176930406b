"""
Redis logins: two passwords of one user, or the one password of a server.

    two-passwords  A user of the server's ACL takes both passwords until the old
                   one is taken away. Nothing is refused at any moment. Only the
                   SHA-256 of a password is sent when it is set.
    in-place       `requirepass`. The old password stops working at once, so
                   clients that have not got the new one yet are refused for a
                   while.

A server that keeps its users in no file is refused before anything is changed: its
next start would bring the old password back.
"""

from __future__ import annotations

import shlex

from keyturn.core.ports import KindContext, RotationKind
from keyturn.errors import UsageError
from keyturn.targets import _target_table as table
from keyturn.targets._redis_connection import RedisLogin, RedisTarget
from keyturn.targets._redis_in_place import InPlace
from keyturn.targets._redis_login import PASSWORD, USERNAME, Server, username_of
from keyturn.targets._redis_two_passwords import TwoPasswords

__all__ = ["PASSWORD", "USERNAME", "InPlace", "RedisTarget", "TwoPasswords", "build"]

_PORT = 6379
_IN_PLACE = "in-place"
_TWO_PASSWORDS = "two-passwords"


def build(context: KindContext) -> RotationKind:
    """
    Return the steps of a secret of kind `redis-login`.

    Raises:
        UsageError: The target does not say enough, or redis-py is not installed.
    """
    server = Server(
        RedisTarget(
            host=table.needed_text(context, "host", example="redis.example.net"),
            port=table.port(context, _PORT),
            tls=table.flag(context, "tls"),
            ca_file=table.ca_file(context),
        ),
        _admin(context),
    )
    commands = _commands(context)
    table.require_driver("redis", "redis", "Redis")
    if context.strategy == _IN_PLACE:
        return InPlace(server, make=context.make)
    if context.strategy in {None, _TWO_PASSWORDS}:
        return TwoPasswords(server, commands=commands, make=context.make)
    raise UsageError(
        f"`{context.strategy}` is no strategy of a Redis login",
        hint=f'write strategy = "{_TWO_PASSWORDS}" or "{_IN_PLACE}"',
        code="rotation.target",
    )


def _admin(context: KindContext) -> RedisLogin | None:
    if context.admin is None:
        return None
    return RedisLogin(
        user=username_of(context.admin),
        password=table.admin_field(context, context.admin, PASSWORD),
        whose=f"the administrator `{context.admin_name}`",
    )


def _commands(context: KindContext) -> list[tuple[str, ...]]:
    found = []
    for text in table.words(context, "commands"):
        try:
            command = tuple(shlex.split(text))
        except ValueError:
            command = ()
        if not command:
            raise table.faulty(
                context, "has a command that cannot be read", 'write commands = ["GET x"]'
            )
        found.append(command)
    return found
