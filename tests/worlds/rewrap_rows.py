"""
The program of a team that re-encrypts its rows: `rewrap_rows.py DATABASE ROWS_A_RUN`.

It is what the guide of the kind `encryption-key` asks for, and is run by the adapter.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import sys
from contextlib import closing

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def cipher(key):
    return AESGCM(base64.b64decode(key["key"]))


def rewrap(database, order, rows):
    new, old = order["new"], {key["id"]: key for key in order["old"]}
    marks = ",".join("?" * len(old))
    # One transaction, in which nobody else writes: no row is changed twice or half.
    database.execute("BEGIN IMMEDIATE")
    found = database.execute(
        f"SELECT id, key_id, nonce, body FROM item WHERE key_id IN ({marks}) ORDER BY id LIMIT ?",
        (*old, rows),
    ).fetchall()
    for number, key_id, nonce, body in found:
        plain = cipher(old[key_id]).decrypt(nonce, body, None)
        fresh = os.urandom(12)
        database.execute(
            "UPDATE item SET key_id = ?, nonce = ?, body = ? WHERE id = ?",
            (new["id"], fresh, cipher(new).encrypt(fresh, plain, None), number),
        )
    left = database.execute(
        f"SELECT count(*) FROM item WHERE key_id IN ({marks})", tuple(old)
    ).fetchone()[0]
    database.execute("COMMIT")
    return {"remaining": left, "done": len(found)}


def main():
    order = json.loads(sys.stdin.readline())
    with closing(sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)) as database:
        print(json.dumps(rewrap(database, order, int(sys.argv[2]))))


if __name__ == "__main__":
    main()
