"""Verifying everything: what is found, what is named, and what was not looked at."""

from __future__ import annotations

import os
import shutil
import threading

import pytest

from keyturn.audit import Position, verify_log
from keyturn.audit.chain import link
from keyturn.audit.record import encode
from keyturn.audit.segment import walk
from keyturn.audit.spans import verify_chain
from keyturn.core.value import SecretValue
from keyturn.errors import IntegrityError
from tests.unit.audit.auditing import LINE, STORE_ID, KeySigner, event, make_yard

# Verification copies this process where that is faster and no other thread runs.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def refused(yard, code, **more):
    """Expect a refusal of *code* and return its context."""
    with pytest.raises(IntegrityError) as caught:
        yard.verify(**more)
    assert (code, True) == (caught.value.code, bool(caught.value.hint))
    return caught.value.context


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The folder of a log of 600 records with checkpoints, and a read log of three segments."""
    yard = make_yard(tmp_path_factory.mktemp("full") / "made", fresh=True)
    yard.segments.maintain()
    yard.record(300)
    yard.append(5)
    yard.segments.maintain()
    yard.segments.rotate()
    yard.append(4)
    yard.segments.rotate()
    yard.record(300)
    yard.append(3)
    yard.segments.maintain()
    yard.database.close()
    return yard.root


@pytest.fixture
def full(filled, tmp_path):
    """A copy of it, to be damaged."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    yard = make_yard(tmp_path, create=False)
    yield yard
    yard.database.close()


def test_a_sound_log_is_counted(full):
    """The report says how much was looked at, and that everything was."""
    seq = full.log.head().seq
    report = full.verify(witness=full.log.head())
    assert (seq, seq, full.log.head().head.hex()) == (
        report.records,
        report.verified_up_to,
        report.head,
    )
    assert (2, 512, seq - 512) == (report.checkpoints, report.signed_up_to, report.unsigned)
    assert (3, 12, 0, 0) == (
        report.read_log.segments,
        report.read_log.lines,
        report.read_log.sealed,
        report.read_log.unanchored,
    )
    assert ((), False) == (report.skipped, report.nothing_checked)


def test_lines_after_the_last_anchor_are_counted(full):
    """What nothing outside the read log vouches for is said."""
    full.append(2)
    assert full.verify().read_log.unanchored == 2


def test_what_was_left_out_is_listed(full):
    """Without key, folder and witness the report names all three as skipped."""
    report = verify_log(full.database, None, store_id=STORE_ID, public_key=None)
    assert ["checkpoints", "rollback", "read log"] == [s.partition(":")[0] for s in report.skipped]
    assert (0, 0) == (report.checkpoints, report.signed_up_to)


def test_nothing_is_not_a_sound_log(tmp_path):
    """An empty log says that there was nothing to check."""
    yard = make_yard(tmp_path)
    assert yard.verify().nothing_checked
    yard.record(1)
    assert not yard.verify().nothing_checked
    yard.database.close()


def test_a_changed_record_is_named(full):
    """The first bad record is in message and context."""
    raw = full.database.one("SELECT record FROM audit WHERE seq = 400")[0]
    full.tamper("UPDATE audit SET record = ? WHERE seq = 400", raw[:-1] + b" ")
    assert refused(full, "audit.changed")["seq"] == 400


@pytest.mark.parametrize("seq", [1, 2, 300, 606])
def test_a_removed_record_is_named(full, seq):
    """First and middle are missed by the chain, with or without moving up the rest."""
    full.tamper("DELETE FROM audit WHERE seq = ?", seq)
    assert refused(full, "audit.missing")["seq"] == seq
    full.renumber(above=seq, by=-1)
    assert refused(full, "audit.missing")["seq"] == seq


def test_a_cut_end_is_found_by_the_checkpoint(full):
    """Removing the end, signed records included, is found by the signature on what is gone."""
    full.tamper("DELETE FROM audit WHERE seq > 500")
    assert refused(full, "audit.cut")["seq"] == 512


def test_a_cut_unsigned_end_is_found_by_the_read_log(full):
    """Where the cut records had started a segment, its header misses them."""
    full.segments.rotate()
    full.tamper("DELETE FROM audit WHERE seq > 512")
    assert refused(full, "audit.replaced")["file"] == "reads.log"


def test_a_cut_unsigned_end_is_found_by_the_witness(full):
    """A head remembered outside the store shows a cut that nothing inside shows."""
    head = full.log.head()
    full.tamper("DELETE FROM audit WHERE seq = ?", head.seq)
    assert refused(full, "audit.cut", witness=head)["seq"] == head.seq


def test_a_rewritten_end_is_found_by_the_witness(full):
    """The same, where the cut records were replaced by others."""
    head = full.log.head()
    full.tamper("DELETE FROM audit WHERE seq = ?", head.seq)
    full.record(3)
    assert refused(full, "audit.replaced", witness=head)["seq"] == head.seq


