"""Connections of one process that take turns."""

from __future__ import annotations

import threading

import pytest

from keyturn._internal.database import Database
from keyturn.errors import Conflict


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "store.db"
    with Database.open(found, create=True) as database:
        database.execute("CREATE TABLE counted (number INTEGER NOT NULL)")
        database.execute("INSERT INTO counted VALUES (0)")
    return found


def test_every_writer_gets_its_turn(path):
    """Each one reads and writes in one transaction; none is lost, and none gives up."""
    turn, failures = threading.Lock(), []

    def count():
        with Database.open(path) as database:
            database.take_turns(turn)
            try:
                for _ in range(20):
                    with database.transaction(), database.transaction():
                        number = database.one("SELECT number FROM counted")[0]
                        database.execute("UPDATE counted SET number = ?", (number + 1,))
            except Conflict as error:
                failures.append(error)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures
    with Database.open(path) as database:
        assert (160,) == database.one("SELECT number FROM counted")


def test_the_turn_is_passed_on_whatever_happens(path):
    """After a commit, after a block that failed, and where the transaction could not begin."""
    turn = threading.Lock()
    database = Database.open(path)
    database.take_turns(turn)
    with database.transaction():
        assert turn.locked()
    assert not turn.locked()
    with pytest.raises(ZeroDivisionError), database.transaction():
        raise ZeroDivisionError
    assert not turn.locked()
    database.close()
    with pytest.raises(Exception, match="closed"), database.transaction():
        pass
    assert not turn.locked()
