"""Values in Vault as applications and the vendor's own program see them, on a real OpenBao server."""

from __future__ import annotations

import threading

import pytest

from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import EnvironmentName, SecretName, Token
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.ports import DriftKind
from keyturn.errors import Conflict, Corrupt, NotFound, Rejected, Sealed, Unavailable, UsageError
from keyturn.stores.vault import VaultShape
from keyturn.testing.openbao import OpenBaoServer
from tests.worlds.vault_store import (
    DB,
    ENVIRONMENT,
    VaultStoreWorld,
    activate,
    current,
    fields,
    put,
)

OTHER = SecretRef(ENVIRONMENT, SecretName("other"))
PATH = "clipper/production"


@pytest.fixture(scope="module")
def running():
    made = VaultStoreWorld()
    yield made
    made.close()


@pytest.fixture
def world(running):
    """A KV engine that is empty."""
    yield running.fresh_mount()
    running.close_stores()


def logins(store, **values):
    """Make *values* current as fields of one secret."""
    number = store.put_pending(
        DB, fields(**values), origin=Origin.SET, token=Token("t" + "".join(values))
    ).number
    store.promote(DB, number, expected_current=store.state(DB).current)


# --- what applications see ------------------------------------------------------------------


def test_the_vendors_program_reads_the_value(world):
    """`bao kv get -field=db_password` prints it, byte for byte."""
    store = world.store()
    logins(store, username=b"clipper", password="pässwörd <&> \u2028 🔑".encode())
    printed = world.bao("kv", "get", f"-mount={world.mount}", "-field=db_password", PATH)
    assert printed.decode() == "pässwörd <&> \u2028 🔑"
    assert world.live() == {"db_username": "clipper", "db_password": "pässwörd <&> \u2028 🔑"}


def test_a_path_for_each_secret(world):
    """In the other layout each secret has a path, and its fields are called as they are."""
    store = world.store(shape=VaultShape.SECRET)
    logins(store, username=b"clipper", password=b"x")
    assert world.live(f"{PATH}/db") == {"username": "clipper", "password": "x"}
    assert list(store.states(ENVIRONMENT)) == ["db"]


def test_what_is_pending_or_was_is_not_where_applications_read(world):
    """The live document has what is current, and the rest lies below a path of Keyturn's own."""
    store = world.store()
    activate(store, b"one")
    activate(store, b"two")
    put(store, b"three")
    assert world.live() == {"db": "two"}
    found = world.ask("LIST", f"{world.mount}/metadata/")["data"]["keys"]
    assert found == ["clipper/", "keyturn/"]
    older = world.ask("GET", f"{world.mount}/data/{PATH}?version=1")["data"]["data"]
    assert older == {"db": "one"}


def test_fields_of_others_stay(world):
    """Text, numbers, tables and nothing at all are as they were, byte for byte."""
    foreign = {
        "note": "by hand <&>",
        "port": 5432,
        "big": 2**53 + 1,
        "share": 0.1,
        "list": [1, {"a": None}],
        "none": None,
    }
    world.write(foreign)
    before = world.live()
    store = world.store()
    activate(store, b"one")
    activate(store, b"two")
    assert world.live() == before | {"db": "two"}


def test_values_that_are_no_text_are_marked(world):
    """Each is base64 with a mark beside it, and text that looks like base64 is text."""
    store = world.store()
    logins(store, key=b"\x00\xff", plain=b"AP8=")
    assert world.live() == {
        "db_key": "AP8=",
        "db_plain": "AP8=",
        "keyturn.base64": "db_key",
    }
    read = store.read(DB, Stage.CURRENT)
    assert {name: value.reveal() for name, value in read.values.items()} == {
        "key": b"\x00\xff",
        "plain": b"AP8=",
    }
    logins(store, key=b"text", plain=b"more", third=b"")
    assert world.live() == {"db_key": "text", "db_plain": "more", "db_third": ""}


def test_a_field_that_is_not_needed_any_more_goes(world):
    """Its key leaves the live document; those of others stay."""
    world.write({"db_extra_of_others": "x"})
    store = world.store()
    logins(store, username=b"u", password=b"p")
    logins(store, password=b"q")
    assert world.live() == {"db_extra_of_others": "x", "db_password": "q"}


