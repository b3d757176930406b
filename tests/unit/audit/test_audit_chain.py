"""The links of the main chain."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from keyturn.audit.chain import Position, genesis, link, verify_rows
from keyturn.audit.record import encode
from keyturn.errors import IntegrityError
from tests.unit.audit.auditing import STORE_ID, event

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def chain(count, start=None):
    """Return *count* rows that follow *start*."""
    place, rows = start or genesis(STORE_ID), []
    for seq in range(place.seq + 1, place.seq + count + 1):
        raw = encode(event(detail={"version": seq}), seq=seq, time=NOW)
        place = Position(seq, link(place.head, raw))
        rows.append((seq, raw, place.head))
    return rows


def check(rows, size=4):
    """Verify *rows* in batches of *size*."""
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    return verify_rows(batches, start=genesis(STORE_ID))


def refused(rows, **more):
    """Return code and place of the refusal of *rows*."""
    with pytest.raises(IntegrityError) as caught:
        check(rows, **more)
    assert caught.value.hint
    return caught.value.code, caught.value.context["seq"]


def moved_up(rows, by):
    """Return *rows* under numbers shifted *by*, their bytes unchanged."""
    return [(seq + by, raw, head) for seq, raw, head in rows]


@pytest.mark.parametrize("size", [1, 3, 4, 100])
@pytest.mark.parametrize("place", [1, 5, 8, 12])
class TestBroken:
    """Each kind of damage, at the first, a middle, a batch's last and the last record."""

    def test_changed_record(self, place, size):
        """A changed byte of a record names that record."""
        rows = chain(12)
        seq, raw, head = rows[place - 1]
        rows[place - 1] = (seq, raw.replace(b"production", b"producti0n"), head)
        assert refused(rows, size=size) == ("audit.changed", place)

    def test_changed_number_inside(self, place, size):
        """A record that lost its number is named as changed."""
        rows = chain(12)
        seq, raw, head = rows[place - 1]
        rows[place - 1] = (seq, raw.replace(b'"seq":', b'"sEq":'), head)
        assert refused(rows, size=size) == ("audit.changed", place)

    def test_changed_hash(self, place, size):
        """A changed hash names its record, and says that it was the hash where that can be told."""
        rows = chain(12)
        seq, raw, head = rows[place - 1]
        rows[place - 1] = (seq, raw, bytes([head[0] ^ 1]) + head[1:])
        code, where = refused(rows, size=size)
        assert where == place
        if place < 12:
            assert code == "audit.hash"

    def test_missing(self, place, size):
        """A removed record is named as missing, unless it was the last."""
        rows = chain(12)
        del rows[place - 1]
        if place < 12:
            assert refused(rows, size=size) == ("audit.missing", place)
        else:
            # Nothing in the chain itself shows a cut end: checkpoints and anchors do.
            assert check(rows, size).seq == 11

    def test_missing_and_renumbered(self, place, size):
        """Moving the rest up does not hide a removed record."""
        rows = chain(12)
        rows = rows[: place - 1] + moved_up(rows[place:], -1)
        if place < 12:
            assert refused(rows, size=size) == ("audit.missing", place)

    def test_repeated(self, place, size):
        """A record that stands twice is named at its second place."""
        rows = chain(12)
        rows = rows[:place] + moved_up(rows[place - 1 :], 1)
        assert refused(rows, size=size) == ("audit.inserted", place + 1)

    def test_inserted(self, place, size):
        """A forged record with the right hash is found where the old ones go on."""
        rows = chain(12)
        before = rows[place - 2][2] if place > 1 else genesis(STORE_ID).head
        raw = encode(event(object="forged/x"), seq=place, time=NOW)
        forged = (place, raw, link(before, raw))
        rows = rows[: place - 1] + [forged] + moved_up(rows[place - 1 :], 1)
        assert refused(rows, size=size) == ("audit.inserted", place + 1)

    def test_reordered(self, place, size):
        """Two records that changed places are named at the first of them."""
        rows = chain(12)
        low = min(place, 11)
        (a, one, h1), (b, two, h2) = rows[low - 1 : low + 1]
        rows[low - 1 : low + 1] = [(a, two, h2), (b, one, h1)]
        assert refused(rows, size=size) == ("audit.reordered", low)


def test_numbers_in_the_wrong_order_are_named():
    """Rows that come in another order than their numbers are refused."""
    rows = chain(4)
    assert refused([rows[0], rows[2], rows[1], rows[3]]) == ("audit.missing", 2)
    assert refused([rows[0], rows[0]]) == ("audit.reordered", 2)


def test_a_forged_record_that_breaks_both_ways_is_named():
    """A record with neither its own hash nor the next one's is named as the bad place."""
    rows = chain(4)
    raw = encode(event(object="x/y"), seq=2, time=NOW)
    rows[1] = (2, raw, hashlib.sha256(b"?").digest())
    assert refused(rows) == ("audit.changed", 2)


def test_a_chain_of_another_store_does_not_fit():
    """The first hash depends on the store, so no chain can stand in for another store's."""
    with pytest.raises(IntegrityError):
        verify_rows([chain(3)], start=genesis("other"))


def test_nothing_is_the_start():
    """An empty chain ends where it starts, which the caller can see."""
    assert verify_rows([], start=genesis(STORE_ID)) == genesis(STORE_ID)
    assert verify_rows([[], chain(2), []], start=genesis(STORE_ID)).seq == 2


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_watched_records_are_handed_over(size):
    """Records of a watched action are found across the places where numbers grow a digit."""
    place, rows = genesis(STORE_ID), []
    from keyturn.audit import Action

    for seq in range(1, 1203):
        action = Action.SEGMENT_ANCHOR if seq % 3 == 0 else Action.VALUE_READ
        raw = encode(event(action), seq=seq, time=NOW)
        place = Position(seq, link(place.head, raw))
        rows.append((seq, raw, place.head))
    seen = []
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    end = verify_rows(
        batches,
        start=genesis(STORE_ID),
        watch=b'"audit.segment.',
        found=lambda seq, raw: seen.append(seq),
    )
    assert (end.seq, list(range(3, 1203, 3))) == (1202, seen)
