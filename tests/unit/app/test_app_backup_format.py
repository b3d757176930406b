"""What stands in a backup: it comes back as it was, or it is said where it does not hold."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.app.backup_format import (
    AuditEnd,
    BackupWriter,
    Damaged,
    Head,
    Held,
    LogLine,
    Part,
    check_signature,
)
from keyturn.app.backup_reader import BackupReader
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import History, Origin, SecretRef, SecretState, Version
from keyturn.core.value import SecretValue
from keyturn.crypto import new_signing_key, public_key, sign
from keyturn.errors import Conflict, Corrupt, IntegrityError

KEY = new_signing_key(SystemEntropy())
BEGAN = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
PARTS = (
    Part("local", "production", in_use=True),
    Part("team", "production", in_use=False),
)


def history_of(name, contents, *, environment="production", pending=False):
    """Return a history whose versions have *contents*, None for one that is destroyed."""
    ref = SecretRef(EnvironmentName(environment), SecretName(name))
    pairs = []
    for number, content in enumerate(contents, 1):
        values = content and {FieldName(f): SecretValue(v) for f, v in content.items()}
        version = Version(
            ref=ref,
            number=number,
            created_at=BEGAN + timedelta(hours=number),
            origin=Origin.ROTATED,
            fields=tuple(sorted(values or {})),
            destroyed=values is None,
        )
        pairs.append((version, values))
    held = [version.number for version, values in pairs if values is not None]
    current = held[-1] if held else None
    previous = held[-2] if len(held) > 1 else None
    state = SecretState(ref, current, current if pending else None, previous, len(pairs) + 1)
    return History(state, tuple(pairs))


def lines_of(parts, *, log=(), key=KEY):
    """Return the lines of a backup of *parts*: each with its histories."""
    head = Head(keyturn="0", store="s" * 32, project="clipper", time="2026", digest_key=b"k" * 32)
    writer = BackupWriter(head, sign=lambda message: sign(key, message))
    lines = [
        writer.head(),
        writer.manifest(b"[project]\n"),
        writer.audit(AuditEnd(seq=3, head="aa", public_key=public_key(key).hex())),
    ]
    for part, histories in parts:
        lines.append(writer.part(part))
        for each in histories:
            lines += writer.secret(each, drifted=False, rotating=False)
    lines.append(writer.damaged(SecretName("broken"), "store.corrupt"))
    lines += map(writer.log, log)
    return [*lines, writer.end()]


def read(data, *, step=None):
    """Return the items of *data*, fed in pieces of *step*."""
    items = []
    reader = BackupReader(items.append, what="`x`")
    for start in range(0, len(data), step or len(data) or 1):
        reader.feed(data[start : start + (step or len(data))])
    return items, reader.finish()


CONTENTS = st.lists(
    st.none()
    | st.dictionaries(st.sampled_from(["value", "a_b", "z9"]), st.binary(max_size=50), min_size=1),
    max_size=5,
)


@settings(max_examples=80, deadline=None)
@given(
    contents=st.lists(CONTENTS, max_size=4),
    step=st.sampled_from([1, 7, 100, 8192]),
    pending=st.booleans(),
)
def test_every_history_comes_back(contents, step, pending):
    """Numbers, times, origins, stages, what is destroyed and every byte, however it is cut."""
    histories = [
        history_of(f"s{number}", each, pending=pending) for number, each in enumerate(contents)
    ]
    data = b"".join(lines_of(zip(PARTS, (histories, histories[:1]), strict=True)))
    items, end = read(data, step=step)
    held = [item for item in items if isinstance(item, Held)]
    assert [*histories, *histories[:1]] == [item.history for item in held]
    assert [0] * len(histories) + [1] * len(histories[:1]) == [PARTS.index(i.part) for i in held]
    assert end.counts.secrets == len(held)
    assert end.counts.damaged == sum(isinstance(item, Damaged) for item in items) == 1
    check_signature(end, public_key(KEY))


@pytest.fixture(scope="module")
def lines():
    """A small backup, as lines."""
    one = history_of("one", [{"value": b"first-canary"}, None, {"value": b"third-canary"}])
    two = history_of("two", [{"a": b"x-canary", "b": b"y-canary"}])
    return lines_of([(PARTS[0], [one, two])], log=[b'{"a":1}\n', b'{"b":2}\n'])


def test_no_line_can_be_left_out_moved_or_said_twice(lines):
    """Wherever it stands."""
    wrong = [[*lines[:at], *lines[at + 1 :]] for at in range(len(lines))]
    wrong += [[*lines[:at], lines[at], *lines[at:]] for at in range(len(lines))]
    wrong += [
        [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]] for at in range(len(lines) - 1)
    ]
    for each in wrong:
        with pytest.raises(Corrupt) as caught:
            read(b"".join(each))
        assert caught.value.code == "backup.corrupt"
        assert "canary" not in caught.value.message


def test_no_byte_can_be_changed(lines):
    """Of any line; the message names the line and quotes nothing."""
    data = b"".join(lines)
    signed = data.index(b'"signature"', data.index(b'"type":"end"'))
    for at in itertools.chain(range(0, signed, 7), [len(data) - 1]):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises((Corrupt, Conflict)) as caught:
            read(bytes(changed))
        assert "canary" not in caught.value.message


@pytest.mark.parametrize("cut", [0, 1, 5, -1])
def test_a_cut_is_noticed(lines, cut):
    """Even where a line ends."""
    for data in (b"".join(lines[:cut]), b"".join(lines)[:cut]):
        with pytest.raises(Corrupt):
            read(data)


def test_a_secret_that_does_not_hold_is_not_handed_on(lines):
    """Before its digests were compared nobody has seen it."""
    at = next(n for n, line in enumerate(lines) if b'"type":"value"' in line)
    other = msgspec.json.decode(lines[at])
    other["value"] = "AAAA"
    changed = [*lines[:at], msgspec.json.encode(other) + b"\n", *lines[at + 1 :]]
    items = []
    reader = BackupReader(items.append, what="`x`")
    with pytest.raises(Corrupt, match="`production/one` is not what was written"):
        reader.feed(b"".join(changed))
    assert not any(isinstance(item, Held) for item in items)


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (b'{"type":"backup","format":"keyturn-backup","v":2,"more":true}\n', Conflict),
        (b'{"type":"backup","format":"other","v":1}\n', Corrupt),
        (b'{"format":"keyturn-backup","v":1}\n', Corrupt),
        (b"PK\x03\x04\n", Corrupt),
        (b"[" * 100_000 + b"\n", Corrupt),
        (b"x" * (33 * 1024 * 1024), Corrupt),
    ],
)
def test_what_is_another_format(first, error):
    """A newer one is told apart from what is none."""
    reader = BackupReader(lambda _: None, what="`x`")
    with pytest.raises(error) as caught:
        reader.feed(first)
    assert caught.value.code == ("backup.newer" if error is Conflict else "backup.corrupt")


def test_another_signer_is_noticed(lines):
    """Whoever knows the recipients can write a file, and cannot sign it."""
    _, end = read(b"".join(lines))
    with pytest.raises(IntegrityError):
        check_signature(end, public_key(new_signing_key(SystemEntropy())))
    with pytest.raises(IntegrityError):
        check_signature(msgspec.structs.replace(end, signature="zz"), public_key(KEY))


def test_the_log_comes_back_line_by_line(lines):
    """As an audit bundle has them."""
    items, _ = read(b"".join(lines))
    assert ['{"a":1}', '{"b":2}'] == [i.line for i in items if isinstance(i, LogLine)]


def test_nothing_shows_a_value_by_accident(lines):
    """Neither an item nor the line behind it."""
    items, _ = read(b"".join(lines))
    assert "canary" not in repr(items)
    assert repr(b"k" * 32) not in repr(items)
