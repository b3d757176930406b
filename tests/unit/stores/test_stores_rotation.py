"""Changing the root key and the data keys."""

from __future__ import annotations

import pytest

from keyturn._internal import failpoints
from keyturn._internal.database import Database
from keyturn.core.model import Stage
from keyturn.core.value import SecretValue
from keyturn.crypto import KeyedDigester
from keyturn.errors import Conflict, Corrupt, KeyturnError, Sealed, Unavailable, UsageError
from keyturn.stores import (
    DIGEST_KEY,
    KeyFile,
    RootKeyKind,
    describe,
    rotate_root_key,
    settle_root_key,
)
from keyturn.stores._reseal import reseal_begin, reseal_step
from tests.unit.stores.workshop import DB, PHRASE, WEB, activate, put, values


@pytest.fixture(autouse=True)
def disarmed():
    """No failpoint outlives its test."""
    yield
    failpoints.disarm()


def rotate(workshop, store, *, phrase=None):
    return rotate_root_key(
        store.database, store.keys, home=workshop.home, phrase=phrase, entropy=workshop.entropy
    )


def fill(store, count=5):
    for number in range(count):
        activate(store, b"db %d" % number)
        activate(store, b"web %d" % number, ref=WEB)
    put(store, b"pending")
    return snapshot(store)


def snapshot(store):
    """Everything that can be read."""
    return {
        ref: [(v.number, store.read(ref, v.number).values, v) for v in store.history(ref)]
        for ref in (DB, WEB)
    } | {"states": store.states(DB.environment)}


# --- root key ---------------------------------------------------------------------------


def test_a_new_root_key_opens_everything_and_the_old_one_nothing(workshop):
    """The values are untouched; the old key file is gone."""
    store = workshop.create()
    before = fill(store)
    old = (workshop.home / "root.key").read_bytes()
    sealed = store.database.rows("SELECT sealed FROM value")
    new = rotate(workshop, store)
    assert snapshot(store) == before
    assert store.database.rows("SELECT sealed FROM value") == sealed
    assert [entry.name for entry in workshop.home.iterdir()] == ["root.key"]
    assert KeyFile(workshop.home).load().id == new.id
    assert snapshot(workshop.open()) == before
    workshop.close()
    (workshop.home / "root.key").write_bytes(old)
    with pytest.raises(Sealed):
        workshop.open()


def test_the_source_can_change_both_ways(workshop):
    """From a key file to a passphrase and back, by the same operation."""
    store = workshop.create()
    before = fill(store, 1)
    rotate(workshop, store, phrase=PHRASE)
    assert list(workshop.home.iterdir()) == []
    workshop.close()
    store = workshop.open()
    assert describe(store.database).root_key_kind is RootKeyKind.PASSPHRASE
    assert snapshot(store) == before
    rotate(workshop, store)
    workshop.close()
    store = workshop.open()
    assert describe(store.database).root_key_kind is RootKeyKind.KEY_FILE
    assert describe(store.database).passphrase is None
    assert snapshot(store) == before


def test_a_short_phrase_changes_nothing(workshop):
    """It is refused before anything is written."""
    store = workshop.create()
    with pytest.raises(UsageError):
        rotate(workshop, store, phrase=SecretValue(b"short"))
    workshop.close()
    workshop.open()


POINTS = [
    "rootkey.stage",
    "rootkey.staged",
    "database.commit",
    "database.committed",
    "rootkey.settle",
    "rootkey.settled",
]


@pytest.mark.parametrize("how", ["error", "full"])
@pytest.mark.parametrize("point", POINTS)
def test_a_failed_change_opens_with_one_key_or_the_other(workshop, point, how):
    """Whatever write fails, the store opens, holds everything, and can be rotated again."""
    store = workshop.create()
    before = fill(store, 1)
    failpoints.arm(f"{point}:{how}")
    try:
        rotate(workshop, store)
    except (KeyturnError, OSError):
        pass
    failpoints.disarm()
    workshop.close()
    store = workshop.open()
    assert snapshot(store) == before
    assert [entry.name for entry in workshop.home.iterdir()] == ["root.key"]
    rotate(workshop, store)
    assert snapshot(workshop.open()) == before


