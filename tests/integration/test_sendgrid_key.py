"""Rotating a SendGrid key, against a simulator of the API."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.errors import (
    NotYet,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
    VerificationFailed,
)
from keyturn.testing.simulators import Fault, Reply
from keyturn.testing.simulators.sendgrid import MAY_MANAGE
from tests.worlds.base import kind_in, secret_values
from tests.worlds.sendgrid_key import open_world
from tests.worlds.vendor_keys import TOKEN, Steps, VendorKeySuite


def scopes_of(steps, values):
    """Return what the account says of the key in *values*."""
    value = values["value"].reveal_text()
    return set(next(key.scopes for key in steps.simulator.keys.values() if key.value == value))


@pytest.fixture()
def alone(world):
    """A key that makes and ends keys itself, without an administering one."""
    own = world.simulator.make_by_hand(*MAY_MANAGE, "mail.send", name="own")
    return Steps(world, admin=None, first={"value": own})


@pytest.fixture()
def world():
    """An account at the simulator."""
    world = open_world()
    yield world
    world.close()


class TestSendGridKey(VendorKeySuite):
    """The suite of vendors' keys, and what SendGrid alone has."""

    making = "POST /v3/api_keys"
    using = "GET /v3/scopes"

    def open_world(self):
        return open_world()

    def test_the_new_key_has_the_scopes_of_the_old(self, steps):
        """No right is lost, and none is won."""
        new = steps.made()
        assert scopes_of(steps, new) == {"mail.send", "stats.read"}

    def test_a_key_without_its_id_form_is_left_to_a_person(self, steps):
        """An id is read from a key of the known form only."""
        odd = secret_values({"value": steps.simulator.make_by_hand("mail.send")})
        key = list(steps.simulator.keys.values())[-1]
        key.value = "old-" + steps.simulator.letters(30)
        odd = secret_values({"value": key.value})
        new = steps.made()
        error = steps.refused(NotYet, lambda: steps.kind.retire(new, odd))
        assert error.person
        assert "app.sendgrid.com" in error.hint
        assert "person" in dict(steps.kind.describe(odd))["retire"]
        key.live = False
        steps.kind.retire(new, odd)

    def test_the_scopes_of_a_key_of_unknown_form_are_asked_with_it(self, steps):
        """What the account says of every key is not asked for the new one."""
        key = steps.simulator.keys[next(iter(steps.simulator.keys))]
        key.value = "old-" + steps.simulator.letters(30)
        new = steps.kind.create(secret_values({"value": key.value}), token=TOKEN)
        assert scopes_of(steps, new) == {"mail.send", "stats.read"}

    def test_an_account_with_100_keys_has_no_room(self, steps):
        """The vendor's `access forbidden` is told for what it is."""
        while len(steps.simulator.live()) < 100:
            steps.simulator.make_by_hand("mail.send")
        for do in (steps.made, lambda: steps.kind.describe(steps.current)):
            error = steps.refused(Rejected, do)
            assert error.code == "target.full"
            assert "100 keys" in error.message
            assert "delete" in error.hint

    def test_an_admin_key_without_the_scopes_is_told(self, world):
        """Which key lacks what: each scope, before anything is made."""
        weak = world.simulator.make_by_hand("mail.send")
        steps = Steps(world, admin={"value": weak})
        error = steps.refused(Rejected, steps.made)
        assert error.code == "target.denied"
        for scope in ("api_keys.create", "api_keys.delete", "api_keys.read", "stats.read"):
            assert f"`{scope}`" in error.message
        assert "`mail.send`" not in error.message
        assert "api_keys.create" in error.hint

    def test_an_admin_key_that_has_less_than_the_old_key_is_told(self, world):
        """A key cannot give what it has not; nothing is left behind."""
        narrow = world.simulator.make_by_hand(*MAY_MANAGE)
        steps = Steps(world, admin={"value": narrow})
        before = world.credentials()
        error = steps.refused(Rejected, steps.made)
        assert "every scope that the new key shall have" in error.hint
        assert world.credentials() == before

    def test_the_administering_key_is_not_ended(self, steps):
        """A version that holds the admin's own key is not retired with it."""
        new = steps.made()
        admin = secret_values(steps.setup.admin)
        error = steps.refused(Rejected, lambda: steps.kind.retire(new, admin))
        assert "administers" in error.message
        steps.kind.withdraw(steps.current, new)

    def test_a_new_key_with_other_scopes_fails_the_check(self, steps):
        """Fewer scopes and more scopes are both told."""
        fewer = secret_values({"value": steps.simulator.make_by_hand("mail.send")})
        error = steps.refused(VerificationFailed, lambda: steps.kind.check(steps.current, fewer))
        assert "lacks 1 scopes: `stats.read`" in error.message
        more = steps.simulator.make_by_hand("mail.send", "stats.read", "templates.read")
        error = steps.refused(
            VerificationFailed,
            lambda: steps.kind.check(steps.current, secret_values({"value": more})),
        )
        assert "`templates.read`" in error.message

    def test_scopes_of_the_target_are_given(self, world):
        """What the manifest says of scopes goes before what the old key had."""
        steps = Steps(world, target={**world.setup.target, "scopes": ["mail.send"]})
        new = steps.made()
        steps.kind.check(steps.current, new)
        assert scopes_of(steps, new) == {"mail.send"}

    def test_a_first_key_needs_its_scopes(self, world):
        """A birth: the manifest says what the key may do, or nothing is made."""
        steps = Steps(world)
        error = steps.refused(UsageError, lambda: steps.kind.create(None, token=TOKEN))
        assert 'scopes = ["mail.send"]' in error.hint
        steps = Steps(world, target={**world.setup.target, "scopes": ["mail.send"]})
        new = steps.kind.create(None, token=TOKEN)
        steps.kind.check(None, new)
        assert steps.use(new)

    def test_an_admin_secret_without_a_value_is_told(self, world):
        """The administering secret must hold one key."""
        with pytest.raises(UsageError) as caught:
            kind_in(replace(world.setup, admin={"password": "x"}))
        assert "`it-admin`" in caught.value.message

    def test_a_refusal_of_this_machine_is_not_one_of_the_key(self, steps):
        """403 comes from an address list too, and proves nothing."""
        steps.made()
        body = {"errors": [{"field": None, "message": "access forbidden"}]}
        steps.simulator.answer_next(self.using, Reply(403, body), times=2)
        steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current))
        steps.refused(Unavailable, lambda: steps.kind.probe(steps.current))

    def test_a_dead_old_key_of_unknown_form_has_no_scopes(self, steps):
        """What the new key may do cannot be asked: the manifest must say it."""
        dead = secret_values({"value": "old-" + "z" * 30})
        error = steps.refused(Rejected, lambda: steps.kind.create(dead, token=TOKEN))
        assert "scopes = [" in error.hint


