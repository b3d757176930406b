"""A delivering process is killed at every point: a reader finds old or new, and the next repairs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from keyturn.core.value import SecretValue
from keyturn.deliver import Format, RenderTarget, differences, render, write_rendered

pytestmark = pytest.mark.crash

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_crash_deliver import place, rendering
from keyturn.deliver import write_rendered
write_rendered(Path(sys.argv[2]), place(sys.argv[3]), rendering(sys.argv[3], "new"))
"""


def place(form):
    return RenderTarget("run", Format(form), mode=0o640)


def rendering(form, word):
    # A name goes and a name comes, so that links change too.
    values = {"A": word, "B": word * 3000, word.upper(): word}
    named = {name: SecretValue.from_text(value) for name, value in values.items()}
    return render(Format(form), named, {"token": len(word)})


def deliver(project, form, failpoint):
    command = [sys.executable, "-c", PROGRAM, os.path.dirname(__file__), str(project), form]
    environment = {**os.environ, "KEYTURN_FAILPOINT": failpoint}
    return subprocess.run(command, env=environment).returncode


def contents(project, form):
    """Return what a reader finds: the bytes of the file, or of the set behind the link."""
    where = project / "run"
    if form != Format.FILES:
        return where.read_bytes()
    current = (where / "..data").resolve()
    return {entry.name: entry.read_bytes() for entry in current.iterdir()}


def revealed(made):
    if isinstance(made, SecretValue):
        return made.reveal()
    return {name: value.reveal() for name, value in made.items()}


@pytest.mark.parametrize(("form", "points"), [("dotenv", 3), ("json", 3), ("files", 14)])
def test_killed_at_every_point(tmp_path, form, points):
    """At each point the copy is whole, no wider than asked, and one more write leaves no trace."""
    clean = tmp_path / "clean"
    clean.mkdir()
    write_rendered(clean, place(form), rendering(form, "new"))
    traces = sorted(entry.name for entry in (clean / "run").parent.iterdir())
    seen = set()
    for number in range(1, 100):
        project = tmp_path / str(number)
        project.mkdir()
        write_rendered(project, place(form), rendering(form, "old"))
        status = deliver(project, form, f"*:{number}")
        found = contents(project, form)
        assert found in [revealed(rendering(form, word)) for word in ("old", "new")]
        seen.add(found == revealed(rendering(form, "new")))
        for file in project.rglob("*"):
            assert file.is_symlink() or file.is_dir() or not file.stat().st_mode & 0o137
        assert 0 == deliver(project, form, "")
        assert [] == differences(project, place(form), rendering(form, "new"))
        assert traces == sorted(entry.name for entry in project.iterdir())
        if form == "files":
            names = {entry.name for entry in (project / "run").iterdir()}
            assert 1 == sum(name.startswith("..set-") for name in names)
            assert {"..data", "A", "B", "NEW", "KEYTURN_VERSIONS"} == {
                name for name in names if not name.startswith("..set-")
            }
        if status == 0:
            break
        assert -signal.SIGKILL == status
    assert points == number - 1
    assert {True, False} == seen
