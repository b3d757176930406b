"""
Creating a store and opening one.

A log that a crash left beside the file (`-wal`) is read before it is believed:
SQLite would fold any well-formed log into the file, one of another store as
well. So the store is first opened read-only and checked as a whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from keyturn._internal.database import Database
from keyturn.core.clock import Clock, rfc3339
from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.crypto import DataKey, PassphraseParameters, RootKey, derive_root_key, new_key
from keyturn.errors import Conflict, Corrupt, IntegrityError, KeyturnError, Sealed
from keyturn.stores._items import write_item
from keyturn.stores._meta import FORMAT, StoreIdentity, UnlockedKeys, describe, unlock
from keyturn.stores._reseal import insert_data_key
from keyturn.stores._rootrotation import settle_root_key, write_root_meta
from keyturn.stores._verify import StoreProblem, verify
from keyturn.stores.embedded import EmbeddedStore
from keyturn.stores.rootkey import create_key_file, root_key_source

__all__ = ["DIGEST_KEY", "create", "inspect_store", "open_store"]

# The sealed item that keyed digests are made with; there from the first moment.
DIGEST_KEY = "digest-key"

# A key changed by another process between two reads is met once, hardly twice.
_ATTEMPTS = 3


def create(
    database: Database,
    *,
    store_id: str,
    project: str,
    home: Path,
    phrase: SecretValue | None = None,
    items: Mapping[str, SecretValue] | None = None,
    clock: Clock,
    entropy: Entropy,
) -> UnlockedKeys:
    """
    Make a new store in *database*, and its root key.

    Args:
        store_id: From `keyturn.core.ids.new_id`; names the key home folder too.
        home: The key home folder of this store.
        phrase: Takes the root key from a passphrase instead of a new key file.
        items: More of Keyturn's own keys to seal from the first moment, by name.

    Raises:
        Conflict: There is a store or a root key already; neither is touched.
        UsageError: *phrase* is too short.
        Unavailable: A folder cannot be written.

    Crash safety:
        Durable on return. Before that: no store, and perhaps a key file that opens nothing.
    """
    _refuse_existing(database)
    parameters = None if phrase is None else PassphraseParameters.new(entropy)
    root_key: RootKey = (
        derive_root_key(phrase, parameters)
        if phrase is not None and parameters is not None
        else create_key_file(home, entropy=entropy)
    )
    data_key = DataKey(1, new_key(entropy))
    keys = UnlockedKeys(store_id, root_key, {1: data_key})
    with database.transaction():
        _refuse_existing(database)
        database.execute_many(
            "INSERT INTO meta (key, value) VALUES (?, ?)",
            [
                ("format", FORMAT),
                ("store_id", store_id),
                ("project", project),
                ("created_at", rfc3339(clock.now())),
            ],
        )
        write_root_meta(database, root_key, parameters)
        insert_data_key(database, keys, data_key, clock=clock, entropy=entropy)
        own = {DIGEST_KEY: new_key(entropy), **(items or {})}
        for name, value in own.items():
            write_item(database, keys, name, value, data_key, entropy=entropy)
    return keys


def _refuse_existing(database: Database) -> None:
    if database.row("SELECT 1 FROM meta") or database.row("SELECT 1 FROM data_key"):
        raise Conflict(
            f"there is a store in `{database.path}` already",
            hint="use it, or move it away yourself if you do not need what is in it",
            code="store.exists",
        )


def open_store(
    path: Path,
    *,
    home: Callable[[str], Path],
    prompt: Callable[[], SecretValue],
    store_id: str | None = None,
    clock: Clock,
    entropy: Entropy,
) -> EmbeddedStore:
    """
    Open the store at *path*.

    Args:
        home: Gives the key home folder for a store id.
        prompt: Asks for the passphrase, where the store has one.
        store_id: The id that is expected, where the caller knows it.

    Raises:
        Sealed: The root key is absent, not kept safely, or another store's.
        Corrupt: The file, its log or its keys are damaged; nothing was written.
        IntegrityError: It is another store than *store_id*.
        Unavailable: It cannot be opened.
        Conflict: A newer Keyturn wrote it, or another process holds it.
    """
    root_key = None
    if _has_log(path):
        with Database.open(path, read_only=True) as database:
            root_key = _check_log(database, home, prompt, store_id)
    database = Database.open(path)
    try:
        keys = _unlock(database, home, prompt, store_id, root_key)
    except BaseException:
        database.close()
        raise
    return EmbeddedStore(database, keys=keys, clock=clock, entropy=entropy)


def inspect_store(
    path: Path, *, home: Callable[[str], Path], prompt: Callable[[], SecretValue]
) -> list[StoreProblem]:
    """
    Return what is wrong with the store at *path*, which is opened for reading only.

    It looks at stores that `open_store` refuses; nothing is written or tidied, but
    SQLite may leave an empty log beside the file.

    Raises:
        Sealed: The root key is absent, not kept safely, or another store's.
        Corrupt: So much is damaged that nothing can be opened.
        Unavailable: There is no store, or it cannot be read.
    """
    with Database.open(path, read_only=True) as database:
        identity = describe(database)
        source = root_key_source(identity, home=home(identity.store_id), prompt=prompt)
        return verify(database, unlock(database, source.load()))


def _has_log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _check_log(
    database: Database,
    home: Callable[[str], Path],
    prompt: Callable[[], SecretValue],
    store_id: str | None,
) -> RootKey:
    identity = _expected(database, store_id)
    root_key = root_key_source(identity, home=home(identity.store_id), prompt=prompt).load()
    problems = verify(database, unlock(database, root_key))
    if problems:
        raise Corrupt(
            f"`{database.path}` and the log beside it do not fit together: {problems[0]}",
            hint="if the log was copied here, move it away; otherwise run `keyturn doctor`;"
            " nothing was overwritten",
            code="store.corrupt",
            context={"problems": len(problems)},
        )
    return root_key


def _unlock(
    database: Database,
    home: Callable[[str], Path],
    prompt: Callable[[], SecretValue],
    store_id: str | None,
    root_key: RootKey | None,
) -> UnlockedKeys:
    for attempt in range(1, _ATTEMPTS + 1):
        identity = _expected(database, store_id)
        folder = home(identity.store_id)
        with contextlib.suppress(KeyturnError):
            # Where it cannot tidy up, the key is found under either name.
            settle_root_key(database, folder)
        if root_key is None or root_key.id != identity.root_key_id:
            root_key = root_key_source(identity, home=folder, prompt=prompt).load()
        try:
            return unlock(database, root_key)
        except Sealed:
            if attempt == _ATTEMPTS or describe(database) == identity:
                raise
            root_key = None
    raise Sealed("the root key changes faster than it can be read", hint="run the command again")


def _expected(database: Database, store_id: str | None) -> StoreIdentity:
    identity = describe(database)
    if store_id is not None and identity.store_id != store_id:
        raise IntegrityError(
            f"`{database.path}` is store {identity.store_id}, not store {store_id}",
            hint="look which of the project's files was copied here from another place",
            code="store.replaced",
        )
    return identity
