"""The store on AWS Secrets Manager, against moto behind a front that answers as AWS does."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import traceback

import pytest

from keyturn._internal import failpoints
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.ports import DriftKind
from keyturn.errors import Conflict, KeyturnError, NotFound, Rejected, Unavailable
from keyturn.stores.aws import AwsSettings, AwsStore
from keyturn.testing import StoreContract
from keyturn.testing.moto import MotoServer
from keyturn.testing.store_contract import DB, OTHER, activate, current, put, refused, values
from tests.integration.aws_front import AwsFront, Refusal

PROJECTS = itertools.count(1)
# How many calls of `scenario` change something; a test counts them.
CHANGES = 19


@pytest.fixture(scope="session")
def moto():
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def front(moto):
    made = AwsFront(moto.address)
    yield made
    made.stop()


@pytest.fixture
def world(front, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    front.calm()
    return front


@pytest.mark.store("aws", real=False)
class AwsContract(StoreContract):
    """A project of its own for each test."""

    layout = "string"

    @pytest.fixture
    def opened(self):
        stores = []
        yield stores
        for made in stores:
            made.close()

    @pytest.fixture
    def reopen(self, world, opened):
        project = f"p{next(PROJECTS)}"

        def open_another():
            settings = AwsSettings("eu-central-1", world.address, layout=self.layout)
            made = AwsStore(settings, project=project, clock=SystemClock(), entropy=SystemEntropy())
            opened.append(made)
            return made

        return open_another

    @pytest.fixture
    def store(self, reopen):
        return reopen()


class TestAwsStrings(AwsContract):
    """The layout in which applications read the value itself."""


class TestAwsDocuments(AwsContract):
    """The layout of one JSON object for each secret."""

    layout = "json"


# --- the rest is of this store alone ----------------------------------------------------


class Hurried(SystemClock):
    """A clock on which waiting takes no time."""

    def __init__(self):
        self.skipped = 0.0

    def monotonic(self):
        return super().monotonic() + self.skipped

    def sleep(self, seconds):
        self.skipped += seconds


@pytest.fixture
def open_store(world):
    """Return a function that opens another handle on this test's project."""
    project = f"p{next(PROJECTS)}"
    opened = []

    def open_another(*, facts=lambda _: {}, clock=None, **settings):
        made = AwsStore(
            AwsSettings("eu-central-1", world.address, **settings),
            project=project,
            clock=clock or Hurried(),
            entropy=SystemEntropy(),
            facts=facts,
        )
        opened.append(made)
        return made

    open_another.project = project
    open_another.name = lambda name: f"{project}/production/{name}"
    yield open_another
    for made in opened:
        made.close()


@pytest.fixture
def store(open_store):
    return open_store()


@pytest.fixture
def sdk(world):
    """What an application has: boto3, and nothing of Keyturn."""
    import boto3

    client = boto3.session.Session().client(
        "secretsmanager", region_name="eu-central-1", endpoint_url=world.address
    )
    yield client
    client.close()


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.disarm()


def login(store, number, **fields):
    """Store a login as the next version and make it current."""
    made = store.put_pending(
        DB, values(**fields), origin=Origin.ROTATED, token=Token(f"login {number}")
    )
    store.promote(DB, made.number, expected_current=store.state(DB).current)
    return made


def scenario(store):
    """Do one of everything that changes a secret, each as its caller would repeat it."""
    one = put(store, b"one", token="1")
    store.promote(DB, one, expected_current=None)
    two = put(store, b"two", token="2")
    store.promote(DB, two, expected_current=one)
    three = put(store, b"three", token="3")
    store.discard_pending(DB, three)
    store.promote(DB, one, expected_current=two)
    store.destroy(DB, three)
    return put(store, b"four", token="4")


def outcome(store):
    """Return what an observer sees after `scenario`."""
    history = [(made.number, made.destroyed) for made in store.history(DB)]
    return store.state(DB), history, current(store), store.read(DB, 2).values


