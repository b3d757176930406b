"""The places in which the documents' examples run."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

EXAMPLE = """\
PORT=8080
LOG_LEVEL=info
DB_HOST=localhost
DB_PORT=5432
DB_NAME=shop
DB_USER=shop
DB_PASSWORD=changeme
# Signs the session cookie
SESSION_SECRET=change_me
STRIPE_SECRET_KEY=sk_test_your_key_here
"""
SECONDS = 120


class World:
    """
    A temporary project, with a home and a key folder of its own.

    Args:
        folder: The project's; everything else of this world lies beside it.
    """

    def __init__(self, folder):
        self.project = folder / "shop"
        self.project.mkdir()
        self.server = None
        script = Path(sys.executable).parent
        self.environ = {
            "PATH": f"{script}:{os.environ['PATH']}",
            "HOME": str(folder),
            "KEYTURN_HOME": str(folder / "keys"),
            "LANG": "C.UTF-8",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "APP_PASSWORD": secrets.token_hex(20),
            "ADMIN_PASSWORD": secrets.token_hex(20),
        }
        self.run("git init -q .")

    def write(self, name, text, mode=0o644):
        path = self.project / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def run(self, command):
        """Run *command* in a shell, without a terminal; return its code and what it showed."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            start_new_session=True,  # nothing of it may ask the terminal of whoever runs the tests
            check=False,
        )
        return done.returncode, done.stdout.decode()

    def must(self, command):
        code, shown = self.run(command)
        assert code == 0, shown

    def sql(self, text):
        """Run *text* as the superuser, with `$NAME` filled in."""
        filled = re.sub(r"\$([A-Z_]+)", lambda match: self.environ[match[1]], text)
        with self.server.connect(database="shop") as connection:
            connection.execute(filled)


def new(folder):
    """A project with a `.env.example`, a filled-in `.env` and a server; no Keyturn yet."""
    world = World(folder)
    session = secrets.token_urlsafe(40)
    values = (
        f"PORT=8080\nDB_USER=shop\nDB_PASSWORD={world.environ['APP_PASSWORD']}\n"
        f"SESSION_SECRET='{session}'\nSTRIPE_SECRET_KEY=sk_test_{secrets.token_hex(25)}\n"
    )
    world.write(".env.example", EXAMPLE)
    world.write(".env", values, 0o600)
    world.write("server", '#!/bin/sh\ntest -n "$SESSION_SECRET"\n', 0o755)
    return world


def shop(folder):
    """The same with its store filled."""
    world = new(folder)
    world.must("keyturn init --from .env.example && keyturn import .env")
    return world


def postgres(folder, server):
    """A project whose `.env` opens a real database; no Keyturn yet."""
    world = new(folder)
    world.server = server
    world.environ["DB_PORT_REAL"] = world.environ["DB_PORT"] = str(server.port)
    with server.connect() as connection:
        connection.execute("SET log_statement = 'none'")
        password = world.environ["APP_PASSWORD"]
        connection.execute(f"CREATE ROLE shop LOGIN PASSWORD '{password}'")
        connection.execute("CREATE DATABASE shop OWNER shop")
    return world


def tidy(world):
    """Remove what `postgres` and its example made at the server."""
    if world.server is None:
        return
    with world.server.connect() as connection:
        connection.execute("DROP DATABASE shop WITH (FORCE)")
        names = ["shop_a", "shop_b", "shop", "keyturn_admin"]
        there = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        joined = ", ".join(name for name in names if name in there)
        connection.execute(f"DROP OWNED BY {joined}")
        connection.execute(f"DROP ROLE {joined}")
