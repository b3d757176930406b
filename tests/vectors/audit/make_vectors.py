"""
Makes the frozen vectors beside this file. Run once for each new format, by hand.

    python tests/vectors/audit/make_vectors.py

A file that exists is never written again: a log that an older Keyturn wrote
must verify for ever, and these files are the proof. The key here is fake.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from keyturn import _fastaudit
from keyturn._internal.database import Database
from keyturn.audit import Action, AuditLog, Event, Outcome, Segments, export_log
from keyturn.core.model import Principal
from keyturn.core.value import SecretValue
from keyturn.crypto import public_key, sign
from keyturn.testing.clock import FakeClock

HERE = Path(__file__).parent
STORE_ID = "0123456789abcdef0123456789abcdef"
KEY = SecretValue(bytes(range(32)))
ACTOR = Principal("deploy", "local", 1000)


class KeySigner:
    def sign(self, message):
        return sign(KEY, message)


def line(path, seconds, subject):
    text = (
        f'"time":"2026-01-02T03:05:{seconds:02}.000000Z","uid":1000,"pid":7,'
        f'"action":"environment.value.deliver","object":"{subject}","versions":"db=3 jwt=1"'
    )
    _fastaudit.append(str(path), text.encode())


def write(folder):
    """Write a log that has one of everything."""
    clock = FakeClock()
    with Database.open(folder / "store.db", create=True) as database:
        log = AuditLog(database, clock=clock, store_id=STORE_ID, signer=KeySigner())
        segments = Segments(
            folder, database=database, log=log, clock=clock, actor=ACTOR, source={"pid": 7}
        )
        segments.maintain()
        for outcome in Outcome:
            clock.advance(1)
            log.record(
                Event(
                    action=Action.VERSION_PROMOTE,
                    object="production/db",
                    outcome=outcome,
                    actor=ACTOR,
                    reason="quarterly \x1b rotation",
                    source={"interface": "cli", "host": "app-1", "pid": 7, "tty": "pts/0"},
                    detail={"version": 3, "digest": "9f86d081884c7d659a2feaa0c55ad015"},
                    settles=None if outcome is not Outcome.DONE else 3,
                )
            )
        log.checkpoint()
        line(folder / "reads.log", 1, "production")
        segments.rotate()
        line(folder / "reads.log", 2, "staging")
        with (folder / "reads.log").open("ab") as file:
            file.write(b'00000 {"torn')
        segments.maintain()
        line(folder / "reads.log", 3, "production")
        segments.maintain()
        log.checkpoint()
        rows = database.rows("SELECT record, hash FROM audit ORDER BY seq")
        bundle = b"".join(
            export_log(database, folder, store_id=STORE_ID, public_key=public_key(KEY), clock=clock)
        )
        return {
            "chain-1.json": json.dumps(
                {
                    "store_id": STORE_ID,
                    "public_key": public_key(KEY).hex(),
                    "records": [{"record": r.decode(), "hash": h.hex()} for r, h in rows],
                    "checkpoints": [
                        {"seq": c.seq, "body": c.body.decode(), "signature": c.signature.hex()}
                        for c in log.checkpoints()
                    ],
                },
                indent=1,
            ).encode(),
            "segment-1-closed.txt": (folder / "reads-000001.log").read_bytes(),
            "segment-1-current.txt": (folder / "reads.log").read_bytes(),
            "bundle-1.jsonl": bundle,
        }


def main():
    with tempfile.TemporaryDirectory() as name:
        for file, content in write(Path(name)).items():
            if not (HERE / file).exists():
                (HERE / file).write_bytes(content)
                print("made", file)


if __name__ == "__main__":
    main()
