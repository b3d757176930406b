"""Rotating a Twitch application's secret: by hand, with the outage that this has."""

from __future__ import annotations

import traceback
from dataclasses import replace

import pytest

from keyturn.errors import KeyturnError, NotYet, Unavailable, UsageError, VerificationFailed
from keyturn.testing.clock import FakeClock
from keyturn.testing.simulators import Fault
from tests.worlds import twitch_app
from tests.worlds.base import Supplied, kind_in, secret_values, texts_of
from tests.worlds.vendor_keys import TOKEN


@pytest.fixture()
def world():
    """An application and its console."""
    world = twitch_app.open_world()
    yield world
    world.close()


@pytest.fixture()
def kind(world):
    """The kind, with nobody to be asked and time that passes at once."""
    return kind_in(world.setup, clock=FakeClock())


@pytest.fixture()
def current(world):
    return secret_values(world.setup.first)


def given(world, values):
    """Return what `create` makes of *values*, which a person gives from standard input."""
    kind = kind_in(world.setup, supplier=Supplied(values), clock=FakeClock())
    return kind.create(secret_values(world.setup.first), token=TOKEN)


def refused(world, family, do, *, besides=()):
    """Return the error of *family* that *do* raises, after looking for values in it."""
    with pytest.raises(KeyturnError) as caught:
        do()
    error = caught.value
    assert type(error) is family, error
    shown = "".join(traceback.format_exception(error)) + str(error.hint)
    known = {world.setup.first["client_secret"], *world.credentials(), *world.tokens(), *besides}
    assert [] == [value for value in known if value in shown]
    return error


def test_a_rotation_with_its_outage(world, kind, current):
    """The old secret is refused as soon as the new one is made; the new one is proven."""
    assert (False, False) == (kind.overlaps, kind.reversible)
    error = refused(world, NotYet, lambda: kind.create(current, token=TOKEN))
    assert error.person
    assert error.message.index("outage") < error.message.index("press New Secret")
    assert world.use(world.setup.first)

    new = given(world, world.supply())
    assert not world.use(world.setup.first)
    kind.apply(current, new)
    evidence = kind.check(current, new)
    assert "of this application, since revoked" in evidence.detail
    kind.retire(new, current)
    proof = kind.prove_dead(current, current=new)
    assert ("token refused", "403 invalid client secret") == (proof.method, proof.detail)
    assert world.use(texts_of(new))


def test_the_outage_is_said_before_anything_is_done(world, kind, current):
    """A dry run begins with it; a first secret ends none."""
    assert "outage" in kind.describe(current)[0][1]
    assert not any("outage" in text for _, text in kind.describe(None))
    assert 0 == world.simulator.asked("")


def test_every_token_of_ours_is_revoked(world, kind, current):
    """Trying, checking and probing leave no access token behind."""
    new = given(world, world.supply())
    kind.check(current, new)
    kind.probe(new)
    kind.prove_dead(current, current=new)
    assert set() == world.tokens()
    assert 4 == world.simulator.asked("POST /oauth2/revoke")


def test_a_token_that_cannot_be_revoked_is_said(world, kind):
    """The pair is proven all the same, and what was left is in the evidence."""
    world.simulator.fail_next("POST /oauth2/revoke", Fault.BROKEN_BEFORE)
    evidence = kind.probe(secret_values(world.setup.first))
    assert "could not be revoked" in evidence.detail
    assert 1 == len(world.tokens())


@pytest.mark.parametrize(
    "changes",
    [
        {"client_secret": ""},
        {"client_secret": "with blank at the end "},
        {"client_secret": "a1" * 15 + "\n"},
        {"client_secret": "client_secret=" + "a1" * 15},
        {"client_id": "a1-b2" * 6},
    ],
)
def test_what_is_no_pair_is_refused_unasked(world, changes):
    """A wrong form is told, and Twitch is not asked."""
    values = {**world.setup.first, "client_secret": "a1" * 15, **changes}
    besides = [text for text in changes.values() if text]
    error = refused(world, VerificationFailed, lambda: given(world, values), besides=besides)
    assert error.code == "value.form"
    assert 0 == world.simulator.asked("")


