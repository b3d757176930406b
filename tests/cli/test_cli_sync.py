"""`diff` and `sync`: from Keyturn's own store to a file and back, with every version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from keyturn.cli.exits import Exit
from keyturn.core.ids import FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef
from keyturn.core.value import SecretValue
from tests.cli import projects
from tests.cli.projects import DEVELOPMENT, VALUES, empty, start
from tests.cli.terminal import Terminal

# The last store is called as an environment is.
MANIFEST = (
    projects.MANIFEST
    + """
[stores.team]
kind = "dotenv"
path = "team.{environment}.env"
[stores.other]
kind = "dotenv"
path = "other.{environment}.env"
[stores.production]
kind = "dotenv"
path = "confusing.{environment}.env"
"""
)
SCHEMAS = Path(__file__).with_name("schemas")


@pytest.fixture
def place(project):
    """A project with `development` in Keyturn's own store, two files, and some history."""
    project.manifest.write_text(MANIFEST)
    project.put("api", b"second-test-api-key-for-history-1")
    project.put("api", b"third-test-api-key-for-history-22")
    project.put("session", b"second-test-session-for-history-1")
    return project


def use(project, store):
    """Make `development` use *store*, as a person does it."""
    text = project.manifest.read_text()
    project.manifest.write_text(
        text.replace(
            '[environments.development]\nstore = "local"',
            f'[environments.development]\nstore = "{store}"',
        )
    )


def file_of(project, store="team"):
    return project.folder / f"{store}.development.env"


def result_of(quick, *words):
    return {row["secret"]: row for row in quick("diff", *words, "--json").json()["secrets"]}


def records(quick, action):
    found = quick("audit", "log", "--json", "--limit", "200").json()
    return [each for each in found if each["action"] == action]


def edit(project, old, new, store="team"):
    """Change the live file as somebody with an editor does."""
    file = file_of(project, store)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


class TestMoving:
    """From one store to another."""

    def test_there_and_back_everything_is_the_same(self, quick, place, tmp_path):
        """Values, numbers, origins, times and stages: out to a file, into another project."""
        before = place.everything("local")
        assert len(before["api"].versions) == 3
        moved = quick("sync", "local", "team")
        assert moved.code == Exit.DONE, moved.text
        assert quick("diff", "local", "team").code == Exit.DONE
        assert place.everything("team") == before
        second = empty(tmp_path / "second", MANIFEST)
        start(second)
        shutil.copy(file_of(place), file_of(second))
        shutil.copytree(place.state / "stores", second.state / "stores")
        assert second.everything("local") == {}
        assert second("sync", "team", "local").code == Exit.DONE
        assert second.everything("local") == before

    def test_dry_run_writes_nothing(self, quick, place):
        """And tells what would be done."""
        shown = quick("sync", "local", "team", "--dry-run")
        assert shown.code == Exit.DONE
        rows = [line.split("\t") for line in shown.out.decode().splitlines()]
        assert ["api", "copy with history", "3", "-"] in rows
        assert not file_of(place).exists()
        assert records(quick, "secret.version.sync") == []

    def test_again_there_is_nothing_to_do(self, quick, place):
        """And nothing is recorded as if there were."""
        quick("sync", "local", "team")
        told = records(quick, "secret.version.sync")
        again = quick("sync", "local", "team")
        assert (again.code, again.out) == (Exit.DONE, b"")
        assert b"3 same" in again.err
        assert records(quick, "secret.version.sync") == told

    def test_records_frame_what_was_written(self, quick, place):
        """Begun before, the batch by secret and version, and the outcome that settles."""
        quick("sync", "local", "team")
        outcome, batch, begun = records(quick, "secret.version.sync")
        assert {each["object"] for each in (begun, batch, outcome)} == {"team:development"}
        assert (begun["outcome"], outcome["settles"]) == ("begun", begun["seq"])
        assert batch["detail"]["versions"] == "api@3 db@2 session@2"
        assert batch["detail"]["from"] == "local:development"

    def test_what_went_on_is_appended(self, quick, place):
        """Only the new versions are written, and the numbers stay the same."""
        quick("sync", "local", "team")
        place.put("api", b"fourth-test-api-key-for-history-3")
        shown = quick("sync", "local", "team", "--json").json()
        (row,) = [each for each in shown["secrets"] if each["what"] != "same"]
        assert (row["secret"], row["what"], row["versions"]) == ("api", "append versions", 1)
        assert shown["written"] == ["api"]
        assert place.everything("team") == place.everything("local")

    def test_manifest_is_left_and_the_line_is_told(self, quick, place):
        """Who uses the other store is the person's decision; then nothing is told any more."""
        before = place.manifest.read_bytes()
        told = quick("sync", "local", "team")
        assert b'`store = "team"` under `[environments.development]`' in told.err
        assert place.manifest.read_bytes() == before
        use(place, "team")
        assert b"still uses" not in quick("sync", "local", "team").err

    def test_moved_in_it_is_used_at_once(self, quick, place):
        """`run` does not go on with the bundle of what was there before."""
        quick("sync", "local", "team")
        use(place, "team")
        place.put("api", b"changed-in-the-file-by-keyturn-1")
        place.refresh()
        use(place, "local")
        quick("sync", "team", "local")
        shown = place("run", "--", "sh", "-c", "printf %s $API_KEY")
        assert shown.out == b"changed-in-the-file-by-keyturn-1"

    def test_no_value_is_shown(self, quick, place):
        """By neither command, in any form."""
        for words in (
            ("diff", "local", "team"),
            ("sync", "local", "team", "--dry-run", "--json"),
            ("sync", "local", "team"),
            ("diff", "local", "team", "--json"),
            ("diff", "development", "production"),
        ):
            shown = quick(*words)
            for text in (b"history", VALUES["db.password"]):
                assert text not in (shown.out + shown.err).replace(b"copy with history", b"")