def test_how_many_versions_vault_keeps_does_not_matter(world):
    """With one version kept of each document, all of ours can be read."""
    world.ask("POST", f"{world.mount}/config", {"max_versions": 1})
    store = world.store()
    for number in range(1, 6):
        activate(store, b"%d" % number)
    read = [store.read(DB, number).values["value"].reveal() for number in range(1, 6)]
    assert read == [b"1", b"2", b"3", b"4", b"5"]


def test_calls(world):
    """One request more or less is a change that somebody should have meant."""
    store = world.store()
    activate(store, b"zero")
    asked = []
    session = store._layout._session
    send = session._cluster.send

    def counted(method, path, **options):
        asked.append(f"{method} {path.split('/')[1]}")
        return send(method, path, **options)

    session._cluster.send = counted
    counts = {}
    number = None

    def count(name, act):
        asked.clear()
        result = act()
        counts[name] = len(asked)
        return result

    number = count("put", lambda: put_only(store, b"one"))
    count("promote", lambda: store.promote(DB, number, expected_current=1))
    count("current", lambda: store.read(DB, Stage.CURRENT))
    count("previous", lambda: store.read(DB, Stage.PREVIOUS))
    count("many", lambda: store.read_many(ENVIRONMENT, [DB.name]))
    count("state", lambda: store.state(DB))
    count("history", lambda: store.history(DB))
    number = put_only(store, b"two")
    count("discard", lambda: store.discard_pending(DB, number))
    assert counts == {
        "put": 3,
        "promote": 5,
        "current": 2,
        "previous": 3,
        "many": 2,
        "state": 2,
        "history": 1,
        "discard": 3,
    }


def put_only(store, data):
    token = Token(SystemEntropy().random_bytes(8).hex())
    return store.put_pending(DB, fields(value=data), origin=Origin.SET, token=token).number


# --- destroyed ------------------------------------------------------------------------------


def test_what_is_destroyed_is_gone_from_the_live_documents_history_too(world):
    """Neither Keyturn's copy nor an older version of the live document has it any more."""
    store = world.store()
    for data in (b"one", b"two", b"three"):
        activate(store, data)
    store.destroy(DB, 1)
    for version, expected in ((1, 404), (2, 200), (3, 200)):
        answer = world.server.request("GET", f"{world.mount}/data/{PATH}?version={version}")
        assert answer.status_code == expected, version
    base = f"{world.mount}/metadata/keyturn/{PATH}/versions"
    kept = world.ask("LIST", base)["data"]["keys"]
    assert sorted(name.split(".")[1] for name in kept) == ["2", "3"]
    assert current(store) == b"three"


def test_what_a_crash_left_to_remove_goes_with_the_next_write(world):
    """The ledger says what is to go before it goes."""
    store = world.store()
    for data in (b"one", b"two", b"three"):
        activate(store, data)
    place = store._layout.place(DB)
    removed = []
    kv = place._kv
    remove, kv.remove = kv.remove, removed.append
    store.destroy(DB, 1)
    kv.remove = remove
    base = f"{world.mount}/metadata/keyturn/{PATH}/versions"
    assert len(world.ask("LIST", base)["data"]["keys"]) == 3
    put(store, b"four")
    names = [name.split(".")[1] for name in world.ask("LIST", base)["data"]["keys"]]
    assert sorted(names) == ["2", "3", "4"]
    assert len(removed) == 1


def test_a_limited_history_keeps_what_is_staged(world):
    """With a limit the oldest values go, and their numbers stay."""
    store = world.store(history_limit=1)
    for number in range(1, 6):
        activate(store, b"%d" % number)
    assert [version.destroyed for version in store.history(DB)] == [False] * 3 + [True] * 2
    assert store.read(DB, Stage.PREVIOUS).values["value"].reveal() == b"4"


# --- behind our back ------------------------------------------------------------------------


