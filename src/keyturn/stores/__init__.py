"""
Where versions live: the embedded store, a memory store, and the embedded store's keys.

`create` makes an embedded store and `open_store` opens one; both stores
implement `keyturn.core.ports.Store` and pass `keyturn.testing.StoreContract`.
"""

from keyturn.stores._meta import (
    RootKeyKind,
    StoreIdentity,
    UnlockedKeys,
    describe,
    unlock,
)
from keyturn.stores._reseal import ResealProgress
from keyturn.stores._rootrotation import rotate_root_key, settle_root_key
from keyturn.stores._rules import MAX_VALUE_BYTES
from keyturn.stores._verify import StoreProblem, verify
from keyturn.stores.anchor import (
    Anchor,
    AnchorReading,
    AnchorState,
    check_anchor,
    read_anchor,
    write_anchor,
)
from keyturn.stores.embedded import EmbeddedStore
from keyturn.stores.memory import MemoryStore
from keyturn.stores.opening import DIGEST_KEY, create, inspect_store, open_store
from keyturn.stores.rootkey import (
    KeyFile,
    Passphrase,
    RootKeySource,
    create_key_file,
    root_key_source,
)

__all__ = [
    "DIGEST_KEY",
    "MAX_VALUE_BYTES",
    "Anchor",
    "AnchorReading",
    "AnchorState",
    "EmbeddedStore",
    "KeyFile",
    "MemoryStore",
    "Passphrase",
    "ResealProgress",
    "RootKeyKind",
    "RootKeySource",
    "StoreIdentity",
    "StoreProblem",
    "UnlockedKeys",
    "check_anchor",
    "create",
    "create_key_file",
    "describe",
    "inspect_store",
    "open_store",
    "read_anchor",
    "root_key_source",
    "rotate_root_key",
    "settle_root_key",
    "unlock",
    "verify",
    "write_anchor",
]
