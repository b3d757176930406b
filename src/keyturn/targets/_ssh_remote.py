"""
Changing a file over SFTP: written beside, made durable, renamed over the old one.

Whoever reads it at any moment, and the server reads it at every login, finds the
old content or the new one. Mode and owner stay; a link is followed, not replaced.
"""

from __future__ import annotations

import contextlib
import errno
import posixpath
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from keyturn._internal import failpoints
from keyturn.errors import OutcomeUnknown, Rejected, Unavailable
from keyturn.targets._ssh_files import FILE_REFUSED

if TYPE_CHECKING:
    import paramiko

__all__ = ["edit", "read"]

_LIMIT_BYTES = 1_048_576
_TRIES = 3
_TIMEOUT_SECONDS = 10.0
_WORDS_LIMIT = 200
_NEW_FILE_MODE = 0o600


def read(transport: paramiko.Transport, path: str) -> bytes:
    """
    Return the content of *path*; nothing where there is no such file.

    Raises:
        Rejected: It cannot be read.
        Unavailable: The connection broke.
    """
    with _translated(path), _sftp(transport) as sftp:
        return _content(sftp, path) or b""


def edit(
    transport: paramiko.Transport,
    path: str,
    change: Callable[[bytes], bytes],
    *,
    point: str,
    mark: str,
    create: bool = False,
) -> bool:
    """
    Replace the content of *path* by what *change* makes of it; return whether it changed.

    Args:
        point: Names the failpoints `ssh.POINT.call` and `.called`.
        mark: Names the file beside it, so that what a killed try left is found and removed.
        create: Make the file, and its folder, where they are absent.

    Raises:
        Rejected: It may not be changed here, or is absent.
        OutcomeUnknown: The connection broke while it was replaced.
        Unavailable: The connection broke before that, or others keep changing the file.
    """
    with _translated(path), _sftp(transport) as sftp:
        real = _real_path(sftp, path)
        folder, name = posixpath.split(real)
        beside = posixpath.join(folder, f".{name}.{mark}")
        _remove(sftp, beside)
        for _ in range(_TRIES):
            before = _content(sftp, real)
            if before is None and not create:
                raise _absent(path)
            after = change(before or b"")
            if after == (before or b""):
                return False
            _write_beside(sftp, beside, after, like=None if before is None else real)
            if _content(sftp, real) == before:
                _replace(sftp, beside, real, point=point)
                return True
            _remove(sftp, beside)
    raise Unavailable(
        f"`{path}` is being changed by others", hint="run the command again", code="target.busy"
    )


def _write_beside(
    sftp: paramiko.SFTPClient, beside: str, content: bytes, *, like: str | None
) -> None:
    if like is None:
        with contextlib.suppress(OSError):
            sftp.mkdir(posixpath.dirname(beside), mode=0o700)
    # "x": never through a link that somebody put there.
    with sftp.open(beside, "wx") as file:
        if like is None:
            file.chmod(_NEW_FILE_MODE)
        else:
            _like(sftp, beside, sftp.stat(like))
        file.write(content)
        file.flush()
        _sync(sftp, file)


def _remove(sftp: paramiko.SFTPClient, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        sftp.remove(path)


def _like(sftp: paramiko.SFTPClient, beside: str, old: paramiko.SFTPAttributes) -> None:
    new = sftp.stat(beside)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        sftp.chown(beside, cast("int", old.st_uid), cast("int", old.st_gid))
    sftp.chmod(beside, stat.S_IMODE(cast("int", old.st_mode)))


def _sync(sftp: paramiko.SFTPClient, file: paramiko.SFTPFile) -> None:
    from paramiko.sftp import CMD_EXTENDED

    # An extension of OpenSSH's; a server without it answers "unsupported".
    with contextlib.suppress(OSError):
        # paramiko has no public name for a request of one's own.
        request = cast("Any", sftp)._request  # noqa: SLF001
        request(CMD_EXTENDED, "fsync@openssh.com", file.handle)


def _replace(sftp: paramiko.SFTPClient, beside: str, real: str, *, point: str) -> None:
    import paramiko

    failpoints.hit(f"ssh.{point}.call")
    try:
        sftp.posix_rename(beside, real)
    except (paramiko.SSHException, EOFError) as error:
        raise _unknown(error) from None
    except OSError as error:
        if _is_answer(error):
            raise
        raise _unknown(error) from None
    failpoints.hit(f"ssh.{point}.called")


def _content(sftp: paramiko.SFTPClient, path: str) -> bytes | None:
    try:
        with sftp.open(path, "rb") as file:
            content = file.read(_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(content) > _LIMIT_BYTES:
        raise Rejected(f"`{path}` is larger than 1 MiB", code=FILE_REFUSED)
    return content


def _real_path(sftp: paramiko.SFTPClient, path: str) -> str:
    try:
        return sftp.normalize(path) or path
    except FileNotFoundError:
        return path


@contextlib.contextmanager
def _sftp(transport: paramiko.Transport) -> Iterator[paramiko.SFTPClient]:
    import paramiko

    try:
        client = paramiko.SFTPClient.from_transport(transport)
    except (paramiko.ChannelException, EOFError):
        client = None
    except paramiko.SSHException:
        if not transport.is_active():
            raise
        client = None
    if client is None:
        raise Rejected(
            "the login by SSH has no SFTP, by which the key file is changed",
            hint="set `Subsystem sftp internal-sftp` in the server's sshd_config, or name a login"
            " that has it as `admin` in the secret's target",
            code="target.denied",
        )
    with client:
        channel = client.get_channel()
        if channel is not None:
            channel.settimeout(_TIMEOUT_SECONDS)
        yield client


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    import paramiko

    try:
        yield
    except (paramiko.SSHException, EOFError) as error:
        raise Unavailable(
            f"the SSH connection broke: {type(error).__name__}", code="target.unavailable"
        ) from None
    except OSError as error:
        if not _is_answer(error):
            raise Unavailable(
                f"the SSH connection broke: {type(error).__name__}", code="target.unavailable"
            ) from None
        raise Rejected(
            f"`{path}` cannot be changed: {str(error)[:_WORDS_LIMIT]}",
            hint="the login, or `admin` of the secret's target, must own the file and its folder",
            code="target.denied",
        ) from None


def _is_answer(error: OSError) -> bool:
    # paramiko gives the server's own refusals an errno of these two, or none.
    if isinstance(error, (TimeoutError, ConnectionError)) or str(error) == "Socket is closed":
        return False
    return error.errno in (errno.ENOENT, errno.EACCES, errno.EEXIST, None)


def _absent(path: str) -> Rejected:
    return Rejected(
        f"there is no file `{path}` at the server",
        hint="name the file that its sshd reads, in the secret's target",
        code=FILE_REFUSED,
    )


def _unknown(error: Exception) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"the SSH connection broke while a key file was replaced: {type(error).__name__}",
        hint="run the command again: it reads the file first",
    )
