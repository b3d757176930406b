"""
The hash chain: each record's hash covers its bytes and the hash before it.

    hash(0) = SHA-256("keyturn audit chain 1" NUL store-id)
    hash(n) = SHA-256(hash(n-1) || bytes of record n)

Whoever can write the database can compute a whole new chain. What shows that are
the signed checkpoints, and a head remembered elsewhere; what the chain itself
shows is any change that does not reach up to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NoReturn

from keyturn.errors import IntegrityError

__all__ = ["HASH_BYTES", "Position", "Row", "genesis", "link", "verify_rows"]

HASH_BYTES = 32
_DOMAIN = b"keyturn audit chain 1\0"
_PREFIX = b'{"v":1,"seq":%d,'
# `"time":"2026-01-02T03:04:05.000006Z",` stands between the number and the action.
_TIME_BYTES = 37
_MAX_DIGITS = 18

# seq, the record's bytes, its hash: as they are stored.
Row = tuple[int, bytes, bytes]

_HINT = "keep the file as evidence and compare with an exported copy or a backup"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a chain goes: the number of its last record, and that record's hash."""

    seq: int
    head: bytes


def genesis(store_id: str) -> Position:
    """Return where the chain of the store *store_id* starts."""
    return Position(0, sha256(_DOMAIN + store_id.encode("utf-8")).digest())


def link(previous: bytes, record: bytes) -> bytes:
    """Return the hash of *record* after the hash *previous*."""
    return sha256(previous + record).digest()


def verify_rows(
    batches: Iterable[Sequence[Row]],
    *,
    start: Position,
    watch: bytes | None = None,
    found: Callable[[int, bytes], None] | None = None,
) -> Position:
    """
    Check every link and number, and return where the chain ends.

    Works a batch at a time, because the checks of a whole batch cost a third of the
    same checks one by one. Each record is checked against the *stored* hash before
    it, which has itself been checked.

    Args:
        batches: The rows in order, in lists of any size.
        start: Where they must join on.
        watch: The first bytes of an `action`, quote included, that *found* wants.
        found: Called with number and bytes of each such record, once its batch holds.

    Raises:
        IntegrityError: `seq` in the context names the first bad place.
    """
    expected, previous = start.seq + 1, start.head
    source = iter(batches)
    for batch in source:
        if not batch:
            continue
        numbers, records, hashes = zip(*batch, strict=True)
        end = expected + len(batch)
        sound = numbers == tuple(range(expected, end))
        sound = sound and all(map(bytes.startswith, records, map(_PREFIX.__mod__, numbers)))
        pairs = zip((previous, *hashes[:-1]), records, strict=True)
        sound = sound and hashes == tuple([sha256(p + r).digest() for p, r in pairs])
        if not sound:
            _explain([*batch, *next(source, ())], expected, previous)
        if watch is not None and found is not None:
            for number, record in _watched(numbers, records, watch):
                found(number, record)
        expected, previous = end, hashes[-1]
    return Position(expected - 1, previous)


def _watched(
    numbers: Sequence[int], records: Sequence[bytes], watch: bytes
) -> Iterator[tuple[int, bytes]]:
    # The action stands at one offset for all numbers of one length, and comparing
    # a slice costs a third of a search.
    first, last = (len(_PREFIX % number) for number in (numbers[0], numbers[-1]))
    if first != last:
        return iter([(n, r) for n, r in zip(numbers, records, strict=True) if watch in r])
    low = first + _TIME_BYTES + len(b'"action":')
    high = low + len(watch)
    places = [i for i, record in enumerate(records) if record[low:high] == watch]
    return iter([(numbers[i], records[i]) for i in places])


def _explain(rows: Sequence[Row], expected: int, previous: bytes) -> NoReturn:
    """Raise for the first bad row of *rows*, which has one, saying what is wrong with it."""
    for index, (number, record, stored) in enumerate(rows):
        following = rows[index + 1] if index + 1 < len(rows) else None
        if number != expected:
            raise _misnumbered(number, expected)
        inner = _inner_number(record)
        if inner != expected:
            raise _misplaced(inner, expected, following)
        computed = link(previous, record)
        if computed != stored:
            raise _unlinked(expected, computed, stored, following)
        expected, previous = expected + 1, stored
    raise IntegrityError("the audit chain is damaged", hint=_HINT, code="audit.changed")


def _misnumbered(number: int, expected: int) -> IntegrityError:
    if number > expected:
        return broken("missing", expected, f"{_span(expected, number - 1)} missing")
    return broken("reordered", expected, f"record {number} stands where {expected} belongs")


def _misplaced(inner: int | None, expected: int, following: Row | None) -> IntegrityError:
    if inner is None:
        return broken("changed", expected, f"record {expected} was changed: it has no number")
    if inner < expected:
        what = f"record {expected} calls itself {inner}: one was inserted or repeated"
        return broken("inserted", expected, what)
    if following is not None and _inner_number(following[1]) == expected:
        return broken("reordered", expected, f"records {expected} and {inner} changed places")
    return broken(
        "missing", expected, f"{_span(expected, inner - 1)} missing, and the rest moved up"
    )


def _unlinked(
    expected: int, computed: bytes, stored: bytes, following: Row | None
) -> IntegrityError:
    if following is not None and link(computed, following[1]) == following[2]:
        return broken("hash", expected, f"the hash of record {expected} was changed")
    if following is None or link(stored, following[1]) == following[2]:
        return broken("changed", expected, f"record {expected} or its hash was changed")
    what = f"record {expected} was changed, or does not follow the one before it"
    return broken("changed", expected, what)


def broken(kind: str, seq: int, what: str) -> IntegrityError:
    """Return the error that names record *seq* as the first bad place."""
    return IntegrityError(
        f"the audit chain is broken at record {seq}: {what}",
        hint=_HINT,
        code=f"audit.{kind}",
        context={"seq": seq},
    )


def _span(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"


def _inner_number(record: bytes) -> int | None:
    head, _, rest = record.partition(b'"seq":')
    digits = rest.partition(b",")[0]
    if head != b'{"v":1,' or not digits.isdigit() or len(digits) > _MAX_DIGITS:
        return None
    return int(digits)
