"""What every kind that makes keys at a vendor must do, run over a simulator of it."""

from __future__ import annotations

import traceback
from dataclasses import replace

import pytest

from keyturn.core.ids import FieldName, Token
from keyturn.core.value import SecretValue
from keyturn.errors import (
    KeyturnError,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
    VerificationFailed,
)
from keyturn.testing.clock import FakeClock
from keyturn.testing.simulators import Fault
from tests.worlds.base import kind_in, secret_values, texts_of

TOKEN = Token("ab" * 16)
OTHER_TOKEN = Token("cd" * 16)
VALUE = FieldName("value")


class Steps:
    """A kind in its world, with time that passes at once; no error of it shows a value."""

    def __init__(self, world, **changes):
        self.world = world
        self.simulator = world.simulator
        self.setup = replace(world.setup, **changes)
        self.clock = FakeClock()
        self.kind = kind_in(self.setup, clock=self.clock)
        self.current = secret_values(self.setup.first)

    def values(self):
        """Return every key that was ever made here."""
        known = [key.value for key in self.simulator.keys.values()]
        for secret in (self.setup.first, self.setup.admin or {}):
            known += secret.values()
        return known

    def refused(self, family, do):
        """Return the error of *family* that *do* raises, after looking for values in it."""
        with pytest.raises(KeyturnError) as caught:
            do()
        error = caught.value
        assert type(error) is family, error
        shown = "".join(traceback.format_exception(error)) + str(error.hint) + repr(error.context)
        for value in self.values():
            assert value not in shown
            assert value[-12:] not in shown
        return error

    def made(self):
        """Return a new version, made by `create`."""
        return self.kind.create(self.current, token=TOKEN)

    def use(self, values):
        """Use *values* with the vendor's own client."""
        return self.world.use(texts_of(values))


