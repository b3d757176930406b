"""
Swarm's secrets as a live document.

    secret  clipper_production_db_password_v7   one value; never changed, never read back
    config  clipper_production_keyturn          the head: its labels say which are live

One update of the head's labels, which names the version of it that was read, makes all
fields of a secret current together; of two writers one is refused. What Swarm does not
give back is in the place aside: the ledger and the values of every version. Which of
them an object holds is told by its digest.

Every write takes numbers that nobody took before. So an object below the number that the
head has for its key is nobody's: its writer died, lost, or was followed by another.
Such objects are removed as soon as no service uses them, which Swarm itself sees to.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, final

from keyturn._internal import failpoints
from keyturn._internal.docker_engine import Engine
from keyturn._internal.http import segment
from keyturn.core.ids import FieldName, SecretName
from keyturn.core.model import SecretRef, Values
from keyturn.errors import Conflict, KeyturnError, OutcomeUnknown, Rejected
from keyturn.stores import _docker_names as names
from keyturn.stores._docker_names import Pointer
from keyturn.stores._ledger import Ledger, decode_values
from keyturn.stores._place import Place, Seen, mark_is_stale

__all__ = ["MAX_SECRET_BYTES", "SwarmNaming", "SwarmPlace", "SwarmSecret"]

# What a manager accepts: 500 KiB less one byte, and not nothing.
MAX_SECRET_BYTES = 511_999
_HEAD_DATA = b"Kept by Keyturn: the labels of this config say which secrets are current.\n"
_HEAD_KEY = "keyturn"
_LOOKS = 20
# How many names that people took are passed over.
_STRANGERS = 20
_ABSENT = 404
_TAKEN = 409


@dataclass(frozen=True, slots=True)
class SwarmNaming:
    """
    What the objects of one environment are called.

    Args:
        stem: What each name begins with, such as `clipper_production`.
        live_key: Returns the name that a container has a field by.
        labels: What people should see beside each secret; None for the head.
    """

    stem: str
    live_key: Callable[[SecretName, FieldName], str]
    labels: Callable[[SecretName | None], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class SwarmSecret:
    """One secret of the swarm; *key* is the name that a container has it by."""

    key: str
    id: str
    name: str
    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Head:
    """
    The head as it was read.

    Args:
        version: What an update of it must name; None where there is none yet.
    """

    id: str
    version: int | None
    labels: Mapping[str, str]
    pointers: Mapping[str, Pointer]


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a write must find unchanged, and the numbers that were taken of each key."""

    head: _Head
    numbers: Mapping[str, int]
    ledger: Ledger


