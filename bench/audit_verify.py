"""
How long, and in how much memory, a million audit records are verified.

    python bench/audit_verify.py [--records N] [--runs N] [--keep FILE]

Makes a database of N records with a signed checkpoint every 256, then starts a
fresh interpreter for each run, start-up and imports included, and prints wall
time, processor time and peak resident memory (of each of its at most two
processes). Appending is measured as well: to the main chain in one transaction
for all and in one for each record, and to the read log.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from keyturn._fastaudit import append
from keyturn._internal.database import Database
from keyturn.audit import Action, AuditLog, Event, Outcome, Segments, genesis
from keyturn.audit.chain import link
from keyturn.audit.checkpoint import CHECKPOINT_EVERY, Position, make_checkpoint
from keyturn.audit.record import encode
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.model import Principal
from keyturn.core.value import SecretValue
from keyturn.crypto import new_signing_key, public_key, sign

STORE_ID = "0123456789abcdef0123456789abcdef"
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ACTOR = Principal("deploy", "local", 1000)
LINE = (
    b'"time":"2026-01-02T03:04:05.000000Z","uid":1000,"pid":4242,'
    b'"action":"environment.value.deliver","object":"production","versions":"db=3 jwt=1"'
)

CHILD = """
import sys
from pathlib import Path
from keyturn._internal.database import Database
from keyturn.audit import verify_log
with Database.open(Path(sys.argv[1]), read_only=True) as database:
    report = verify_log(database, None, store_id=sys.argv[2], public_key=bytes.fromhex(sys.argv[3]))
if report.records != int(sys.argv[4]):
    sys.exit(f"verified {report.records} records")
"""


class KeySigner:
    def __init__(self, key: SecretValue) -> None:
        self._key = key

    def sign(self, message: bytes) -> bytes:
        return sign(self._key, message)


def event(number: int) -> Event:
    return Event(
        action=Action.VALUE_READ,
        object="production/db",
        outcome=Outcome.DONE,
        actor=ACTOR,
        source={"interface": "cli", "host": "app-1.example.net", "pid": 4242, "tty": "pts/0"},
        detail={"version": number % 50 + 1, "digest": "9f86d081884c7d659a2feaa0c55ad015"},
    )


def fill(database: Database, records: int, signer: KeySigner) -> int:
    """Write the chain and its checkpoints; returns the size of one record in bytes."""
    position, last, size = genesis(STORE_ID), None, 0
    checkpoints = []

    def rows() -> Iterator[tuple[int, bytes, bytes]]:
        nonlocal position, last, size
        for number in range(1, records + 1):
            raw = encode(event(number), seq=number, time=START + timedelta(milliseconds=number))
            position, size = Position(number, link(position.head, raw)), len(raw)
            if number % CHECKPOINT_EVERY == 0:
                last = make_checkpoint(
                    position, store_id=STORE_ID, time=START, previous=last, signer=signer
                )
                checkpoints.append((last.seq, last.body, last.signature))
            yield number, raw, position.head

    with database.transaction():
        database.execute_many("INSERT INTO audit VALUES (?, ?, ?)", rows())
        database.execute_many("INSERT INTO checkpoint VALUES (?, ?, ?)", checkpoints)
    return size


def measured(path: Path, key: bytes, records: int) -> tuple[float, float, float]:
    """Return wall seconds, processor seconds and MiB of one verification in its own process."""
    command = [sys.executable, "-c", CHILD, str(path), STORE_ID, key.hex(), str(records)]
    start = time.perf_counter()
    pid = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit("a verification failed")
    # The kernel adds what the process's own helper used, and takes the larger of their memories.
    processor = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - start, processor, usage.ru_maxrss / 1024


def appending(folder: Path, signer: KeySigner) -> None:
    with Database.open(folder / "append.db", create=True) as database:
        log = AuditLog(database, clock=SystemClock(), store_id=STORE_ID, signer=signer)
        start, count = time.perf_counter(), 20_000
        with database.transaction():
            for number in range(count):
                log.record(event(number))
        print(f"append, one transaction: {count / (time.perf_counter() - start):,.0f} records/s")
        start, count = time.perf_counter(), 2_000
        for number in range(count):
            log.record(event(number))
        print(f"append, one commit each: {count / (time.perf_counter() - start):,.0f} records/s")
        segments = Segments(
            folder / "audit",
            database=database,
            log=log,
            clock=SystemClock(),
            actor=ACTOR,
            source={},
        )
        segments.maintain()
        start = time.perf_counter()
        for _ in range(count):
            append(str(segments.current), LINE)
        print(f"append, read log: {count / (time.perf_counter() - start):,.0f} lines/s")
        start = time.perf_counter()
        for _ in range(count):
            segments.maintain()
        each = (time.perf_counter() - start) / count * 1e6
        print(f"upkeep of a read log that is in order: {each:,.0f} µs")


def spread(values: list[float], unit: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"min {low:.2f}  median {middle:.2f}  max {high:.2f} {unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    key = new_signing_key(SystemEntropy())
    signer, public = KeySigner(key), public_key(key)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store.db"
        with Database.open(path, create=True) as database:
            size = fill(database, chosen.records, signer)
        print(
            f"{chosen.records:,} records of {size} bytes, {path.stat().st_size / 1e6:,.0f} MB, "
            f"{chosen.records // CHECKPOINT_EVERY:,} checkpoints"
        )
        runs = [measured(path, public, chosen.records) for _ in range(chosen.runs)]
        for number, (what, unit) in enumerate(
            (("wall time", "s"), ("processor time", "s"), ("peak memory", "MiB a process"))
        ):
            print(f"verify, {what}:", spread([run[number] for run in runs], unit))
        appending(Path(name), signer)


if __name__ == "__main__":
    main()
