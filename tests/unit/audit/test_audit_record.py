"""A record's canonical bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.audit import Action, Outcome, as_json
from keyturn.audit.record import MAX_RECORD_BYTES, decode, encode, visible
from keyturn.core.model import Principal
from keyturn.core.value import SecretValue
from keyturn.errors import IntegrityError, InternalError
from tests.unit.audit.auditing import event

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
CANARY = SecretValue(b"not-a-real-secret")


@pytest.mark.parametrize(
    "smuggled",
    [
        {"detail": {"value": CANARY}},
        {"source": {"value": CANARY}},
        {"object": CANARY},
        {"reason": CANARY},
        {"actor": Principal(CANARY, "local")},
        {"detail": {CANARY.size_bytes: "x"}},
        {"detail": {"value": b"bytes"}},
        {"detail": {"value": None}},
        {"detail": {"value": ["x"]}},
        {"detail": {"value": 1.5}},
        {"detail": {"value": 2**63}},
    ],
)
def test_only_names_and_numbers_are_recorded(smuggled):
    """A value, or anything else that is no name and no number, is refused and not quoted."""
    with pytest.raises(InternalError) as caught:
        encode(event(**smuggled), seq=1, time=NOW)
    assert "not-a-real-secret" not in str(caught.value)


def test_too_many_entries_are_refused():
    """The number of details has a bound."""
    with pytest.raises(InternalError, match="has 33 entries in its detail"):
        encode(event(detail={f"k{n}": n for n in range(33)}), seq=1, time=NOW)


def test_the_bytes_are_what_the_format_says():
    """The order of members is fixed, `seq` comes early, and what is empty is left out."""
    found = encode(event(detail={"version": 3}, reason="why"), seq=12, time=NOW)
    assert (
        b'{"v":1,"seq":12,"time":"2026-01-02T03:04:05.000006Z","action":"secret.value.read",'
        b'"object":"production/db","outcome":"done",'
        b'"actor":{"name":"deploy","kind":"local","uid":1000},"reason":"why",'
        b'"source":{"interface":"cli"},"detail":{"version":3}}'
    ) == found


def test_what_was_recorded_is_read_back():
    """Every part of an event is in the record."""
    made = event(Action.VERSION_PROMOTE, Outcome.FAILED, reason="r", detail={"n": True}, settles=4)
    found = decode(encode(made, seq=5, time=NOW))
    assert (5, "secret.version.promote", Outcome.FAILED, "r", {"n": 1}, 4, NOW, "deploy") == (
        found.seq,
        found.action,
        found.outcome,
        found.reason,
        found.detail,
        found.settles,
        found.moment,
        found.actor.name,
    )
    assert as_json(found)["outcome"] == "failed"


def test_what_does_not_print_is_shown_as_text():
    """Terminal controls, direction marks, lone surrogates and newlines cannot act where it is shown."""
    raw = encode(event(object="a\x1b[31m\n\u202e\x9b\udcff\u2028é"), seq=1, time=NOW)
    assert decode(raw).object == "a\\u{1b}[31m\\u{a}\\u{202e}\\u{9b}\\u{dcff}\\u{2028}é"
    assert b"\n" not in raw


def test_long_text_is_cut_with_a_mark():
    """What is longer than its bound ends in a mark that says how long it was."""
    found = decode(encode(event(reason="x" * 5_000), seq=1, time=NOW))
    assert found.reason == "x" * 1_024 + "…[cut, 5000 characters]"


def test_many_long_details_still_fit():
    """A record has a bound whatever its details hold, so hostile text cannot stop an action."""
    detail = {f"k{n}": "\U0010ffff" * 9_000 for n in range(32)}
    raw = encode(event(detail=detail, object="\x00" * 9_000, reason="é" * 9_000), seq=1, time=NOW)
    assert len(raw) <= MAX_RECORD_BYTES
    assert len(decode(raw).detail) == 32


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"[1]", b'{"v":1,"seq":"x"}', b"{" * 10_000])
def test_what_is_no_record_is_refused(raw):
    """Bytes that are no record give a typed error."""
    with pytest.raises(IntegrityError) as caught:
        decode(raw)
    assert caught.value.code == "audit.unreadable"


def test_a_newer_format_is_named():
    """A record of a later format says so, instead of being half understood."""
    raw = encode(event(), seq=1, time=NOW).replace(b'{"v":1', b'{"v":2', 1)
    with pytest.raises(IntegrityError, match="has format 2"):
        decode(raw)


def test_an_action_of_a_later_keyturn_can_be_shown():
    """A reader shows an action that it does not know."""
    raw = encode(event(), seq=1, time=NOW).replace(b"secret.value.read", b"later.noun.verb", 1)
    assert decode(raw).action == "later.noun.verb"


@given(st.text(st.characters(), max_size=60), st.integers(1, 30))
def test_visible_text_prints_and_is_bounded(text, limit):
    """Whatever comes in, what is recorded prints, and only long text is marked as cut."""
    shown = visible(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit + 30
    assert ("…[cut, " in shown) >= (len(text) > limit)


@given(
    st.text(max_size=80),
    st.dictionaries(
        st.text(max_size=10),
        st.text(max_size=20) | st.integers(-(2**63) + 1, 2**63 - 1),
        max_size=5,
    ),
)
def test_any_event_round_trips_in_one_line(subject, detail):
    """Any text makes one line that reads back, keys and numbers unchanged in count or value."""
    raw = encode(event(object=subject, detail=detail), seq=9, time=NOW)
    found = decode(raw)
    assert b"\n" not in raw
    assert [v for v in detail.values() if isinstance(v, int)] == [
        v for v in found.detail.values() if isinstance(v, int)
    ] or len(found.detail) < len(detail)
    assert found.object.isprintable()
