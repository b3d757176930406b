"""Running a program for a reload: no shell, a time limit, one masked line of what it said."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from keyturn.core.value import SecretValue
from keyturn.errors import DeliveryError

__all__ = ["masked", "run"]

_KEPT_BYTES = 16 * 1024
_SHOWN_CHARACTERS = 200
_MASK = "***"
# A daemon that the program left behind may hold the pipe open for ever.
_DRAIN_SECONDS = 0.5


def run(
    command: Sequence[str],
    *,
    folder: Path,
    timeout_seconds: float,
    hidden: Sequence[SecretValue],
) -> None:
    """
    Run *command* in *folder* and wait until it has ended well.

    Args:
        hidden: Values that must not show in the error.

    Raises:
        DeliveryError: It could not be started, ended badly, or took too long.
    """
    name = command[0]
    try:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "an argument holds a NUL"
        raise DeliveryError(
            f"`{name}` cannot be started: {why}",
            hint="check the consumer's `reload` in the manifest",
            code="delivery.reload",
        ) from None
    said = _Drain(process.stderr)
    try:
        status = process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        raise DeliveryError(
            f"`{name}` did not end within {timeout_seconds:g} s, and was stopped",
            hint="run it by hand to see what it waits for",
            code="delivery.reload",
        ) from None
    finally:
        _stop(process)
        text = said.finish()
    if status != 0:
        shown = masked(text, hidden)
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        raise DeliveryError(
            f"`{name}` {how}" + (f": {shown}" if shown else ""),
            hint="run it by hand to see more",
            code="delivery.reload",
        )


def masked(text: bytes, hidden: Sequence[SecretValue]) -> str:
    """Return the first words of *text* on one line, with every hidden value replaced."""
    for needle in _needles(hidden):
        text = text.replace(needle, _MASK.encode("ascii"))
        # The text may have been cut in the middle of a value.
        for size in range(min(len(needle) - 1, len(text)), 3, -1):
            if text.endswith(needle[:size]):
                text = text[:-size] + _MASK.encode("ascii")
                break
    words = " ".join(text.decode("utf-8", "replace").split())
    printable = "".join(character for character in words if character.isprintable())
    return printable[:_SHOWN_CHARACTERS]


def _needles(hidden: Sequence[SecretValue]) -> list[bytes]:
    # Whole values and, of those with several lines, each line: programs quote by the
    # line. Longest first, or a value inside another would leave the rest standing.
    needles: set[bytes] = set()
    for value in hidden:
        raw = value.reveal()
        needles.add(raw)
        needles.update(line.strip() for line in raw.splitlines())
    return sorted(filter(None, needles), key=len, reverse=True)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Its whole session, so that no child of it goes on after a time-out; a reload
    # that ended by itself has none to stop.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class _Drain:
    """Reads a pipe to its end, keeping the first bytes, so that the writer never blocks."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._pipe = pipe
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        if self._pipe is None:
            return
        with self._pipe as pipe, contextlib.suppress(OSError):
            while chunk := os.read(pipe.fileno(), 8192):
                if len(self._kept) < _KEPT_BYTES:
                    self._kept = (self._kept + chunk)[:_KEPT_BYTES]

    def finish(self) -> bytes:
        # Whoever still holds the other end is not waited for: the thread stays, and
        # closes the pipe when they have gone.
        self._thread.join(_DRAIN_SECONDS)
        return self._kept
