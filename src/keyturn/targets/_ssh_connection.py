"""
Connections by SSH: the server's key pinned, the key in memory, nothing read from the user's files.

No agent, no `known_hosts`, no configuration. A key that the server refuses is told
from a connection that broke: only the first one is an answer, and it is believed
only when the same connection goes on answering.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyturn.crypto.sshkeys import SshKey
from keyturn.errors import Rejected, Unavailable, UsageError
from keyturn.targets._ssh_files import blob_of

if TYPE_CHECKING:
    import paramiko

__all__ = ["LOGIN_REFUSED", "MORE_WANTED", "Login", "SshServerAddress", "log_in", "opens_session"]

LOGIN_REFUSED = "target.login-refused"
MORE_WANTED = "target.more-wanted"

_TIMEOUT_SECONDS = 10.0
_LOG_CHANNEL = "keyturn.paramiko"
_WORDS_LIMIT = 200
# What paramiko raises for the server's own refusal, and for nothing else; the same
# class with other words is also what a broken connection ends with.
_REFUSAL = "Authentication failed."
_TYPES = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
}


@dataclass(frozen=True, slots=True)
class SshServerAddress:
    """
    Where the server is, and the key it must have.

    Args:
        host_key: As in the server's `ssh_host_ed25519_key.pub`, or a line of known_hosts.
    """

    host: str
    port: int
    host_key: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """
    Who logs in, and by what.

    Args:
        certificate: The certificate for *key*, where it logs in by one.
    """

    user: str
    key: SshKey
    certificate: str | None = None


@contextlib.contextmanager
def log_in(address: SshServerAddress, login: Login) -> Iterator[paramiko.Transport]:
    """
    Connect and log in.

    Raises:
        Rejected: The server refused the key (code `target.login-refused`), has another
            key than the pinned one, or wants more than a key.
        Unavailable: No answer.
    """
    with _connected(address) as transport:
        _authenticate(transport, address, login)
        yield transport


def opens_session(transport: paramiko.Transport) -> bool:
    """Return whether a session opens. Nothing is run: a forced command would be."""
    import paramiko

    try:
        transport.open_session(timeout=_TIMEOUT_SECONDS).close()
    except paramiko.ChannelException:
        return False
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _broken(error) from None
    return True


@contextlib.contextmanager
def _connected(address: SshServerAddress) -> Iterator[paramiko.Transport]:
    _require_driver()
    import paramiko

    kind, blob = _pinned(address)
    try:
        connection = socket.create_connection((address.host, address.port), _TIMEOUT_SECONDS)
    except OSError as error:
        raise _unavailable(address, error) from None
    try:
        transport = paramiko.Transport(connection)
    except BaseException:
        connection.close()
        raise
    try:
        _quieten(transport)
        transport.banner_timeout = transport.auth_timeout = _TIMEOUT_SECONDS
        transport.get_security_options().key_types = _TYPES[kind]
        try:
            transport.start_client(timeout=_TIMEOUT_SECONDS)
        except paramiko.ssh_exception.IncompatiblePeer:
            raise _other_host_key(address) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise _unavailable(address, error) from None
        # Before anything of ours is sent.
        if not hmac.compare_digest(transport.get_remote_server_key().asbytes(), blob):
            raise _other_host_key(address)
        yield transport
    finally:
        transport.close()
        connection.close()


def _authenticate(transport: paramiko.Transport, address: SshServerAddress, login: Login) -> None:
    import paramiko

    try:
        wanted = transport.auth_publickey(login.user, _paramiko_key(login))
    except paramiko.BadAuthenticationType:
        raise Rejected(
            f"SSH at `{address}` takes no keys for `{login.user}`",
            hint="set `PubkeyAuthentication yes` in its sshd_config",
            code="target.authentication",
        ) from None
    except paramiko.AuthenticationException as error:
        if str(error) == _REFUSAL and _still_answers(transport, login.user):
            raise Rejected(
                f"SSH at `{address}` refused the key of `{login.user}`",
                hint="see that the key, or its CA, stands in the file that its sshd reads",
                code=LOGIN_REFUSED,
            ) from None
        raise _unavailable(address, error) from None
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _unavailable(address, error) from None
    if wanted:
        raise Rejected(
            f"SSH at `{address}` took the key of `{login.user}` and wants more:"
            f" {', '.join(wanted)[:_WORDS_LIMIT]}",
            hint="a login by key alone is needed: see `AuthenticationMethods` in its sshd_config",
            code=MORE_WANTED,
        )


def _still_answers(transport: paramiko.Transport, user: str) -> bool:
    # A connection that is cut in the same instant looks like a refusal otherwise.
    import paramiko

    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType:
        return True
    except (paramiko.SSHException, OSError, EOFError):
        return False
    return False


def _paramiko_key(login: Login) -> paramiko.PKey:
    import paramiko

    classes: dict[str, type[paramiko.PKey]] = {
        "ed25519": paramiko.Ed25519Key,
        "rsa": paramiko.RSAKey,
        "ecdsa": paramiko.ECDSAKey,
    }
    key = classes[login.key.algorithm].from_private_key(
        io.StringIO(login.key.private.reveal_text())
    )
    if login.certificate is not None:
        key.load_certificate(login.certificate)
    return key


def _pinned(address: SshServerAddress) -> tuple[str, bytes]:
    for kind in address.host_key.split():
        if kind in _TYPES:
            with contextlib.suppress(ValueError):
                return kind, blob_of(address.host_key)
    raise UsageError(
        "`host_key` of the secret's target is no public key of an SSH server",
        hint="write it as in the server's own ssh_host_ed25519_key.pub: host_key = \"ssh-ed25519"
        ' AAAA..."',
        code="rotation.target",
    )


def _quieten(transport: paramiko.Transport) -> None:
    import logging

    # What goes wrong is raised; paramiko would print its traceback on stderr as well.
    logging.getLogger(_LOG_CHANNEL).disabled = True
    transport.set_log_channel(_LOG_CHANNEL)


def _require_driver() -> None:
    import importlib.util

    if importlib.util.find_spec("paramiko") is None:
        raise Rejected(
            "the SSH library is not installed", hint="pip install paramiko", code="target.driver"
        )


def _other_host_key(address: SshServerAddress) -> Rejected:
    return Rejected(
        f"SSH at `{address}` has another key than `host_key` in the secret's target says",
        hint="nothing was sent to it. Compare with /etc/ssh/ssh_host_*_key.pub on the server"
        " itself; only if it was changed on purpose, change host_key",
        code="target.host-key",
    )


def _unavailable(address: SshServerAddress, error: Exception) -> Unavailable:
    words = str(error)[:_WORDS_LIMIT] or type(error).__name__
    return Unavailable(
        f"SSH at `{address}` cannot be reached: {words}",
        hint="start the server or check host and port, then run the command again",
        code="target.unavailable",
    )


def _broken(error: Exception) -> Unavailable:
    words = str(error)[:_WORDS_LIMIT] or type(error).__name__
    return Unavailable(f"the SSH connection broke: {words}", code="target.unavailable")
