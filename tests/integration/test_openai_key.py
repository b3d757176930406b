"""Rotating an OpenAI key, against a simulator of the API."""

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
from keyturn.testing.simulators import Reply
from keyturn.testing.simulators.openai import OpenAISimulator
from tests.worlds.base import kind_in, secret_values
from tests.worlds.openai_key import open_world
from tests.worlds.vendor_keys import OTHER_TOKEN, TOKEN, Steps, VendorKeySuite


class TestOpenAIKey(VendorKeySuite):
    """The suite of vendors' keys, and what OpenAI alone has."""

    making = "POST .*/service_accounts/.*/api_keys"
    using = "GET /v1/models"

    def open_world(self):
        return open_world()

    @pytest.mark.parametrize("key", ["project", "service_account"])
    def test_a_target_that_lacks_something_is_told(self, world, key):
        """What is missing, and what to write."""
        target = {name: text for name, text in world.setup.target.items() if name != key}
        with pytest.raises(UsageError) as caught:
            kind_in(replace(world.setup, target=target))
        assert caught.value.code == "rotation.target"
        assert key in caught.value.hint

    def test_without_an_admin_key_nothing_can_be_made(self, world):
        """The hint says which kind of key the admin secret must hold."""
        with pytest.raises(UsageError) as caught:
            kind_in(replace(world.setup, admin=None))
        assert "admin =" in caught.value.hint

    def test_scopes_must_be_a_list(self, world):
        """A text in place of a list of scopes is told."""
        with pytest.raises(UsageError) as caught:
            kind_in(replace(world.setup, target={**world.setup.target, "scopes": "api.all"}))
        assert "scopes = [" in caught.value.hint

    def test_an_admin_key_that_may_only_read_is_told(self, world):
        """The missing right and where to give it; nothing was made."""
        steps = Steps(world, admin={"value": world.simulator.weak_admin_key})
        error = steps.refused(Rejected, steps.made)
        assert error.code == "target.denied"
        assert "api.management.write" in error.message
        assert "admin keys" in error.hint
        assert len(world.credentials()) == 1

    def test_an_ordinary_key_as_admin_is_told(self, world):
        """A project's key cannot make keys."""
        steps = Steps(world, admin=world.setup.first)
        assert steps.refused(Rejected, steps.made).code == "target.denied"

    @pytest.mark.parametrize("key", ["project", "service_account"])
    def test_an_unknown_project_or_account_is_told(self, world, key):
        """A wrong name in the target gives the vendor's words and what to correct."""
        steps = Steps(world, target={**world.setup.target, key: "nobody/../x"})
        error = steps.refused(Rejected, steps.made)
        assert error.code == "target.rejected"
        assert "404" in error.message
        assert key in error.hint

    def test_a_first_key_is_made(self, steps):
        """A birth has no old key to compare with."""
        new = steps.kind.create(None, token=TOKEN)
        steps.kind.check(None, new)
        assert "retire" not in dict(steps.kind.describe(None))
        steps.kind.withdraw(None, new)
        assert not steps.use(new)

    def test_a_key_of_another_project_is_left_to_a_person(self, steps):
        """A key that the project's list does not show is not guessed at."""
        elsewhere = steps.simulator.add_project()
        old = secret_values({"value": steps.simulator.make_by_hand(elsewhere)})
        new = steps.made()
        before = steps.world.credentials()
        assert "person" in dict(steps.kind.describe(old))["retire"]
        error = steps.refused(NotYet, lambda: steps.kind.retire(new, old))
        assert error.person
        assert "none of the keys" in error.message
        assert "platform.openai.com" in error.hint
        assert steps.world.credentials() == before

    def test_once_the_person_deleted_it_the_retirement_goes_on(self, steps):
        """An old key that is refused already needs no id."""
        elsewhere = steps.simulator.add_project()
        old = secret_values({"value": steps.simulator.make_by_hand(elsewhere)})
        new = steps.made()
        next(key for key in steps.simulator.keys.values() if key.project == elsewhere).live = False
        steps.kind.retire(new, old)
        steps.kind.prove_dead(old, current=new)

    def test_keys_that_look_alike_are_left_to_a_person(self, steps):
        """Two keys with the same first and last letters: neither is deleted."""
        twin = steps.simulator.make_by_hand(steps.world.project)
        key = next(key for key in steps.simulator.keys.values() if key.value == twin)
        key.value = twin[:-4] + steps.setup.first["value"][-4:]
        new = steps.made()
        error = steps.refused(NotYet, lambda: steps.kind.retire(new, steps.current))
        assert "2 of the keys" in error.message
        assert steps.use(steps.current)

    def test_a_dead_keys_double_is_not_deleted(self, steps):
        """The old key was deleted by hand; another that looks like it is somebody's."""
        first = steps.setup.first["value"]
        old = next(key for key in steps.simulator.keys.values() if key.value == first)
        twin = steps.simulator.make_by_hand(steps.world.project)
        double = next(key for key in steps.simulator.keys.values() if key.value == twin)
        double.value = twin[:-4] + first[-4:]
        new = steps.made()
        old.live = False
        steps.kind.retire(new, steps.current)
        assert double.live

    def test_a_key_that_was_ended_and_lingers_needs_no_person(self, steps):
        """Retired again after a crash: the key is not in the list, and soon refused."""
        steps.simulator.spread.accept_ended = 4
        new = steps.made()
        steps.kind.retire(new, steps.current)
        steps.kind.retire(new, steps.current)
        assert not steps.use(steps.current)

    def test_an_old_key_that_cannot_be_judged_stops_the_check(self, steps):
        """Its rights cannot be compared with the new key's, which is not taken for equality."""
        new = steps.made()
        body = {"error": {"message": "x", "type": "x", "param": None, "code": "ip_not_authorized"}}
        old = dict(steps.current)
        steps.kind.probe(new)
        steps.simulator.answer_next(self.using, Reply(200, {"object": "list", "data": []}))
        steps.simulator.answer_next(self.using, Reply(401, body))
        steps.refused(Unavailable, lambda: steps.kind.check(old, new))

    def test_a_key_on_a_later_page_is_found(self, steps):
        """The list of keys is read to its end."""
        for number in range(120):
            steps.simulator.make_by_hand(steps.world.project, name=f"other {number}")
        late = secret_values({"value": steps.simulator.make_by_hand(steps.world.project)})
        new = steps.made()
        steps.kind.retire(new, late)
        assert not steps.use(late)
        assert steps.use(steps.current)

    def test_a_key_without_quota_is_alive(self, steps):
        """429 says that the key was known: it is accepted, and no proof of death."""
        new = steps.made()
        steps.simulator.out_of_quota = True
        steps.kind.check(steps.current, new)
        assert "429" in steps.kind.probe(new).detail
        steps.refused(VerificationFailed, lambda: steps.kind.prove_dead(steps.current, current=new))

    def test_an_unrestricted_key_does_not_take_a_restricted_ones_place(self, steps):
        """A key that may do more than the old one fails the check, and the hint helps."""
        restricted = ("api.files.read",)
        old = steps.simulator.make_by_hand(steps.world.project, scopes=restricted)
        old = secret_values({"value": old})
        new = steps.made()
        error = steps.refused(VerificationFailed, lambda: steps.kind.check(old, new))
        assert "more rights" in error.message
        assert "scopes = [" in error.hint
        again = Steps(steps.world, target={**steps.setup.target, "scopes": list(restricted)})
        new = again.kind.create(old, token=OTHER_TOKEN)
        again.kind.check(old, new)
        error = again.refused(VerificationFailed, lambda: again.kind.check(again.current, new))
        assert "fewer rights" in error.message

    def test_a_project_with_fewer_models_is_noticed(self, steps):
        """The new key must do for every model that the old one may use."""
        elsewhere = steps.simulator.add_project(models=("gpt-5", "ft:clipper"))
        old = secret_values({"value": steps.simulator.make_by_hand(elsewhere)})
        new = steps.made()
        error = steps.refused(VerificationFailed, lambda: steps.kind.check(old, new))
        assert "`ft:clipper`" in error.message
        assert "gpt-5`" not in error.message

    def test_a_dead_old_key_is_replaced(self, steps):
        """Rotating away from a key that no longer works is possible."""
        new = steps.made()
        steps.simulator.keys[next(iter(steps.simulator.keys))].live = False
        assert "old key is refused" in steps.kind.check(steps.current, new).detail

    def test_a_refusal_of_this_machine_is_not_one_of_the_key(self, steps):
        """401 for the address and 403 for the region prove nothing of a key."""
        new = steps.made()
        for status, code in ((401, "ip_not_authorized"), (403, "unsupported_country_region")):
            body = {"error": {"message": "not from here", "type": "x", "param": None, "code": code}}
            steps.simulator.answer_next(self.using, Reply(status, body), times=3)
            error = steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current))
            assert "not from here" in error.message
            steps.refused(Unavailable, lambda: steps.kind.check(steps.current, new))
            steps.refused(Unavailable, lambda: steps.kind.probe(new))

    def test_an_answer_without_a_key_is_in_doubt(self, steps):
        """Success without the value: a key may be there, which the next try ends."""
        steps.simulator.answer_next(self.making, Reply(200, {"id": "x"}))
        error = steps.refused(OutcomeUnknown, steps.made)
        assert "`value`" in error.message
        steps.made()
        assert len(steps.world.credentials()) == 2


def test_a_base_url_of_something_else_is_told():
    """A server that is not the API: its answer is refused, not believed."""
    with OpenAISimulator() as simulator:
        world = open_world()
        try:
            steps = Steps(world, target={**world.setup.target, "base_url": simulator.base_url})
            assert steps.refused(Rejected, steps.made).code == "target.login-refused"
        finally:
            world.close()
