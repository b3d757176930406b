"""The rules of moving whole histories from store to store; a part of `StoreContract`."""

# ruff: noqa: PLR2004 - the numbers are version numbers

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from keyturn.core.ids import SecretName
from keyturn.core.model import History, Move, Stage
from keyturn.core.ports import Store
from keyturn.errors import Conflict, NotFound
from keyturn.testing._store_words import (
    DB,
    ELSEWHERE,
    OTHER,
    activate,
    carry,
    current,
    history_of,
    put,
    refused,
    values,
)

__all__ = ["StoreMoving"]


class StoreMoving:
    """Needs the fixtures of `StoreContract`."""

    def test_carried_history_has_its_numbers(
        self, store: Store, reopen: Callable[[], Store]
    ) -> None:
        """Numbers, origins, times and stages are those of the other store."""
        history = history_of(None, b"two", b"three", b"four")
        carry(store, history)
        handle = reopen()
        assert handle.state(DB) == history.state
        kept = [version for version in reversed(handle.history(DB)) if not version.destroyed]
        assert kept == [version for version, _ in history.versions[1:]]
        assert current(handle) == b"four"
        assert handle.read(DB, Stage.PREVIOUS).values == values(value=b"three")
        assert handle.read(DB, 2).values == values(value=b"two")
        refused(NotFound, lambda: handle.read(DB, 1))
        assert put(handle, b"five") == 5

    def test_history_read_is_what_was_written(self, store: Store) -> None:
        """What one store gives, another one takes."""
        activate(store, b"one")
        activate(store, b"two")
        activate(store, b"other", ref=OTHER)
        put(store, b"two", ref=OTHER)
        names = [DB.name, OTHER.name, SecretName("unknown")]
        found = store.histories(DB.environment, names)
        assert found.keys() == {DB.name, OTHER.name}
        assert store.histories(DB.environment, []) == {}
        assert found[OTHER.name].state == store.state(OTHER)
        assert [version for version, _ in found[DB.name].versions] == [*store.history(DB)][::-1]
        assert found[DB.name].versions[0][1] == values(value=b"one")
        again = History(replace(found[DB.name].state, ref=ELSEWHERE), found[DB.name].versions)
        carry(store, again)
        assert current(store, ELSEWHERE) == b"two"
        assert store.state(DB) == found[DB.name].state

    def test_carried_again_nothing_changes(self, store: Store) -> None:
        """Also with the state that it was expected to have before."""
        history, before = history_of(b"one", b"two"), store.state(DB)
        for _ in range(2):
            store.carry([Move(history, before)])
            carry(store, history)
        assert store.state(DB) == history.state
        assert [version.number for version in store.history(DB)] == [2, 1]

    def test_what_is_there_gets_the_rest(self, store: Store) -> None:
        """Of a history that went on, and of several secrets at once."""
        carry(store, history_of(b"one", b"two"), history_of(b"x", ref=OTHER))
        longer = history_of(b"one", b"two", b"three"), history_of(b"x", b"y", ref=OTHER)
        carry(store, *longer)
        assert (current(store), current(store, OTHER)) == (b"three", b"y")
        for history in longer:
            assert store.state(history.ref) == history.state

    def test_another_value_of_a_number_is_refused(self, store: Store) -> None:
        """And nothing is changed."""
        activate(store, b"mine")
        error = refused(Conflict, lambda: carry(store, history_of(b"theirs", b"two")))
        assert error.code == "store.diverged"
        assert (current(store), store.state(DB).next_number) == (b"mine", 2)

    def test_carry_refuses_what_moved(self, store: Store) -> None:
        """Whoever decided on an older state loses; what is pending is settled first."""
        before = store.state(DB)
        number = put(store, b"one")
        refused(Conflict, lambda: carry(store, history_of(b"one")))
        store.promote(DB, number, expected_current=None)
        carry(store, history_of(b"one", b"two"))
        store.promote(DB, 1, expected_current=2)
        refused(Conflict, lambda: store.carry([Move(history_of(b"one", b"two", b"three"), before)]))
        assert current(store) == b"one"

    def test_destroyed_version_is_not_brought_back(self, store: Store) -> None:
        """Its number is taken, and that is all."""
        store.discard_pending(DB, put(store, b"one"))
        store.destroy(DB, 1)
        carry(store, history_of(b"one", b"two", b"three"))
        refused(NotFound, lambda: store.read(DB, 1))
        assert current(store) == b"three"
