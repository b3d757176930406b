"""
The ledger: which versions a place has, and which of them each stage points at; pure.

It names versions by number and holds no value, only a salted digest of each, by
which the live document tells which version it is at. What is current is therefore
never a matter of belief: the ledger is told by the live document, not the other
way round.

Format 1, as UTF-8 JSON, compressed with zlib where it is long (its first byte tells):

    {"format": 1, "salt": HEX, "secrets": {NAME: {
        "next": 4, "current": 3, "previous": 2, "pending": null,
        "versions": [[NUMBER, CREATED, ORIGIN, [FIELD, ...], TOKEN, DIGEST], ...]}}}

CREATED is RFC 3339, TOKEN the digest of the caller's token, and DIGEST is empty
where the values were destroyed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from keyturn.core.clock import parse_time, rfc3339
from keyturn.core.entropy import Entropy
from keyturn.core.ids import FieldName, SecretName, Token, is_name
from keyturn.core.model import Origin, SecretRef, SecretState, Stage, Values, Version
from keyturn.core.value import SecretValue
from keyturn.errors import Corrupt

__all__ = ["Entry", "Ledger", "Line", "decode_values", "encode_values"]

_FORMAT = 1
_LONG_BYTES = 16 * 1024
_MAX_BYTES = 64 * 1024 * 1024
_DIGEST_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Line:
    """
    One version in the ledger.

    Args:
        token: Digest of the token that it was written with.
        digest: Of its values; empty where they were destroyed.
    """

    number: int
    created_at: datetime
    origin: Origin
    fields: tuple[FieldName, ...]
    token: str
    digest: str

    @property
    def destroyed(self) -> bool:
        """Whether the values are gone."""
        return not self.digest

    def key(self, name: SecretName) -> str:
        """Return the key that the values are kept by; two writers never share one."""
        return f"{name}.{self.number}.{self.digest[:16]}"

    def version(self, ref: SecretRef, *, drifted: bool = False) -> Version:
        """Return what is known of it, as the store tells it."""
        return Version(
            ref,
            self.number,
            self.created_at,
            self.origin,
            () if self.destroyed else self.fields,
            destroyed=self.destroyed,
            drifted=drifted,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says of one secret."""

    next_number: int = 1
    current: int | None = None
    pending: int | None = None
    previous: int | None = None
    lines: tuple[Line, ...] = ()

    def state(self, ref: SecretRef) -> SecretState:
        """Return the stages as recorded; the live document may know better."""
        return SecretState(
            ref,
            current=self.current,
            pending=self.pending,
            previous=self.previous,
            next_number=self.next_number,
        )

    def at(self, state: SecretState) -> Entry:
        """Return it with the stages of *state*."""
        return replace(
            self,
            current=state.current,
            pending=state.pending,
            previous=state.previous,
            next_number=state.next_number,
        )

    def line(self, number: int) -> Line | None:
        """Return version *number*."""
        return next((line for line in self.lines if line.number == number), None)

    def by_token(self, token: str) -> Line | None:
        """Return the version that was written with *token*, which is a digest."""
        return next((line for line in self.lines if line.token == token), None)

    def candidates(self) -> list[Line]:
        """Return the versions that may be live, the likeliest first."""
        staged = [self.current, self.pending, self.previous]
        first = [line for number in staged if number for line in [self.line(number)] if line]
        rest = [line for line in reversed(self.lines) if line not in first]
        return [line for line in first + rest if not line.destroyed]

    def adding(self, line: Line, stage: Stage) -> Entry:
        """Return it with *line*, the next version, at *stage*: pending, or current."""
        added = replace(self, next_number=line.number + 1, lines=(*self.lines, line))
        if stage is Stage.PENDING:
            return replace(added, pending=line.number)
        return replace(added, previous=self.current, current=line.number)

    def destroying(self, numbers: set[int]) -> Entry:
        """Return it with the values of *numbers* gone."""
        return replace(
            self,
            lines=tuple(
                replace(line, digest="", fields=()) if line.number in numbers else line
                for line in self.lines
            ),
        )

    def surplus(self, limit: int | None) -> list[Line]:
        """Return the versions whose values are not kept any longer, under *limit*."""
        if limit is None:
            return []
        staged = {self.current, self.pending, self.previous}
        idle = [ln for ln in self.lines if ln.number not in staged and not ln.destroyed]
        return idle[: max(0, len(idle) - limit)]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is known of every secret of one place."""

    salt: bytes
    entries: Mapping[SecretName, Entry] = field(default_factory=dict)

    @staticmethod
    def new(entropy: Entropy) -> Ledger:
        """Return an empty one with a salt of its own."""
        return Ledger(entropy.random_bytes(16))

    def entry(self, name: SecretName) -> Entry:
        """Return what it says of *name*; an empty entry where it says nothing."""
        return self.entries.get(name) or Entry()

    def having(self, name: SecretName, entry: Entry) -> Ledger:
        """Return it with *entry* for *name*."""
        return replace(self, entries={**self.entries, name: entry})

    def digest(self, values: Mapping[FieldName, bytes]) -> str:
        """Return the salted digest of *values*, by which two versions are compared."""
        mac = hmac.new(self.salt, b"keyturn ledger 1", hashlib.sha256)
        for name in sorted(values):
            part = values[name]
            mac.update(b"%d %s %d " % (len(name), name.encode(), len(part)))
            mac.update(part)
        return mac.hexdigest()[:_DIGEST_CHARACTERS]

    def token(self, ref: SecretRef, token: Token) -> str:
        """Return what stands for *token* in a line of *ref*."""
        mac = hmac.new(self.salt, f"{ref} {token}".encode(), hashlib.sha256)
        return mac.hexdigest()[:_DIGEST_CHARACTERS]

    def encode(self) -> bytes:
        """Return it as bytes."""
        secrets = {name: _entry_to_json(self.entries[name]) for name in sorted(self.entries)}
        document = {"format": _FORMAT, "salt": self.salt.hex(), "secrets": secrets}
        data = json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode("ascii")
        return data if len(data) < _LONG_BYTES else zlib.compress(data, 6)

    @staticmethod
    def parse(data: bytes, *, where: str) -> Ledger:
        """
        Return what `encode` wrote.

        Args:
            where: For the message.

        Raises:
            Corrupt: It is something else, or of a newer Keyturn.
        """
        try:
            text = data if data[:1] == b"{" else _inflated(data)
            document = json.loads(text)
            if document["format"] != _FORMAT:
                raise Corrupt(
                    f"the ledger of {where} has a format that this Keyturn does not know",
                    hint="upgrade this Keyturn; nothing was changed",
                    code="store.newer",
                )
            entries = {
                _name(name): _entry_from_json(entry) for name, entry in document["secrets"].items()
            }
            return Ledger(bytes.fromhex(document["salt"]), entries)
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error, RecursionError):
            raise Corrupt(
                f"the ledger of {where} is not what Keyturn wrote",
                hint="restore it from the store's own history or a backup; nothing was changed",
            ) from None


def _inflated(data: bytes) -> bytes:
    machine = zlib.decompressobj()
    text = machine.decompress(data, _MAX_BYTES)
    if not machine.eof:
        raise ValueError("cut or too long")
    return text


def _name(text: str) -> SecretName:
    if not is_name(text):
        raise ValueError("no name")
    return SecretName(text)


def _entry_to_json(entry: Entry) -> dict[str, object]:
    return {
        "next": entry.next_number,
        "current": entry.current,
        "previous": entry.previous,
        "pending": entry.pending,
        "versions": [
            [
                line.number,
                rfc3339(line.created_at),
                str(line.origin),
                list(line.fields),
                line.token,
                line.digest,
            ]
            for line in entry.lines
        ],
    }


def _entry_from_json(found: Any) -> Entry:
    lines = tuple(
        Line(
            _number(number),
            parse_time(created),
            Origin(origin),
            tuple(FieldName(str(name)) for name in fields),
            str(token),
            str(digest),
        )
        for number, created, origin, fields, token, digest in found["versions"]
    )
    known = {line.number for line in lines}
    stages = {name: found[name] for name in ("current", "pending", "previous")}
    next_number = _number(found["next"])
    if any(number is not None and number not in known for number in stages.values()):
        raise ValueError("a stage points nowhere")
    if any(number >= next_number for number in known) or len(known) != len(lines):
        raise ValueError("numbers are not in order")
    return Entry(next_number, stages["current"], stages["pending"], stages["previous"], lines)


def _number(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ValueError("no version number")
    return found


def encode_values(values: Values) -> bytes:
    """Return *values* as the document that is kept aside."""
    fields = {name: base64.b64encode(values[name].reveal()).decode() for name in sorted(values)}
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def decode_values(data: bytes) -> Values:
    """
    Return what `encode_values` wrote.

    Raises:
        ValueError: It is something else.
    """
    found = json.loads(data)
    return {
        FieldName(name): SecretValue(base64.b64decode(text, validate=True))
        for name, text in found.items()
    }
