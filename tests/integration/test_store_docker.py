"""Docker as a store: Swarm's secrets in a real swarm, and Compose's file secrets."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from keyturn._internal import failpoints
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, StoreName
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.ports import DriftKind
from keyturn.core.value import SecretValue
from keyturn.errors import (
    AccessDenied,
    Conflict,
    Corrupt,
    NotFound,
    Rejected,
    Sealed,
    Unavailable,
    UsageError,
)
from keyturn.manifest import LiveKeys, StoreKind
from keyturn.stores import compose, swarm
from keyturn.stores._sealed_place import SealedPlace
from keyturn.testing import FakeClock, StoreContract
from keyturn.testing.docker import DockerServer
from keyturn.testing.store_contract import Token, values
from tests.integration.test_redis_login import certificates
from tests.unit.stores.workshop import Workshop
from tests.worlds.docker import (
    DB,
    PRODUCTION,
    TlsRelay,
    activate,
    compose_context,
    compose_store,
    context,
    current,
    put,
    swarm_context,
    swarm_store,
)

# The test process has no thread that holds a lock of ours when it forks.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

_PROJECTS = itertools.count(1)
_LIMIT = 511_999


@pytest.fixture
def project():
    """A project of its own, so that tests share a swarm and nothing in it."""
    return f"clipper{os.getpid()}-{next(_PROJECTS)}"


@pytest.fixture(autouse=True)
def disarmed():
    """No failpoint outlives its test."""
    yield
    failpoints.disarm()


@pytest.fixture
def everybodys():
    """A folder that every user may write to."""
    folder = Path(tempfile.mkdtemp(prefix="keyturn-everybodys-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def as_nobody(action):
    """Run *action* in a process of a user without rights, and return what it returned."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            said = str(action())
        except BaseException as error:
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


@pytest.mark.store("compose")
class TestComposeContract(StoreContract):
    """File secrets pass the contract."""

    @pytest.fixture
    def store(self, tmp_path):
        return compose_store(tmp_path)

    @pytest.fixture
    def reopen(self, tmp_path, store):
        return lambda: compose_store(tmp_path)


@pytest.mark.store("swarm")
class TestSwarmContract(StoreContract):
    """Secrets of a real swarm pass the contract."""

    @pytest.fixture
    def store(self, dockerd, tmp_path, project):
        return swarm_store(dockerd, tmp_path, project)

    @pytest.fixture
    def reopen(self, dockerd, tmp_path, project, store):
        return lambda: swarm_store(dockerd, tmp_path, project)

    def test_bytes_are_exact(self, store, reopen):
        """What goes in comes out, up to the limit; Swarm alone takes nothing that is empty."""
        fields = {
            "newline": b"line one\nline two\n",
            "nul": b"before\x00after",
            "not_utf8": b"\xff\xfe\x80 \xc3\x28",
            "quotes": b"""'"`$(id) ${HOME} \\ %s {x}""",
            "longest": os.urandom(_LIMIT),
        }
        version = store.put_pending(DB, values(**fields), origin=Origin.SET, token=Token("t"))
        store.promote(DB, version.number, expected_current=None)
        for handle in (store, reopen()):
            assert current(handle) == fields


