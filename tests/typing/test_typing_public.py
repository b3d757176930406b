"""The public names keep their types: a strict consumer passes, and mistakes are refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.stores import MemoryStore
from keyturn.testing import FakeClock
from tests.typing.consumer import ContractOfNotedStore, NotedStore

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MARK = re.compile(r"# error: ([a-z-]+)$")
FOUND = re.compile(r"refused\.py:(\d+): error: .*\[([a-z-]+)\]$")


def checked(name, cache):
    """Return the exit code and the words of `mypy --strict` on one file."""
    # No settings of ours: a consumer has none of them.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent"]
        + ["--no-error-summary", "--no-pretty", f"--cache-dir={cache}", str(HERE / name)],
        cwd=ROOT,
        env={"PATH": "", "MYPYPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_consumer_passes_strictly(tmp_path):
    """A program on the public names type-checks under `mypy --strict`."""
    assert (0, "") == checked("consumer.py", tmp_path)


def test_each_mistake_is_refused(tmp_path):
    """Each marked line of `refused.py` is an error of the kind marked, and no other line is."""
    lines = (HERE / "refused.py").read_text(encoding="utf-8").split("\n")
    expected = {(n, m[1]) for n, line in enumerate(lines, 1) if (m := MARK.search(line))}
    _, said = checked("refused.py", tmp_path)
    found = {(int(m[1]), m[2]) for line in said.split("\n") if (m := FOUND.search(line))}
    assert expected == found, said


class TestNotedStore(ContractOfNotedStore):
    """The consumer's store passes the contract that is shipped."""

    @pytest.fixture
    def store(self):
        return NotedStore(MemoryStore(clock=FakeClock()))

    @pytest.fixture
    def reopen(self, store):
        return lambda: store
