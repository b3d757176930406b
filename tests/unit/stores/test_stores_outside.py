"""A store that is somebody else's: the contract, what is lost on the way, and drift."""

from __future__ import annotations

import pytest

from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.ports import DriftKind
from keyturn.errors import Conflict, Corrupt, NotFound, OutcomeUnknown, Rejected
from keyturn.stores.outside import OutsideStore
from keyturn.testing import FakeClock, SeededEntropy, StoreContract
from keyturn.testing.store_contract import activate, current, put, values
from tests.unit.stores.memory_layout import MemoryLayout, lost_once

DB = SecretRef(EnvironmentName("production"), SecretName("db"))


def store_on(layout):
    return OutsideStore(layout, clock=FakeClock(), entropy=SeededEntropy())


class Contract(StoreContract):
    """The contract; threads share a layout's shelves, never the layout."""

    each = False

    @pytest.fixture
    def layout(self):
        return MemoryLayout(each=self.each)

    @pytest.fixture
    def store(self, layout):
        return store_on(layout)

    @pytest.fixture
    def reopen(self, layout):
        return lambda: store_on(layout.another())


class TestOneDocument(Contract):
    """One live document an environment."""


class TestDocumentASecret(Contract):
    """One live document a secret."""

    each = True


@pytest.fixture
def layout():
    return MemoryLayout()


@pytest.fixture
def store(layout):
    return store_on(layout)


def live(layout):
    (shelf,) = layout.shelves.values()
    return shelf.live


class TestLost:
    """A write or its answer is lost on the way."""

    @pytest.mark.parametrize("point", ["ledger.before", "ledger.after"])
    def test_lost_put_is_one_version(self, layout, store, point):
        """A put whose answer was lost is done once."""
        layout.fail = lost_once(point)
        assert put(store, b"one") == 1
        assert [version.number for version in store.history(DB)] == [1]
        assert store.read(DB, Stage.PENDING).values == values(value=b"one")

    @pytest.mark.parametrize(
        "point", ["live.before", "live.after", "ledger.before", "ledger.after"]
    )
    def test_lost_promote_is_done_once(self, layout, store, point):
        """A promote that lost anything ends promoted."""
        activate(store, b"one")
        number = put(store, b"two")
        layout.fail = lost_once(point)
        state = store.promote(DB, number, expected_current=1)
        assert (state.current, state.previous, state.pending) == (2, 1, None)
        assert live(layout) == {"db": b"two"}
        assert store.state(DB) == state

    @pytest.mark.parametrize("act", ["promote", "discard", "destroy"])
    def test_store_that_never_answers_is_unknown(self, layout, store, act):
        """The tries end, and the outcome is said to be unknown."""
        number = put(store, b"one")
        if act == "destroy":
            store.discard_pending(DB, number)

        def fail(point):
            if point.endswith(".before"):
                raise OutcomeUnknown("no answer")

        layout.fail = fail
        acts = {
            "promote": lambda: store.promote(DB, number, expected_current=None),
            "discard": lambda: store.discard_pending(DB, number),
            "destroy": lambda: store.destroy(DB, number),
        }
        with pytest.raises(OutcomeUnknown):
            acts[act]()

    def test_death_between_live_and_ledger_is_settled(self, layout, store):
        """The live document at the pending version is a promote that was not written down."""
        activate(store, b"one")
        number = put(store, b"two")

        class Death(BaseException):
            pass

        def die(point):
            if point == "ledger.before":
                raise Death

        layout.fail = die
        with pytest.raises(Death):
            store.promote(DB, number, expected_current=1)
        another = store_on(layout.another())
        state = another.state(DB)
        assert (state.current, state.previous, state.pending) == (2, 1, None)
        assert current(another) == b"two"
        assert another.drifts(DB.environment) == {}
        assert another.promote(DB, number, expected_current=1) == state
        assert activate(another, b"three") == 3

    def test_promote_that_was_overtaken_tells_its_own_end(self, layout, store):
        """Somebody who went on from our version is no conflict of ours."""
        activate(store, b"one")
        number = put(store, b"two")
        other = store_on(layout.another())
        once = []

        def fail(point):
            if point == "ledger.before" and not once:
                once.append(point)
                other.promote(DB, number, expected_current=1)
                activate(other, b"three")

        layout.fail = fail
        state = store.promote(DB, number, expected_current=1)
        assert (state.current, state.previous) == (2, 1)
        assert other.state(DB).current == 3

    def test_ledger_that_moves_while_live_is_read_is_read_again(self, layout, store):
        """A version made between the two reads is not taken for drift."""
        activate(store, b"one")
        other = store_on(layout.another())
        once = []

        def between():
            if not once:
                once.append(1)
                activate(other, b"two")

        layout.between = between
        assert store.state(DB).current == 2
        assert store.drifts(DB.environment) == {}