def test_the_id_given_twice_is_refused(world):
    """Both are on one page, and easily taken for each other."""
    values = {**world.setup.first, "client_secret": world.client_id}
    error = refused(world, VerificationFailed, lambda: given(world, values))
    assert "as id and as secret" in error.message


def test_an_unusual_length_is_left_to_twitch(world):
    """Twitch promises no form: what may be a secret is tried."""
    application = world.simulator.applications[world.client_id]
    application.client_secret = "A1b2C3d4" * 6
    values = {"client_id": world.client_id, "client_secret": application.client_secret}
    assert values == texts_of(given(world, values))


def test_the_old_secret_again_is_refused(world):
    """What is in use already is no new secret; the outage has not begun."""
    error = refused(world, VerificationFailed, lambda: given(world, world.setup.first))
    assert error.code == "value.old"


def test_another_applications_pair_is_refused(world):
    """Users' tokens belong to an application: it is not changed by a rotation."""
    other = world.simulator.make_application()
    values = {"client_id": other.client_id, "client_secret": other.client_secret}
    error = refused(
        world, VerificationFailed, lambda: given(world, values), besides=values.values()
    )
    assert error.code == "value.account"


def test_a_secret_that_twitch_refuses_is_refused(world):
    """A mistyped secret is not stored; the right one is given next."""
    right = world.supply()
    wrong = {**right, "client_secret": right["client_secret"][::-1]}
    error = refused(world, VerificationFailed, lambda: given(world, wrong))
    assert error.code == "target.login-refused"
    assert "invalid client secret" in error.message
    assert right == texts_of(given(world, right))


def test_an_application_that_is_gone_is_told(world, kind):
    """Twitch's words for an id that it does not know."""
    values = secret_values({**world.setup.first, "client_id": "0" * 30})
    error = refused(world, VerificationFailed, lambda: kind.probe(values))
    assert "invalid client" in error.message


def test_twitch_out_of_reach_is_not_the_persons_fault(world):
    """No answer is no refusal: the same secret is given again later."""
    values = world.supply()
    for fault in (Fault.LOST, Fault.BROKEN_BEFORE):
        world.simulator.fail_next("POST /oauth2/token", fault)
        refused(world, Unavailable, lambda: given(world, values))
    assert values == texts_of(given(world, values))


def test_an_old_secret_that_still_works_is_noticed(world, kind, current):
    """Where nothing was made at Twitch, nothing is dead; the wait for it is bounded."""
    error = refused(world, VerificationFailed, lambda: kind.prove_dead(current))
    assert error.code == "target.still-works"
    assert "New Secret" in error.hint
    assert set() == world.tokens()


def test_no_answer_is_no_proof(world, kind, current):
    """Neither silence nor a refusal of everybody proves the old secret dead."""
    new = secret_values(world.supply())
    world.simulator.fail_next("POST /oauth2/token", Fault.LOST)
    refused(world, Unavailable, lambda: kind.prove_dead(current, current=new))
    world.simulator.new_secret(world.client_id)
    error = refused(world, Unavailable, lambda: kind.prove_dead(current, current=new))
    assert "proves nothing" in error.message
    world.simulator.stop()
    refused(world, Unavailable, lambda: kind.prove_dead(current))


def test_there_is_no_way_back_and_no_rehearsal(world, kind, current):
    """Withdrawing does nothing at Twitch: the new secret is the only one that works."""
    new = secret_values(world.supply())
    kind.withdraw(current, new)
    assert world.use(texts_of(new))
    assert kind.rehearsal() is None


def test_a_first_pair(world):
    """A birth has no application to compare with."""
    kind = kind_in(world.setup, supplier=Supplied(world.setup.first), clock=FakeClock())
    assert world.setup.first == texts_of(kind.create(None, token=TOKEN))


@pytest.mark.parametrize("fields", [("client_secret",), ("client_id",), ("value",)])
def test_id_and_secret_are_staged_together(world, fields):
    """A secret that declares one of them is told how to declare both."""
    with pytest.raises(UsageError) as caught:
        kind_in(replace(world.setup, fields=fields))
    assert caught.value.code == "rotation.target"
    assert "client_id =" in caught.value.hint
