"""The embedded store against a simple model, in any order of calls."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, NotFound
from keyturn.stores import rotate_root_key
from keyturn.stores._reseal import reseal_begin, reseal_step
from tests.unit.stores.workshop import Workshop, values

REFS = [
    SecretRef(EnvironmentName(environment), SecretName(name))
    for environment in ("production", "development")
    for name in ("db", "web")
]
refs = st.sampled_from(REFS)
numbers = st.integers(min_value=0, max_value=6)
data = st.binary(max_size=8)


class Secret:
    """The model: lists and three numbers."""

    def __init__(self):
        self.values = []
        self.tokens = {}
        self.current = self.pending = self.previous = None

    def stages(self):
        return (self.current, self.pending, self.previous)


class StoreMachine(RuleBasedStateMachine):
    """Every call does to the store what it does to the model, or is refused by both."""

    tokens = Bundle("tokens")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.workshop = Workshop(self.folder)
        self.store = self.workshop.create()
        self.model = {ref: Secret() for ref in REFS}
        self.count = 0

    def teardown(self):
        self.workshop.close()
        shutil.rmtree(self.folder)

    def expect(self, error, action):
        try:
            action()
        except error:
            return
        raise AssertionError(f"{error.__name__} was not raised")

    @rule(target=tokens, ref=refs, value=data)
    def put(self, ref, value):
        self.count += 1
        token = f"token {self.count}"
        self.put_with(ref, value, token)
        return (ref, value, token)

    @rule(again=tokens, other=data)
    def put_again(self, again, other):
        ref, value, token = again
        self.put_with(ref, value, token)
        secret = self.model[ref]
        if token in secret.tokens and other != value:
            self.expect(
                Conflict,
                lambda: self.store.put_pending(
                    ref, values(value=other), origin=Origin.SET, token=token
                ),
            )

    def put_with(self, ref, value, token):
        secret = self.model[ref]

        def call():
            return self.store.put_pending(ref, values(value=value), origin=Origin.SET, token=token)

        if token in secret.tokens:
            number = secret.tokens[token]
            if secret.values[number - 1] is None:
                self.expect(Conflict, call)
            else:
                assert call().number == number
        elif secret.pending is not None:
            self.expect(Conflict, call)
        else:
            secret.values.append(value)
            number = secret.tokens[token] = secret.pending = len(secret.values)
            assert call().number == number

    @rule(ref=refs, number=numbers, expected=st.none() | numbers | st.just("current"))
    def promote(self, ref, number, expected):
        secret = self.model[ref]
        expected = secret.current if expected == "current" else expected

        def call():
            return self.store.promote(ref, number, expected_current=expected)

        if not 1 <= number <= len(secret.values) or secret.values[number - 1] is None:
            self.expect(NotFound, call)
        elif secret.current == number and expected in (secret.previous, number):
            call()
        elif secret.current != expected:
            self.expect(Conflict, call)
        else:
            secret.current, secret.previous = number, secret.current
            if secret.pending == number:
                secret.pending = None
            call()

    @rule(ref=refs, number=numbers | st.just("pending"))
    def discard(self, ref, number):
        secret = self.model[ref]
        number = (secret.pending or 1) if number == "pending" else number
        if secret.pending not in (None, number):
            self.expect(Conflict, lambda: self.store.discard_pending(ref, number))
        else:
            secret.pending = None
            self.store.discard_pending(ref, number)

    @rule(ref=refs, number=numbers)
    def destroy(self, ref, number):
        secret = self.model[ref]
        if not 1 <= number <= len(secret.values):
            self.expect(NotFound, lambda: self.store.destroy(ref, number))
        elif number in secret.stages():
            self.expect(Conflict, lambda: self.store.destroy(ref, number))
        else:
            secret.values[number - 1] = None
            self.store.destroy(ref, number)

    @rule(ref=refs, value=data)
    def undone(self, ref, value):
        """What happens in a transaction that is undone did not happen."""
        if self.model[ref].pending is not None:
            return
        self.count += 1
        try:
            with self.store.database.transaction():
                self.store.put_pending(
                    ref, values(value=value), origin=Origin.SET, token=f"token {self.count}"
                )
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass

    @rule()
    def reopen(self):
        self.workshop.close()
        self.store = self.workshop.open()

    @rule()
    def rotate_root_key(self):
        rotate_root_key(
            self.store.database,
            self.store.keys,
            home=self.workshop.home,
            entropy=self.workshop.entropy,
        )

    @rule()
    def begin_data_key_rotation(self):
        reseal_begin(
            self.store.database,
            self.store.keys,
            clock=self.workshop.clock,
            entropy=self.workshop.entropy,
        )

    @precondition(lambda self: any(secret.values for secret in self.model.values()))
    @rule(batch=st.integers(min_value=1, max_value=3))
    def step_data_key_rotation(self, batch):
        reseal_step(
            self.store.database, self.store.keys, batch=batch, entropy=self.workshop.entropy
        )

    @invariant()
    def same(self):
        """Stages, values, history and the read of a whole environment agree with the model."""
        for ref, secret in self.model.items():
            state = self.store.state(ref)
            assert (state.current, state.pending, state.previous) == secret.stages()
            assert state.next_number == len(secret.values) + 1
            history = self.store.history(ref)
            assert [(v.number, v.destroyed) for v in history] == [
                (number, secret.values[number - 1] is None)
                for number in range(len(secret.values), 0, -1)
            ]
            for stage, number in zip(Stage, secret.stages(), strict=True):
                if number is None:
                    self.expect(NotFound, lambda ref=ref, stage=stage: self.store.read(ref, stage))
                else:
                    expected = {"value": SecretValue(secret.values[number - 1])}
                    assert self.store.read(ref, stage).values == expected
        for environment in ("production", "development"):
            found = self.store.read_many(EnvironmentName(environment), ["db", "web", "absent"])
            assert {name: value.version.number for name, value in found.items()} == {
                ref.name: secret.current
                for ref, secret in self.model.items()
                if ref.environment == environment and secret.current
            }

    @invariant()
    def sound(self):
        """A full check finds nothing, whatever was done and left half-done."""
        assert self.store.verify() == []


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
