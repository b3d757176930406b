"""Every verb on a store that is somebody else's: here a `.env` file, which anybody can edit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from keyturn.cli.exits import Exit

MANIFEST = """\
[project]
name = "clipper"
[environments.development]
store = "team"
[stores.team]
kind = "dotenv"
path = "team.env"
[secrets.session]
kind = "session-secret"
variable = "SESSION_SECRET"
[secrets.token]
kind = "generated"
variable = "API_TOKEN"
"""


@pytest.fixture
def file(project):
    """The store's file; the project's manifest names it."""
    (project.folder / "keyturn.toml").write_text(MANIFEST)
    return project.folder / "team.env"


def data(result):
    return json.loads(result.out)


def records(quick, action):
    found = data(quick("audit", "log", "--json", "--limit", "200"))
    return [each for each in found if each["action"] == action]


def test_generated_value_is_in_the_file(quick, file):
    """And `get`, `list` and `history` know it by its version."""
    assert Exit.DONE == quick("generate", "--missing").code
    lines = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert set(lines) == {"SESSION_SECRET", "API_TOKEN"}
    token = quick("get", "token")
    assert token.out.decode().strip() == lines["API_TOKEN"].strip("'")
    (row,) = [each for each in data(quick("list", "--json")) if each["secret"] == "token"]
    assert (row["current"], row["pending"]) == (1, None)
    assert [each["version"] for each in data(quick("history", "token", "--json"))] == [1]


def test_change_is_recorded_before_and_after(quick, file):
    """No transaction holds both, so one record comes before and settles after."""
    assert Exit.DONE == quick("set", "token", "-", stdin=b"first-value-aaaaaaaaaaaaaaaaa").code
    after, before = records(quick, "secret.version.set")[:2]
    assert (before["outcome"], after["outcome"]) == ("begun", "done")
    assert after["settles"] == before["seq"]


def test_rollback_puts_the_older_value_into_the_file(quick, file):
    """As with any store."""
    for value in (b"first-value-aaaaaaaaaaaaaaaaa", b"second-value-bbbbbbbbbbbbbbbb"):
        quick("set", "token", "-", stdin=value)
    assert "second-value" in file.read_text()
    assert Exit.DONE == quick("rollback", "token").code
    assert "first-value" in file.read_text()


def test_rotation_goes_through_the_file(quick, file):
    """The new value is what the file holds, and the old one is kept in the list."""
    quick("generate", "--missing")
    old = file.read_text()
    assert Exit.DONE == quick("rotate", "session", "--now").code
    assert file.read_text() != old
    rows = {each["secret"]: each for each in data(quick("status", "--json"))}
    assert rows["session"]["last_rotation"]["state"] == "done"
    assert rows["session"]["state"] == "ok"


def test_run_gives_what_the_file_holds(quick, file, project):
    """Values that somebody edits are given too, once the sealed ones are too old."""
    quick("generate", "--missing")
    text = (project.folder / "keyturn.toml").read_text()
    (project.folder / "keyturn.toml").write_text(
        text.replace('path = "team.env"', 'path = "team.env"\ncache = "1s"')
    )
    file.write_text("API_TOKEN=edited-by-hand-cccccccccccc\nSESSION_SECRET=x\n")
    shown = project("run", "--", "sh", "-c", "printf %s $API_TOKEN")
    assert shown.out == b"edited-by-hand-cccccccccccc"


# Counts how often the process opens the store's file, which nothing can take back.
COUNTING = """
import sys
opened = []
sys.addaudithook(
    lambda event, given: opened.append(1)
    if event == "open" and str(given[0]).endswith("team.env") else None
)
from keyturn.cli.main import main
code = main(["keyturn", "get", "token"])
print(code, len(opened), file=sys.stderr)
"""


def test_get_asks_the_store_once(quick, file, project):
    """The value and the bundle that the next `get` goes by come out of one look."""
    quick("generate", "--missing")
    project.stale()
    done = subprocess.run(
        [sys.executable, "-c", COUNTING],
        cwd=project.folder,
        env=project.environ,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert (done.stderr, project.bundle.exists()) == (b"0 1\n", True)
    assert done.stdout.decode() in file.read_text()


class TestDrift:
    """A value that was edited by hand."""

    @pytest.fixture
    def edited(self, quick, file):
        quick("generate", "--missing")
        lines = file.read_text().splitlines()
        kept = [line for line in lines if not line.startswith("API_TOKEN")]
        file.write_text("\n".join([*kept, "API_TOKEN=edited-by-hand-cccccccccccc"]) + "\n")
        return file

    def test_it_is_shown(self, quick, edited):
        """By `drift`, `status` and `test`, and no value with it."""
        found = quick("drift", "--json")
        assert found.code == Exit.BAD
        (row,) = data(found)
        assert (row["secret"], row["drift"], row["recorded_version"]) == ("token", "changed", 1)
        rows = {each["secret"]: each["state"] for each in data(quick("status", "--json"))}
        assert rows == {"session": "ok", "token": "drifted"}
        tested = quick("test", "--json")
        assert tested.code == Exit.BAD
        assert b"edited-by-hand" not in found.out + tested.out

    def test_it_is_not_written_over(self, quick, edited):
        """By neither `set` nor `rotate`; both name the way out, and leave nothing pending."""
        for words in (["set", "token", "-"], ["rotate", "token", "--now"]):
            refused = quick(*words, stdin=b"another-value-ddddddddddddddd")
            assert refused.code != Exit.DONE
            assert b"keyturn drift token" in refused.err
        assert "edited-by-hand" in edited.read_text()
        assert [each["pending_version"] for each in data(quick("drift", "--json"))] == [None]

    def test_accepted_it_is_a_version(self, quick, edited):
        """And the change can go on."""
        assert Exit.DONE == quick("drift", "token", "--accept").code
        assert Exit.DONE == quick("drift").code
        numbers = [each["version"] for each in data(quick("history", "token", "--json"))]
        assert numbers[0] > 1
        assert Exit.DONE == quick("rotate", "token", "--now").code

    def test_restored_the_recorded_one_is_back(self, quick, edited):
        """In the file."""
        assert Exit.DONE == quick("drift", "--restore").code
        assert "edited-by-hand" not in edited.read_text()
        assert Exit.DONE == quick("drift").code
        assert Exit.NOTHING == quick("drift", "--restore").code

    def test_removed_value_is_missing_to_run(self, quick, edited, project):
        """And is told as drift, with what puts it back."""
        edited.write_text("")
        project.stale()
        refused = project("run", "--", "true")
        assert refused.code != Exit.DONE
        assert b"API_TOKEN" in refused.err
        assert {each["drift"] for each in data(quick("drift", "--json"))} == {"removed"}
        assert Exit.DONE == quick("drift", "--restore").code
        assert project("run", "--", "true").code == Exit.DONE


def test_values_from_before_are_taken_in(quick, file):
    """A team's own file is adopted, not replaced."""
    file.write_text("# ours\nAPI_TOKEN=from-before-eeeeeeeeeeeeeeee\nSESSION_SECRET=before-ffff\n")
    found = data(quick("drift", "--json"))
    assert [(each["secret"], each["drift"]) for each in found] == [
        ("session", "put there"),
        ("token", "put there"),
    ]
    assert Exit.DONE == quick("drift", "--accept").code
    assert quick("get", "token").out.strip() == b"from-before-eeeeeeeeeeeeeeee"
    assert file.read_text().startswith("# ours\n")


