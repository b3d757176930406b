"""Docker's two stores as tests build them, and services that read what they hold."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time

import pytest

from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, StoreName, Token
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.errors import NotFound
from keyturn.manifest import LiveKeys, StoreKind, StoreSettings
from keyturn.stores import compose, swarm
from keyturn.stores._context import StoreContext
from keyturn.stores._file_place import FilePlace, PlainAside
from keyturn.stores._place import plain_key
from keyturn.testing.docker import DockerServer

PRODUCTION = EnvironmentName("production")
DB = SecretRef(PRODUCTION, SecretName("db"))
_WAIT_SECONDS = 30


def context(
    kind, folder, /, *, project="clipper", keep=None, keys=LiveKeys.NAMES, clock=None, **options
):
    """Return what a store of *kind* is built from, with what is kept aside below *folder*."""

    def aside(environment):
        return FilePlace(
            folder / "nothing-live",
            folder / "aside" / f"{environment}.json",
            text=None,
            seal=PlainAside(),
            name=plain_key,
        )

    return StoreContext(
        StoreSettings(StoreName("docker"), kind, options, keys=keys),
        project=project,
        folder=folder,
        state=folder / ".keyturn",
        clock=clock or SystemClock(),
        entropy=SystemEntropy(),
        variable=lambda ref, field: None,
        facts=lambda ref: {"owner": "team-clips"},
        ask=lambda prompt: SecretValue(b""),
        keep=keep or aside,
    )


def compose_context(folder, /, **options):
    """Return file secrets in `secrets/ENVIRONMENT` below *folder*."""
    return context(StoreKind.COMPOSE, folder, **{"folder": "secrets", **options})


def swarm_context(dockerd, folder, project, **options):
    """Return secrets of *project* in the swarm of *dockerd*."""
    options = {"host": dockerd.host, **options}
    return context(StoreKind.SWARM, folder, project=project, **options)


def compose_store(folder, /, **options):
    return compose.build(compose_context(folder, **options))


def swarm_store(dockerd, folder, project, **options):
    return swarm.build(swarm_context(dockerd, folder, project, **options))


def put(store, ref=DB, *, token=None, **fields):
    """Store *fields* as pending and return the number."""
    values = {FieldName(name): SecretValue(data) for name, data in fields.items()}
    token = token or f"token {store.state(ref).next_number}"
    return store.put_pending(ref, values, origin=Origin.SET, token=Token(token)).number


def activate(store, ref=DB, **fields):
    """Make *fields* the current version of *ref* and return its number."""
    expected = store.state(ref).current
    number = put(store, ref, **fields)
    store.promote(ref, number, expected_current=expected)
    return number


def current(store, ref=DB):
    """Return the current values by field."""
    return {name: v.reveal() for name, v in store.read(ref, Stage.CURRENT).values.items()}


@contextlib.contextmanager
def swarm_daemon():
    """A real Docker daemon that is the one manager of a swarm of its own."""
    server = DockerServer()
    try:
        server.start()
    except NotFound as error:
        pytest.skip(error.message)
    try:
        server.start_swarm()
        yield server
    finally:
        server.stop()


class Service:
    """A service of the swarm that prints its secrets when it starts, then stays up."""

    # Ends at once when told to, and where a value says `bad`.
    SCRIPT = (
        "trap 'exit 0' TERM; cd /run/secrets; for f in *; do echo \"$f=$(cat $f)\"; done;"
        ' case "$(cat *)" in *bad*) exit 7;; esac;'
        " while true; do sleep 1 & wait $!; done"
    )

    def __init__(self, dockerd, name, secrets, *, words=()):
        self.dockerd, self.name = dockerd, name
        given = [f"--secret={secret}" for secret in secrets]
        dockerd.docker(
            *("service", "create", "--name", name, "--network", "host", "--detach=false"),
            *("--quiet", "--no-healthcheck", "--stop-grace-period", "1s", "--restart-delay", "1s"),
            *("--update-monitor", "1s", "--update-delay", "0s", "--rollback-monitor", "1s"),
            *("--no-resolve-image", *given, *words, dockerd.image, "sh", "-c", self.SCRIPT),
        )

    @property
    def spec(self):
        return self._inspect()["Spec"]

    @property
    def before(self):
        return self._inspect()["PreviousSpec"]

    @property
    def secrets(self):
        """(name under which, secret, mode, uid) of each."""
        return references(self.spec)

    def _inspect(self):
        return json.loads(self.dockerd.docker("service", "inspect", self.name))[0]

    def read(self, file):
        """Return what the running container has in *file*."""
        return self.run("cat", f"/run/secrets/{file}")

    def run(self, *words):
        """Run *words* in the running container, once there is one."""
        until = time.monotonic() + _WAIT_SECONDS
        while True:
            wanted = f"label=com.docker.swarm.service.name={self.name}"
            found = self.dockerd.docker("ps", "--quiet", "--filter", wanted).split()
            if found:
                return self.dockerd.docker("exec", found[0], *words)
            assert time.monotonic() < until, "no container came up"
            time.sleep(0.1)

    def remove(self):
        self.dockerd.docker("service", "rm", self.name, check=False)


def references(spec):
    """Return (name under which, secret, mode, uid) of each secret of a service's *spec*."""
    found = spec["TaskTemplate"]["ContainerSpec"].get("Secrets") or []
    return sorted(
        (ref["File"]["Name"], ref["SecretName"], ref["File"]["Mode"], ref["File"]["UID"])
        for ref in found
    )


class LossyRelay:
    """
    Stands before a daemon's socket and loses what it is told to, once each.

    `lose` names the start of a request, such as `POST /secrets/create`. It is lost on
    the way there (`before`), or its answer on the way back (`after`), or answered with
    a fault of the daemon's own (`fault`).
    """

    def __init__(self, dockerd, folder):
        self._upstream = dockerd.host.removeprefix("unix://")
        self.lost = []
        self._plan = []
        self._listener, self.host = self._listen(folder)
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _listen(self, folder):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{folder}/relay.sock")
        return listener, f"unix://{folder}/relay.sock"

    def lose(self, start, how):
        self._plan.append((start, how))

    def close(self):
        # What is blocked in `accept` wakes up only for somebody who comes.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), self._received(client) as received:
                self._pass(received)

    def _received(self, client):
        return client

    def _pass(self, client):
        request = self._request(client)
        # Without the version of the API.
        line = re.sub(rb"^(\w+) /v[0-9.]+", rb"\1 ", request.split(b"\r\n", 1)[0]).decode()
        planned = next((each for each in self._plan if line.startswith(each[0])), None)
        how = None if planned is None else planned[1]
        if planned is not None:
            self._plan.remove(planned)
            self.lost.append(planned)
        if how == "before":
            return
        if how == "fault":
            client.sendall(b"HTTP/1.1 500 Fault\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(self._upstream)
            daemon.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = b""
            while chunk := daemon.recv(65536):
                answer += chunk
        if how is None:
            client.sendall(answer)

    def _request(self, client):
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: *([0-9]+)", head)
        while found is not None and len(body) < int(found[1]):
            chunk = client.recv(65536)
            data, body = data + chunk, body + chunk
        return data


class TlsRelay(LossyRelay):
    """The same on a port of loopback, under TLS that asks for the client's certificate."""

    def _listen(self, folder):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._context.load_verify_locations(folder / "ca.pem")
        self._context.verify_mode = ssl.CERT_REQUIRED
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        return listener, f"tcp://127.0.0.1:{listener.getsockname()[1]}"

    def _received(self, client):
        return self._context.wrap_socket(client, server_side=True)
