"""
What a rotation step costs by itself: the saga, the journal, the store and the record.

    .venv/bin/python bench/rotation_step.py [ROTATIONS] [FOLDER]

The kind has no target and nobody consumes the secret, so what is left is Keyturn's
own work, on the disk that holds FOLDER: one durable commit a step, with the audit
record in it. Prints p50 and p95 of each step, and of a bare commit of one row for
comparison.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from keyturn._internal.database import Database
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, new_id
from keyturn.core.model import SecretRef
from keyturn.core.value import SecretValue
from keyturn.rotate import Journal, Plan, Runner
from keyturn.stores import create, open_store
from keyturn.targets import Generated

DB = SecretRef(EnvironmentName("production"), SecretName("session"))


class AuditRows:
    """Inserts a record of the usual size, as the audit log does."""

    def __init__(self, database):
        self.database = database
        self.seq = 0

    def record(self, action, object, outcome, detail):  # noqa: A002 - the port's
        self.seq += 1
        body = f"{action} {object} {outcome} {detail}".encode().ljust(400)
        self.database.execute("INSERT INTO audit VALUES (?, ?, ?)", (self.seq, body, b"\0" * 32))


class NoConsumers:
    def deliver(self, ref, version):  # noqa: ARG002 - the port's
        return []


class Stopwatch:
    """Listens to the runner: the time between two ends of steps is one step."""

    def __init__(self):
        self.milliseconds = defaultdict(list)
        self.last = 0.0

    def start(self):
        self.last = time.perf_counter()

    def __call__(self, progress):
        if progress.event == "done":
            now = time.perf_counter()
            self.milliseconds[progress.step.value].append((now - self.last) * 1000)
            self.last = now


def main():
    rotations = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else ".") as folder:
        measure(Path(folder), rotations)


def measure(folder, rotations):
    clock, entropy = SystemClock(), SystemEntropy()
    with Database.open(folder / "store.db", create=True) as database:
        create(
            database,
            store_id=new_id(entropy),
            project="bench",
            home=folder / "home",
            clock=clock,
            entropy=entropy,
        )
    store = open_store(
        folder / "store.db",
        home=lambda _: folder / "home",
        prompt=lambda: SecretValue(b""),
        clock=clock,
        entropy=entropy,
    )
    watch, bare = Stopwatch(), []
    runner = Runner(
        database=store.database,
        store=store,
        journal=Journal(store.database, clock=clock),
        audit=AuditRows(store.database),
        delivery=NoConsumers(),
        clock=clock,
        entropy=entropy,
        listener=watch,
    )
    kind = Generated(make=lambda: {FieldName("value"): SecretValue(entropy.random_bytes(32))})
    for number in range(rotations):
        plan = Plan("generated", "default", store.state(DB).current, overlaps=True)
        started = time.perf_counter()
        store.database.execute("INSERT INTO meta VALUES (?, '')", (f"bench {number}",))
        bare.append((time.perf_counter() - started) * 1000)
        watch.start()
        runner.start(DB, kind, plan).require_success()
    report(watch.milliseconds, bare)


def report(steps, bare):
    print(f"{'step':10} {'p50 ms':>8} {'p95 ms':>8}")
    # `create` has the begin of the run in it, a commit of its own.
    for step, times in steps.items():
        print_line(step + (" *" if step == "create" else ""), times)
    print_line("all but *", [t for step, times in steps.items() if step != "create" for t in times])
    print_line("one commit", bare)
    print("* two commits: the begin of the run and the step")


def print_line(name, times):
    p95 = statistics.quantiles(times, n=20)[-1]
    print(f"{name:10} {statistics.median(times):8.3f} {p95:8.3f}")


if __name__ == "__main__":
    main()