def test_nobody_else_writes_to_keyturns_own(quick, project):
    """So that there is nothing to look at."""
    refused = quick("drift")
    assert refused.code == Exit.USAGE
    assert b"Keyturn's own" in refused.err


class TestLastGood:
    """The store does not answer."""

    @pytest.fixture
    def down(self, quick, file, project):
        text = MANIFEST.replace('store = "team"', 'store = "team"\nlast_good = "1h"')
        text = text.replace('path = "team.env"', 'path = "team.env"\ncache = "1s"')
        (project.folder / "keyturn.toml").write_text(text)
        quick("generate", "--missing")
        quick("run", "--help")
        project("run", "--", "true")
        token = quick("get", "token").out.strip()
        file.rename(file.with_suffix(".away"))
        file.mkdir()
        return token

    def wait(self, project):
        # The sealed bundle is good for a second: wait for its end, not for a guess.
        import time

        time.sleep(1.1)

    def test_values_of_before_are_given_and_recorded(self, quick, down, project):
        """With their age, which is in the record."""
        self.wait(project)
        shown = project("run", "--", "sh", "-c", "printf %s $API_TOKEN")
        assert (shown.code, shown.out) == (0, down)
        assert b"last_good" in shown.err
        assert "last_good_seconds" in records(quick, "environment.value.deliver")[0]["detail"]

    def test_too_old_they_are_not(self, quick, down, project):
        """The failure is the store's, and the reason is said."""
        self.wait(project)
        path = project.folder / "keyturn.toml"
        path.write_text(path.read_text().replace('last_good = "1h"', 'last_good = "1s"'))
        refused = project("run", "--", "true")
        assert refused.code == Exit.UNREACHABLE
        assert b"keyturn.toml was changed" in refused.err or b"older than" in refused.err

    def test_without_leave_they_are_not(self, quick, file, project):
        """Nobody asked for it."""
        quick("generate", "--missing")
        file.rename(file.with_suffix(".away"))
        file.mkdir()
        (project.folder / ".keyturn/bundles/development.age").unlink(missing_ok=True)
        assert project("run", "--", "true").code == Exit.UNREACHABLE
