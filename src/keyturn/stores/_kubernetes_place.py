"""
One Kubernetes Secret that applications read, and the one beside it for what is kept aside.

Every write names the `resourceVersion` that was seen, and the server refuses it where
that has moved: true compare-and-set, of one object. The live Secret is written by
server-side apply, so that the server records which keys are Keyturn's, and keys that
others set stay. The apply is forced, but only after the owners as of that very version
were looked at: a key that a controller owns is refused, since the two would write over
each other for ever. Three writes are no apply, each for a reason:

- the first, since only a POST says that nothing may be there yet;
- one that removes a key that was also set otherwise, since an apply that leaves it out
  gives up its own claim only, and the key stays: a merge patch removes it;
- those of the Secret beside it, which is Keyturn's alone.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, final

from keyturn._internal import failpoints
from keyturn._internal.kubernetes import (
    APPLY_PATCH,
    MERGE_PATCH,
    ClusterAnswer,
    KubernetesApi,
    object_path,
)
from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.errors import Corrupt, Rejected
from keyturn.stores._place import Seen, mark_is_stale

__all__ = [
    "ASIDE_ENDING",
    "ENVIRONMENT_NOTE",
    "LABELS",
    "MANAGER",
    "MAX_SECRET_BYTES",
    "SECRET_NOTE",
    "KubernetesPlace",
    "SecretNames",
]

MANAGER: Final = "keyturn"
# What the server counts: the bytes of all values of one Secret.
MAX_SECRET_BYTES: Final = 1_048_576
ASIDE_ENDING: Final = "-keyturn"
LABELS: Final = (("app.kubernetes.io/managed-by", "keyturn"),)
ENVIRONMENT_NOTE: Final = "keyturn/environment"
SECRET_NOTE: Final = "keyturn/secret"  # noqa: S105 - the name of an annotation

_LEDGER: Final = "ledger"
# People who wrote once; they do not come back to write over it.
_PASSING = frozenset({"kubectl-create", "kubectl-edit", "kubectl-patch", "kubectl-replace"})
_GONE, _STALE = 404, 409


@dataclass(frozen=True, slots=True)
class SecretNames:
    """
    Which objects a place is.

    Args:
        secret: Whose place it is, where each secret has one of its own.
        live: The name of the Secret that applications read.
    """

    environment: EnvironmentName
    secret: SecretName | None
    namespace: str
    live: str

    @property
    def aside(self) -> str:
        """The name of the one beside it."""
        return self.live + ASIDE_ENDING


@dataclass(frozen=True, slots=True)
class _Mark:
    """
    One Secret as it was seen; two marks are equal where its version is.

    Args:
        applied: The keys that our own apply set.
        owners: The other managers of each key; ours by another way among them.
    """

    version: str
    uid: str = field(compare=False)
    immutable: bool = field(compare=False)
    applied: frozenset[str] = field(compare=False)
    owners: Mapping[str, frozenset[str]] = field(compare=False)
    data: Mapping[str, bytes] = field(compare=False, repr=False)


@final
class KubernetesPlace:
    """
    Implements `Place`.

    Args:
        key: What a field is called in the live Secret.
        take_over: Write keys that another manager owns as well.
    """

    def __init__(
        self,
        api: KubernetesApi,
        names: SecretNames,
        *,
        key: Callable[[SecretName, FieldName], str],
        take_over: bool,
    ) -> None:
        self._api = api
        self._names = names
        self._key = key
        self._take_over = take_over
        self._kept: Mapping[str, bytes] = {}

    def live_key(self, name: SecretName, field: FieldName) -> str:
        """Return the key of the live Secret that holds *field* of the secret *name*."""
        return self._key(name, field)

    def look(self, *, live: bool, ledger: bool) -> Seen:
        """
        Read what is asked for, the ledger first.

        Raises:
            Unavailable: No answer.
            AccessDenied: We may not read it.
            Corrupt: It is not what was written.
            Rejected: What is kept beside it is of another environment.
        """
        aside = self._read(self._names.aside) if ledger else None
        shown = self._read(self._names.live) if live else None
        if aside is not None:
            self._kept = aside.data
        return Seen(
            live={} if shown is None else shown.data,
            ledger=None if aside is None else aside.data.get(_LEDGER),
            live_mark=shown,
            ledger_mark=aside,
        )

    def write_live(self, changes: Mapping[str, bytes | None], *, seen: Seen) -> None:
        """
        Write the live Secret as *seen* with *changes*, in one request.

        Raises:
            Conflict: `store.mark`: it is no longer as *seen*; nothing was written.
            Unavailable: Nothing was written.
            OutcomeUnknown: No answer came.
            Rejected: It is too large, immutable, or a controller's.
        """
        mark = _of(seen.live_mark)
        name = self._names.live
        self._check_size(name, _changed(seen.live, changes))
        if mark is None:
            data = {key: value for key, value in changes.items() if value is not None}
            failpoints.hit("store.kubernetes.write")
            self._create(name, data, notes={})
            failpoints.hit("store.kubernetes.written")
            return
        if mark.immutable:
            raise Rejected(
                f"{self._about(name)} is immutable: nobody can change it",
                hint=f"`kubectl -n {self._names.namespace} delete secret {name}` when nothing"
                " starts that needs it, then run the command again: it is made anew",
                code="store.immutable",
            )
        self._check_owners(changes, mark)
        body, sort, query = self._change(changes, mark)
        failpoints.hit("store.kubernetes.write")
        self._patch(name, body, sort, query)
        failpoints.hit("store.kubernetes.written")

    def write_ledger(
        self, ledger: bytes, *, keep: Mapping[str, bytes], drop: Collection[str], seen: Seen
    ) -> None:
        """
        Replace the ledger, with what it names, in one request.

        Raises:
            As `write_live`.
        """
        mark = _of(seen.ledger_mark)
        name = self._names.aside
        removed = {key: None for key in drop if key not in keep}
        changes: dict[str, bytes | None] = {**removed, **keep, _LEDGER: ledger}
        self._check_size(name, _changed({} if mark is None else mark.data, changes))
        failpoints.hit("store.kubernetes.keep")
        if mark is None:
            self._create(name, {**keep, _LEDGER: ledger}, notes=self._notes())
        else:
            body = {"metadata": _condition(mark), "data": _encoded(changes)}
            self._patch(name, body, MERGE_PATCH, {"fieldManager": MANAGER})
        failpoints.hit("store.kubernetes.kept")

    def kept(self, key: str) -> bytes | None:
        """Return the document kept as *key*, or None."""
        if key not in self._kept:
            aside = self._read(self._names.aside)
            self._kept = {} if aside is None else aside.data
        return self._kept.get(key)

    # --- reading -------------------------------------------------------------------------

    def _read(self, name: str) -> _Mark | None:
        about = self._about(name)
        found = self._api.get(self._path(name), about=about)
        if found is None:
            return None
        metadata = _table(found.get("metadata"))
        if name == self._names.aside:
            self._check_notes(_table(metadata.get("annotations")))
        version, uid = metadata.get("resourceVersion"), metadata.get("uid")
        if not isinstance(version, str) or not isinstance(uid, str):
            raise Corrupt(f"{about} has no version", hint="look at what answers there")
        applied, owners = _owners(metadata.get("managedFields"))
        return _Mark(
            version,
            uid,
            found.get("immutable") is True,
            applied,
            owners,
            {key: _decoded(text, about, key) for key, text in _table(found.get("data")).items()},
        )

    def _check_notes(self, notes: Mapping[str, object]) -> None:
        for note, wanted in self._notes().items():
            found = notes.get(note, wanted)
            if found != wanted:
                raise Rejected(
                    f"{self._about(self._names.aside)} is of `{ascii(found)[1:-1][:64]}`, not of"
                    f" `{wanted}`",
                    hint="two environments or secrets would share one Secret: put `{environment}`"
                    " into the store's `namespace` or `name`",
                    code="store.shared",
                )

    def _notes(self) -> dict[str, str]:
        notes = {ENVIRONMENT_NOTE: str(self._names.environment)}
        if self._names.secret is not None:
            notes[SECRET_NOTE] = str(self._names.secret)
        return notes

    # --- writing -------------------------------------------------------------------------

    def _change(
        self, changes: Mapping[str, bytes | None], mark: _Mark
    ) -> tuple[dict[str, object], str, dict[str, str]]:
        """Return the body that changes the live Secret, its sort, and the query."""
        condition = _condition(mark)
        removed = {key for key, value in changes.items() if value is None}
        if any(key not in mark.applied or mark.owners.get(key) for key in removed):
            body: dict[str, object] = {"metadata": condition, "data": _encoded(changes)}
            return body, MERGE_PATCH, {"fieldManager": MANAGER}
        # What an apply does not say again, it takes away.
        ours = {key: mark.data[key] for key in mark.applied if key in mark.data}
        wanted = _changed(ours, changes)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self._names.live, **condition},
            "data": _encoded(wanted),
        }
        return body, APPLY_PATCH, {"fieldManager": MANAGER, "force": "true"}

    def _create(self, name: str, data: Mapping[str, bytes], *, notes: Mapping[str, str]) -> None:
        metadata: dict[str, object] = {"name": name, "labels": dict(LABELS)}
        if notes:
            metadata["annotations"] = dict(notes)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": "Opaque",
            "data": _encoded(data),
        }
        answer = self._api.request(
            "POST",
            self._path(),
            body,
            about=self._about(name),
            query={"fieldManager": MANAGER},
            expect={_STALE},
        )
        self._require_fresh(answer, name)

    def _patch(
        self, name: str, body: Mapping[str, object], sort: str, query: Mapping[str, str]
    ) -> None:
        answer = self._api.request(
            "PATCH",
            self._path(name),
            body,
            about=self._about(name),
            sort=sort,
            query=query,
            expect={_STALE, _GONE},
        )
        self._require_fresh(answer, name)

    def _require_fresh(self, answer: ClusterAnswer, name: str) -> None:
        if not answer.succeeded:
            raise mark_is_stale(self._about(name))

    def _check_owners(self, changes: Mapping[str, bytes | None], mark: _Mark) -> None:
        if self._take_over:
            return
        for key, value in sorted(changes.items()):
            others = mark.owners.get(key, frozenset()) - _PASSING - {MANAGER}
            if others and mark.data.get(key) != value:
                raise Rejected(
                    f"the key `{key}` of {self._about(self._names.live)} is written by"
                    f" `{ascii(min(others))[1:-1][:64]}` as well",
                    hint="take the key out of what that applies, so that one of the two writes it",
                    code="store.owned",
                )

    def _check_size(self, name: str, data: Mapping[str, bytes]) -> None:
        size_bytes = sum(len(value) for value in data.values())
        if size_bytes > MAX_SECRET_BYTES:
            raise Rejected(
                f"{self._about(name)} would have {size_bytes} bytes; Kubernetes takes"
                f" {MAX_SECRET_BYTES}",
                hint="destroy old versions, or give each secret a Secret of its own:"
                ' layout = "secret"',
                code="store.too_large",
            )

    def _path(self, name: str = "") -> str:
        return object_path("secrets", self._names.namespace, name)

    def _about(self, name: str) -> str:
        return f"the Secret `{name}` in the namespace `{self._names.namespace}`"


def _of(mark: object) -> _Mark | None:
    return mark if isinstance(mark, _Mark) else None


def _condition(mark: _Mark) -> dict[str, str]:
    # With the uid, it is never another object of the same name, nor made anew.
    return {"resourceVersion": mark.version, "uid": mark.uid}


def _changed(data: Mapping[str, bytes], changes: Mapping[str, bytes | None]) -> dict[str, bytes]:
    return {key: value for key, value in {**data, **changes}.items() if value is not None}


def _encoded(data: Mapping[str, bytes | None] | Mapping[str, bytes]) -> dict[str, str | None]:
    return {
        key: None if value is None else base64.b64encode(value).decode()
        for key, value in data.items()
    }


def _decoded(text: object, about: str, key: str) -> bytes:
    # The server writes a key that was given without a value as null.
    try:
        return b"" if text is None else base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        raise Corrupt(
            f"the key `{key}` of {about} is not base64", hint="look at what answers there"
        ) from None


def _owners(entries: object) -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """Return the keys that our own apply set, and of each key the other managers."""
    applied: frozenset[str] = frozenset()
    owners: dict[str, frozenset[str]] = {}
    for entry in entries if isinstance(entries, list) else []:
        about = _table(entry)
        data = _table(_table(about.get("fieldsV1")).get("f:data"))
        keys = frozenset(name.removeprefix("f:") for name in data if name != ".")
        manager = str(about.get("manager"))
        if (manager, about.get("operation")) == (MANAGER, "Apply"):
            applied = keys
            continue
        for key in keys:
            owners[key] = owners.get(key, frozenset()) | {manager}
    return applied, owners


def _table(found: object) -> Mapping[str, object]:
    return found if isinstance(found, dict) else {}
