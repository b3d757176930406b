"""Rotating a webhook's signing secret: two endpoints, two accepted secrets, none lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import stripe

from keyturn.core.clock import SystemClock
from keyturn.core.value import SecretValue
from keyturn.errors import (
    InternalError,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
    VerificationFailed,
)
from keyturn.targets._stripe_signature import accepts, signature_header
from keyturn.testing.clock import FakeClock
from keyturn.testing.simulators import Fault
from tests.worlds.base import kind_in, secret_values, texts_of
from tests.worlds.stripe_webhook_secret import EVENTS, PAYLOAD, URL, StripeWebhookWorld
from tests.worlds.vendor_keys import OTHER_TOKEN, TOKEN, Steps

MAKING = "POST /v1/webhook_endpoints$"


@pytest.fixture()
def world():
    """An application that accepts two secrets."""
    world = StripeWebhookWorld()
    yield world
    world.close()


@pytest.fixture()
def alone():
    """An application that accepts one secret."""
    world = StripeWebhookWorld(fields=("value",))
    yield world
    world.close()


class WebhookSteps(Steps):
    """The kind in its world; its values are the endpoints' secrets too."""

    def values(self):
        secrets = [endpoint.secret for endpoint in self.simulator.endpoints.values()]
        return [text for text in [*super().values(), *secrets] if text]


@pytest.fixture()
def steps(world):
    return WebhookSteps(world)


def refused_copies(world, values):
    """Return how many of the copies of one event an application with *values* refuses."""
    texts = texts_of(values)
    return sum(not world.accepted(texts, header) for _, header in world.copies())


def test_two_phases_in_which_no_event_is_refused(world, steps):
    """First both secrets are accepted, then only the new one is sent, then the old is gone."""
    assert (0,) == steps.kind.later_waits(3600)
    new = steps.made()
    first = texts_of(new)
    assert world.setup.first["value"] == first["alt"]
    steps.kind.apply(steps.current, new)
    assert "signature verified" == steps.kind.check(steps.current, new).method
    # The application with both secrets accepts every copy of every event.
    assert 2 == len(world.copies())
    assert 0 == refused_copies(world, new)
    assert steps.use(steps.current)

    later = steps.kind.advance(new, 1)
    assert texts_of(steps.kind.advance(new, 1)) == texts_of(later)
    assert ("", first["value"]) == (texts_of(later)["alt"], texts_of(later)["value"])
    assert 1 == len(world.copies())
    assert 0 == refused_copies(world, later)
    assert 0 == refused_copies(world, new)

    steps.kind.retire(later, steps.current)
    proof = steps.kind.prove_dead(steps.current, current=later)
    assert "gone" in proof.detail
    assert "refused" in proof.detail
    assert {first["endpoint_id"]} == world.credentials()
    assert steps.use(later)
    assert not steps.use(steps.current)


def test_the_new_endpoint_is_as_the_old_one(world, steps):
    """Address, events, version, description and metadata are the old one's."""
    made = world.client.v1.webhook_endpoints.retrieve(texts_of(steps.made())["endpoint_id"])
    assert (URL, EVENTS, "enabled") == (made.url, made.enabled_events, made.status)
    assert ("2026-10-28.endive", "of the application") == (made.api_version, made.description)
    metadata = made.metadata.to_dict()
    assert "payments" == metadata["team"]
    assert TOKEN == metadata["keyturn_token"]
    assert "clipper/production/it" == metadata["keyturn_secret"]


def test_an_endpoint_for_connected_accounts_stays_one(world, steps):
    """Events of connected accounts go on arriving."""
    world.simulator.endpoints[world.first_id].connect = True
    made = texts_of(steps.made())["endpoint_id"]
    assert world.simulator.endpoints[made].connect


def test_one_secret_is_one_phase(alone):
    """Without `alt` each event is accepted once and refused once until the old one is gone."""
    steps = WebhookSteps(alone)
    assert () == steps.kind.later_waits(3600)
    new = steps.made()
    assert "alt" not in new
    assert 1 == refused_copies(alone, steps.current)
    assert 1 == refused_copies(alone, new)
    assert steps.use(steps.current)
    assert steps.use(new)
    with pytest.raises(InternalError):
        steps.kind.advance(new, 1)
    steps.kind.retire(new, steps.current)
    steps.kind.prove_dead(steps.current, current=new)
    assert 0 == refused_copies(alone, new)


