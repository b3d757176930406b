"""Creating a store and opening one."""

from __future__ import annotations

import shutil

import pytest

from keyturn._internal import failpoints
from keyturn._internal.database import Database
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, Corrupt, IntegrityError, Sealed, Unavailable, UsageError
from keyturn.stores import DIGEST_KEY, RootKeyKind, create, describe, open_store
from tests.unit.stores.workshop import DB, PHRASE, STORE_ID, Workshop, activate


@pytest.fixture(autouse=True)
def disarmed():
    """No failpoint outlives its test."""
    yield
    failpoints.disarm()


def test_a_second_creation_touches_nothing(workshop):
    """Neither the store nor its key is replaced."""
    workshop.create()
    workshop.close()
    before = {p.name: p.read_bytes() for p in (workshop.path, workshop.home / "root.key")}
    with pytest.raises(Conflict) as caught:
        workshop.create()
    assert caught.value.code == "store.exists"
    assert before == {p.name: p.read_bytes() for p in (workshop.path, workshop.home / "root.key")}


@pytest.mark.parametrize("point", ["rootkey.create", "rootkey.created", "database.commit"])
def test_a_failed_creation_leaves_no_store(workshop, point):
    """What fails half-way is refused afterwards, and can be made elsewhere."""
    with Database.open(workshop.path, create=True):
        pass
    failpoints.arm(f"{point}:full")
    with pytest.raises((Unavailable, OSError)):
        workshop.create()
    failpoints.disarm()
    with pytest.raises(Unavailable) as caught:
        workshop.open()
    assert caught.value.code == "store.absent"
    # A new try has a new id, so a new folder.
    other = Workshop(workshop.home)
    other.path = workshop.path
    other.create()
    other.close()


def test_an_absent_store_is_not_made(workshop):
    """Opening creates nothing."""
    with pytest.raises(Unavailable) as caught:
        workshop.open()
    assert caught.value.code == "store.absent"
    assert not workshop.path.exists()


def test_an_empty_file_is_not_made_a_store(workshop):
    """A store that was cut to nothing is reported, not replaced."""
    workshop.create()
    workshop.close()
    workshop.path.write_bytes(b"")
    with pytest.raises(Unavailable, match="is empty") as caught:
        workshop.open()
    assert "backup" in caught.value.hint
    assert workshop.path.read_bytes() == b""


def test_a_missing_key_is_reported_and_not_made(workshop):
    """The store stays shut and no key appears."""
    workshop.create()
    workshop.close()
    (workshop.home / "root.key").unlink()
    with pytest.raises(Sealed) as caught:
        workshop.open()
    assert caught.value.code == "key.missing"
    assert list(workshop.home.iterdir()) == []


def test_the_key_of_another_store_is_refused(workshop, tmp_path):
    """The error names both keys and the file."""
    other = Workshop(tmp_path / "home" / "other", store_id="f" * 32)
    other.path.parent.mkdir(parents=True)
    other.create()
    other.close()
    workshop.create()
    workshop.close()
    shutil.copy(other.home / "root.key", workshop.home / "root.key")
    with pytest.raises(Sealed) as caught:
        workshop.open()
    assert caught.value.code == "key.wrong"
    with Database.open(workshop.path) as database:
        assert describe(database).root_key_id in caught.value.message
    assert "root.key" in caught.value.message
    assert caught.value.hint


def test_another_store_than_expected_is_refused(workshop):
    """A project knows which store is its own."""
    workshop.create()
    with pytest.raises(IntegrityError) as caught:
        open_store(
            workshop.path,
            home=lambda store_id: workshop.home,
            prompt=lambda: PHRASE,
            store_id="f" * 32,
            clock=workshop.clock,
            entropy=workshop.entropy,
        )
    assert STORE_ID in caught.value.message


def test_a_passphrase_opens_what_it_made(workshop):
    """With a passphrase there is no key file."""
    store = workshop.create(phrase=PHRASE)
    activate(store, b"x")
    identity = describe(store.database)
    assert identity.root_key_kind is RootKeyKind.PASSPHRASE
    assert not (workshop.home / "root.key").exists()


