"""What the benchmarks of the store share: a real project, and what its disk asks."""

from __future__ import annotations

import argparse
import cProfile
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from keyturn._internal.database import Database
from keyturn.app.config import Settings
from keyturn.app.session import Session, open_session
from keyturn.app.start import start_project
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef
from keyturn.core.value import SecretValue

__all__ = ["SESSION", "Floor", "open_project", "p95", "run"]

MANIFEST = """\
[project]
name = "bench"
owner = "bench"
[environments.production]
store = "local"
[stores.local]
kind = "embedded"
[secrets.session]
kind = "generated"
"""
SESSION = SecretRef(EnvironmentName("production"), SecretName("session"))


def open_project(folder: Path) -> Session:
    """Return the session of a new project with one secret, made as `keyturn init` makes it."""
    project = folder / "project"
    project.mkdir()
    (project / "keyturn.toml").write_text(MANIFEST, encoding="utf-8")
    settings = Settings(folder / "home", "production", None, project)
    start_project(settings, folder=project, example=None, name=None, ask_passphrase=None)
    return open_session(
        settings, project_dir=project, reason="bench", ask_passphrase=lambda: SecretValue(b"")
    )


class Floor:
    """What the disk asks for a commit, whoever commits."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._database.execute("CREATE TABLE bench (number INTEGER PRIMARY KEY, text TEXT)")
        self._file = (folder / "floor").open("ab", buffering=0)
        self.commits: list[float] = []
        self.syncs: list[float] = []

    def measure(self) -> None:
        """Commit one row to the database, and append 4 KiB to a file, each durably."""
        started = time.perf_counter()
        self._database.execute("INSERT INTO bench (text) VALUES (?)", ("x" * 400,))
        committed = time.perf_counter()
        self._file.write(b"\0" * 4096)
        os.fdatasync(self._file.fileno())
        synced = time.perf_counter()
        self.commits.append(committed - started)
        self.syncs.append(synced - committed)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def p95(times: list[float]) -> float:
    """Return what 95 of 100 *times* stay below."""
    return statistics.quantiles(times, n=20)[-1]


def run(
    doc: str, what: str, count: int, measure: Callable[[Path, int, cProfile.Profile | None], None]
) -> None:
    """
    Read the arguments and *measure* in a folder that is gone afterwards.

    Args:
        doc: The benchmark's own docstring.
        what: The option that says how often; *count* times without it.
    """
    parser = argparse.ArgumentParser(description=doc.partition("\n\n")[0])
    parser.add_argument(f"--{what}", dest="count", type=int, default=count)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--profile", metavar="FILE")
    asked = parser.parse_args()
    profiler = cProfile.Profile() if asked.profile else None
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        measure(Path(folder), asked.count, profiler)
    if profiler is not None:
        profiler.dump_stats(asked.profile)