class TestDrift:
    """A live value that is none of ours."""

    def changed(self, layout, data=b"theirs"):
        (shelf,) = layout.shelves.values()
        shelf.live = {**shelf.live, "db": data}
        shelf.live_mark += 1

    def test_change_is_seen_and_read(self, layout, store):
        """Reads give what applications read, and say that it is not ours."""
        activate(store, b"one")
        self.changed(layout)
        (drift,) = store.drifts(DB.environment).values()
        assert (drift.kind, drift.recorded) == (DriftKind.CHANGED, 1)
        read = store.read(DB, Stage.CURRENT)
        assert read.version.drifted
        assert read.values == values(value=b"theirs")
        assert store.read_many(DB.environment, [DB.name])[DB.name] == read
        assert store.current_versions(DB.environment, [DB.name])[DB.name] == read.version
        assert store.read(DB, 1).values == values(value=b"one")

    def test_promote_over_it_is_refused(self, layout, store):
        """What somebody put there is not overwritten."""
        activate(store, b"one")
        number = put(store, b"two")
        self.changed(layout)
        with pytest.raises(Conflict) as refusal:
            store.promote(DB, number, expected_current=1)
        assert refusal.value.code == "store.drift"
        assert live(layout) == {"db": b"theirs"}
        assert store.state(DB).pending == number

    def test_change_under_a_promote_is_not_lost(self, layout, store):
        """Nor is what comes between the look and the write."""
        activate(store, b"one")
        number = put(store, b"two")
        once = []

        def fail(point):
            if point == "live.before" and not once:
                once.append(1)
                self.changed(layout)

        layout.fail = fail
        with pytest.raises(Conflict) as refusal:
            store.promote(DB, number, expected_current=1)
        assert refusal.value.code == "store.drift"
        assert live(layout) == {"db": b"theirs"}

    def test_accepted_change_is_a_version(self, layout, store):
        """It becomes current, and the history knows it."""
        activate(store, b"one")
        self.changed(layout)
        version = store.accept(DB, [FieldName("value")])
        assert (version.number, version.origin) == (2, Origin.IMPORTED)
        assert store.drifts(DB.environment) == {}
        state = store.state(DB)
        assert (state.current, state.previous) == (2, 1)
        assert store.read(DB, 2).values == values(value=b"theirs")
        assert store.accept(DB, [FieldName("value")]) == version

    @pytest.mark.parametrize("point", ["ledger.before", "ledger.after"])
    def test_accept_that_lost_its_answer_is_one_version(self, layout, store, point):
        """However often it is tried."""
        activate(store, b"one")
        self.changed(layout)
        layout.fail = lost_once(point)
        assert store.accept(DB, [FieldName("value")]).number == 2
        assert [version.number for version in store.history(DB)] == [2, 1]

    def test_restored_version_is_live(self, layout, store):
        """The recorded version is put back, other keys are left alone."""
        activate(store, b"one")
        self.changed(layout)
        live(layout)["theirs"] = b"kept"
        assert store.restore(DB).number == 1
        assert live(layout) == {"db": b"one", "theirs": b"kept"}
        assert store.drifts(DB.environment) == {}

    def test_removed_value_is_told_and_restored(self, layout, store):
        """A value that is gone is no value."""
        activate(store, b"one")
        (shelf,) = layout.shelves.values()
        shelf.live, shelf.live_mark = {}, shelf.live_mark + 1
        (drift,) = store.drifts(DB.environment).values()
        assert drift.kind is DriftKind.REMOVED
        with pytest.raises(NotFound):
            store.read(DB, Stage.CURRENT)
        store.restore(DB)
        assert current(store) == b"one"

    def test_value_from_before_is_not_overwritten(self, layout, store):
        """A key that was there before Keyturn is adopted, never replaced unasked."""
        number = put(store, b"ours")
        self.changed(layout)
        with pytest.raises(Conflict) as refusal:
            store.promote(DB, number, expected_current=None)
        assert refusal.value.code == "store.drift"
        store.discard_pending(DB, number)
        assert store.accept(DB, [FieldName("value")]).number == 2
        assert current(store) == b"theirs"

    def test_hand_made_rollback_is_that_version(self, layout, store):
        """Somebody who puts an older value of ours back has rolled back."""
        activate(store, b"one")
        activate(store, b"two")
        self.changed(layout, b"one")
        state = store.state(DB)
        assert (state.current, state.previous) == (1, 2)
        assert store.drifts(DB.environment) == {}

    def test_accept_of_what_is_not_there_is_refused(self, store):
        """Nothing is made up."""
        with pytest.raises(NotFound):
            store.accept(DB, [FieldName("value")])