class TestComposeFiles:
    """What a container and a person find."""

    @pytest.fixture
    def store(self, tmp_path):
        return compose_store(tmp_path)

    @pytest.fixture
    def folder(self, tmp_path):
        return tmp_path / "secrets" / "production"

    def test_one_file_a_field(self, store, folder):
        """Under the name that the guide uses, and with the value's bytes alone."""
        activate(store, username=b"clip", password=b"p\x00\n")
        activate(store, SecretRef(PRODUCTION, SecretName("api-key")), value=b"k")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            "api_key": b"k",
            "db_password": b"p\x00\n",
            "db_username": b"clip",
        }

    def test_nothing_is_live_before_it_is_promoted(self, store, folder):
        """A pending version is in no live file."""
        put(store, password=b"pending")
        assert not folder.exists()

    def test_files_are_the_container_users(self, tmp_path, folder):
        """0400 and its owner, in folders that it can pass and not list; the rest is ours."""
        store = compose_store(tmp_path, uid=1234, gid=2345)
        activate(store, password=b"p")
        found = (folder / "db_password").stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o400)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o711
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o711
        state = tmp_path / "secrets" / ".keyturn-state"
        kept = [path for path in state.rglob("*") if path.is_file() and path.name != ".gitignore"]
        assert kept
        assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert stat.S_IMODE((state / "production").stat().st_mode) == 0o700

    def test_folders_are_ours_alone_without_another_owner(self, store, folder):
        """Nobody else passes where nobody else reads."""
        activate(store, password=b"p")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "db_password").stat().st_mode) == 0o400

    def test_git_passes_over_what_is_kept(self, store, tmp_path):
        """The folder of kept values ignores itself."""
        activate(store, password=b"p")
        assert (tmp_path / "secrets/.keyturn-state/.gitignore").read_text() == "*\n"

    def test_removed_field_has_no_file(self, store, folder):
        """A version with fewer fields takes the others away."""
        activate(store, username=b"clip", password=b"p")
        activate(store, password=b"q")
        assert [path.name for path in folder.iterdir()] == ["db_password"]

    def test_destroyed_value_is_in_no_file(self, store, tmp_path):
        """It is nowhere below the folder."""
        for data in (b"needle-one", b"two", b"three"):
            activate(store, value=data)
        store.destroy(DB, 1)
        texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert not any(b"needle-one" in t or base64.b64encode(b"needle-one") in t for t in texts)

    def test_variables_are_names_where_asked_for(self, tmp_path, folder):
        """`keys = "variables"` calls the files so."""
        activate(compose_store(tmp_path, keys=LiveKeys.VARIABLES), password=b"p")
        assert [path.name for path in folder.iterdir()] == ["DB_PASSWORD"]

    def test_hand_edit_is_drift(self, store, folder):
        """What somebody wrote is read, told apart, and not written over."""
        activate(store, password=b"one")
        number = put(store, password=b"two")
        (folder / "db_password").unlink()
        (folder / "db_password").write_bytes(b"by hand")
        with pytest.raises(Conflict) as refusal:
            store.promote(DB, number, expected_current=1)
        assert refusal.value.code == "store.drift"
        assert store.drifts(PRODUCTION)[DB.name].kind is DriftKind.CHANGED
        assert current(store) == {"password": b"by hand"}
        store.restore(DB)
        assert (folder / "db_password").read_bytes() == b"one"

    def test_link_in_a_files_place_is_drift(self, store, folder, tmp_path):
        """It is not followed, and what it points to is not written."""
        activate(store, password=b"one")
        other = tmp_path / "other"
        other.write_bytes(b"one")
        (folder / "db_password").unlink()
        (folder / "db_password").symlink_to(other)
        assert store.drifts(PRODUCTION)[DB.name].kind is DriftKind.REMOVED
        store.restore(DB)
        assert not (folder / "db_password").is_symlink()
        assert other.read_bytes() == b"one"

    def test_folder_in_a_files_place_is_refused(self, store, folder):
        """Docker makes one where a file was missing; nothing is changed then."""
        (folder / "db_password").mkdir(parents=True)
        with pytest.raises(Rejected, match="is a folder"):
            activate(store, username=b"u", password=b"one")
        assert [path.name for path in folder.iterdir()] == ["db_password"]
        assert store.state(DB).current is None

    def test_full_disk_changes_nothing(self, store, folder):
        """The write is refused, and goes through when there is room."""
        activate(store, username=b"u", password=b"one")
        number = put(store, username=b"v", password=b"two")
        for point in ("next.write", "next.rename", "journal.write", "journal.rename"):
            failpoints.arm(f"store.compose.{point}:full")
            with pytest.raises(Unavailable, match="No space left"):
                store.promote(DB, number, expected_current=1)
            assert current(store) == {"username": b"u", "password": b"one"}
        store.promote(DB, number, expected_current=1)
        assert current(store) == {"username": b"v", "password": b"two"}
        assert len(list(folder.iterdir())) == 2

    def test_decided_change_is_finished(self, store, folder):
        """A fault after the journal is written does not leave a mixture."""
        activate(store, username=b"u", password=b"one")
        number = put(store, username=b"v", password=b"two")
        failpoints.arm("store.compose.renamed:error")
        store.promote(DB, number, expected_current=1)
        assert current(store) == {"username": b"v", "password": b"two"}
        assert (folder / "db_username").read_bytes() == b"v"

    def test_owner_that_cannot_be_given_is_refused(self, everybodys):
        """Without root it is said before anything is decided."""

        def action():
            store = compose_store(everybodys, uid=1234)
            try:
                activate(store, password=b"one")
            except Rejected as error:
                return f"{error.code}: {store.state(DB).current}"

        assert as_nobody(action) == "store.owner: None"

    @pytest.mark.parametrize(
        "text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "ledger": "?", "kept": []}']
    )
    def test_damaged_ledger_is_refused(self, store, tmp_path, text):
        """Nothing is written over it."""
        activate(store, password=b"one")
        ledger = tmp_path / "secrets/.keyturn-state/production/ledger"
        ledger.write_text(text)
        with pytest.raises(Corrupt):
            put(store, password=b"two", token="t")
        assert ledger.read_text() == text

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"format": 1, "set": ["../x"], "remove": []}', '{"format": 2}']
    )
    def test_damaged_journal_is_refused(self, store, tmp_path, text):
        """It renames and removes nothing."""
        activate(store, password=b"one")
        (tmp_path / "secrets/.keyturn-state/production/journal").write_text(text)
        with pytest.raises(Corrupt):
            current(store)

    def test_advice_tells_a_files_wrong_mode(self, tmp_path, folder):
        """What a container could not read, or everybody could."""
        layout = compose.layout(compose_context(tmp_path))
        activate(compose_store(tmp_path), password=b"p")
        assert layout.advice(PRODUCTION) == []
        (folder / "db_password").chmod(0o644)
        (said,) = layout.advice(PRODUCTION)
        assert "mode is 0644 instead of 0400" in said

    def test_path_out_of_the_project_is_refused(self, tmp_path):
        """A manifest cannot make Keyturn write elsewhere."""
        with pytest.raises(UsageError):
            compose_store(tmp_path, folder="../x").state(DB)


