"""
What labels and version ids of AWS say to Keyturn: pure.

AWS keeps, for each version, an id of 32 to 64 characters that whoever writes it
chooses, and labels; a label is on one version at a time. A secret has at most 20
labels over all its versions. Versions without a label AWS drops by and by.

    version id   kt1-00000007-r-0123456789abcdef0123456789abcdef
                     number   |  digest of the secret and the caller's token
                              origin: g(enerated) s(et) i(mported) r(otated)
    mark         keyturn/1/7/r/j/1767323045000006/01234567/password+username
                           number, origin, form, microseconds, of which id, fields
    birth        keyturn/new/01234567.../7

A version is born with its mark and a birth label. The birth label goes when the
version has become pending: a marked version without one is finished. A version id
of ours without any label is destroyed, or lost a race for its number.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from keyturn.core.ids import FieldName, Token
from keyturn.core.model import (
    Origin,
    SecretRef,
    SecretState,
    Values,
    Version,
    VersionedValue,
)
from keyturn.core.value import SecretValue
from keyturn.errors import Corrupt, Rejected

__all__ = [
    "CURRENT",
    "FLOOR_TAG",
    "FORM_BINARY",
    "FORM_JSON",
    "FORM_STRING",
    "MAX_VALUE_BYTES",
    "NOTHING",
    "NOTHING_ID",
    "PENDING",
    "PREVIOUS",
    "Mark",
    "Sight",
    "birth_label",
    "decode",
    "encode",
    "number_of_id",
    "opened_as",
    "origin_of_id",
    "sight_of",
    "token_digest",
    "token_of_id",
    "version_id",
]

CURRENT: Final = "AWSCURRENT"
PENDING: Final = "AWSPENDING"
PREVIOUS: Final = "AWSPREVIOUS"

# The first version of a secret is current at once, whatever labels it is given. So
# that no value is used before it is promoted, the first version is this text.
NOTHING: Final = "keyturn: no version of this secret is current yet"
NOTHING_ID: Final = "kt1-00000000-nothing-is-current-yet"

# The highest number that was ever given and has no version any more.
FLOOR_TAG: Final = "keyturn:floor"

MAX_VALUE_BYTES: Final = 65_536
FORM_STRING: Final = "s"
FORM_BINARY: Final = "b"
FORM_JSON: Final = "j"
_BASE64 = ".base64"

_MAX_LABEL = 256
_ORIGINS: Final[Mapping[str, Origin]] = {origin.value[0]: origin for origin in Origin}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ID = re.compile(r"kt1-(\d{8})-([gsir])-([0-9a-f]{32})", re.ASCII)
_MARK = re.compile(r"keyturn/1/(\d+)/([gsir])/([sbj])/(\d+)/([0-9a-f]{8})/([a-z0-9_+]+)", re.ASCII)
_BIRTH = "keyturn/new/"


def token_digest(project: str, ref: SecretRef, token: Token) -> str:
    """Return what stands for *token* in the version ids of *ref*."""
    return hashlib.sha256(f"keyturn\0{project}\0{ref}\0{token}".encode()).hexdigest()[:32]


def version_id(number: int, origin: Origin, digest: str) -> str:
    """Return the version id of version *number*."""
    return f"kt1-{number:08d}-{origin.value[0]}-{digest}"


def number_of_id(version: str) -> int | None:
    """Return the number that an id of ours names; None for one of somebody else."""
    found = _ID.fullmatch(version)
    return int(found[1]) if found else None


def origin_of_id(version: str) -> Origin | None:
    """Return the origin that an id of ours names; None for one of somebody else."""
    found = _ID.fullmatch(version)
    return _ORIGINS[found[2]] if found else None


def token_of_id(version: str) -> str | None:
    """Return the digest of the token that an id of ours was made with."""
    found = _ID.fullmatch(version)
    return found[3] if found else None


def birth_label(version: str) -> str:
    """Return the label of the version with that id while it is not finished."""
    return f"{_BIRTH}{hashlib.sha256(version.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a version's own label says of it."""

    id: str
    number: int
    origin: Origin
    form: str
    created_at: datetime
    fields: tuple[FieldName, ...]

    @property
    def label(self) -> str:
        """The label."""
        microseconds = (self.created_at - _EPOCH) // timedelta(microseconds=1)
        owner = hashlib.sha256(self.id.encode()).hexdigest()[:8]
        return (
            f"keyturn/1/{self.number}/{self.origin.value[0]}/{self.form}/{microseconds}/{owner}/"
            + "+".join(self.fields)
        )

    def check(self, ref: SecretRef) -> None:
        """
        Refuse field names that no label holds.

        Raises:
            Rejected: They are too long together.
        """
        if len(self.label) > _MAX_LABEL:
            raise Rejected(
                f"the names of the {len(self.fields)} fields of `{ref}` are too long together",
                hint="they stand in a label of AWS, which has room for about 190 characters",
            )

    def version(self, ref: SecretRef, *, drifted: bool = False) -> Version:
        """Return what is known of it."""
        return Version(ref, self.number, self.created_at, self.origin, self.fields, drifted=drifted)

    @classmethod
    def find(cls, version: str, labels: Iterable[str]) -> Mark | None:
        """Return what the labels of the version with that id say; None for one not ours."""
        for label in labels:
            found = _MARK.fullmatch(label)
            if found is not None:
                return cls(
                    version,
                    int(found[1]),
                    _ORIGINS[found[2]],
                    found[3],
                    _EPOCH + timedelta(microseconds=int(found[4])),
                    tuple(FieldName(name) for name in found[6].split("+")),
                )
        return None


