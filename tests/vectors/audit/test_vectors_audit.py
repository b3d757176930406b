"""A log that was written once still verifies, bit for bit, and new ones are written the same way."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from keyturn import _fastaudit
from keyturn._internal.database import Database
from keyturn.audit import read_all, verify_export, verify_log
from keyturn.audit.chain import genesis, link, verify_rows
from keyturn.audit.checkpoint import Checkpoint, CheckpointVerifier
from keyturn.audit.log import AuditLog
from keyturn.audit.record import decode
from keyturn.audit.segment import walk
from keyturn.testing.clock import FakeClock

HERE = Path(__file__).parent


@pytest.fixture
def chain():
    """The frozen chain."""
    return json.loads((HERE / "chain-1.json").read_text(encoding="utf-8"))


def put(path, vector):
    """Copy *vector* to *path*, kept as Keyturn keeps a segment, whatever the umask."""
    path.touch(mode=0o600)
    path.write_bytes(vector.read_bytes())


def rows(chain):
    return [
        (seq, item["record"].encode(), bytes.fromhex(item["hash"]))
        for seq, item in enumerate(chain["records"], 1)
    ]


def test_chain_1_verifies(chain):
    """Records of format 1, their hashes, and the start that depends on the store."""
    found = rows(chain)
    end = verify_rows([found], start=genesis(chain["store_id"]))
    assert (end.seq, end.head) == (len(found), found[-1][2])
    assert link(genesis(chain["store_id"]).head, found[0][1]) == found[0][2]


def test_records_1_read(chain):
    """Each record says what it said when it was written."""
    found = [decode(raw) for _, raw, _ in rows(chain)]
    assert ["denied", "begun", "done", "failed", "unknown"] == [r.outcome for r in found[1:6]]
    assert (found[3].settles, found[3].reason) == (3, "quarterly \\u{1b} rotation")
    assert (found[1].detail["version"], found[1].actor.uid) == (3, 1000)


def test_checkpoints_1_verify(chain):
    """Checkpoints of format 1 and their signatures."""
    found = {seq: head for seq, _, head in rows(chain)}
    verifier = CheckpointVerifier(
        store_id=chain["store_id"],
        public_key=bytes.fromhex(chain["public_key"]),
        head_at=found.get,
    )
    verifier.check_all(
        Checkpoint(c["seq"], c["body"].encode(), bytes.fromhex(c["signature"]))
        for c in chain["checkpoints"]
    )
    assert (2, len(found)) == (verifier.count, verifier.signed_up_to)


def test_segments_1_verify_with_their_chain(chain, tmp_path):
    """Segments of format 1: header, lines, a sealed tail, and their anchors in the chain."""
    put(tmp_path / "reads-000001.log", HERE / "segment-1-closed.txt")
    put(tmp_path / "reads.log", HERE / "segment-1-current.txt")
    with Database.open(tmp_path / "store.db", create=True) as database:
        with database.transaction():
            database.execute_many("INSERT INTO audit VALUES (?, ?, ?)", rows(chain))
        report = verify_log(
            database, tmp_path, store_id=chain["store_id"], public_key=None
        ).read_log
        assert (2, 4, 1, 0) == (report.segments, report.lines, report.sealed, report.unanchored)
        log = AuditLog(database, clock=FakeClock(), store_id=chain["store_id"])
        shown = [e.record for e in read_all(log, tmp_path, newest_first=False) if e.log != "main"]
    assert ["production", "staging", "segment/2", "production"] == [r.object for r in shown]


def test_a_segment_of_format_1_is_still_appended_to(tmp_path):
    """The fast path takes an old segment as its own."""
    path = tmp_path / "reads.log"
    put(path, HERE / "segment-1-current.txt")
    before = walk(path.read_bytes(), name="x").lines
    _fastaudit.append(str(path), b'"time":"t","action":"a","object":"o"')
    found = walk(path.read_bytes(), name="x")
    assert (before + 1, b"") == (found.lines, found.rest)


def test_bundle_1_verifies(chain):
    """A bundle of format 1 verifies with the pinned key, offline."""
    raw = (HERE / "bundle-1.jsonl").read_bytes()
    report = verify_export(io.BytesIO(raw), public_key=bytes.fromhex(chain["public_key"]))
    assert (len(chain["records"]), 2, 2, 4) == (
        report.records,
        report.checkpoints,
        report.read_log.segments,
        report.read_log.lines,
    )


def test_what_is_written_today_is_format_1(tmp_path):
    """The same events at the same times give the same bytes as on the day the format was frozen."""
    from tests.vectors.audit import make_vectors

    for name, content in make_vectors.write(tmp_path).items():
        assert (HERE / name).read_bytes() == content
