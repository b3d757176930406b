"""The same on PostgreSQL 18, where the administrator needs ADMIN OPTION on each role."""

from __future__ import annotations

from tests.worlds.postgres_login import PostgresWorld


def open_world():
    return PostgresWorld("18")
