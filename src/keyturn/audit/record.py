r"""
One audit record: its canonical bytes, and the way back.

    {"v":1,"seq":N,"time":"2026-01-02T03:04:05.000006Z","action":"...","object":"...",
     "outcome":"...","actor":{"name":"...","kind":"..."},"source":{...},"detail":{...}}

is one line of JSON in this order, without spaces; `reason`, `settles` and what
else is empty is left out. These bytes are what the chain hashes and what is
stored. They are never made again from a parsed record, so no parser's habits can
break the chain. The time always has the same width, which `chain` relies on.

Text from outside is made safe to print here, once: every character that does
not print (controls, direction marks, lone surrogates) becomes `\u{hex}`, and what
is longer than its bound is cut with a mark that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from keyturn.audit.events import Event, Outcome
from keyturn.audit.parsing import parsed
from keyturn.core.clock import parse_time, rfc3339
from keyturn.core.model import Principal
from keyturn.errors import IntegrityError, InternalError

__all__ = ["MAX_RECORD_BYTES", "Actor", "Record", "decode", "encode", "visible"]

FORMAT = 1
MAX_RECORD_BYTES = 65_536
_MAX_ENTRIES = 32
_KEY_CHARACTERS = 64
_NAME_CHARACTERS = 256
_OBJECT_CHARACTERS = 512
_REASON_CHARACTERS = 1_024
_DETAIL_CHARACTERS = 8_192
# With this bound a record of 32 details stays below MAX_RECORD_BYTES whatever they hold.
_TIGHT_CHARACTERS = 256
_MAX_INTEGER = 2**63 - 1


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who acted, as the record holds it."""

    name: str
    kind: str
    uid: int | None = None


class Record(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    One record, as read back.

    Args:
        seq: Its place in its own log, from 1.
        action: A text, so that a record of a newer Keyturn can be shown too.
        settles: The `seq` of the `begun` record whose outcome this is.
    """

    v: int
    seq: int
    time: str
    action: str
    object: str
    outcome: Outcome
    actor: Actor
    reason: str | None = None
    source: dict[str, str | int] = {}
    detail: dict[str, str | int] = {}
    settles: int | None = None

    @property
    def moment(self) -> datetime:
        """The time of the record."""
        return parse_time(self.time)


def build(event: Event, *, seq: int, time: datetime) -> tuple[Record, bytes]:
    """
    Return the record of *event* at place *seq*, and its canonical bytes.

    Raises:
        InternalError: The event holds something that is not a name or a number,
            or far too many entries.
    """
    record = _record(event, seq=seq, time=time, detail_characters=_DETAIL_CHARACTERS)
    raw = msgspec.json.encode(record)
    if len(raw) > MAX_RECORD_BYTES:
        record = _record(event, seq=seq, time=time, detail_characters=_TIGHT_CHARACTERS)
        raw = msgspec.json.encode(record)
    return record, raw


def encode(event: Event, *, seq: int, time: datetime) -> bytes:
    """Return the canonical bytes of *event* at place *seq*; raises as `build` does."""
    return build(event, seq=seq, time=time)[1]


def decode(raw: bytes) -> Record:
    """
    Return the record that *raw* holds.

    Raises:
        IntegrityError: It is not a record, or one of a newer format.
    """
    try:
        record = parsed(raw, Record)
    except ValueError as error:
        raise IntegrityError(
            f"an audit record cannot be read: {error}",
            hint="run `keyturn audit verify` to find the first bad place",
            code="audit.unreadable",
        ) from error
    if record.v != FORMAT:
        raise IntegrityError(
            f"audit record {record.seq} has format {record.v}, and this Keyturn knows {FORMAT}",
            hint="read it with the Keyturn that wrote it, or a newer one",
            code="audit.newer",
        )
    return record


def visible(text: str, limit: int) -> str:
    """Return *text* in printable characters, at most *limit* and a mark where it was cut."""
    if len(text) <= limit and text.isprintable():
        return text
    shown = text[:limit]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in shown)[:limit]
    if len(text) > limit:
        shown += f"…[cut, {len(text)} characters]"
    return shown


def facts(
    found: Mapping[str, object], *, what: str, limit: int = _DETAIL_CHARACTERS
) -> dict[str, str | int]:
    """
    Return *found* as names and numbers fit to be recorded.

    Raises:
        InternalError: An entry is anything else (a value, say), or there are too many.
    """
    if len(found) > _MAX_ENTRIES:
        raise InternalError(f"an audit event has {len(found)} entries in its {what}")
    return {
        visible(_text(key, "a key", of=what), _KEY_CHARACTERS): _fact(value, key, what, limit)
        for key, value in found.items()
    }


def _fact(value: object, key: str, what: str, limit: int) -> str | int:
    if isinstance(value, int):
        # A flag is stored as the number it is; JSON's `true` would not read back.
        return _integer(int(value), key, of=what)
    return visible(_text(value, key, of=what), limit)


def _record(event: Event, *, seq: int, time: datetime, detail_characters: int) -> Record:
    reason = event.reason
    return Record(
        v=FORMAT,
        seq=seq,
        time=rfc3339(time),
        action=str(event.action),
        object=visible(_text(event.object, "object"), _OBJECT_CHARACTERS),
        outcome=Outcome(event.outcome),
        actor=_actor(event.actor),
        reason=None if reason is None else visible(_text(reason, "reason"), _REASON_CHARACTERS),
        source=facts(event.source, what="source", limit=_NAME_CHARACTERS),
        detail=facts(event.detail, what="detail", limit=detail_characters),
        settles=event.settles,
    )


def _actor(principal: Principal) -> Actor:
    return Actor(
        name=visible(_text(principal.name, "actor"), _NAME_CHARACTERS),
        kind=visible(_text(principal.kind, "actor"), _NAME_CHARACTERS),
        uid=principal.uid,
    )


def _text(value: object, what: str, *, of: str = "record") -> str:
    # Checked at run time too: a SecretValue that slipped past the type checker
    # would be masked by `str`, and the record would lie about what it holds.
    if not isinstance(value, str):
        raise InternalError(f"an audit event holds a {type(value).__name__} as {what} of its {of}")
    return str(value)


def _integer(value: int, what: str, *, of: str) -> int:
    if not -_MAX_INTEGER <= value <= _MAX_INTEGER:
        raise InternalError(f"an audit event holds a number beyond 64 bits as {what} of its {of}")
    return value


def as_json(record: Record) -> dict[str, Any]:
    """Return *record* as plain dicts, for `--json`."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found
