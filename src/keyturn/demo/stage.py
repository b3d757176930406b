"""The demo's temporary folder, the programs that run in it, and the end of both."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import IO, Any, Self, TypeVar

from keyturn.core.value import SecretValue
from keyturn.errors import VerificationFailed

__all__ = ["Stage", "keyturn_command"]

_TERMINAL_ROWS = 50
# What a program here may know of the person's own environment: any other setting could
# change what is shown, such as a PORT or a KEYTURN_ENVIRONMENT of theirs.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TMPDIR", "NO_COLOR", "PYTHONPATH")
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


_Held = TypeVar("_Held")


class Stage:
    """
    A folder that only its owner can read, and every program started in it.

    As a context it also makes SIGTERM and SIGHUP an interrupt, so that leaving it
    cleans up however the demo ends. Programs run in sessions of their own: an
    interrupt at the terminal reaches the demo alone, which then ends them by id.

    Args:
        keep: Leave the folder where it is at the end; programs are ended all the same.
        command_seconds: A command that takes longer is killed.
        end_seconds: A program told to end is killed after these.
    """

    def __init__(
        self, *, keep: bool = False, command_seconds: float = 60, end_seconds: float = 10
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="keyturn-demo-"))
        self.project = self.folder / "clipper"
        self.key_home = self.folder / "keys"
        self.project.mkdir()
        self._keep = keep
        self._command_seconds = command_seconds
        self._end_seconds = end_seconds
        self._held = contextlib.ExitStack()
        self._programs: list[subprocess.Popen[bytes]] = []
        self._handlers: dict[signal.Signals, Any] = {}
        # An interrupt between a program's start and its entry in the list waits.
        self._spawning = False
        self._interrupted = False

    def environment(self, settings: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a program here, with *settings* in it."""
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        own = {
            "HOME": str(self.folder),
            "KEYTURN_HOME": str(self.key_home),
            # In a pipe too, results and talk come in the order in which they were said.
            "PYTHONUNBUFFERED": "1",
        }
        return {**passed, **own, **(settings or {})}

    def hold(self, thing: AbstractContextManager[_Held]) -> _Held:
        """Enter *thing*, and leave it once every program here has ended."""
        return self._held.enter_context(thing)

    def start(self, words: Sequence[str], *, log: Path) -> subprocess.Popen[bytes]:
        """Start a program that goes on until the end, its output in the file *log*."""
        with log.open("ab") as stream:
            program = self._spawn(words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        # Waited for at once: one that dies must not look alive to others as a zombie.
        threading.Thread(target=program.wait, name=f"wait-{program.pid}", daemon=True).start()
        return program

    def run(
        self,
        words: Sequence[str],
        *,
        on_line: Callable[[str], None],
        settings: Mapping[str, str] | None = None,
        given: SecretValue | None = None,
        terminal_columns: int | None = None,
    ) -> int:
        """
        Run a program to its end and return its exit code, negative for a signal.

        Args:
            on_line: Called with each line of its output and its errors, as they come.
            given: Written to its standard input.
            terminal_columns: It writes to a terminal this wide, not to a pipe.
        """
        reading, writing = os.pipe() if terminal_columns is None else _terminal(terminal_columns)
        with open(reading, "rb") as output:  # noqa: PTH123 - a descriptor
            try:
                program = self._spawn(
                    words,
                    settings=settings,
                    stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
                    stdout=writing,
                    stderr=writing,
                )
            finally:
                os.close(writing)
            with _deadline(program, self._command_seconds):
                _give(program, given)
                # A terminal whose last writer has gone answers with an error, not an end.
                with contextlib.suppress(OSError):
                    for line in output:
                        on_line(line.decode(errors="replace").rstrip("\r\n"))
                return program.wait()

    def ask(self, words: Sequence[str]) -> SecretValue:
        """
        Run a program and return exactly what it writes to standard output, shown to nobody.

        Raises:
            VerificationFailed: It ended with another code than 0.
        """
        program = self._spawn(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with _deadline(program, self._command_seconds):
            answer, complaint = program.communicate()
        if program.returncode != 0:
            said = complaint.decode(errors="replace").strip()
            raise VerificationFailed(f"`{words[0]}` ended with {program.returncode}: {said}")
        return SecretValue(answer)

    def close(self) -> None:
        """End every program by its id, the newest first, let go of all, remove the folder."""
        for program in reversed(self._programs):
            _end(program, self._end_seconds)
        self._programs.clear()
        self._held.close()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        # Only the main thread may say what signals do; elsewhere they stay as they are.
        if threading.current_thread() is threading.main_thread():
            for number in _ENDINGS:
                self._handlers[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.close()
            return
        # A second Ctrl-C must not leave half of it behind; what remains to do is short.
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)
        try:
            self.close()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def _spawn(
        self,
        words: Sequence[str],
        *,
        stdin: int,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
        settings: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        self._programs = [other for other in self._programs if other.returncode is None]
        self._spawning = True
        try:
            program = subprocess.Popen(
                words,
                cwd=self.project,
                env=self.environment(settings),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            self._programs.append(program)
        finally:
            self._spawning = False
        if self._interrupted:
            raise KeyboardInterrupt
        return program

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._spawning:
            self._interrupted = True
        else:
            raise KeyboardInterrupt


def keyturn_command() -> list[str]:
    """
    Return the words that start this very installation's `keyturn`.

    It is the script beside the interpreter where there is one that a person would
    run; else the package as a module, without the working folder in its path.
    """
    script = Path(sys.executable).parent / "keyturn"
    if sys.prefix != sys.base_prefix and os.access(script, os.X_OK):
        return [str(script)]
    return [sys.executable, "-P", "-m", "keyturn"]


@contextlib.contextmanager
def _deadline(program: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Kill *program* if it does not end in time: then its exit code says so."""
    timer = threading.Timer(seconds, program.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _terminal(columns: int) -> tuple[int, int]:
    import pty
    import termios

    reading, writing = pty.openpty()
    termios.tcsetwinsize(writing, (_TERMINAL_ROWS, columns))
    return reading, writing


def _give(program: subprocess.Popen[bytes], value: SecretValue | None) -> None:
    if program.stdin is None or value is None:
        return
    # A program that ends without reading has its own reason, which its output tells.
    with contextlib.suppress(BrokenPipeError), program.stdin:
        program.stdin.write(value.reveal())


def _end(program: subprocess.Popen[bytes], seconds: float) -> None:
    if program.poll() is not None:
        return
    program.terminate()
    try:
        program.wait(seconds)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()
