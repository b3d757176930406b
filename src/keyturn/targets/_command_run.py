"""
Running one program of the `command` kind: no shell, a time limit, and its words without values.

The values go in on standard input, as JSON; nothing of them is in the arguments, in
the environment or in a file. What the program says on standard error is shown in
errors, with everything that may be a value taken out.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

from keyturn.core.clock import Clock
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected

__all__ = ["Ended", "run"]

# What a program is told of where it runs; everything else in our environment is ours.
_PASSED_ON = ("PATH", "HOME", "LANG")
_OUTPUT_BYTES = 262_144
_CHUNK_BYTES = 65_536
_WORDS_LIMIT = 200
_SHORTEST_PART = 6
# A daemon that the program left behind may hold the pipes open for ever.
_DRAIN_SECONDS = 0.5
_POLL_SECONDS = 0.05
_MASK = b"***"


@dataclass(frozen=True, slots=True)
class Ended:
    """
    How a program ended.

    Args:
        status: Its exit status; negative for a signal, None where the time was up.
        output: What it printed on standard output, which may be new values.
        words: What it said on standard error: one short line, without any value.
    """

    status: int | None
    output: bytes = field(repr=False)
    words: str


def run(
    command: Sequence[str],
    message: bytes,
    *,
    hidden: Iterable[SecretValue],
    timeout_seconds: float,
    folder: str | None,
    clock: Clock,
) -> Ended:
    """
    Run *command* with *message* on its standard input and wait until it has ended.

    Args:
        hidden: Values that its words must not show.
        folder: Where it runs; None for where Keyturn does.

    Raises:
        Rejected: It could not be started.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    try:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "an argument holds a NUL"
        raise Rejected(
            f"`{command[0]}` cannot be started: {why}",
            hint="see that it is there and may be executed; no shell looks for it",
            code="target.command",
        ) from None
    try:
        with process:
            talk = _Talk(
                process, message, clock=clock, deadline=clock.monotonic() + timeout_seconds
            )
            in_time = talk.finish()
            if not in_time:
                _kill(process)
            status = process.wait()
    except BaseException:
        _kill(process)
        raise
    needles = _needles(hidden, talk.output)
    return Ended(status if in_time else None, talk.output, _words(talk.said, needles))


class _Talk:
    """Feeds a program and reads from it, bounded in time and size, without a thread."""

    def __init__(
        self, process: subprocess.Popen[bytes], message: bytes, *, clock: Clock, deadline: float
    ) -> None:
        self.output = b""
        self.said = b""
        self._process = process
        self._message = memoryview(message)
        self._clock = clock
        self._deadline = deadline

    def finish(self) -> bool:
        """Return whether the program ended in time."""
        ended_at: float | None = None
        with selectors.DefaultSelector() as selector:
            self._register(selector)
            while True:
                now = self._clock.monotonic()
                if ended_at is None and self._process.poll() is not None:
                    ended_at = now
                if ended_at is not None and (
                    not selector.get_map() or now > ended_at + _DRAIN_SECONDS
                ):
                    return True
                if ended_at is None and now > self._deadline:
                    return False
                self._step(selector)

    def _register(self, selector: selectors.BaseSelector) -> None:
        process = self._process
        if process.stdin is None or process.stdout is None or process.stderr is None:
            return
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE, self._feed)
        selector.register(process.stdout, selectors.EVENT_READ, self._hear_output)
        selector.register(process.stderr, selectors.EVENT_READ, self._hear_words)

    def _step(self, selector: selectors.BaseSelector) -> None:
        if not selector.get_map():
            # Not the clock's sleep: a program takes real time to end, whatever the clock says.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_SECONDS)
            return
        for key, _ in selector.select(_POLL_SECONDS):
            if not key.data(key.fd):
                selector.unregister(key.fileobj)
                with contextlib.suppress(OSError):
                    key.fileobj.close()  # type: ignore[union-attr]  # registered as files

    def _feed(self, descriptor: int) -> bool:
        try:
            sent = os.write(descriptor, self._message[:_CHUNK_BYTES])
        except BlockingIOError:
            return True
        except BrokenPipeError:
            # It does not want to know: its status says what came of that.
            return False
        self._message = self._message[sent:]
        return bool(self._message)

    def _hear_output(self, descriptor: int) -> bool:
        chunk = os.read(descriptor, _CHUNK_BYTES)
        self.output = (self.output + chunk)[:_OUTPUT_BYTES]
        return bool(chunk)

    def _hear_words(self, descriptor: int) -> bool:
        chunk = os.read(descriptor, _CHUNK_BYTES)
        self.said = (self.said + chunk)[:_OUTPUT_BYTES]
        return bool(chunk)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Its whole session, so that no child of it goes on.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _words(said: bytes, needles: Sequence[bytes]) -> str:
    if len(said) >= _OUTPUT_BYTES and needles:
        # What was cut off may have been the rest of a value.
        said = said[: -len(needles[0])]
    for needle in needles:
        said = said.replace(needle, _MASK)
    words = " ".join(said.decode("utf-8", "replace").split())
    return "".join(letter for letter in words if letter.isprintable())[:_WORDS_LIMIT]


def _needles(hidden: Iterable[SecretValue], output: bytes) -> list[bytes]:
    # Longest first, or a value inside another would leave the rest standing.
    parts = {part for value in hidden for part in _parts(value.reveal())}
    # New values are on their way: of these nothing is known but what was printed.
    parts.update(re.findall(rb'[^\s"\\,:{}\[\]]{6,}', output))
    return sorted({form for part in parts for form in _forms(part)}, key=len, reverse=True)


def _parts(value: bytes) -> set[bytes]:
    # Programs quote by the line, and a PEM has many.
    lines = {line.strip() for line in value.splitlines()}
    return {value, value.strip()} | {line for line in lines if len(line) >= _SHORTEST_PART}


def _forms(part: bytes) -> set[bytes]:
    plain = {part, part.hex().encode(), part.hex().upper().encode()}
    for encoded in (base64.b64encode(part), base64.urlsafe_b64encode(part)):
        plain |= {encoded, encoded.rstrip(b"=")}
    text = part.decode("utf-8", "surrogateescape")
    for quoted in (
        quote(part, safe=""),
        quote_plus(part),
        repr(text)[1:-1],
        json.dumps(text)[1:-1],
    ):
        plain.add(quoted.encode("utf-8", "surrogateescape"))
    return {form for form in plain if form}
