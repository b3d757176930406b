"""
Clipper's backend: a small service that changes its secrets without dropping a request.

It takes everything it needs from its environment, as `keyturn run` gives it:

    keyturn run --consumer backend -- python backend.py

    GET /health   is it well, and which version of each secret does it run on
    GET /clips    the newest clips, through the connection pool
    GET /fresh    who the database says we are, through a new login
    GET /cached   a value in Redis, written and read
    GET /token    an access token and a session of `?user=`
    GET /whoami   whose they are: `Authorization: Bearer`, `Cookie`
    GET /seed     the length of the second factor's seed of `?user=`, kept encrypted

The first three are all that it cannot do without; the others answer 404 where their
secret is not there.

On SIGHUP it reads the file that Keyturn keeps current for it (`CLIPPER_ENV_FILE`),
makes everything anew with what stands there, sends new requests to it, waits until the
last request on the old is answered, and only then reports the new versions. Where
something new does not work it stays on the old and goes on reporting that: whoever
asked for the change sees that it did not happen.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import psycopg
from delivery import (
    ENV_FILE,
    BadSettings,
    complete,
    delivered,
    read_versions,
    versions_text,
)
from keys import Refused, Seeds, Sessions, Tokens

PID_FILE = Path(os.environ.get("CLIPPER_PID_FILE") or "run/backend.pid")
POOL_SIZE = 4
# Every request ends within these bounds, so a drained pool is a matter of seconds.
CONNECT_SECONDS = 5
QUERY_SECONDS = 10
WAIT_SECONDS = 10


class Busy(Exception):
    """Every connection of the pool stayed in use for too long, or Redis did not answer."""


class Missing(Exception):
    """This service was not given what the page needs."""


class Database:
    """
    One login to the database and its pool.

    Connections are opened at once, so that a login that does not work is found here.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self._pool: queue.LifoQueue[psycopg.Connection[Any]] = queue.LifoQueue()
        try:
            for _ in range(POOL_SIZE):
                self._pool.put(connect(settings))
        except psycopg.Error:
            self.close()
            raise

    def query(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run *statement* on a connection of the pool."""
        try:
            connection = self._pool.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            raise Busy from None
        try:
            if connection.closed:
                connection = connect(self._settings)
            return connection.execute(statement, values or None).fetchall()
        finally:
            # A connection that broke goes back too: whoever takes it opens a new one.
            self._pool.put(connection)

    def whoami(self) -> str:
        """Log in anew and return the name that the database knows us by."""
        with connect(self._settings) as connection:
            row = connection.execute("SELECT session_user").fetchone()
        return str(row[0]) if row else ""

    def close(self) -> None:
        while not self._pool.empty():
            self._pool.get().close()


class Cache:
    """Redis, where there is one; *works* says whether it let us in."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._client = redis.Redis(
            host=settings.get("REDIS_HOST") or "localhost",
            port=int(settings.get("REDIS_PORT") or 6379),
            password=settings["REDIS_PASSWORD"],
            socket_timeout=CONNECT_SECONDS,
            # The server ends sessions when a password is taken away: then we connect again.
            retry=Retry(NoBackoff(), 2),
            decode_responses=True,
        )
        self._failures = (redis.RedisError, OSError)
        self.works = self.set_and_get("hello") is not None

    def set_and_get(self, text: str) -> str | None:
        """Write *text* and return what is read then; None where Redis does not let us."""
        try:
            self._client.set("clip", text)
            return str(self._client.get("clip"))
        except self._failures:
            return None

    def close(self) -> None:
        self._client.close()


