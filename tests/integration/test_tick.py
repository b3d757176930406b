"""`keyturn tick` as a timer calls it: real processes, one real store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from keyturn.app.config import Settings
from keyturn.app.generation import generate
from keyturn.app.session import open_session
from keyturn.core.clock import SystemClock
from keyturn.core.value import SecretValue
from keyturn.testing import FakeClock

KEYTURN = str(Path(sys.executable).with_name("keyturn"))
HEAD = """\
[project]
name = "ticking"
owner = "team"
[environments.production]
store = "local"
protected = true
{production}
[environments.development]
store = "local"
[stores.local]
kind = "embedded"
"""
ALWAYS = 'freeze = ["mon 00:00..thu 00:00", "thu 00:00..mon 00:00"]'
# Its consumer never comes up, so the rotation is rolled back.
BROKEN_CONSUMER = """
[consumers.web]
secrets = ["broken"]
[consumers.web.health]
url = "http://127.0.0.1:9/"
timeout = "1s"
"""
DUE = 'kind = "generated"\nmax_age = "90d"\ngrace = "0s"\n'


class Project:
    """
    A project in *folder* and its command.

    Args:
        secrets: Each one's keys of the manifest, by name.
        age: How old their first versions are.
        production: Further keys of that environment.
        more: Further tables of the manifest.
    """

    def __init__(
        self,
        folder: Path,
        secrets: dict[str, str],
        *,
        age: timedelta = timedelta(days=100),
        production: str = "",
        more: str = "",
    ) -> None:
        self.more = more
        self.folder = folder
        self.secrets = secrets
        self.write(production=production)
        self.run("init", "-qq")
        self.make(age)

    def make(self, age: timedelta) -> None:
        """Give every secret without a value one of that *age*."""
        with closing(
            open_session(
                Settings.read(),
                project_dir=self.folder,
                reason="first",
                ask_passphrase=lambda: SecretValue(b""),
                clock=FakeClock(SystemClock().now() - age),
            )
        ) as session:
            for environment in session.manifest.environments:
                generate(session, environment, [])

    def write(self, *, production: str = "") -> None:
        """Write the manifest."""
        tables = "".join(
            f'[secrets.{name}]\nvariable = "{name.upper()}"\n{text}\n'
            for name, text in self.secrets.items()
        )
        (self.folder / "keyturn.toml").write_text(
            HEAD.format(production=production) + tables + self.more
        )

    def start(self, *words: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [KEYTURN, *words],
            cwd=self.folder,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, code: int = 0, **environ: str) -> str:
        process = self.start(*words, **environ)
        out, err = process.communicate(timeout=60)
        assert code == process.returncode, f"{words}: {process.returncode}\n{out}\n{err}"
        return out

    def tick(self, *words: str, code: int = 0, **environ: str) -> dict[str, list]:
        return json.loads(self.run("tick", "--json", *words, code=code, **environ))

    def version(self, name: str, environment: str = "development") -> int:
        rows = json.loads(self.run("history", name, "-e", environment, "--json"))
        return max(row["version"] for row in rows)


@pytest.fixture
def project(tmp_path):
    """Return what makes a project."""

    def make(**options):
        secrets = options.pop("secrets", {"api": DUE})
        return Project(tmp_path, secrets, **options)

    return make


def ends(document):
    return {(each["environment"], each["secret"]): each["end"] for each in document["done"]}


def waits(document):
    return {
        (each["environment"], each["secret"]): (each["turn"], each["reason"])
        for each in document["waiting"]
    }


def test_nothing_due_says_so_and_writes_nothing(project):
    """No record, no version: a timer may call it every minute."""
    made = project(age=timedelta(0))
    store = next((made.folder / ".keyturn").glob("*.db"))
    before = store.stat().st_mtime_ns
    process = made.start("tick")
    out, err = process.communicate(timeout=60)
    assert (0, "", "nothing is due\n") == (process.returncode, out, err)
    assert before == store.stat().st_mtime_ns
    assert 1 == made.version("api")


def test_all_that_is_due_is_done_in_every_environment(project):
    """Protected ones too: the schedule is the reason."""
    made = project()
    done = ends(made.tick())
    assert {("production", "api"): "done", ("development", "api"): "done"} == done
    assert [2, 2] == [made.version("api", where) for where in ("production", "development")]
    assert "schedule" in made.run("audit", "log", "--json")


def test_only_the_environments_that_are_named(project):
    """The others are left alone; one that does not exist is an error."""
    made = project()
    assert {("development", "api"): "done"} == ends(made.tick("-e", "development"))
    assert 1 == made.version("api", "production")
    made.run("tick", "-e", "nowhere", code=2)


def test_a_dry_run_touches_nothing(project):
    """It shows what a run would do now."""
    made = project()
    rows = json.loads(made.run("tick", "--dry-run", "--json", "-e", "development"))
    assert [("api", "rotate", "it is due")] == [
        (row["secret"], row["turn"], row["reason"]) for row in rows
    ]
    assert "api\trotate\t-\tit is due" in made.run("tick", "--dry-run", "-e", "development")
    assert 1 == made.version("api")


def test_a_freeze_is_kept_and_ends_by_itself(project):
    """What is due waits, is told, and is done by the first run after it."""
    made = project(production=ALWAYS)
    document = made.tick("-e", "production")
    assert [] == document["done"]
    assert {("production", "api"): ("wait", "a freeze")} == waits(document)
    made.write()
    assert {("production", "api"): "done"} == ends(made.tick("-e", "production"))


def test_a_person_is_told_and_not_replaced(project):
    """What only a person can do waits, and is alarming once it is overdue."""
    made = project(secrets={"api": DUE + "automatic = false\n"})
    document = made.tick("-e", "development", code=1)
    assert [] == document["done"]
    assert (
        "person",
        "the manifest says `automatic = false`: `keyturn rotate api -e development`",
    ) == waits(document)["development", "api"]
    assert 1 == made.version("api")


def test_a_grace_is_left_alone(project):
    """Both credentials are valid; that is no failure, and the next run says until when."""
    made = project(secrets={"api": DUE.replace("0s", "2h")})
    assert "waiting" == ends(made.tick())["development", "api"]
    document = made.tick()
    assert [] == document["done"]
    turn, reason = waits(document)["development", "api"]
    assert ("wait", True) == (turn, "both valid" in reason)
    at = next(each["at"] for each in document["waiting"] if each["environment"] == "development")
    left = datetime.fromisoformat(at) - SystemClock().now()
    assert timedelta(hours=1) < left <= timedelta(hours=2)


def test_one_that_fails_stops_only_those_that_need_it(project):
    """The rest is done, and the exit code says that something failed; then it has a pause."""
    made = project(
        secrets={"good": DUE, "broken": DUE, "needy": DUE + 'depends_on = ["broken"]\n'},
        more=BROKEN_CONSUMER,
    )
    document = made.tick("-e", "development", code=1)
    assert {"good": "done", "broken": "failed", "needy": "skipped"} == {
        name: end for (_, name), end in ends(document).items()
    }
    again = made.tick("-e", "development", code=1)
    turn, reason = waits(again)["development", "broken"]
    assert ("wait", True) == (turn, "stuck" in reason)
    # What depends on it need not wait for as long as it fails.
    assert {("development", "needy"): "done"} == ends(again)


def test_many_ticks_at_once_rotate_once(project):
    """Eight processes started together: every secret gets one new version, and no one fails."""
    names = [f"s{number}" for number in range(6)]
    made = project(secrets=dict.fromkeys(names, DUE))
    running = [made.start("tick", "-e", "development", "--json") for _ in range(8)]
    documents = []
    for process in running:
        out, err = process.communicate(timeout=120)
        assert 0 == process.returncode, err
        documents.append(json.loads(out))
    done = [pair for document in documents for pair in ends(document).items()]
    assert names == sorted(name for (_, name), end in done if end == "done")
    assert {"done", "skipped"} >= {end for _, end in done}
    assert {2} == {made.version(name) for name in names}


def test_a_pair_is_never_rotated_together(project):
    """Of eight ticks at once one gets one of the two; the other one waits a day."""
    pair = DUE + 'pair = "login"\n'
    made = project(secrets={"one": pair, "two": pair})
    running = [made.start("tick", "-e", "development", "--json") for _ in range(8)]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert 0 == process.returncode, err
    versions = [made.version("one"), made.version("two")]
    assert 1 in versions, "one of them was not touched"
    document = made.tick("-e", "development")
    assert any("pair" in reason for _, reason in waits(document).values())


@pytest.mark.parametrize(
    "failpoint", ["rotate.create.end", "rotate.promote.end", "rotate.retire.begin"]
)
def test_a_killed_tick_is_made_up_for(project, failpoint):
    """The next one goes on where it died, at once."""
    made = project()
    process = made.start("tick", "-e", "development", KEYTURN_FAILPOINT=failpoint)
    process.communicate(timeout=60)
    assert -signal.SIGKILL == process.returncode
    assert {("development", "api"): "done"} == ends(made.tick("-e", "development"))
    assert 2 == made.version("api")
