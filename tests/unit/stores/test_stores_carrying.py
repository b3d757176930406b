"""Histories carried into a store of others: how often it writes, what is lost on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import History, Move, SecretRef, Stage
from keyturn.errors import Conflict, InternalError, NotFound, OutcomeUnknown, Rejected
from keyturn.stores import MemoryStore
from keyturn.stores.outside import OutsideStore
from keyturn.testing import FakeClock, SeededEntropy
from keyturn.testing._store_words import carry, history_of
from keyturn.testing.store_contract import DB, activate, current, put, values
from tests.unit.stores.memory_layout import MemoryLayout, lost_once

POINTS = [f"{what}.{when}" for what in ("ledger", "live") for when in ("before", "after")]


class Death(BaseException):
    """The process dies."""


def store_on(layout):
    return OutsideStore(layout, clock=FakeClock(), entropy=SeededEntropy())


def many(count, *data):
    """Return histories of so many secrets; each has values of its own."""
    refs = [SecretRef(DB.environment, SecretName(f"name-{n:04}")) for n in range(count)]
    return [history_of(*(b"%d " % n + each for each in data), ref=r) for n, r in enumerate(refs)]


def held(store, histories):
    return dict(store.histories(DB.environment, [each.ref.name for each in histories]))


def wanted(histories):
    return {each.ref.name: each for each in histories}


@pytest.fixture
def layout():
    return MemoryLayout()


@pytest.fixture
def store(layout):
    return store_on(layout)


class TestWrites:
    """What it costs."""

    def test_secrets_of_one_document_are_written_together(self, layout, store):
        """The ledger twice and the live document once, however many they are."""
        histories = many(100, b"one", b"two")
        carry(store, *histories)
        writes = [call for call in layout.calls if call != "look"]
        assert writes == ["ledger", "live", "ledger"]
        assert held(store, histories) == wanted(histories)

    def test_documents_of_their_own_are_written_each(self):
        """In the same order."""
        layout = MemoryLayout(each=True)
        store = store_on(layout)
        histories = many(3, b"one", b"two")
        carry(store, *histories)
        writes = [call for call in layout.calls if call != "look"]
        assert writes == ["ledger", "live", "ledger"] * 3
        assert held(store, histories) == wanted(histories)

    def test_again_nothing_is_written(self, layout, store):
        """Nor looked at more than once."""
        histories = many(5, b"one")
        carry(store, *histories)
        layout.calls.clear()
        store.carry([Move(each, each.state) for each in histories])
        assert layout.calls == ["look"]

    def test_reading_asks_for_older_versions_alone(self, layout, store):
        """What is current is in the live document, which was compared already."""
        histories = many(5, b"one", b"two")
        carry(store, *histories)
        (shelf,) = layout.shelves.values()
        for key in [key for key in shelf.kept if ".2." in key]:
            del shelf.kept[key]
        assert held(store, histories) == wanted(histories)


class TestLost:
    """A write or its answer is lost on the way."""

    @pytest.mark.parametrize("point", POINTS)
    def test_lost_answer_ends_carried(self, layout, store, point):
        """Whatever was lost is done once."""
        histories = many(3, b"one", b"two")
        layout.fail = lost_once(point)
        carry(store, *histories)
        assert held(store, histories) == wanted(histories)
        assert layout.calls.count("live") <= 2

    @pytest.mark.parametrize("point", POINTS)
    @pytest.mark.parametrize("time", [1, 2])
    @pytest.mark.parametrize("before", [0, 1])
    def test_death_is_made_up_for(self, layout, store, point, time, before):
        """The state is the old one or the new one, no drift is seen, and again ends it."""
        shorter, longer = many(3, b"one"), many(3, b"one", b"two", b"three")
        if before:
            carry(store, *shorter)
        old = {each.ref.name: store.state(each.ref) for each in longer}
        left = [time]

        def die(at):
            left[0] -= at == point
            if left[0] == 0 and at == point:
                raise Death

        layout.fail = die
        died = False
        try:
            carry(store, *longer)
        except Death:
            died = True
        assert died == (time == 1 or point.startswith("ledger"))
        another = store_on(layout.another())
        assert another.drifts(DB.environment) == {}
        for each in longer:
            state = another.state(each.ref)
            stages = (state.current, state.previous)
            was = old[each.ref.name]
            assert stages in {(was.current, was.previous), (3, 2), (3, was.current)}
        carry(another, *longer)
        assert held(another, longer) == wanted(longer)

    def test_store_that_never_answers_is_unknown(self, layout, store):
        """The tries end."""

        def fail(point):
            if point.endswith(".before"):
                raise OutcomeUnknown("no answer")

        layout.fail = fail
        with pytest.raises(OutcomeUnknown):
            carry(store, history_of(b"one"))

    def test_another_writer_of_the_document_is_waited_for(self, layout, store):
        """Who wrote another secret meanwhile keeps it."""
        other = store_on(layout.another())
        once = []

        def fail(point):
            if point == "live.before" and not once:
                once.append(point)
                activate(other, b"theirs", ref=SecretRef(DB.environment, SecretName("theirs")))

        layout.fail = fail
        carry(store, history_of(b"one", b"two"))
        assert current(store) == b"two"
        assert current(store, SecretRef(DB.environment, SecretName("theirs"))) == b"theirs"

    def test_another_writer_of_the_secret_wins(self, layout, store):
        """What was decided on an older state is refused."""
        other = store_on(layout.another())
        once = []

        def fail(point):
            if point == "live.before" and not once:
                once.append(point)
                other.promote(DB, 1, expected_current=None)
                activate(other, b"theirs")

        layout.fail = fail
        with pytest.raises(Conflict):
            carry(store, history_of(b"one", b"two"))
        assert current(other) == b"theirs"


class TestRefused:
    """What is not taken in; nothing is changed by any of it."""

    def test_two_secrets_of_one_key(self, layout, store):
        """Also where both come at once."""
        one = history_of(b"x", ref=SecretRef(DB.environment, SecretName("db-password")))
        ((version, _),) = history_of(b"x").versions
        field = FieldName("password")
        two = History(
            history_of(b"x").state, ((replace(version, fields=(field,)), values(password=b"y")),)
        )
        with pytest.raises(Rejected) as refusal:
            carry(store, one, two)
        assert refusal.value.code == "store.key_taken"
        assert layout.calls.count("live") == layout.calls.count("ledger") == 0

    def test_live_value_of_somebody_else(self, layout, store):
        """A key that was there before Keyturn, and a value that was changed since."""
        layout.place(DB).shelf.live = {"db": b"theirs"}
        layout.place(DB).shelf.live_mark = 1
        with pytest.raises(Conflict) as refusal:
            carry(store, history_of(b"one"))
        assert refusal.value.code == "store.drift"
        layout.place(DB).shelf.live = {"db": b"one"}
        carry(store, history_of(b"one"))
        layout.place(DB).shelf.live = {"db": b"changed"}
        with pytest.raises(Conflict) as refusal:
            carry(store, history_of(b"one", b"two"))
        assert refusal.value.code == "store.drift"

    @pytest.mark.parametrize("outside", [True, False])
    def test_history_that_cannot_be(self, store, outside):
        """One that is not whole is a fault of ours, one that is pending or too large is told."""
        if not outside:
            store = MemoryStore(clock=FakeClock())
        whole = history_of(b"one", b"two")
        for wrong in (
            replace(whole, versions=whole.versions[1:]),
            replace(whole, versions=((whole.versions[0]), (whole.versions[1][0], None))),
        ):
            with pytest.raises(InternalError):
                carry(store, wrong)
        with pytest.raises(Conflict):
            carry(store, replace(whole, state=replace(whole.state, pending=1)))
        large = b"x" * (store.capabilities.max_value_bytes + 1)
        with pytest.raises(Rejected):
            carry(store, history_of(b"one"), history_of(large, ref=SecretRef(DB.environment, "o")))
        assert store.states(EnvironmentName(DB.environment)) == {}


class TestLimit:
    """A store that keeps few versions."""

    def test_oldest_are_not_kept(self):
        """Their numbers are taken; those in use are kept, and nothing is written in vain."""
        layout = MemoryLayout(history_limit=1)
        store = store_on(layout)
        carry(store, history_of(b"1", b"2", b"3", b"4", b"5"))
        assert [each.destroyed for each in store.history(DB)] == [False] * 3 + [True] * 2
        assert len(layout.place(DB).shelf.kept) == 3
        assert store.read(DB, Stage.PREVIOUS).values == values(value=b"4")
        with pytest.raises(NotFound):
            store.read(DB, 2)

    def test_what_is_over_it_is_let_go(self):
        """Of what was there before as well, once the newer ones are."""
        layout = MemoryLayout(history_limit=1)
        store = store_on(layout)
        carry(store, history_of(b"1", b"2"))
        carry(store, history_of(b"1", b"2", b"3", b"4", b"5"))
        assert [each.destroyed for each in store.history(DB)] == [False] * 3 + [True] * 2
        assert len(layout.place(DB).shelf.kept) == 3
        assert put(store, b"6") == 6
