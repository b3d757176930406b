"""
Keyturn and somebody else write the same secret of one store behind each other's back.

The other uses the vendor's own client, at random moments, with that client's own
compare-and-set or with none. What Keyturn may never do is say that it made a version
current, and by that have replaced a value of the other's that nobody was told of.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import threading
import time
from collections import Counter

import pytest

from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import FieldName, SecretName, StoreName, Token
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, Corrupt, NotFound
from keyturn.manifest import StoreKind, StoreSettings
from keyturn.stores import SealedPlace, StoreContext, open_outside
from tests.integration.conftest import dockerd
from tests.unit.stores.workshop import Workshop
from tests.worlds.other_writers import writer
from tests.worlds.stores import STORES, described
from tests.worlds.vault_store import ENVIRONMENT

__all__ = ["dockerd"]

DB = SecretRef(ENVIRONMENT, SecretName("db"))
VALUE = FieldName("value")
WRITES = 200
# Each takes from two to ten seconds; `sops` is a program that is started for each write.
SECONDS = 60


@pytest.fixture(params=STORES)
def world(request, tmp_path, monkeypatch):
    with described(request.param, request, tmp_path) as made:
        for name, value in made.environ.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def store(world, tmp_path):
    workshop = Workshop(tmp_path / "control")
    (tmp_path / "control").mkdir()
    embedded = workshop.create()
    # Otherwise whoever wrote a key last is asked to write it alone.
    more = {"take_over": True} if world.kind == "kubernetes" else {}
    settings = StoreSettings(StoreName("team"), StoreKind(world.kind), world.options | more)
    made = open_outside(
        StoreContext(
            settings,
            project=world.project,
            folder=tmp_path,
            state=tmp_path / ".keyturn",
            clock=SystemClock(),
            entropy=SystemEntropy(),
            variable=lambda ref, field: None,
            facts=lambda ref: {},
            ask=lambda label: SecretValue(b""),
            keep=lambda environment: SealedPlace(embedded, settings.name, environment),
        )
    )
    yield made
    made.close()
    workshop.close()


class Other:
    """
    The other writer. Before each write it looks whether its last value is still there.

    Args:
        told: Values that a person was shown, or asked to be replaced, and when.
    """

    def __init__(self, client, told):
        self.client = client
        self.told = told
        self.last = None
        self.written = 0
        self.failures = []
        self.gone = []
        self.pace_seconds = 0.01
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        chance = random.Random(7)
        try:
            while not self.stop.is_set():
                self.look()
                value = f"theirs-{secrets.token_hex(6)}"
                begun = time.monotonic()
                if self.client.write(value) is not False:
                    self.written += 1
                    self.last = (value, begun)
                # Of what Keyturn's own write takes on this store.
                time.sleep(self.pace_seconds * chance.choice((0, 0.1, 0.5, 1, 2, 3)))
        except Exception as error:  # noqa: BLE001 - judged below
            self.failures.append(error)

    def look(self):
        """Ask whether the last value that was acknowledged is live, or what became of it."""
        if self.last is None or getattr(self.client, "apart", False):
            return
        value, begun = self.last
        # A file that Keyturn takes back from the place that it had is away for a moment.
        for _ in range(4):
            if self.client.read() == value:
                return
            time.sleep(0.005)
        self.gone.append((value, begun, time.monotonic()))


class Person:
    """Whoever changes the secret with Keyturn, and decides what becomes of another's value."""

    def __init__(self, store, told, *, in_place):
        self.store = store
        self.in_place = in_place
        self.told = told
        self.did = Counter()
        self.values = {}
        self.accepted = {}

    @property
    def writes(self):
        return self.did["promoted"] + self.did["refused"]

    def change(self):
        with self._half_written():
            self._change()

    @contextlib.contextmanager
    def _half_written(self):
        """A file that somebody is writing in place is empty for a moment, and Keyturn says so."""
        try:
            yield
        except (Corrupt, NotFound) as error:
            assert self.in_place, error.message
            self.did["half written"] += 1

    def _change(self):
        state = self.store.state(DB)
        if state.pending is not None:
            self.store.discard_pending(DB, state.pending)
        text = f"ours-{secrets.token_hex(6)}".encode()
        version = self.store.put_pending(
            DB, {VALUE: SecretValue(text)}, origin=Origin.SET, token=Token(secrets.token_hex(8))
        )
        try:
            self.store.promote(DB, version.number, expected_current=state.current)
        except Conflict as error:
            assert error.code in {"store.drift", "store.moved"}, error.message
            self.did["refused"] += 1
            self.store.discard_pending(DB, version.number)
            return
        self.did["promoted"] += 1
        self.values[version.number] = text

    def decide(self, chance):
        """Take in what is live, or at times put the recorded version back."""
        with self._half_written():
            self._decide(chance)

    def _decide(self, chance):
        if not self.store.drifts(ENVIRONMENT):
            return
        begun = time.monotonic()
        state = self.store.state(DB)
        if state.pending is not None:
            # To AWS, what was current counts as pending once another put something there.
            self.store.discard_pending(DB, state.pending)
        if chance.random() < 0.2 and self._restored():
            self.did["restored"] += 1
            self.told.append((begun, time.monotonic()))
        else:
            try:
                number = self.store.accept(DB, [VALUE]).number
            except Conflict as error:
                assert error.code == "store.pending", error.message
                return
            # Some stores keep the values of the newest versions alone.
            self.accepted[number] = self.store.read(DB, number).values[VALUE].reveal()
            self.did["accepted"] += 1

    def _restored(self):
        try:
            self.store.restore(DB)
        except NotFound:
            # Two changes in a row left AWS without a label that says what was current.
            return False
        return True