class TestTerminal:
    """What a person sees and is asked."""

    def start(self, place, *words):
        environ = {**place.environ, "TERM": "xterm-256color"}
        return Terminal([projects.KEYTURN, "sync", *words], cwd=place.folder, env=environ)

    def test_bar_counts_to_the_end(self, place):
        """Beside the plan, and gone from nothing that a pipe gets."""
        with self.start(place, "local", "team") as terminal:
            assert terminal.finish() == Exit.DONE
        assert "copy with history" in terminal.seen
        assert "3/3" in terminal.seen
        assert b"3/3" not in place("sync", "team", "other").err

    def test_no_changes_nothing(self, place):
        """In a protected environment the plan is shown, and then it is asked."""
        place.put("api", b"production-test-api-key-1", environment="production")
        with self.start(place, "local", "team", "-e", "production", "--reason", "r") as terminal:
            terminal.until("write 1 secret of `local:production` to `team:production`?")
            terminal.type("n\n")
            assert terminal.finish() != Exit.DONE
        assert "copy with history" in terminal.seen
        assert not (place.folder / "team.production.env").exists()


class TestRefusals:
    """What is in the way, and that it stays as it is."""

    def test_newer_value_stays(self, quick, place):
        """Unless it is to give way; then the older one becomes a new version beside it."""
        quick("sync", "local", "team")
        use(place, "team")
        place.put("api", b"changed-in-the-file-by-keyturn-1")
        use(place, "local")
        refused = quick("sync", "local", "team")
        assert refused.code == Exit.BAD
        assert b"version 4 is newer than version 3" in refused.out
        assert "changed-in-the-file" in file_of(place).read_text()
        assert quick("sync", "local", "team", "--overwrite").code == Exit.DONE
        held = place.everything("team")[SecretName("api")]
        assert (held.state.current, held.state.previous) == (5, 4)
        assert quick("diff", "local", "team").code == Exit.DONE
        assert b"team keeps its own versions" in quick("sync", "local", "team").out

    def test_drifted_value_stays(self, quick, place):
        """Overwritten it is a version first, so that nothing of anybody is lost."""
        quick("sync", "local", "team")
        edit(place, "third-test-api", "by-hand-test-api")
        refused = quick("sync", "local", "team")
        assert refused.code == Exit.BAD
        assert b"the live value was changed, and not by Keyturn" in refused.out
        assert "by-hand-test-api" in file_of(place).read_text()
        assert quick("sync", "local", "team", "--overwrite").code == Exit.DONE
        assert "third-test-api" in file_of(place).read_text()
        held = place.everything("team")[SecretName("api")]
        (theirs,) = held.values(held.state.previous).values()
        assert theirs.reveal() == b"by-hand-test-api-key-for-history-22"
        assert quick("diff", "local", "team").code == Exit.DONE

    def test_removed_value_is_put_back(self, quick, place):
        """Where what drifted is to give way."""
        quick("sync", "local", "team")
        lines = file_of(place).read_text().splitlines(keepends=True)
        file_of(place).write_text("".join(ln for ln in lines if not ln.startswith("API_KEY")))
        assert quick("sync", "local", "team").code == Exit.BAD
        assert quick("sync", "local", "team", "--overwrite").code == Exit.DONE
        assert place.everything("team") == place.everything("local")

    def test_value_from_before_keyturn_stays(self, quick, place):
        """A file that people had already is not written over."""
        file_of(place).write_text("API_KEY=from-before-keyturn-was-here-1\n")
        refused = quick("sync", "local", "team")
        assert refused.code == Exit.BAD
        assert "from-before" in file_of(place).read_text()
        result = result_of(quick, "local", "team")
        assert result["api"]["second"] == {"version": None, "pending": None, "drifted": True}
        assert result["session"]["result"] == "same"
        assert quick("sync", "local", "team", "--overwrite").code == Exit.DONE
        (first, *_) = place.everything("team")[SecretName("api")].versions
        (theirs,) = first[1].values()
        assert theirs.reveal() == b"from-before-keyturn-was-here-1"

    def test_drift_at_the_source_is_settled_first(self, quick, place):
        """Nobody knows which of the two values is meant."""
        quick("sync", "local", "team")
        edit(place, "third-test-api", "by-hand-test-api")
        refused = quick("sync", "team", "other", "--overwrite")
        assert refused.code == Exit.BAD
        assert "API_KEY" not in file_of(place, "other").read_text()
        assert result_of(quick, "team", "other")["session"]["result"] == "same"

    @pytest.mark.parametrize("store", ["local", "team"])
    def test_pending_version_is_settled_first(self, quick, place, store):
        """On either side, whatever is asked for."""
        quick("sync", "local", "team")
        session = place.session()
        ref = SecretRef(DEVELOPMENT, SecretName("token"))
        values = {FieldName("value"): SecretValue(b"pending-test-value")}
        session.store.named(store).put_pending(ref, values, origin=Origin.SET, token=Token("t"))
        session.close()
        if store == "team":
            place.put("token", b"current-test-value")
        refused = quick("sync", "local", "team", "--overwrite")
        assert refused.code == Exit.BAD
        assert b"version 1 is pending" in refused.out

    def test_protected_environment_wants_a_reason_and_a_yes(self, quick, place):
        """Before anything is read or written."""
        place.put("api", b"production-test-api-key-1", environment="production")
        refused = quick("sync", "local", "team", "-e", "production")
        assert refused.code == Exit.DENIED
        assert b"needs a reason" in refused.err
        unasked = quick("sync", "local", "team", "-e", "production", "--reason", "r")
        assert unasked.code == Exit.USAGE
        assert not (place.folder / "team.production.env").exists()
        done = quick("sync", "local", "team", "-e", "production", "--reason", "r", "--yes")
        assert done.code == Exit.DONE

    def test_values_stay_in_their_environment(self, quick, place):
        """`sync` never gives one environment the values of another."""
        refused = quick("sync", "development", "team:production", "--reason", "r", "--yes")
        assert refused.code == Exit.USAGE
        assert b"different environments" in refused.err

    def test_empty_source_is_told(self, quick, place):
        """Nothing to move is not done."""
        told = quick("sync", "team", "other")
        assert told.code == Exit.NOTHING
        assert b"holds no secret" in told.err

    def test_what_cannot_be_written_hinders_nothing_else(self, quick, place):
        """Each that is in the way is told by itself, the others are moved."""
        place.put("session", b"x" * (300 * 1024))
        refused = quick("sync", "local", "team")
        assert refused.code == Exit.BAD
        assert b"`session` was left as it was" in refused.err
        assert {"api", "db"} == place.everything("team").keys()


