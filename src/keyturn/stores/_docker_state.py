"""
What is kept beside files that others read: the ledger and the kept values, as files.

    FOLDER/lock        held by whoever reads or writes (flock)
    FOLDER/ledger      {"format": 1, "ledger": BASE64, "kept": [KEY, ...]}
    FOLDER/kept/KEY    one document each

All of it is the owner's alone. The values are as open as the live files are, to whoever
may read this folder. A document that the ledger does not list is of a writer that died;
the next write removes it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from keyturn._internal import durable, locks
from keyturn._internal.filestate import read_bounded
from keyturn.errors import Corrupt, Rejected
from keyturn.stores._place import mark_is_stale

__all__ = ["MAX_FILE_BYTES", "StateFolder", "read_file"]

_FORMAT = 1
MAX_FILE_BYTES = 64 * 1024 * 1024
_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Stored:
    ledger: bytes | None
    kept: frozenset[str]
    mark: str | None


class StateFolder:
    """The ledger and the kept documents in *folder*; the caller holds `locked`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self, *, create: bool) -> Iterator[None]:
        """
        Keep every other reader and writer out while the block runs.

        Args:
            create: Make the folder where it is absent; else nothing is locked then.
        """
        if not create and not self.folder.is_dir():
            yield
            return
        if create and not self.folder.is_dir():
            self._make()
        with locks.held(self.folder, "lock"):
            yield

    def look(self) -> tuple[bytes | None, str | None]:
        """Return the ledger and its mark."""
        stored = self._stored()
        return stored.ledger, stored.mark

    def write(
        self, ledger: bytes, *, keep: Mapping[str, bytes], drop: Collection[str], mark: object
    ) -> None:
        """
        Replace the ledger; *keep* is durable before it and *drop* is gone after it.

        Raises:
            Conflict: It is not at *mark*.
        """
        stored = self._stored()
        if stored.mark != mark:
            raise mark_is_stale(f"`{self.folder}`")
        kept = self.folder / "kept"
        for key, document in keep.items():
            durable.replace(kept / _checked(key), document, point="store.compose.keep")
        names = sorted((stored.kept | set(keep)) - set(drop))
        text = {"format": _FORMAT, "ledger": base64.b64encode(ledger).decode(), "kept": names}
        durable.replace(
            self.folder / "ledger",
            json.dumps(text, separators=(",", ":")).encode(),
            point="store.compose.ledger",
        )
        self._sweep(frozenset(names))

    def kept(self, key: str) -> bytes | None:
        """Return the document kept as *key*, or None."""
        if key not in self._stored().kept:
            return None
        return read_file(self.folder / "kept" / _checked(key))

    def _make(self) -> None:
        root = self.folder.parent
        if not root.is_dir():
            # What holds it may be passed by others, who then read live files.
            durable.create_directory(root.parent, mode=0o711)
            durable.create_directory(root)
            (root / ".gitignore").write_text("*\n")
        durable.create_directory(self.folder)
        durable.create_directory(self.folder / "kept")

    def _stored(self) -> _Stored:
        data = read_file(self.folder / "ledger")
        if data is None:
            return _Stored(None, frozenset(), None)
        try:
            found = json.loads(data)
            if found["format"] != _FORMAT:
                raise Corrupt(
                    f"`{self.folder}/ledger` has a format that this Keyturn does not know",
                    hint="upgrade this Keyturn; nothing was changed",
                    code="store.newer",
                )
            ledger = base64.b64decode(found["ledger"], validate=True)
            kept = frozenset(str(key) for key in found["kept"])
        except (ValueError, KeyError, TypeError):
            raise Corrupt(
                f"`{self.folder}/ledger` is not what Keyturn wrote",
                hint="restore it from a backup; nothing was changed",
            ) from None
        return _Stored(ledger, kept, hashlib.sha256(data).hexdigest())

    def _sweep(self, listed: frozenset[str]) -> None:
        kept = self.folder / "kept"
        gone = [entry for entry in kept.iterdir() if entry.name not in listed]
        for entry in gone:
            entry.unlink(missing_ok=True)
        if gone:
            durable.sync_directory(kept)


def read_file(path: Path) -> bytes | None:
    """
    Return what the regular file at *path* holds; None for anything else that is there.

    Raises:
        OSError: It cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        if path.is_symlink():
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return read_bounded(descriptor, MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise Rejected("a name to keep a value by is not one of Keyturn's")
    return key
