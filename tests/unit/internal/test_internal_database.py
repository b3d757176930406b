"""The control database's transactions: joined, undone, interrupted."""

from __future__ import annotations

import signal
import sqlite3
import threading

import pytest

from keyturn._internal import failpoints
from keyturn._internal.database import Database
from keyturn.errors import Conflict, Corrupt


@pytest.fixture
def database(tmp_path):
    """An empty control database."""
    with Database.open(tmp_path / "store.db", create=True) as opened:
        yield opened


@pytest.fixture(autouse=True)
def disarmed():
    """No failpoint outlives its test."""
    yield
    failpoints.disarm()


def write(database, key):
    database.execute("INSERT INTO meta VALUES (?, '')", (key,))


def keys(database):
    """Return what another process would see."""
    with sqlite3.connect(database.path) as other:
        found = [row[0] for row in other.execute("SELECT key FROM meta ORDER BY key")]
    other.close()
    return found


def test_an_inner_transaction_commits_with_the_outer_one(database):
    """Nothing is durable before the outermost block ends, and then all of it is."""
    with database.transaction():
        with database.transaction():
            write(database, "inner")
        assert (database.in_transaction, keys(database)) == (True, [])
        write(database, "outer")
    assert (database.in_transaction, keys(database)) == (False, ["inner", "outer"])


def test_a_failure_in_an_inner_transaction_undoes_the_outer_one(database):
    """What fails within takes everything with it, and the next transaction is a new one."""
    with pytest.raises(KeyError), database.transaction():
        write(database, "outer")
        with database.transaction():
            write(database, "inner")
            raise KeyError
    assert (database.in_transaction, keys(database)) == (False, [])
    with database.transaction():
        write(database, "next")
    assert keys(database) == ["next"]


def test_a_failure_that_the_outer_block_catches_keeps_the_rest(database):
    """There are no savepoints: what an inner block wrote stays with the outer one."""
    with database.transaction():
        try:
            with database.transaction():
                write(database, "inner")
                raise KeyError
        except KeyError:
            write(database, "outer")
    assert keys(database) == ["inner", "outer"]


@pytest.mark.parametrize(
    ("point", "kept"), [("database.commit", []), ("database.committed", ["row"])]
)
def test_callbacks_tell_what_became_of_the_transaction(database, point, kept):
    """Before the commit a failure undoes and says so; after it nothing is undone."""
    told = []
    failpoints.arm(f"{point}:error")
    with pytest.raises(OSError), database.transaction():
        database.after_rollback(lambda: told.append("undone"))
        write(database, "row")
    assert (keys(database), told, database.in_transaction) == (
        kept,
        [] if kept else ["undone"],
        False,
    )


def test_a_callback_is_called_once_and_outside_the_transaction(database):
    """It sees what is durable, and may begin a transaction of its own."""
    told = []
    with database.transaction():
        with database.transaction():
            database.after_commit(lambda: told.append((database.in_transaction, keys(database))))
        write(database, "row")
    with database.transaction():
        write(database, "second")
    assert told == [(False, ["row"])]


def test_an_interrupt_that_comes_with_the_begin_leaves_nothing_open(database):
    """A signal that SQLite's begin was waiting through does not leak its transaction."""

    class _InterruptedError(Exception):
        pass

    def interrupt(number, frame):
        raise _InterruptedError

    holder = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    waiting = threading.Event()
    main = threading.get_ident()

    def let_go():
        waiting.wait(10)
        # The lock is still held, so the begin cannot end before the signal is there.
        signal.pthread_kill(main, signal.SIGUSR1)
        holder.execute("ROLLBACK")

    helper = threading.Thread(target=let_go)
    before = signal.signal(signal.SIGUSR1, interrupt)
    helper.start()
    try:
        database._connection.set_trace_callback(lambda _: waiting.set())
        with pytest.raises(_InterruptedError), database.transaction():
            write(database, "never")
        database._connection.set_trace_callback(None)
    finally:
        signal.signal(signal.SIGUSR1, before)
        helper.join()
        holder.close()
    assert not database.in_transaction
    with database.transaction():
        write(database, "next")
    assert keys(database) == ["next"]


def test_what_sqlite_raises_is_never_let_through(database):
    """A refused write is a conflict, a damaged text is damage, and neither quotes what it met."""
    write(database, "once")
    with pytest.raises(Conflict) as refused:
        write(database, "once")
    assert refused.value.code == "store.constraint"
    with pytest.raises(Corrupt) as damaged:
        database.rows("SELECT CAST(x'ff63616e617279' AS TEXT)")
    assert "canary" not in str(damaged.value)
