"""The read log's files: created, repaired, anchored, closed, and what is refused."""

from __future__ import annotations

import os
import threading
from fcntl import LOCK_EX, flock
from hashlib import sha256

import pytest

from keyturn import _fastaudit
from keyturn._internal import failpoints
from keyturn.audit import Action, Segments
from keyturn.audit.segment import walk
from keyturn.audit.segments import load_segment, read_segment, segment_files
from keyturn.errors import IntegrityError, InternalError, Unavailable
from tests.unit.audit.auditing import ACTOR, LINE, STORE_ID

LONG = LINE + b',"x":"' + b"y" * 60_000 + b'"'


def refused(action, code):
    """Expect an integrity error of *code* that carries a hint."""
    with pytest.raises(IntegrityError) as caught:
        action()
    assert (code, True) == (caught.value.code, bool(caught.value.hint))
    return caught.value


def actions(yard):
    """Return the actions of the main chain, oldest first."""
    return [r.action for r in yard.log.read(newest_first=False)]


def overfill(yard):
    """Append until the segment is beyond its bound."""
    while yard.current.stat().st_size <= _fastaudit.MAX_SEGMENT_BYTES:
        _fastaudit.append(str(yard.current), LONG)


def test_the_first_segment_names_store_and_chain(yard):
    """The header says whose segment it is, and where the main chain stood."""
    found = walk(yard.current.read_bytes(), name="reads.log").header
    assert (STORE_ID, 1, 0, None) == (found.store, found.segment, found.main_seq, found.previous)
    assert yard.current.stat().st_mode & 0o777 == 0o600
    assert actions(yard) == [Action.SEGMENT_CREATE]


def test_a_read_log_in_order_is_left_alone(yard):
    """Maintenance with nothing to do records nothing and takes no write lock."""
    yard.append()
    yard.segments.maintain()
    before = yard.log.head()
    with yard.database.transaction():
        yard.segments.maintain()
    assert [] == yard.segments.maintain()
    assert before == yard.log.head()


def test_growth_is_anchored(yard):
    """What the fast path appended is written into the main chain by the next slow command."""
    yard.append(3)
    assert yard.segments.anchor().detail["lines"] == 3
    assert yard.segments.anchor() is None
    yard.append()
    yard.segments.maintain()
    assert [0, 3, 4] == [r.detail["lines"] for r in yard.log.read(newest_first=False)]


def test_files_are_not_changed_inside_a_transaction(yard):
    """A file's change cannot be undone with the caller's transaction, so it is refused there."""
    for change in (yard.segments.repair, yard.segments.rotate, yard.segments.create_segment):
        with pytest.raises(InternalError), yard.database.transaction():
            change()


@pytest.mark.parametrize("keep", [1, 40, 64, 65, 70, 100, -2])
def test_a_torn_tail_is_sealed_and_kept(yard, keep):
    """The torn bytes stay, the repair says what they were, and the chain goes on."""
    yard.append(3)
    whole = yard.current.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    cut = whole[: start + keep] if keep > 0 else whole[:keep]
    torn = cut[start:]
    yard.current.write_bytes(cut)
    assert len(yard.segments.maintain()) == 1
    sealed = yard.current.read_bytes()
    assert sealed.startswith(cut + b"\n")
    record = next(yard.log.read())
    assert (Action.SEGMENT_REPAIR, len(torn), sha256(torn).hexdigest()) == (
        record.action,
        record.detail["torn_bytes"],
        record.detail["torn_sha256"],
    )
    yard.append()
    report = yard.verify().read_log
    assert (4, 1) == (report.lines, report.sealed)


def test_a_line_that_lacks_only_its_newline_is_good(yard):
    """A line whose every byte is there counts, and the repair has nothing torn to name."""
    yard.append(2)
    yard.current.write_bytes(yard.current.read_bytes()[:-1])
    yard.segments.maintain()
    assert next(yard.log.read()).detail["torn_bytes"] == 0
    assert (3, 0) == (yard.verify().read_log.lines, yard.verify().read_log.sealed)


def test_a_repair_that_was_itself_torn_is_repaired(yard):
    """However often the repair dies, all that is torn is sealed off in the end."""
    yard.append(2)
    size = yard.current.stat().st_size
    os.truncate(yard.current, size - 30)
    yard.segments.repair()
    sealed = yard.current.read_bytes()
    for cut in range(size - 29, len(sealed) - 1, 13):
        yard.current.write_bytes(sealed[:cut])
        # The record of the first repair is younger than the file put back here.
        yard.tamper("DELETE FROM audit_pointer")
        yard.tamper("DELETE FROM audit WHERE seq > 1")
        yard.segments.repair()
        yard.append()
        found = walk(yard.current.read_bytes(), name="reads.log")
        assert (b"", True, 1) == (found.rest, found.ended, found.sealed)


