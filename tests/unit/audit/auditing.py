"""What the tests of the audit room need: a store's log, its read log, and hands to tamper with both."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from keyturn import _fastaudit
from keyturn._internal.database import Database
from keyturn.audit import Action, AuditLog, Event, Outcome, Segments, verify_log
from keyturn.core.model import Principal
from keyturn.core.value import SecretValue
from keyturn.crypto import new_signing_key, public_key, sign
from keyturn.testing.clock import FakeClock
from keyturn.testing.entropy import SeededEntropy

STORE_ID = "00112233445566778899aabbccddeeff"
ACTOR = Principal("deploy", "local", 1000)
LINE = b'"time":"2026-01-02T03:04:06.000000Z","uid":1000,"pid":7,"action":"environment.value.deliver","object":"production","versions":"db=3"'


def event(action: Action = Action.VALUE_READ, outcome: Outcome = Outcome.DONE, **more) -> Event:
    """Return an event with everything filled in that *more* leaves open."""
    filled = {"object": "production/db", "actor": ACTOR, "source": {"interface": "cli"}, **more}
    return Event(action=action, outcome=outcome, **filled)


class KeySigner:
    """Signs with a key of its own."""

    def __init__(self, key: SecretValue | None = None) -> None:
        self.key = key or new_signing_key(SeededEntropy("audit signer"))
        self.public = public_key(self.key)

    def sign(self, message: bytes) -> bytes:
        return sign(self.key, message)


@dataclass
class Yard:
    """One store's audit log, in a folder."""

    root: Path
    database: Database
    log: AuditLog
    segments: Segments
    signer: KeySigner
    clock: FakeClock

    @property
    def folder(self) -> Path:
        return self.root / "audit"

    @property
    def current(self) -> Path:
        return self.folder / "reads.log"

    def record(self, count: int) -> None:
        """Append *count* records in one transaction."""
        with self.database.transaction():
            for number in range(count):
                self.clock.advance(1)
                self.log.record(event(detail={"version": number}))

    def append(self, count: int = 1) -> None:
        """Append *count* lines to the read log, as the fast path does."""
        for _ in range(count):
            _fastaudit.append(str(self.current), LINE)

    def verify(self, **more):
        """Verify everything there is."""
        options = {"public_key": self.signer.public, **more}
        return verify_log(self.database, self.folder, store_id=STORE_ID, **options)

    def tamper(self, sql: str, *parameters) -> None:
        """Change the database behind the log's back, as somebody with an editor would."""
        with contextlib.closing(sqlite3.connect(self.root / "store.db")) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(sql, parameters)

    def rows(self) -> list[tuple[int, bytes, bytes]]:
        return self.database.rows("SELECT seq, record, hash FROM audit ORDER BY seq")

    def renumber(self, *, above: int, by: int) -> None:
        """Move the records above a number up or down."""
        with contextlib.closing(sqlite3.connect(self.root / "store.db")) as connection, connection:
            connection.execute("UPDATE audit SET seq = seq + 1000000 WHERE seq > ?", (above,))
            connection.execute(
                "UPDATE audit SET seq = seq - 1000000 + ? WHERE seq > 1000000", (by,)
            )


def make_yard(
    root: Path, *, create: bool = True, fresh: bool = False, signer: KeySigner | None = None
) -> Yard:
    """Return the audit log in *root*, new or as it was left; *fresh* makes the folder too."""
    if fresh:
        root.mkdir()
    database = Database.open(root / "store.db", create=create)
    clock, signer = FakeClock(), signer or KeySigner()
    log = AuditLog(database, clock=clock, store_id=STORE_ID, signer=signer)
    segments = Segments(
        root / "audit",
        database=database,
        log=log,
        clock=clock,
        actor=ACTOR,
        source={"pid": os.getpid()},
    )
    return Yard(root, database, log, segments, signer, clock)