class Outfit:
    """
    Everything that is made of one delivery of settings, and how many requests use it.

    Raises:
        BadSettings, psycopg.Error: Something of it does not work.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.versions = read_versions(settings.get("KEYTURN_VERSIONS", ""))
        self._requests = 0
        self._idle = threading.Condition()
        self.tokens = optional(Tokens, settings, "JWT_PRIVATE_KEY_B64")
        self.sessions = optional(Sessions, settings, "SESSION_SECRET")
        self.seeds = optional(Seeds, settings, "MFA_ENCRYPTION_KEYS")
        self.cookie_name = settings.get("SESSION_COOKIE_NAME") or "clipper_session"
        self.database = Database(settings)
        self.cache = optional(Cache, settings, "REDIS_PASSWORD")

    def enter(self) -> None:
        with self._idle:
            self._requests += 1

    def leave(self) -> None:
        with self._idle:
            self._requests -= 1
            self._idle.notify_all()

    def drain(self) -> None:
        """Wait for the requests that use this, then close its connections."""
        with self._idle:
            self._idle.wait_for(lambda: self._requests == 0)
        self.close()

    def close(self) -> None:
        self.database.close()
        if self.cache is not None:
            self.cache.close()


class Service:
    """What the requests share: the outfit in use and the versions it is reported under."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.environment = settings["ENVIRONMENT"]
        self._current = Outfit(settings)
        self.versions = self._current.versions
        # Held while a request takes the current outfit and while that is replaced,
        # so that no request can take one that is already drained.
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def outfit(self) -> Iterator[Outfit]:
        with self._lock:
            outfit = self._current
            outfit.enter()
        try:
            yield outfit
        finally:
            outfit.leave()

    def replace(self, settings: Mapping[str, str]) -> None:
        """Move to what *settings* say, or raise and stay."""
        new = Outfit(settings)
        before = self._current.cache
        if before is not None and before.works and not (new.cache and new.cache.works):
            new.close()
            raise BadSettings("Redis does not let us in, and did before")
        with self._lock:
            old, self._current = self._current, new
        old.drain()
        self.versions = new.versions

    def stop(self) -> None:
        self._current.drain()


@dataclass(frozen=True)
class Request:
    """What a page may know of who asks."""

    user: int
    token: str
    cookies: Mapping[str, str]


class Handler(BaseHTTPRequestHandler):
    """The pages."""

    server: Server
    protocol_version = "HTTP/1.1"
    # One packet an answer: head and body wait in the buffer until they are flushed.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        page = PAGES.get(urlsplit(self.path).path)
        if page is None:
            self._answer(HTTPStatus.NOT_FOUND, {"reason": "no such page"})
            return
        service = self.server.service
        # The answer is on its way before the outfit counts as unused.
        with service.outfit() as outfit:
            try:
                status, document = HTTPStatus.OK, page(service, outfit, self._request())
            except Missing as error:
                status, document = HTTPStatus.NOT_FOUND, {"reason": str(error)}
            except Refused as error:
                status, document = HTTPStatus.UNAUTHORIZED, {"reason": str(error)}
            except (psycopg.Error, Busy) as error:
                log(f"{urlsplit(self.path).path} failed: {describe(error)}")
                status = HTTPStatus.SERVICE_UNAVAILABLE
                document = {"status": "unavailable", "reason": public_reason(error)}
            self._answer(status, document)

    def _request(self) -> Request:
        user = parse_qs(urlsplit(self.path).query).get("user", ["1"])[0]
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        cookies: SimpleCookie = SimpleCookie()
        with contextlib.suppress(CookieError):
            cookies.load(self.headers.get("Cookie", ""))
        return Request(
            user=int(user) if user.isdecimal() else 1,
            token=token if scheme == "Bearer" else "",
            cookies={name: morsel.value for name, morsel in cookies.items()},
        )

    def _answer(self, status: HTTPStatus, document: object) -> None:
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


def health(service: Service, outfit: Outfit, _request: Request) -> dict[str, object]:
    versions = service.versions
    outfit.database.query("SELECT 1")
    return {"status": "ok", "environment": service.environment, "versions": versions}


def clips(_service: Service, outfit: Outfit, _request: Request) -> dict[str, object]:
    rows = outfit.database.query(
        "SELECT id, streamer, title, seconds FROM clips ORDER BY id DESC LIMIT 20"
    )
    return {
        "clips": [
            dict(zip(("id", "streamer", "title", "seconds"), row, strict=True)) for row in rows
        ]
    }


def fresh(_service: Service, outfit: Outfit, _request: Request) -> dict[str, object]:
    return {"login": outfit.database.whoami()}


