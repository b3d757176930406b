"""A plug-in that ends the process: nothing hangs, and nothing is told to have gone well."""

from __future__ import annotations

from contextlib import closing

import pytest

from keyturn.app.secrets import set_field
from keyturn.core.value import SecretValue
from keyturn.testing.clock import FakeClock
from tests.cli import projects

NAMES = ("it", "other")
VALUE = b"test-value-3q2-4mGdLr8vNf"
# Ends the process in the step that EXITS names, for the secret `it` alone.
MODULE = """
import os, sys
from keyturn.kinds import Evidence, OnePhase, SecretValue
class Kind(OnePhase):
    def __init__(self, context):
        self.context = context
    def meet(self, step):
        if self.context.ref.name == "it" and os.environ.get("EXITS") == step:
            sys.exit(0)
    def describe(self, current):
        return [("create", "x")]
    def create(self, current, *, token):
        self.meet("create")
        return {"value": SecretValue(os.urandom(16).hex().encode())}
    def apply(self, current, pending):
        self.meet("apply")
    def check(self, current, pending):
        return Evidence("tried", "yes")
    def withdraw(self, current, pending):
        pass
    def retire(self, current, old):
        pass
    def prove_dead(self, old, *, current=None):
        return Evidence("tried", "no")
    def probe(self, values):
        self.meet("probe")
        return Evidence("tried", "yes")
def build(context):
    kind = Kind(context)
    kind.meet("build")
    return kind
"""
SECRET = """
[secrets.NAME]
kind = "external"
variable = "NAME_KEY"
grace = "0s"
max_age = "1d"
[secrets.NAME.target]
plugin = "exits"
"""
MANIFEST = """\
[project]
name = "clipper"
owner = "team-core"
[environments.development]
store = "local"
[stores.local]
kind = "embedded"
"""


@pytest.fixture
def project(tmp_path):
    """Two secrets of the plug-in, both of which are due."""
    place = tmp_path / "plugins"
    metadata = place / "exits-1.dist-info"
    metadata.mkdir(parents=True)
    (place / "exitkind.py").write_text(MODULE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: exits\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[keyturn.kinds]\nexits = exitkind:build\n")
    made = projects.empty(
        tmp_path, MANIFEST + "".join(SECRET.replace("NAME", name) for name in NAMES)
    )
    made.environment["PYTHONPATH"] = str(place)
    projects.start(made)
    # Long ago, so that they are due.
    with closing(made.session(reason="test", clock=FakeClock())) as opened:
        for name in NAMES:
            set_field(opened, projects.DEVELOPMENT, name, SecretValue(VALUE))
    return made


@pytest.mark.parametrize("step", ["build", "create", "apply"])
def test_one_alone_is_a_failure(project, step):
    """Not the exit code that the plug-in chose; the old value stays in use."""
    found = project("rotate", "it", "--now", environ={"EXITS": step})
    assert found.code not in (0, None), found.text
    assert f"failed in `{step}`: SystemExit" in found.text
    assert VALUE == project("get", "it").out


@pytest.mark.parametrize("step", ["build", "create"])
def test_of_many_the_others_are_rotated(project, step):
    """And the one is told as failed."""
    found = project("rotate", "--all", "--json", environ={"EXITS": step})
    assert 1 == found.code, found.text
    ends = {each["secret"]: each["end"] for each in found.json()["secrets"]}
    assert {"it": "failed", "other": "done"} == ends


@pytest.mark.parametrize("step", ["build", "create"])
def test_the_schedule_ends(project, step):
    """It neither waits for a worker that is gone, nor reports a success."""
    found = project("tick", environ={"EXITS": step})
    assert 1 == found.code, found.text
    assert "SystemExit" in found.text + found.out.decode()
    assert VALUE != project("get", "other").out


def test_the_retrieval_test_says_so(project):
    """At once, not as somebody who does not answer."""
    found = project("test", "it", environ={"EXITS": "probe"})
    assert 1 == found.code, found.text
    assert b"failed in `probe`: SystemExit" in found.out