class TestWhatApplicationsRead:
    """The guide's lines, with AWS's own client."""

    def test_single_value_is_itself(self, store, sdk, open_store):
        """A secret of one field is the value, under its name with underscores."""
        ref = SecretRef(DB.environment, SecretName("jwt-key"))
        activate(store, b"obviously fake", ref=ref)
        answer = sdk.get_secret_value(SecretId=open_store.name("jwt_key"))
        assert answer["SecretString"] == "obviously fake"

    def test_password_of_a_login_is_itself(self, store, sdk, open_store):
        """Each field has a name of its own, and all of them are one document."""
        for number, password in enumerate((b"fake one", b"fake two"), 1):
            login(store, number, username=b"clipper", password=password)
            read = sdk.get_secret_value(SecretId=open_store.name("db_password"))
            assert read["SecretString"] == password.decode()
            document = sdk.get_secret_value(SecretId=open_store.name("db"))["SecretString"]
            assert json.loads(document) == {"username": "clipper", "password": password.decode()}
        store.promote(DB, 1, expected_current=2)
        read = sdk.get_secret_value(SecretId=open_store.name("db_password"))
        assert read["SecretString"] == "fake one"

    def test_layout_of_documents_has_no_copies(self, open_store, sdk):
        """One object for each secret, a single value too, and nothing else."""
        store = open_store(layout="json")
        login(store, 1, username=b"u", password=b"p")
        activate(store, b"x", ref=OTHER)
        # By name: others of this server fill more than one page.
        filters = [{"Key": "name", "Values": [open_store.project + "/"]}]
        found = sdk.list_secrets(Filters=filters)["SecretList"]
        own = [made["Name"] for made in found if made["Name"].startswith(filters[0]["Values"][0])]
        assert sorted(own) == [open_store.name("db"), open_store.name("other")]
        read = sdk.get_secret_value(SecretId=open_store.name("other"))["SecretString"]
        assert json.loads(read) == {"value": "x"}

    def test_binary_is_told_apart_by_its_name(self, store, sdk, open_store):
        """What is not text is binary alone, and base64 under a marked name among others."""
        login(store, 1, key=b"\xff\x00", note=b"text")
        document = sdk.get_secret_value(SecretId=open_store.name("db"))["SecretString"]
        assert json.loads(document) == {"key.base64": "/wA=", "note": "text"}
        read = sdk.get_secret_value(SecretId=open_store.name("db_key"))
        assert read["SecretBinary"] == b"\xff\x00"

    def test_nothing_is_current_before_the_first_promote(self, store, sdk, open_store):
        """An application that is too early gets a text that says so, never a value."""
        put(store, b"obviously fake")
        read = sdk.get_secret_value(SecretId=open_store.name("db"))["SecretString"]
        assert read.startswith("keyturn: no version")
        store.discard_pending(DB, 1)
        assert store.state(DB).current is None
        assert store.read_many(DB.environment, [DB.name]) == {}