def rechain(yard, signer=None):
    """Replace the whole chain by a forged one of the same length; sign it with *signer*."""
    forger = make_yard(yard.root / "forger", fresh=True, signer=signer)
    forger.record(yard.log.head().seq)
    rows, checkpoints = forger.rows(), list(forger.log.checkpoints())
    forger.database.close()
    yard.tamper("DELETE FROM audit")
    with yard.database.transaction():
        yard.database.execute_many("INSERT INTO audit VALUES (?, ?, ?)", rows)
    return checkpoints


def test_a_replaced_chain_is_found_by_the_checkpoints(full):
    """A whole new chain does not have the heads that were signed."""
    full.tamper("DELETE FROM audit_pointer")
    rechain(full)
    assert refused(full, "audit.replaced")["seq"] == 256


def test_a_replaced_chain_with_forged_checkpoints_is_found_by_their_key(full):
    """Nor can its own checkpoints be signed with the key that is believed."""
    full.tamper("DELETE FROM audit_pointer")
    full.tamper("DELETE FROM checkpoint")
    for c in rechain(full, KeySigner(SecretValue(bytes(range(32))))):
        full.tamper("INSERT INTO checkpoint VALUES (?, ?, ?)", c.seq, c.body, c.signature)
    refused(full, "signature.invalid")


def test_a_missing_checkpoint_is_found(full):
    """Taking away the first of two is seen; the last one's absence shows as unsigned records."""
    full.tamper("DELETE FROM checkpoint WHERE seq = 256")
    refused(full, "audit.checkpoint")
    full.tamper("DELETE FROM checkpoint")
    assert full.verify().unsigned == full.log.head().seq