class TestSwarmObjects:
    """What a person finds in the swarm."""

    @pytest.fixture
    def store(self, dockerd, tmp_path, project):
        return swarm_store(dockerd, tmp_path, project)

    @pytest.fixture
    def layout(self, dockerd, tmp_path, project):
        return swarm.layout(swarm_context(dockerd, tmp_path, project))

    @pytest.fixture
    def listed(self, dockerd, project):
        """Return a function to the names of the project's secrets."""

        def names():
            found = dockerd.docker("secret", "ls", "--format", "{{.Name}}").split()
            return sorted(name for name in found if name.startswith(f"{project}_"))

        return names

    def test_names_and_labels_tell_whose_it_is(self, store, layout, dockerd, project):
        """Without the value, also under a digest that anybody could make."""
        activate(store, username=b"clip", password=b"needle-value")
        name = f"{project}_production_db_password_v1"
        assert layout.current(PRODUCTION) == {
            "db_password": name,
            "db_username": f"{project}_production_db_username_v1",
        }
        said = dockerd.docker("secret", "inspect", name)
        labels = json.loads(said)[0]["Spec"]["Labels"]
        assert labels.pop("keyturn.digest")
        assert labels == {
            "keyturn.environment": "production",
            "keyturn.key": "db_password",
            "keyturn.number": "1",
            "keyturn.owner": "team-clips",
            "keyturn.secret": "db",
            "keyturn.stem": f"{project}_production",
        }
        assert "needle-value" not in said

    def test_nothing_is_made_before_it_is_promoted(self, store, listed):
        """A pending version is aside only."""
        put(store, password=b"pending")
        assert listed() == []

    def test_old_secrets_are_removed(self, store, listed, project):
        """Where no service uses them, each promote leaves one."""
        for data in (b"one", b"two", b"three"):
            activate(store, password=data)
        assert listed() == [f"{project}_production_db_password_v3"]
        store.promote(DB, 2, expected_current=3)
        assert listed() == [f"{project}_production_db_password_v4"]
        assert current(store) == {"password": b"two"}

    def test_removed_field_is_not_current(self, store, layout, listed, project):
        """And its number is not used again."""
        activate(store, username=b"clip", password=b"p")
        activate(store, password=b"q")
        assert list(layout.current(PRODUCTION)) == ["db_password"]
        activate(store, username=b"clip", password=b"r")
        assert listed() == [
            f"{project}_production_db_password_v3",
            f"{project}_production_db_username_v3",
        ]

    @pytest.mark.parametrize("data", [b"", b"x" * (_LIMIT + 1)], ids=["empty", "too-large"])
    def test_what_swarm_never_takes_is_refused_at_once(self, store, data):
        """By the field's name, before a version is made."""
        with pytest.raises(Rejected, match="`password`"):
            put(store, password=data)
        assert store.state(DB).next_number == 1

    def test_longest_names_fit(self, dockerd, tmp_path, project):
        """What Swarm would not take is cut, and two of them stay two."""
        store = swarm_store(dockerd, tmp_path, project)
        secret = SecretRef(EnvironmentName("e" * 63), SecretName("n" * 63))
        fields = {"f" * 62 + letter: letter.encode() for letter in "ab"}
        activate(store, secret, **fields)
        assert current(store, secret) == fields
        names = swarm.layout(swarm_context(dockerd, tmp_path, project)).current(secret.environment)
        assert sorted(len(name) for name in names.values()) == [64, 64]
        assert len(set(names.values())) == 2

    def test_hand_made_name_is_passed_over(self, store, layout, dockerd, project):
        """It is not taken for ours, does not stop us, and is told."""
        activate(store, password=b"one")
        name = f"{project}_production_db_password_v2"
        dockerd.docker("secret", "create", name, "-", stdin=b"by hand")
        activate(store, password=b"two")
        assert layout.current(PRODUCTION)["db_password"].endswith("_v3")
        assert [said for said in layout.advice(PRODUCTION) if name in said]

    def test_removal_by_hand_is_drift(self, store, dockerd, project):
        """It is told as removed, writes refuse, and it can be put back."""
        activate(store, password=b"one")
        number = put(store, password=b"two")
        dockerd.docker("secret", "rm", f"{project}_production_db_password_v1")
        assert store.drifts(PRODUCTION)[DB.name].kind is DriftKind.REMOVED
        with pytest.raises(Conflict) as refusal:
            store.promote(DB, number, expected_current=1)
        assert refusal.value.code == "store.drift"
        with pytest.raises(NotFound):
            current(store)
        store.restore(DB)
        assert current(store) == {"password": b"one"}
        store.promote(DB, number, expected_current=1)
        assert current(store) == {"password": b"two"}

    def test_secret_of_the_same_name_made_by_hand_is_drift(self, store, dockerd, project):
        """Its value is not known, so it is never given out as ours."""
        activate(store, password=b"one")
        name = f"{project}_production_db_password_v1"
        labels = json.loads(dockerd.docker("secret", "inspect", name))[0]["Spec"]["Labels"]
        dockerd.docker("secret", "rm", name)
        words = [f"--label={key}={text}" for key, text in labels.items()]
        dockerd.docker("secret", "create", *words, name, "-", stdin=b"by hand")
        assert store.drifts(PRODUCTION)[DB.name].kind is DriftKind.REMOVED

    def test_head_removed_by_hand_is_drift(self, store, dockerd, project):
        """Every secret is then, and each can be put back."""
        other = SecretRef(PRODUCTION, SecretName("other"))
        activate(store, password=b"one")
        activate(store, other, value=b"two")
        dockerd.docker("config", "rm", f"{project}_production_keyturn")
        assert set(store.drifts(PRODUCTION)) == {DB.name, other.name}
        store.restore(DB)
        store.restore(other)
        assert (current(store), current(store, other)) == ({"password": b"one"}, {"value": b"two"})

    def test_current_is_kept_sealed(self, dockerd, tmp_path, project):
        """With what is kept aside in the embedded store, all of it works and nothing is in clear."""
        workshop = Workshop(tmp_path)
        try:
            embedded = workshop.create()
            kind = swarm_context(dockerd, tmp_path, project).settings.kind
            store = swarm.build(
                context(
                    kind,
                    tmp_path,
                    project=project,
                    host=dockerd.host,
                    keep=lambda env: SealedPlace(embedded, StoreName("docker"), env),
                )
            )
            for data in (b"needle-one", b"needle-two"):
                activate(store, password=data)
            assert current(store) == {"password": b"needle-two"}
            previous = store.read(DB, Stage.PREVIOUS).values
            assert previous == {FieldName("password"): SecretValue(b"needle-one")}
            store.promote(DB, 1, expected_current=2)
            assert current(store) == {"password": b"needle-one"}
            texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
            assert not any(b"needle" in text for text in texts)
        finally:
            workshop.close()

    def test_prefix_of_the_manifest_is_used(self, dockerd, tmp_path, project, listed):
        """Environments are told apart, whether it names them or not."""
        for number, prefix in enumerate((f"{project}_a", f"{project}_b.{{environment}}.x")):
            store = swarm_store(dockerd, tmp_path / str(number), "unused", prefix=prefix)
            activate(store, password=b"p")
        assert listed() == [
            f"{project}_a_production_db_password_v1",
            f"{project}_b.production.x_db_password_v1",
        ]

    def test_prefix_that_cannot_be_is_refused(self, dockerd, tmp_path):
        """Before anything is sent."""
        with pytest.raises(UsageError):
            swarm_store(dockerd, tmp_path, "unused", prefix="a/b").state(DB)


