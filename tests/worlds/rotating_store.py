"""Machines that rotate generated values in a store of somebody else's."""

from __future__ import annotations

import secrets
import threading

from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import FieldName
from keyturn.core.value import SecretValue
from keyturn.rotate import Journal, Plan, Runner
from keyturn.targets import Generated
from tests.unit.rotate.rotating import AuditTable

__all__ = ["VALUE", "Machine", "Made"]

VALUE = FieldName("value")
GRACE_SECONDS = 0


class Made:
    """Every value that was ever made, by several threads at once."""

    def __init__(self):
        self._lock = threading.Lock()
        self._values = set()

    def new(self):
        value = SecretValue.from_text(f"made-{secrets.token_hex(12)}")
        with self._lock:
            self._values.add(value.reveal())
        return {VALUE: value}

    def __contains__(self, data):
        with self._lock:
            return data in self._values


class Machine:
    """
    One thread's connections: to the project's journal, and to the store.

    Args:
        control: Keyturn's own store of the project, opened in this thread.
        store: The one whose values are rotated.
        told: Called with each step as it begins and ends.
    """

    def __init__(self, control, store, *, made=None, clock=None, told=None):
        self.store = store
        self.made = made or Made()
        self.kind = Generated(make=self.made.new)
        clock = clock or SystemClock()
        self.journal = Journal(control.database, clock=clock)
        self.audit = AuditTable(control.database)
        self.delivered = []
        self.runner = Runner(
            database=control.database,
            store=store,
            journal=self.journal,
            audit=self.audit,
            delivery=self,
            clock=clock,
            entropy=SystemEntropy(),
            listener=told,
            joins=store.capabilities.transactional,
        )

    def deliver(self, ref, version):
        """What consumers do: they read the version that they are told of."""
        found = self.store.read(ref, version)
        self.delivered.append((ref, version, found.values[VALUE].reveal()))
        return [f"version {version} was read"]

    def plan(self, ref):
        old = self.store.state(ref).current
        return Plan("generated", "default", old, self.kind.overlaps, GRACE_SECONDS)

    def start(self, ref):
        """Rotate *ref*, whose first version this may be."""
        return self.runner.start(ref, self.kind, self.plan(ref))

    def resume(self, ref):
        return self.runner.resume(ref, self.kind)
