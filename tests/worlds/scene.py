"""A store with one secret of a world's kind, a client that uses it, and who rotates it."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from keyturn._internal.database import Database
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import Token
from keyturn.core.model import Origin, Stage
from keyturn.rotate import Journal
from keyturn.stores import create
from tests.worlds import kind_child as child
from tests.worlds.base import REF, secret_values, texts_of

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
# A rotation has fewer waits than this; reaching it means that one never ends.
MOST_RESUMES = 12
# A grace that no process waits for.
LONG_SECONDS = 600

WORLDS = (
    "aws_access_key",
    "command",
    "encryption_key",
    "external",
    "guided",
    "jwt_signing_key",
    "openai_key",
    "postgres_15",
    "postgres_18",
    "redis_login",
    "redis_requirepass",
    "sendgrid_key",
    "session_secret",
    "ssh_certificate",
    "ssh_key",
    "stripe_key",
    "stripe_key_preview",
    "stripe_webhook_secret",
    "twitch_app",
    "vault_approle",
)
# Of these nobody but the application knows anything.
NO_TARGET = ("generated", "jwt_single_key", "session_single")
EVERY = (*WORLDS, *NO_TARGET)


def open_world(name):
    return importlib.import_module(f"tests.worlds.{name}").open_world()


class Client:
    """Uses what was delivered to it all the time, and says which version it uses."""

    def __init__(self, world, folder) -> None:
        self.world = world
        self.folder = folder
        self.refused = []
        self.used = 0
        self.outage_seconds = 0.0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        since = None
        while not self.stopping.is_set():
            delivered = json.loads((self.folder / "delivered").read_bytes())
            if self.accepted(delivered):
                self.used += 1
                if since is not None:
                    self.outage_seconds += time.monotonic() - since
                since = None
            else:
                since = since or time.monotonic()
                self.refused.append(delivered["version"])
            # Only its reader waits for it, and a half-written number is not equal.
            (self.folder / "seen").write_text(str(delivered["version"]))
            self.stopping.wait(0.02)

    def accepted(self, delivered):
        try:
            # A world that is an application takes what was delivered, process by process.
            getattr(self.world, "take", lambda _: None)(delivered["values"])
            return self.world.use(delivered["values"])
        except Exception as error:
            self.refused.append(repr(error))
            return False

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(timeout=30)


class Reader(Client):
    """Takes up what is delivered without using it, so that a test has the vendor to itself."""

    def accepted(self, delivered):
        return True


class Scene:
    """Version 1 is a credential that a person made."""

    def __init__(self, world, folder) -> None:
        self.world = world
        self.folder = folder
        self.setup = world.setup
        with Database.open(folder / "store.db", create=True) as control:
            create(
                control,
                store_id="0123456789abcdef" * 2,
                project="clipper",
                home=folder / "home",
                clock=SystemClock(),
                entropy=SystemEntropy(),
            )
        store = self.open()
        values = secret_values(self.setup.first)
        store.put_pending(REF, values, origin=Origin.IMPORTED, token=Token("first"))
        store.promote(REF, 1, expected_current=None)
        store.database.close()
        body = {"version": 1, "values": self.setup.first}
        (folder / "delivered").write_text(json.dumps(body))
        self.process = self.launch()
        self.killed = False
        # The version on which the client does not come up.
        self.refused = None

    def open(self):
        return child.open_scene(self.folder)

    def launch(self):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.worlds.kind_child"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                # Where a plug-in is that a world has installed.
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        scene = {"folder": str(self.folder), "setup": self.setup.to_json()}
        process.stdin.write(json.dumps(scene) + "\n")
        process.stdin.flush()
        return process

    def run(self, action, **options):
        """Start or resume in a fresh process, and return what it answered."""
        command = {"action": action, "refused": self.refused, **options}
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the rotating process ended: {self.process.stderr.read()}")
        return json.loads(line)

    def settle(self, answer, *, failpoint=None):
        """
        Resume until the rotation has ended, doing what a person is asked for.

        A rotation that waits for a person is more than one process: *failpoint* is armed
        in each, until one was killed.
        """
        for _ in range(MOST_RESUMES):
            if answer.get("state") in ("done", "rolled-back"):
                self.tidy_up()
                return answer
            supplied = None
            open_one = self.live()
            if open_one is None:
                self.tidy_up()
                return {"state": "none"}
            if open_one.waits_for_person or self.setup.guided:
                if open_one.step == "create":
                    supplied = self.world.supply()
                elif open_one.step in ("retire", "prove"):
                    self.world.person_ends_old()
                elif open_one.step == "withdraw":
                    self.world.person_ends_new()
            answer = self.run("resume", supplied=supplied, failpoint=failpoint)
            if answer["exit"] == KILLED:
                self.killed, failpoint = True, None
        raise AssertionError(f"the rotation does not end: {answer}")

    def tidy_up(self):
        """End all but what is in use, where nothing can be asked and so nothing waited."""
        if self.setup.kind == "guided":
            self.world.person_keeps(self.values())

    def rotate(self, *, failpoint=None, refuse=None, now=True, unstored=False):
        """
        Start one as its user would, and return the first answer.

        Args:
            refuse: The phase in which the client does not come up.
            now: Without grace; else it waits at the end of the first phase.
            unstored: What was made cannot be stored.
        """
        supplied = self.world.supply() if self.setup.guided else None
        self.refused = None if refuse is None else self.state().next_number + refuse
        answer = self.run(
            "start",
            failpoint=failpoint,
            supplied=supplied,
            now=now,
            first_wait=0 if now else LONG_SECONDS,
            unstored=unstored,
        )
        self.killed = answer["exit"] == KILLED
        return answer

    def live(self):
        store = self.open()
        try:
            return Journal(store.database, clock=SystemClock()).live(REF)
        finally:
            store.database.close()

    def values(self, selector=Stage.CURRENT):
        """Return the texts of a version."""
        store = self.open()
        try:
            return texts_of(store.read(REF, selector).values)
        finally:
            store.database.close()

    def state(self):
        store = self.open()
        try:
            return store.state(REF)
        finally:
            store.database.close()

    def written(self):
        """Return all text that the journal and the audit log hold."""
        store = self.open()
        try:
            rows = store.database.rows("SELECT detail FROM rotation_event")
            rows += store.database.rows("SELECT coalesce(error, '') || plan FROM rotation")
            rows += store.database.rows("SELECT cast(record AS TEXT) FROM audit")
        finally:
            store.database.close()
        return "\n".join(str(row[0]) for row in rows)

    def close(self):
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()
        self.process.wait(timeout=30)
