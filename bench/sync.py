"""
What it costs to move a thousand secrets with their history from store to store and back.

    .venv/bin/python bench/sync.py [--secrets N] [--loop N] [--no-aws] [--folder FOLDER]

Makes a project in FOLDER with N secrets (1000) of one to three versions, and moves them as
`keyturn sync` does: from Keyturn's own store to OpenBao with a path for each secret, on to
moto's AWS behind a front that answers as AWS does, and from there into an empty project.
Every version is read back and compared on the way; at the end all of them are held
against those of the start: values, numbers, origins, times, stages.

Beside it a loop of `bao kv put`, one process a secret as in a script: N of them (60) are
measured and the rest is reckoned. It writes one value for each secret, without history,
compare-and-set or reading back. In OpenBao's own default a document takes 499 fields, so
that a thousand do not lie in one path.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from keyturn.app.config import Settings
from keyturn.app.session import Session, open_session
from keyturn.app.sides import Side, pick_sides
from keyturn.app.start import start_project
from keyturn.app.syncing import plan_sync, sync
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import History, Origin, SecretRef
from keyturn.core.value import SecretValue
from keyturn.stores._aws_calls import SecretsApi
from keyturn.stores._vault_session import Session as VaultSession
from keyturn.testing.moto import MotoServer
from keyturn.testing.openbao import OpenBaoServer
from tests.integration.aws_front import AwsFront

WHERE = EnvironmentName("production")
MANIFEST = """\
[project]
name = "bench"
owner = "bench"
[environments.production]
store = "local"
[stores.local]
kind = "embedded"
[stores.bao]
kind = "vault"
address = "{bao}"
layout = "secret"
[stores.aws]
kind = "aws"
region = "eu-central-1"
endpoint_url = "{aws}"
[secrets.first]
kind = "generated"
"""


class Calls:
    """How many requests went to the servers."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self, owner: type, name: str) -> Iterator[None]:
        """Count the calls of the method *name* of *owner*."""
        inner: Callable[..., Any] = getattr(owner, name)

        @wraps(inner)
        def outer(*given: Any, **named: Any) -> Any:
            self.count += 1
            return inner(*given, **named)

        setattr(owner, name, outer)
        try:
            yield
        finally:
            setattr(owner, name, inner)


def new_project(folder: Path, *, bao: str, aws: str) -> Session:
    project = folder / "project"
    project.mkdir(parents=True)
    (project / "keyturn.toml").write_text(MANIFEST.format(bao=bao, aws=aws), encoding="utf-8")
    settings = Settings(folder / "home", WHERE, None, project)
    start_project(settings, folder=project, example=None, name=None, ask_passphrase=None)
    return open_session(
        settings, project_dir=project, reason="bench", ask_passphrase=lambda: SecretValue(b"")
    )


def fill(session: Session, count: int) -> None:
    """Give *session* that many secrets, of one to three versions in turn."""
    store = session.embedded
    with session.database.transaction():
        for index in range(count):
            ref = SecretRef(WHERE, SecretName(f"s{index:04}"))
            for number in range(1, 2 + index % 3):
                values = {FieldName("value"): SecretValue(secrets.token_hex(20).encode())}
                origin = Origin.GENERATED if number == 1 else Origin.ROTATED
                store.put_pending(ref, values, origin=origin, token=Token(f"bench {number}"))
                store.promote(ref, number, expected_current=store.state(ref).current)


def held(session: Session, name: str) -> Mapping[SecretName, History]:
    """Return everything that the store *name* has."""
    store = session.store.named(pick(session, name).store)
    return store.histories(WHERE, store.states(WHERE))


def pick(session: Session, name: str) -> Side:
    other = "bao" if name == "local" else "local"
    return pick_sides(session.manifest, name, other, WHERE)[0]


def move(session: Session, source: str, target: str, calls: Calls) -> None:
    """Move everything, and print what it took."""
    calls.count, begun = 0, time.perf_counter()
    sides = pick_sides(session.manifest, source, target, WHERE)
    plan = plan_sync(session, *sides, overwrite=False)
    planned = time.perf_counter()
    done = sync(session, *sides, plan, progress=lambda _: None)
    took = time.perf_counter() - begun
    versions = sum(each.versions for each in done.moved)
    todo = [each for each in plan if each.is_work]
    if done.failed or done.changed or len(done.moved) != len(todo):
        raise SystemExit(f"{source} to {target}: {done.failed[:3]}")
    print(
        f"{source:>6} to {target:6} {len(done.moved):5} secrets {versions:6} versions"
        f" {took:8.2f} s ({planned - begun:.2f} s to plan) {calls.count:7} calls"
        f" {took / len(plan) * 1000:7.2f} ms each"
    )


def loop(server: OpenBaoServer, count: int, total: int) -> None:
    """Print what a script of `bao kv put` takes for *total*, by *count* of them."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": "/nonexistent",
        "VAULT_ADDR": server.address,
        "VAULT_TOKEN": server.token.reveal_text(),
    }
    begun = time.perf_counter()
    for index in range(count):
        subprocess.run(
            ["bao", "kv", "put", f"secret/loop/s{index:04}", "value=-"],
            env=environment,
            input=secrets.token_hex(20).encode(),
            stdout=subprocess.DEVNULL,
            check=True,
        )
    took = time.perf_counter() - begun
    print(
        f"loop of `bao kv put`: {count} in {took:.2f} s, {took / count * 1000:.2f} ms each;"
        f" {total} values would take {took / count * total:.0f} s"
    )


def measure(folder: Path, count: int, loops: int, *, with_aws: bool) -> None:
    calls = Calls()
    with ExitStack() as stack:
        server = stack.enter_context(OpenBaoServer())
        os.environ["VAULT_TOKEN"] = server.token.reveal_text()
        address = "http://127.0.0.1:1"
        if with_aws:
            os.environ["AWS_ACCESS_KEY_ID"] = "AKIAIOSFODNN7EXAMPLE"
            os.environ["AWS_SECRET_ACCESS_KEY"] = "x" * 40
            front = AwsFront(stack.enter_context(MotoServer()).address)
            stack.callback(front.stop)
            address = front.address
        stack.enter_context(calls.counted(VaultSession, "send"))
        stack.enter_context(calls.counted(SecretsApi, "call"))
        first = new_project(folder / "first", bao=server.address, aws=address)
        stack.callback(first.close)
        second = new_project(folder / "second", bao=server.address, aws=address)
        stack.callback(second.close)
        fill(first, count)
        before = held(first, "local")
        move(first, "local", "bao", calls)
        move(first, "local", "bao", calls)
        last = "bao"
        if with_aws:
            move(first, "bao", "aws", calls)
            last = "aws"
        move(second, last, "local", calls)
        if held(second, "local") != before:
            raise SystemExit("what came back is not what was sent")
        print("at the end: every value, number, origin, time and stage is as at the start")
        loop(server, loops, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--secrets", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=60)
    parser.add_argument("--no-aws", action="store_true")
    parser.add_argument("--folder", default=tempfile.gettempdir())
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        measure(Path(folder), asked.secrets, asked.loop, with_aws=not asked.no_aws)


if __name__ == "__main__":
    main()