def test_a_change_that_the_caller_undoes_leaves_the_old_key(workshop):
    """It joins the outer transaction; the key that waited is tidied away."""
    store = workshop.create()
    before = fill(store, 1)
    old = KeyFile(workshop.home).load().id
    with pytest.raises(ZeroDivisionError):
        with store.database.transaction():
            rotate(workshop, store)
            raise ZeroDivisionError
    assert store.keys.root_key.id == old
    workshop.close()
    assert snapshot(workshop.open()) == before
    assert [entry.name for entry in workshop.home.iterdir()] == ["root.key"]
    assert KeyFile(workshop.home).load().id == old


def test_a_waiting_key_that_is_needed_is_never_overwritten(workshop):
    """A second change before the first was tidied up: the needed key survives a failure."""
    store = workshop.create()
    before = fill(store, 1)
    failpoints.arm("rootkey.settle:error")
    rotate(workshop, store)
    failpoints.arm("rootkey.settle:error")
    with pytest.raises(Unavailable):
        rotate(workshop, store)
    with store.database.transaction():
        with pytest.raises(Conflict):
            rotate(workshop, store)
    failpoints.disarm()
    workshop.close()
    assert snapshot(workshop.open()) == before


def test_a_change_within_a_transaction_is_not_tidied_before_it_is_durable(workshop):
    """While it can still be undone, the old key keeps its place."""
    store = workshop.create()
    old = (workshop.home / "root.key").read_bytes()
    with store.database.transaction():
        rotate(workshop, store)
        settle_root_key(store.database, workshop.home)
        assert (workshop.home / "root.key").read_bytes() == old
    assert (workshop.home / "root.key").read_bytes() != old
    assert not (workshop.home / "root.key.next").exists()


def test_a_waiting_key_is_left_alone_when_neither_is_needed(workshop):
    """Tidying never removes a key unless the needed one is at hand."""
    store = workshop.create()
    rotate(workshop, store)
    (workshop.home / "root.key.next").write_bytes((workshop.home / "root.key").read_bytes())
    store.database.execute("UPDATE meta SET value = ? WHERE key = 'root_key_id'", ("0" * 16,))
    settle_root_key(store.database, workshop.home)
    assert len(list(workshop.home.iterdir())) == 2


def test_a_waiting_key_opens_where_nothing_can_be_tidied(workshop):
    """A folder that cannot be written does not stop the store from opening."""
    store = workshop.create()
    before = fill(store, 1)
    failpoints.arm("rootkey.settle:error")
    rotate(workshop, store)
    workshop.close()
    assert (workshop.home / "root.key.next").exists()
    failpoints.arm("rootkey.settle:error")
    assert snapshot(workshop.open()) == before
    assert (workshop.home / "root.key.next").exists()
    failpoints.disarm()
    workshop.open()
    assert not (workshop.home / "root.key.next").exists()


def test_another_process_that_is_open_says_what_happened(workshop):
    """A handle with the old root key keeps reading, and asks for a new start when it cannot."""
    store, other = workshop.create(), workshop.open()
    activate(store, b"one")
    rotate(workshop, store)
    assert other.read(DB, Stage.CURRENT).values == values(value=b"one")
    store.rotate_data_key()
    with pytest.raises(Sealed):
        other.read(DB, Stage.CURRENT)


# --- data keys --------------------------------------------------------------------------


def keys_in_use(store):
    return {
        table: {row[0] for row in store.database.rows(f"SELECT DISTINCT data_key FROM {table}")}
        for table in ("value", "sealed_item")
    } | {"listed": {row[0] for row in store.database.rows("SELECT id FROM data_key")}}


@pytest.mark.parametrize("batch", [1, 3, 500])
def test_everything_is_under_the_new_key(workshop, batch):
    """Values, items and states move; the old key is no longer listed; nothing else changes."""
    store = workshop.create()
    before = fill(store)
    digest = KeyedDigester(store.sealed_item(DIGEST_KEY)).digest(SecretValue(b"x"))
    progress = store.rotate_data_key(batch=batch)
    assert (progress.versions, progress.items, progress.states) == (11, 1, 2)
    assert keys_in_use(store) == {"value": {2}, "sealed_item": {2}, "listed": {2}}
    for handle in (store, workshop.open()):
        assert snapshot(handle) == before
        assert handle.verify() == []
        assert KeyedDigester(handle.sealed_item(DIGEST_KEY)).digest(SecretValue(b"x")) == digest