class VendorKeySuite:
    """
    Subclassed for each vendor: `open_world`, and the paths that its faults are set on.

    A subclass says how a key is made (*making*), ended (*ending*) and used (*using*).
    """

    making = ""
    ending = "DELETE "
    using = ""

    @pytest.fixture()
    def world(self):
        """A world of this kind, closed afterwards."""
        world = self.open_world()
        yield world
        world.close()

    @pytest.fixture()
    def steps(self, world):
        """The kind in its world."""
        return Steps(world)

    def open_world(self):
        raise NotImplementedError

    def test_both_keys_work_until_the_old_one_is_retired(self, steps):
        """A rotation by its steps: nothing is refused before the old key is ended."""
        before = steps.world.credentials()
        new = steps.made()
        steps.kind.apply(steps.current, new)
        assert steps.kind.check(steps.current, new).method == "key accepted"
        assert steps.use(steps.current)
        assert steps.use(new)
        steps.kind.retire(new, steps.current)
        assert "401" in steps.kind.prove_dead(steps.current, current=new).detail
        assert not steps.use(steps.current)
        assert steps.use(new)
        assert len(steps.world.credentials()) == len(before)

    def test_the_next_rotation_ends_what_the_last_one_made(self, steps):
        """A key that Keyturn made is found again by the id that was kept with it."""
        first = steps.made()
        steps.kind.retire(first, steps.current)
        second = steps.kind.create(first, token=OTHER_TOKEN)
        steps.kind.check(first, second)
        steps.kind.retire(second, first)
        assert not steps.use(first)
        assert steps.use(second)

    @pytest.mark.parametrize("fault", [Fault.LOST, Fault.BROKEN_AFTER, Fault.BROKEN_BEFORE])
    def test_a_lost_answer_leaves_no_key_behind(self, steps, fault):
        """After a creation in doubt, the next try ends what was made and makes one key."""
        before = steps.world.credentials()
        steps.simulator.fail_next(self.making, fault)
        steps.refused(OutcomeUnknown, steps.made)
        new = steps.made()
        assert steps.use(new)
        assert len(steps.world.credentials() - before) == 1

    def test_clean_up_ends_what_a_lost_answer_left(self, steps):
        """A rotation that is rolled back before it stored the key leaves none."""
        before = steps.world.credentials()
        steps.simulator.fail_next(self.making, Fault.LOST)
        steps.refused(OutcomeUnknown, steps.made)
        assert steps.world.credentials() != before
        steps.kind.clean_up(TOKEN)
        assert steps.world.credentials() == before
        steps.kind.clean_up(TOKEN)

    def test_clean_up_leaves_another_rotations_key(self, steps):
        """Only the keys of the same token are ended."""
        new = steps.made()
        steps.kind.clean_up(OTHER_TOKEN)
        assert steps.use(new)

    def test_what_came_late_is_ended_and_the_key_in_use_is_spared(self, steps):
        """It is told by its value too, where somebody has set it again without its id."""
        before = steps.world.credentials()
        steps.simulator.fail_next(self.making, Fault.LATE)
        steps.refused(OutcomeUnknown, steps.made)
        new = steps.made()
        steps.simulator.catch_up()
        assert len(steps.world.credentials() - before) == 2
        steps.kind.sweep(TOKEN, current={VALUE: new[VALUE]})
        assert steps.use(new)
        assert len(steps.world.credentials() - before) == 1

    def test_withdraw_ends_the_new_key_and_keeps_the_old(self, steps):
        """The way back leaves what is in use alone, and may be walked twice."""
        new = steps.made()
        steps.kind.withdraw(steps.current, new)
        steps.kind.withdraw(steps.current, new)
        assert steps.use(steps.current)
        assert not steps.use(new)

    def test_retiring_twice_is_retiring_once(self, steps):
        """A retirement whose answer was lost is repeated without harm."""
        new = steps.made()
        steps.simulator.fail_next(self.ending, Fault.LOST)
        steps.refused(OutcomeUnknown, lambda: steps.kind.retire(new, steps.current))
        steps.kind.retire(new, steps.current)
        steps.kind.prove_dead(steps.current, current=new)
        assert steps.use(new)

    def test_the_key_in_use_is_not_retired(self, steps):
        """Two versions with one key: it is not ended."""
        error = steps.refused(
            Rejected, lambda: steps.kind.retire(steps.current, dict(steps.current))
        )
        assert error.code == "target.in-use"
        assert steps.use(steps.current)

    def test_an_old_key_that_still_works_is_noticed(self, steps):
        """Nothing is taken for dead that the vendor accepts."""
        new = steps.made()
        error = steps.refused(
            VerificationFailed, lambda: steps.kind.prove_dead(steps.current, current=new)
        )
        assert error.code == "target.still-works"

    def test_no_answer_is_no_proof(self, steps):
        """A vendor that cannot be reached proves nothing."""
        steps.made()
        steps.simulator.fail_next(self.using, Fault.LOST)
        steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current))
        steps.simulator.fail_next(self.using, Fault.BROKEN_BEFORE)
        steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current))
        steps.simulator.stop()
        steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current))

    def test_a_vendor_that_refuses_everybody_proves_nothing(self, steps):
        """Where the key in use is refused too, the refusal of the old one says nothing."""
        new = steps.made()
        for key in steps.simulator.keys.values():
            key.live = False
        steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current, current=new))

    def test_a_new_key_may_be_late(self, steps):
        """A key that not all of the vendor's machines know yet is tried again."""
        steps.simulator.spread.refuse_new = 3
        new = steps.made()
        steps.kind.check(steps.current, new)

    def test_a_new_key_that_stays_refused_fails_the_check(self, steps):
        """The wait for it is bounded."""
        steps.simulator.spread.refuse_new = 1000
        new = steps.made()
        started = steps.clock.monotonic()
        error = steps.refused(VerificationFailed, lambda: steps.kind.check(steps.current, new))
        assert steps.clock.monotonic() - started <= 20
        assert "refuses the new key" in error.message

    def test_an_ended_key_may_linger(self, steps):
        """A key that some machine still accepts is tried again, and then dead."""
        steps.simulator.spread.accept_ended = 3
        new = steps.made()
        steps.kind.retire(new, steps.current)
        steps.kind.prove_dead(steps.current, current=new)

    def test_too_many_requests_are_waited_for(self, steps):
        """A short `Retry-After` is honoured, and one key is made."""
        before = steps.world.credentials()
        steps.simulator.fail_next(self.making, Fault.LIMITED, times=2, seconds=3)
        started = steps.clock.monotonic()
        steps.made()
        assert steps.clock.monotonic() - started == 6
        assert len(steps.world.credentials() - before) == 1

    @pytest.mark.parametrize(("times", "seconds"), [(1, 60), (3, 2)])
    def test_a_long_limit_is_told(self, steps, times, seconds):
        """A long `Retry-After`, or one too many, ends the step with nothing changed."""
        before = steps.world.credentials()
        steps.simulator.fail_next(self.making, Fault.LIMITED, times=times, seconds=seconds)
        error = steps.refused(Unavailable, steps.made)
        assert f"{seconds} seconds" in error.message
        assert steps.world.credentials() == before

    def test_a_rehearsal_leaves_no_trace(self, steps):
        """A further key is made, checked, ended and proven dead; what is in use works."""
        before = steps.world.credentials()
        rehearsal = steps.kind.rehearsal()
        new = rehearsal.create(steps.current, token=OTHER_TOKEN)
        rehearsal.apply(steps.current, new)
        rehearsal.check(steps.current, new)
        rehearsal.withdraw(steps.current, new)
        rehearsal.prove_dead(new, current=steps.current)
        assert steps.world.credentials() == before
        assert steps.use(steps.current)

    def test_describing_changes_nothing(self, steps):
        """A dry run reads, and says what will happen to the old key."""
        lines = dict(steps.kind.describe(steps.current))
        assert "deleted" in lines["retire"]
        assert steps.simulator.asked("POST|DELETE|PUT|PATCH") == 0

    def test_probing_a_key_uses_it(self, steps):
        """A key is used as it is; a dead one is told."""
        assert steps.kind.probe(steps.current).method == "key accepted"
        new = steps.made()
        steps.kind.withdraw(steps.current, new)
        error = steps.refused(VerificationFailed, lambda: steps.kind.probe(new))
        assert "refuses the key" in error.message

    def test_a_version_without_a_key_is_told(self, steps):
        """A version of other fields cannot be probed."""
        steps.refused(VerificationFailed, lambda: steps.kind.probe({}))

    def test_a_wrong_admin_key_is_told(self, world):
        """A refused admin key: which secret it is, and what to put there."""
        steps = Steps(world, admin={"value": "SG.nobodys" + "x" * 40})
        error = steps.refused(Rejected, steps.made)
        assert error.code == "target.login-refused"
        assert "`it-admin`" in error.message + error.hint

    def test_a_key_with_a_line_end_is_not_sent(self, steps):
        """A value that cannot be in a header is refused before the library quotes it."""
        value = SecretValue.from_text("sk-" + "a" * 30 + "\r\nX: y")
        error = steps.refused(Rejected, lambda: steps.kind.probe({"value": value}))
        assert "aaaa" not in "".join(traceback.format_exception(error))

    @pytest.mark.parametrize(
        "url", ["http://api.vendor.example", "ftp://127.0.0.1", "https://u:p@host", "no url", 5]
    )
    def test_an_address_that_cannot_be_used_is_refused(self, world, url):
        """Plain http to another machine, and what is no address, are told before anything."""
        with pytest.raises(UsageError) as caught:
            Steps(world, target={**world.setup.target, "base_url": url})
        assert caught.value.code == "rotation.target"
        assert "u:p" not in caught.value.message
