"""What the scenes share: the stage, the database, the service under load, the commands."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keyturn.core.clock import Clock, SystemClock
from keyturn.core.value import SecretValue
from keyturn.demo.load import Load
from keyturn.demo.show import MARGIN, Show, aligned, counted
from keyturn.demo.stage import Stage, keyturn_command
from keyturn.errors import KeyturnError, Unavailable, VerificationFailed

if TYPE_CHECKING:
    from keyturn.testing.postgres import PostgresServer

__all__ = ["HOST", "Cast"]

HOST = "127.0.0.1"
_READY_SECONDS = 20
_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 5
_TAIL_LINES = 12


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Cast:
    """
    Everything on stage.

    Args:
        port: Where the backend listens.
        admin_password: Of the login that may administer logins.
        load: None until the backend is up.
    """

    stage: Stage
    show: Show
    server: PostgresServer
    clock: Clock = field(default_factory=SystemClock)
    port: int = field(default_factory=_free_port)
    admin_password: SecretValue | None = None
    load: Load | None = None
    backend: subprocess.Popen[bytes] | None = None

    def keyturn(
        self,
        *words: str,
        expected: int = 0,
        settings: Mapping[str, str] | None = None,
        given: SecretValue | None = None,
        table: bool = False,
        lines: int = _TAIL_LINES,
    ) -> None:
        """
        Show a `keyturn` command line, run it, and show what it says.

        Args:
            expected: The exit code that is right.
            settings: Set in its environment, and shown.
            given: Written to its standard input, and not shown.
            table: Its result is a table.
            lines: At most so many are shown.

        Raises:
            VerificationFailed: It ended with another code; then all of it was shown.
        """
        self.show.command(["keyturn", *words], settings)
        said: list[str] = []

        def hear(line: str) -> None:
            said.append(line)
            if not table and len(said) <= lines:
                self.show.output(line)

        code = self.stage.run(
            [*keyturn_command(), *words],
            on_line=hear,
            settings=settings,
            given=given,
            terminal_columns=self._columns() if table else None,
        )
        if code != expected:
            self._show_lines(said[0 if table else lines :])
            raise VerificationFailed(
                f"`keyturn {' '.join(words)}` ended with {code}, not with {expected}",
                hint="what it said stands above; the demo stopped there",
            )
        if table:
            self._show_table(said, lines)
        elif len(said) > lines:
            self._show_rest(said[lines:])

    def ask_keyturn(self, *words: str) -> SecretValue:
        """Run a `keyturn` command and return what it writes to standard output, unshown."""
        return self.stage.ask([*keyturn_command(), *words])

    def read_keyturn(self, *words: str) -> Any:
        """Run a reading `keyturn` command and return its JSON document, which has no value."""
        return json.loads(self.ask_keyturn(*words, "--json").reveal())

    def start_backend(self, words: Sequence[str]) -> None:
        """Show and start the backend by `keyturn run`, and wait until it is healthy."""
        self.show.command(["keyturn", *words, "python", "backend.py", "&"])
        self.backend = self.stage.start(
            [*keyturn_command(), *words, sys.executable, "backend.py"],
            log=self.stage.folder / "backend.log",
        )
        deadline = self.clock.monotonic() + _READY_SECONDS
        while not self.health():
            if self.backend.poll() is not None or self.clock.monotonic() > deadline:
                raise Unavailable("the backend did not start", hint="its last words stand above")
            self.clock.sleep(_POLL_SECONDS)

    def health(self) -> dict[str, Any]:
        """Return the backend's own account of its health; empty where there is none."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_ANSWER_SECONDS)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/health")
                answer = connection.getresponse()
                document = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                return {}
        return document if answer.status == http.client.OK else {}

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Show the backend's last words where what happens in here fails."""
        try:
            yield
        except KeyturnError:
            if self.load is not None:
                self.show.say(counted(self.load.tally()))
            log = self.stage.folder / "backend.log"
            if log.exists() and log.stat().st_size:
                self.show.say("the backend's last words:")
                self._show_lines(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
            raise

    def more_requests(self, count: int) -> None:
        """
        Let the load make *count* more requests.

        Raises:
            Unavailable: The service does not answer any more.
        """
        if self.load is None:
            return
        wanted = self.load.tally().requests + count
        if not self.load.wait_for(wanted, timeout=_READY_SECONDS + count):
            raise Unavailable("the backend stopped answering")

    def _columns(self) -> int | None:
        """Return how wide a table may be; None where it goes to a pipe."""
        console = self.show.console
        return console.width - MARGIN if console.is_terminal else None

    def _show_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.show.output(line)

    def _show_table(self, said: Sequence[str], lines: int) -> None:
        rows = aligned([line for line in said if line.strip()])
        self._show_lines(rows[:lines])
        self._show_rest(rows[lines:])

    def _show_rest(self, rest: Sequence[str]) -> None:
        """Show the last line of *rest*, where sums stand, and how many come before it."""
        if len(rest) > 1:
            self.show.output(f"... {len(rest) - 1} more lines")
        self._show_lines(rest[-1:])
