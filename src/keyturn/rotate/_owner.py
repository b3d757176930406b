"""
Who holds a rotation, and whether that process still lives.

    host / boot id . pid namespace / pid / start time / nonce

The start time tells a process from a later one with the same pid; the nonce
tells two runners in one process apart.
"""

from __future__ import annotations

import os
import socket
from enum import StrEnum

from keyturn.core.entropy import Entropy

__all__ = ["NOBODY", "Life", "describe", "life_of", "make"]

# The owner of a rotation that nobody holds: it waits, is stuck, or was let go.
NOBODY = ""

_UNKNOWN = "-"
_PARTS = 5
# Fields of /proc/PID/stat counted after the command's closing bracket: proc(5).
_STATE_FIELD = 0
_START_FIELD = 19


class Life(StrEnum):
    """What can be said of an owner from here."""

    LIVING = "living"
    GONE = "gone"
    ELSEWHERE = "elsewhere"


def make(entropy: Entropy) -> str:
    """Return the owner string of a runner in this process."""
    pid = os.getpid()
    nonce = entropy.random_bytes(8).hex()
    return "/".join((_host(), _machine(), str(pid), _start_time(pid) or _UNKNOWN, nonce))


def life_of(owner: str) -> Life:
    """
    Tell whether the process behind *owner* lives.

    Only a process of this machine, this boot and this pid namespace can be asked
    after. Where it cannot be seen clearly it counts as living.
    """
    if owner == NOBODY:
        return Life.GONE
    parts = owner.split("/")
    if len(parts) != _PARTS or (parts[0], parts[1]) != (_host(), _machine()):
        return Life.ELSEWHERE
    if not parts[2].isdigit():
        return Life.ELSEWHERE
    return Life.LIVING if _lives(int(parts[2]), parts[3]) else Life.GONE


def describe(owner: str) -> str:
    """Return *owner* in words for a message."""
    parts = owner.split("/")
    if owner == NOBODY or len(parts) != _PARTS:
        return "nobody at the moment"
    return f"process {parts[2]} on `{parts[0]}`"


def _lives(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists and is another user's
    now_started = _start_time(pid)
    if now_started is None or started == _UNKNOWN:
        return True  # hidden from us (hidepid), or a system without /proc: be careful
    return now_started == started


def _start_time(pid: int) -> str | None:
    try:
        text = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The command may hold spaces and brackets: count from the last bracket.
    fields = text.rpartition(")")[2].split()
    if fields[_STATE_FIELD] in {"Z", "X"}:
        return "dead"  # killed, only not yet waited for
    return fields[_START_FIELD]


def _host() -> str:
    return socket.gethostname().replace("/", "_")


def _machine() -> str:
    try:
        boot = _read("/proc/sys/kernel/random/boot_id").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - as in `_read`
    except OSError:
        return _UNKNOWN
    return f"{boot}.{namespace}"


def _read(path: str) -> str:
    # Without pathlib and buffers: this is a part of every rotation's own cost.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
