"""
A segment of the read log: its format, and how to tell that nothing was changed in it.

The fast path cannot afford to open a database, so it appends a line to a file:

    <hash 0> {"v":1,"n":0,"format":"keyturn-audit-segment","store":"...","segment":N,
              "main_seq":N,"main_head":"64 hex","previous":"64 hex" or null,"time":"..."}
    <hash 1> {"v":1,"n":1,"time":"...","uid":N,"pid":N,"action":"...","object":"...",...}
    ...

Each line is 64 hexadecimal digits, a space, one JSON object, a newline, and

    hash 0 = SHA-256("keyturn audit segment 1" NUL || body 0)
    hash n = SHA-256(hash n-1 || body n)

The header says where the main chain stood when the segment was started and how
the segment before it ended. The main chain's *anchors* say which hash a segment
had at which line, so that a cut, lost, forged or replaced segment is found.

A process that dies in the middle of an append leaves a torn tail. Its bytes are
kept. A newline and a repair line close it off:

    <hash n> {"v":1,"n":n,"time":"...","action":"audit.segment.repair","object":"segment/N",
              "torn_bytes":N,"torn_sha256":"64 hex"}

The repair line follows the last good line in the chain; `torn_bytes` counts what
stands between the two, without the newline before the repair line. A line that
is whole and lacks only its newline is good.

Members of a line: `v n time action object` always; `outcome` (default `done`: the
line is durable before the value leaves), `uid`, `reason`; `pid host tty session
interface` tell where from; all others are details.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec

from keyturn.audit.events import Outcome
from keyturn.audit.parsing import parsed
from keyturn.audit.record import Actor, Record, facts, visible
from keyturn.core.clock import rfc3339
from keyturn.errors import IntegrityError, InternalError

__all__ = [
    "Header",
    "Walk",
    "anchor_detail",
    "broken",
    "damaged",
    "header_line",
    "line_record",
    "repair_line",
    "walk",
]

FORMAT = "keyturn-audit-segment"
_DOMAIN = b"keyturn audit segment 1\0"
_REPAIR_MARK = b'"action":"audit.segment.repair"'
_HASH_DIGITS = 64
_SOURCES = ("pid", "host", "tty", "session", "interface")
_OWN = frozenset({"v", "n", "time", "action", "object", "outcome", "uid", "reason", *_SOURCES})
HINT = "keep the file as evidence and compare with an exported copy or a backup"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a segment, in the order of its bytes."""

    v: int
    n: int
    format: str
    store: str
    segment: int
    main_seq: int
    main_head: str
    previous: str | None
    time: str


class _Repair(msgspec.Struct, frozen=True, kw_only=True):
    v: int
    n: int
    time: str
    action: str
    object: str
    torn_bytes: int
    torn_sha256: str


@dataclass(frozen=True, slots=True)
class Walk:
    """
    What was found in a segment.

    Args:
        bodies: The JSON of each good line, from line 0.
        heads: The hash of each good line, from line 0.
        sealed: How many torn tails were sealed off.
        rest: What stands after the last good line and belongs to nothing; empty
            in a segment that is in order.
        ended: The last good line has its newline, or something stands after it.
    """

    header: Header
    bodies: list[bytes]
    heads: list[bytes]
    sealed: int
    rest: bytes
    ended: bool

    @property
    def lines(self) -> int:
        """The number of the last good line."""
        return len(self.heads) - 1

    @property
    def head(self) -> bytes:
        """The hash of the last good line."""
        return self.heads[-1]

    @property
    def torn(self) -> bool:
        """
        Whether the tail looks like an append that never ended.

        It does not where a whole line stands in it: an append writes a whole line
        only with the right hash, so that line was put there or changed.
        """
        whole = self.rest.split(b"\n")[:-1]
        return (bool(self.rest) or not self.ended) and not any(map(_is_whole, whole))


def header_line(
    *,
    store_id: str,
    segment: int,
    main_seq: int,
    main_head: bytes,
    previous: bytes | None,
    time: datetime,
) -> tuple[bytes, bytes]:
    """Return the first line of a segment, newline included, and its hash."""
    body = msgspec.json.encode(
        Header(
            v=1,
            n=0,
            format=FORMAT,
            store=store_id,
            segment=segment,
            main_seq=main_seq,
            main_head=main_head.hex(),
            previous=None if previous is None else previous.hex(),
            time=rfc3339(time),
        )
    )
    return _line(_DOMAIN, body)


def repair_line(found: Walk, *, time: datetime) -> tuple[bytes, dict[str, str | int]]:
    """Return what seals the torn tail of *found*, and the detail of the record that says so."""
    torn = found.rest.removesuffix(b"\n")
    repair = _Repair(
        v=1,
        n=found.lines + 1,
        time=rfc3339(time),
        action="audit.segment.repair",
        object=f"segment/{found.header.segment}",
        torn_bytes=len(torn),
        torn_sha256=sha256(torn).hexdigest(),
    )
    line, head = _line(found.head, msgspec.json.encode(repair))
    detail = anchor_detail(
        found.header.segment,
        repair.n,
        head,
        torn_bytes=repair.torn_bytes,
        torn_sha256=repair.torn_sha256,
    )
    return (line if found.rest.endswith(b"\n") else b"\n" + line), detail


def _line(previous: bytes, body: bytes) -> tuple[bytes, bytes]:
    head = sha256(previous + body).digest()
    return head.hex().encode("ascii") + b" " + body + b"\n", head


