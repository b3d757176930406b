"""The same on PostgreSQL 15, where CREATEROLE alone is enough to change another role."""

from __future__ import annotations

from tests.worlds.postgres_login import PostgresWorld


def open_world():
    return PostgresWorld("15")