def test_zeros_after_a_power_cut_are_sealed(yard):
    """A file system may leave zeros where the last append was; they are a torn tail."""
    yard.append(1)
    with yard.current.open("ab") as file:
        file.write(bytes(500))
    yard.segments.maintain()
    assert yard.verify().read_log.sealed == 1


def test_two_torn_tails_are_sealed_one_by_one(yard):
    """A segment can hold several sealed tails."""
    for _ in range(3):
        yard.append(2)
        os.truncate(yard.current, yard.current.stat().st_size - 10)
        yard.segments.maintain()
    assert yard.verify().read_log.sealed == 3


def test_repair_does_nothing_where_nothing_is_torn(yard):
    """Another process may have repaired in between."""
    yard.append()
    assert yard.segments.repair() is False


def test_repair_refuses_what_no_append_leaves(yard):
    """A changed line in the middle is not sealed over, and not one byte is written."""
    yard.append(5)
    raw = bytearray(yard.current.read_bytes())
    raw[raw.index(b'"n":3') + 60] ^= 1
    yard.current.write_bytes(raw[:-4])
    refused(yard.segments.repair, "audit.changed")
    assert yard.current.read_bytes() == raw[:-4]


def test_repair_refuses_to_seal_over_anchored_lines(yard):
    """A tail that was anchored was whole once, so what is torn now was cut."""
    yard.append(5)
    yard.segments.anchor()
    os.truncate(yard.current, yard.current.stat().st_size - 10)
    refused(yard.segments.repair, "audit.torn")
    refused(yard.segments.maintain, "audit.torn")


def test_a_header_that_was_changed_is_refused(yard):
    """No segment is repaired, anchored or closed under a header that does not hold."""
    raw = yard.current.read_bytes()
    yard.current.write_bytes(raw.replace(b'"main_seq":0', b'"main_seq":7'))
    refused(yard.segments.maintain, "audit.header")
    yard.current.write_bytes(b"")
    refused(yard.segments.repair, "audit.header")
    yard.current.write_bytes(raw.replace(b'"v":1', b'"v":2'))
    refused(yard.segments.repair, "audit.newer")


def test_anchoring_notices_a_cut(yard):
    """A segment that ends before its last anchor, or differs there, is refused at once."""
    yard.append(4)
    whole = yard.current.read_bytes()
    yard.segments.anchor()
    yard.current.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    assert refused(yard.segments.maintain, "audit.cut").context["line"] == 3
    _fastaudit.append(str(yard.current), LINE.replace(b"deliver", b"deliveR"))
    refused(yard.segments.maintain, "audit.cut")


def test_a_full_segment_is_closed(yard):
    """The next one goes on from its last hash, and both are verified as one log."""
    overfill(yard)
    yard.segments.maintain()
    yard.append(2)
    yard.segments.maintain()
    files = segment_files(yard.folder)
    assert [(1, "reads-000001.log"), (2, "reads.log")] == [(n, p.name) for n, p in files]
    first, second = (walk(p.read_bytes(), name=p.name) for _, p in files)
    assert second.header.previous == first.head.hex()
    assert (2, first.lines + 2) == (yard.verify().read_log.segments, yard.verify().read_log.lines)
    assert Action.SEGMENT_ROTATE in actions(yard)


def test_a_segment_is_closed_on_demand_many_times(yard):
    """Segments are numbered without gap."""
    for _ in range(4):
        yard.append()
        yard.segments.rotate()
    assert (5, 4) == (yard.verify().read_log.segments, yard.verify().read_log.lines)


def test_closing_overwrites_nothing(yard):
    """A file that already has the closed segment's name is left as it is."""
    yard.append()
    (yard.folder / "reads-000001.log").write_bytes(b"evidence")
    with pytest.raises(IntegrityError):
        yard.segments.maintain()
        yard.segments.create_segment()
    with pytest.raises(Unavailable):
        yard.segments.rotate()
    assert (yard.folder / "reads-000001.log").read_bytes() == b"evidence"


def test_closing_a_torn_segment_is_refused(yard):
    """A torn tail is repaired first, so that no closed segment has one."""
    yard.append()
    os.truncate(yard.current, yard.current.stat().st_size - 5)
    refused(yard.segments.rotate, "audit.torn")


def test_closing_goes_on_after_it_was_interrupted(yard):
    """Between its two names the segment can still be appended to, verified and closed."""
    yard.append(2)
    failpoints.arm("segment.closed:error")
    with pytest.raises(OSError):
        yard.segments.rotate()
    assert yard.current.samefile(yard.folder / "reads-000001.log")
    yard.append()
    assert (1, 3) == (yard.verify().read_log.segments, yard.verify().read_log.lines)
    assert yard.segments.rotate() == 2
    assert yard.verify().read_log.segments == 2


def test_a_lost_current_segment_is_not_replaced_silently(yard):
    """The next segment takes the next number, a notice is given, and the loss stays visible."""
    yard.append(2)
    yard.segments.anchor()
    yard.current.unlink()
    assert ["the read log was missing; segment 2 was started"] == yard.segments.maintain()
    yard.append()
    assert refused(yard.verify, "audit.lost").context["segment"] == 1


