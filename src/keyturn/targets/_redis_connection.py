"""
Connections to Redis: never in clear over a network, nothing tried twice, errors translated.

A command that changes something is sent once. Where its answer is lost, it may have
been carried out; whoever asks again first asks what is true.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyturn._internal import failpoints
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, OutcomeUnknown, Rejected, Unavailable
from keyturn.targets._target_table import is_loopback

if TYPE_CHECKING:
    import redis

__all__ = [
    "DEFAULT_USER",
    "DENIED",
    "LOGIN_REFUSED",
    "NOT_ASKED",
    "UNKNOWN",
    "Connection",
    "RedisLogin",
    "RedisTarget",
    "log_in",
    "name_of",
    "pairs",
    "right_of",
]

DEFAULT_USER = "default"
DENIED = "target.denied"
LOGIN_REFUSED = "target.login-refused"
NOT_ASKED = "target.authentication"
UNKNOWN = "target.unknown-command"

_TIMEOUT_SECONDS = 10
_WORDS_LIMIT = 200
# What a server says of a password that is wrong; before version 6 the second.
_REFUSALS = ("invalid username-password pair", "invalid password")
_OPEN = ("without any password configured", "no password is set")
_BUSY = ("loading the dataset", "max number of clients", "MASTERDOWN", "BUSY ")


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """
    One Redis server.

    Args:
        ca_file: Certificates to verify the server with; the system's where None.
    """

    host: str
    port: int
    tls: bool
    ca_file: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisLogin:
    """
    Who logs in.

    Args:
        whose: For messages, such as "the administrator `redis-admin`".
    """

    user: str
    password: SecretValue
    whose: str


class Connection:
    """One session, of *login*."""

    def __init__(self, client: redis.Redis, target: RedisTarget, login: RedisLogin) -> None:
        self._client = client
        self.target = target
        self.login = login

    def ask(self, *command: str) -> Any:
        """
        Send a command that changes nothing and return its answer.

        Raises:
            Rejected: The server answered no.
            Unavailable: No answer.
        """
        return self._send(command, changing=False)

    def change(self, *command: str, point: str) -> None:
        """
        Send a command that changes something.

        Args:
            point: Names the failpoints `redis.POINT.call` and `.called`.

        Raises:
            Rejected: The server answered no; nothing changed.
            OutcomeUnknown: No answer.
        """
        failpoints.hit(f"redis.{point}.call")
        self._send(command, changing=True)
        failpoints.hit(f"redis.{point}.called")

    def _send(self, command: tuple[str, ...], *, changing: bool) -> Any:
        import redis

        # The library has no type for it.
        send: Callable[..., Any] = self._client.execute_command
        try:
            return send(*command)
        except redis.RedisError as error:
            # Without its cause: a server repeats the arguments of what it does not know.
            raise _command_error(self, command, error, changing=changing) from None


@contextlib.contextmanager
def log_in(target: RedisTarget, login: RedisLogin) -> Iterator[Connection]:
    """
    Open a session.

    Raises:
        Rejected: The password is refused (code `target.login-refused`), none is asked
            for (`target.authentication`), or the connection would be in clear.
        Unavailable: No answer.
    """
    import redis

    _require_encryption(target)
    client: redis.Redis | None = None
    try:
        try:
            client = redis.Redis(**_parameters(target, login))
            # To be denied a PING takes a login that was accepted.
            with contextlib.suppress(redis.exceptions.NoPermissionError):
                client.ping()
        except redis.RedisError as error:
            raise _login_error(target, login, error) from None
        yield Connection(client, target, login)
    finally:
        if client is not None:
            client.close()


def name_of(command: Sequence[str]) -> str:
    """Return the name of *command*, without what it is given."""
    return " ".join(command[:2]) if command[0] in {"ACL", "CONFIG", "CLIENT"} else command[0]


def right_of(name: str) -> str:
    """Return the right to run the command *name*, as `ACL SETUSER` takes it."""
    return "|".join(name.lower().split())


def pairs(answer: Any) -> Mapping[str, Any]:
    """Return an answer of names and values in turn as a mapping."""
    if isinstance(answer, Mapping):
        return answer
    if not isinstance(answer, list):
        return {}
    return dict(zip(answer[::2], answer[1::2], strict=False))


def _parameters(target: RedisTarget, login: RedisLogin) -> dict[str, Any]:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    parameters: dict[str, Any] = {
        "host": target.host,
        "port": target.port,
        # AUTH with one argument is what every version knows.
        "username": None if login.user == DEFAULT_USER else login.user,
        "password": login.password.reveal_text(),
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
        "decode_responses": True,
        "encoding_errors": "replace",
        "single_connection_client": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if target.tls:
        parameters |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": target.ca_file,
        }
    return parameters


def _require_encryption(target: RedisTarget) -> None:
    if target.tls or is_loopback(target.host):
        return
    raise Rejected(
        f"the connection to `{target.host}` would not be encrypted",
        hint="set tls = true, and ca_file for a certificate of your own authority, in the"
        " secret's target; only loopback may go without",
        code="target.plaintext",
    )


def _login_error(target: RedisTarget, login: RedisLogin, error: redis.RedisError) -> KeyturnError:
    import redis

    words = _words(error)
    if any(part in words for part in _REFUSALS):
        return Rejected(
            f"Redis at `{target}` refused the login of {login.whose}: {words}",
            hint="check the password, and that the ACL user is `on`",
            code=LOGIN_REFUSED,
        )
    if any(part in words for part in _OPEN):
        return Rejected(
            f"Redis at `{target}` asks for no password of `{login.user}`: {words}",
            hint="set one at the server: ACL SETUSER default resetpass, with a password",
            code=NOT_ASKED,
        )
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError) or _is_busy(words):
        return _unavailable(target, words)
    return Rejected(
        f"Redis at `{target}` does not take connections of {login.whose}: {words}",
        hint="check host, port and tls in the secret's target",
        code="target.connection",
    )


def _command_error(
    connection: Connection, command: tuple[str, ...], error: redis.RedisError, *, changing: bool
) -> KeyturnError:
    import redis

    target, words = connection.target, _words(error)
    name = name_of(command)
    if isinstance(error, redis.exceptions.NoPermissionError):
        right = right_of(name)
        return Rejected(
            f"{connection.login.whose} may not run `{name}` at `{target}`",
            hint=f"as an administrator of the server: ACL SETUSER {connection.login.user} +{right}",
            code=DENIED,
            context={"command": name},
        )
    if _is_busy(words):
        return _unavailable(target, words)
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        if changing:
            return OutcomeUnknown(
                f"the connection to Redis at `{target}` broke during `{name}`",
                hint="run the command again: it asks the server what is true first",
            )
        return _unavailable(target, words)
    code = UNKNOWN if words.lower().startswith("unknown ") else "target.rejected"
    return Rejected(f"Redis at `{target}` answered to `{name}`: {words}", code=code)


def _unavailable(target: RedisTarget, words: str) -> Unavailable:
    return Unavailable(
        f"Redis at `{target}` cannot be reached: {words}",
        hint="start the server or check host, port and tls, then run the command again",
        code="target.unavailable",
    )


def _is_busy(words: str) -> bool:
    return any(part.lower() in words.lower() for part in _BUSY)


def _words(error: redis.RedisError) -> str:
    # What follows are arguments, which may be a password.
    text = str(error).partition("with args beginning")[0].strip().rstrip(".,")
    return " ".join(text.split())[:_WORDS_LIMIT] or type(error).__name__