def test_a_begun_rotation_is_finished_and_not_begun_again(workshop):
    """Between batches every row opens, and new writes take the new key."""
    store = workshop.create()
    before = fill(store)
    reseal_begin(store.database, store.keys, clock=workshop.clock, entropy=workshop.entropy)
    while True:
        assert snapshot(workshop.open()) == before
        assert store.verify() == []
        step = reseal_step(store.database, store.keys, batch=2, entropy=workshop.entropy)
        if step is None:
            break
    assert keys_in_use(store)["listed"] == {2}
    reseal_begin(store.database, store.keys, clock=workshop.clock, entropy=workshop.entropy)
    store.rotate_data_key(batch=2)
    assert keys_in_use(store)["listed"] == {3}


def test_resume_without_a_rotation_does_nothing(workshop):
    """It may be called at every start."""
    store = workshop.create()
    fill(store)
    progress = store.resume_data_key_rotation()
    assert (progress.versions, progress.items, progress.states) == (0, 0, 0)
    assert keys_in_use(store)["listed"] == {1}


def test_another_open_process_follows(workshop):
    """A handle that was open before reads and writes on, and writes under the new key."""
    store, other = workshop.create(), workshop.open()
    activate(store, b"one")
    store.rotate_data_key()
    assert other.read(DB, Stage.CURRENT).values == values(value=b"one")
    activate(other, b"two")
    assert keys_in_use(store)["value"] == {2}
    assert store.read(DB, Stage.CURRENT).values == values(value=b"two")


def test_a_damaged_value_stops_the_rotation_and_keeps_its_key(workshop):
    """Nothing that opens is lost for something that does not."""
    store = workshop.create()
    fill(store, 2)
    store.database.execute(
        "UPDATE value SET sealed = zeroblob(40) WHERE secret = 'web' AND number = 1"
    )
    with pytest.raises(Corrupt, match="web"):
        store.rotate_data_key(batch=1)
    assert keys_in_use(store)["listed"] == {1, 2}
    assert store.read(DB, Stage.CURRENT).values == values(value=b"db 1")
    assert store.read(WEB, Stage.CURRENT).values == values(value=b"web 1")


def test_a_forged_state_is_not_signed_anew(workshop):
    """A state whose tag does not hold stops the rotation."""
    store = workshop.create()
    fill(store, 2)
    store.database.execute("UPDATE secret_state SET current = 1 WHERE secret = 'db'")
    with pytest.raises(Corrupt, match="production/db"):
        store.rotate_data_key()


def test_large_values_end_a_batch_early(workshop, monkeypatch):
    """One transaction holds a bounded number of bytes, whatever the batch size."""
    store = workshop.create()
    for _ in range(6):
        activate(store, b"x" * 9_000_000)
    reseal_begin(store.database, store.keys, clock=workshop.clock, entropy=workshop.entropy)
    step = reseal_step(store.database, store.keys, batch=500, entropy=workshop.entropy)
    assert step.versions == 4


def test_both_rotations_together(workshop):
    """A root key changed in the middle of a data-key rotation rewraps both data keys."""
    store = workshop.create()
    before = fill(store)
    reseal_begin(store.database, store.keys, clock=workshop.clock, entropy=workshop.entropy)
    reseal_step(store.database, store.keys, batch=2, entropy=workshop.entropy)
    rotate(workshop, store)
    workshop.close()
    store = workshop.open()
    assert snapshot(store) == before
    store.resume_data_key_rotation()
    assert snapshot(store) == before
    assert keys_in_use(store)["listed"] == {2}


def test_an_unfinished_creation_is_told_from_a_store(workshop):
    """A file with tables and without keys is refused by name."""
    with Database.open(workshop.path, create=True) as database:
        with pytest.raises(KeyturnError, match="no store yet"):
            describe(database)