def test_a_new_segment_follows_a_closed_one(yard):
    """Where only closed segments are left, the new one goes on from the last of them."""
    yard.append(2)
    yard.segments.rotate()
    yard.current.unlink()
    yard.tamper("DELETE FROM audit_pointer")
    assert yard.segments.create_segment() == 2
    assert walk(yard.current.read_bytes(), name="x").header.previous is not None


def test_creating_twice_creates_once(yard):
    """A second process finds the segment that the first one made."""
    assert yard.segments.create_segment() == 1
    assert actions(yard) == [Action.SEGMENT_CREATE]


def test_a_stopped_reader_stops_no_slow_command(yard):
    """While the segment stays locked, maintenance says so and lets the command go on."""
    segments = Segments(
        yard.folder,
        database=yard.database,
        log=yard.log,
        clock=yard.clock,
        actor=ACTOR,
        source={},
        patience_seconds=0.002,
    )
    with yard.current.open("rb") as holder:
        flock(holder, LOCK_EX)
        (notice,) = segments.maintain()
        assert "stayed locked" in notice


def test_an_append_that_waited_lands_in_the_new_segment(yard):
    """A line that was waiting for the lock while the segment was closed is not lost."""
    yard.append()
    descriptor = os.open(yard.current, os.O_RDWR)
    flock(descriptor, LOCK_EX)
    waiter = threading.Thread(target=yard.append)
    waiter.start()
    # What closing does, done by hand while the lock is held here.
    closed = yard.folder / "reads-000001.log"
    found = walk(yard.current.read_bytes(), name="x")
    from keyturn.audit.segment import header_line

    line, _ = header_line(
        store_id=STORE_ID,
        segment=2,
        main_seq=0,
        main_head=yard.log.head_at(0),
        previous=found.head,
        time=yard.clock.now(),
    )
    closed.hardlink_to(yard.current)
    (yard.folder / "new").touch(mode=0o600)
    (yard.folder / "new").write_bytes(line)
    (yard.folder / "new").rename(yard.current)
    os.close(descriptor)
    waiter.join()
    yard.segments.maintain()
    assert (2, 2) == (yard.verify().read_log.segments, yard.verify().read_log.lines)
    assert walk(yard.current.read_bytes(), name="x").lines == 1


def test_a_segment_is_found_under_its_new_name(yard):
    """A reader that listed the files before one was closed still reads it."""
    yard.append(2)
    ((number, path),) = segment_files(yard.folder)
    yard.segments.rotate()
    name, data = load_segment(number, path)
    assert ("reads-000001.log", 2) == (name, walk(data, name=name).lines)


def test_two_files_of_one_number_are_refused(yard):
    """A copy that claims to be the current segment is named."""
    yard.append()
    (yard.folder / "reads-000001.log").write_bytes(yard.current.read_bytes())
    refused(lambda: segment_files(yard.folder), "audit.inserted")


def test_an_enormous_file_is_refused(yard):
    """Memory has a bound whatever was put into the folder."""
    os.truncate(yard.current, 1 << 40)
    refused(lambda: read_segment(yard.current), "audit.inserted")


def test_a_folder_that_is_not_there_holds_no_segments(tmp_path):
    """Nothing there is an empty list, which the report shows as nothing checked."""
    assert [] == segment_files(tmp_path / "none")


@pytest.mark.parametrize("what", ["segment.create.write", "segment.create.rename"])
def test_a_full_disk_makes_no_segment(yard, what):
    """Where the new file cannot be written there is none, and no record of one."""
    yard.current.unlink()
    yard.tamper("DELETE FROM audit_pointer")
    yard.tamper("DELETE FROM audit")
    failpoints.arm(f"{what}:full")
    with pytest.raises(Unavailable):
        yard.segments.maintain()
    assert (False, 0) == (yard.current.exists(), yard.log.head().seq)
    yard.segments.maintain()
    assert yard.verify().read_log.segments == 1


def test_a_folder_in_its_place_is_a_typed_error(yard):
    """No OSError leaves the room."""
    yard.current.unlink()
    yard.current.mkdir()
    refused(yard.segments.maintain, "audit.inserted")


@pytest.mark.parametrize("point", ["segment.seal", "segment.sealed", "database.commit"])
def test_a_failed_repair_is_taken_up_again(yard, point):
    """Before and after its write, a failure of the repair leaves something to repair or nothing."""
    yard.append(2)
    os.truncate(yard.current, yard.current.stat().st_size - 9)
    failpoints.arm(f"{point}:error")
    with pytest.raises(OSError):
        yard.segments.maintain()
    yard.segments.maintain()
    yard.append()
    assert (1, 3) == (yard.verify().read_log.sealed, yard.verify().read_log.lines)