def test_neither_loses_a_value_silently(world, store, tmp_path):
    """Two hundred writes: each of the other's is live, a version of Keyturn's, or was told."""
    told, chance = [], random.Random(3)
    person = Person(store, told, in_place=world.kind in {"dotenv", "sops"})
    person.change()
    client = writer(world, tmp_path)
    other = Other(client, told)
    until = time.monotonic() + SECONDS
    other.thread.start()
    try:
        while person.writes + other.written < WRITES or person.did["promoted"] < 20:
            assert other.failures == []
            if time.monotonic() > until:
                break
            begun = time.monotonic()
            person.change()
            other.pace_seconds = time.monotonic() - begun
            person.decide(chance)
            if getattr(client, "apart", False):
                client.clean_up()
            else:
                time.sleep(chance.choice((0, 0.002, 0.01)))
    finally:
        other.stop.set()
        other.thread.join(30)
    assert other.failures == []
    other.look()
    print(f"{world.kind}: {other.written} of others, {dict(person.did)}, {len(other.gone)} gone")
    assert person.writes + other.written >= WRITES
    judge(world, store, person, other)


def judge(world, store, person, other):
    """Every value of the other's that is not where it was put is accounted for."""
    history = store.history(DB)
    held = {
        version.number: store.read(DB, version.number).values[VALUE].reveal()
        for version in history
        if not version.destroyed
    }
    for number, value in {**person.values, **person.accepted}.items():
        assert held.get(number, value) == value
    kept = {value.decode() for value in person.accepted.values()}
    for value, begun, seen in other.gone:
        replaced = any(begun < end and start < seen for start, end in person.told)
        assert value in kept or replaced, f"{value} was lost without a word"
    state = store.state(DB)
    numbers = [version.number for version in history]
    assert numbers == sorted(set(numbers), reverse=True)
    # AWS forgets the oldest.
    whole = list(range(state.next_number - 1, 0, -1))
    assert numbers == whole or world.kind == "aws"
    live = store.read(DB, Stage.CURRENT).values[VALUE].reveal()
    assert state.pending is None
    assert live == held[state.current] or store.drifts(ENVIRONMENT)
    if not getattr(other.client, "apart", False):
        assert other.client.read().encode() == live
        assert person.did["refused"] > 0
        assert person.did["accepted"] > 0