class TestWhatIsAsked:
    """The calls themselves, which no emulator judges as AWS would."""

    def test_calls_are_safe_on_aws(self, store, world):
        """Labels never leave without a place to go, nor come from where nobody looked."""
        scenario(store)
        assert "RotateSecret" not in world.actions()
        for call in world.changes():
            body = call.body
            if call.action == "UpdateSecretVersionStage" and body["VersionStage"] == "AWSCURRENT":
                assert body["MoveToVersionId"]
                assert body["RemoveFromVersionId"]
            if call.action == "PutSecretValue":
                assert not [label for label in body["VersionStages"] if label.startswith("AWS")]
            if call.action in ("PutSecretValue", "CreateSecret"):
                assert 32 <= len(body["ClientRequestToken"]) <= 64

    def test_number_and_origin_stand_in_the_version_id(self, store, sdk, open_store):
        """No value need be read to know them."""
        activate(store, b"x")
        found = sdk.describe_secret(SecretId=open_store.name("db"))["VersionIdsToStages"]
        (id_,) = [id_ for id_, labels in found.items() if "AWSCURRENT" in labels]
        assert id_.startswith("kt1-00000001-s-")

    @pytest.mark.parametrize(
        ("operation", "expected"),
        [
            ("create", 8),
            ("put", 6),
            ("promote", 2),
            ("discard", 2),
            ("destroy", 4),
            ("read", 1),
            ("number", 2),
            ("state", 1),
            ("history", 2),
            ("many", 1),
        ],
    )
    def test_cost_in_calls(self, store, world, operation, expected):
        """What the module's head says."""
        if operation != "create":
            activate(store, b"one")
        if operation in ("promote", "discard", "destroy"):
            put(store, b"two", token="2")
        if operation == "destroy":
            store.discard_pending(DB, 2)
        world.calls.clear()
        act = {
            "create": lambda: put(store, b"x", token="t"),
            "put": lambda: put(store, b"x", token="t"),
            "promote": lambda: store.promote(DB, 2, expected_current=1),
            "discard": lambda: store.discard_pending(DB, 2),
            "destroy": lambda: store.destroy(DB, 2),
            "read": lambda: store.read(DB, Stage.CURRENT),
            "number": lambda: store.read(DB, 1),
            "state": lambda: store.state(DB),
            "history": lambda: store.history(DB),
            "many": lambda: store.read_many(DB.environment, [DB.name, OTHER.name]),
        }
        act[operation]()
        assert len(world.calls) == expected, world.actions()

    def test_twenty_one_names_are_two_calls(self, store, world):
        """One call reads twenty."""
        refs = [SecretRef(DB.environment, SecretName(f"s{n}")) for n in range(21)]
        for ref in refs:
            activate(store, ref.name.encode(), ref=ref)
        world.calls.clear()
        found = store.read_many(DB.environment, [ref.name for ref in refs])
        assert world.actions() == ["BatchGetSecretValue"] * 2
        assert {name: got.values for name, got in found.items()} == {
            ref.name: values(value=ref.name.encode()) for ref in refs
        }

    def test_labels_stay_within_what_aws_takes(self, store, sdk, open_store):
        """Old versions are let go; their numbers stay taken, and they read as destroyed."""
        for number in range(1, 16):
            activate(store, b"%d" % number)
        found = sdk.describe_secret(SecretId=open_store.name("db"))["VersionIdsToStages"]
        assert sum(map(len, found.values())) <= 15
        assert store.read(DB, 7).values == values(value=b"7")
        gone = refused(NotFound, lambda: store.read(DB, 4))
        assert "destroyed" in gone.message
        assert [made.number for made in store.history(DB)] == list(range(15, 0, -1))

    def test_numbers_are_not_reused_after_aws_dropped_versions(self, store, world, sdk, open_store):
        """The number of a destroyed version is known when AWS no longer knows the version."""
        activate(store, b"one")
        put(store, b"two")
        store.discard_pending(DB, 2)
        store.destroy(DB, 2)
        listed = sdk.list_secret_version_ids(
            SecretId=open_store.name("db"), IncludeDeprecated=True
        )["Versions"]
        (dropped,) = [v["VersionId"] for v in listed if v["VersionId"].startswith("kt1-00000002")]
        world.gone.add((open_store.name("db"), dropped))
        assert [made.number for made in store.history(DB)] == [1]
        assert put(store, b"three") == 3
        refused(NotFound, lambda: store.read(DB, 2))
        store.destroy(DB, 2)

    def test_destroyed_version_is_still_found_by_its_token(self, store):
        """And its token makes no other one."""
        put(store, b"one", token="t")
        store.discard_pending(DB, 1)
        store.destroy(DB, 1)
        found = store.find(DB, Token("t"))
        assert (found.number, found.destroyed) == (1, True)
        refused(Conflict, lambda: put(store, b"one", token="t"))

    def test_too_large_is_refused_before_any_call(self, store, world):
        """One field over the limit, or several together, are never sent."""
        for fields in ({"value": b"x" * 65_537}, {"a": b"x" * 40_000, "b": b"y" * 40_000}):
            error = refused(
                Rejected,
                lambda fields=fields: store.put_pending(
                    DB, values(**fields), origin=Origin.SET, token=Token("t")
                ),
            )
            assert error.code == "store.too_large"
            assert f"`{min(fields)}`" in error.message
        assert world.calls == []

    def test_tags_and_key_are_told(self, open_store, sdk):
        """Owner, purpose and age are tags, brought up to date by the next write."""
        facts = {"owner": "team a", "purpose": "db, main", "aws:x": "no", "keyturn:floor": "99"}
        key = "alias/clipper"
        store = open_store(facts=lambda _: facts, kms_key=key)
        activate(store, b"x")
        facts["owner"] = "team-b"
        activate(store, b"y")
        found = sdk.describe_secret(SecretId=open_store.name("db"))
        tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
        assert found["KmsKeyId"] == key
        assert tags == {
            "owner": "team-b",
            "purpose": "db_ main",
            "keyturn:secret": f"{open_store.project}/production/db",
        }

    def test_two_owners_of_one_name_are_refused(self, store):
        """`db` with the field `password` and `db-password` would be one name."""
        login(store, 1, password=b"p", username=b"u")
        ref = SecretRef(DB.environment, SecretName("db-password"))
        error = refused(Rejected, lambda: put(store, b"x", ref=ref, token="t"))
        assert error.code == "store.key_taken"


