"""A real Redis server on loopback, in a folder of its own, gone when stopped."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.errors import NotFound
from keyturn.testing._process import HOST, ServerProcess, free_port, listens

if TYPE_CHECKING:
    import redis

__all__ = ["RedisServer"]

_START_ATTEMPTS = 3


class RedisServer:
    """
    One server, started by `start` or by entering the context, removed by `stop`.

    The default user may do everything, with *password*.

    Args:
        keeps: Where it keeps its users: `aclfile`, `config`, or `nowhere`, in which
            case they are gone with a restart.
        settings: More lines of its configuration.
        tls: Certificate, key and authority; it then takes no plain connection.
    """

    host = HOST

    def __init__(
        self,
        *,
        keeps: str = "config",
        settings: Sequence[str] = (),
        tls: tuple[Path, Path, Path] | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.port = 0
        self.password = SecretValue((entropy or SystemEntropy()).random_bytes(20).hex().encode())
        self._keeps = keeps
        self._settings = settings
        self._tls = tls
        self._process = ServerProcess("redis")

    @property
    def folder(self) -> Path:
        """Where the server's files are."""
        return self._process.folder

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self._process.log_path

    def start(self) -> Self:
        """
        Start the server and wait until it listens.

        Raises:
            NotFound: Redis is not installed.
            Unavailable: It did not start; the message has the end of its log.
        """
        program = shutil.which("redis-server")
        if program is None:
            raise NotFound("no `redis-server` is installed", hint="apt-get install redis-server")
        try:
            self._write()
            for attempt in range(1, _START_ATTEMPTS + 1):
                self.port = free_port()
                try:
                    self._launch(program)
                except Exception:
                    # A free port can be taken by another process before the server has it.
                    if attempt == _START_ATTEMPTS:
                        raise
                else:
                    return self
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and remove every file of it; a second call does nothing."""
        self._process.remove()

    def restart(self) -> None:
        """Stop and start again on the same port: what was kept nowhere is forgotten."""
        self._process.halt()
        self._launch(shutil.which("redis-server") or "redis-server")

    def connect(
        self, *, user: str | None = None, password: SecretValue | None = None
    ) -> redis.Redis:
        """Return a client, of the default user unless told otherwise."""
        import redis

        secret = self.password if password is None else password
        return redis.Redis(
            host=self.host,
            port=self.port,
            username=user,
            password=secret.reveal_text(),
            decode_responses=True,
            ssl=self._tls is not None,
            ssl_ca_certs=None if self._tls is None else str(self._tls[2]),
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write(self) -> None:
        password = self.password.reveal_text()
        lines = [f"bind {self.host}", f"dir {self.folder}", 'save ""', "appendonly no"]
        if self._keeps == "aclfile":
            users = self.folder / "users.acl"
            users.write_text(f"user default on >{password} ~* &* +@all\n")
            lines.append(f"aclfile {users}")
        else:
            lines.append(f"requirepass {password}")
        (self.folder / "redis.conf").write_text("\n".join([*lines, *self._settings, ""]))

    def _launch(self, program: str) -> None:
        command = [program, self.folder / "redis.conf", *self._listening()]
        if self._keeps == "nowhere":
            # By arguments alone, so that the server knows of no file.
            command = [program, "--dir", self.folder, "--bind", self.host, *self._listening()]
        self._process.launch(command, answers=lambda: listens(self.port))
        if self._keeps == "nowhere":
            self._protect()

    def _protect(self) -> None:
        import redis

        with redis.Redis(host=self.host, port=self.port) as client:
            client.config_set("requirepass", self.password.reveal_text())

    def _listening(self) -> list[str | Path]:
        if self._tls is None:
            return ["--port", str(self.port)]
        certificate, key, authority = self._tls
        return [
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", certificate, "--tls-key-file", key),
            *("--tls-ca-cert-file", authority),
        ]
