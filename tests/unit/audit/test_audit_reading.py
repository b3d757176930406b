"""Both logs, shown as one."""

from __future__ import annotations

import os

import pytest

from keyturn import _fastaudit
from keyturn.audit import Outcome, Selection, read_all
from keyturn.audit.reading import user_name
from keyturn.audit.segment import line_record
from keyturn.errors import IntegrityError
from tests.unit.audit.auditing import event


def fast(yard, second, **more):
    """Append a line at *second* of the clock's minute, with *more* members."""
    members = {
        "uid": 1000,
        "pid": 7,
        "action": "environment.value.deliver",
        "object": "production",
        **more,
    }
    text = ",".join(
        f'"{k}":{v}' if isinstance(v, int) else f'"{k}":"{v}"' for k, v in members.items()
    )
    line = f'"time":"2026-01-02T03:04:{second:02}.000000Z",{text}'
    _fastaudit.append(str(yard.current), line.encode())


def slow(yard, second):
    """Record an event at *second* of the clock's minute."""
    yard.clock.step(second - yard.clock.now().second)
    yard.log.record(event())


def shown(yard, selection=None, **more):
    """Return where each entry stands, oldest first unless told otherwise."""
    options = {"newest_first": False, "name_of": lambda uid: f"user{uid}", **more}
    return [(e.log, e.record.seq) for e in read_all(yard.log, yard.folder, selection, **options)]


@pytest.fixture
def mixed(yard):
    """Records and lines in turn, over two segments."""
    slow(yard, 10)
    fast(yard, 11)
    fast(yard, 12, versions="db=3")
    slow(yard, 13)
    yard.segments.rotate()
    fast(yard, 14, object="staging")
    slow(yard, 15)
    return yard


def test_both_logs_are_merged_by_time(mixed):
    """One list in the order in which things happened, in both directions."""
    found = shown(mixed)
    assert [e for e in found if e[0] != "main"] == [
        ("segment/1", 1),
        ("segment/1", 2),
        ("segment/2", 1),
    ]
    assert found.index(("main", 2)) < found.index(("segment/1", 1)) < found.index(("main", 3))
    assert found.index(("main", 3)) < found.index(("segment/2", 1)) < found.index(("main", 6))
    assert found[::-1] == shown(mixed, newest_first=True)


def test_a_selection_and_a_limit_hold_for_both(mixed):
    """Filters mean the same for either log."""
    assert shown(mixed, Selection(object="staging")) == [("segment/2", 1)]
    assert shown(mixed, Selection(actor="user1000")) == [e for e in shown(mixed) if e[0] != "main"]
    assert shown(mixed, Selection(outcomes={Outcome.DONE}), limit=2) == shown(mixed)[:2]
    assert shown(mixed, limit=0) == []


def test_a_clock_set_back_changes_no_order_within_a_log(yard):
    """Within a log the numbers decide."""
    for second in (30, 10, 20):
        fast(yard, second)
        slow(yard, second)
    for name in ("main", "segment/1"):
        numbers = [seq for log, seq in shown(yard) if log == name]
        assert sorted(numbers) == numbers


def test_a_line_reads_as_a_record(mixed):
    """A line's members stand where a record has them, and it was done when it was durable."""
    entries = read_all(mixed.log, mixed.folder, newest_first=False, name_of=lambda uid: "dep")
    found = next(e.record for e in entries if e.log == "segment/1" and e.record.seq == 2)
    assert ("dep", 1000, {"pid": 7}, {"versions": "db=3"}, Outcome.DONE) == (
        found.actor.name,
        found.actor.uid,
        found.source,
        found.detail,
        found.outcome,
    )


def test_a_repair_is_shown_and_torn_bytes_are_not(yard):
    """The log says that a tail was sealed off; what was torn is nobody's record."""
    fast(yard, 10)
    os.truncate(yard.current, yard.current.stat().st_size - 5)
    yard.segments.maintain()
    lines = [e for e in read_all(yard.log, yard.folder) if e.log != "main"]
    assert ["audit.segment.repair"] == [e.record.action for e in lines]
    assert lines[0].record.actor.name == "keyturn"


def test_what_a_line_quotes_cannot_act(yard):
    """Escaped controls in a line come out as text."""
    fast(yard, 10, object="\\u001b[2J")
    entry = next(e for e in read_all(yard.log, yard.folder) if e.log != "main")
    assert entry.record.object == "\\u{1b}[2J"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"v":1,"n":1,"time":"t","action":5,"object":"x"}',
     b'{"v":1,"n":1,"time":"t","action":"a","object":"x","outcome":"maybe"}',
     b'{"v":1,"n":1,"time":"t","action":"a","object":"x","y":[1]}',
     b'{"v":1,"n":1,"time":"t","action":"a","object":"x","y":' + b"[" * 5_000 + b"]" * 5_000 + b"}"],
)  # fmt: skip
def test_an_unreadable_line_is_named(body):
    """A line that is no record gives a typed error."""
    with pytest.raises(IntegrityError):
        line_record(body, str)


def test_users_have_names():
    """A user id is shown by name where the system knows one."""
    assert user_name(0) == "root"
    assert user_name(4_000_000_001) == "uid 4000000001"
