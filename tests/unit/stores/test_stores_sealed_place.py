"""What another store cannot give back is sealed in the embedded one."""

from __future__ import annotations

import pytest

from keyturn.core.ids import EnvironmentName, StoreName
from keyturn.errors import Conflict, InternalError
from keyturn.stores._place import MARK_CODE
from keyturn.stores._sealed_place import SealedPlace
from tests.unit.stores.workshop import Workshop


@pytest.fixture
def workshop(tmp_path):
    made = Workshop(tmp_path)
    yield made
    made.close()


@pytest.fixture
def embedded(workshop):
    return workshop.create()


def place(embedded, environment="production"):
    return SealedPlace(embedded, StoreName("swarm"), EnvironmentName(environment))


def test_document_comes_back(embedded):
    """Ledger and documents, of this environment only."""
    made = place(embedded)
    seen = made.look(live=True, ledger=True)
    assert (seen.ledger, seen.ledger_mark, dict(seen.live)) == (None, None, {})
    made.write_ledger(b"ledger", keep={"db.1": b"\x00one"}, drop=(), seen=seen)
    again = place(embedded)
    assert again.look(live=False, ledger=True).ledger == b"ledger"
    assert again.kept("db.1") == b"\x00one"
    assert place(embedded, "development").kept("db.1") is None


def test_stale_ledger_is_not_written_over(embedded):
    """Nor is anything kept of the loser's."""
    made = place(embedded)
    seen = made.look(live=False, ledger=True)
    made.write_ledger(b"one", keep={}, drop=(), seen=seen)
    with pytest.raises(Conflict) as refusal:
        made.write_ledger(b"two", keep={"x": b"x"}, drop=(), seen=seen)
    assert refusal.value.code == MARK_CODE
    assert made.look(live=False, ledger=True).ledger == b"one"
    assert made.kept("x") is None


def test_dropped_document_is_gone(embedded):
    """And one that is not there is fine."""
    made = place(embedded)
    seen = made.look(live=False, ledger=True)
    made.write_ledger(b"one", keep={"x": b"x"}, drop=(), seen=seen)
    seen = made.look(live=False, ledger=True)
    made.write_ledger(b"two", keep={}, drop=["x", "y"], seen=seen)
    assert made.kept("x") is None


def test_data_key_rotation_carries_it(embedded):
    """What is kept opens under the new key."""
    made = place(embedded)
    seen = made.look(live=False, ledger=True)
    made.write_ledger(b"one", keep={"x": b"x"}, drop=(), seen=seen)
    embedded.rotate_data_key()
    assert made.kept("x") == b"x"
    assert embedded.verify() == []


def test_nothing_is_live_in_it(embedded):
    """Whoever writes there has made a mistake."""
    made = place(embedded)
    with pytest.raises(InternalError):
        made.write_live({"x": b"x"}, seen=made.look(live=True, ledger=True))
