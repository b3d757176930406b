"""
The process that the rotation's crash tests kill.

It imports once and then forks for each line of its input, so that a fresh process
costs milliseconds. The first line is the scene, each other one a command; both are
JSON. For each command it answers how that process ended.

    {"action": "start" | "resume", "failpoint": TEXT, "healthy": true}

and further `old`, the version that is planned to be replaced, and `fork`, where false
to do the command in the first process.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path

import psycopg  # noqa: F401 - imported before the first fork

from keyturn._internal import durable, failpoints
from keyturn._internal.database import Database
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import EnvironmentName, SecretName, StoreName
from keyturn.core.model import SecretRef
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, DeliveryError
from keyturn.manifest import StoreKind, StoreSettings
from keyturn.rotate import Journal, Plan, Runner, State
from keyturn.stores import SealedPlace, StoreContext, open_outside, open_store
from keyturn.targets import InPlace, PostgresTarget, TwoLogins
from tests.unit.rotate.rotating import AuditTable

DB = SecretRef(EnvironmentName("production"), SecretName("db"))
STRATEGIES = {"two-logins": TwoLogins, "in-place": InPlace}
PATIENCE_SECONDS = 20
# Long enough that the run which starts a rotation leaves the grace to another one.
GRACE_SECONDS = 3600

DONE, ROLLED_BACK, STUCK, BUSY = 0, 10, 11, 12
CODES = {State.DONE: DONE, State.ROLLED_BACK: ROLLED_BACK, State.STUCK: STUCK}


class Delivery:
    """Writes the file that the application reads, and waits until it logged in with it."""

    def __init__(self, store: Opened, folder: Path, *, refused: int | None) -> None:
        self.store = store
        self.folder = folder
        self.refused = refused

    def deliver(self, ref, version):
        values = self.store.read(ref, version).values
        text = {name: value.reveal_text() for name, value in values.items()}
        body = json.dumps({"version": version, **text}).encode()
        durable.replace(self.folder / "delivered", body, point="deliver.file")
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.is_seen(version):
            if time.monotonic() > until:
                raise DeliveryError(f"the application does not come up on version {version}")
            time.sleep(0.002)
        failpoints.hit("deliver.seen")
        if version == self.refused:
            raise DeliveryError("the application is not healthy")
        return [f"version {version} is in use"]

    def is_seen(self, version):
        try:
            return (self.folder / "seen").read_text() == str(version)
        except FileNotFoundError:
            return False


def password():
    return SecretValue.from_text("CANARY" + SystemEntropy().random_bytes(17).hex())


def kind_of(scene):
    target = dict(scene["target"])
    target["admin_password"] = SecretValue.from_text(target["admin_password"])
    return STRATEGIES[scene["strategy"]](PostgresTarget(**target), make_password=password)


class Closing:
    """The control database; to close it lets the store of values go too."""

    def __init__(self, database, store) -> None:
        self.database = database
        self.store = store

    def __getattr__(self, name):
        return getattr(self.database, name)

    def close(self):
        getattr(self.store, "close", lambda: None)()
        self.database.close()


class Opened:
    """The scene's store of values, with the control database beside it."""

    def __init__(self, embedded, store) -> None:
        self.database = Closing(embedded.database, store)
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)


def open_scene(scene):
    """Return the scene's store, as a new process opens it."""
    folder = Path(scene["folder"])
    embedded = open_store(
        folder / "store.db",
        home=lambda _: folder / "home",
        prompt=lambda: SecretValue(b""),
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )
    described = scene.get("store")
    return Opened(embedded, embedded if described is None else outside(described, embedded, folder))


def outside(described, embedded, folder):
    """Return the store of somebody else that the scene's values live in."""
    settings = StoreSettings(StoreName("team"), StoreKind(described["kind"]), described["options"])
    return open_outside(
        StoreContext(
            settings,
            project=described["project"],
            folder=folder,
            state=folder / ".keyturn",
            clock=SystemClock(),
            entropy=SystemEntropy(),
            variable=lambda ref, field: None,
            facts=lambda ref: {"owner": "team-core"},
            ask=lambda label: SecretValue(b""),
            keep=lambda environment: SealedPlace(embedded, settings.name, environment),
        )
    )


def perform(scene, command):
    """Start or resume, and return how it ended as an exit code."""
    if command["failpoint"] is not None:
        failpoints.arm(command["failpoint"])
    store = open_scene(scene)
    database: Database = store.database
    journal = Journal(database, clock=SystemClock())
    kind = kind_of(scene)
    live = journal.live(DB)
    old = store.state(DB).current if live is None else live.plan.old_version
    next_number = store.state(DB).next_number if live is None else live.new_version
    runner = Runner(
        database=database,
        store=store,
        journal=journal,
        audit=AuditTable(database),
        delivery=Delivery(
            store, Path(scene["folder"]), refused=None if command["healthy"] else next_number
        ),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        joins=store.capabilities.transactional,
    )
    try:
        if command["action"] == "start":
            old = command.get("old", old)
            plan = Plan("postgres-login", scene["strategy"], old, kind.overlaps, GRACE_SECONDS)
            report = runner.start(DB, kind, plan)
        if command["action"] == "resume" or report.waits_until is not None:
            # As a person does who need not wait for the end of the grace.
            report = runner.resume(DB, kind, now=True)
    except Conflict as error:
        print(error.message, file=sys.stderr)
        return BUSY
    if report.failure is not None and command["healthy"]:
        print(f"{report.rotation.step}: {report.failure.message}", file=sys.stderr)
    return CODES[report.rotation.state]


def in_child(scene, command):
    code = 70
    try:
        code = perform(scene, command)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main():
    scene = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        command = json.loads(line)
        if not command.get("fork", True):
            sys.exit(perform(scene, command))
        pid = os.fork()
        if pid == 0:
            in_child(scene, command)
        _, status = os.waitpid(pid, 0)
        # Negative where a signal ended it, as in `subprocess`.
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
