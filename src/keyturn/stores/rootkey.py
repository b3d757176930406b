"""
Where the root key comes from: a key file or a passphrase.

The key file `root.key` lies in the key home folder, never in the project:

    # comment lines
    keyturn-root-key-1 KEY-ID BASE64

A new key is never written over an old one. While the root key is being changed,
the new one waits as `root.key.next`; which of the two is the store's is said by
the store, so a reader tries both.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from keyturn._internal import durable, failpoints
from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.crypto import PassphraseParameters, RootKey, derive_root_key, new_key
from keyturn.errors import Conflict, Corrupt, KeyturnError, Sealed, Unavailable
from keyturn.stores._meta import RootKeyKind, StoreIdentity

__all__ = [
    "KEY_FILE",
    "NEXT_KEY_FILE",
    "KeyFile",
    "Passphrase",
    "RootKeySource",
    "create_key_file",
    "read_key_file",
    "root_key_source",
    "stage_key_file",
]

KEY_FILE = "root.key"
NEXT_KEY_FILE = "root.key.next"

_MAX_BYTES = 4096
_LINE = re.compile(r"keyturn-root-key-1 ([0-9a-f]{16}) ([A-Za-z0-9+/]{43}=)", re.ASCII)
_COMMENT = (
    "# The root key of a Keyturn store. Whoever has this file and the store reads every secret.\n"
    "# Back it up apart from the store; without it the store cannot be opened.\n"
)


class RootKeySource(Protocol):
    """Where a root key comes from."""

    def load(self) -> RootKey:
        """
        Return the root key.

        Raises:
            Sealed: It is not there, or not kept safely.
            Corrupt: What is there is not a root key.
        """
        ...


@dataclass(frozen=True, slots=True)
class KeyFile:
    """
    The key file in a folder.

    Args:
        home: The key home folder of one store.
        key_id: The id of the key that the store needs. With it, a file that waits
            to take its place after a change of the root key is found as well.
    """

    home: Path
    key_id: str | None = None

    def load(self) -> RootKey:
        """
        Return the root key.

        Raises:
            Sealed: The file is absent, a link, another's, or open to others.
            Corrupt: It is not a key file.
        """
        try:
            key = read_key_file(self.home / KEY_FILE)
        except KeyturnError:
            waiting = self._waiting()
            if waiting is None:
                raise
            return waiting
        if self.key_id in (None, key.id):
            return key
        # A wrong key is returned when there is no better: `unlock` names both.
        return self._waiting() or key

    def _waiting(self) -> RootKey | None:
        path = self.home / NEXT_KEY_FILE
        if self.key_id is None or not path.exists():
            return None
        key = read_key_file(path)
        return key if key.id == self.key_id else None


@dataclass(frozen=True, slots=True)
class Passphrase:
    """
    A passphrase that somebody types.

    Args:
        prompt: Asks for it, without echo.
        parameters: As the store recorded them.
    """

    prompt: Callable[[], SecretValue]
    parameters: PassphraseParameters

    def load(self) -> RootKey:
        """
        Return the root key.

        Raises:
            UsageError: The phrase is too short to be one.
            Unavailable: There is not enough memory for the derivation.
        """
        return derive_root_key(self.prompt(), self.parameters)


def root_key_source(
    identity: StoreIdentity, *, home: Path, prompt: Callable[[], SecretValue]
) -> RootKeySource:
    """Return the source that the store itself names."""
    if identity.root_key_kind is RootKeyKind.PASSPHRASE and identity.passphrase is not None:
        return Passphrase(prompt, identity.passphrase)
    return KeyFile(home, identity.root_key_id)


def create_key_file(home: Path, *, entropy: Entropy) -> RootKey:
    """
    Write the first key file of a store and return its key.

    Args:
        home: The key home folder; created with mode 0700 when absent.

    Raises:
        Conflict: There is a key file; it is left as it is.
        Unavailable: The folder cannot be written.

    Crash safety:
        Durable on return. Before that: no file, or one of a store that was never created.
    """
    return _write_new(home, KEY_FILE, entropy=entropy, point="rootkey.create")


def stage_key_file(home: Path, *, entropy: Entropy) -> RootKey:
    """
    Write a new key file that waits to take the old one's place, and return its key.

    The caller holds the store's write lock, which owns the waiting file.

    Raises:
        Conflict: A key waits already; it may be the one that the store needs.
        Unavailable: The folder cannot be written.

    Crash safety:
        Durable on return. Before that: nothing of use, which `settle_root_key` removes.
    """
    return _write_new(home, NEXT_KEY_FILE, entropy=entropy, point="rootkey.stage")


def _write_new(home: Path, name: str, *, entropy: Entropy, point: str) -> RootKey:
    key, data = _new(home / KEY_FILE, entropy)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _translated(home):
        durable.create_directory(home)
        failpoints.hit(point)
        try:
            descriptor = os.open(home / name, flags, 0o600)
        except FileExistsError:
            raise Conflict(
                f"there is a root key at `{home / name}` already",
                hint="it may open a store that you need: move it away yourself if it does not",
                code="key.exists",
            ) from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        durable.sync_directory(home)
        failpoints.hit(f"{point}d")
    return key


def _new(path: Path, entropy: Entropy) -> tuple[RootKey, bytes]:
    value = new_key(entropy)
    key = RootKey(value, f"key file `{path}`")
    encoded = base64.b64encode(value.reveal()).decode("ascii")
    return key, f"{_COMMENT}keyturn-root-key-1 {key.id} {encoded}\n".encode("ascii")


@contextmanager
def _translated(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"the key folder `{home}` cannot be written: {error.strerror}",
            hint="check its permissions and free space, or set KEYTURN_HOME to another place",
            code="key.unavailable",
        ) from error


def read_key_file(path: Path) -> RootKey:
    """
    Return the root key in the file at *path*.

    Raises:
        Sealed: The file is absent, a link, another's, or open to others.
        Corrupt: It is not a key file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise Sealed(
            f"there is no key file at `{path}`",
            hint="restore it from its backup, or set KEYTURN_HOME to the folder that holds it;"
            " no new key is made for a store that exists",
            code="key.missing",
        ) from None
    except OSError as error:
        raise Sealed(
            f"key file `{path}` cannot be opened: {error.strerror}",
            hint="it must be a plain file, not a link, that you can read",
            code="key.unreadable",
        ) from error
    try:
        _check_safe(path, os.fstat(descriptor))
        data = os.read(descriptor, _MAX_BYTES + 1)
    except OSError as error:
        raise Sealed(f"key file `{path}` cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return _parse(path, data)


def _check_safe(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Sealed(
            f"key file `{path}` is not a plain file",
            hint="restore it from its backup",
            code="key.unreadable",
        )
    if found.st_uid != os.geteuid():
        raise Sealed(
            f"key file `{path}` belongs to user {found.st_uid}, not to you",
            hint="run as its owner, or make a copy of your own",
            code="key.permissions",
        )
    if found.st_mode & 0o077:
        raise Sealed(
            f"key file `{path}` is open to others (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"run `chmod 600 {path}`; if others could read it, `keyturn rotate root-key`",
            code="key.permissions",
        )
    if path.parent.stat().st_mode & 0o022:
        raise Sealed(
            f"the key folder `{path.parent}` can be written by others",
            hint=f"run `chmod 700 {path.parent}`",
            code="key.permissions",
        )


def _parse(path: Path, data: bytes) -> RootKey:
    text = data.decode("ascii", "replace")
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    found = _LINE.fullmatch(lines[0]) if len(lines) == 1 and len(data) <= _MAX_BYTES else None
    if found is None:
        raise _not_a_key(path)
    try:
        value = SecretValue(base64.b64decode(found[2], validate=True))
    except binascii.Error:
        raise _not_a_key(path) from None
    key = RootKey(value, f"key file `{path}`")
    # One key has one text, so that every changed character is seen.
    if key.id != found[1] or base64.b64encode(value.reveal()).decode("ascii") != found[2]:
        raise _not_a_key(path)
    return key


def _not_a_key(path: Path) -> Corrupt:
    return Corrupt(
        f"`{path}` is not a key file, or was damaged",
        hint="restore it from its backup; nothing was changed",
        code="key.corrupt",
    )
