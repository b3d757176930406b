"""`backup` and `restore`: sealed for others, rehearsed, and brought back version by version."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from keyturn.cli.exits import Exit
from keyturn.core.ids import FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef
from keyturn.core.value import SecretValue
from keyturn.crypto import new_identity, recipient
from tests.cli.projects import DEVELOPMENT, KEYTURN, MANIFEST, VALUES, Project, empty, fingerprint
from tests.cli.terminal import Terminal

TWO_STORES = MANIFEST.replace(
    '[stores.local]\nkind = "embedded"\n',
    '[stores.local]\nkind = "embedded"\n[stores.team]\nkind = "dotenv"\n'
    'path = "team.{environment}.env"\n',
)
API = SecretName("api")


@pytest.fixture(scope="module")
def identity():
    """An age identity and its recipient."""
    made = new_identity()
    return made.reveal_text(), recipient(made)


@pytest.fixture
def place(project, identity):
    """A project with some history, an identity beside it, and two kinds of store."""
    project.manifest.write_text(TWO_STORES)
    project.put("api", b"second-test-api-key-for-history-1")
    project.put("api", b"third-test-api-key-for-history-22")
    project.put("token", b"gone-soon-test-token-123456")
    project.put("token", b"second-test-token-12345678")
    project.put("token", b"third-test-token-123456789")
    session = project.session()
    session.store.destroy(SecretRef(DEVELOPMENT, SecretName("token")), 1)
    session.close()
    (project.folder.parent / "key.txt").write_text(f"# a comment\n{identity[0]}\n")
    return project


@pytest.fixture
def key(place):
    """The words that name the identity."""
    return ("--identity", str(place.folder.parent / "key.txt"))


@pytest.fixture
def backup(quick, place, identity):
    """Return a function that makes a backup and returns its path."""

    def make(*words, name="b.age", code=Exit.DONE):
        path = place.folder.parent / name
        result = quick("backup", "--to", str(path), "--recipient", identity[1], *words)
        assert code == result.code, result.text
        return path

    return make


def use(project, store):
    """Make `development` use *store*."""
    text = project.manifest.read_text()
    for old in ("local", "team"):
        text = text.replace(
            f'[environments.development]\nstore = "{old}"',
            f'[environments.development]\nstore = "{store}"',
        )
    project.manifest.write_text(text)


def everything(project, store="local", environment=DEVELOPMENT):
    """Return what *store* has: states, and each version with its values."""
    session = project.session()
    try:
        held = session.store.named(store)
        return dict(held.histories(environment, held.states(environment)))
    finally:
        session.close()


def beside(project, name="second"):
    """Return a project in an empty folder, as on a new machine."""
    folder = project.folder.parent / name
    folder.mkdir()
    return Project(folder, project.folder.parent / f"{name}-keys")


def changed(text):
    """Return the rows of a plan."""
    return [line.split("\t") for line in text.decode().splitlines()]


class TestWriting:
    """What is in the file, and where else nothing is."""

    def test_it_is_sealed_and_private(self, backup, place, identity):
        """Of its owner alone, with no value in clear, and any age program opens it."""
        import pyrage

        path = backup()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert VALUES["db.password"] not in path.read_bytes()
        text = pyrage.decrypt(
            path.read_bytes(), [pyrage.x25519.Identity.from_str(identity[0])]
        ).decode()
        assert text.count('"type":"secret"') == 4
        assert text.count('"type":"version"') == 9
        assert '"type":"log"' not in text

    def test_recipients_come_from_everywhere(self, quick, place, identity):
        """Named, listed in a file, and in keyturn.toml: each of them opens it."""
        made = [new_identity() for _ in range(2)]
        listed = place.folder / "team.txt"
        listed.write_text(f"# the team\n\n{recipient(made[0])}\n")
        place.manifest.write_text(
            f'{TWO_STORES}\n[backup]\nrecipients = ["{recipient(made[1])}", "{identity[1]}"]\n'
        )
        words = ("--recipients-file", "team.txt", "--recipient", identity[1])
        shown = quick("backup", "--to", "b.age", "--json", *words).json()
        assert shown["recipients"] == [identity[1], *map(recipient, made)]
        for each in (*made, SecretValue.from_text(identity[0])):
            (place.folder / "k").write_bytes(each.reveal())
            assert quick("restore", "b.age", "--identity", "k", "--list").code == Exit.DONE

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            ((), Exit.USAGE, b"nobody is named who could open"),
            (("--recipient", "age1x"), Exit.USAGE, b"is not an age recipient"),
            (("--recipients-file", "none"), Exit.USAGE, b"no file `none`"),
            (("--recipients-file", "."), Exit.USAGE, b"."),
        ],
    )
    def test_without_a_recipient_nothing_is_written(self, quick, place, words, code, said):
        """Nor recorded as begun."""
        refused = quick("backup", "--to", "b.age", *words)
        assert (code, True) == (refused.code, said in refused.err), refused.text
        assert not (place.folder / "b.age").exists()
        assert [] == place.actions(action="backup.file.write")

    def test_an_older_one_is_not_replaced_unasked(self, quick, backup, place):
        """And its failure is on record."""
        path = backup()
        before = path.read_bytes()
        backup(code=Exit.CONFLICT)
        assert before == path.read_bytes()
        assert place.actions(action="backup.file.write")[-1]["outcome"] == "failed"
        backup("--replace")
        assert before != path.read_bytes()

    def test_only_what_is_wanted(self, quick, backup, place, key):
        """An environment, or all of them; not both words."""
        place.put("api", b"production-test-api-key-1", environment="production")
        shown = quick("restore", str(backup("-e", "production")), *key, "--list", "--json").json()
        assert {(row["environment"], row["secret"]) for row in shown["secrets"]} == {
            ("production", "api")
        }
        backup("--all", "-e", "production", name="c.age", code=Exit.USAGE)
        backup("-e", "nowhere", name="c.age", code=Exit.USAGE)

    def test_nothing_there_is_not_done(self, quick, place, identity):
        """An empty file would look like a backup."""
        words = ("backup", "-e", "production", "--to", "b.age", "--recipient", identity[1])
        assert quick(*words).code == Exit.NOTHING
        assert not (place.folder / "b.age").exists()

    def test_to_a_pipe(self, place, identity, key):
        """The file and nothing else, and never to a terminal."""
        words = ("backup", "--to", "-", "--recipient", identity[1])
        done = place(*words)
        assert done.code == Exit.DONE
        path = place.folder / "piped.age"
        path.write_bytes(done.out)
        assert place("restore", str(path), *key, "--rehearse").code == Exit.DONE
        assert place(*words, "--json").code == Exit.USAGE
        with Terminal([KEYTURN, *words], cwd=place.folder, env=place.environ) as terminal:
            assert terminal.finish() == Exit.USAGE
        assert "not written to a terminal" in terminal.seen

    def test_a_full_pipe_is_no_success(self, place, identity):
        """Whoever reads stops early: that is told by the exit code."""
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [KEYTURN, "backup", "--to", "-", "--recipient", identity[1]],
                cwd=place.folder,
                env=place.environ,
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=60,
            )
        assert done.returncode == Exit.UNREACHABLE, done.stderr
        assert place.actions(action="backup.file.write")[-1]["outcome"] == "failed"

    def test_a_reader_that_goes_away(self, place, identity):
        """What it has read is no backup, and that is told."""
        reads, writes = os.pipe()
        os.close(reads)
        with os.fdopen(writes, "wb") as pipe:
            done = subprocess.run(
                [KEYTURN, "backup", "--to", "-", "--recipient", identity[1]],
                cwd=place.folder,
                env=place.environ,
                stdout=pipe,
                stderr=subprocess.PIPE,
                timeout=60,
            )
        assert done.returncode == Exit.UNREACHABLE, done.stderr
        assert b"less than the whole backup" in done.stderr

    @pytest.mark.parametrize("point", ["backup.write:full", "backup.rename:error"])
    def test_a_full_disk(self, place, identity, point):
        """Nothing is left, and it is on record."""
        before = set(place.folder.iterdir())
        words = ("backup", "--to", "b.age", "--recipient", identity[1])
        failed = place(*words, environ={"KEYTURN_FAILPOINT": point})
        assert failed.code == Exit.UNREACHABLE, failed.text
        assert before == set(place.folder.iterdir())
        assert place.actions(action="backup.file.write")[-1]["outcome"] == "failed"

    def test_the_record_says_who_can_open_it(self, backup, place, identity):
        """Begun before, then how much and its digest."""
        backup()
        begun, done = place.actions(action="backup.file.write")
        assert begun["detail"]["recipients"] == identity[1]
        assert ("begun", "done") == (begun["outcome"], done["outcome"])
        assert (done["detail"]["secrets"], done["detail"]["versions"]) == (4, 9)
        assert done["settles"] == begun["seq"]

    def test_a_rotation_in_flight_is_told(self, quick, backup, place, key):
        """It comes back as a version that no stage points at."""
        session = place.session()
        ref = SecretRef(DEVELOPMENT, API)
        values = {FieldName("value"): SecretValue(b"pending-test-api-key-1234567")}
        session.store.put_pending(ref, values, origin=Origin.ROTATED, token=Token("t"))
        session.close()
        path = backup()
        assert quick("restore", str(path), *key, "--rehearse").code == Exit.DONE
        (row,) = [
            row
            for row in quick("restore", str(path), *key, "--list", "--json").json()["secrets"]
            if row["secret"] == "api"
        ]
        assert (row["current"], row["pending"], row["versions"]) == (3, 4, 4)
        second = beside(place)
        assert second("restore", str(path), *key).code == Exit.DONE
        held = everything(second)[API]
        assert (held.state.current, held.state.pending, held.state.next_number) == (3, None, 5)

    def test_a_damaged_secret_is_left_out_and_told(self, backup, place, quick, key):
        """The others are in it; a backup of the rest is better than none."""
        session = place.session()
        session.database.execute("UPDATE value SET sealed = zeroblob(60) WHERE secret = 'session'")
        session.close()
        path = backup(code=Exit.BAD)
        shown = quick("restore", str(path), *key, "--list", "--json").json()
        assert [row["secret"] for row in shown["secrets"]] == ["api", "db", "token"]
        assert [row["secret"] for row in shown["damaged"]] == ["local:development/session"]
        assert quick("restore", str(path), *key, "--rehearse").code == Exit.BAD

    def test_what_no_environment_uses_is_kept_as_well(self, quick, backup, place, key):
        """Values that were moved elsewhere, and those of an environment that is gone."""
        quick("sync", "local", "team")
        use(place, "team")
        place.put("api", b"fourth-test-api-key-for-history-3")
        shown = quick("restore", str(backup()), *key, "--list", "--json").json()
        rows = {(row["store"], row["secret"]): row for row in shown["secrets"]}
        assert (rows["team", "api"]["current"], rows["team", "api"]["in_use"]) == (4, True)
        assert (rows["local", "api"]["current"], rows["local", "api"]["in_use"]) == (3, False)
        done = quick("restore", str(place.folder.parent / "b.age"), *key, "--rehearse")
        assert done.code == Exit.DONE, done.text


class TestNewMachine:
    """Nothing but the file and an identity."""

    def test_everything_is_as_it_was(self, backup, place, key):
        """Numbers, times, origins, stages, what was destroyed; under new keys."""
        path = backup()
        second = beside(place)
        done = second("restore", str(path), *key)
        assert done.code == Exit.DONE, done.text
        assert everything(second) == everything(place)
        assert second.manifest.read_text() == place.manifest.read_text()
        assert second.keys.name != place.keys.name
        assert second("get", "api").out == b"third-test-api-key-for-history-22"
        assert second("run", "--", "printenv", "DB_PASSWORD").out == VALUES["db.password"] + b"\n"
        assert second("doctor").code == Exit.DONE
        again = second("restore", str(path), *key)
        assert (again.code, b"4 same" in again.err) == (Exit.DONE, True)

    def test_where_it_came_from_is_on_record(self, backup, place, key):
        """The old store, how far its log had come, and each version."""
        path = backup()
        second = beside(place)
        second("restore", str(path), *key)
        begun, *each, done = second.actions(action="backup.file.restore")
        assert begun["detail"]["store"] == place.keys.name
        assert begun["detail"]["seq"] > 0
        assert {record["object"]: record["detail"]["version"] for record in each} == {
            "development/api": 3,
            "development/db": 2,
            "development/session": 1,
            "development/token": 3,
        }
        assert done["settles"] == begun["seq"]

    def test_a_cloned_project_keeps_its_manifest(self, backup, place, key):
        """What is in version control is newer than what is in the file."""
        path = backup()
        second = empty(place.folder.parent / "clone", TWO_STORES + "# newer\n")
        assert second("restore", str(path), *key).code == Exit.DONE
        assert second.manifest.read_text().endswith("# newer\n")
        assert everything(second) == everything(place)

    def test_a_protected_environment_is_asked_for_first(self, backup, place, key):
        """Before anything is made."""
        place.put("api", b"production-test-api-key-1", environment="production")
        path = backup()
        second = beside(place)
        assert second("restore", str(path), *key, "-e", "nowhere").code == Exit.USAGE
        assert second("restore", str(path), *key).code == Exit.DENIED
        assert second("restore", str(path), *key, "--reason", "r").code == Exit.USAGE
        assert second("restore", str(path), *key, "--dry-run").code == Exit.DONE
        assert [] == list(second.folder.iterdir())
        assert second("restore", str(path), *key, "-e", "development").code == Exit.DONE
        done = second("restore", str(path), *key, "--reason", "r", "--yes")
        assert done.code == Exit.DONE, done.text
        assert second("get", "api", "-e", "production").out == b"production-test-api-key-1"

    def test_into_the_stores_of_others(self, quick, backup, place, key):
        """As the manifest names them now."""
        quick("sync", "local", "team")
        use(place, "team")
        path = backup()
        before = everything(place, "team")
        second = beside(place)
        done = second("restore", str(path), *key)
        assert done.code == Exit.DONE, done.text
        assert everything(second, "team") == before
        assert everything(second, "local") == {}
        # The same file, where the environment uses another store by now.
        third = empty(place.folder.parent / "third", TWO_STORES)
        assert third("restore", str(path), *key).code == Exit.DONE
        assert everything(third, "local") == before

    def test_an_environment_that_is_gone_is_told(self, backup, place, key):
        """Nothing is put where nobody would find it."""
        path = backup()
        second = empty(
            place.folder.parent / "clone",
            TWO_STORES.replace("environments.development", "environments.test"),
        )
        left = second("restore", str(path), *key)
        assert left.code == Exit.BAD
        assert b"keyturn.toml has no environment `development`" in left.err


class TestExisting:
    """What is there gives way to nothing that was not named."""

    def test_what_is_missing_is_added(self, quick, backup, place, key):
        """A secret that vanished, and versions that a store put back has not."""
        path = backup()
        session = place.session()
        with session.database.transaction():
            for table in ("value", "version", "secret_state"):
                session.database.execute(f"DELETE FROM {table} WHERE secret = 'api'")
        session.close()
        shown = quick("restore", str(path), *key, "--dry-run")
        assert ["local:development/api", "copy with history", "3", "-"] in changed(shown.out)
        assert quick("restore", str(path), *key).code == Exit.DONE
        assert place("get", "api").out == b"third-test-api-key-for-history-22"
        assert place("run", "--", "true").code == Exit.DONE

    def test_what_is_newer_stays(self, quick, backup, place, key):
        """It is told, and nothing is to be done."""
        path = backup()
        place.put("api", b"fourth-test-api-key-for-history-3")
        shown = quick("restore", str(path), *key)
        assert shown.code == Exit.DONE
        assert b"version 4 is current here, version 3 in the backup" in shown.out
        assert place("get", "api").out == b"fourth-test-api-key-for-history-3"
        assert [] == place.actions(action="backup.file.restore")

    def test_named_it_gives_way_and_is_kept(self, quick, backup, place, key):
        """As a new version, with what was there behind it."""
        path = backup()
        place.put("api", b"fourth-test-api-key-for-history-3")
        place.put("session", b"second-test-session-for-history")
        for word in ("api", "development/session"):
            assert quick("restore", str(path), *key, "--overwrite", word).code == Exit.DONE
        assert place("get", "api").out == b"third-test-api-key-for-history-22"
        assert place("get", "session").out == VALUES["session"]
        held = everything(place)[API]
        assert (held.state.current, held.state.previous) == (5, 4)
        none = quick("restore", str(path), *key, "--overwrite", "nothing")
        assert (none.code, b"no secret `nothing`" in none.err) == (Exit.USAGE, True)

    def test_another_value_is_a_conflict(self, quick, backup, place, key):
        """It is listed, the others are restored, and it stays as it is."""
        path = backup("--all")
        second = empty(place.folder.parent / "clone", TWO_STORES)
        second("init")
        second.put("api", b"of-its-own-test-api-key-12345")
        shown = second("restore", str(path), *key)
        assert shown.code == Exit.BAD
        rows = {row[0]: row[1:] for row in changed(shown.out)}
        assert rows["local:development/api"][0] == "conflict"
        assert "--overwrite api" in rows["local:development/api"][2]
        assert second("get", "api").out == b"of-its-own-test-api-key-12345"
        assert second("get", "session").out == VALUES["session"]
        assert second("restore", str(path), *key, "--overwrite", "api").code == Exit.DONE
        held = everything(second)[API]
        assert (held.state.current, held.state.previous) == (2, 1)
        assert second("get", "api").out == b"third-test-api-key-for-history-22"

    def test_a_damaged_secret_here_is_told(self, quick, backup, place, key):
        """It hinders no other, and is not written over."""
        path = backup()
        session = place.session()
        with session.database.transaction():
            session.database.execute(
                "UPDATE value SET sealed = zeroblob(60) WHERE secret = 'session'"
            )
            for table in ("value", "version", "secret_state"):
                session.database.execute(f"DELETE FROM {table} WHERE secret = 'api'")
        session.close()
        shown = quick("restore", str(path), *key)
        assert shown.code == Exit.BAD
        rows = {row[0]: row[1:] for row in changed(shown.out)}
        assert rows["local:development/session"][0] == "conflict"
        assert place.actions(action="backup.file.restore", object="development/api")

    def test_a_rolled_back_secret_is_left(self, quick, backup, place, key):
        """Somebody decided so."""
        path = backup()
        quick("rollback", "api")
        assert quick("restore", str(path), *key).code == Exit.DONE
        assert everything(place)[API].state.current == 2

    def test_drift_and_rotation_are_in_the_way(self, quick, backup, place, key):
        """A person settles them first."""
        quick("sync", "local", "team")
        use(place, "team")
        place.put("api", b"fourth-test-api-key-for-history-3")
        path = backup()
        file = place.folder / "team.development.env"
        file.write_text(file.read_text().replace("fourth-test", "by-hand-test"))
        shown = quick("restore", str(path), *key, "--overwrite", "api")
        assert shown.code == Exit.BAD
        assert b"the live value was changed, and not by Keyturn" in shown.out
        assert "by-hand-test" in file.read_text()

    def test_a_protected_environment_wants_a_reason_and_a_yes(self, quick, backup, place, key):
        """Only where something would be done there."""
        place.put("api", b"production-test-api-key-1", environment="production")
        path = backup()
        assert quick("restore", str(path), *key).code == Exit.DONE
        place.put("api", b"production-test-api-key-2", environment="production")
        words = ("restore", str(path), *key, "--overwrite", "production/api")
        assert quick(*words).code == Exit.DENIED
        assert quick(*words, "--reason", "r").code == Exit.USAGE
        assert quick(*words, "--reason", "r", "--yes").code == Exit.DONE
        assert place("get", "api", "-e", "production").out == b"production-test-api-key-1"

    def test_another_project_is_refused(self, backup, place, key):
        """Unless the person knows."""
        path = backup()
        second = empty(
            place.folder.parent / "clone", TWO_STORES.replace('"clipper"', '"another"', 1)
        )
        refused = second("restore", str(path), *key)
        assert (refused.code, b"of the project `clipper`" in refused.err) == (Exit.CONFLICT, True)
        assert not second.state.exists()
        second("init")
        assert second("restore", str(path), *key).code == Exit.CONFLICT
        assert second("restore", str(path), *key, "--rehearse").code == Exit.CONFLICT
        done = second("restore", str(path), *key, "--as-project", "clipper")
        assert done.code == Exit.DONE, done.text
        assert everything(second) == everything(place)


class TestRehearsing:
    """It is proven that it restores, and nothing is touched."""

    def test_nothing_is_touched_and_the_date_is_kept(self, quick, backup, place, key, tmp_path):
        """Begun and done are recorded, with the digest of the file."""
        from keyturn.app.backing_up import last_done
        from keyturn.audit import Action

        path = backup()
        before = everything(place)
        (tmp_path / "scratch").mkdir()
        shown = quick(
            "restore", str(path), *key, "--rehearse", environ={"TMPDIR": str(tmp_path / "scratch")}
        )
        assert shown.code == Exit.DONE, shown.text
        assert b"4 secrets and 9 versions came back" in shown.err
        assert before == everything(place)
        assert [] == list((tmp_path / "scratch").iterdir())
        begun, done = place.actions(action="backup.file.rehearse")
        assert ("begun", "done", 0) == (begun["outcome"], done["outcome"], done["detail"]["wrong"])
        session = place.session()
        assert last_done(session, Action.BACKUP_REHEARSE) > last_done(session, Action.BACKUP_WRITE)
        assert last_done(session, Action.BACKUP_RESTORE) is None
        session.close()

    def test_anywhere(self, backup, place, key, tmp_path):
        """Without a project it is proven as well, and said that it is recorded nowhere."""
        path = backup()
        elsewhere = beside(place)
        shown = elsewhere("restore", str(path), *key, "--rehearse", "--json")
        assert shown.code == Exit.DONE, shown.text
        assert shown.json()["recorded"] is False
        assert b"recorded nowhere" in shown.err
        assert fingerprint(elsewhere.folder).keys() == {str(elsewhere.folder)}

    def test_what_does_not_come_back_is_told(self, quick, backup, place, key, monkeypatch):
        """With the outcome `failed`, and exit code 1."""
        from keyturn.app import rehearsing

        path = backup()
        monkeypatch.setattr(rehearsing, "was_written", lambda wanted, _: wanted.ref.name != "api")
        shown = quick("restore", str(path), *key, "--rehearse")
        assert shown.code == Exit.BAD
        assert b"`local:development/api` did not come back" in shown.err
        assert place.actions(action="backup.file.rehearse")[-1]["outcome"] == "failed"

    def test_no_room(self, quick, backup, place, key, monkeypatch):
        """Is told before it is begun to write."""
        from types import SimpleNamespace

        from keyturn.app import rehearsing

        path = backup()
        full = SimpleNamespace(free=10)
        monkeypatch.setattr(rehearsing.shutil, "disk_usage", lambda _: full)
        shown = quick("restore", str(path), *key, "--rehearse")
        assert (shown.code, b"no room" in shown.err) == (Exit.UNREACHABLE, True)


class TestLooking:
    """What is in it, and in its audit log."""

    def test_the_list_shows_no_value(self, backup, place, key):
        """It needs no project, and touches none."""
        path = backup()
        elsewhere = beside(place)
        shown = elsewhere("restore", str(path), *key, "--list")
        assert ["local:development/api", "3", "3", "-"] in changed(shown.out)
        assert ["local:development/token", "3", "2", "-"] in changed(shown.out)
        assert b"history" not in shown.out + shown.err
        assert VALUES["db.password"] not in shown.out + shown.err
        assert [] == list(elsewhere.folder.iterdir())

    def test_the_audit_log_comes_out_as_it_was(self, quick, backup, place, key):
        """And is verified with the key that signed it."""
        path = backup("--with-audit")
        out = place.folder / "log.jsonl"
        assert quick("restore", str(path), *key, "--audit-to", str(out)).code == Exit.DONE
        public = quick("restore", str(path), *key, "--list", "--json").json()["audit"]["public_key"]
        checked = quick("audit", "verify", str(out), "--public-key", public)
        assert checked.code == Exit.DONE, checked.text
        assert quick("restore", str(path), *key, "--audit-to", str(out)).code == Exit.CONFLICT
        without = backup(name="c.age")
        words = ("restore", str(without), *key, "--audit-to", str(place.folder / "none"))
        assert quick(*words).code == Exit.NOTHING
        assert not (place.folder / "none").exists()

    def test_the_identity_from_a_pipe(self, quick, backup, place, identity):
        """So that a sealed one need not lie on a disk."""
        words = ("restore", str(backup()), "--identity", "-", "--list")
        assert quick(*words, stdin=identity[0].encode()).code == Exit.DONE


class TestRefusals:
    """Nothing that is wrong is taken for right, and what is there stays."""

    @pytest.mark.parametrize("how", [(), ("--rehearse",), ("--list",), ("--audit-to", "out")])
    def test_damage(self, quick, backup, place, key, how):
        """Cut anywhere, flipped anywhere, of another identity, or none at all."""
        path = backup("--with-audit")
        data = path.read_bytes()
        session = place.session()
        session.database.execute("DELETE FROM secret_state WHERE secret = 'none'")
        session.close()
        before = everything(place)
        middle = len(data) // 2
        wrong = {
            "cut": data[:-1],
            "half": data[:middle],
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "empty": b"",
            "other": b"SQLite format 3\0" + data,
            "longer": data + b"x",
        }
        for name, content in wrong.items():
            path.write_bytes(content)
            refused = quick("restore", str(path), *key, *how)
            assert (refused.code, b"hint:" in refused.err) == (Exit.BAD, True), name
        assert before == everything(place)
        assert not (place.folder / "out").exists()

    def test_another_identity(self, quick, backup, place, key):
        """A wrong one, none in the file, no file."""
        path = backup()
        file = place.folder.parent / "key.txt"
        file.write_bytes(new_identity().reveal())
        refused = quick("restore", str(path), *key, "--list")
        assert (refused.code, b"not for any age identity" in refused.err) == (Exit.DENIED, True)
        file.write_text("nothing")
        assert b"holds no age identity" in quick("restore", str(path), *key, "--list").err
        file.unlink()
        assert quick("restore", str(path), *key, "--list").code == Exit.USAGE
        file.write_bytes(new_identity().reveal())
        assert quick("restore", "nowhere.age", *key, "--list").code == Exit.USAGE

    def test_another_writer(self, quick, backup, place, key, identity):
        """Whoever knows the recipients can make a file, and cannot sign it."""
        path = backup()
        public = quick("restore", str(path), *key, "--list", "--json").json()["audit"]["public_key"]
        second = beside(place)
        assert second("restore", str(path), *key, "--public-key", "zz").code == Exit.USAGE
        other = second("restore", str(path), *key, "--public-key", "00" * 32)
        assert other.code == Exit.BAD
        assert [] == list(second.folder.iterdir())
        told = second("restore", str(path), *key, "--list", "--public-key", public)
        assert told.code == Exit.DONE
        done = second("restore", str(path), *key, "--public-key", public)
        assert (done.code, b"who wrote it" in done.err) == (Exit.DONE, False)
        # A file that says it is of this store, which another one signed.
        session = place.session()
        from keyturn.core.entropy import SystemEntropy
        from keyturn.crypto import new_signing_key

        forged = new_signing_key(SystemEntropy())
        forge(session, forged, path, identity[1])
        session.close()
        refused = quick("restore", str(path), *key)
        assert (refused.code, b"signature" in refused.err) == (Exit.BAD, True)

    def test_words_that_exclude_each_other(self, quick, backup, key):
        """One thing at a time."""
        path = backup()
        assert quick("restore", str(path), *key, "--list", "--rehearse").code == Exit.USAGE

    def test_no_such_folder(self, backup, place, key):
        """Nothing is made where nobody would look."""
        words = ("restore", str(backup()), *key, "--project-dir", "nowhere")
        missing = beside(place)(*words)
        assert (missing.code, b"no folder" in missing.err) == (Exit.USAGE, True)


def forge(session, key, path, to):
    """Write a backup of *session*'s store, signed with *key*."""
    from keyturn.app.backing_up import plan_backup, write_backup, written_file

    session.signing_key = key
    path.unlink()
    write_backup(
        session,
        plan_backup(session, []),
        [to],
        output=written_file(path, replace_old=False),
        name="forged",
        with_audit=False,
        progress=lambda _: None,
    )