@final
class SwarmPlace:
    """
    One environment's secrets in a swarm; implements `Place`.

    Args:
        ref: Whose values are written; for the labels.
        aside: Keeps what Swarm does not give back; nothing is live in it.
        where: For messages.
    """

    def __init__(
        self,
        engine: Engine,
        aside: Place,
        naming: SwarmNaming,
        *,
        ref: SecretRef | None,
        where: str,
    ) -> None:
        self._engine = engine
        self._aside = aside
        self._naming = naming
        self._secret = None if ref is None else ref.name
        self._where = where

    def live_key(self, name: SecretName, field: FieldName) -> str:
        """Return the name that a container finds *field* by: `/run/secrets/NAME`."""
        return self._naming.live_key(name, field)

    def look(self, *, live: bool, ledger: bool) -> Seen:
        """
        Read what is asked for: first the ledger, then the head.

        A key whose object is gone, or holds no value that is known, is left out.

        Raises:
            Unavailable: No answer.
            Sealed: The swarm is locked.
            Conflict: `store.busy`: it changes faster than it can be read.
        """
        aside = self._aside.look(live=False, ledger=True)
        if not live:
            return aside
        for _ in range(_LOOKS):
            head, objects = self._head(), self.secrets()
            known = None if aside.ledger is None else Ledger.parse(aside.ledger, where=self._where)
            wanted = _pointed(head, objects)
            found = {} if known is None else self._values(known, wanted)
            if len(found) == sum(pointer.id is not None for pointer in head.pointers.values()):
                break
            # Another writer may just have gone on from what was read first.
            again = self._aside.look(live=False, ledger=True)
            if again.ledger_mark == aside.ledger_mark and self._head() == head:
                break
            aside = again
        else:
            raise Conflict(
                f"{self._where} changes faster than it can be read",
                hint="run the command again",
                code="store.busy",
            )
        mark = None if known is None else _Mark(head, _numbers(head, objects), known)
        return Seen(found, aside.ledger if ledger else None, mark, aside.ledger_mark)

    def write_live(self, changes: Mapping[str, bytes | None], *, seen: Seen) -> None:
        """
        Make new secrets of the swarm and point the head at them, all in one step.

        Raises:
            Conflict: `store.mark`: another writer was first.
            Rejected: A value is empty or too large for Swarm.
            OutcomeUnknown: No answer came.
            Unavailable: Nothing was written.

        Crash safety:
            Before the head's update nothing is live; what was made is removed by a
            later write.
        """
        mark = seen.live_mark
        if not isinstance(mark, _Mark):
            # There is no version yet whose value this could be.
            raise mark_is_stale(self._where)
        data = {key: content for key, content in changes.items() if content is not None}
        for key, content in data.items():
            _require_size(key, len(content))
        moved = {
            key: Pointer(mark.numbers.get(key, 0) + 1, None) for key in changes.keys() - data.keys()
        }
        try:
            for key, content in data.items():
                moved[key] = self._make(key, mark.numbers.get(key, 0), content, mark.ledger)
            self._point(mark.head, moved)
        except Conflict:
            # Nobody points at them, and a later write would remove them too.
            for pointer in moved.values():
                if pointer.id is not None:
                    with contextlib.suppress(KeyturnError):
                        self._remove(pointer.id)
            raise
        self._tidy()

    def write_ledger(
        self, ledger: bytes, *, keep: Mapping[str, bytes], drop: Collection[str], seen: Seen
    ) -> None:
        """
        Replace the ledger, aside. Values that Swarm would never take are refused here already.

        Raises:
            As `write_live`.
        """
        for document in keep.values():
            for field, value in _opened(document).items():
                _require_size(field, value.size_bytes)
        self._aside.write_ledger(ledger, keep=keep, drop=drop, seen=seen)
        if drop:
            self._tidy()

    def kept(self, key: str) -> bytes | None:
        """Return the document kept aside as *key*, or None."""
        return self._aside.kept(key)

    def secrets(self) -> dict[str, SwarmSecret]:
        """Return every secret of this environment that Keyturn made, by id."""
        listed = self._engine.get("/secrets", label=[f"{names.STEM}={self._naming.stem}"])
        found = (_secret(item) for item in listed.require("the list of secrets"))
        return {secret.id: secret for secret in found if secret is not None}

    def current(self) -> dict[str, SwarmSecret]:
        """Return the secrets that are live, by key."""
        head = self._head()
        return _pointed(head, self.secrets())

    def remove_unused(self) -> list[str]:
        """
        Remove what is not live and no service uses; return the names of what is left in use.

        Raises:
            Unavailable: No answer.
            OutcomeUnknown: No answer to a removal; call again.
        """
        objects = self.secrets()
        head = self._head()
        old = [secret for secret in objects.values() if _is_past(head, secret)]
        return [secret.name for secret in old if not self._remove(secret.id)]

    def strangers(self) -> list[str]:
        """Return the names of secrets that are called like Keyturn's and are not."""
        own, stem = self.secrets(), f"{self._naming.stem}_"
        body = self._engine.get("/secrets", name=[stem]).require("the list of secrets")
        named = {item["ID"]: str(item["Spec"]["Name"]) for item in body}
        return sorted(n for i, n in named.items() if n.startswith(stem) and i not in own)

    def _tidy(self) -> None:
        with contextlib.suppress(KeyturnError):
            # It is written; what is left over is also removed by the next write.
            self.remove_unused()

    def _values(self, ledger: Ledger, wanted: Mapping[str, SwarmSecret]) -> dict[str, bytes]:
        """Return the kept values that the objects hold; most often those of current versions."""
        found: dict[str, bytes] = {}
        for name, entry in ledger.entries.items():
            for line in entry.candidates():
                keys = {self.live_key(name, field): field for field in line.fields}
                missing = keys.keys() & wanted.keys() - found.keys()
                document = self._aside.kept(line.key(name)) if missing else None
                values = {} if document is None else _opened(document)
                for key in missing & {key for key, field in keys.items() if field in values}:
                    content = values[keys[key]].reveal()
                    if names.digest(ledger.salt, key, content) == wanted[key].digest:
                        found[key] = content
        return found

    def _head(self) -> _Head:
        wanted = [f"{names.STEM}={self._naming.stem}", f"{names.HEAD}=1"]
        body = self._engine.get("/configs", label=wanted).require("the list of configs")
        for item in body:
            if item["Spec"]["Name"] == self._head_name():
                labels = dict(item["Spec"].get("Labels") or {})
                return _Head(item["ID"], item["Version"]["Index"], labels, _pointers(labels))
        return _Head("", None, {}, {})

    def _head_name(self) -> str:
        return names.object_name(self._naming.stem, _HEAD_KEY, None)

    def _make(self, key: str, taken: int, content: bytes, ledger: Ledger) -> Pointer:
        for number in range(taken + 1, taken + 1 + _STRANGERS):
            made_id = self._create(key, number, content, ledger)
            if made_id is not None:
                return Pointer(number, made_id)
        raise Rejected(
            f"the next {_STRANGERS} names of `{key}` are taken by secrets that people made",
            hint="remove those that nobody uses with `docker secret rm`",
        )

    def _create(self, key: str, number: int, content: bytes, ledger: Ledger) -> str | None:
        """Return the id of the new secret, or None where its name is a stranger's."""
        name = names.object_name(self._naming.stem, key, number)
        digest = names.digest(ledger.salt, key, content)
        spec = {
            "Name": name,
            "Labels": {
                **self._naming.labels(self._secret),
                names.STEM: self._naming.stem,
                names.KEY: key,
                names.NUMBER: str(number),
                names.DIGEST: digest,
            },
            "Data": base64.b64encode(content).decode("ascii"),
        }
        try:
            answer = self._engine.change(
                "POST", "/secrets/create", spec, point="store.swarm.secret"
            )
        except OutcomeUnknown:
            # Numbers are taken once: under this name with this digest it can only be ours.
            found = self._engine.get(f"/secrets/{segment(name)}")
            made = _secret(found.body) if found.good else None
            if made is None or made.digest != digest:
                raise
            return made.id
        if answer.status == _TAKEN:
            found = self._engine.get(f"/secrets/{segment(name)}")
            if found.good and _secret(found.body) is None:
                return None
            raise mark_is_stale(f"the swarm's secret `{name}`")
        return str(answer.require(f"the secret `{name}`")["ID"])

    def _point(self, head: _Head, moved: Mapping[str, Pointer]) -> None:
        spec: dict[str, object] = {
            "Name": self._head_name(),
            "Labels": {
                **head.labels,
                **self._naming.labels(None),
                names.STEM: self._naming.stem,
                names.HEAD: "1",
                **{f"{names.LIVE}{key}": str(pointer) for key, pointer in moved.items()},
            },
        }
        failpoints.hit("store.swarm.write")
        if head.version is None:
            spec["Data"] = base64.b64encode(_HEAD_DATA).decode("ascii")
            answer = self._engine.change("POST", "/configs/create", spec, point="store.swarm.head")
            lost = answer.status == _TAKEN
        else:
            answer = self._engine.change(
                "POST",
                f"/configs/{segment(head.id)}/update",
                spec,
                query={"version": head.version},
                point="store.swarm.head",
            )
            lost = answer.stale or answer.status == _ABSENT
        if lost:
            raise mark_is_stale(f"the swarm's config `{self._head_name()}`")
        answer.require(f"the config `{self._head_name()}`")
        failpoints.hit("store.swarm.written")

    def _remove(self, secret_id: str) -> bool:
        """Remove a secret; return False where a service uses it."""
        answer = self._engine.change(
            "DELETE", f"/secrets/{segment(secret_id)}", point="store.swarm.remove"
        )
        return answer.good or answer.status == _ABSENT


