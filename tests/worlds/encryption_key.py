"""An application of two processes with encrypted rows in SQLite, each row with its key's id."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import sqlite3
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.worlds.base import Setup

HOOK = Path(__file__).with_name("rewrap_rows.py")
FIRST_ROWS = 25
# What the processes write while they are used; older ones are deleted.
MOST_ROWS = 40


def ring_of(values):
    """Return the keys by id, the one that encrypts first."""
    return dict(entry.split(":") for entry in values["ring"].split(","))


class Process:
    """Encrypts with the first key of its ring, and reads every row."""

    def __init__(self, path, values):
        self.path = path
        self.take(values)

    def take(self, values):
        self.ring = ring_of(values)
        if next(iter(self.ring.values())) != values["value"]:
            raise AssertionError("`value` is not the first of `ring`")

    def write(self, text):
        key_id, key = next(iter(self.ring.items()))
        nonce = os.urandom(12)
        body = AESGCM(base64.b64decode(key)).encrypt(nonce, text.encode(), None)
        with closing(sqlite3.connect(self.path, timeout=30)) as database, database:
            database.execute(
                "INSERT INTO item (key_id, nonce, body) VALUES (?, ?, ?)", (key_id, nonce, body)
            )
            database.execute(
                "DELETE FROM item WHERE id > ? AND id <= (SELECT max(id) FROM item) - ?",
                (FIRST_ROWS, MOST_ROWS - FIRST_ROWS),
            )

    def read(self):
        """Return every row's text; KeyError or InvalidTag where one cannot be read."""
        with closing(sqlite3.connect(self.path, timeout=30)) as database:
            rows = database.execute("SELECT key_id, nonce, body FROM item ORDER BY id").fetchall()
        return [
            AESGCM(base64.b64decode(self.ring[key_id])).decrypt(nonce, body, None).decode()
            for key_id, nonce, body in rows
        ]


class EncryptionWorld:
    """Both processes write, and each reads what the other wrote."""

    def __init__(self, *, batch=50):
        self.folder = Path(tempfile.mkdtemp(prefix="keyturn-rows-"))
        self.path = self.folder / "rows.db"
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(
                "CREATE TABLE item (id INTEGER PRIMARY KEY, key_id TEXT, nonce BLOB, body BLOB)"
            )
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        first = {"value": key, "ring": f"2024:{key}"}
        self.setup = Setup(
            kind="encryption-key",
            fields=("value", "ring"),
            target={"rewrap": [sys.executable, str(HOOK), str(self.path), str(batch)]},
            first=first,
            grace_seconds=0,
        )
        self.lock = threading.Lock()
        self.processes = [Process(self.path, first), Process(self.path, first)]
        for number in range(FIRST_ROWS):
            self.processes[0].write(f"row {number}")

    def take(self, values):
        """Give *values* to one process after the other; each writes, and both read it all."""
        with self.lock:
            for process in self.processes:
                process.take(values)
                for writer in self.processes:
                    writer.write("written later")
                    for reader in self.processes:
                        self.require_all(reader.read())

    def require_all(self, texts):
        if texts[:FIRST_ROWS] != [f"row {number}" for number in range(FIRST_ROWS)]:
            raise AssertionError("a row is gone")

    def use(self, values):
        """Read every row with what is given."""
        with self.lock:
            try:
                self.require_all(Process(self.path, values).read())
            except (KeyError, InvalidTag):
                return False
        return True

    def on_keys(self):
        """Return how many rows each key encrypts, by its id."""
        with closing(sqlite3.connect(self.path, timeout=30)) as database:
            return dict(database.execute("SELECT key_id, count(*) FROM item GROUP BY key_id"))

    def credentials(self):
        with self.lock:
            rings = {key_id for process in self.processes for key_id in process.ring}
            return rings | set(self.on_keys())

    def supply(self):
        raise NotImplementedError

    def person_ends_old(self):
        raise NotImplementedError

    def close(self):
        shutil.rmtree(self.folder)


def open_world():
    return EncryptionWorld()