class TestSides:
    """What the two words mean."""

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (("nowhere", "team"), Exit.USAGE, b"no store `nowhere`"),
            (("local", "team:nowhere"), Exit.USAGE, b"nowhere"),
            (("production", "team"), Exit.USAGE, b"an environment and a store"),
            (("local", "development"), Exit.USAGE, b"are the same"),
            (("local:production", "local:production"), Exit.USAGE, b"are the same"),
        ],
    )
    def test_unclear_words_are_refused(self, quick, place, words, code, said):
        """With what to write instead."""
        refused = quick("diff", *words)
        assert (refused.code, said in refused.err) == (code, True), refused.text
        assert b"hint:" in refused.err

    def test_environments_are_compared(self, quick, place):
        """The same value in both is told, as is one that is only in one."""
        place.put("api", b"third-test-api-key-for-history-22", environment="production")
        place.put("db.username", b"other_user", environment="production")
        place.put("db.password", VALUES["db.password"], environment="production")
        found = quick("diff", "local:development", "local:production", "--json")
        assert found.code == Exit.BAD
        document = found.json()
        schema = json.loads((SCHEMAS / "diff.json").read_text())
        jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)
        rows = {row["secret"]: (row["result"], row["fields"]) for row in document["secrets"]}
        assert rows == {
            "api": ("same", []),
            "db": ("differs", ["username"]),
            "session": ("only in the first", []),
            "token": ("in neither", []),
        }
        names = quick("diff", "local:development", "local:production", "--names")
        assert (names.code, names.out) == (Exit.BAD, b"db\nsession\n")
        assert quick("diff", "local", "team", "--names", "--json").code == Exit.USAGE

    def test_undeclared_secrets_count(self, quick, place):
        """What a store holds is compared and moved, whether or not the manifest names it."""
        place.manifest.write_text(
            MANIFEST.replace("[secrets.api]", "[secrets.renamed]").replace('"api", ', "")
        )
        assert result_of(quick, "local", "team")["api"]["result"] == "only in the first"
        quick("sync", "local", "team")
        assert result_of(quick, "local", "team")["api"]["result"] == "same"