def test_one_secret_is_described_with_what_it_means(alone, world, steps):
    """The copy that is refused is announced; with `alt` there is nothing to announce."""
    lines = WebhookSteps(alone).kind.describe(WebhookSteps(alone).current)
    assert "refuses one of the two" in dict(lines)["deliver"]
    lines = dict(steps.kind.describe(steps.current))
    assert "both are accepted" in lines["deliver"]
    assert "disable the old endpoint" in lines["advance"]
    assert 0 == world.simulator.asked("DELETE|POST .*we_")


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.BROKEN_AFTER, Fault.BROKEN_BEFORE])
def test_a_lost_answer_leaves_no_endpoint_behind(world, steps, fault):
    """The secret is in the lost answer alone: that endpoint is deleted, another is made."""
    world.simulator.fail_next(MAKING, fault)
    steps.refused(OutcomeUnknown, steps.made)
    new = steps.made()
    assert {world.first_id, texts_of(new)["endpoint_id"]} == world.credentials()
    assert 0 == refused_copies(world, new)


def test_clean_up_deletes_what_nobody_stored(world):
    """Of this rotation alone, and twice without harm."""
    steps = WebhookSteps(world, target={**world.setup.target, "endpoint": world.first_id})
    other = texts_of(steps.kind.create(steps.current, token=OTHER_TOKEN))["endpoint_id"]
    world.simulator.fail_next(MAKING, Fault.LOST)
    steps.refused(OutcomeUnknown, steps.made)
    steps.kind.clean_up(TOKEN)
    steps.kind.clean_up(TOKEN)
    assert {world.first_id, other} == world.credentials()


def test_an_orphan_is_found_among_many(world, steps):
    """The list is read to its end."""
    world.simulator.fail_next(MAKING, Fault.LOST)
    steps.refused(OutcomeUnknown, steps.made)
    template = world.simulator.endpoints[world.first_id]
    for number in range(120):
        name = f"we_{number}"
        world.simulator.endpoints[name] = replace(template, id=name, url=f"{URL}/{number}")
    steps.kind.clean_up(TOKEN)
    assert 121 == len(world.credentials())


def test_the_way_back(world, steps):
    """The new endpoint is deleted, twice without harm; the one in use stays."""
    new = steps.made()
    steps.kind.withdraw(steps.current, new)
    steps.kind.withdraw(steps.current, new)
    assert {world.first_id} == world.credentials()
    assert steps.use(steps.current)


def test_the_way_back_from_the_second_phase(world, steps):
    """The old endpoint sends again, and both secrets are accepted as before."""
    new = steps.made()
    steps.kind.advance(new, 1)
    steps.kind.recede(new, 1)
    steps.kind.recede(new, 1)
    assert 2 == len(world.copies())
    assert 0 == refused_copies(world, new)


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.BROKEN_AFTER])
def test_lost_answers_later_are_asked_again(world, steps, fault):
    """Disabling and deleting are repeated without harm."""
    new = steps.made()
    world.simulator.fail_next("POST /v1/webhook_endpoints/", fault)
    steps.refused(OutcomeUnknown, lambda: steps.kind.advance(new, 1))
    later = steps.kind.advance(new, 1)
    world.simulator.fail_next("DELETE", fault)
    steps.refused(OutcomeUnknown, lambda: steps.kind.retire(later, steps.current))
    steps.kind.retire(later, steps.current)
    steps.kind.prove_dead(steps.current, current=later)


def test_the_next_rotation_follows_the_id_that_was_kept(world, steps):
    """Two endpoints of one address are told apart by the ids in the versions."""
    first = steps.made()
    # The one before was not retired; a second rotation is of the newer endpoint.
    second = steps.kind.create(first, token=OTHER_TOKEN)
    steps.kind.check(first, second)
    later = steps.kind.advance(second, 1)
    assert {world.first_id, texts_of(second)["endpoint_id"]} == world.accepted_now()
    steps.kind.retire(later, first)
    steps.kind.prove_dead(first, current=later)
    assert {texts_of(second)["endpoint_id"]} == world.credentials()


def test_the_one_before_a_rotation_that_went_back_has_to_be_gone_too(world, steps):
    """Where both were accepted again, the next rotation ends both, and proves both dead."""
    both = steps.made()
    new = steps.kind.advance(steps.kind.create(both, token=OTHER_TOKEN), 1)
    del world.simulator.endpoints[texts_of(both)["endpoint_id"]]
    error = steps.refused(VerificationFailed, lambda: steps.kind.prove_dead(both, current=new))
    assert error.code == "target.still-works"
    assert world.first_id in error.message
    known = {**new, "alt": steps.current["value"]}
    del world.simulator.endpoints[world.first_id]
    error = steps.refused(VerificationFailed, lambda: steps.kind.prove_dead(both, current=known))
    assert error.code == "target.still-works"
    steps.kind.prove_dead(both, current=new)


def test_an_endpoint_that_cannot_be_told_is_not_guessed(world, steps):
    """Two of one address, made by hand: the manifest has to name the one in use."""
    template = world.simulator.endpoints[world.first_id]
    world.simulator.endpoints["we_other"] = replace(template, id="we_other", secret="whsec_x")
    error = steps.refused(Rejected, steps.made)
    assert error.code == "target.unknown"
    assert "rotations made" not in error.hint