class TestReadLog:
    """Damage of the read log, found by its chain, by its neighbours or by its anchors."""

    def test_a_cut_segment(self, full):
        """Lines that are anchored and gone are named."""
        whole = full.current.read_bytes()
        full.current.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
        assert refused(full, "audit.cut") == {"file": "reads.log", "line": 3}

    def test_a_cut_closed_segment(self, full):
        """A closed segment cannot lose its end either."""
        path = full.folder / "reads-000001.log"
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
        assert refused(full, "audit.cut") == {"file": "reads-000001.log", "line": 5}

    @pytest.mark.parametrize("name", ["reads-000001.log", "reads-000002.log", "reads.log"])
    def test_a_lost_segment(self, full, name):
        """A segment that is anchored and not there is named by its number."""
        (full.folder / name).unlink()
        number = {"reads-000001.log": 1, "reads-000002.log": 2, "reads.log": 3}[name]
        assert refused(full, "audit.lost") == {"segment": number}

    def test_all_of_it_lost(self, full):
        """An empty folder is not an empty log."""
        shutil.rmtree(full.folder)
        assert refused(full, "audit.lost") == {"segment": 1}

    def test_a_forged_segment(self, full):
        """A segment written anew, with right hashes, does not have the anchored ones."""
        header = full.current.read_bytes().split(b"\n")[0]
        full.current.write_bytes(header + b"\n")
        full.append(3)
        full.current.write_bytes(full.current.read_bytes())
        forged = full.current.read_bytes()
        assert walk(forged, name="x").lines == 3
        # The same lines again would be the same chain, so one of them must differ.
        full.current.write_bytes(header + b"\n")
        from keyturn import _fastaudit

        for _ in range(3):
            _fastaudit.append(str(full.current), LINE.replace(b"production", b"staging"))
        assert refused(full, "audit.replaced")["line"] == 3

    def test_a_segment_with_a_forged_header(self, full):
        """A header made anew does not have the anchored hash of line 0."""
        from keyturn.audit.segment import header_line

        before = walk((full.folder / "reads-000002.log").read_bytes(), name="x")
        line, _ = header_line(
            store_id=STORE_ID,
            segment=3,
            main_seq=1,
            main_head=full.log.head_at(1),
            previous=before.head,
            time=full.clock.now(),
        )
        full.current.write_bytes(line)
        full.append(9)
        assert refused(full, "audit.replaced")["line"] == 0

    def test_a_segment_of_another_store(self, full, tmp_path):
        """A read log taken from elsewhere is named as such."""
        raw = full.current.read_bytes()
        full.current.write_bytes(raw.replace(STORE_ID.encode(), b"f" * 32))
        refused(full, "audit.header")

    def test_segments_that_changed_names(self, full):
        """The number in the header must be the one that the name says."""
        one, two = (full.folder / f"reads-00000{n}.log" for n in (1, 2))
        one.rename(full.folder / "x")
        two.rename(one)
        (full.folder / "x").rename(two)
        refused(full, "audit.missing")

    def test_a_segment_that_nobody_anchored(self, full):
        """A file put in with a number far ahead leaves a gap, which is named."""
        shutil.copy(full.folder / "reads-000001.log", full.folder / "reads-000009.log")
        assert refused(full, "audit.lost") == {"segment": 4}

    def test_an_unsealed_tail(self, full):
        """A torn tail that no repair has sealed is an error here; repairing is the next command's."""
        full.append()
        os.truncate(full.current, full.current.stat().st_size - 3)
        assert refused(full, "audit.torn")["line"] == 4
        full.segments.maintain()
        assert full.verify().read_log.sealed == 1

    def test_an_end_that_lost_its_newline(self, full):
        """Even the last newline counts."""
        os.truncate(full.current, full.current.stat().st_size - 1)
        refused(full, "audit.torn")

    @pytest.mark.parametrize(
        ("order", "code", "line"),
        [
            ([0, 1, 3, 4, 5], "audit.missing", 2),
            ([0, 2, 1, 3, 4, 5], "audit.reordered", 1),
            ([0, 1, 2, 2, 3, 4, 5], "audit.inserted", 3),
            ([1, 2, 3, 4, 5], "audit.header", 0),
            ([0], "audit.cut", 1),
        ],
    )
    def test_lines_out_of_place(self, full, order, code, line):
        """Missing, swapped and repeated lines are told apart and placed."""
        path = full.folder / "reads-000001.log"
        lines = path.read_bytes().split(b"\n")
        path.write_bytes(b"".join(lines[n] + b"\n" for n in order))
        assert refused(full, code)["line"] == line

    def test_a_repair_line_that_covers_nothing(self, full):
        """A repair line whose torn bytes were taken away does not hold."""
        full.append(2)
        os.truncate(full.current, full.current.stat().st_size - 3)
        full.segments.maintain()
        lines = full.current.read_bytes().split(b"\n")
        full.current.write_bytes(b"\n".join(lines[:-3] + lines[-2:]))
        refused(full, "audit.changed")

    def test_changed_torn_bytes(self, full):
        """The bytes that a repair sealed off are held to the hash that it recorded."""
        full.append(2)
        os.truncate(full.current, full.current.stat().st_size - 3)
        full.segments.maintain()
        lines = full.current.read_bytes().split(b"\n")
        lines[-3] = lines[-3].replace(b"production", b"productioN")
        full.current.write_bytes(b"\n".join(lines))
        refused(full, "audit.changed")


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A chain that is long enough to be shared."""
    yard = make_yard(tmp_path_factory.mktemp("long"))
    place, rows = yard.log.head(), []
    body = encode(event(), seq=1, time=yard.clock.now()).removeprefix(b'{"v":1,"seq":1,')
    for seq in range(1, 50_101):
        raw = b'{"v":1,"seq":%d,' % seq + body
        place = Position(seq, link(place.head, raw))
        rows.append((seq, raw, place.head))
    with yard.database.transaction():
        yard.database.execute_many("INSERT INTO audit VALUES (?, ?, ?)", rows)
    yield yard
    yard.database.close()


class TestTwoProcesses:
    """A long chain is shared with a second process, which must change nothing but the time."""

    def ask(self, yard, **more):
        """Verify the chain and return its end."""
        options = {"found": lambda seq, raw: None, "meanwhile": lambda: None, **more}
        return verify_chain(yard.database, store_id=STORE_ID, **options)

    def test_both_ways_agree(self, long):
        """Alone or shared, the answer is the same."""
        assert long.log.head() == self.ask(long) == self.ask(long, share=False)

    def test_other_threads_forbid_a_copy(self, long):
        """With threads about, the process is not copied, and the answer is the same."""
        done = threading.Event()
        waiting = threading.Thread(target=done.wait)
        waiting.start()
        try:
            assert long.log.head() == self.ask(long)
        finally:
            done.set()
            waiting.join()

    @pytest.mark.parametrize("seq", [1, 16_699, 16_700, 16_701, 16_702, 40_000, 50_100])
    def test_damage_on_either_side_is_named(self, long, seq):
        """The bad record is named, whichever process was to find it, and around the seam."""
        raw = long.database.one("SELECT record FROM audit WHERE seq = ?", (seq,))[0]
        long.tamper("UPDATE audit SET record = ? WHERE seq = ?", raw[:-1] + b" ", seq)
        try:
            for share in (True, False):
                with pytest.raises(IntegrityError) as caught:
                    self.ask(long, share=share)
                assert caught.value.context["seq"] == seq
        finally:
            long.tamper("UPDATE audit SET record = ? WHERE seq = ?", raw, seq)

    def test_a_missing_record_on_the_seam_is_named(self, long):
        """The record that the second process would start from can be the one that is gone."""
        row = long.database.one("SELECT * FROM audit WHERE seq = 16700")
        long.tamper("DELETE FROM audit WHERE seq = 16700")
        try:
            with pytest.raises(IntegrityError) as caught:
                self.ask(long)
            assert ("audit.missing", 16_700) == (caught.value.code, caught.value.context["seq"])
        finally:
            long.tamper("INSERT INTO audit VALUES (?, ?, ?)", *row)

    def test_no_process_is_left_behind(self, long):
        """A check that fails meanwhile ends the second process too."""

        def fail():
            raise IntegrityError("meanwhile")

        with pytest.raises(IntegrityError, match="meanwhile"):
            self.ask(long, meanwhile=fail)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