def test_a_wrong_passphrase_is_refused(workshop):
    """It says so, and not what was typed."""
    with Database.open(workshop.path, create=True) as database:
        create(
            database,
            store_id=STORE_ID,
            project="clipper",
            home=workshop.home,
            phrase=SecretValue(b"another fake phrase"),
            clock=workshop.clock,
            entropy=workshop.entropy,
        )
    with pytest.raises(Sealed) as caught:
        workshop.open()
    assert caught.value.code == "key.wrong"
    assert "phrase for tests" not in str(caught.value)


def test_a_short_passphrase_makes_no_store(workshop):
    """It is refused before anything is written."""
    with pytest.raises(UsageError):
        workshop.create(phrase=SecretValue(b"short"))
    with pytest.raises(Unavailable):
        workshop.open()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("store_id", "f" * 32),
        ("root_key_kind", "passphrase"),
        ("root_key_kind", "nonsense"),
        ("root_key_id", "0" * 16),
        ("created_at", "yesterday"),
        ("project", None),
        ("format", "2"),
    ],
)
def test_a_changed_description_opens_nothing(workshop, key, value):
    """What the store says of itself is bound into its keys, or checked."""
    store = workshop.create()
    if value is None:
        store.database.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        store.database.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
    workshop.close()
    with pytest.raises((Corrupt, Sealed, Conflict)) as caught:
        workshop.open()
    assert caught.value.hint


def test_items_are_there_from_the_first_moment(workshop):
    """The digest key and the caller's items are made with the store."""
    with Database.open(workshop.path, create=True) as database:
        create(
            database,
            store_id=STORE_ID,
            project="clipper",
            home=workshop.home,
            items={"audit-signing-key": SecretValue(b"fake" * 8)},
            clock=workshop.clock,
            entropy=workshop.entropy,
        )
    store = workshop.open()
    assert store.sealed_item("audit-signing-key") == SecretValue(b"fake" * 8)
    assert store.sealed_item(DIGEST_KEY).size_bytes == 32
    assert store.sealed_item("no-such-item") is None


def test_an_item_is_not_replaced_by_accident(store):
    """The same value again is nothing; another one is refused unless it is meant."""
    store.put_sealed_item("own", SecretValue(b"one"))
    store.put_sealed_item("own", SecretValue(b"one"))
    with pytest.raises(Conflict):
        store.put_sealed_item("own", SecretValue(b"two"))
    assert store.sealed_item("own") == SecretValue(b"one")
    store.put_sealed_item("own", SecretValue(b"two"), replace=True)
    assert store.sealed_item("own") == SecretValue(b"two")


def test_writes_join_the_callers_transaction(store):
    """What the caller undoes was never there; what it keeps is there as a whole."""

    class Undo(Exception):
        pass

    with pytest.raises(Undo):
        with store.database.transaction():
            activate(store, b"one")
            raise Undo
    assert not store.states("production")
    with store.database.transaction():
        activate(store, b"one")
        activate(store, b"two")
    assert [version.number for version in store.history(DB)] == [2, 1]


def test_no_value_is_on_disk_in_clear(workshop):
    """Neither the file nor its log holds a value, a key or an item."""
    store = workshop.create()
    canary = b"canary-" + workshop.entropy.random_bytes(8).hex().encode()
    activate(store, canary)
    store.put_sealed_item("own", SecretValue(canary))
    for path in workshop.path.parent.rglob("*"):
        if path.is_file():
            assert canary not in path.read_bytes(), path


def test_destroyed_values_are_overwritten(workshop):
    """The sealed bytes of a destroyed version are in neither file afterwards."""
    store = workshop.create()
    activate(store, b"one")
    activate(store, b"two")
    activate(store, b"three")
    (sealed,) = store.database.one("SELECT sealed FROM value WHERE number = 1")
    store.destroy(DB, 1)
    log = workshop.path.with_name("store.db-wal")
    for path in (workshop.path, log):
        assert not path.exists() or sealed not in path.read_bytes(), path