def test_one_that_an_earlier_rotation_left_is_named(world, steps):
    """Where it must not be ended, whoever reads the refusal knows which to delete."""
    template = world.simulator.endpoints[world.first_id]
    world.simulator.endpoints["we_other"] = replace(
        template, id="we_other", secret="whsec_x", metadata={"keyturn_token": OTHER_TOKEN}
    )
    error = steps.refused(Rejected, steps.made)
    assert "rotations made `we_other`: delete in the dashboard what is not in use" in error.hint
    assert "endpoint =" in error.hint
    assert 2 == len(world.credentials())
    named = WebhookSteps(world, target={**world.setup.target, "endpoint": world.first_id})
    new = named.made()
    named.kind.retire(new, named.current)
    assert {"we_other", texts_of(new)["endpoint_id"]} == world.credentials()


def test_an_address_without_an_endpoint_is_told(world):
    """A wrong url: nothing is made."""
    steps = WebhookSteps(world, target={**world.setup.target, "url": URL + "/other"})
    error = steps.refused(Rejected, steps.made)
    assert "no endpoints" in error.message
    assert {world.first_id} == world.credentials()


def test_a_first_endpoint_is_made_where_its_events_are_named(world):
    """A birth has no old endpoint to copy: address and events are the manifest's."""
    target = {"base_url": world.simulator.base_url, "url": URL + "/new", "events": EVENTS}
    steps = WebhookSteps(world, target=target)
    assert "retire" not in dict(steps.kind.describe(None))
    new = steps.kind.create(None, token=TOKEN)
    steps.kind.check(None, new)
    made = world.client.v1.webhook_endpoints.retrieve(texts_of(new)["endpoint_id"])
    assert (URL + "/new", EVENTS) == (made.url, made.enabled_events)
    assert "" == texts_of(new)["alt"]


def test_a_first_endpoint_beside_another_is_told(world, steps):
    """The application has that one's secret already: it is to be stored, not replaced."""
    error = steps.refused(Rejected, lambda: steps.kind.create(None, token=TOKEN))
    assert error.code == "target.exists"
    assert "keyturn set it" in error.hint
    assert {world.first_id} == world.credentials()


def test_a_first_endpoint_without_events_is_told(world):
    """Nothing is guessed of what the application wants to hear."""
    target = {"base_url": world.simulator.base_url, "url": URL + "/new"}
    steps = WebhookSteps(world, target=target)
    error = steps.refused(Rejected, lambda: steps.kind.create(None, token=TOKEN))
    assert "url and events" in error.hint


def test_what_was_changed_meanwhile_fails_the_check(world, steps):
    """An endpoint that is gone, disabled or unlike the old one is not taken into use."""
    new = steps.made()
    made = world.simulator.endpoints[texts_of(new)["endpoint_id"]]
    made.events = ["invoice.paid"]
    error = steps.refused(VerificationFailed, lambda: steps.kind.check(steps.current, new))
    assert "enabled_events" in error.message
    made.events, made.enabled = list(EVENTS), False
    error = steps.refused(VerificationFailed, lambda: steps.kind.check(steps.current, new))
    assert "disabled" in error.message
    del world.simulator.endpoints[made.id]
    error = steps.refused(VerificationFailed, lambda: steps.kind.check(steps.current, new))
    assert "not there" in error.message


def test_an_old_endpoint_that_still_sends_is_noticed(world, steps):
    """The alarm names the endpoint."""
    later = steps.kind.advance(steps.made(), 1)
    error = steps.refused(
        VerificationFailed, lambda: steps.kind.prove_dead(steps.current, current=later)
    )
    assert error.code == "target.still-works"
    assert world.first_id in error.message


def test_an_old_secret_that_is_still_accepted_is_noticed(world, steps):
    """The endpoint is gone, but consumers were given its secret as `alt`: not dead yet."""
    new = steps.made()
    steps.kind.retire(new, steps.current)
    error = steps.refused(
        VerificationFailed, lambda: steps.kind.prove_dead(steps.current, current=new)
    )
    assert error.code == "target.still-works"
    assert "still accepted" in error.message


def test_no_answer_is_no_proof(world, steps):
    """A Stripe that cannot be reached, or refuses the asker, proves nothing."""
    later = steps.kind.advance(steps.made(), 1)
    steps.kind.retire(later, steps.current)
    world.simulator.fail_next("GET", Fault.LOST)
    steps.refused(Unavailable, lambda: steps.kind.prove_dead(steps.current, current=later))
    world.simulator.delete_key(world.key)
    error = steps.refused(Rejected, lambda: steps.kind.prove_dead(steps.current, current=later))
    assert error.code == "target.login-refused"
    assert "`it-admin`" in error.message


