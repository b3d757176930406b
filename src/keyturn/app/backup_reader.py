"""Reading a backup as it comes: nothing is handed on that was not compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from keyturn.app.backup_format import (
    FORMAT,
    VERSION,
    AuditEnd,
    Counts,
    Damaged,
    End,
    Head,
    Held,
    Item,
    Line,
    LogLine,
    ManifestText,
    Part,
    SecretLine,
    ValueLine,
    VersionLine,
    digests_of,
)
from keyturn.core.clock import parse_time
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, is_field_name, is_name
from keyturn.core.model import History, Origin, SecretRef, SecretState, Values, Version
from keyturn.core.value import SecretValue
from keyturn.crypto import KeyedDigester
from keyturn.errors import Conflict, Corrupt

__all__ = ["BackupReader"]

# The largest value takes 14 MiB as base64.
_MAX_LINE_BYTES = 32 * 1024 * 1024


class BackupReader:
    """
    Takes a backup apart as it comes, and holds no more of it than one secret.

    Args:
        take: Given each item; a secret once all of it was read and its digests hold.
        what: Names the file in errors.
    """

    def __init__(self, take: Callable[[Item], object], *, what: str) -> None:
        self._take = take
        self._what = what
        self._buffer = bytearray()
        self._looked = 0
        self._number = 0
        self._hash = hashlib.sha256()
        self._decoder = msgspec.json.Decoder(Line)
        self._digester: KeyedDigester | None = None
        self._part: Part | None = None
        self._secret: _Gathered | None = None
        self._counts = Counts()
        self._end: End | None = None

    def feed(self, data: bytes) -> None:
        """
        Take the next piece.

        Raises:
            Corrupt: It is not what was written.
            Conflict: `backup.newer`: a newer Keyturn wrote it.
        """
        self._buffer += data
        while (at := self._buffer.find(b"\n", self._looked)) >= 0:
            line = bytes(self._buffer[: at + 1])
            del self._buffer[: at + 1]
            self._looked = 0
            self._one(line)
        self._looked = len(self._buffer)
        if self._looked > _MAX_LINE_BYTES:
            raise self._bad("a line is too long")

    def finish(self) -> End:
        """
        Return the last line; call it when there is nothing more to feed.

        Raises:
            Corrupt: Something is missing.
        """
        if self._buffer or self._end is None:
            raise self._bad("it ends too early: it was cut")
        return self._end

    def _one(self, data: bytes) -> None:
        self._number += 1
        if self._end is not None:
            raise self._bad("something follows its end")
        if self._number == 1:
            self._require_known(data)
        try:
            line: Line = self._decoder.decode(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            # Their words may hold what they stumbled over.
            raise self._bad("a line is none of a backup") from None
        if isinstance(line, End):
            self._close(line)
        else:
            self._hash.update(data)
            self._read(line)

    def _require_known(self, data: bytes) -> None:
        try:
            found: Any = msgspec.json.decode(data)
        except (msgspec.MsgspecError, RecursionError):
            found = None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise self._bad("it is no backup of Keyturn")
        if found.get("v") != VERSION:
            raise Conflict(
                f"{self._what} is of a format that this Keyturn does not know",
                hint="use the Keyturn that wrote it, or a newer one",
                code="backup.newer",
            )

    def _read(self, line: Line) -> None:
        if isinstance(line, Head) != (self._number == 1):
            raise self._bad("its head is not at its beginning")
        match line:
            case VersionLine():
                self._gathering().begin(line)
            case ValueLine():
                self._gathering().add(line)
            case _:
                self._finish_secret()
                self._read_whole(line)

    def _read_whole(self, line: Line) -> None:
        match line:
            case Head():
                self._digester = KeyedDigester(SecretValue(line.digest_key))
                self._take(line)
            case Part():
                if not (is_name(line.store) and is_name(line.environment)):
                    raise self._bad("a name is none")
                self._counts.parts += 1
                self._part = line
                self._take(line)
            case SecretLine():
                self._counts.secrets += 1
                self._secret = self._begun(line)
            case Damaged():
                self._counts.damaged += 1
                self._take(line)
            case LogLine():
                self._counts.log_lines += 1
                self._take(line)
            case ManifestText() | AuditEnd():
                self._take(line)
            case _:
                raise self._bad("a line is out of order")

    def _begun(self, line: SecretLine) -> _Gathered:
        if self._part is None or not is_name(line.name):
            raise self._bad("a secret is of no store, or has no name")
        return _Gathered(self._part, line, self._counts)

    def _gathering(self) -> _Gathered:
        if self._secret is None:
            raise self._bad("a version is of no secret")
        return self._secret

    def _finish_secret(self) -> None:
        gathered, self._secret = self._secret, None
        if gathered is None:
            return
        held = gathered.whole(self._digester)
        if held is None:
            raise self._bad(f"`{gathered.label}` is not what was written")
        self._take(held)

    def _close(self, end: End) -> None:
        self._finish_secret()
        if end.counts != self._counts:
            raise self._bad("its counts do not fit: something was left out")
        if end.sha256 != self._hash.hexdigest():
            raise self._bad("its digest does not fit")
        self._end = end
        self._take(end)

    def _bad(self, what: str) -> Corrupt:
        return Corrupt(
            f"{self._what} does not hold at line {self._number}: {what}",
            hint="take another copy of it; what was written from it until then is whole",
            code="backup.corrupt",
            context={"line": self._number},
        )


class _Gathered:
    """One secret while its lines come."""

    def __init__(self, part: Part, line: SecretLine, counts: Counts) -> None:
        self._part = part
        self._line = line
        self._counts = counts
        self._versions: list[tuple[VersionLine, dict[FieldName, SecretValue]]] = []

    @property
    def label(self) -> str:
        """How errors name it."""
        return f"{self._part.environment}/{self._line.name}"

    def begin(self, version: VersionLine) -> None:
        """Take the line of a version."""
        self._counts.versions += 1
        self._versions.append((version, {}))

    def add(self, value: ValueLine) -> None:
        """Take a field of the last version."""
        self._counts.values += 1
        if self._versions:
            self._versions[-1][1][FieldName(value.field)] = SecretValue(value.value)

    def whole(self, digester: KeyedDigester | None) -> Held | None:
        """Return the secret, or None where it is not what was written."""
        if digester is None:
            return None
        line = self._line
        ref = SecretRef(EnvironmentName(self._part.environment), SecretName(line.name))
        state = SecretState(ref, line.current, line.pending, line.previous, line.next_number)
        try:
            pairs = tuple(self._pair(ref, *each) for each in self._versions)
        except ValueError:
            return None
        held = {version.number for version, values in pairs if values is not None}
        staged = {state.current, state.pending, state.previous} - {None}
        numbers = [version.number for version, _ in pairs]
        digests = {
            version.number: digests_of(digester, values)
            for version, values in pairs
            if values is not None
        }
        said = {each.number: each.digests for each, _ in self._versions if each.digests is not None}
        if numbers != list(range(1, line.next_number)) or not staged <= held or digests != said:
            return None
        by_field = {
            number: {FieldName(name): text for name, text in each.items()}
            for number, each in digests.items()
        }
        return Held(self._part, History(state, pairs), by_field, line.drifted, line.rotating)

    @staticmethod
    def _pair(
        ref: SecretRef, line: VersionLine, values: dict[FieldName, SecretValue]
    ) -> tuple[Version, Values | None]:
        if not all(is_field_name(name) for name in (*line.fields, *values)):
            raise ValueError("a field has no name")
        gone = line.digests is None
        version = Version(
            ref=ref,
            number=line.number,
            created_at=parse_time(line.created_at),
            origin=Origin(line.origin),
            fields=tuple(FieldName(name) for name in line.fields),
            destroyed=gone,
        )
        return version, None if gone else values