# ------------------------------------------------------------------------------ size

_COUNT, _SIZE = 100, 2 * 1024 * 1024
_GROWTH_KIB = 100 * 1024

# Not `getrusage`, which after a fork knows of the parent's size as well.
_MEASURED = """
import re, sys
from pathlib import Path
from keyturn.cli.main import main
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
base = peak()
code = main(["keyturn", *sys.argv[1:]])
print("grew", peak() - base, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.optional("200 MB are written")
@pytest.mark.skipif(
    "KEYTURN_TEST_LARGE" not in os.environ, reason="set KEYTURN_TEST_LARGE: 200 MB are written"
)
def test_a_large_store_is_not_held(tmp_path, identity):
    """200 MB are sealed, rehearsed and restored; the process grows by less than half of that."""
    secrets = "".join(
        f'[secrets.s{n}]\nkind = "guided"\nvariable = "S{n}"\nrequired = false\n'
        for n in range(_COUNT)
    )
    place = empty(tmp_path / "one", MANIFEST + secrets)
    assert place("init").code == Exit.DONE
    session = place.session()
    for number in range(_COUNT):
        values = {FieldName("value"): SecretValue(os.urandom(_SIZE))}
        ref = SecretRef(DEVELOPMENT, SecretName(f"s{number}"))
        made = session.store.put_pending(ref, values, origin=Origin.SET, token=Token("t"))
        session.store.promote(ref, made.number, expected_current=None)
    session.close()
    path, key = tmp_path / "b.age", tmp_path / "key.txt"
    key.write_text(identity[0])
    fresh = beside(place)
    given = ("restore", str(path), "--identity", str(key))
    for where, words in (
        (place, ("backup", "--to", str(path), "--recipient", identity[1])),
        (place, (*given, "--rehearse")),
        (fresh, given),
    ):
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, *words],
            cwd=where.folder,
            env=where.environ,
            capture_output=True,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr
        grew = int(done.stderr.split(b"grew ")[1])
        print(words[0], grew, "KiB")  # noqa: T201 - seen where the test is run with -s
        assert grew < _GROWTH_KIB, words
    assert path.stat().st_size > _COUNT * _SIZE
