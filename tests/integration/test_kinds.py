"""
Every kind of credential, rotated in its world while a client uses it.

What is particular to a kind is tested beside it; here is what holds for all.
"""

from __future__ import annotations

import pytest

from keyturn.core.ids import Token
from keyturn.rotate import rehearse
from tests._plugins.ci import OUTAGE
from tests.worlds.base import Supplied, kind_in, secret_values
from tests.worlds.scene import WORLDS, Client, Scene, open_world

pytestmark = [
    pytest.mark.kinds,
    # botocore leaves a connection that the emulator closed first to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]


@pytest.fixture(params=WORLDS)
def world(request):
    opened = open_world(request.param)
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


def test_a_client_that_uses_it_all_the_time_is_never_refused(world, scene, request):
    """Where old and new overlap; where they cannot, the time without is measured."""
    before = len(world.credentials())
    with Client(world, scene.folder) as client:
        answer = scene.settle(scene.rotate())
        while client.used < 3:
            client.stopping.wait(0.01)
    name = request.node.callspec.params["world"]
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
        answer = scene.rotate(healthy=False)
        if answer["state"] == "stuck":
            # The old one ended when the new one was made: only forward is left.
            answer = scene.settle(answer)
            assert "done" == answer["state"]
        else:
            answer = scene.settle(answer, healthy=False)
            assert "rolled-back" == answer["state"], answer
            assert 1 == scene.state().current
            assert len(before) == len(world.credentials())
    if world.setup.overlaps:
        assert [] == client.refused
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


def test_a_rehearsal_goes_through_and_leaves_no_trace(world):
    """Every step works on a throw-away credential, or the kind says that there is none."""
    setup = world.setup
    supplier = None
    kind = kind_in(setup, supplier=supplier).rehearsal()
    if kind is None:
        assert setup.guided or not setup.overlaps or setup.kind in ("command", "external")
        return
    before = world.credentials()
    current = secret_values(setup.first)
    lines = list(rehearse(kind, current, token=Token("0123456789abcdef" * 2)))
    assert [] == [line.text for line in lines if line.failure is not None]
    assert before == world.credentials()
    assert world.use(setup.first)


def test_a_probe_tells_a_good_credential_from_a_dead_one(world, scene):
    """The retrieval test uses it on what is in the store."""
    from keyturn.errors import VerificationFailed

    old = secret_values(scene.values())
    kind = kind_in(world.setup, supplier=Supplied(world.setup.first))
    assert kind.probe(old).method
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