def test_a_value_changed_by_hand_is_drift(world):
    """Reads give it and say so, writes refuse, and a person accepts it or restores ours."""
    store = world.store()
    activate(store, b"one")
    world.write({"db": "by hand"})
    drift = store.drifts(ENVIRONMENT)[DB.name]
    assert (drift.kind, drift.recorded) == (DriftKind.CHANGED, 1)
    assert store.read(DB, Stage.CURRENT).version.drifted
    assert current(store) == b"by hand"
    number = put(store, b"two")
    with pytest.raises(Conflict) as raised:
        store.promote(DB, number, expected_current=1)
    assert raised.value.code == "store.drift"
    store.restore(DB)
    assert world.live() == {"db": "one"}
    assert not store.drifts(ENVIRONMENT)


def test_a_document_deleted_by_hand_is_drift_and_comes_back(world):
    """The newest version deleted, or the document with all of them: ours is put back."""
    store = world.store()
    activate(store, b"one")
    for path in ("data", "metadata"):
        world.ask("DELETE", f"{world.mount}/{path}/{PATH}")
        assert store.drifts(ENVIRONMENT)[DB.name].kind is DriftKind.REMOVED
        with pytest.raises(NotFound):
            store.read(DB, Stage.CURRENT)
        store.restore(DB)
        assert world.live() == {"db": "one"}
        assert store.state(DB).current == 1


def test_what_was_there_before_is_not_written_over(world):
    """A field that has our name and is not ours is refused, until a person takes it in."""
    world.write({"db": "theirs"})
    store = world.store()
    number = put(store, b"ours")
    with pytest.raises(Conflict):
        store.promote(DB, number, expected_current=None)
    assert world.live() == {"db": "theirs"}


def test_a_ledger_that_is_not_ours_is_refused(world):
    """Nothing is written where the ledger cannot be read."""
    store = world.store()
    activate(store, b"one")
    world.write({"text": 5}, f"keyturn/{PATH}/ledger")
    with pytest.raises(Corrupt):
        put(store, b"two")
    assert world.live() == {"db": "one"}


# --- two writers ----------------------------------------------------------------------------


