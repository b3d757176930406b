"""
What stands in a backup, under the age encryption: lines of JSON, in this order.

    {"type":"backup","format":"keyturn-backup","v":1,"keyturn":"...","store":"...",
     "project":"...","time":"...","digest_key":"base64"}
    {"type":"manifest","text":"...","sha256":"hex"}
    {"type":"audit","seq":N,"head":"hex","public_key":"hex","checkpoint":"..." or null,
     "signature":"hex" or null}                     the audit log's end, and what signs it
    {"type":"part","store":"...","environment":"...","in_use":true}   each store's part, and
    {"type":"secret","name":"...","current":N,"pending":N,"previous":N,"next_number":N,
     "drifted":false,"rotating":false}              each secret of it, and
    {"type":"version","number":N,"created_at":"...","origin":"...","fields":[...],
     "digests":{"FIELD":"hex"} or null}             each version, null where it is destroyed, and
    {"type":"value","field":"...","value":"base64"} each of its fields
    {"type":"damaged","name":"...","code":"..."}    a secret that could not be read
    {"type":"log","line":"..."}                     each line of an audit bundle, if asked for
    {"type":"end","counts":{"parts":N,"secrets":N,"versions":N,"values":N,"damaged":N,
     "log_lines":N},"sha256":"hex","signature":"hex"}   of all the lines before

A file without its last line was cut. `digest_key` is made for the one file, so that a
reader without the project's keys can compare. The signature is that of the store's
checkpoints: age says who can read a file, and not who wrote it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from keyturn.app.sides import Side
from keyturn.core.clock import rfc3339
from keyturn.core.ids import (
    EnvironmentName,
    FieldName,
    SecretName,
    StoreName,
)
from keyturn.core.model import History, Values
from keyturn.core.value import SecretValue
from keyturn.crypto import KeyedDigester, verify

__all__ = [
    "FORMAT",
    "VERSION",
    "AuditEnd",
    "BackupWriter",
    "Counts",
    "Damaged",
    "End",
    "Head",
    "Held",
    "Item",
    "Line",
    "LogLine",
    "ManifestText",
    "Part",
    "SecretLine",
    "ValueLine",
    "VersionLine",
    "check_signature",
    "digests_of",
]

FORMAT = "keyturn-backup"
VERSION = 1
_DOMAIN = b"keyturn backup 1\0"


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="backup"):
    """What it is a backup of."""

    keyturn: str
    store: str
    project: str
    time: str
    digest_key: bytes
    format: str = FORMAT
    v: int = VERSION

    def __repr__(self) -> str:
        return "Head(***)"


class ManifestText(msgspec.Struct, frozen=True, tag_field="type", tag="manifest"):
    """keyturn.toml as it was."""

    text: str
    sha256: str


class AuditEnd(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="audit"):
    """How far the audit log had come, and the newest signature under it."""

    seq: int
    head: str
    public_key: str
    checkpoint: str | None = None
    signature: str | None = None


class Part(msgspec.Struct, frozen=True, tag_field="type", tag="part"):
    """
    What one store had of one environment.

    Args:
        in_use: It is the store that the environment had; otherwise values lay there
            from before.
    """

    store: str
    environment: str
    in_use: bool

    @property
    def side(self) -> Side:
        """The same, by names."""
        return Side(StoreName(self.store), EnvironmentName(self.environment))


class LogLine(msgspec.Struct, frozen=True, tag_field="type", tag="log"):
    """One line of the audit bundle."""

    line: str


class Damaged(msgspec.Struct, frozen=True, tag_field="type", tag="damaged"):
    """A secret that could not be read, and the code of the error."""

    name: str
    code: str


class Counts(msgspec.Struct, kw_only=True):
    """How much there is of everything."""

    parts: int = 0
    secrets: int = 0
    versions: int = 0
    values: int = 0
    damaged: int = 0
    log_lines: int = 0


class End(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """What must have come before, and who wrote it."""

    counts: Counts
    sha256: str
    signature: str


class SecretLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="secret"):
    name: str
    current: int | None
    pending: int | None
    previous: int | None
    next_number: int
    drifted: bool
    rotating: bool


class VersionLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="version"):
    number: int
    created_at: str
    origin: str
    fields: tuple[str, ...]
    digests: dict[str, str] | None


class ValueLine(msgspec.Struct, frozen=True, tag_field="type", tag="value"):
    field: str
    value: bytes

    def __repr__(self) -> str:
        return f"ValueLine({self.field!r}, ***)"


@dataclass(frozen=True, slots=True)
class Held:
    """
    One secret of one part.

    Args:
        digests: Of each version's fields, by number; none for what is destroyed.
        drifted: Others had changed the live value; what is here is Keyturn's.
        rotating: A rotation of it was open.
    """

    part: Part
    history: History = field(repr=False)
    digests: Mapping[int, Mapping[FieldName, str]]
    drifted: bool
    rotating: bool

    @property
    def size_bytes(self) -> int:
        """Of all its values."""
        pairs = self.history.versions
        return sum(each.size_bytes for _, values in pairs for each in (values or {}).values())


_Plain = Head | ManifestText | AuditEnd | Part | Damaged | LogLine | End
Line = _Plain | SecretLine | VersionLine | ValueLine
Item = _Plain | Held


class BackupWriter:
    """
    Turns what is to be kept into lines.

    Args:
        sign: Signs with the key of the store's checkpoints.
    """

    def __init__(self, head: Head, *, sign: Callable[[bytes], bytes]) -> None:
        self._head = head
        self._digester = KeyedDigester(SecretValue(head.digest_key))
        self._sign = sign
        self._hash = hashlib.sha256()
        self.counts = Counts()
        self.sha256 = ""

    def head(self) -> bytes:
        """Return the first line."""
        return self._line(self._head)

    def manifest(self, text: bytes) -> bytes:
        """Return the line of keyturn.toml."""
        digest = hashlib.sha256(text).hexdigest()
        return self._line(ManifestText(text.decode("utf-8", "replace"), digest))

    def audit(self, end: AuditEnd) -> bytes:
        """Return the line of the audit log's end."""
        return self._line(end)

    def part(self, part: Part) -> bytes:
        """Return the line that begins *part*."""
        self.counts.parts += 1
        return self._line(part)

    def secret(self, history: History, *, drifted: bool, rotating: bool) -> Iterator[bytes]:
        """Yield the lines of one secret."""
        state = history.state
        self.counts.secrets += 1
        yield self._line(
            SecretLine(
                name=state.ref.name,
                current=state.current,
                pending=state.pending,
                previous=state.previous,
                next_number=state.next_number,
                drifted=drifted,
                rotating=rotating,
            )
        )
        for version, values in history.versions:
            self.counts.versions += 1
            yield self._line(
                VersionLine(
                    number=version.number,
                    created_at=rfc3339(version.created_at),
                    origin=version.origin.value,
                    fields=version.fields,
                    digests=None if values is None else digests_of(self._digester, values),
                )
            )
            for name, value in sorted((values or {}).items()):
                self.counts.values += 1
                yield self._line(ValueLine(name, value.reveal()))

    def damaged(self, name: SecretName, code: str) -> bytes:
        """Return the line of a secret that could not be read."""
        self.counts.damaged += 1
        return self._line(Damaged(name, code))

    def log(self, line: bytes) -> bytes:
        """Return the line that holds one *line* of an audit bundle."""
        self.counts.log_lines += 1
        return self._line(LogLine(line.decode("utf-8").removesuffix("\n")))

    def end(self) -> bytes:
        """Return the last line."""
        self.sha256 = self._hash.hexdigest()
        signature = self._sign(_DOMAIN + self._hash.digest()).hex()
        return _encoded(End(counts=self.counts, sha256=self.sha256, signature=signature))

    def _line(self, line: Line) -> bytes:
        data = _encoded(line)
        self._hash.update(data)
        return data


def _encoded(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def digests_of(digester: KeyedDigester, values: Values) -> dict[str, str]:
    return {name: digester.digest(value) for name, value in sorted(values.items())}


def check_signature(end: End, public_key: bytes) -> None:
    """
    Check that whoever holds the key of *public_key* wrote the backup that *end* ends.

    Raises:
        IntegrityError: It is not so.
    """
    try:
        signature = bytes.fromhex(end.signature)
    except ValueError:
        signature = b""
    verify(public_key, _DOMAIN + bytes.fromhex(end.sha256), signature, what="the backup")
