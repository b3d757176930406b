"""Telling a consumer that its values have changed."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Sequence
from pathlib import Path

from keyturn._internal.filestate import read_bounded
from keyturn.core.value import SecretValue
from keyturn.deliver import _http, _programs
from keyturn.deliver.model import (
    CommandReload,
    ComposeReload,
    HttpReload,
    Reload,
    SignalReload,
    SystemdReload,
)
from keyturn.errors import DeliveryError

__all__ = ["reload_consumer"]

_DEFAULT_TIMEOUT_SECONDS = 60.0
_PID_FILE_BYTES = 64
_ANSWER_BYTES = 1024
_STATUS_BYTES = 16 * 1024
_UNIT = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9:_.\\@-]{0,255}", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,255}", re.ASCII)
_PID = re.compile(rb"[1-9][0-9]{0,8}")
_ROOT = 0


def reload_consumer(
    reload: Reload,
    *,
    project: Path,
    hidden: Sequence[SecretValue] = (),
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS,
) -> str:
    """
    Make a consumer take its new values, and return in words what was done.

    Args:
        project: Where relative paths start and commands run.
        hidden: Values that must not show if the consumer's words are quoted.

    Raises:
        DeliveryError: It was not told.
        Unavailable: Its address did not answer.
    """
    match reload:
        case SignalReload():
            return _by_signal(reload, project)
        case HttpReload():
            return _by_http(reload, timeout_seconds)
        case CommandReload(command=command):
            if not command:
                raise _refused("the reload command is empty", "name a program and its arguments")
            words = list(command)
        case SystemdReload():
            words = _systemd_words(reload)
        case ComposeReload():
            words = _compose_words(reload)
    _programs.run(words, folder=project, timeout_seconds=timeout_seconds, hidden=hidden)
    return f"ran `{words[0]}`"


def _systemd_words(reload: SystemdReload) -> list[str]:
    if not _UNIT.fullmatch(reload.unit):
        raise _refused("the systemd unit has no valid name", "write it like `clipper.service`")
    if reload.action not in {"reload", "restart"}:
        raise _refused("systemd is asked to `reload` or to `restart`", "use one of these")
    return ["systemctl", "--no-ask-password", reload.action, reload.unit]


def _compose_words(reload: ComposeReload) -> list[str]:
    if not _SERVICE.fullmatch(reload.service):
        raise _refused("the compose service has no valid name", "write it as in the compose file")
    words = ["docker", "compose"]
    if reload.file is not None:
        words += ["--file", reload.file]
    if reload.signal is not None:
        return [*words, "kill", "-s", _signal(reload.signal).name, reload.service]
    # Its dependencies, such as the database, stay up.
    return [*words, "up", "-d", "--force-recreate", "--no-deps", reload.service]


def _by_http(reload: HttpReload, timeout_seconds: float) -> str:
    answer = _http.exchange(
        "POST", reload.url, timeout_seconds=timeout_seconds, limit_bytes=_ANSWER_BYTES
    )
    if not 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP's own numbers
        raise _refused(
            f"the consumer answered the reload with status {answer.status}",
            "redirects are not followed; look at the consumer's own log",
        )
    return f"posted to its address, status {answer.status}"


def _by_signal(reload: SignalReload, project: Path) -> str:
    number = _signal(reload.signal)
    path = project / reload.pid_file
    pid, file_owner = _read_pid(path)
    if not hasattr(os, "pidfd_open"):
        _require_ours(pid, _process_owner(pid), file_owner)
        os.kill(pid, number)
        return f"sent {number.name} to process {pid}"
    # Opened first: should the process end now and its number be given away, the
    # signal goes nowhere instead of to a stranger.
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        raise _not_running(pid) from None
    try:
        _require_ours(pid, _process_owner(pid), file_owner)
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        raise _not_running(pid) from None
    except PermissionError:
        raise _refused(
            f"process {pid} may not be signalled", "run keyturn as the consumer's user"
        ) from None
    finally:
        os.close(handle)
    return f"sent {number.name} to process {pid}"


def _signal(name: str) -> signal.Signals:
    full = name if name.startswith("SIG") else f"SIG{name}"
    try:
        return signal.Signals[full]
    except KeyError:
        raise _refused(
            f"{ascii(name)[:40]} is no signal", "use a name such as `HUP` or `USR1`"
        ) from None


def _read_pid(path: Path) -> tuple[int, int]:
    """Return the number in a pid file and the file's owner."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(
            f"the pid file `{path}` cannot be read: {error.strerror}",
            "start the consumer, or correct `pid_file`",
        ) from error
    try:
        found = os.fstat(descriptor)
        text = read_bounded(descriptor, _PID_FILE_BYTES + 1) if stat.S_ISREG(found.st_mode) else b""
    finally:
        os.close(descriptor)
    if found.st_mode & stat.S_IWOTH:
        raise _refused(f"everybody may write the pid file `{path}`", f"run `chmod o-w {path}`")
    # 1 is init, and 0 and negative numbers are groups: none of them is a consumer.
    if not _PID.fullmatch(text.strip()) or int(text) <= 1:
        raise _refused(
            f"the pid file `{path}` does not hold the number of a process",
            "start the consumer, or correct `pid_file`",
        )
    return int(text), found.st_uid


def _process_owner(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - read(n) bounds it
            text = file.read(_STATUS_BYTES)
    except OSError:
        raise _not_running(pid) from None
    match = re.search(rb"^Uid:\t([0-9]+)\t", text, re.MULTILINE)
    # A zombie takes signals and does nothing: its parent has not noticed its death yet.
    if match is None or re.search(rb"^State:\tZ", text, re.MULTILINE):
        raise _not_running(pid)
    return int(match.group(1))


def _require_ours(pid: int, process_owner: int, file_owner: int) -> None:
    # Root may signal anything, so for root the pid file must not be somebody's means
    # of reaching another's process.
    us = os.geteuid()
    trusted = file_owner in {us, _ROOT, process_owner}
    ours = us in {process_owner, _ROOT}
    if not (trusted and ours):
        raise _refused(
            f"process {pid} or its pid file belongs to another user",
            "the pid file's owner, the process's and keyturn's user must be one",
        )


def _not_running(pid: int) -> DeliveryError:
    return _refused(f"process {pid} of the pid file is not running", "start the consumer")


def _refused(message: str, hint: str) -> DeliveryError:
    return DeliveryError(message, hint=hint, code="delivery.reload")
