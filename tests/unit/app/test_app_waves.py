"""In which order many secrets are rotated, and what becomes of each."""

from __future__ import annotations

import sys

import pytest

from keyturn import fast
from keyturn.app import waves
from keyturn.app.waves import WaveEnd, rotate_waves, waves_of
from keyturn.core.ids import EnvironmentName
from keyturn.manifest import load
from tests.cli import projects

WHERE = EnvironmentName("development")
HEAD = """\
[project]
name = "clipper"
owner = "team-core"
[environments.development]
store = "local"
[stores.local]
kind = "embedded"
"""


def secret(name, *, kind="generated", priority="medium", after=(), more=""):
    """Return the table of one secret."""
    listed = ", ".join(f'"{other}"' for other in after)
    return (
        f'[secrets.{name}]\nkind = "{kind}"\npriority = "{priority}"\ngrace = "0s"\n'
        f"depends_on = [{listed}]\n{more}\n"
    )


def names(*tables, priority=None):
    """Return the names of each wave."""
    manifest = load((HEAD + "".join(tables)).encode(), file="keyturn.toml")
    return [
        sorted(each.name for each in wave) for wave in waves_of(manifest, WHERE, priority=priority)
    ]


def test_the_most_urgent_come_first_and_equals_together():
    """A wave for each priority, in order, whatever stands first in the file."""
    found = names(
        secret("d", priority="low"),
        secret("b", priority="high"),
        secret("c"),
        secret("a", priority="critical"),
        secret("a2", priority="critical"),
    )
    assert [["a", "a2"], ["b"], ["c"], ["d"]] == found


def test_a_secret_comes_after_what_it_depends_on():
    """A chain of one priority is a wave each; what depends on nothing goes with the first."""
    found = names(secret("c", after=["b"]), secret("b", after=["a"]), secret("a"), secret("x"))
    assert [["a", "x"], ["b"], ["c"]] == found


def test_what_an_urgent_one_depends_on_is_as_urgent():
    """Through any number of steps: else the urgent one would wait for the least urgent wave."""
    found = names(
        secret("root", priority="low"),
        secret("middle", priority="medium", after=["root"]),
        secret("urgent", priority="critical", after=["middle"]),
        secret("other", priority="high"),
    )
    assert [["root"], ["middle"], ["urgent"], ["other"]] == found


def test_a_less_urgent_one_waits_for_its_own_wave():
    """To depend on something urgent makes nothing urgent."""
    found = names(
        secret("urgent", priority="critical"),
        secret("late", priority="low", after=["urgent"]),
        secret("middle", priority="medium"),
    )
    assert [["urgent"], ["middle"], ["late"]] == found


def test_one_priority_alone():
    """Only its own secrets, still in order; what they depend on is left alone."""
    tables = (
        secret("base", priority="low"),
        secret("one", priority="high", after=["base"]),
        secret("two", priority="high", after=["one"]),
        secret("rest", priority="critical"),
    )
    assert [["one"], ["two"]] == names(*tables, priority="high")
    assert [] == names(*tables, priority="medium")


def program(code):
    """Return the target of a kind `command` whose program says *code* to every step."""
    words = f'["{sys.executable}", "-c", "raise SystemExit({code})"]'
    return f"[secrets.NAME.target]\ncreate = {words}\nstatus = {words}\nretire = {words}"


@pytest.fixture
def rotated(tmp_path):
    """Return a function that rotates the secrets of *tables*, each with a value but *without*."""
    sessions = []

    def run(*tables, without=(), at_once=2, begun=None):
        project = projects.empty(tmp_path, HEAD + "".join(tables))
        projects.start(project)
        manifest = load(project.manifest.read_bytes(), file="keyturn.toml")
        for name in manifest.secrets:
            if name not in without:
                project.put(name, b"test-value-3q2-4mGdLr8vNf")
        session = project.session()
        sessions.append(session)
        waves = waves_of(session.manifest, WHERE)
        ends = rotate_waves(session, WHERE, waves, now=True, at_once=at_once, begun=begun)
        return {each.ref.name: each for each in ends}

    yield run
    for session in sessions:
        session.close()


