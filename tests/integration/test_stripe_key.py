"""Rotating a Stripe key: by a person in the dashboard, and by the preview API."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core.ids import Token
from keyturn.errors import NotYet, Rejected, Unavailable, UsageError, VerificationFailed
from keyturn.testing.clock import FakeClock
from keyturn.testing.simulators import Fault
from tests.worlds import stripe_key, stripe_key_preview
from tests.worlds.base import NotSupplied, Supplied, kind_in, secret_values, texts_of
from tests.worlds.vendor_keys import OTHER_TOKEN, TOKEN, Steps, VendorKeySuite

BALANCE, WEBHOOKS, KEYS = "rak_balance_read", "rak_webhook_write", "rak_secret_write"


@pytest.fixture()
def world():
    """An account, its key, and its dashboard."""
    world = stripe_key.open_world()
    yield world
    world.close()


@pytest.fixture()
def steps(world):
    """The guided kind in its world, with nobody to be asked."""
    return Steps(world)


def restricted(world, *permissions, account=None, prefix="rk_live_"):
    """Make a restricted key in the dashboard."""
    account = account or world.account
    return world.simulator.make_key(account, prefix=prefix, permissions=permissions).value


def given(steps, text, *, first=None, protected=True):
    """Return what `create` makes of *text*, which a person gives from standard input."""
    supplier = Supplied({"value": text})
    kind = kind_in(steps.setup, supplier=supplier, clock=steps.clock, protected=protected)
    current = steps.current if first is None else secret_values({"value": first})
    return kind.create(current, token=TOKEN)


class TestByHand:
    """A person makes the key and deletes the old one."""

    def test_a_rotation_left_at_every_point_and_taken_up_again(self, world, steps):
        """Nothing is lost while a person takes days: each call goes on from what is true."""
        error = steps.refused(NotYet, steps.made)
        assert (error.person, error.again_seconds) == (True, None)
        assert "API keys" in error.message
        assert "keyturn rotate --resume it -e production" in error.hint

        steps.clock.advance(3 * 86_400)
        text = world.supply()["value"]
        new = given(steps, text)
        assert {"value": text} == texts_of(new)
        steps.kind.apply(steps.current, new)
        evidence = steps.kind.check(steps.current, new)
        assert f"live mode, account {world.account}" in evidence.detail

        error = steps.refused(NotYet, lambda: steps.kind.retire(new, steps.current))
        assert (error.person, error.again_seconds) == (True, 3600)
        assert "delete the old one" in error.message
        assert steps.use(steps.current)
        assert steps.use(new)

        steps.clock.advance(3 * 86_400)
        world.person_ends_old()
        steps.kind.retire(new, steps.current)
        proof = steps.kind.prove_dead(steps.current, current=new)
        assert "401 api_key_expired" == proof.detail
        assert steps.use(new)

    def test_the_steps_are_shown_to_whoever_is_there(self, world):
        """What the person reads names the dashboard's page, the mode, and the old key."""
        shown = []

        class Watching(NotSupplied):
            def supply(self, instructions, fields, examine):
                shown.extend([*instructions, *fields])

        kind = kind_in(world.setup, supplier=Watching())
        with pytest.raises(NotYet):
            kind.create(secret_values(world.setup.first), token=TOKEN)
        text = "\n".join(shown)
        assert "live mode" in text
        assert "leave the present key as it is" in text
        assert "value" == shown[-1]

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("", "not one line"),
            (" sk_live_" + "a1" * 20, "blanks"),
            ("sk_live_" + "a1" * 20 + "\n", "blanks"),
            ("STRIPE_SECRET_KEY=sk_live_" + "a1" * 20, "no Stripe key"),
            ("sk_live_short", "no Stripe key"),
            ("sk_live_" + "é" * 20, "no Stripe key"),
            ("pk_live_" + "a1" * 20, "publishable"),
            ("whsec_" + "a1" * 20, "webhook"),
        ],
    )
    def test_what_is_no_key_is_refused_unasked(self, world, steps, text, what):
        """A wrong form is told, and Stripe is not asked."""
        error = steps.refused(VerificationFailed, lambda: given(steps, text))
        assert error.code == "value.form"
        assert what in error.message
        assert 0 == world.simulator.asked("GET")

    def test_a_test_key_is_refused_in_a_protected_environment(self, world, steps):
        """A test key takes no real payments: it is not stored, and Stripe is not asked."""
        text = world.simulator.make_key(world.account, prefix="sk_test_").value
        error = steps.refused(VerificationFailed, lambda: given(steps, text))
        assert error.code == "value.mode"
        assert "`production` is protected" in error.message
        assert 0 == world.simulator.asked("GET")

    def test_another_mode_is_refused_elsewhere_too(self, world, steps):
        """Where the present key is for live mode, so is the new one, and the other way round."""
        text = world.simulator.make_key(world.account, prefix="sk_test_").value
        error = steps.refused(VerificationFailed, lambda: given(steps, text, protected=False))
        assert error.code == "value.mode"
        assert "the present one is a live key" in error.message

    def test_a_test_key_follows_a_test_key(self, world, steps):
        """In an environment that is not protected test keys rotate like others."""
        first, second = (
            world.simulator.make_key(world.account, prefix="sk_test_").value for _ in range(2)
        )
        assert {"value": second} == texts_of(given(steps, second, first=first, protected=False))

    def test_the_old_key_again_is_refused(self, world, steps):
        """What is in use already is no new key."""
        error = steps.refused(VerificationFailed, lambda: given(steps, world.setup.first["value"]))
        assert error.code == "value.old"

    @pytest.mark.parametrize("prefix", ["sk_live_", "rk_live_"])
    def test_another_accounts_key_is_refused(self, world, steps, prefix):
        """The account is told even of a restricted key, which may not ask for it."""
        other = world.simulator.make_account()
        permissions = None if prefix == "sk_live_" else [WEBHOOKS]
        text = world.simulator.make_key(other, prefix=prefix, permissions=permissions).value
        error = steps.refused(VerificationFailed, lambda: given(steps, text))
        assert error.code == "value.account"
        assert other in error.message
        assert world.account in error.message

    def test_a_key_that_stripe_refuses_is_refused(self, world, steps):
        """A key that is mistyped, or deleted already, is not stored; the wait is short."""
        for text in ("sk_live_" + "a1" * 40, world.supply()["value"]):
            world.simulator.delete_key(text)
            started = steps.clock.monotonic()
            error = steps.refused(VerificationFailed, lambda text=text: given(steps, text))
            assert error.code == "target.login-refused"
            assert steps.clock.monotonic() - started <= 2

    def test_a_restricted_key_may_take_the_place_of_a_secret_one(self, world, steps):
        """What Stripe advises is accepted, though such a key may not read the balance."""
        new = given(steps, restricted(world, WEBHOOKS))
        evidence = steps.kind.check(steps.current, new)
        assert "restricted, and live" in evidence.detail
        assert world.account in evidence.detail
        assert steps.use(new)

    def test_a_restricted_key_with_fewer_rights_is_refused(self, world, steps):
        """Of two restricted keys the new one may read what the present one may."""
        first = restricted(world, BALANCE)
        text = restricted(world, WEBHOOKS)
        error = steps.refused(VerificationFailed, lambda: given(steps, text, first=first))
        assert error.code == "value.rights"

    def test_what_could_not_be_compared_is_said(self, world, steps):
        """A present key that is dead already names no account."""
        world.simulator.delete_key(world.setup.first["value"])
        new = secret_values(world.supply())
        assert "not compared" in steps.kind.check(steps.current, new).detail
        nonsense = secret_values({"value": "not-a-key"})
        assert "nothing was compared" in steps.kind.check(nonsense, new).detail

    def test_stripe_out_of_reach_is_not_the_persons_fault(self, world, steps):
        """No answer is no refusal: the same key is given again later."""
        text = world.supply()["value"]
        world.simulator.fail_next("GET /v1/balance", Fault.BROKEN_BEFORE)
        steps.refused(Unavailable, lambda: given(steps, text))
        assert given(steps, text)

    def test_a_new_key_may_be_late(self, world, steps):
        """A key that not all of Stripe's machines know yet is tried again, and bounded."""
        world.simulator.spread.refuse_new = 3
        steps.kind.check(steps.current, secret_values(world.supply()))
        world.simulator.spread.refuse_new = 1000
        late = secret_values(world.supply())
        started = steps.clock.monotonic()
        steps.refused(VerificationFailed, lambda: steps.kind.check(steps.current, late))
        assert steps.clock.monotonic() - started <= 20

    def test_a_refused_address_says_nothing_of_the_key(self, world, steps):
        """A key bound to other addresses is neither taken for live nor for dead."""
        world.simulator.addresses_known = False
        steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current))
        error = steps.refused(Unavailable, lambda: steps.kind.probe(steps.current))
        assert "says nothing of the key" in error.message

    def test_an_old_key_that_still_works_is_noticed(self, world, steps):
        """The alarm says where to delete it."""
        error = steps.refused(VerificationFailed, lambda: steps.kind.prove_dead(steps.current))
        assert error.code == "target.still-works"
        assert "dashboard" in error.hint

    def test_a_deleted_key_may_linger(self, world, steps):
        """A key that some machine still accepts is tried again, and then dead."""
        world.simulator.spread.accept_ended = 3
        world.simulator.delete_key(world.setup.first["value"])
        assert "key refused" == steps.kind.prove_dead(steps.current).method

    def test_stripe_that_refuses_everybody_proves_nothing(self, world, steps):
        """Where the key in use is refused too, the refusal of the old one says nothing."""
        new = secret_values(world.supply())
        for text in (*world.setup.first.values(), *texts_of(new).values()):
            world.simulator.delete_key(text)
        steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current, current=new))

    def test_no_answer_is_no_proof(self, world, steps):
        """A Stripe that cannot be reached proves nothing."""
        world.simulator.fail_next("GET /v1/balance", Fault.LOST)
        steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current))
        world.simulator.stop()
        steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current))

    def test_the_key_in_use_is_not_waited_for(self, steps):
        """Nobody is told to delete the key that consumers have."""
        error = steps.refused(
            Rejected, lambda: steps.kind.retire(steps.current, dict(steps.current))
        )
        assert error.code == "target.in-use"

    def test_the_way_back_waits_for_the_unused_key_to_be_deleted(self, world, steps):
        """A key that nobody uses is not left behind; the present one goes on working."""
        text = world.supply()["value"]
        new = secret_values({"value": text})
        error = steps.refused(NotYet, lambda: steps.kind.withdraw(steps.current, new))
        assert error.person
        assert "not used after all" in error.message
        world.simulator.delete_key(text)
        steps.kind.withdraw(steps.current, new)
        assert steps.use(steps.current)

    def test_probing(self, world, steps):
        """A key is used as it is; a dead one is told."""
        assert "key accepted" == steps.kind.probe(steps.current).method
        world.simulator.delete_key(world.setup.first["value"])
        error = steps.refused(VerificationFailed, lambda: steps.kind.probe(steps.current))
        assert "refuses the key: api_key_expired" in error.message

    def test_describing_asks_nothing(self, world, steps):
        """A dry run says who does what; a first key has nothing to retire."""
        lines = dict(steps.kind.describe(steps.current))
        assert "you delete the old key" in lines["retire"]
        assert "retire" not in dict(steps.kind.describe(None))
        assert 0 == world.simulator.asked("")

    def test_there_is_no_rehearsal(self, steps):
        """A person is not sent to the dashboard for nothing."""
        assert steps.kind.rehearsal() is None

    def test_a_first_key(self, world, steps):
        """A birth has no key to compare with."""
        kind = kind_in(steps.setup, supplier=Supplied(world.supply()), clock=FakeClock())
        new = kind.create(None, token=TOKEN)
        assert world.account in kind.check(None, new).detail

    def test_a_preview_that_is_no_flag_is_told(self, world):
        """What to write is said."""
        with pytest.raises(UsageError) as caught:
            kind_in(replace(world.setup, target={**world.setup.target, "preview": "yes"}))
        assert "preview = true" in caught.value.hint


