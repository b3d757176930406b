"""A store with its folders, for the tests of this room."""

from __future__ import annotations

from pathlib import Path

from keyturn._internal.database import Database
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef
from keyturn.core.value import SecretValue
from keyturn.stores import EmbeddedStore, create, open_store
from keyturn.testing.clock import FakeClock

STORE_ID = "0123456789abcdef" * 2
PHRASE = SecretValue(b"fake phrase for tests only")
DB = SecretRef(EnvironmentName("production"), SecretName("db"))
WEB = SecretRef(EnvironmentName("production"), SecretName("web"))


class Workshop:
    """The project's and the key home's folder of one store."""

    def __init__(self, folder: Path, *, store_id: str = STORE_ID) -> None:
        self.path = folder / "store.db"
        self.home = folder / "home"
        self.store_id = store_id
        self.clock = FakeClock()
        self.entropy = SystemEntropy()
        self.open_stores: list[EmbeddedStore] = []

    def create(self, *, phrase: SecretValue | None = None) -> EmbeddedStore:
        """Make the store and open it."""
        with Database.open(self.path, create=True) as database:
            create(
                database,
                store_id=self.store_id,
                project="clipper",
                home=self.home,
                phrase=phrase,
                clock=self.clock,
                entropy=self.entropy,
            )
        return self.open()

    def open(self) -> EmbeddedStore:
        """Open the store as a new process would."""
        store = open_store(
            self.path,
            home=lambda store_id: self.home,
            prompt=lambda: PHRASE,
            clock=self.clock,
            entropy=self.entropy,
        )
        self.open_stores.append(store)
        return store

    def close(self) -> None:
        """Close what was opened."""
        while self.open_stores:
            self.open_stores.pop().database.close()


def values(**fields: bytes) -> dict[FieldName, SecretValue]:
    """Return fields by name."""
    return {FieldName(name): SecretValue(data) for name, data in fields.items()}


def put(store: EmbeddedStore, data: bytes, *, ref: SecretRef = DB, token: str = "") -> int:
    """Store *data* as pending and return its number."""
    token = token or f"token {store.state(ref).next_number}"
    version = store.put_pending(ref, values(value=data), origin=Origin.SET, token=Token(token))
    return version.number


def activate(store: EmbeddedStore, data: bytes, *, ref: SecretRef = DB) -> int:
    """Store *data* and make it current."""
    expected = store.state(ref).current
    number = put(store, data, ref=ref)
    store.promote(ref, number, expected_current=expected)
    return number
