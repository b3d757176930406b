"""Two `keyturn rotate` of one secret, started together by two people, fifty times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KEYTURN = str(Path(sys.executable).with_name("keyturn"))
ROUNDS = 50
PARTS = 2
MANIFEST = """\
[project]
name = "together"
owner = "team"
[environments.development]
store = "local"
[stores.local]
kind = "embedded"
[secrets.api]
kind = "generated"
variable = "API_TOKEN"
grace = "1h"
"""


def start(folder, *words):
    return subprocess.Popen(
        [KEYTURN, *words],
        cwd=folder,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )


def run(folder, *words):
    process = start(folder, *words)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("part", range(PARTS))
def test_one_runs_and_the_other_is_refused(tmp_path, part):
    """The grace keeps the first one open, so the second always meets it, whoever is faster."""
    (tmp_path / "keyturn.toml").write_text(MANIFEST)
    for words in (("init", "-qq"), ("generate", "-qq")):
        assert 0 == run(tmp_path, *words)[0]
    seen = {run(tmp_path, "get", "api")[1]}
    for number in range(ROUNDS // PARTS):
        pair = [start(tmp_path, "rotate", "api") for _ in range(2)]
        ends = [(*process.communicate(timeout=60), process.returncode) for process in pair]
        assert [0, 5] == sorted(code for _, _, code in ends), [err for _, err, _ in ends]
        refusal = next(err for _, err, code in ends if code == 5)
        # The winner may have come as far as its grace already.
        assert b"a rotation of `api` is " in refusal
        assert b"already running" in refusal or b"is open and waits" in refusal
        assert b"keyturn rotate --resume api" in refusal
        assert 0 == run(tmp_path, "rotate", "--resume", "--now")[0]
        value = run(tmp_path, "get", "api")[1]
        assert value not in seen, f"round {number} brought no new value"
        seen.add(value)
    history = json.loads(run(tmp_path, "history", "api", "--json")[1])
    assert len(seen) == len(history)
    assert [version["version"] for version in history] == list(range(len(seen), 0, -1))
