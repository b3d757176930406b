"""
What `keyturn tick` costs: with nothing due, and with a thousand rotations due at once.

    .venv/bin/python bench/tick.py [--secrets N] [--runs N] [--at-once N] [--folder FOLDER]

Makes a project in FOLDER with N generated secrets (1000) of a max_age of ninety days. First
they are new: the whole process is started RUNS times, and its parts are measured by
themselves. Then the same is done with secrets a hundred days old, all of which one tick
rotates, so many side by side: how long it took, the most rotations of one secret that were
live at any moment, and how much memory the process held after 200 and at the end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

from keyturn._internal.database import Database
from keyturn.app.config import Settings
from keyturn.app.generation import generate
from keyturn.app.judging import judge_all
from keyturn.app.session import Session, open_session, read_manifest
from keyturn.app.start import start_project
from keyturn.app.tick import tick
from keyturn.core.clock import SystemClock
from keyturn.core.ids import EnvironmentName
from keyturn.core.value import SecretValue
from keyturn.testing import FakeClock

KEYTURN = str(Path(sys.executable).with_name("keyturn"))
WHERE = EnvironmentName("production")
HEAD = """\
[project]
name = "bench"
owner = "bench"
[environments.production]
store = "local"
[stores.local]
kind = "embedded"
"""


def make_project(folder: Path, count: int, *, age: timedelta) -> Settings:
    """Make a project whose secrets are *age* old, and return how it is opened."""
    project = folder / "project"
    project.mkdir(parents=True)
    secrets = "".join(
        f'[secrets.s{n:04}]\nkind = "generated"\nvariable = "SECRET_{n}"\n'
        'max_age = "90d"\ngrace = "0s"\n'
        for n in range(count)
    )
    (project / "keyturn.toml").write_text(HEAD + secrets, encoding="utf-8")
    settings = Settings(folder / "home", WHERE, None, project)
    start_project(settings, folder=project, example=None, name=None, ask_passphrase=None)
    session = opened(settings, FakeClock(SystemClock().now() - age))
    # No power is cut here, and this is not what is measured.
    session.database.execute("PRAGMA synchronous = OFF")
    for _ in generate(session, WHERE, []):
        pass
    session.close()
    return settings


def opened(settings: Settings, clock: FakeClock | None = None) -> Session:
    """Return a session of the project."""
    return open_session(
        settings,
        project_dir=settings.working_folder,
        reason="bench",
        ask_passphrase=lambda: SecretValue(b""),
        clock=clock,
    )


def measure_process(words: list[str], settings: Settings, runs: int) -> None:
    """Print what the whole process takes."""
    environ = {**os.environ, "KEYTURN_HOME": str(settings.key_home)}
    walls, processors = [], []
    for _ in range(runs):
        begun = time.perf_counter()
        process = subprocess.Popen(
            words,
            cwd=settings.working_folder,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        walls.append(time.perf_counter() - begun)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"`{' '.join(words)}` ended with {process.returncode}")
        processors.append(usage.ru_utime + usage.ru_stime)
    show(" ".join([Path(words[0]).name, *words[1:]]), walls, processors)


def show(name: str, walls: list[float], processors: list[float]) -> None:
    figures = min(walls), statistics.median(walls), statistics.median(processors)
    print(f"{name:34}" + "".join(f"{seconds * 1000:10.1f}" for seconds in figures))


def measure_parts(settings: Settings, runs: int) -> None:
    """Print what is done after everything is imported, part by part."""
    session = opened(settings)
    parts = {
        "  the manifest": lambda: read_manifest(session.paths),
        "  open the store (and the manifest)": lambda: opened(settings).close(),
        "  read versions": lambda: session.store.current_versions(
            WHERE, [secret.name for secret in session.manifest.secrets_in(WHERE)]
        ),
        "  judge (and read versions)": lambda: judge_all(session, [WHERE]),
    }
    for name, part in parts.items():
        walls, processors = [], []
        for _ in range(runs):
            begun, used = time.perf_counter(), time.process_time()
            part()
            walls.append(time.perf_counter() - begun)
            processors.append(time.process_time() - used)
        show(name, walls, processors)
    session.close()


def resident_mib() -> float:
    """Return how much memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure_due(settings: Settings, at_once: int) -> None:
    """Rotate everything, and print what that took."""
    session = opened(settings)
    watch = Watch(session.database.path)
    watch.start()
    begun, ends, memory = time.perf_counter(), Counter[str](), {}
    for number, ended in enumerate(tick(session, judge_all(session, [WHERE]), at_once=at_once), 1):
        ends[ended.end.value] += 1
        if ended.failure is not None:
            print(f"{ended.ref}: {ended.text}")
        if number in (100, 200, 500, 1000):
            memory[number] = resident_mib()
    seconds = time.perf_counter() - begun
    watch.stop()
    again = [each for each in judge_all(session, [WHERE]) if each.to_do]
    session.close()
    total = ends.total()
    print(f"{total} due, {at_once} at once: {seconds:.1f} s, {total / seconds:.0f} a second")
    print("ends: " + ", ".join(f"{count} {end}" for end, count in ends.items()))
    print(f"still due afterwards: {len(again)}")
    print(f"looked {watch.looks} times: at most {watch.most} live, of one secret {watch.of_one}")
    print("MiB held after: " + ", ".join(f"{n}: {mib:.1f}" for n, mib in memory.items()))


class Watch(threading.Thread):
    """Looks at the journal all the time, from a connection of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._done = path, threading.Event()
        self.looks = self.most = self.of_one = 0

    def run(self) -> None:
        with Database.open(self._path, read_only=True) as database:
            while not self._done.wait(0.005):
                rows = database.rows(
                    "SELECT secret, count(*) FROM rotation WHERE state IN ('live', 'stuck')"
                    " GROUP BY environment, secret"
                )
                self.looks += 1
                self.most = max(self.most, len(rows))
                self.of_one = max([self.of_one, *(count for _, count in rows)])

    def stop(self) -> None:
        self._done.set()
        self.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--secrets", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--only", choices=["nothing", "due"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        if asked.only != "due":
            settings = make_project(Path(name) / "new", asked.secrets, age=timedelta(0))
            print(f"{'ms':34}{'wall min':>10}{'median':>10}{'processor':>10}")
            measure_process([sys.executable, "-c", "pass"], settings, asked.runs)
            measure_process([KEYTURN, "tick"], settings, asked.runs)
            measure_parts(settings, asked.runs)
        if asked.only != "nothing":
            settings = make_project(Path(name) / "old", asked.secrets, age=timedelta(days=100))
            measure_due(settings, asked.at_once)


if __name__ == "__main__":
    main()
