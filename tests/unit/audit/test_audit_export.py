"""The bundle that can be verified anywhere."""

from __future__ import annotations

import io
import json
import os

import pytest

from keyturn.audit import Position, export_log, verify_export
from keyturn.errors import IntegrityError
from tests.unit.audit.auditing import STORE_ID


def bundle(yard, **more):
    """Return the bundle of everything as bytes."""
    options = {"store_id": STORE_ID, "public_key": yard.signer.public, "clock": yard.clock, **more}
    return b"".join(export_log(yard.database, yard.folder, **options))


@pytest.fixture
def full(yard):
    """A log with two segments, a sealed tail that is no text, and checkpoints."""
    yard.append(3)
    yard.segments.rotate()
    yard.append(2)
    with yard.current.open("ab") as file:
        file.write(b"\xff\xfe torn")
    yard.segments.maintain()
    yard.record(4)
    yard.log.checkpoint()
    yard.record(2)
    return yard


def refused(raw, code, **more):
    """Expect a refusal of *code* and return its context."""
    with pytest.raises(IntegrityError) as caught:
        verify_export(io.BytesIO(raw), **more)
    assert (code, True) == (caught.value.code, bool(caught.value.hint))
    return caught.value.context


def test_the_same_is_verified_here_and_there(full):
    """The bundle's report is the store's report."""
    head = full.log.head()
    options = {"public_key": full.signer.public, "witness": head}
    assert full.verify(witness=head) == verify_export(io.BytesIO(bundle(full)), **options)


def test_an_empty_log_is_nothing_checked(yard):
    """A bundle of nothing is no sound log either."""
    yard.tamper("DELETE FROM audit_pointer")
    yard.tamper("DELETE FROM audit")
    yard.current.unlink()
    yard.folder.rmdir()
    assert verify_export(io.BytesIO(bundle(yard))).nothing_checked


def test_without_a_pinned_key_the_report_says_so(full):
    """The bundle's own key shows damage, not forgery."""
    report = verify_export(io.BytesIO(bundle(full)))
    assert report.checkpoints == 1
    assert any(line.startswith("forgery:") for line in report.skipped)
    report = verify_export(io.BytesIO(bundle(full, public_key=None)))
    assert report.checkpoints == 0
    assert any(line.startswith("checkpoints:") for line in report.skipped)


def test_another_key_is_refused(full):
    """A bundle for another key than the one expected is refused."""
    refused(bundle(full), "audit.bundle", public_key=bytes(32))
    refused(bundle(full, public_key=None), "signature.invalid", public_key=bytes(32))


def test_a_witness_is_held_against_the_bundle(full):
    """A bundle of an older state is found by a head that was remembered."""
    head = full.log.head()
    refused(bundle(full), "audit.cut", witness=Position(head.seq + 1, bytes(32)))
    refused(bundle(full), "audit.replaced", witness=Position(head.seq, bytes(32)))


def test_a_torn_segment_is_not_exported(full):
    """Repair comes before export; a torn tail would make every copy look cut."""
    os.truncate(full.current, full.current.stat().st_size - 4)
    with pytest.raises(IntegrityError) as caught:
        bundle(full)
    assert caught.value.code == "audit.torn"


def test_a_record_that_is_no_text_is_named(full):
    """Bytes that JSON cannot carry are not made into something else."""
    full.tamper("UPDATE audit SET record = x'ff' WHERE seq = 2")
    with pytest.raises(IntegrityError, match="record 2"):
        bundle(full)


def test_a_broken_log_can_be_exported_as_evidence(full):
    """Export does not judge; the bundle is refused where it is verified."""
    full.tamper("DELETE FROM audit_pointer")
    full.tamper("DELETE FROM audit WHERE seq = 2")
    assert refused(bundle(full), "audit.missing")["seq"] == 2


def test_every_cut_is_found(full):
    """A bundle cut after any line, or within its last, is not complete."""
    raw = bundle(full)
    lines = raw.splitlines(keepends=True)
    for count in range(len(lines)):
        with pytest.raises(IntegrityError):
            verify_export(io.BytesIO(b"".join(lines[:count])))
    refused(raw[:-1], "audit.bundle")
    refused(raw + b"x", "audit.bundle")


def test_every_missing_or_repeated_line_is_found(full):
    """Taking out or repeating any line is found."""
    lines = bundle(full).splitlines(keepends=True)
    for place in range(len(lines)):
        for changed in (lines[:place] + lines[place + 1 :], lines[: place + 1] + lines[place:]):
            with pytest.raises(IntegrityError):
                verify_export(io.BytesIO(b"".join(changed)), public_key=full.signer.public)


@pytest.mark.parametrize(
    ("kind", "member", "value"),
    [
        ("bundle", "format", "other"),
        ("bundle", "v", 2),
        ("bundle", "store", None),
        ("bundle", "public_key", "zz"),
        ("bundle", "public_key", 7),
        ("checkpoint", "seq", "1"),
        ("checkpoint", "body", None),
        ("checkpoint", "signature", "zz"),
        ("checkpoint", "signature", None),
        ("record", "hash", "00"),
        ("record", "hash", None),
        ("record", "record", 5),
        ("segment", "segment", "1"),
        ("segment", "name", None),
        ("line", "line", None),
        ("line", "line", "a\nb"),
        ("end", "records", 0),
    ],
)
def test_a_part_in_the_wrong_form_is_refused(full, kind, member, value):
    """Every member is looked at before it is used."""
    lines = [json.loads(line) for line in bundle(full).splitlines()]
    found = next(item for item in lines if item["type"] == kind)
    found[member] = value
    raw = b"".join(json.dumps(item).encode() + b"\n" for item in lines)
    with pytest.raises(IntegrityError) as caught:
        verify_export(io.BytesIO(raw))
    assert caught.value.code.startswith(("audit.", "signature."))


@pytest.mark.parametrize("raw", [b"", b"\n", b"{}\n", b"[]\n", b"\xff\n", b"{" * 2_000_000 + b"\n"])
def test_what_is_no_bundle_is_refused(raw):
    """Anything else gives a typed error, in bounded memory."""
    refused(raw, "audit.bundle")
