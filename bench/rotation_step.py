"""
What a rotation step costs by itself: the saga, the journal, the store and the record.

    .venv/bin/python bench/rotation_step.py [--rotations N] [--folder FOLDER] [--profile FILE]

Makes a project in FOLDER, opens it as the command line does, and rotates a secret
that has no target and no consumer. So what is left is Keyturn's own work on that disk:
the audit chain with its signed checkpoints, the rollback anchor, the sealed bundle.

Prints p50, p95 and the longest of each step and, taken before each rotation, what the
disk asks: one row committed durably to the same database, and 4 KiB appended to a
file and synced. `--profile` writes what `python -m pstats` reads.
"""

from __future__ import annotations

import contextlib
import cProfile
import statistics
import time
from collections import defaultdict
from pathlib import Path

from _project import SESSION, Floor, open_project, p95, run

from keyturn.app import rotation
from keyturn.rotate import Progress

BEGIN = "(begin)"
WHOLE = "a rotation"
FIRST = "create"


class Stopwatch:
    """Listens to the runner: the time between two ends of steps is one step."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._started = self._last = 0.0

    def start(self) -> None:
        self._started = self._last = time.perf_counter()

    def stop(self) -> None:
        self.seconds[WHOLE].append(time.perf_counter() - self._started)

    def __call__(self, progress: Progress) -> None:
        now = time.perf_counter()
        if progress.event == "done":
            self.seconds[progress.step.value].append(now - self._last)
            self._last = now
        elif progress.event == "begun" and progress.step.value == FIRST:
            # A part of the first step, which is the one that has two commits.
            self.seconds[BEGIN].append(now - self._started)


def measure(folder: Path, rotations: int, profiler: cProfile.Profile | None) -> None:
    session = open_project(folder)
    watch, floor = Stopwatch(), Floor(session.database, folder)
    try:
        for _ in range(rotations):
            floor.measure()
            watch.start()
            with profiler or contextlib.nullcontext():
                report = rotation.rotate(session, SESSION, now=True, listener=watch)
            watch.stop()
            report.require_success()
    finally:
        floor.close()
        session.close()
    print_report(watch.seconds, floor)


def print_report(steps: dict[str, list[float]], floor: Floor) -> None:
    print(f"{'step':14} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8}")
    whole = steps.pop(WHOLE)
    for step, times in steps.items():
        print_line(step + (" *" if step == FIRST else ""), times)
    print_line("every step", [t for step, times in steps.items() if step != BEGIN for t in times])
    print_line(WHOLE, whole)
    print_line("one commit", floor.commits)
    print_line("4 KiB + sync", floor.syncs)
    print(f"* two commits: {BEGIN} is the first of them, and counted in it")


def print_line(name: str, times: list[float]) -> None:
    figures = (statistics.median(times), p95(times), max(times))
    print(f"{name:14}" + "".join(f" {seconds * 1000:8.3f}" for seconds in figures))


if __name__ == "__main__":
    run(__doc__ or "", "rotations", 200, measure)