class TestFaults:
    """Answers that are lost, late, or no."""

    def test_every_change_is_tried(self, store, world):
        """The next test leaves none out."""
        scenario(store)
        assert len(world.changes()) == CHANGES

    @pytest.mark.parametrize("carried_out", [True, False], ids=["done", "not done"])
    @pytest.mark.parametrize("at", range(1, CHANGES + 1))
    def test_lost_answer_is_settled(self, open_store, world, at, carried_out):
        """Whichever change got no answer: the same end, and no version twice."""
        world.lose_change, world.carried_out = at, carried_out
        last = scenario(open_store())
        assert last == 4
        assert len(world.changes()) >= CHANGES
        world.calm()
        state, history, live, second = outcome(open_store())
        assert (state.current, state.pending, state.previous, state.next_number) == (1, 4, 2, 5)
        assert history == [(4, False), (3, True), (2, False), (1, False)]
        assert (live, second) == (b"one", values(value=b"two"))

    def test_throttling_is_waited_for(self, store, world):
        """A storm that passes is not noticed; one that does not is named."""
        world.throttle = 6
        activate(store, b"x")
        assert current(store) == b"x"
        world.throttle = 10_000
        error = refused(Unavailable, lambda: put(store, b"y", token="t"))
        assert "throttles" in error.message
        assert len(world.calls) < 100
        world.calm()
        assert store.state(DB).pending is None

    def test_throttled_in_the_middle_everything_settles(self, store, world):
        """Every second call is throttled."""
        for at in range(8):
            world.throttle = 1 + at % 3
            activate(store, b"%d" % at)
        assert current(store) == b"7"

    def test_late_version_is_waited_for(self, store, world):
        """What was just written may not be readable yet."""
        number = put(store, b"x", token="t")
        world.lag = 3
        store.promote(DB, number, expected_current=None)
        number = put(store, b"y", token="u")
        assert store.read(DB, number).values == values(value=b"y")
        assert world.actions().count("GetSecretValue") == 4

    def test_missing_right_is_named(self, store, world):
        """The IAM action that is missing stands in message and hint."""
        activate(store, b"x")
        words = "User: x is not authorized to perform: secretsmanager:PutSecretValue on resource: y"
        world.refuse = {"PutSecretValue": Refusal("AccessDeniedException", words)}
        error = refused(Rejected, lambda: put(store, b"y", token="t"))
        assert error.code == "store.denied"
        assert "secretsmanager:PutSecretValue" in error.message
        world.refuse = {"GetSecretValue": Refusal("AccessDeniedException", "kms:Decrypt is denied")}
        error = refused(Rejected, lambda: store.read(DB, Stage.CURRENT))
        assert "kms:Decrypt" in (error.hint or "")

    @pytest.mark.parametrize(
        ("refusal", "code"),
        [
            (Refusal("DecryptionFailure"), "store.kms"),
            (Refusal("UnrecognizedClientException"), "store.denied"),
            (Refusal("LimitExceededException"), "store.limit"),
            (Refusal("InvalidSignatureException", "Signature expired: now"), "store.clock"),
            (Refusal("InternalServiceError", status=500), "store.unavailable"),
        ],
    )
    def test_refusals_are_translated(self, store, world, refusal, code):
        """Each kind of no has its code, and no words of AWS that may carry a value."""
        activate(store, b"x")
        refusal.words += " canary-value"
        world.refuse = {"GetSecretValue": refusal}
        error = refused(KeyturnError, lambda: store.read(DB, Stage.CURRENT))
        assert error.code == code
        assert error.hint
        assert "canary" not in error.message

    def test_deleted_secret_says_the_way_out(self, store):
        """Until its window ends it cannot be used, and can be brought back."""
        login(store, 1, username=b"u", password=b"p")
        store.delete(DB)
        store.delete(DB)
        for act in (
            lambda: store.state(DB),
            lambda: store.read(DB, Stage.CURRENT),
            lambda: store.read_many(DB.environment, [DB.name]),
            lambda: put(store, b"x", token="t"),
        ):
            error = refused(Rejected, act)
            assert error.code == "store.deleted"
            assert "restore-secret" in (error.hint or "")
        assert store.states(DB.environment) == {}
        store.undelete(DB)
        assert store.read(DB, Stage.CURRENT).version.number == 1
        login(store, 2, username=b"u", password=b"q")