def _secret(item: Any) -> SwarmSecret | None:
    spec = item["Spec"]
    labels = spec.get("Labels") or {}
    key, digest = labels.get(names.KEY, ""), labels.get(names.DIGEST, "")
    number = str(labels.get(names.NUMBER, ""))
    if not key or not digest or not number.isascii() or not number.isdigit():
        return None
    return SwarmSecret(key, item["ID"], spec["Name"], int(number), digest)


def _pointers(labels: Mapping[str, str]) -> dict[str, Pointer]:
    parsed = {
        name.removeprefix(names.LIVE): Pointer.parse(text)
        for name, text in labels.items()
        if name.startswith(names.LIVE)
    }
    return {key: pointer for key, pointer in parsed.items() if pointer is not None}


def _pointed(head: _Head, objects: Mapping[str, SwarmSecret]) -> dict[str, SwarmSecret]:
    """Return the objects that the head points at and that are what it says, by key."""
    found = {key: objects.get(pointer.id or "") for key, pointer in head.pointers.items()}
    return {
        key: secret
        for key, secret in found.items()
        if secret is not None and (secret.key, secret.number) == (key, head.pointers[key].number)
    }


def _numbers(head: _Head, objects: Mapping[str, SwarmSecret]) -> dict[str, int]:
    """Return the highest number that was taken of each key, by anybody."""
    highest = {key: pointer.number for key, pointer in head.pointers.items()}
    for secret in objects.values():
        highest[secret.key] = max(secret.number, highest.get(secret.key, 0))
    return highest


def _is_past(head: _Head, secret: SwarmSecret) -> bool:
    pointer = head.pointers.get(secret.key)
    if pointer is None:
        # Perhaps the first write of this key, on its way.
        return False
    return secret.number < pointer.number


def _opened(document: bytes) -> Values:
    try:
        return decode_values(document)
    except (ValueError, TypeError, AttributeError):
        # The store over this place reads it too, and says what is wrong.
        return {}


def _require_size(what: str, size_bytes: int) -> None:
    if size_bytes == 0:
        raise Rejected(
            f"`{what}` is empty, and docker takes no empty secret",
            hint="leave the field out, or keep it in another store",
            code="store.empty",
        )
    if size_bytes > MAX_SECRET_BYTES:
        raise Rejected(
            f"`{what}` is {size_bytes} bytes, more than docker takes as a secret",
            hint=f"a value has at most {MAX_SECRET_BYTES} bytes in this store",
            code="store.too_large",
        )
