"""What somebody changes in the files is refused, named, and not made worse."""

from __future__ import annotations

import hashlib
import random
import shutil

import pytest

from keyturn._internal.database import Database
from keyturn.core.model import Stage
from keyturn.errors import Corrupt, KeyturnError, Unavailable
from keyturn.stores import inspect_store, verify
from tests.unit.stores.workshop import DB, WEB, Workshop, activate, put, values

SEED = 20260102
FLIPS = 400


def fill(store):
    """Make a small store with some history."""
    for number in range(3):
        activate(store, b"db value %d" % number)
        activate(store, b"web value %d" % number, ref=WEB)
    put(store, b"db pending")


def truth(store):
    """Every value that may ever be returned, by place."""
    return {
        (ref, selector): store.read(ref, selector).values
        for ref in (DB, WEB)
        for selector in (*Stage, 1, 2, 3)
        if not (ref == WEB and selector is Stage.PENDING)
    }


def wrong_reads(workshop, expected):
    """
    Read everything; return the places that gave a wrong value.

    Typed errors are right answers; any other exception fails the test.
    """
    wrong = []
    try:
        store = workshop.open()
    except KeyturnError as error:
        assert error.message
        return wrong
    try:
        for (ref, selector), value in expected.items():
            try:
                if store.read(ref, selector).values != value:
                    wrong.append((ref, selector))
            except KeyturnError:
                pass
        for ref in (DB, WEB):
            for action in (store.history, store.state):
                try:
                    action(ref)
                except KeyturnError:
                    pass
        try:
            for name, found in store.read_many(DB.environment, ["db", "web"]).items():
                ref = DB if name == "db" else WEB
                if found.values != expected[ref, Stage.CURRENT]:
                    wrong.append(name)
        except KeyturnError:
            pass
    finally:
        workshop.close()
    return wrong


def prepared(workshop):
    """Return the bytes of a filled, closed store and what it holds."""
    store = workshop.create()
    fill(store)
    expected = truth(store)
    workshop.close()
    assert not workshop.path.with_name("store.db-wal").exists()
    return workshop.path.read_bytes(), expected


def inspect(workshop):
    return inspect_store(workshop.path, home=lambda store_id: workshop.home, prompt=lambda: None)