def walk(data: bytes, *, name: str) -> Walk:
    """
    Follow the chain through *data* as far as it holds.

    Args:
        name: Names the file in an error.

    Raises:
        IntegrityError: The first line is not a segment's header.
    """
    lines = data.split(b"\n")
    unended = lines.pop()
    header, first = _read_header(lines, name)
    bodies, heads, sealed = [first[_HASH_DIGITS + 1 :]], [_digest_of(first)], 0
    rest: list[bytes] = []
    for line in (*lines[1:], *filter(None, (unended,))):
        body = _linked(line, heads)
        if body is not None and _joins(body, rest):
            sealed += bool(rest)
            rest = []
            bodies.append(body)
            heads.append(_digest_of(line))
        else:
            rest.append(line)
    tail = b"\n".join(rest) + (b"\n" if rest and not unended else b"")
    return Walk(header, bodies, heads, sealed, tail, ended=bool(rest) or not unended)


def _read_header(lines: list[bytes], name: str) -> tuple[Header, bytes]:
    first = lines[0] if lines else b""
    body = first[_HASH_DIGITS + 1 :]
    try:
        header = parsed(body, Header)
    except ValueError as error:
        raise broken(name, 0, "its first line is not a header", "header") from error
    if header.v != 1 or header.n != 0 or header.format != FORMAT:
        raise broken(name, 0, "its format is not known; a newer Keyturn may know it", "newer")
    if _line(_DOMAIN, body)[0] != first + b"\n":
        raise broken(name, 0, "its header was changed", "header")
    return header, first


def _linked(line: bytes, heads: list[bytes]) -> bytes | None:
    body = line[_HASH_DIGITS + 1 :]
    expected = sha256(heads[-1] + body).hexdigest().encode("ascii") + b" "
    if line[: _HASH_DIGITS + 1] != expected or not body.startswith(b'{"v":1,"n":%d,' % len(heads)):
        return None
    return body


def _joins(body: bytes, rest: list[bytes]) -> bool:
    # A repair line must account for exactly the bytes before it; no other line may follow any.
    if _REPAIR_MARK not in body:
        return not rest
    try:
        repair = parsed(body, _Repair)
    except ValueError:
        return False
    torn = b"\n".join(rest)
    return repair.torn_bytes == len(torn) and repair.torn_sha256 == sha256(torn).hexdigest()


def _digest_of(line: bytes) -> bytes:
    return bytes.fromhex(line[:_HASH_DIGITS].decode("ascii"))


def _is_whole(line: bytes) -> bool:
    try:
        bytes.fromhex(line[:_HASH_DIGITS].decode("ascii"))
        parsed(line[_HASH_DIGITS + 1 :], dict[str, Any])
    except ValueError:
        return False
    return True


def damaged(name: str, found: Walk) -> IntegrityError:
    """Return the error that says what is wrong with what stands after the good lines of *found*."""
    if not found.rest:
        return broken(name, found.lines, "its last line lacks an end", "torn")
    expected = found.lines + 1
    if found.torn:
        what = "its tail is torn and not yet sealed off"
        return broken(name, expected, what, "torn")
    first, *others = found.rest.split(b"\n")
    number = _number(first)
    if number is None or number == expected:
        return broken(name, expected, f"line {expected} was changed", "changed")
    if number < expected:
        what = f"line {expected} calls itself {number}: one was inserted or repeated"
        return broken(name, expected, what, "inserted")
    if others and _number(others[0]) == expected:
        what = f"lines {expected} and {number} changed places"
        return broken(name, expected, what, "reordered")
    return broken(name, expected, f"lines {expected} to {number - 1} are missing", "missing")


def _number(line: bytes) -> int | None:
    try:
        number = parsed(line[_HASH_DIGITS + 1 :], dict[str, Any]).get("n")
    except ValueError:
        return None
    return number if isinstance(number, int) else None


def broken(name: str, line: int, what: str, kind: str) -> IntegrityError:
    """Return the error that names *line* of the file *name* as the first bad place."""
    return IntegrityError(
        f"the read log `{name}` is broken at line {line}: {what}",
        hint=HINT,
        code=f"audit.{kind}",
        context={"file": name, "line": line},
    )


def line_record(body: bytes, user_name: Callable[[int], str]) -> Record:
    """
    Return what the line *body* says, in the form of a record; its `seq` is the line's number.

    Raises:
        IntegrityError: It cannot be read.
    """
    try:
        return _as_record(parsed(body, dict[str, Any]), user_name)
    except (KeyError, ValueError, TypeError, InternalError) as error:
        raise IntegrityError(
            "a line of the read log cannot be read",
            hint="run `keyturn audit verify` to find the first bad place",
            code="audit.unreadable",
        ) from error


def _as_record(found: Mapping[str, Any], user_name: Callable[[int], str]) -> Record:
    uid = found.get("uid")
    reason = found.get("reason")
    who = Actor("keyturn", "program") if uid is None else Actor(user_name(uid), "local", uid)
    others = {key: value for key, value in found.items() if key not in _OWN}
    return Record(
        v=found["v"],
        seq=found["n"],
        time=str(found["time"]),
        action=visible(found["action"], 64),
        object=visible(found["object"], 512),
        outcome=Outcome(found.get("outcome", "done")),
        actor=who,
        reason=None if reason is None else visible(reason, 1024),
        source=facts({key: found[key] for key in _SOURCES if key in found}, what="source"),
        detail=facts(others, what="detail"),
    )


def anchor_detail(segment: int, lines: int, head: bytes, **more: str | int) -> dict[str, str | int]:
    """Return the detail of a record that anchors *segment* at line *lines*."""
    return {"segment": segment, "lines": lines, "head": head.hex(), **more}
