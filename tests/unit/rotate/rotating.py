"""A rotation's surroundings on a real embedded store, with a target and consumers in memory."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from keyturn.core.ids import FieldName
from keyturn.core.model import Stage
from keyturn.core.ports import Evidence
from keyturn.core.value import SecretValue
from keyturn.errors import VerificationFailed
from keyturn.rotate import Journal, Plan, Runner
from tests.unit.stores.workshop import DB, Workshop, activate

VALUE = FieldName("value")


class Target:
    """A system with credentials: `overlapping` takes several, otherwise it has exactly one."""

    def __init__(self, *, overlapping: bool, accepted: set[bytes]) -> None:
        self.overlapping = overlapping
        self.accepted = set(accepted)


class TargetKind:
    """
    The steps for a `Target`.

    Args:
        failures: Errors to raise, by method, in order; after the effect where the name
            ends in `+`.
    """

    _numbers = itertools.count(1)

    def __init__(self, target: Target, failures: dict[str, list[Exception]] | None = None) -> None:
        self.target = target
        self.failures = failures if failures is not None else {}
        self.calls: list[str] = []

    @property
    def overlaps(self):
        return self.target.overlapping

    reversible = True
    phases = 1

    def first_wait(self, grace_seconds):
        return grace_seconds

    def later_waits(self, grace_seconds):
        return (grace_seconds,) * (self.phases - 1)

    def clean_up(self, token, *, current=None):
        self._meet("clean_up")

    def sweep(self, token, *, current):
        self._meet("sweep")

    def advance(self, current, phase):
        self._meet("advance")
        return {VALUE: SecretValue(current[VALUE].reveal().split(b"#")[0] + b"#%d" % phase)}

    def recede(self, current, phase):
        self._meet("recede")

    def rehearsal(self):
        return None

    def probe(self, values):
        return self.check(None, values)

    def describe(self, current):
        return [("apply", "the target takes the new value")]

    def create(self, current, *, token):
        self._meet("create")
        return {VALUE: SecretValue(b"made %d" % next(self._numbers))}

    def apply(self, current, pending):
        self._meet("apply")
        if self.overlaps:
            self.target.accepted.add(pending[VALUE].reveal())
        else:
            self.target.accepted = {pending[VALUE].reveal()}
        self._meet("apply+")

    def check(self, current, pending):
        self._meet("check")
        if pending[VALUE].reveal() not in self.target.accepted:
            raise VerificationFailed("the new value is refused")
        return Evidence("tried", "accepted")

    def withdraw(self, current, pending):
        self._meet("withdraw")
        self.target.accepted.discard(pending[VALUE].reveal())
        if current is not None and not self.overlaps:
            self.target.accepted = {current[VALUE].reveal()}
        self._meet("withdraw+")

    def retire(self, current, old):
        self._meet("retire")
        self.target.accepted.discard(old[VALUE].reveal())
        self._meet("retire+")

    def prove_dead(self, old, *, current=None):
        self._meet("prove_dead")
        if old[VALUE].reveal() in self.target.accepted:
            raise VerificationFailed("the old value still works")
        return Evidence("tried", "refused")

    def _meet(self, name):
        self.calls.append(name)
        if self.failures.get(name):
            raise self.failures[name].pop(0)


class Consumers:
    """What uses the secret; remembers the version that each delivery brought."""

    def __init__(self, failures: list[Exception] | None = None) -> None:
        self.versions: list[int] = []
        self.failures = failures if failures is not None else []

    def deliver(self, ref, version):
        if self.failures:
            raise self.failures.pop(0)
        self.versions.append(version)
        return [f"backend is on version {version}"]


class AuditTable:
    """Writes each record as a row of the audit table, in the caller's transaction."""

    def __init__(self, database) -> None:
        self._database = database

    def record(self, action, object, outcome, detail):
        body = json.dumps([action, object, outcome, dict(detail)]).encode()
        self._database.execute(
            "INSERT INTO audit (seq, record, hash)"
            " SELECT 1 + COALESCE(MAX(seq), 0), ?, ? FROM audit",
            (body, b"\0" * 32),
        )

    def entries(self):
        """Return (action, step, outcome) of every record."""
        rows = self._database.rows("SELECT record FROM audit ORDER BY seq")
        bodies = [json.loads(row[0]) for row in rows]
        return [(body[0], body[3].get("step"), body[2]) for body in bodies]


class Rotating:
    """One secret, `production/db`, whose version 1 is current and works at the target."""

    def __init__(self, folder: Path, *, overlapping: bool = True, born: bool = True) -> None:
        self.workshop = Workshop(folder)
        self.clock = self.workshop.clock
        self.store = self.workshop.create()
        if born:
            activate(self.store, b"first")
        self.target = Target(overlapping=overlapping, accepted={b"first"} if born else set())
        self.kind = TargetKind(self.target)
        self.consumers = Consumers()
        self.told = []

    @property
    def journal(self):
        return Journal(self.store.database, clock=self.clock)

    @property
    def audit(self):
        return AuditTable(self.store.database)

    def plan(self, *, grace_seconds: int = 0):
        """Return a plan for what is current now."""
        return Plan(
            kind="test",
            strategy="default",
            old_version=self.store.state(DB).current,
            overlaps=self.kind.overlaps,
            grace_seconds=grace_seconds,
            reversible=self.kind.reversible,
            later_waits=tuple(self.kind.later_waits(grace_seconds)),
        )

    def runner(self, *, store=None, audit=None, swept=()):
        """Return a runner, as a new process would have it."""
        store = store or self.store
        return Runner(
            database=store.database,
            store=store,
            journal=Journal(store.database, clock=self.clock),
            audit=audit or AuditTable(store.database),
            delivery=self.consumers,
            clock=self.clock,
            entropy=self.workshop.entropy,
            listener=self.told.append,
            swept=swept,
        )

    def start(self, **options):
        """Rotate by a plan for what is current now."""
        plan = self.plan(grace_seconds=options.pop("grace_seconds", 0))
        return self.runner().start(DB, self.kind, plan, **options)

    def resume(self, **options):
        """Take the rotation up as a new process would."""
        return self.runner().resume(DB, self.kind, **options)

    def current_value(self):
        """Return the bytes of what is current."""
        return self.store.read(DB, Stage.CURRENT).values[VALUE].reveal()

    def close(self):
        self.workshop.close()
