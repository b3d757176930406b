"""`keyturn rotate --all`: what it shows, what it asks, and how it ends."""

from __future__ import annotations

import sys

import pytest

from tests.cli import projects

FAILING = f"""
[secrets.broken]
kind = "command"
priority = "critical"
variable = "BROKEN"
[secrets.broken.target]
create = ["{sys.executable}", "-c", "raise SystemExit(10)"]
status = ["{sys.executable}", "-c", "raise SystemExit(10)"]
retire = ["{sys.executable}", "-c", "raise SystemExit(10)"]
[secrets.needs-broken]
variable = "NEEDS_BROKEN"
kind = "generated"
priority = "critical"
depends_on = ["broken"]
"""
MANIFEST = """\
[project]
name = "clipper"
owner = "team-core"
[environments.development]
store = "local"
[environments.production]
store = "local"
protected = true
[stores.local]
kind = "embedded"
[secrets.cache]
variable = "CACHE"
kind = "generated"
priority = "high"
grace = "0s"
[secrets.feed]
variable = "FEED"
kind = "generated"
depends_on = ["cache"]
grace = "0s"
[secrets.partner]
variable = "PARTNER"
kind = "guided"
"""
NAMES = ("cache", "feed", "partner")
VALUE = b"test-value-3q2-4mGdLr8vNf"


@pytest.fixture
def made(tmp_path):
    """Return a function from more of a manifest to a project whose secrets have values."""

    def make(more="", *, named=NAMES, environment=projects.DEVELOPMENT):
        project = projects.empty(tmp_path, MANIFEST + more)
        projects.start(project)
        for name in named:
            project.put(name, VALUE, environment=environment)
        return project

    return make


def ends(result):
    """Return how each secret of a `--json` answer ended."""
    return {each["secret"]: each["end"] for each in result.json()["secrets"]}


def test_everything_is_rotated_and_what_a_person_fetches_is_named(made):
    """One line a secret, a sum, and 0; what was current is not any more."""
    project = made()
    found = project("rotate", "--all")
    assert 0 == found.code, found.text
    lines = found.text.splitlines()
    assert 4 == len(lines)
    assert ["✓ cache", "! partner", "✓ feed"] == [" ".join(line.split()[:2]) for line in lines[:3]]
    assert "`keyturn rotate partner -e development` says what to do" in found.text
    assert lines[-1].startswith("2 rotated, 1 for a person in ")
    assert VALUE != project("get", "cache").out
    assert VALUE == project("get", "partner").out


def test_one_that_fails_does_not_stop_the_rest(made):
    """It is named with its reason, its dependants are left out, the others rotated: 1."""
    project = made(FAILING, named=(*NAMES, "broken", "needs-broken"))
    found = project("rotate", "--all", "--json")
    assert 1 == found.code
    assert {
        "broken": "failed",
        "needs-broken": "skipped",
        "cache": "done",
        "feed": "done",
        "partner": "person",
    } == ends(found)
    assert "1 failed" in found.text
    broken = next(each for each in found.json()["secrets"] if each["secret"] == "broken")
    assert "refused" in broken["text"]
    assert VALUE.decode() not in found.text + found.out.decode()


def test_the_answer_for_machines_is_whole(made):
    """Seconds of all and of each, where it is, how it ended, and the rotation with its versions."""
    document = made()("rotate", "--all", "--json", "-q").json()
    assert {"seconds", "secrets"} == set(document)
    assert document["seconds"] >= 0
    (cache,) = (each for each in document["secrets"] if each["secret"] == "cache")
    assert ("development", "done", "") == (cache["environment"], cache["end"], cache["text"])
    rotation = cache["rotation"]
    assert ("done", 1, 2) == (rotation["state"], rotation["old_version"], rotation["new_version"])
    (partner,) = (each for each in document["secrets"] if each["secret"] == "partner")
    assert partner["rotation"] is None


def test_one_that_waits_is_not_begun_again(made):
    """A second time, what is in its grace is named with the command that goes on; the rest is rotated."""
    project = made('[secrets.slow]\nkind = "generated"\nvariable = "SLOW"\ngrace = "1h"\n')
    project.put("slow", VALUE)
    words = ("rotate", "--all", "--priority", "medium", "--json")
    assert "waiting" == ends(project(*words))["slow"]
    again = project(*words)
    assert 0 == again.code
    assert {"slow": "waiting", "feed": "done", "partner": "person"} == ends(again)
    slow = next(each for each in again.json()["secrets"] if each["secret"] == "slow")
    assert "`keyturn rotate --resume slow -e development`" in slow["text"]
    assert slow["rotation"] is None


def test_one_priority_alone(made):
    """Only its secrets; 3 where there is none of it."""
    project = made()
    assert {"cache": "done"} == ends(project("rotate", "--all", "--priority", "high", "--json"))
    nothing = project("rotate", "--all", "--priority", "low")
    assert (3, "nothing to rotate in 0.0 s\n") == (nothing.code, nothing.text)


def test_where_only_a_person_can_go_on_nothing_was_done(made):
    """3: the schedule must not take it for a success."""
    project = made(named=["partner"])
    found = project("rotate", "--all", "--json")
    assert 3 == found.code
    assert {"cache": "skipped", "feed": "skipped", "partner": "person"} == ends(found)


def test_the_plan_touches_nothing(made):
    """`--dry-run` lists the waves, most urgent first, and what each comes after."""
    project = made()
    before = projects.fingerprint(project.folder / "keyturn.toml")
    found = project("rotate", "--all", "--dry-run", "--json")
    assert 0 == found.code
    rows = [(row["wave"], row["secret"], row["after"]) for row in found.json()]
    assert [(1, "cache", "-"), (2, "feed", "cache"), (2, "partner", "-")] == sorted(rows)
    assert VALUE == project("get", "cache").out
    assert before == projects.fingerprint(project.folder / "keyturn.toml")
    assert [] == project.actions(action="rotation.begin")


def test_a_protected_environment_asks_for_a_reason_and_a_yes(made):
    """Without a reason 4, without a yes 2, and nothing is rotated by either."""
    project = made(environment=projects.PRODUCTION)
    words = ("rotate", "--all", "-e", "production", "--json")
    assert 4 == project(*words, "--yes").code
    assert 2 == project(*words, "--reason", "ninety days").code
    found = project(*words, "--yes", "--reason", "ninety days")
    assert {"cache": "done", "feed": "done", "partner": "person"} == ends(found)
    rotated = next(each for each in found.json()["secrets"] if each["secret"] == "cache")
    assert 2 == rotated["rotation"]["new_version"]


@pytest.mark.parametrize(
    "words",
    [
        ("cache", "--all"),
        ("--all", "--resume"),
        ("--all", "--give-up"),
        ("--all", "--from-file", "x"),
        ("cache", "--priority", "high"),
        ("--all", "--at-once", "0"),
        ("--all", "--priority", "urgent"),
    ],
)
def test_what_makes_no_sense_together_is_refused(made, words):
    """2, and nothing is begun."""
    project = made()
    assert 2 == project("rotate", *words).code
    assert VALUE == project("get", "cache").out
