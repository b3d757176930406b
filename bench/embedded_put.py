"""
What a durable put into the embedded store costs, its audit record in the same transaction.

    .venv/bin/python bench/embedded_put.py [--puts N] [--folder FOLDER] [--profile FILE]

Makes a project in FOLDER and puts a 32-byte value N times in each of these ways, turn by
turn, each through the choke point with the audit chain and the rollback anchor:

    put               a pending version of a new secret
    put + promote     a version that is current at once, as `keyturn set` makes it
    the same, bundled with the sealed bundles made stale first, a second durable write
    N in one          N of `put + promote` that share one transaction, hence one sync
    N bundled in one  N of `the same, bundled` that share one transaction

Beside them, what the disk asks: one row committed durably to the same database, and 4 KiB
appended to a file and synced. No way of one commit a put can be faster than the first.
`--profile` writes what `python -m pstats` reads.
"""

from __future__ import annotations

import contextlib
import cProfile
import itertools
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from _project import Floor, open_project, p95, run

from keyturn.app.session import Session
from keyturn.audit import Action
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token, new_id
from keyturn.core.model import Origin, SecretRef
from keyturn.core.ports import Store
from keyturn.core.value import SecretValue

PRODUCTION = EnvironmentName("production")
BATCHES = (10, 100)


class Puts:
    """Puts values into one project, each for a secret that had none."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._numbers = itertools.count()

    def put(self) -> None:
        self._put(self._session.embedded, promote=False)

    def put_current(self) -> None:
        self._put(self._session.embedded, promote=True)

    def put_bundled(self) -> None:
        self._put(self._session.store, promote=True)

    def put_many(self, count: int, way: Callable[[], None]) -> None:
        with self._session.database.transaction():
            for _ in range(count):
                way()

    def _put(self, store: Store, *, promote: bool) -> None:
        session = self._session
        ref = SecretRef(PRODUCTION, SecretName(f"secret-{next(self._numbers)}"))
        values = {FieldName("value"): SecretValue(os.urandom(32))}
        change = session.access.change(Action.VERSION_SET, str(ref), environment=PRODUCTION)
        with change as notes:
            token = Token(new_id(session.entropy))
            version = store.put_pending(ref, values, origin=Origin.SET, token=token)
            if promote:
                store.promote(ref, version.number, expected_current=None)
            notes["version"] = version.number


def measure(folder: Path, count: int, profiler: cProfile.Profile | None) -> None:
    session = open_project(folder)
    puts, floor = Puts(session), Floor(session.database, folder)
    single = {"put": puts.put, "put + promote": puts.put_current}
    single["the same, bundled"] = puts.put_bundled
    times: defaultdict[str, list[float]] = defaultdict(list)
    try:
        for _ in range(count):
            floor.measure()
            for name, way in single.items():
                profiled = profiler if name == "put" else None
                started = time.perf_counter()
                with profiled or contextlib.nullcontext():
                    way()
                times[name].append(time.perf_counter() - started)
        for size, (name, way) in itertools.product(
            BATCHES, (("in one", puts.put_current), ("bundled in one", puts.put_bundled))
        ):
            for _ in range(max(2, count // size)):
                started = time.perf_counter()
                puts.put_many(size, way)
                times[f"{size} {name}"].append((time.perf_counter() - started) / size)
    finally:
        floor.close()
        session.close()
    print(f"{'':20} {'p50 us':>8} {'p95 us':>8} {'a second':>9}")
    for name, found in (*times.items(), ("one commit", floor.commits), ("sync", floor.syncs)):
        print_line(name, found)


def print_line(name: str, times: list[float]) -> None:
    median, high = statistics.median(times) * 1e6, p95(times) * 1e6
    print(f"{name:20} {median:8.0f} {high:8.0f} {len(times) / sum(times):9.0f}")


if __name__ == "__main__":
    run(__doc__ or "", "puts", 1000, measure)
