"""No byte of the audit log can be changed, moved, added or removed unseen."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyturn.audit import Position, export_log, verify_export
from keyturn.audit.chain import genesis, link
from keyturn.audit.record import encode
from keyturn.errors import IntegrityError, KeyturnError, StoreError
from tests.unit.audit.auditing import STORE_ID, KeySigner, event, make_yard

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

# Each example puts the files back first, so the folder may be shared between them.
tampering = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A log with checkpoints to its very end, two segments, and a sealed torn tail."""
    yard = make_yard(tmp_path_factory.mktemp("audit") / "original", fresh=True)
    yard.segments.maintain()
    yard.record(12)
    yard.append(4)
    yard.segments.rotate()
    yard.log.checkpoint()
    yard.append(3)
    with yard.current.open("ab") as file:
        file.write(b'0123 {"torn')
    yard.segments.maintain()
    yard.append(2)
    yard.segments.maintain()
    yard.record(5)
    yard.log.checkpoint()
    yard.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    yard.database.close()
    return yard.root


@contextlib.contextmanager
def copied(original, root):
    """Open a fresh copy of the log, and say first that it is sound."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(original, root)
    yard = make_yard(root, create=False)
    try:
        yield yard
    finally:
        yard.database.close()


def found_out(yard, **more):
    """Expect that verification refuses, by name and with something to do."""
    with pytest.raises((IntegrityError, StoreError)) as caught:
        yard.verify(**more)
    assert caught.value.hint
    return caught.value


def changed(raw, place, mask):
    """Return *raw* with one byte changed."""
    place %= len(raw)
    return raw[:place] + bytes([raw[place] ^ mask]) + raw[place + 1 :]


def test_what_is_damaged_below_is_sound(original, tmp_path):
    """The log under test verifies whole, with nothing skipped and everything signed and anchored."""
    with copied(original, tmp_path / "copy") as yard:
        report = yard.verify(witness=yard.log.head())
        assert ((), 0, 0, 1) == (
            report.skipped,
            report.unsigned,
            report.read_log.unanchored,
            report.read_log.sealed,
        )


@tampering
@given(
    where=st.sampled_from(
        [
            ("audit", "record"),
            ("audit", "hash"),
            ("checkpoint", "body"),
            ("checkpoint", "signature"),
        ]
    ),
    row=st.integers(0, 10_000),
    place=st.integers(0, 10_000),
    mask=st.integers(1, 255),
)
def test_any_changed_byte_of_the_database_is_found(original, tmp_path, where, row, place, mask):
    """One byte of any record, hash, checkpoint or signature."""
    table, column = where
    with copied(original, tmp_path / "copy") as yard:
        rows = yard.database.rows(f"SELECT seq, {column} FROM {table} ORDER BY seq")
        seq, raw = rows[row % len(rows)]
        yard.tamper(
            f"UPDATE {table} SET {column} = ? WHERE seq = ?", changed(raw, place, mask), seq
        )
        assert found_out(yard).context.get("seq", seq) == seq


@tampering
@given(
    name=st.sampled_from(["reads.log", "reads-000001.log"]),
    place=st.integers(0, 10_000),
    mask=st.integers(1, 255),
)
def test_any_changed_byte_of_a_segment_is_found(original, tmp_path, name, place, mask):
    """One byte of any header, line, newline, repair, or of the torn bytes that a repair sealed."""
    with copied(original, tmp_path / "copy") as yard:
        path = yard.folder / name
        path.write_bytes(changed(path.read_bytes(), place, mask))
        found_out(yard)


def test_every_single_byte_of_a_segment_counts(original, tmp_path):
    """The same for each byte in turn, so that none is left to chance."""
    with copied(original, tmp_path / "copy") as yard:
        raw = yard.current.read_bytes()
        for place in range(len(raw)):
            yard.current.write_bytes(changed(raw, place, 1 + place % 255))
            found_out(yard)


@tampering
@given(cut=st.integers(1, 10_000), name=st.sampled_from(["reads.log", "reads-000001.log"]))
def test_any_cut_of_a_segment_is_found(original, tmp_path, cut, name):
    """However much is cut from the end."""
    with copied(original, tmp_path / "copy") as yard:
        size = (yard.folder / name).stat().st_size
        os.truncate(yard.folder / name, size - 1 - cut % size)
        found_out(yard)


@tampering
@given(count=st.integers(1, 18))
def test_any_cut_of_the_chain_is_found(original, tmp_path, count):
    """However many records are cut from the end: a checkpoint was signed over them."""
    with copied(original, tmp_path / "copy") as yard:
        last = yard.log.head().seq
        yard.tamper("DELETE FROM audit_pointer")
        yard.tamper("DELETE FROM audit WHERE seq > ?", max(0, last - count))
        assert found_out(yard).code in {"audit.cut", "audit.missing"}


@tampering
@given(seq=st.integers(1, 10_000), renumber=st.booleans())
def test_any_removed_record_is_found(original, tmp_path, seq, renumber):
    """First, middle and last, with the rest moved up or not."""
    with copied(original, tmp_path / "copy") as yard:
        seq = 1 + seq % yard.log.head().seq
        yard.tamper("DELETE FROM audit WHERE seq = ?", seq)
        if renumber:
            yard.renumber(above=seq, by=-1)
        assert found_out(yard).context["seq"] >= seq


@tampering
@given(st.data())
def test_any_two_swapped_records_are_found(original, tmp_path, data):
    """Whichever two change places."""
    with copied(original, tmp_path / "copy") as yard:
        last = yard.log.head().seq
        one = data.draw(st.integers(1, last - 1))
        other = data.draw(st.integers(one + 1, last))
        rows = {seq: (raw, head) for seq, raw, head in yard.rows()}
        for seq, source in ((one, other), (other, one)):
            yard.tamper("UPDATE audit SET record = ?, hash = ? WHERE seq = ?", *rows[source], seq)
        assert found_out(yard).context["seq"] == one


@tampering
@given(seq=st.integers(0, 10_000), copy=st.booleans(), linked=st.booleans())
def test_any_added_record_is_found(original, tmp_path, seq, copy, linked):
    """A repeated or forged record, wherever it is put, with a right hash or not."""
    with copied(original, tmp_path / "copy") as yard:
        rows = yard.rows()
        place = seq % len(rows)
        before = rows[place - 1][2] if place else genesis(STORE_ID).head
        raw = (
            rows[place][1]
            if copy
            else encode(event(object="forged/x"), seq=place + 1, time=yard.clock.now())
        )
        head = link(before, raw) if linked else rows[place][2]
        yard.renumber(above=place, by=1)
        yard.tamper("INSERT INTO audit VALUES (?, ?, ?)", place + 1, raw, head)
        found_out(yard)


@tampering
@given(start=st.integers(1, 10_000), resign=st.booleans())
def test_any_rewritten_end_is_found(original, tmp_path, start, resign):
    """A chain computed anew from any record on does not have the heads that were signed."""
    with copied(original, tmp_path / "copy") as yard:
        rows = yard.rows()
        start = 1 + start % len(rows)
        place = Position(start - 1, rows[start - 2][2] if start > 1 else genesis(STORE_ID).head)
        with yard.database.transaction():
            for seq in range(start, len(rows) + 1):
                raw = encode(event(object="forged/x"), seq=seq, time=yard.clock.now())
                place = Position(seq, link(place.head, raw))
                yard.database.execute(
                    "UPDATE audit SET record = ?, hash = ? WHERE seq = ?", (raw, place.head, seq)
                )
        if resign:
            forger = KeySigner(type(yard.signer.key)(bytes(range(32))))
            yard.tamper("DELETE FROM checkpoint WHERE seq >= ?", start)
            forged = make_forged_checkpoint(yard, place, forger)
            yard.tamper("INSERT INTO checkpoint VALUES (?, ?, ?)", *forged)
        found_out(yard)


def make_forged_checkpoint(yard, position, signer):
    """Return a checkpoint that follows the ones there are, signed by somebody else."""
    from keyturn.audit.checkpoint import make_checkpoint

    previous = max(yard.log.checkpoints(), key=lambda c: c.seq, default=None)
    made = make_checkpoint(
        position, store_id=STORE_ID, time=yard.clock.now(), previous=previous, signer=signer
    )
    return made.seq, made.body, made.signature


@tampering
@given(place=st.integers(0, 100_000), mask=st.integers(1, 255))
def test_any_changed_byte_of_a_bundle_is_found_or_means_nothing(original, tmp_path, place, mask):
    """A changed bundle is refused, or says the same (only the date of the export may differ)."""
    with copied(original, tmp_path / "copy") as yard:
        head = yard.log.head()
        raw = b"".join(
            export_log(
                yard.database,
                yard.folder,
                store_id=STORE_ID,
                public_key=yard.signer.public,
                clock=yard.clock,
            )
        )
        options = {"public_key": yard.signer.public, "witness": head}
        sound = verify_export(io.BytesIO(raw), **options)
        try:
            found = verify_export(io.BytesIO(changed(raw, place, mask)), **options)
        except IntegrityError as error:
            assert error.hint
        else:
            assert found == sound


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_no_garbage_crashes_a_reader(raw):
    """Whatever is read as a bundle or a segment ends in a typed error."""
    from keyturn.audit.record import decode
    from keyturn.audit.segment import line_record, walk

    for read in (
        lambda: verify_export(io.BytesIO(raw)),
        lambda: walk(raw, name="x"),
        lambda: line_record(raw, str),
        lambda: decode(raw),
    ):
        with pytest.raises(IntegrityError):
            read()


@settings(max_examples=60, deadline=None)
@given(
    damage=st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 255)), min_size=1, max_size=3)
)
def test_no_damage_of_the_file_shows_wrong_records(original, tmp_path_factory, damage):
    """Bits flipped anywhere in the database file: refused, or every record is the one written."""
    root = tmp_path_factory.mktemp("damaged")
    shutil.copytree(original, root, dirs_exist_ok=True)
    with contextlib.closing(sqlite3.connect(root / "store.db")) as connection:
        before = connection.execute("SELECT seq, record FROM audit ORDER BY seq").fetchall()
    raw = (root / "store.db").read_bytes()
    for place, mask in damage:
        raw = changed(raw, place, mask)
    (root / "store.db").write_bytes(raw)
    try:
        yard = make_yard(root, create=False)
        with contextlib.closing(yard.database):
            yard.verify()
            assert before == yard.database.rows("SELECT seq, record FROM audit ORDER BY seq")
    except KeyturnError as error:
        assert error.hint