def test_one_that_would_end_the_process_is_a_failure(rotated, monkeypatch):
    """Its exit code is not that of all of them, and the others are rotated."""
    rotate = waves.rotate

    def ending(session, ref, *, now):
        if ref.name == "first":
            raise SystemExit(0)
        return rotate(session, ref, now=now)

    monkeypatch.setattr(waves, "rotate", ending)
    found = rotated(secret("first", priority="critical"), secret("other", priority="critical"))
    assert (WaveEnd.FAILED, WaveEnd.DONE) == (found["first"].end, found["other"].end)
    assert "SystemExit" in found["first"].text


def test_one_that_fails_stops_only_what_depends_on_it(rotated):
    """Its dependants are left out, through any number of steps, and all others are rotated."""
    found = rotated(
        secret(
            "broken",
            kind="command",
            priority="critical",
            more=program(10).replace("NAME", "broken"),
        ),
        secret("next", after=["broken"]),
        secret("last", after=["next"]),
        secret("beside", priority="critical"),
        secret("free"),
    )
    ends = {name: each.end for name, each in found.items()}
    assert {
        "broken": WaveEnd.FAILED,
        "next": WaveEnd.SKIPPED,
        "last": WaveEnd.SKIPPED,
        "beside": WaveEnd.DONE,
        "free": WaveEnd.DONE,
    } == ends
    assert "refused" in found["broken"].text
    assert found["broken"].failure is not None
    assert "`next`, which it depends on, failed" == found["last"].text
    assert 2 == found["free"].report.rotation.new_version


def test_what_cannot_be_begun_says_why(rotated):
    """No value, nobody there, no target: three reasons, and none of them is a failure."""
    found = rotated(
        secret("empty"),
        secret("fetched", kind="guided"),
        secret("unfetched", kind="guided"),
        secret("vague", kind="openai-key"),
        secret("after", after=["fetched", "empty"]),
        without=["empty", "unfetched"],
    )
    lacking = "`project`, `service_account`, `admin`"
    assert {
        "empty": (WaveEnd.SKIPPED, "it has no value yet"),
        "fetched": (WaveEnd.PERSON, "`keyturn rotate fetched -e development` says what to do"),
        "unfetched": (WaveEnd.SKIPPED, "it has no value yet"),
        "vague": (
            WaveEnd.PERSON,
            f"describe `[secrets.vague.target]` in keyturn.toml: {lacking}",
        ),
        "after": (WaveEnd.DONE, ""),
    } == {name: (each.end, each.text) for name, each in found.items()}


def test_nothing_begins_before_what_it_depends_on_has_ended(rotated):
    """However many may run side by side, a dependant starts when its wave is over."""
    begun = []
    found = rotated(
        secret("c", after=["b"]),
        secret("b", after=["a"]),
        secret("a"),
        at_once=8,
        begun=lambda ref: begun.append(ref.name),
    )
    assert ["a", "b", "c"] == begun
    assert {WaveEnd.DONE} == {each.end for each in found.values()}


@pytest.mark.parametrize("reloads", [False, True])
def test_a_batch_seals_its_bundle_at_its_end(reloads, rotated, tmp_path, monkeypatch):
    """
    Not once for each, which would cost the square; but before a reload, which may start by it.

    What was sealed before is stale from the first promote on, so nobody is served by it.
    """
    project = projects.Project(tmp_path / "project", tmp_path / "keys")
    monkeypatch.setenv("KEYTURN_HOME", str(project.key_home))
    seen = []

    def look(_):
        generation = (project.keys / "generation.development").read_bytes()
        seen.append((project.bundle.read_bytes(), generation))

    reload = '[consumers.web]\nsecrets = ["b"]\nreload = { command = ["true"] }\n'
    tables = [secret(name) for name in "abcd"]
    found = rotated(*tables, reload if reloads else "", at_once=1, begun=look)
    assert {WaveEnd.DONE} == {each.end for each in found.values()}
    assert 4 == len({generation for _, generation in seen})
    assert (2 if reloads else 1) == len({sealed for sealed, _ in seen})
    project.session().close()
    bundle = fast.open_bundle(str(project.folder), "development")
    assert [b"2"] * 4 == [row[2] for row, _ in bundle.entries() if row[0] == b"secret"]
