"""
Changing the root key, in two phases.

    1. the new key is durable as `root.key.next`
    2. one transaction rewraps every data key and records the new key's id
    3. the new file takes the name `root.key`

Before 2 commits the store needs the old key, after it the new one, and at every
moment both that it may need are on disk. The write lock of the store owns
`root.key.next`: it is written, renamed and removed only under it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from keyturn._internal import durable, failpoints
from keyturn._internal.database import Database
from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.crypto import PassphraseParameters, RootKey, derive_root_key
from keyturn.errors import KeyturnError, Unavailable
from keyturn.stores._meta import RootKeyKind, UnlockedKeys, describe, unlock
from keyturn.stores.rootkey import KEY_FILE, NEXT_KEY_FILE, read_key_file, stage_key_file

__all__ = ["rotate_root_key", "settle_root_key", "write_root_meta"]


def rotate_root_key(
    database: Database,
    keys: UnlockedKeys,
    *,
    home: Path,
    phrase: SecretValue | None = None,
    entropy: Entropy,
) -> RootKey:
    """
    Give the store a new root key; the source may change with it.

    Args:
        keys: The open ladder; it goes on working afterwards.
        home: The key home folder.
        phrase: The new passphrase, or None for a new key file.

    Raises:
        UsageError: *phrase* is too short.
        Unavailable: The key folder or the store cannot be written; nothing has changed.
        Conflict: An earlier change was not tidied up yet, or another process holds the store.

    Crash safety:
        Durable on return, or with the outer transaction. Whatever it dies at, the
        store opens with the old key or the new one, and the next opening tidies up.
    """
    parameters = None if phrase is None else PassphraseParameters.new(entropy)
    # The slow derivation is done before the write lock is taken.
    derived = derive_root_key(phrase, parameters) if phrase and parameters else None
    settle_root_key(database, home)
    with database.transaction():
        # Read under the lock: another process may have changed data keys meanwhile.
        ladder = unlock(database, keys.root_key)
        root_key = derived or stage_key_file(home, entropy=entropy)
        database.execute_many(
            "UPDATE data_key SET wrapped = ? WHERE id = ?",
            [
                (key.wrap(root_key, store_id=keys.store_id, entropy=entropy), key.number)
                for key in ladder.listed()
            ],
        )
        write_root_meta(database, root_key, parameters)
        database.after_commit(lambda: _finish(database, keys, root_key, home))
    return root_key


def _finish(database: Database, keys: UnlockedKeys, root_key: RootKey, home: Path) -> None:
    keys.root_key = root_key
    # The change is durable, and opening finds the key under either name: what fails
    # here is done by the next opening.
    with contextlib.suppress(KeyturnError):
        settle_root_key(database, home)


def write_root_meta(
    database: Database, root_key: RootKey, parameters: PassphraseParameters | None
) -> None:
    """Record which root key the store needs; the caller holds the transaction."""
    kind = RootKeyKind.KEY_FILE if parameters is None else RootKeyKind.PASSPHRASE
    rows = [("root_key_id", root_key.id), ("root_key_kind", kind.value)]
    if parameters is None:
        database.execute("DELETE FROM meta WHERE key = 'passphrase_parameters'")
    else:
        rows.append(("passphrase_parameters", str(parameters)))
    database.execute_many("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", rows)


def settle_root_key(database: Database, home: Path) -> None:
    """
    Tidy up after a change of the root key that died half-way; usually does nothing.

    The file with the key that the store needs takes the name `root.key`; a file
    whose key it does not need goes, but only while the needed one is at hand. Within
    a transaction it does nothing: what may still be undone must not decide.

    Raises:
        Unavailable: The folder cannot be written; opening works nevertheless.
        Conflict: Another process holds the store.

    Crash safety:
        May be repeated. At every moment the needed key is on disk.
    """
    if database.in_transaction:
        return
    current, waiting = home / KEY_FILE, home / NEXT_KEY_FILE
    kind = describe(database).root_key_kind
    if not waiting.exists() and (kind is RootKeyKind.KEY_FILE or not current.exists()):
        return
    with database.transaction():
        identity = describe(database)
        try:
            if identity.root_key_kind is RootKeyKind.PASSPHRASE:
                failpoints.hit("rootkey.settle")
                durable.unlink(waiting)
                durable.unlink(current)
            elif _holds(current, identity.root_key_id):
                failpoints.hit("rootkey.settle")
                durable.unlink(waiting)
            elif _holds(waiting, identity.root_key_id):
                failpoints.hit("rootkey.settle")
                waiting.rename(current)
                failpoints.hit("rootkey.settled")
                durable.sync_directory(home)
        except OSError as error:
            raise Unavailable(
                f"the key folder `{home}` cannot be tidied: {error.strerror}",
                hint="check its permissions; the store opens nevertheless",
                code="key.unavailable",
            ) from error


def _holds(path: Path, key_id: str) -> bool:
    try:
        return read_key_file(path).id == key_id
    except KeyturnError:
        return False