class TestAlone:
    """A key without an administering one rotates itself."""

    def test_a_key_makes_its_successor_and_is_ended_by_it(self, alone):
        """The new key, which has the old one's scopes, ends the old one."""
        new = alone.made()
        alone.kind.check(alone.current, new)
        alone.kind.retire(new, alone.current)
        alone.kind.prove_dead(alone.current, current=new)
        assert scopes_of(alone, new) == {*MAY_MANAGE, "mail.send"}

    def test_what_it_left_is_ended_by_the_same_process(self, alone):
        """The key that asked to create is asked again to clean up."""
        before = alone.world.credentials()
        alone.simulator.fail_next("POST", Fault.LOST)
        alone.refused(OutcomeUnknown, alone.made)
        alone.kind.clean_up(TOKEN)
        assert alone.world.credentials() == before

    def test_what_it_left_is_ended_by_another_process(self, alone):
        """Another process is told the current key."""
        before = alone.world.credentials()
        alone.simulator.fail_next("POST", Fault.LOST)
        alone.refused(OutcomeUnknown, alone.made)
        kind_in(alone.setup).clean_up(TOKEN, current=alone.current)
        assert alone.world.credentials() == before

    def test_without_any_key_nothing_is_said_to_be_clean(self, alone):
        """Where nothing can be asked, the person is told what to look for."""
        error = alone.refused(Rejected, lambda: alone.kind.clean_up(TOKEN))
        assert "keyturn-it-abababababab" in error.hint

    def test_a_key_that_may_not_make_keys_is_told(self, world):
        """A key for sending mail alone cannot rotate itself: the hint says what it needs."""
        steps = Steps(world, admin=None)
        error = steps.refused(Rejected, steps.made)
        assert error.code == "target.denied"
        assert "`it` itself needs the scopes api_keys.create" in error.hint

    def test_a_first_key_needs_somebody_to_make_it(self, world):
        """A birth without an administering key is told."""
        steps = Steps(world, admin=None)
        error = steps.refused(UsageError, lambda: steps.kind.create(None, token=TOKEN))
        assert "admin =" in error.hint
        steps.kind.clean_up(TOKEN)
        assert not steps.simulator.journal
