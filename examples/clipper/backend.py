"""
Clipper's backend: a small service that changes its database login without dropping a request.

It takes everything it needs from its environment, as `keyturn run` gives it:

    keyturn run --consumer backend -- python backend.py

    GET /health   is it well, and which version of each secret does it run on
    GET /clips    the newest clips, through the connection pool
    GET /fresh    who the database says we are, through a new login

On SIGHUP it reads the file that Keyturn keeps current for it (`CLIPPER_ENV_FILE`),
opens a new pool, sends new requests there, waits until the last request on the old
pool is answered, and only then reports the new versions. Where the new login does
not work it stays on the old one and goes on reporting that: whoever asked for the
change sees that it did not happen.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg

REQUIRED = (
    "DB_HOST",
    "DB_PORT",
    "DB_USER",
    "DB_PASSWORD",
    "DB_NAME",
    "DB_SSLMODE",
    "ENVIRONMENT",
    "PORT",
)
POOL_SIZE = 4
# Every request ends within these bounds, so a drained pool is a matter of seconds.
CONNECT_SECONDS = 5
QUERY_SECONDS = 10
WAIT_SECONDS = 10


class BadSettings(Exception):
    """The environment or the file that replaces it cannot be used; the text says why."""


class Busy(Exception):
    """Every connection of the pool stayed in use for too long."""


class Database:
    """
    One login to the database: its settings, its pool, and how many requests use it.

    Connections are opened at once, so that a login that does not work is found here.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self.versions = read_versions(settings.get("KEYTURN_VERSIONS", ""))
        self._requests = 0
        self._idle = threading.Condition()
        self._pool: queue.LifoQueue[psycopg.Connection[Any]] = queue.LifoQueue()
        try:
            for _ in range(POOL_SIZE):
                self._pool.put(self.login())
        except psycopg.Error:
            self._close()
            raise

    def login(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=self._settings["DB_HOST"],
            port=self._settings["DB_PORT"],
            user=self._settings["DB_USER"],
            password=self._settings["DB_PASSWORD"],
            dbname=self._settings["DB_NAME"],
            sslmode=self._settings["DB_SSLMODE"],
            connect_timeout=CONNECT_SECONDS,
            options=f"-c statement_timeout={QUERY_SECONDS}s",
            application_name="clipper-backend",
            autocommit=True,
        )

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run *statement* on a connection of the pool."""
        try:
            connection = self._pool.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            raise Busy from None
        try:
            if connection.closed:
                connection = self.login()
            return connection.execute(statement).fetchall()
        finally:
            # A connection that broke goes back too: whoever takes it opens a new one.
            self._pool.put(connection)

    def whoami(self) -> str:
        """Log in anew and return the name that the database knows us by."""
        with self.login() as connection:
            row = connection.execute("SELECT session_user").fetchone()
        return str(row[0]) if row else ""

    def enter(self) -> None:
        with self._idle:
            self._requests += 1

    def leave(self) -> None:
        with self._idle:
            self._requests -= 1
            self._idle.notify_all()

    def drain(self) -> None:
        """Wait for the requests that use this login, then close its connections."""
        with self._idle:
            self._idle.wait_for(lambda: self._requests == 0)
        self._close()

    def _close(self) -> None:
        while not self._pool.empty():
            self._pool.get().close()


class Service:
    """What the requests share: the database in use and the versions it is reported under."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.environment = settings["ENVIRONMENT"]
        self._current = Database(settings)
        self.versions = self._current.versions
        # Held while a request takes the current database and while that is replaced,
        # so that no request can take one that is already drained.
        self._lock = threading.Lock()

    @contextmanager
    def database(self) -> Iterator[Database]:
        with self._lock:
            database = self._current
            database.enter()
        try:
            yield database
        finally:
            database.leave()

    def replace(self, settings: Mapping[str, str]) -> None:
        """Move to the login in *settings*, or raise and stay."""
        new = Database(settings)
        with self._lock:
            old, self._current = self._current, new
        old.drain()
        self.versions = new.versions

    def stop(self) -> None:
        self._current.drain()


class Handler(BaseHTTPRequestHandler):
    """The three pages."""

    server: Server
    protocol_version = "HTTP/1.1"
    # One packet an answer: head and body wait in the buffer until they are flushed.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        page = PAGES.get(self.path.partition("?")[0])
        if page is None:
            self._answer(404, {"reason": "no such page"})
            return
        service = self.server.service
        # The answer is on its way before the login counts as unused.
        with service.database() as database:
            try:
                status, document = 200, page(service, database)
            except (psycopg.Error, Busy) as error:
                log(f"{self.path} failed: {describe(error)}")
                status, document = 503, {"status": "unavailable", "reason": public_reason(error)}
            self._answer(status, document)

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: what fails is logged where it fails."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, service: Service) -> None:
        self.service = service
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, *_arguments: object) -> None:
        log(f"a client went away: {type(sys.exception()).__name__}")


