"""
Where versions live: the embedded store, a memory store, and the stores of others.

`create` makes an embedded store, `open_store` opens one and `open_outside` opens
one that is somebody else's. All implement `keyturn.core.ports.Store` and pass
`keyturn.testing.StoreContract`. A store of one's own is a `Layout` over `Place`s.
"""

from keyturn.stores._context import StoreContext
from keyturn.stores._meta import (
    RootKeyKind,
    StoreIdentity,
    UnlockedKeys,
    describe,
    unlock,
)
from keyturn.stores._place import Advising, Layout, Place, Seen, mark_is_stale, plain_key
from keyturn.stores._recheck import Rechecked
from keyturn.stores._reseal import ResealProgress
from keyturn.stores._rootrotation import rotate_root_key, settle_root_key
from keyturn.stores._rules import MAX_VALUE_BYTES
from keyturn.stores._sealed_place import SealedPlace
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
from keyturn.stores.outside import OutsideStore
from keyturn.stores.registry import open_outside
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
    "Advising",
    "Anchor",
    "AnchorReading",
    "AnchorState",
    "EmbeddedStore",
    "KeyFile",
    "Layout",
    "MemoryStore",
    "OutsideStore",
    "Passphrase",
    "Place",
    "Rechecked",
    "ResealProgress",
    "RootKeyKind",
    "RootKeySource",
    "SealedPlace",
    "Seen",
    "StoreContext",
    "StoreIdentity",
    "StoreProblem",
    "UnlockedKeys",
    "check_anchor",
    "create",
    "create_key_file",
    "describe",
    "inspect_store",
    "mark_is_stale",
    "open_outside",
    "open_store",
    "plain_key",
    "read_anchor",
    "root_key_source",
    "rotate_root_key",
    "settle_root_key",
    "unlock",
    "verify",
    "write_anchor",
]
