"""A backup as a file: who can open it, and what is in it, without its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.app.backup_format import (
    AuditEnd,
    Damaged,
    End,
    Head,
    Held,
    Item,
    ManifestText,
    Part,
    check_signature,
)
from keyturn.app.backup_reader import BackupReader
from keyturn.app.reading import read_plain
from keyturn.core.ids import FieldName, SecretName
from keyturn.core.model import History, SecretState, Values, Version
from keyturn.core.ports import Digester
from keyturn.core.value import SecretValue
from keyturn.crypto import KeyedDigester
from keyturn.crypto.agefile import parse_identities
from keyturn.crypto.agestream import open_stream
from keyturn.errors import Corrupt, NotFound, Unavailable, UsageError

__all__ = [
    "Outline",
    "Summary",
    "check_pinned",
    "check_writer",
    "fingerprint",
    "inspect_backup",
    "read_backup",
    "read_identities",
]

_MAX_IDENTITY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of one secret of a backup; no value."""

    part: Part
    state: SecretState
    versions: tuple[Version, ...]
    digests: Mapping[int, Mapping[FieldName, str]]
    drifted: bool
    rotating: bool

    @property
    def name(self) -> SecretName:
        """Its name."""
        return self.state.ref.name

    @property
    def label(self) -> str:
        """How it is shown: with store and environment."""
        return f"{self.part.store}:{self.state.ref}"

    @property
    def fingerprint(self) -> History:
        """Its history, with digests in the place of values."""
        pairs = tuple((each, _as_values(self.digests.get(each.number))) for each in self.versions)
        return History(self.state, pairs)


def _as_values(digests: Mapping[FieldName, str] | None) -> Values | None:
    if digests is None:
        return None
    return {name: SecretValue.from_text(text) for name, text in digests.items()}


def fingerprint(history: History, digester: Digester) -> History:
    """Return *history* with digests in the place of values, to be compared with an outline's."""
    pairs = tuple(
        (
            version,
            None
            if values is None
            else {
                name: SecretValue.from_text(digester.digest(each)) for name, each in values.items()
            },
        )
        for version, values in history.versions
    )
    return History(history.state, pairs)


@dataclass(frozen=True, slots=True)
class Summary:
    """
    What is in a backup that was read to its end, and whose digests hold.

    Args:
        damaged: Secrets that could not be read when it was made, with store and
            environment, and the code of the error.
    """

    head: Head
    manifest: ManifestText
    audit: AuditEnd
    end: End
    parts: Sequence[Part] = ()
    secrets: Sequence[Outline] = ()
    damaged: Sequence[tuple[str, str]] = ()

    @property
    def digester(self) -> Digester:
        """What made its digests."""
        return KeyedDigester(SecretValue(self.head.digest_key))


def read_identities(path: Path, given: bytes | None = None) -> list[SecretValue]:
    """
    Return the age identities in the file *path*.

    Args:
        given: Its content, where it is no file.

    Raises:
        UsageError: There is none in it, or it cannot be read.
    """
    if given is None:
        try:
            given = read_plain(path, _MAX_IDENTITY_BYTES)
        except FileNotFoundError:
            raise UsageError(
                f"no file `{path}`", hint="it holds the age identity of one of the recipients"
            ) from None
    identities = parse_identities(SecretValue(given))
    if not identities:
        raise UsageError(
            f"`{path}` holds no age identity",
            hint="a line of it must start with `AGE-SECRET-KEY-1`; one that is itself sealed is "
            "opened first: `age -d KEYFILE | keyturn restore FILE --identity -`",
            code="backup.no_identity",
        )
    return identities


def read_backup(
    path: Path, identities: Sequence[SecretValue], take: Callable[[Item], object]
) -> End:
    """
    Read the backup *path* to its end, and give each item to *take* as it comes.

    Raises:
        Sealed: It is for none of *identities*.
        Corrupt: It was changed or cut. What was given until then is as it was written.
        Conflict: `backup.newer`: a newer Keyturn wrote it.
        NotFound: There is no such file.
    """
    what = f"`{path.name}`"
    reader = BackupReader(take, what=what)
    try:
        with path.open("rb") as file:
            open_stream(file, reader.feed, identities, what=what)
    except FileNotFoundError as error:
        if error.filename != str(path):
            raise
        raise NotFound(f"no file `{path}`", hint="name a file that `keyturn backup` made") from None
    except OSError as error:
        if error.filename != str(path):
            raise
        raise Unavailable(f"`{path}` cannot be read: {error.strerror}") from error
    return reader.finish()


@dataclass(slots=True)
class _Gathering:
    head: Head | None = None
    manifest: ManifestText | None = None
    audit: AuditEnd | None = None
    parts: list[Part] = field(default_factory=list)
    secrets: list[Outline] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)

    def take(self, item: Item) -> None:
        """Keep what holds no value."""
        match item:
            case Head():
                self.head = item
            case ManifestText():
                self.manifest = item
            case AuditEnd():
                self.audit = item
            case Part():
                self.parts.append(item)
            case Held():
                self.secrets.append(_outline(item))
            case Damaged():
                where = self.parts[-1].side if self.parts else "nowhere"
                self.damaged.append((f"{where}/{item.name}", item.code))
            case _:
                pass


def _outline(held: Held) -> Outline:
    versions = tuple(version for version, _ in held.history.versions)
    return Outline(
        held.part, held.history.state, versions, held.digests, held.drifted, held.rotating
    )


def inspect_backup(path: Path, identities: Sequence[SecretValue]) -> Summary:
    """
    Read the backup *path* to its end, and return what is in it; no value is kept.

    Raises:
        Sealed: It is for none of *identities*.
        Corrupt: It was changed or cut.
    """
    found = _Gathering()
    end = read_backup(path, identities, found.take)
    if found.head is None or found.manifest is None or found.audit is None:
        raise Corrupt(f"`{path.name}` lacks its first lines", code="backup.corrupt")
    return Summary(
        found.head, found.manifest, found.audit, end, found.parts, found.secrets, found.damaged
    )


def check_writer(summary: Summary, *, store_id: str, public_key: bytes) -> bool:
    """
    Check who wrote a backup; return False where it is of another store than the one here.

    Args:
        store_id: Of the store that asks, and *public_key* its own.

    Raises:
        IntegrityError: It says that this store wrote it, and somebody else did.
    """
    if summary.head.store != store_id:
        return False
    check_signature(summary.end, public_key)
    return True


def check_pinned(summary: Summary, public_key: str) -> None:
    """
    Check that the store with *public_key*, in hex, wrote a backup.

    Raises:
        IntegrityError: Somebody else did.
        UsageError: *public_key* is no key.
    """
    try:
        key = bytes.fromhex(public_key)
    except ValueError:
        raise UsageError("the public key is not hexadecimal") from None
    check_signature(summary.end, key)