class TestKept:
    """What is kept beside the live document."""

    def test_damaged_value_is_refused(self, layout, store):
        """A kept value that is not what was written is not returned."""
        put(store, b"one")
        (shelf,) = layout.shelves.values()
        (key,) = shelf.kept
        for damage in (b"{}", b"no json", b'{"value":"dHdv"}', b'{"value":1}'):
            shelf.kept[key] = damage
            with pytest.raises(Corrupt):
                store.read(DB, 1)
        del shelf.kept[key]
        with pytest.raises(Corrupt):
            store.read(DB, 1)

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\x78\x9c\x00",
            b'{"format":2}',
            b'{"format":1,"salt":"00","secrets":{"db":{}}}',
            (
                b'{"format":1,"salt":"00","secrets":{"db":{"next":1,"current":1,"previous":null,'
                b'"pending":null,"versions":[]}}}'
            ),
        ],
    )
    def test_damaged_ledger_is_refused(self, layout, store, damage):
        """Nothing is written over a ledger that cannot be read."""
        activate(store, b"one")
        (shelf,) = layout.shelves.values()
        shelf.ledger, shelf.ledger_mark = damage, shelf.ledger_mark + 1
        for act in (lambda: store.state(DB), lambda: put(store, b"two")):
            with pytest.raises(Corrupt):
                act()
        assert shelf.ledger == damage

    def test_history_limit_forgets_the_oldest(self, layout):
        """Only what no stage points at is forgotten, and its number stays taken."""
        layout.history_limit = 1
        store = store_on(layout)
        for data in (b"one", b"two", b"three", b"four"):
            activate(store, data)
        assert [version.destroyed for version in store.history(DB)] == [False, False, False, True]
        assert len(layout.shelves[(DB.environment, "")].kept) == 3
        with pytest.raises(NotFound):
            store.read(DB, 1)
        assert put(store, b"five") == 5

    def test_long_ledger_is_compressed_and_read(self, layout, store):
        """A thousand secrets stay readable."""
        for number in range(120):
            put(store, b"x", ref=SecretRef(DB.environment, SecretName(f"name-{number}")))
        (shelf,) = layout.shelves.values()
        assert not shelf.ledger.startswith(b"{")
        assert len(store.states(DB.environment)) == 120

    def test_two_secrets_of_one_key_are_refused(self, layout, store):
        """The second would overwrite the first."""
        activate(store, b"one", ref=SecretRef(DB.environment, SecretName("db-password")))
        version = store.put_pending(
            DB, values(password=b"two"), origin=Origin.SET, token=Token("t")
        )
        with pytest.raises(Rejected) as refusal:
            store.promote(DB, version.number, expected_current=None)
        assert refusal.value.code == "store.key_taken"
        assert live(layout) == {"db_password": b"one"}

    def test_field_that_is_gone_leaves_the_live_document(self, layout, store):
        """Keys of the older version do not linger; those of others stay."""
        first = store.put_pending(
            DB, values(username=b"u", password=b"p"), origin=Origin.SET, token=Token("a")
        )
        store.promote(DB, first.number, expected_current=None)
        live(layout)["theirs"] = b"x"
        second = store.put_pending(DB, values(password=b"q"), origin=Origin.SET, token=Token("b"))
        store.promote(DB, second.number, expected_current=1)
        assert live(layout) == {"db_password": b"q", "theirs": b"x"}