@dataclass(frozen=True, slots=True)
class Sight:
    """
    What one look at a secret of AWS showed.

    Args:
        labels: Of each version that has any, by version id.
        marks: Of every finished version, by number; one that is staged counts as finished.
        births: Versions of ours that are not finished, by id.
    """

    ref: SecretRef
    tags: Mapping[str, str]
    labels: Mapping[str, Collection[str]]
    marks: Mapping[int, Mark] = field(default_factory=dict)
    births: Mapping[str, Mark] = field(default_factory=dict)

    def at(self, label: str) -> str | None:
        """Return the id of the version that has *label*."""
        return next((id_ for id_, labels in self.labels.items() if label in labels), None)

    def has(self, version: str, label: str) -> bool:
        """Tell whether the version with that id has *label*."""
        return label in self.labels.get(version, ())

    def mark_of(self, version: str | None) -> Mark | None:
        """Return the mark of the version with that id."""
        if version is None:
            return None
        found = (mark for mark in self.marks.values() if mark.id == version)
        return next(found, self.births.get(version))

    @property
    def pending_id(self) -> str | None:
        """Return which version is pending; as with AWS's own rotation, not one that is current."""
        found = self.at(PENDING)
        staged = found is not None and (self.has(found, CURRENT) or self.has(found, PREVIOUS))
        return None if staged or found == NOTHING_ID else found

    def rivals(self, mark: Mark) -> bool:
        """Tell whether another version has the number of *mark*, finished or staged."""
        for id_, labels in self.labels.items():
            other = Mark.find(id_, labels)
            if other is None or other.number != mark.number or id_ == mark.id:
                continue
            if birth_label(id_) not in labels or set(labels) & {CURRENT, PENDING, PREVIOUS}:
                return True
        return False

    @property
    def foreign(self) -> bool:
        """Whether what is current was put there by somebody else."""
        found = self.at(CURRENT)
        return found is not None and found != NOTHING_ID and self.mark_of(found) is None

    @property
    def next_number(self) -> int:
        """Return the number of the next version."""
        floor = self.tags.get(FLOOR_TAG, "0")
        return max([0, int(floor) if floor.isdigit() else 0, *self.marks]) + 1

    @property
    def recorded(self) -> Mark | None:
        """Return the version that Keyturn made current last, where that is known."""
        # Whoever moves `AWSCURRENT` moves `AWSPREVIOUS` to where it was.
        return self.mark_of(self.at(PREVIOUS) if self.foreign else self.at(CURRENT))

    @property
    def state(self) -> SecretState:
        """Return where the stages point."""
        current = self.recorded
        pending_id = self.pending_id
        pending = self.mark_of(pending_id)
        previous = None if self.foreign else self.mark_of(self.at(PREVIOUS))
        number = None
        if pending_id is not None:
            # Somebody else's has no number; it stands where our next one would.
            number = self.next_number if pending is None else pending.number
        return SecretState(
            self.ref,
            current=None if current is None else current.number,
            pending=number,
            previous=None if previous is None else previous.number,
            next_number=self.next_number,
        )