class TestDrift:
    """Somebody else writes to the same secret."""

    def test_foreign_current_is_seen_refused_and_taken(self, store, sdk, open_store):
        """Reads give it and say so, promotes refuse, and a person decides."""
        activate(store, b"one")
        sdk.put_secret_value(SecretId=open_store.name("db"), SecretString="theirs")
        drift = store.drifts(DB.environment)[DB.name]
        assert (drift.kind, drift.recorded) == (DriftKind.CHANGED, 1)
        read = store.read(DB, Stage.CURRENT)
        assert (read.version.number, read.version.drifted) == (1, True)
        assert read.values == values(value=b"theirs")
        assert store.read_many(DB.environment, [DB.name])[DB.name] == read
        number = put(store, b"two", token="t")
        error = refused(Conflict, lambda: store.promote(DB, number, expected_current=1))
        assert error.code == "store.drift"
        store.discard_pending(DB, number)
        taken = store.accept(DB, [FieldName("value")])
        assert (taken.number, taken.origin) == (3, Origin.IMPORTED)
        assert store.accept(DB, [FieldName("value")]) == taken
        assert store.drifts(DB.environment) == {}
        assert store.state(DB).current == 3
        assert activate(store, b"four") == 4

    def test_foreign_current_is_put_back(self, store, sdk, open_store):
        """The recorded version is current again."""
        activate(store, b"one")
        sdk.put_secret_value(SecretId=open_store.name("db"), SecretString="theirs")
        assert store.restore(DB).number == 1
        assert current(store) == b"one"
        assert store.drifts(DB.environment) == {}

    def test_secret_made_by_hand_is_adopted(self, store, sdk, open_store):
        """What was there before Keyturn is not written over, and can be taken."""
        sdk.create_secret(Name=open_store.name("db"), SecretString="by hand")
        fields = (FieldName("value"),)
        drift = store.drifts(DB.environment, {DB.name: fields})[DB.name]
        assert (drift.kind, drift.recorded, drift.fields) == (DriftKind.FOREIGN, 0, fields)
        number = put(store, b"ours", token="t")
        error = refused(Conflict, lambda: store.promote(DB, number, expected_current=None))
        assert error.code == "store.drift"
        store.discard_pending(DB, number)
        assert store.accept(DB, [FieldName("value")]).number == 2
        assert current(store) == b"by hand"

    def test_secret_made_by_hand_without_value_stays_without(self, store, sdk, open_store):
        """Its first version would be current at once; ours is not."""
        sdk.create_secret(Name=open_store.name("db"))
        put(store, b"ours", token="t")
        assert store.state(DB).current is None
        read = sdk.get_secret_value(SecretId=open_store.name("db"))["SecretString"]
        assert "ours" not in read

    def test_name_of_one_field_that_was_written_to(self, store, sdk, open_store):
        """It is seen and put back; a promote does not write over it."""
        login(store, 1, username=b"u", password=b"p")
        sdk.put_secret_value(SecretId=open_store.name("db_password"), SecretString="theirs")
        assert store.drifts(DB.environment)[DB.name].fields == ("password",)
        error = refused(Conflict, lambda: login(store, 2, username=b"u", password=b"q"))
        assert error.code == "store.drift"
        store.restore(DB)
        read = sdk.get_secret_value(SecretId=open_store.name("db_password"))
        assert read["SecretString"] == "p"

    def test_foreign_rotation_under_way_is_respected(self, store, sdk, open_store):
        """A pending version of somebody else is not taken away."""
        activate(store, b"one")
        sdk.put_secret_value(
            SecretId=open_store.name("db"), SecretString="theirs", VersionStages=["AWSPENDING"]
        )
        error = refused(Conflict, lambda: put(store, b"two", token="t"))
        assert error.code == "store.pending"
        pending = store.state(DB).pending
        refused(NotFound, lambda: store.promote(DB, pending, expected_current=1))
        store.discard_pending(DB, pending)
        assert put(store, b"two", token="t") == 2


