"""
Every kind of credential, rotated in its world while a client uses it.

What is particular to a kind is tested beside it; here is what holds for all.
"""

from __future__ import annotations

import pytest

from keyturn.core.ids import Token
from keyturn.errors import VerificationFailed
from keyturn.rotate import rehearse
from keyturn.testing.clock import FakeClock
from tests._plugins.ci import OUTAGE
from tests.worlds.base import Supplied, kind_in, secret_values
from tests.worlds.scene import EVERY, Client, Reader, Scene, open_world

pytestmark = [
    pytest.mark.kinds,
    # botocore leaves a connection that the emulator closed first to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]


# How many versions a rotation brings consumers to, where it is more than one.
PHASES = {
    "encryption_key": 3,
    "jwt_signing_key": 3,
    "session_secret": 3,
    "stripe_webhook_secret": 2,
}
LATER = [(name, phase) for name, phases in PHASES.items() for phase in range(1, phases)]
# Their sessions outlive the password that began them, unless they are ended.
WITH_SESSIONS = ("postgres_15", "postgres_18", "redis_login", "redis_requirepass")
# What these keep in memory and on disk can differ.
RESTARTED = WITH_SESSIONS
# Of these only whoever uses the old value can tell whether it works.
UNPROVEN = ("generated", "guided")
# What a person made is known to that person.
BY_HAND = ("guided", "stripe_key", "twitch_app")
# A throw-away one cannot be had, or would show nothing.
UNREHEARSED = ("command", "external", "generated")


@pytest.fixture(params=EVERY)
def name(request):
    return request.param


@pytest.fixture
def world(name):
    opened = open_world(name)
    yield opened
    opened.close()


@pytest.fixture
def scene(world, tmp_path):
    made = Scene(world, tmp_path)
    yield made
    made.close()


def distinct(values, secrets):
    """Return what of *values* is long enough to be recognised in a text."""
    return [text for name, text in values.items() if name in secrets and len(text) >= 12]


def test_a_client_that_uses_it_all_the_time_is_never_refused(name, world, scene, request):
    """Where old and new overlap; where they cannot, the time without is measured."""
    before = len(world.credentials())
    with Client(world, scene.folder) as client:
        answer = scene.settle(scene.rotate())
        while client.used < 3:
            client.stopping.wait(0.01)
    request.node.user_properties.append((OUTAGE, f"{name} {client.outage_seconds:.2f}"))
    assert "done" == answer["state"], answer
    if world.setup.overlaps:
        assert [] == client.refused
    assert world.use(scene.values())
    assert before == len(world.credentials())


def test_the_old_credential_is_refused_by_the_system_itself(world, scene):
    """Not by what the store says of it; and twice in a row goes as well as once."""
    old = scene.values()
    with Client(world, scene.folder):
        for _ in range(2):
            answer = scene.settle(scene.rotate())
            assert "done" == answer["state"], answer
            assert not world.use(old)
            new = scene.values()
            assert new != old
            assert world.use(new)
            old = new


def test_a_client_that_does_not_come_up_gets_the_old_one_back(world, scene):
    """It is never without a credential that works, where there can be two."""
    before = world.credentials()
    with Client(world, scene.folder) as client:
        answer = scene.rotate(refuse=0)
        if answer["state"] == "stuck":
            # The old one ended when the new one was made: only forward is left.
            scene.refused = None
            answer = scene.settle(answer)
            assert "done" == answer["state"]
        else:
            answer = scene.settle(answer)
            assert "rolled-back" == answer["state"], answer
            assert 1 == scene.state().current
            assert before == world.credentials()
    if world.setup.overlaps:
        assert [] == client.refused
    assert world.use(scene.values())


@pytest.mark.parametrize(("name", "phase"), LATER)
def test_a_client_that_does_not_come_up_in_a_later_phase_gets_the_one_before_it(
    name, phase, world, scene
):
    """Old and new are accepted as they were then, and the next rotation ends both."""
    before = len(world.credentials())
    accepted = getattr(world, "accepted_now", world.credentials)
    with Client(world, scene.folder) as client:
        answer = scene.rotate(refuse=phase, now=False)
        assert "grace" == answer["step"], answer
        both, old = accepted(), scene.values()
        answer = scene.settle(answer)
        assert "rolled-back" == answer["state"], answer
        assert 1 + phase == scene.state().current
        assert both == accepted()
        assert world.use(scene.values())
        answer = scene.settle(scene.rotate())
        assert "done" == answer["state"], answer
    assert [] == client.refused
    assert before == len(world.credentials())
    assert not both & accepted()
    assert not world.use(old)


@pytest.mark.parametrize("refuse", [None, 0], ids=["forward", "back"])
@pytest.mark.parametrize("name", RESTARTED)
def test_what_a_system_accepts_is_the_same_after_a_restart(name, refuse, world, scene):
    """At the end, on the way back, and while old and new are both accepted."""
    old = scene.values()
    with Reader(world, scene.folder):
        answer = scene.rotate(now=False, refuse=refuse)
        if answer["step"] == "grace":
            world.restart()
            assert world.use(old)
            assert world.use(scene.values())
        answer = scene.settle(answer)
    accepted = world.credentials()
    world.restart()
    assert accepted == world.credentials()
    assert world.use(scene.values())
    assert world.use(old) is (answer["state"] == "rolled-back")


@pytest.mark.parametrize("name", WITH_SESSIONS)
def test_a_session_ends_with_the_credential_that_began_it(name, world, scene):
    """Whoever stays connected does not keep what was taken away."""
    with Reader(world, scene.folder), world.session(scene.values()) as lives:
        assert lives()
        answer = scene.settle(scene.rotate())
        assert "done" == answer["state"], answer
        assert not lives()


@pytest.mark.parametrize("name", [name for name in EVERY if name not in BY_HAND])
def test_what_was_made_and_cannot_be_stored_is_ended(world, scene):
    """Nobody has its value, so nobody else could end it."""
    assert not world.setup.guided
    before = world.credentials()
    with Reader(world, scene.folder):
        answer = scene.settle(scene.rotate(unstored=True))
    assert "rolled-back" == answer["state"], answer
    assert before == world.credentials()
    assert world.use(scene.values())


def test_nothing_of_a_value_is_written_down(world, scene):
    """The journal, the audit log and what is told hold names and numbers."""
    old = scene.values()
    with Client(world, scene.folder):
        answer = scene.settle(scene.rotate())
    text = scene.written() + str(answer)
    from keyturn.manifest import SecretKind, is_identifier

    kind = SecretKind(world.setup.kind)
    proving = {name for name in world.setup.fields if not is_identifier(kind, name)}
    for value in distinct(old, proving) + distinct(
        scene.values(), proving - {"public_key", "jwks"}
    ):
        assert value not in text


def require_known_phases(name, kind):
    """Each phase of *kind* is one in which a client has not come up."""
    assert PHASES.get(name, 1) == 1 + len(kind.later_waits(3600))
    assert name not in PHASES or kind.overlaps


def test_a_rehearsal_goes_through_and_leaves_no_trace(name, world):
    """Every step works on a throw-away credential, or the kind says that there is none."""
    setup = world.setup
    kind = kind_in(setup)
    require_known_phases(name, kind)
    kind = kind.rehearsal()
    if kind is None:
        assert setup.guided or not setup.overlaps or setup.kind in UNREHEARSED
        return
    before = world.credentials()
    current = secret_values(setup.first)
    lines = list(rehearse(kind, current, token=Token("0123456789abcdef" * 2)))
    assert [] == [line.text for line in lines if line.failure is not None]
    assert before == world.credentials()
    assert world.use(setup.first)


def require_no_proof(name, setup, values):
    """What works is not proven dead: the proof is the system's answer."""
    kind = kind_in(setup, clock=FakeClock())
    if name in UNPROVEN:
        assert "not proven" == kind.prove_dead(values, current=values).method
        return
    with pytest.raises(VerificationFailed):
        kind.prove_dead(values, current=values)


def test_a_good_credential_is_told_from_a_dead_one(name, world, scene):
    """By a probe, as the retrieval test does, and by the proof that an old one is dead."""
    old = secret_values(scene.values())
    kind = kind_in(world.setup, supplier=Supplied(world.setup.first))
    assert kind.probe(old).method
    require_no_proof(name, world.setup, old)
    assert world.use(world.setup.first)
    with Client(world, scene.folder):
        scene.settle(scene.rotate())
    if kind.probe(old_or_new := secret_values(scene.values())).method in ("not tried",):
        return
    assert kind.probe(old_or_new).method
    if world.setup.kind in ("session-secret", "jwt-signing-key", "encryption-key"):
        # They open nothing: a good form is all that can be seen of them alone.
        return
    with pytest.raises(VerificationFailed):
        kind.probe(old)