class TestSwarmFaults:
    """Daemons that cannot serve."""

    def test_no_daemon_is_unavailable(self, tmp_path):
        """After having tried for a while."""
        store = swarm.build(
            context(
                StoreKind.SWARM,
                tmp_path,
                host=f"unix://{tmp_path}/none.sock",
                clock=FakeClock(),
            )
        )
        with pytest.raises(Unavailable, match="does not answer"):
            store.state(DB)

    def test_plain_address_of_another_machine_is_refused(self, tmp_path, dockerd):
        """Secrets go over the network under TLS or not at all."""
        store = swarm_store(dockerd, tmp_path, "clipper", host="tcp://192.0.2.1:2375")
        with pytest.raises(Rejected, match="without TLS"):
            store.state(DB)

    def test_tls_proves_both_sides(self, dockerd, tmp_path, project):
        """With the folder of three files that Docker's own guide makes; no other authority's."""
        for name in ("tls", "other"):
            folder = tmp_path / name
            folder.mkdir()
            for path, file in zip(
                certificates(folder), ("cert.pem", "key.pem", "ca.pem"), strict=True
            ):
                path.rename(folder / file)
        relay = TlsRelay(dockerd, tmp_path / "tls")
        try:
            where = {"host": relay.host, "tls_folder": "tls"}
            activate(swarm_store(dockerd, tmp_path, project, **where), password=b"one")
            assert current(swarm_store(dockerd, tmp_path, project)) == {"password": b"one"}
            where["tls_folder"] = "other"
            with pytest.raises(Rejected, match="does not prove who it is"):
                swarm_store(dockerd, tmp_path, project, **where).state(DB)
            where["tls_folder"] = "none"
            with pytest.raises(Rejected, match="can be used"):
                swarm_store(dockerd, tmp_path, project, **where).state(DB)
        finally:
            relay.close()

    def test_socket_of_others_is_denied(self, dockerd, everybodys):
        """Said as what it is, to a user who may not use it."""
        dockerd.folder.chmod(0o711)

        def action():
            try:
                swarm_store(dockerd, everybodys, "clipper").state(DB)
            except AccessDenied as error:
                return error.code

        assert as_nobody(action) == "store.denied"

    def test_daemon_without_and_with_a_locked_swarm(self, tmp_path):
        """Neither looks like an empty store; unlocked, everything is there."""
        with DockerServer() as server:
            store = swarm_store(server, tmp_path, "clipper")
            layout = swarm.layout(swarm_context(server, tmp_path, "clipper"))
            with pytest.raises(Rejected, match="not a swarm manager"):
                store.state(DB)
            key = server.start_swarm(autolock=True)
            activate(store, password=b"one")
            said = layout.advice(PRODUCTION)
            assert len(said) == 1
            assert "1 manager" in said[0]
            server.restart()
            with pytest.raises(Sealed) as refusal:
                current(store)
            assert "docker swarm unlock" in (refusal.value.hint or "")
            with pytest.raises(Sealed):
                activate(store, password=b"two")
            server.docker("swarm", "unlock", stdin=f"{key}\n".encode())
            assert current(store) == {"password": b"one"}
            server.docker("swarm", "update", "--autolock=false")
            assert any("autolock is off" in text for text in layout.advice(PRODUCTION))


def test_server_leaves_nothing():
    """No process, mount or file of it is there when it has stopped."""
    with DockerServer() as server:
        server.start_swarm()
        folder = server.folder
        server.docker("run", "--detach", "--network", "host", server.image, "sleep", "100")
    assert not folder.exists()
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert not [each for each in Path("/proc").glob("[0-9]*") if str(folder) in _command(each)]


def _command(process):
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:
        return ""