def hashes(folder):
    """The content of every file; SQLite's index of the log, and an empty log, hold nothing."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
        and not path.name.endswith("-shm")
        and not (path.name.endswith("-wal") and not path.stat().st_size)
    }


def test_400_flipped_bits_never_give_a_wrong_value(workshop):
    """A typed error or the right value, wherever the bit is."""
    data, expected = prepared(workshop)
    chance = random.Random(SEED)
    for _ in range(FLIPS):
        place, bit = chance.randrange(len(data)), chance.randrange(8)
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        workshop.path.write_bytes(changed)
        assert wrong_reads(workshop, expected) == [], (place, bit)
        for name in ("store.db-wal", "store.db-shm"):
            workshop.path.with_name(name).unlink(missing_ok=True)


def test_flipped_bits_in_rows_are_refused_and_named(workshop):
    """Bits of the rows themselves: every column of every state and version counts."""
    data, expected = prepared(workshop)
    for column in ("created_at", "origin", "token"):
        workshop.path.write_bytes(data)
        with Database.open(workshop.path) as database:
            database.execute(f"UPDATE version SET {column} = {column} || 'x' WHERE number = 3")
        store = workshop.open()
        with pytest.raises(Corrupt, match="version 3 of `production/db`"):
            store.read(DB, Stage.CURRENT)
        assert len(store.verify()) == 2
        workshop.close()
    for column in ("current", "pending", "previous", "next_number", "counter"):
        workshop.path.write_bytes(data)
        with Database.open(workshop.path) as database:
            database.execute(f"UPDATE secret_state SET {column} = coalesce({column}, 0) + 1")
        store = workshop.open()
        for action in (
            lambda: store.read(DB, Stage.CURRENT),
            lambda: store.read(DB, 1),
            lambda: store.read_many(DB.environment, ["db"]),
            lambda: store.history(DB),
            lambda: store.states(DB.environment),
            lambda: store.state(DB),
            lambda: store.promote(DB, 1, expected_current=3),
            lambda: put(store, b"x"),
            lambda: store.discard_pending(DB, 4),
            lambda: store.destroy(DB, 1),
        ):
            with pytest.raises(Corrupt, match="the state of `production/db`") as caught:
                action()
            assert caught.value.hint
        workshop.close()


SWAPS = {
    "versions": ("number = 1", "number = 2"),
    "secrets": ("number = 1 AND secret = 'db'", "number = 1 AND secret = 'web'"),
}


@pytest.mark.parametrize("swap", SWAPS)
def test_swapped_ciphertexts_are_refused(store, swap):
    """A sealed value opens nowhere but where it was put."""
    fill(store)
    one, other = SWAPS[swap]
    if swap == "versions":
        one, other = f"{one} AND secret = 'db'", f"{other} AND secret = 'db'"
    (a,) = store.database.one(f"SELECT sealed FROM value WHERE {one}")
    (b,) = store.database.one(f"SELECT sealed FROM value WHERE {other}")
    store.database.execute(f"UPDATE value SET sealed = ? WHERE {one}", (b,))
    store.database.execute(f"UPDATE value SET sealed = ? WHERE {other}", (a,))
    with pytest.raises(Corrupt, match="version 1 of `production/db`"):
        store.read(DB, 1)
    assert len(store.verify()) == 2


def test_swapped_fields_are_refused(store):
    """A username does not become a password."""
    from keyturn.core.model import Origin

    store.put_pending(DB, values(username=b"u", password=b"p"), origin=Origin.SET, token="t")
    rows = store.database.rows("SELECT rowid, sealed FROM value ORDER BY field")
    for (rowid, _), (_, sealed) in zip(rows, rows[::-1], strict=True):
        store.database.execute("UPDATE value SET sealed = ? WHERE rowid = ?", (sealed, rowid))
    with pytest.raises(Corrupt):
        store.read(DB, Stage.PENDING)


def test_a_missing_field_is_refused(store):
    """A version is read whole or not at all."""
    from keyturn.core.model import Origin

    store.put_pending(DB, values(username=b"u", password=b"p"), origin=Origin.SET, token="t")
    store.database.execute("DELETE FROM value WHERE field = 'password'")
    with pytest.raises(Corrupt):
        store.read(DB, Stage.PENDING)
    store.database.execute("DELETE FROM value")
    with pytest.raises(Corrupt):
        store.read(DB, Stage.PENDING)


def test_swapped_states_are_refused(store):
    """The stages of one secret are not those of another."""
    fill(store)
    columns = "current, pending, previous, next_number, counter, mac"
    row = store.database.one(f"SELECT {columns} FROM secret_state WHERE secret = 'web'")
    store.database.execute(
        f"UPDATE secret_state SET ({columns}) = (?, ?, ?, ?, ?, ?) WHERE secret = 'db'", row
    )
    with pytest.raises(Corrupt):
        store.read(DB, Stage.CURRENT)
    assert store.read(WEB, Stage.CURRENT).values == values(value=b"web value 2")
    assert [problem.what for problem in store.verify()] == ["production/db"]


def test_a_deleted_state_is_not_a_new_secret(store):
    """Numbers are not given again because a row was taken away."""
    fill(store)
    store.database.execute("DELETE FROM secret_state WHERE secret = 'db'")
    for action in (
        lambda: store.state(DB),
        lambda: store.read(DB, Stage.CURRENT),
        lambda: store.read(DB, 1),
        lambda: store.history(DB),
        lambda: store.read_many(DB.environment, ["db", "web"]),
        lambda: put(store, b"x"),
    ):
        with pytest.raises(Corrupt):
            action()
    assert [str(problem) for problem in store.verify()] == [
        "production/db: has versions and no state"
    ]


def test_a_deleted_version_is_missed(store):
    """A gap in the history is an error, and a missing current version too."""
    fill(store)
    store.database.execute("DELETE FROM value WHERE number = 3")
    store.database.execute("DELETE FROM version WHERE number = 3")
    for action in (
        lambda: store.read(DB, Stage.CURRENT),
        lambda: store.read(DB, 3),
        lambda: store.read_many(DB.environment, ["db"]),
        lambda: store.history(DB),
    ):
        with pytest.raises(Corrupt, match="version 3 of `production/db` is gone"):
            action()
    assert {problem.what for problem in store.verify()} == {"production/db", "production/web"}


def test_a_version_in_use_cannot_be_marked_destroyed(store):
    """Somebody who marks the current version destroyed has damaged the store, not destroyed it."""
    fill(store)
    store.database.execute("UPDATE version SET destroyed = 1 WHERE number = 3")
    for action in (
        lambda: store.read(DB, Stage.CURRENT),
        lambda: store.read_many(DB.environment, ["db"]),
        lambda: store.promote(DB, 3, expected_current=3),
    ):
        with pytest.raises(Corrupt):
            action()
    details = [problem.detail for problem in store.verify()]
    assert details == ["version 3 is current and destroyed"] * 2


def test_values_of_a_destroyed_version_are_reported(store):
    """Destroyed means gone: what is left of it is a finding."""
    fill(store)
    store.database.execute("UPDATE version SET destroyed = 1 WHERE number = 1 AND secret = 'db'")
    assert [problem.detail for problem in store.verify()] == [
        "version 1 is destroyed and still has values"
    ]


def test_a_smuggled_version_is_reported(store):
    """A row that was never stored does not become part of the history."""
    fill(store)
    store.database.execute(
        "INSERT INTO version (environment, secret, number, created_at, origin, token)"
        " SELECT environment, secret, 9, created_at, origin, 'new' FROM version"
        " WHERE secret = 'db' AND number = 1"
    )
    with pytest.raises(Corrupt):
        store.history(DB)
    assert [problem.detail for problem in store.verify()] == [
        "version 9 is there and was never stored"
    ]


def test_a_damaged_item_is_reported(store):
    """Keyturn's own keys are looked at too."""
    store.database.execute("UPDATE sealed_item SET sealed = zeroblob(60)")
    with pytest.raises(Corrupt):
        store.sealed_item("digest-key")
    assert [problem.what for problem in store.verify()] == ["item digest-key"]