class TestByThePreviewApi(VendorKeySuite):
    """The suite of vendors' keys, and what Stripe alone has."""

    making = "POST /v2/iam/api_keys$"
    ending = "POST /v2/iam/api_keys/.*/expire"
    using = "GET /v1/balance"

    def open_world(self):
        return stripe_key_preview.open_world()

    def test_describing_changes_nothing(self, steps):
        """A dry run asks nothing, and says what will happen to the old key."""
        lines = dict(steps.kind.describe(steps.current))
        assert "expire the old key" == lines["retire"]
        assert 0 == steps.simulator.asked("")

    def test_a_restricted_key_gets_the_rights_of_the_present_one(self, world):
        """No more and no less; the key that manages keys has the right to."""
        first = restricted(world, BALANCE, KEYS)
        steps = Steps(world, first={"value": first})
        new = steps.made()
        steps.kind.check(steps.current, new)
        made = next(k for k in world.simulator.keys.values() if k.id == texts_of(new)["key_id"])
        assert ([BALANCE, KEYS], True) == (made.permissions, made.value.startswith("rk_live_"))
        assert f"keyturn-it-{TOKEN[:12]}" == made.name

    def test_a_new_key_with_fewer_rights_fails_the_check(self, world):
        """Rights are compared one by one, and the lacking one is named."""
        steps = Steps(world, first={"value": restricted(world, BALANCE, WEBHOOKS, KEYS)})
        new = steps.made()
        made = next(k for k in world.simulator.keys.values() if k.id == texts_of(new)["key_id"])
        made.permissions.remove(WEBHOOKS)
        error = steps.refused(VerificationFailed, lambda: steps.kind.check(steps.current, new))
        assert WEBHOOKS in error.message

    def test_a_key_that_may_not_make_keys_is_told(self, world):
        """The refusal comes with what to do; nothing is made."""
        steps = Steps(world, first={"value": restricted(world, BALANCE)})
        before = world.credentials()
        error = steps.refused(Rejected, steps.made)
        assert error.code == "target.denied"
        assert "right to manage API keys" in error.hint
        assert before == world.credentials()

    def test_an_account_without_the_preview_is_told(self, world):
        """The way out is the guided one."""
        world.simulator.preview = False
        steps = Steps(world)
        error = steps.refused(Rejected, steps.made)
        assert "preview" in error.message
        assert "by hand" in error.hint

    def test_an_administering_key(self, world):
        """Another key of the account may do it, and a clean-up then needs nothing else."""
        admin = restricted(world, KEYS)
        steps = Steps(world, first={"value": restricted(world, BALANCE)}, admin={"value": admin})
        world.simulator.fail_next(self.making, Fault.LOST)
        before = world.credentials()
        with pytest.raises(Exception, match="may have been made"):
            steps.made()
        kind_in(steps.setup, clock=steps.clock).clean_up(TOKEN)
        assert before == world.credentials()

    def test_a_clean_up_with_nothing_to_ask_with_is_told(self, steps):
        """Another process, and no administering key: which key to look for is named."""
        error = steps.refused(Rejected, lambda: steps.kind.clean_up(TOKEN))
        assert f"keyturn-it-{TOKEN[:12]}" in error.message
        assert "admin" in error.hint

    def test_a_key_bound_to_addresses_is_not_loosened(self, world, steps):
        """The API cannot bind the new key, so none is made."""
        next(iter(world.simulator.keys.values())).ip_allowlist = ["192.0.2.0/24"]
        before = world.credentials()
        error = steps.refused(Rejected, steps.made)
        assert "addresses" in error.message
        assert before == world.credentials()

    def test_a_present_key_that_cannot_be_told_is_not_guessed(self, world, steps):
        """Where Stripe shows too little of its keys, nothing is made, and nothing ended."""
        new = steps.made()
        world.simulator.shown_letters = 2
        error = steps.refused(Rejected, lambda: steps.kind.create(steps.current, token=OTHER_TOKEN))
        assert error.code == "target.unknown"
        waits = steps.refused(NotYet, lambda: steps.kind.retire(new, steps.current))
        assert waits.person
        assert steps.use(steps.current)
        steps.simulator.delete_key(steps.setup.first["value"])
        steps.kind.retire(new, steps.current)

    def test_a_first_key_is_made_by_hand(self, steps):
        """There are no rights to copy."""
        error = steps.refused(Rejected, lambda: steps.kind.create(None, token=TOKEN))
        assert "keyturn set it" in error.hint

    def test_a_key_that_cannot_be_opened_is_ended(self, world, steps):
        """What was sealed for somebody else is of no use, and is not left behind."""
        from joserfc.jwk import RSAKey

        other = RSAKey.generate_key(2048, private=True)
        world.simulator.sealed_for = other.as_pem(private=False).decode()
        before = world.credentials()
        error = steps.refused(Rejected, steps.made)
        assert error.code == "target.unreadable"
        steps.kind.clean_up(TOKEN)
        assert before == world.credentials()

    def test_a_test_key_comes_in_clear(self, world):
        """In test mode Stripe seals nothing."""
        first = world.simulator.make_key(world.account, prefix="sk_test_").value
        steps = Steps(world, first={"value": first})
        new = steps.made()
        assert texts_of(new)["value"].startswith("sk_test_")
        assert steps.use(new)

    def test_a_list_of_many_keys_is_read_to_its_end(self, world, steps):
        """The orphan of an earlier try is found on the last page too."""
        for _ in range(150):
            world.simulator.make_key(world.account)
        world.simulator.fail_next(self.making, Fault.LOST)
        before = world.credentials()
        with pytest.raises(Exception, match="may have been made"):
            steps.made()
        steps.kind.clean_up(TOKEN)
        assert before == world.credentials()

    def test_tokens_of_other_rotations_make_other_names(self, steps):
        """Two rotations' keys are told apart."""
        names = {
            steps.simulator.keys[
                texts_of(steps.kind.create(steps.current, token=Token(letter * 32)))["key_id"]
            ].name
            for letter in "ab"
        }
        assert 2 == len(names)