def test_two_writers_never_lose_a_change_silently(world):
    """Two hundred rounds: each value that was acknowledged is there, and its version once."""
    handles = [world.store(), world.store()]
    refs = [DB, OTHER]
    failures = []

    def write(handle, ref):
        try:
            for number in range(100):
                activate(handle, b"%d" % number, ref=ref)
        except Exception as error:  # noqa: BLE001 - every outcome is judged below
            failures.append(error)

    threads = [
        threading.Thread(target=write, args=pair) for pair in zip(handles, refs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    store = world.store()
    for ref in refs:
        history = store.history(ref)
        assert [version.number for version in history] == list(range(100, 0, -1))
        assert store.state(ref).current == 100
        assert store.read(ref, 37).values["value"].reveal() == b"36"
    assert world.live() == {"db": "99", "other": "99"}


def test_a_hand_that_writes_at_the_same_time_loses_nothing(world):
    """What somebody adds with check-and-set while Keyturn writes stays, all hundred times."""
    store = world.store()
    activate(store, b"start")
    failures = []

    def by_hand():
        for number in range(100):
            while True:
                found = world.ask("GET", f"{world.mount}/data/{PATH}")["data"]
                data = found["data"] | {f"theirs{number}": "x"}
                options = {"cas": found["metadata"]["version"]}
                answer = world.server.request(
                    "POST", f"{world.mount}/data/{PATH}", {"data": data, "options": options}
                )
                if answer.status_code == 200:
                    break
                if answer.status_code != 400:
                    failures.append(answer.text)
                    return

    thread = threading.Thread(target=by_hand)
    thread.start()
    for number in range(100):
        activate(store, b"%d" % number)
    thread.join(120)
    assert failures == []
    assert world.live() == {"db": "99"} | {f"theirs{number}": "x" for number in range(100)}


# --- what is set up wrongly -----------------------------------------------------------------


def test_a_mount_that_is_not_there(world):
    """The message names the mount."""
    world.mount = "nothing-here"
    store = world.store()
    for act in (lambda: store.state(DB), lambda: put(store, b"x")):
        with pytest.raises(Rejected, match="no secrets engine at `nothing-here`") as raised:
            act()
        assert raised.value.code == "store.mount"


def test_an_engine_of_version_1(world):
    """Nothing is written to it, with or without something at the path."""
    world.mount += "-one"
    world.ask("POST", f"sys/mounts/{world.mount}", {"type": "kv", "options": {"version": "1"}})
    store = world.store()
    with pytest.raises(Corrupt, match="no KV engine of version 2"):
        put(store, b"x")
    assert world.server.request("LIST", f"{world.mount}/").status_code == 404
    world.ask("POST", f"{world.mount}/data/keyturn/{PATH}/ledger", {"a": "b"})
    with pytest.raises(Corrupt, match="no KV engine of version 2"):
        put(world.store(), b"x")


def test_a_namespace(world):
    """The store of a namespace is in it, and nowhere else."""
    world.ask("POST", "sys/namespaces/team")
    world.ask("POST", "team/sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    world.mount = "secret"
    store = world.store(namespace="team")
    activate(store, b"one")
    found = world.ask("GET", f"team/secret/data/{PATH}")["data"]["data"]
    assert found == {"db": "one"}
    assert world.live() is None


@pytest.mark.parametrize(
    "settings",
    [
        {"path": "clipper"},
        {"path": "/clipper/{environment}"},
        {"path": "clipper/../{environment}"},
        {"path": "keyturn/{environment}"},
        {"mount": ""},
        {"addresses": ()},
        {"addresses": ("http://vault.example.com:8200",)},
        {"addresses": ("https://user@vault.example.com",)},
        {"ca_file": "/nonexistent", "addresses": ("https://vault.example.com",)},
    ],
)
def test_settings_that_cannot_be_used(world, settings):
    """Each is refused before anything is sent."""
    with pytest.raises(UsageError):
        world.layout(**settings)


def test_a_value_that_one_entry_cannot_hold(world):
    """The server's limit is told as such, and nothing is half done."""
    store = world.store()
    many = {f"f{number}": b"\x00" * (512 * 1024) for number in range(60)}
    with pytest.raises(Rejected) as raised:
        store.put_pending(DB, fields(**many), origin=Origin.SET, token=Token("t"))
    assert raised.value.code == "store.too_large"
    assert store.state(DB).next_number == 1


def test_more_fields_than_one_entry_takes(world):
    """OpenBao counts the strings of a document: told as a limit of size, with the way out."""
    store = world.store()
    sixty = {f"f{number}": b"x" for number in range(60)}
    with pytest.raises(Rejected) as raised:
        for number in range(10):
            ref = SecretRef(DB.environment, SecretName(f"s{number}"))
            version = store.put_pending(ref, fields(**sixty), origin=Origin.SET, token=Token("t"))
            store.promote(ref, version.number, expected_current=None)
    assert raised.value.code == "store.too_large"
    assert 'layout = "secret"' in raised.value.hint


# --- a server that is sealed or away --------------------------------------------------------


def test_a_sealed_server_and_one_that_is_away(world):
    """Each is said at once, or after the time that it was tried for."""
    with OpenBaoServer() as server:
        sealed = VaultStoreWorld(server)
        store = sealed.store(patience_seconds=0.3)
        activate(store, b"one")
        sealed.ask("PUT", "sys/seal")
        for act in (lambda: store.state(DB), lambda: put(store, b"x")):
            with pytest.raises(Sealed, match="is sealed"):
                act()
    with pytest.raises(Unavailable, match="did not answer"):
        store.state(DB)
    store.close()


def test_the_next_address_is_tried(world):
    """The first that serves is used; a sealed one counts as one that does not."""
    with OpenBaoServer() as server:
        VaultStoreWorld(server).ask("PUT", "sys/seal")
        addresses = ("http://127.0.0.1:9", server.address, world.server.address)
        store = world.store(addresses=addresses)
        activate(store, b"one")
        assert current(store) == b"one"


def test_other_environments_are_apart(world):
    """Each has a document of its own."""
    store = world.store()
    activate(store, b"one")
    activate(store, b"two", ref=SecretRef(EnvironmentName("staging"), DB.name))
    assert (world.live(), world.live("clipper/staging")) == ({"db": "one"}, {"db": "two"})
    assert list(store.states(DB.environment)) == ["db"]
