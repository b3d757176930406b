"""
Compose's file secrets: one file for each field, and what is kept of it beside.

    FOLDER/ENVIRONMENT/db_password              live: `file: ./FOLDER/ENVIRONMENT/db_password`
    FOLDER/.keyturn-state/ENVIRONMENT/...       ledger and kept values, see `_docker_state`
    FOLDER/.keyturn-state/ENVIRONMENT/journal   a change of live files that is decided

Compose mounts each file by itself, by inode, when it makes the container: a folder
swapped through a link, as Kubernetes has it, would not be seen either. So each file is
replaced by a rename, and a container has the new ones when it is made anew, which the
delivery does. All fields of a secret change together for Keyturn: they are written
beside the live files first, the journal then decides, and whoever looks next finishes
the renames of a writer that died. A file that somebody saved meanwhile is left to them,
and the change is then refused (see `keyturn._internal.exchange`). A container that
somebody makes anew during these renames can get files of two versions; the delivery's
own comes after them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from keyturn._internal import durable, failpoints
from keyturn._internal.exchange import put_in_place
from keyturn._internal.filestate import file_differences
from keyturn.core.ids import FieldName, SecretName
from keyturn.errors import (
    AccessDenied,
    Corrupt,
    KeyturnError,
    OutcomeUnknown,
    Rejected,
    Unavailable,
)
from keyturn.stores._docker_state import StateFolder, read_file
from keyturn.stores._place import Seen, mark_is_stale, plain_key

__all__ = ["ComposeFiles", "ComposePlace"]

_NEXT = ".keyturn-next."
_FORMAT = 1
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ComposeFiles:
    """
    Where the files of one environment lie, and whose they are.

    Args:
        live: The folder of the live files.
        state: The folder of what is kept beside them, on the same machine.
        uid: The user that the container's program runs as; -1 for Keyturn's own.
        gid: Its group, or -1.
        mode: Of each file; Compose mounts it with mode and owner as they are here.
        live_key: Returns the name of a field's file.
    """

    live: Path
    state: Path
    uid: int = -1
    gid: int = -1
    mode: int = 0o400
    live_key: Callable[[SecretName, FieldName], str] = plain_key


@final
class ComposePlace:
    """One environment's files; implements `Place`."""

    def __init__(self, files: ComposeFiles) -> None:
        self._files = files
        self._live = files.live
        self._state = StateFolder(files.state)
        self._journal = files.state / "journal"

    def live_key(self, name: SecretName, field: FieldName) -> str:
        """Return the file's name."""
        return self._files.live_key(name, field)

    def look(self, *, live: bool, ledger: bool) -> Seen:
        """
        Read what is asked for, after finishing what a writer that died had decided.

        Raises:
            Unavailable: A file cannot be read or written.
            AccessDenied: It may not be.
            Corrupt: What is kept is not what Keyturn wrote.
        """
        with self._translated("read"), self._state.locked(create=False):
            self._settle()
            record, ledger_mark = self._state.look() if ledger else (None, None)
            found = self._read() if live else None
            return Seen(found or {}, record, None if found is None else _mark(found), ledger_mark)

    def write_live(self, changes: Mapping[str, bytes | None], *, seen: Seen) -> None:
        """
        Replace and remove files, all or none.

        Raises:
            Conflict: `store.mark`: they are no longer as *seen*.
            Rejected: A file cannot be given to its owner, or something else is in its place.
            Unavailable: Nothing was written.
            OutcomeUnknown: The change is decided, and could not be finished.

        Crash safety:
            The journal decides: before it nothing, after it all, by whoever looks next.
        """
        with self._translated("written", changing=True), self._state.locked(create=True):
            self._settle()
            found = self._read()
            if (None if found is None else _mark(found)) != seen.live_mark:
                raise mark_is_stale(f"`{self._live}`")
            self._prepare(changes)
            journal = {
                "format": _FORMAT,
                "set": sorted(key for key, data in changes.items() if data is not None),
                "remove": sorted(key for key, data in changes.items() if data is None),
                "new": {key: _digest(data) for key, data in changes.items() if data is not None},
                "was": {key: _digest(data) for key, data in (found or {}).items()},
            }
            failpoints.hit("store.compose.write")
            durable.replace(
                self._journal, json.dumps(journal).encode(), point="store.compose.journal"
            )
            theirs = self._settle(found or {})
            failpoints.hit("store.compose.written")
            if theirs:
                raise mark_is_stale(f"`{self._live / theirs[0]}`")

    def write_ledger(
        self, ledger: bytes, *, keep: Mapping[str, bytes], drop: Collection[str], seen: Seen
    ) -> None:
        """
        Replace the ledger. What it names anew, *keep*, is durable before it.

        Raises:
            As `write_live`.
        """
        with self._translated("written"), self._state.locked(create=True):
            self._state.write(ledger, keep=keep, drop=drop, mark=seen.ledger_mark)

    def kept(self, key: str) -> bytes | None:
        """Return the document kept as *key*, or None."""
        with self._translated("read"), self._state.locked(create=False):
            return self._state.kept(key)

    def advice(self) -> list[str]:
        """Return in words how the files' owner and mode differ from what they ought to be."""
        files, said = self._files, []
        for key, data in (self.look(live=True, ledger=False).live).items():
            found = file_differences(
                self._live / key, data, mode=files.mode, uid=files.uid, gid=files.gid
            )
            said += [f"`{self._live / key}`: {words}" for words in found]
        return said

    def _read(self) -> dict[str, bytes] | None:
        if not self._live.is_dir():
            return None
        names = sorted(e.name for e in self._live.iterdir() if not e.name.startswith("."))
        found = ((name, read_file(self._live / name)) for name in names)
        return {name: data for name, data in found if data is not None}

    def _prepare(self, changes: Mapping[str, bytes | None]) -> None:
        """Write what will be renamed, so that nothing can fail once it is decided."""
        files = self._files
        if not self._live.is_dir():
            # A user that is not Keyturn's may pass to its own files, and list nothing.
            others = files.uid not in {-1, os.geteuid()}
            durable.create_directory(self._live, mode=0o711 if others else 0o700)
        for entry in self._live.glob(f"{_NEXT}*"):
            entry.unlink()
        for key, data in changes.items():
            if not _KEY.fullmatch(key):
                raise Rejected("a secret's file has a name that is not one of Keyturn's")
            target = self._live / key
            if target.is_dir() and not target.is_symlink():
                raise Rejected(
                    f"`{target}` is a folder",
                    hint="docker makes one where a file is missing: stop the container, remove it",
                )
            if data is not None:
                self._write_next(key, data)

    def _write_next(self, key: str, data: bytes) -> None:
        files = self._files
        try:
            durable.replace(
                self._live / f"{_NEXT}{key}",
                data,
                mode=files.mode,
                uid=files.uid,
                gid=files.gid,
                point="store.compose.next",
            )
        except PermissionError:
            if (files.uid, files.gid) == (-1, -1):
                raise
            raise Rejected(
                f"`{self._live / key}` cannot be given to uid {files.uid}, gid {files.gid}",
                hint="that needs root, or leave the owner out and run the container as yours",
                code="store.owner",
            ) from None

    def _settle(self, seen: Mapping[str, bytes] | None = None) -> list[str]:
        """
        Finish the change that the journal decided.

        Args:
            seen: What the files had when it was decided. A file that somebody saved
                since is left to them; None where nobody knows any more.

        Returns:
            The names of such files.
        """
        data = read_file(self._journal)
        if data is None:
            return []
        try:
            found = json.loads(data)
            keys, gone = list(found["set"]), list(found["remove"])
            new, was = dict(found.get("new", {})), dict(found.get("was", {}))
            known = found["format"] == _FORMAT
        except (ValueError, KeyError, TypeError):
            keys, gone, new, was, known = [], [], {}, {}, False
        if not known or not all(isinstance(k, str) and _KEY.fullmatch(k) for k in keys + gone):
            raise Corrupt(
                f"`{self._journal}` is not what Keyturn wrote",
                hint="compare the files with their values, then move it away",
            )
        theirs = []
        for key in keys:
            if seen is None:
                self._put_late(key, new.get(key), was.get(key))
            elif not self._put(key, seen):
                theirs.append(key)
            failpoints.hit("store.compose.renamed")
        for key in gone:
            (self._live / key).unlink(missing_ok=True)
        durable.sync_directory(self._live)
        durable.unlink(self._journal)
        return theirs

    def _put(self, key: str, seen: Mapping[str, bytes]) -> bool:
        prepared, target = self._live / f"{_NEXT}{key}", self._live / key
        if key not in seen and os.path.lexists(target):
            # What is no file was not read, and is nobody's value.
            prepared.rename(target)
            return True
        return put_in_place(prepared, target, seen=seen.get(key), point="store.compose.file")

    def _put_late(self, key: str, new: str | None, was: str | None) -> None:
        """Do what a writer that died may have done."""
        prepared = self._live / f"{_NEXT}{key}"
        data = read_file(prepared)
        if data is None:
            return
        if _digest(data) == was and was != new:
            # The two had changed places: this is what was replaced.
            prepared.unlink()
            return
        # What is to be live; or what somebody saved, and was to be given back.
        prepared.rename(self._live / key)

    @contextlib.contextmanager
    def _translated(self, what: str, *, changing: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._failure(what, error, changing=changing) from error

    def _failure(self, what: str, error: OSError, *, changing: bool) -> KeyturnError:
        if changing and os.path.lexists(self._journal):
            return OutcomeUnknown(
                f"a change of `{self._live}` is decided and could not be finished:"
                f" {error.strerror}",
                hint="set right what the message says, then run the command again",
            )
        said = f"`{self._live}` or what is kept beside it cannot be {what}: {error.strerror}"
        if isinstance(error, PermissionError):
            return AccessDenied(
                said, hint="run as the owner of the files, or as root", code="store.denied"
            )
        return Unavailable(said, hint="check the folder and the free space")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _mark(found: Mapping[str, bytes]) -> str:
    """Return what stands for these files in a comparison; it is never written or shown."""
    mark = hashlib.sha256()
    for key, data in sorted(found.items()):
        mark.update(b"%d %s %d " % (len(key), os.fsencode(key), len(data)))
        mark.update(data)
    return mark.hexdigest()
