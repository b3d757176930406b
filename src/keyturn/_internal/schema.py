"""
The control database: every table, and how an older file becomes today's.

One SQLite file holds the embedded store, the audit chain and the rotation
journal, because "the new value is stored", "the step advanced" and "the record
is written" must be one transaction. Each table belongs to one room, named
beside it; other rooms reach it through that room.

`user_version` counts the migrations applied. A file from a newer Keyturn is
refused. Migrations are only ever appended.
"""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "MIGRATIONS"]

# "KTRN": tells `file(1)` and us that this database is ours (sqlite.org/pragma.html).
APPLICATION_ID = 0x4B54524E

_FIRST = """
-- what the file is: store id, project, root-key source (stores)
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- the key ladder: data keys, each wrapped by the root key (stores)
CREATE TABLE data_key (
    id INTEGER PRIMARY KEY,
    wrapped BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'retiring')),
    created_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_active_data_key ON data_key (state) WHERE state = 'active';

-- Keyturn's own keys, sealed like values (stores)
CREATE TABLE sealed_item (
    name TEXT PRIMARY KEY,
    data_key INTEGER NOT NULL REFERENCES data_key (id),
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- one row a version; numbers rise and are never reused (stores)
CREATE TABLE version (
    environment TEXT NOT NULL,
    secret TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    created_at TEXT NOT NULL,
    origin TEXT NOT NULL,
    token TEXT NOT NULL,
    destroyed INTEGER NOT NULL DEFAULT 0 CHECK (destroyed IN (0, 1)),
    PRIMARY KEY (environment, secret, number),
    UNIQUE (environment, secret, token)
) STRICT, WITHOUT ROWID;

-- one row a field of a version (stores)
CREATE TABLE value (
    environment TEXT NOT NULL,
    secret TEXT NOT NULL,
    number INTEGER NOT NULL,
    field TEXT NOT NULL,
    data_key INTEGER NOT NULL REFERENCES data_key (id),
    sealed BLOB NOT NULL,
    PRIMARY KEY (environment, secret, number, field),
    FOREIGN KEY (environment, secret, number) REFERENCES version (environment, secret, number)
) STRICT;
CREATE INDEX value_by_data_key ON value (data_key);

-- where the stages of a secret point, authenticated as one row (stores)
CREATE TABLE secret_state (
    environment TEXT NOT NULL,
    secret TEXT NOT NULL,
    current INTEGER,
    pending INTEGER,
    previous INTEGER,
    next_number INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    mac BLOB NOT NULL,
    PRIMARY KEY (environment, secret)
) STRICT, WITHOUT ROWID;

-- the audit chain: the stored bytes are what is hashed (audit)
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY CHECK (seq > 0),
    record BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- signed heads of the chain (audit)
CREATE TABLE checkpoint (
    seq INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;

-- where to look in the chain without reading all of it; the chain is the truth (audit)
CREATE TABLE audit_pointer (
    kind TEXT NOT NULL CHECK (kind IN ('begun', 'anchor')),
    key INTEGER NOT NULL,
    seq INTEGER NOT NULL REFERENCES audit (seq),
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

-- one row a rotation; the index allows one live rotation a secret (rotate)
CREATE TABLE rotation (
    id TEXT PRIMARY KEY,
    environment TEXT NOT NULL,
    secret TEXT NOT NULL,
    kind TEXT NOT NULL,
    strategy TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('live', 'stuck', 'done', 'rolled-back', 'given-up')),
    step TEXT NOT NULL,
    step_state TEXT NOT NULL CHECK (step_state IN ('begun', 'done')),
    old_version INTEGER,
    new_version INTEGER,
    plan TEXT NOT NULL,
    owner TEXT NOT NULL,
    fence INTEGER NOT NULL,
    lease_until TEXT NOT NULL,
    wait_until TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    error_code TEXT,
    error TEXT,
    started_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    finished_at TEXT,
    phase INTEGER NOT NULL DEFAULT 0,
    fallback INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_live_rotation ON rotation (environment, secret)
    WHERE state IN ('live', 'stuck');
CREATE INDEX rotation_by_secret ON rotation (environment, secret, started_at);

-- what a rotation did, step by step (rotate)
CREATE TABLE rotation_event (
    rotation TEXT NOT NULL REFERENCES rotation (id),
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    fence INTEGER NOT NULL,
    step TEXT NOT NULL,
    event TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (rotation, seq)
) STRICT, WITHOUT ROWID;

-- what was told to which contact, so that it is told once (notify)
CREATE TABLE notice (
    environment TEXT NOT NULL,
    secret TEXT NOT NULL,
    about TEXT NOT NULL,
    level TEXT NOT NULL,
    contact TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('sending', 'sent', 'failed')),
    run TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (environment, secret, about, level, contact)
) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST,)