class TestTwoWriters:
    """Two processes at once."""

    def test_no_write_is_lost_silently(self, open_store):
        """Who is told that a write was done finds its value under its number, every time."""
        stores = [open_store(clock=SystemClock()) for _ in range(2)]
        # moto tells of every version ever made, so that one secret grows slower and slower.
        for name in ("a", "b", "c", "d", "e"):
            ref = SecretRef(DB.environment, SecretName(name))
            won = {}
            both = 0
            for attempt in range(40):
                results = race(stores, ref, attempt)
                for who, result in enumerate(results):
                    if isinstance(result, int):
                        assert result not in won, "one number for two writes"
                        won[result] = f"{attempt} {who}".encode()
                    else:
                        assert isinstance(result, Conflict), repr(result)
                done = [result for result in results if isinstance(result, int)]
                assert done, "neither won"
                both += len(done) == 2
                self.check(stores[1], ref, won)
            assert len(won) == 40 + both

    def check(self, store, ref, won):
        """Everything that was said to be done is there."""
        state = store.state(ref)
        assert state.pending is None
        assert sorted(won) == list(range(1, state.next_number))
        for number in (state.current, state.previous):
            if number is not None:
                assert store.read(ref, number).values == values(value=won[number])


def race(stores, ref, attempt):
    """Let each of *stores* put and promote a value; return the number or the error of each."""
    barrier = threading.Barrier(len(stores))
    results = [None] * len(stores)

    def run(who):
        try:
            store = stores[who]
            expected = store.state(ref).current
            barrier.wait(10)
            token = Token(f"{attempt} {who}")
            data = f"{attempt} {who}".encode()
            made = store.put_pending(ref, values(value=data), origin=Origin.SET, token=token)
            try:
                store.promote(ref, made.number, expected_current=expected)
            except Conflict:
                # The other was current in between; a stored version is discarded, not lost.
                store.discard_pending(ref, made.number)
            results[who] = made.number
        except Exception as error:
            results[who] = error

    threads = [threading.Thread(target=run, args=(who,)) for who in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.crash
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestKilled:
    """The process dies at each point around each change, and whoever comes next settles it."""

    def test_killed_anywhere(self, open_store, sdk):
        """Done again from the start by another process, it ends as if nothing had happened."""
        deaths = 0
        for at in range(1, 3 * CHANGES):
            name = SecretName(f"s{at}")
            ref = SecretRef(DB.environment, name)
            died = in_child(lambda ref=ref: steps(open_store(), ref), f"*:{at}")
            steps(open_store(), ref)
            store = open_store()
            state = store.state(ref)
            assert (state.current, state.pending, state.previous) == (2, None, 1), at
            assert [made.number for made in store.history(ref)] == [3, 2, 1], at
            found = store.read(ref, Stage.CURRENT).values
            assert found == values(username=b"u", password=b"two"), at
            shown = sdk.get_secret_value(SecretId=open_store.name(f"s{at}_password"))
            assert shown["SecretString"] == "two", at
            if not died:
                break
            deaths += 1
        else:
            pytest.fail("the operations have more points than were tried")
        assert deaths > 2 * 15


def steps(store, ref):
    """Bring *ref* through its life as a rotation does: each step asks what is true."""
    for number, password in ((1, b"one"), (2, b"two")):
        token = Token(f"token {number}")
        fields = values(username=b"u", password=password)
        made = store.put_pending(ref, fields, origin=Origin.ROTATED, token=token)
        assert made.number == number
        state = store.state(ref)
        expected = {1: None, 2: 1}[number]
        if state.current in (expected, number):
            before = expected if state.current == expected else state.previous
            store.promote(ref, number, expected_current=before)
    token = Token("token 3")
    fields = values(username=b"u", password=b"three")
    made = store.put_pending(ref, fields, origin=Origin.ROTATED, token=token)
    store.discard_pending(ref, made.number)


def in_child(action, arm):
    """Run *action* in a process of its own, killed as *arm* says; tell whether it was."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            failpoints.arm(arm)
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), "see its traceback"
    return os.WIFSIGNALED(status)
