"""
The process that rotates a credential of any kind, and that crash tests kill.

It imports once and then forks for each line of its input, so that a fresh process
costs milliseconds. The first line is the scene, each other one a command; both are
JSON. For each command it answers one line of JSON.

    {"action": "start" | "resume" | "turn" | "give-up", "failpoint": TEXT, "refused": VERSION | null,
     "now": true, "first_wait": SECONDS, "supplied": {FIELD: VALUE} | null, "unstored": false}

The client is not healthy on the version *refused*. Where *unstored* is true, `create`
does its work and then fails.

    {"exit": -9 | 0, "state": TEXT, "step": TEXT, "person": true, "failure": TEXT}
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

from keyturn._internal import durable, failpoints
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.errors import DeliveryError, KeyturnError, Rejected
from keyturn.rotate import Journal, Plan, Runner
from keyturn.stores import open_store
from tests.unit.rotate.rotating import AuditTable
from tests.worlds.base import REF, Setup, Supplied, kind_in, texts_of

PATIENCE_SECONDS = 30
# What a kind imports when it first connects: once, before the first fork.
DRIVERS = {
    "aws-access-key": "botocore.session",
    "jwt-signing-key": "joserfc.jwt",
    "openai-key": "httpx",
    "postgres-login": "psycopg",
    "redis-login": "redis",
    "sendgrid-key": "httpx",
    "ssh-key": "paramiko",
    "stripe-key": "httpx",
    "stripe-webhook-secret": "httpx",
    "twitch-app": "httpx",
    "vault-approle": "httpx",
}


class HurriedClock(SystemClock):
    """Waits a tenth: what is eventual at a vendor is at once in its emulator."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def monotonic(self):
        return super().monotonic() + self.skipped

    def sleep(self, seconds):
        super().sleep(seconds / 10)
        self.skipped += seconds * 0.9


class Delivery:
    """Writes the file that the client reads, and waits until it used what stands there."""

    def __init__(self, store, folder, *, refused) -> None:
        self.store = store
        self.folder = folder
        self.refused = refused

    def deliver(self, ref, version):
        body = {"version": version, "values": texts_of(self.store.read(ref, version).values)}
        durable.replace(self.folder / "delivered", json.dumps(body).encode(), point="deliver.file")
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.is_seen(version):
            if time.monotonic() > until:
                raise DeliveryError(f"the client does not come up on version {version}")
            time.sleep(0.002)
        if version == self.refused:
            raise DeliveryError("the client is not healthy")
        return [f"version {version} is in use"]

    def is_seen(self, version):
        try:
            return (self.folder / "seen").read_text() == str(version)
        except FileNotFoundError:
            return False


def open_scene(folder):
    """Return the scene's store, as a new process opens it."""
    return open_store(
        folder / "store.db",
        home=lambda _: folder / "home",
        prompt=lambda: SecretValue(b""),
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )


def plan_for(kind, setup, old, *, first_wait):
    return Plan(
        kind=setup.kind,
        strategy=setup.strategy or "default",
        old_version=old,
        overlaps=kind.overlaps,
        grace_seconds=max(first_wait, kind.first_wait(setup.grace_seconds)),
        reversible=kind.reversible,
        later_waits=tuple(kind.later_waits(setup.grace_seconds)),
    )


def unstored(kind):
    """Return *kind*, whose `create` fails for good when its work was done."""
    create = kind.create

    def made_and_lost(current, *, token):
        create(current, token=token)
        raise Rejected("nothing can be stored")

    kind.create = made_and_lost
    return kind


def perform(scene, command):
    """Start or resume, and return what there is to say of it."""
    folder, setup = Path(scene["folder"]), Setup.from_json(scene["setup"])
    if command.get("failpoint"):
        failpoints.arm(command["failpoint"])
    store = open_scene(folder)
    supplied = command.get("supplied")
    kind = kind_in(setup, supplier=Supplied(supplied) if supplied else None, clock=HurriedClock())
    journal = Journal(store.database, clock=SystemClock())
    if command.get("unstored"):
        kind = unstored(kind)
    state = store.state(REF)
    runner = Runner(
        database=store.database,
        store=store,
        journal=journal,
        audit=AuditTable(store.database),
        delivery=Delivery(store, folder, refused=command.get("refused")),
        clock=HurriedClock(),
        entropy=SystemEntropy(),
    )
    now = command.get("now", True)
    try:
        if command["action"] == "start":
            plan = plan_for(kind, setup, state.current, first_wait=command.get("first_wait", 0))
            report = runner.start(REF, kind, plan, now=now)
        elif command["action"] == "turn":
            report = runner.turn_back(REF, kind)
        elif command["action"] == "give-up":
            report = runner.give_up(REF)
        else:
            report = runner.resume(REF, kind, now=now)
    except KeyturnError as error:
        return {"state": "refused", "failure": f"{error.code}: {error.message}"}
    failure = report.failure.message if report.failure is not None else report.rotation.error
    return {
        "state": report.rotation.state.value,
        "step": report.rotation.step.value,
        "person": report.rotation.waits_for_person,
        "failure": failure,
        "notes": list(report.notes),
    }


def in_child(scene, command, writing):
    code = 70
    try:
        answer = perform(scene, command)
        os.write(writing, json.dumps(answer).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main():
    scene = json.loads(sys.stdin.readline())
    setup = Setup.from_json(scene["setup"])
    kind_in(setup)
    if setup.kind in DRIVERS:
        importlib.import_module(DRIVERS[setup.kind])
    for line in sys.stdin:
        command = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            in_child(scene, command, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        answer = {"exit": os.waitstatus_to_exitcode(status), **json.loads(said or b"{}")}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