def test_the_endpoint_in_use_is_not_deleted(world, steps):
    """Two versions of one endpoint: it goes on sending."""
    new = steps.made()
    error = steps.refused(Rejected, lambda: steps.kind.retire(new, new))
    assert error.code == "target.in-use"
    assert 2 == len(world.credentials())


def test_a_key_without_the_right_is_told(world):
    """The missing permission is in Stripe's words, the key's name and what to do in ours."""
    weak = world.simulator.make_key(world.account, prefix="rk_live_", permissions=[]).value
    steps = WebhookSteps(world, admin={"value": weak})
    error = steps.refused(Rejected, steps.made)
    assert error.code == "target.denied"
    assert "rak_webhook_write" in error.message
    assert "write webhook endpoints" in error.hint


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"admin": None}, "admin ="),
        ({"admin": {"other": "x"}}, "keyturn set it-admin"),
        ({"target": {}}, "url ="),
        ({"target": {"url": 5}}, "url ="),
        ({"target": {"url": URL, "events": "invoice.paid"}}, "events ="),
    ],
)
def test_a_target_that_lacks_something_is_told(world, changes, word):
    """What is missing, and what to write."""
    with pytest.raises(UsageError) as caught:
        kind_in(replace(world.setup, **changes))
    assert caught.value.code == "rotation.target"
    assert word in caught.value.hint


def test_a_rehearsal_sends_nothing_and_leaves_no_trace(world, steps):
    """A further endpoint is made, disabled at once, checked, and deleted."""
    rehearsal = steps.kind.rehearsal()
    new = rehearsal.create(steps.current, token=OTHER_TOKEN)
    assert [world.first_id] == [endpoint for endpoint, _ in world.copies()]
    rehearsal.check(steps.current, new)
    rehearsal.withdraw(steps.current, new)
    rehearsal.prove_dead(new, current=steps.current)
    assert {world.first_id} == world.credentials()


def test_probing(world, steps):
    """A signature is tried, and the endpoint looked for where its id is known."""
    assert "not known" in steps.kind.probe(steps.current).detail
    new = steps.made()
    assert "is enabled" in steps.kind.probe(new).detail
    world.client.v1.webhook_endpoints.delete(texts_of(new)["endpoint_id"])
    error = steps.refused(VerificationFailed, lambda: steps.kind.probe(new))
    assert "not there" in error.message


def test_probing_a_secret_whose_endpoint_was_deleted(world, steps):
    """A secret that was set by hand is not of an endpoint that a rotation made."""
    steps.kind.retire(steps.made(), steps.current)
    error = steps.refused(VerificationFailed, lambda: steps.kind.probe(steps.current))
    assert "endpoint =" in error.hint


def test_our_signatures_are_stripes():
    """What is signed here is accepted by Stripe's own client, and the other way round."""
    secret, other = SecretValue(b"whsec_" + b"a1" * 16), SecretValue(b"whsec_" + b"b2" * 16)
    clock = SystemClock()
    header = signature_header(secret, PAYLOAD, clock=clock)
    stripe.Webhook.construct_event(PAYLOAD, header, secret.reveal_text(), api_key="unused")
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(PAYLOAD, header, other.reveal_text(), api_key="unused")
    theirs = stripe.WebhookSignature.generate_signature_header(
        PAYLOAD.decode(), secret.reveal_text()
    )
    assert accepts([other, secret], PAYLOAD, theirs, clock=clock)
    assert not accepts([other], PAYLOAD, theirs, clock=clock)
    assert not accepts([secret], PAYLOAD + b" ", theirs, clock=clock)
    assert not accepts([], PAYLOAD, theirs, clock=clock)


@pytest.mark.parametrize("header", ["", "t=,v1=00", "t=x,v1=00", "v1=00", "t=1", "t=1,v0=00"])
def test_what_is_no_signature_is_not_accepted(header):
    """A header without a time or a signature proves nothing."""
    secret = SecretValue(b"whsec_" + b"a1" * 16)
    assert not accepts([secret], PAYLOAD, header, clock=FakeClock())


def test_an_old_signature_is_not_accepted():
    """A call that was recorded is refused five minutes later."""
    clock, secret = FakeClock(), SecretValue(b"whsec_" + b"a1" * 16)
    header = signature_header(secret, PAYLOAD, clock=clock)
    clock.advance(299)
    assert accepts([secret], PAYLOAD, header, clock=clock)
    clock.advance(2)
    assert not accepts([secret], PAYLOAD, header, clock=clock)


def test_a_version_without_a_secret_is_told(steps):
    """A version of other fields cannot be probed."""
    steps.refused(VerificationFailed, lambda: steps.kind.probe(secret_values({"alt": "x"})))