def health(service: Service, database: Database) -> dict[str, object]:
    versions = service.versions
    database.query("SELECT 1")
    return {"status": "ok", "environment": service.environment, "versions": versions}


def clips(_service: Service, database: Database) -> dict[str, object]:
    rows = database.query(
        "SELECT id, streamer, title, seconds FROM clips ORDER BY id DESC LIMIT 20"
    )
    return {
        "clips": [
            dict(zip(("id", "streamer", "title", "seconds"), row, strict=True)) for row in rows
        ]
    }


def fresh(_service: Service, database: Database) -> dict[str, object]:
    return {"login": database.whoami()}


PAGES = {"/health": health, "/clips": clips, "/fresh": fresh}


def read_versions(text: str) -> dict[str, int]:
    """Return `db=3 jwt=1` as a mapping."""
    try:
        return {name: int(number) for name, number in (item.split("=") for item in text.split())}
    except ValueError:
        raise BadSettings("KEYTURN_VERSIONS does not read like `db=3 jwt=1`") from None


# An entry of the rendered file: a bare word, 'as it stands' or "with a \ before some".
_LINE = re.compile(
    r"""^(?:export\ )?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=
        (?: '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<bare>[^\s'"#]*) )
        [ \t]*$""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)


def read_dotenv(text: str) -> dict[str, str]:
    """Return the variables of a dotenv file as Keyturn renders it."""
    found = {}
    for match in _LINE.finditer(text):
        value = match["single"] if match["single"] is not None else match["bare"]
        if match["double"] is not None:
            value = re.sub(r"\\(.)", r"\1", match["double"], flags=re.DOTALL)
        found[match["name"]] = value
    return found


def complete(settings: Mapping[str, str], source: str) -> Mapping[str, str]:
    """Return *settings*, or raise with the names of all that are missing."""
    missing = [name for name in REQUIRED if not settings.get(name)]
    if missing:
        raise BadSettings(f"{source} lacks {', '.join(missing)}")
    for name in ("PORT", "DB_PORT"):
        if not settings[name].isdecimal():
            raise BadSettings(f"{name} in {source} is not a number")
    return settings


def reload(service: Service, env_file: Path) -> None:
    """Move to what *env_file* says; whatever is wrong with it, the service goes on."""
    try:
        text = env_file.read_bytes().decode(errors="surrogateescape")
        service.replace(complete(read_dotenv(text), str(env_file)))
    except (OSError, BadSettings, psycopg.Error) as error:
        log(f"reload refused, staying on the old login: {describe(error)}")
    else:
        log(f"reloaded, now on {versions_text(service.versions)}")


def versions_text(versions: Mapping[str, int]) -> str:
    return " ".join(f"{name}={number}" for name, number in versions.items()) or "no versions"


def describe(error: Exception) -> str:
    """Return the first line of *error*; libpq never quotes a password."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def public_reason(error: Exception) -> str:
    """Return what a stranger may know of *error*: no host, no user."""
    if isinstance(error, Busy):
        return "every database connection is in use"
    return f"the database did not answer as it should ({type(error).__name__})"


def log(text: str) -> None:
    sys.stderr.write(f"clipper: {text}\n")
    sys.stderr.flush()


def write_pid(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(f"{os.getpid()}\n")
    part.replace(path)


def main() -> int:
    env_file = Path(os.environ.get("CLIPPER_ENV_FILE") or "run/backend.env")
    pid_file = Path(os.environ.get("CLIPPER_PID_FILE") or "run/backend.pid")
    try:
        settings = complete(dict(os.environ), "the environment")
        service = Service(settings)
        server = Server(int(settings["PORT"]), service)
    except (BadSettings, psycopg.Error, OSError) as error:
        log(f"cannot start: {describe(error)}")
        return 1

    # Signals wait until the main thread asks for them, so none comes at a bad moment.
    signals = {signal.SIGHUP, signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    write_pid(pid_file)
    log(f"listening on 127.0.0.1:{server.server_port}, on {versions_text(service.versions)}")
    while signal.sigwait(signals) == signal.SIGHUP:
        reload(service, env_file)

    server.shutdown()
    server.server_close()
    service.stop()
    pid_file.unlink(missing_ok=True)
    log("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
