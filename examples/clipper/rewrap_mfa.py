"""
Re-encrypts the seeds that an old key encrypted. Keyturn runs it when that key is changed.

It is given one line of JSON with the new key and the old ones, changes some rows, and
prints how many are left; Keyturn runs it again until none is. Each run is one transaction,
so a run that is killed has changed nothing, and the next one goes on.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import psycopg
from backend import connect
from delivery import delivered
from keys import Seeds

ROWS_A_RUN = 500
# What the exit statuses mean to Keyturn.
NOT_NOW = 75
NEEDS_A_PERSON = 77


def rewrap(connection: psycopg.Connection[Any], order: dict[str, Any]) -> dict[str, int]:
    """Change some rows in one transaction, and return how many are left and were done."""
    keys = [order["new"], *order["old"]]
    seeds = Seeds({"MFA_ENCRYPTION_KEYS": ",".join(f"{key['id']}:{key['key']}" for key in keys)})
    old = [key["id"] for key in order["old"]]
    with connection.transaction():
        # Locked, so that a row that the backend changes meanwhile is not overwritten.
        rows = connection.execute(
            "SELECT user_id, key_id, nonce, sealed FROM mfa_seeds WHERE key_id = ANY(%s)"
            " ORDER BY user_id LIMIT %s FOR UPDATE",
            (old, ROWS_A_RUN),
        ).fetchall()
        for user, *sealed in rows:
            connection.execute(
                "UPDATE mfa_seeds SET key_id = %s, nonce = %s, sealed = %s WHERE user_id = %s",
                (*seeds.seal(user, seeds.open(user, *sealed)), user),
            )
        left = connection.execute(
            "SELECT count(*) FROM mfa_seeds WHERE key_id = ANY(%s)", (old,)
        ).fetchone()
    return {"remaining": left[0] if left else 0, "done": len(rows)}


def main() -> int:
    order = json.loads(sys.stdin.readline())
    try:
        settings = delivered()
    except OSError:
        print("run `keyturn render` first: the login is read from there", file=sys.stderr)
        return NEEDS_A_PERSON
    try:
        with connect(settings) as connection:
            print(json.dumps(rewrap(connection, order)))
    except psycopg.OperationalError as error:
        print(f"the database did not answer: {type(error).__name__}", file=sys.stderr)
        return NOT_NOW
    return 0


if __name__ == "__main__":
    sys.exit(main())