def cached(_service: Service, outfit: Outfit, request: Request) -> dict[str, object]:
    found = needed(outfit.cache, "Redis").set_and_get(str(request.user))
    if found is None:
        raise Busy("Redis did not answer as it should")
    return {"cached": found}


def token(_service: Service, outfit: Outfit, request: Request) -> dict[str, object]:
    user = str(request.user)
    tokens, sessions = needed(outfit.tokens, "tokens"), needed(outfit.sessions, "sessions")
    return {
        "token": tokens.issue(user),
        "cookie": f"{outfit.cookie_name}={sessions.issue(user)}",
    }


def whoami(_service: Service, outfit: Outfit, request: Request) -> dict[str, object]:
    found = {}
    if request.token:
        found["token"] = needed(outfit.tokens, "tokens").user_of(request.token)
    if outfit.cookie_name in request.cookies:
        cookie = request.cookies[outfit.cookie_name]
        found["session"] = needed(outfit.sessions, "sessions").user_of(cookie)
    if not found:
        raise Refused("nobody has signed in")
    return {"user": found}


def seed(_service: Service, outfit: Outfit, request: Request) -> dict[str, object]:
    seeds = needed(outfit.seeds, "second factors")
    # The first one to come has the row: whoever is second reads it.
    outfit.database.query(
        "WITH made AS (INSERT INTO mfa_seeds (user_id, key_id, nonce, sealed)"
        " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM made",
        (request.user, *seeds.seal(request.user, os.urandom(20))),
    )
    (row,) = outfit.database.query(
        "SELECT key_id, nonce, sealed FROM mfa_seeds WHERE user_id = %s", (request.user,)
    )
    return {"bytes": len(seeds.open(request.user, *row)), "key": row[0]}


Page = Callable[[Service, Outfit, Request], dict[str, object]]
PAGES: Mapping[str, Page] = {
    "/health": health,
    "/clips": clips,
    "/fresh": fresh,
    "/cached": cached,
    "/token": token,
    "/whoami": whoami,
    "/seed": seed,
}

Made = TypeVar("Made")


def optional(
    make: Callable[[Mapping[str, str]], Made], settings: Mapping[str, str], variable: str
) -> Made | None:
    """Return what *make* makes of *settings*; None where *variable* is not among them."""
    if not settings.get(variable):
        return None
    try:
        return make(settings)
    except ImportError as error:
        log(f"going on without what {variable} is for: {error}")
        return None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        # Not its words, which may quote what they are about.
        raise BadSettings(f"{variable} cannot be used ({type(error).__name__})") from None


def needed(found: Made | None, what: str) -> Made:
    if found is None:
        raise Missing(f"this service has no {what}")
    return found


def connect(settings: Mapping[str, str]) -> psycopg.Connection[Any]:
    """Log in to the database."""
    return psycopg.connect(
        host=settings["DB_HOST"],
        port=settings["DB_PORT"],
        user=settings["DB_USER"],
        password=settings["DB_PASSWORD"],
        dbname=settings["DB_NAME"],
        sslmode=settings["DB_SSLMODE"],
        connect_timeout=CONNECT_SECONDS,
        options=f"-c statement_timeout={QUERY_SECONDS}s",
        application_name="clipper-backend",
        autocommit=True,
    )


def reload(service: Service) -> None:
    """Move to what was delivered; whatever is wrong with it, the service goes on."""
    try:
        service.replace(complete(delivered(), str(ENV_FILE)))
    except (OSError, BadSettings, psycopg.Error) as error:
        log(f"reload refused, staying on what was in use: {describe(error)}")
    else:
        log(f"reloaded, now on {versions_text(service.versions)}")


def describe(error: Exception) -> str:
    """Return the first line of *error*; libpq never quotes a password."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def public_reason(error: Exception) -> str:
    """Return what a stranger may know of *error*: no host, no user."""
    if isinstance(error, Busy):
        return str(error) or "every database connection is in use"
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
    write_pid(PID_FILE)
    log(f"listening on 127.0.0.1:{server.server_port}, on {versions_text(service.versions)}")
    while signal.sigwait(signals) == signal.SIGHUP:
        reload(service)

    server.shutdown()
    server.server_close()
    service.stop()
    PID_FILE.unlink(missing_ok=True)
    log("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