def test_a_file_cut_at_every_page_is_refused_and_left_alone(workshop):
    """No cut gives a wrong value, and the attempt to open changes no byte."""
    data, expected = prepared(workshop)
    for length in range(0, len(data), 4096):
        workshop.path.write_bytes(data[:length])
        before = hashes(workshop.path.parent)
        assert wrong_reads(workshop, expected) == []
        with pytest.raises(KeyturnError):
            workshop.open()
            # An early part of the file may be enough to open; not to be sound.
            assert workshop.open_stores[-1].verify() == []
            raise AssertionError("a cut file passed as a whole one")
        workshop.close()
        assert hashes(workshop.path.parent) == before, length


def with_log(workshop, committed):
    """
    Leave a store as a killed process leaves it: the file and a log beside it.

    Returns:
        The bytes of the log.
    """
    store = workshop.create()
    # Everything up to here goes into the file, and what follows stays in the log.
    store.database.row("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(committed):
        activate(store, b"log value %d" % number)
    log = workshop.path.with_name("store.db-wal")
    kept = workshop.path.with_name("kept")
    kept.mkdir()
    for path in (workshop.path, log):
        shutil.copy(path, kept / path.name)
    workshop.close()
    for path in workshop.path.parent.glob("store.db*"):
        path.unlink()
    return (kept / "store.db").read_bytes(), (kept / "store.db-wal").read_bytes()


def test_a_log_cut_at_every_509th_byte_gives_a_committed_prefix(workshop):
    """Each cut shows the store as it was after some commit, whole."""
    data, log_data = with_log(workshop, 6)
    log = workshop.path.with_name("store.db-wal")
    seen = []
    for length in range(0, len(log_data), 509):
        workshop.path.write_bytes(data)
        log.write_bytes(log_data[:length])
        store = workshop.open()
        state = store.state(DB)
        assert store.verify() == []
        count = state.next_number - 1
        current = state.current or 0
        assert current in (count, count - 1)
        assert state.pending == (None if current == count else count)
        for number in range(1, count + 1):
            assert store.read(DB, number).values == values(value=b"log value %d" % (number - 1))
        seen.append((count, current))
        workshop.close()
    assert seen == sorted(seen)
    # The last cut lies within the last commit.
    assert seen[0] == (0, 0)
    assert seen[-1] == (6, 5)


def test_flipped_bits_in_the_log_give_a_committed_prefix(workshop):
    """A damaged log is cut where the damage is; nothing wrong is read."""
    data, log_data = with_log(workshop, 4)
    log = workshop.path.with_name("store.db-wal")
    chance = random.Random(SEED)
    for _ in range(150):
        changed = bytearray(log_data)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        workshop.path.write_bytes(data)
        log.write_bytes(changed)
        try:
            store = workshop.open()
        except KeyturnError:
            continue
        for version in store.history(DB):
            expected = values(value=b"log value %d" % (version.number - 1))
            assert store.read(DB, version.number).values == expected
        workshop.close()


@pytest.mark.parametrize("same_key", [False, True])
def test_the_log_of_another_store_is_refused_and_changes_nothing(workshop, tmp_path, same_key):
    """A foreign log is never folded into the file, not even one under the same root key."""
    other = Workshop(tmp_path / "other", store_id="f" * 32)
    other.path.parent.mkdir()
    with_log(other, 3)
    prepared_data, expected = prepared(workshop)
    if same_key:
        (other.home / "root.key").write_bytes((workshop.home / "root.key").read_bytes())
    log = workshop.path.with_name("store.db-wal")
    shutil.copy(other.path.with_name("kept") / "store.db-wal", log)
    before = hashes(workshop.path.parent)
    with pytest.raises(KeyturnError) as caught:
        workshop.open()
    assert caught.value.hint
    assert hashes(workshop.path.parent) == before
    try:
        assert inspect(workshop)
    except KeyturnError as error:
        assert error.message
    assert hashes(workshop.path.parent) == before
    log.unlink()
    workshop.path.with_name("store.db-shm").unlink(missing_ok=True)
    store = workshop.open()
    assert truth(store) == expected
    assert workshop.path.read_bytes() == prepared_data


def test_an_older_log_of_the_same_store_is_refused_or_harmless(workshop):
    """A log left over from a copy of the same store gives no wrong value."""
    data, log_data = with_log(workshop, 3)
    workshop.path.write_bytes(data)
    store = workshop.open()
    for number in range(4):
        activate(store, b"web value %d" % number, ref=WEB)
    workshop.close()
    workshop.path.with_name("store.db-wal").write_bytes(log_data)
    before = hashes(workshop.path.parent)
    try:
        store = workshop.open()
    except KeyturnError:
        assert hashes(workshop.path.parent) == before
        return
    assert store.verify() == []


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 300, bytes(8192)])
def test_what_is_no_store_is_refused_and_left_alone(workshop, content):
    """Nothing is written into a file that is not ours."""
    workshop.create()
    workshop.close()
    workshop.path.write_bytes(content)
    before = hashes(workshop.path.parent)
    with pytest.raises((Corrupt, Unavailable)) as caught:
        workshop.open()
    assert caught.value.hint
    assert hashes(workshop.path.parent) == before


def test_a_damaged_store_can_be_inspected_without_a_change(workshop):
    """All that is wrong is named, no value among it, and no byte of the files moves."""
    data, _ = prepared(workshop)
    with Database.open(workshop.path) as database:
        database.execute("UPDATE value SET sealed = zeroblob(60) WHERE number = 1")
    before = hashes(workshop.path.parent)
    problems = [str(problem) for problem in inspect(workshop)]
    assert problems == [
        f"production/{name}: field `value` of version 1 of `production/{name}`"
        " is sealed in a format that this Keyturn does not know"
        for name in ("db", "web")
    ]
    assert hashes(workshop.path.parent) == before
    workshop.path.write_bytes(data)
    assert inspect(workshop) == []


def test_verify_of_a_sound_store_finds_nothing(store):
    """And it works within the caller's transaction as well."""
    fill(store)
    assert store.verify() == []
    with store.database.transaction():
        assert verify(store.database, store.keys) == []