def sight_of(ref: SecretRef, answer: Mapping[str, Any]) -> Sight:
    """Return what an answer of `DescribeSecret` or an entry of `ListSecrets` shows."""
    tags = {str(tag["Key"]): str(tag["Value"]) for tag in answer.get("Tags") or ()}
    stages = answer.get("VersionIdsToStages") or answer.get("SecretVersionsToStages") or {}
    labels = {str(id_): tuple(found) for id_, found in stages.items() if found}
    marks: dict[int, Mark] = {}
    births: dict[str, Mark] = {}
    for id_, found in labels.items():
        mark = Mark.find(id_, found)
        if mark is None:
            continue
        if birth_label(id_) in found:
            births[id_] = mark
        else:
            marks[mark.number] = mark
    for id_, mark in births.items():
        staged = set(labels[id_]) & {CURRENT, PENDING, PREVIOUS}
        if staged and mark.number not in marks:
            marks[mark.number] = mark
    return Sight(ref, tags, labels, marks, births)


def encode(ref: SecretRef, values: Values, *, json_always: bool) -> tuple[str, dict[str, object]]:
    """
    Return the form of *values* and the parameters that carry them.

    One field is the value itself: a string where it is text, binary where it is not.
    Several are a JSON object of strings; a field that is not text stands there in
    base64 under its name with `.base64` behind it, which no field's name has. AWS
    takes no empty value, so an empty one stands in such an object too.

    Raises:
        Rejected: They are larger than AWS takes; the message names a field.
    """
    if len(values) == 1 and not json_always:
        (value,) = values.values()
        text = _text(value)
        if text:
            return FORM_STRING, {"SecretString": text}
        if text is None:
            return FORM_BINARY, {"SecretBinary": value.reveal()}
    members = {}
    for name, value in sorted(values.items()):
        text = _text(value)
        if text is None:
            members[f"{name}{_BASE64}"] = base64.b64encode(value.reveal()).decode("ascii")
        else:
            members[str(name)] = text
    document = json.dumps(members, ensure_ascii=False, separators=(", ", ": "))
    size_bytes = len(document.encode())
    if size_bytes > MAX_VALUE_BYTES:
        largest = max(values, key=lambda name: values[name].size_bytes)
        raise Rejected(
            f"the fields of `{ref}` take {size_bytes} bytes together, the most of them `{largest}`",
            hint=f"AWS takes {MAX_VALUE_BYTES} bytes a secret, as one JSON document",
            code="store.too_large",
        )
    return FORM_JSON, {"SecretString": document}


def decode(
    answer: Mapping[str, Any], form: str, fields: Collection[FieldName]
) -> dict[FieldName, SecretValue] | None:
    """Return the values that an answer carries in that form; None where they are not there."""
    if form == FORM_BINARY:
        data = answer.get("SecretBinary")
        return {name: SecretValue(data) for name in fields} if isinstance(data, bytes) else None
    text = answer.get("SecretString")
    if not isinstance(text, str):
        return None
    if form == FORM_STRING:
        return {name: SecretValue.from_text(text) for name in fields}
    try:
        members = json.loads(text)
        if not isinstance(members, dict):
            return None
        return {name: _member(members, name) for name in sorted(fields)}
    except (ValueError, TypeError, KeyError, binascii.Error):
        return None


def opened_as(ref: SecretRef, mark: Mark, answer: Mapping[str, Any]) -> VersionedValue:
    """
    Return the version of *mark* with the values that *answer* carries.

    Raises:
        Corrupt: It carries something else.
    """
    values = decode(answer, mark.form, mark.fields)
    if values is None:
        raise Corrupt(
            f"version {mark.number} of `{ref}` is not what was stored",
            hint="promote another version; `keyturn history` lists them",
        )
    return VersionedValue(mark.version(ref), values)


def _member(members: Mapping[str, object], name: FieldName) -> SecretValue:
    coded = members.get(f"{name}{_BASE64}") if name not in members else None
    if isinstance(coded, str):
        return SecretValue(base64.b64decode(coded, validate=True))
    found = members[name]
    # Others put numbers into such documents, such as a port.
    return SecretValue.from_text(found if isinstance(found, str) else json.dumps(found))


def _text(value: SecretValue) -> str | None:
    try:
        text = value.reveal_text()
    except ValueError:
        return None
    return None if "\0" in text else text
