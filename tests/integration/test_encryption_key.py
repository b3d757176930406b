"""Encryption keys: the ring in every phase, the program that re-encrypts, and rows in use."""

from __future__ import annotations

import base64
import json
import secrets
import sys
import time
from dataclasses import replace

import pytest

from keyturn.core.ids import FieldName, Token
from keyturn.core.value import SecretValue
from keyturn.errors import (
    InternalError,
    NotYet,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
    VerificationFailed,
)
from tests.worlds.base import kind_in, secret_values, texts_of
from tests.worlds.encryption_key import FIRST_ROWS, EncryptionWorld, ring_of
from tests.worlds.scene import Client, Scene

TOKEN = Token("0123456789abcdef0123456789abcdef")


@pytest.fixture
def world():
    found = EncryptionWorld()
    yield found
    found.close()


def first(world):
    return secret_values(world.setup.first)


def ids(values):
    return list(ring_of(texts_of(values)))


def hook(world, tmp_path, body, **more):
    """Return a setup whose program is *body*."""
    path = tmp_path / "hook.py"
    path.write_text(f"import json, sys\norder = json.load(sys.stdin)\n{body}\n")
    return replace(world.setup, target={"rewrap": [sys.executable, str(path)], **more})


def two_phases(kind, world):
    learnt = kind.create(first(world), token=TOKEN)
    kind.apply(first(world), learnt)
    kind.check(first(world), learnt)
    return learnt, kind.advance(learnt, 1)


def test_the_new_key_is_learnt_then_encrypts_then_is_alone(world):
    """It is alone only when no row needs the old one."""
    kind = kind_in(world.setup)
    learnt, encrypting = two_phases(kind, world)
    new = ids(encrypting)[0]
    assert ["2024", new] == ids(learnt)
    assert [new, "2024"] == ids(encrypting)
    assert learnt["value"] == first(world)["value"]
    assert {"2024": FIRST_ROWS} == world.on_keys()
    alone = kind.advance(encrypting, 2)
    assert [new] == ids(alone)
    assert {new: FIRST_ROWS} == world.on_keys()
    assert ids(kind.advance(encrypting, 2)) == ids(alone)
    kind.retire(alone, first(world))
    assert "no rows left" == kind.prove_dead(first(world), current=alone).method
    assert not world.use(world.setup.first)
    assert world.use(texts_of(alone))


def test_every_row_is_readable_in_every_phase(world):
    """Also by a process that is one phase behind or ahead."""
    kind = kind_in(world.setup)
    learnt, encrypting = two_phases(kind, world)
    for values in (learnt, encrypting, learnt, encrypting):
        world.take(texts_of(values))
    alone = kind.advance(encrypting, 2)
    assert world.use(texts_of(encrypting))
    world.take(texts_of(alone))


def test_batches_go_on_within_one_step(tmp_path):
    """Until nothing is left; each is a run of the program."""
    world = EncryptionWorld(batch=7)
    try:
        kind = kind_in(world.setup)
        alone = kind.advance(two_phases(kind, world)[1], 2)
        assert {ids(alone)[0]: FIRST_ROWS} == world.on_keys()
    finally:
        world.close()


def test_a_long_re_encryption_waits_and_says_how_far_it_is(world, tmp_path):
    """When a step's time is up it is left to a later run, with the count; nothing is dropped."""

    class Slow:
        """A clock by which every row takes four seconds."""

        def monotonic(self):
            moved = sum(n for key_id, n in world.on_keys().items() if key_id != "2024")
            return time.monotonic() + 4.0 * moved

        def sleep(self, seconds):
            time.sleep(seconds)

    setup = replace(
        world.setup, target={"rewrap": [*world.setup.target["rewrap"][:-1], "10"], "timeout": "1h"}
    )
    kind = kind_in(setup, clock=Slow())
    encrypting = two_phases(kind, world)[1]
    with pytest.raises(NotYet) as caught:
        kind.advance(encrypting, 2)
    assert not caught.value.person
    assert 60 == caught.value.again_seconds
    assert "15 rows are still" in caught.value.message
    assert "10 were re-encrypted" in caught.value.message
    assert 2 == len(world.on_keys())
    with pytest.raises(NotYet, match="5 rows are still"):
        kind.advance(encrypting, 2)
    assert 1 == len(ids(kind.advance(encrypting, 2)))


def test_a_program_that_gets_nowhere_is_not_run_for_ever(world, tmp_path):
    """One batch that does nothing ends the step."""
    body = (
        "open(sys.argv[0] + '.runs', 'a').write('x')\n"
        "print(json.dumps({'remaining': 9, 'done': 0}))"
    )
    kind = kind_in(hook(world, tmp_path, body))
    with pytest.raises(NotYet, match="9 rows"):
        kind.advance(two_phases(kind, world)[1], 2)
    assert "x" == (tmp_path / "hook.py.runs").read_text()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("sys.exit(10)", Rejected),
        ("sys.exit(75)", Unavailable),
        ("sys.exit(77)", NotYet),
        ("sys.exit(1)", OutcomeUnknown),
        ("print('9 rows')", OutcomeUnknown),
        ("print('{}')", OutcomeUnknown),
        ("print('[0, 0]')", OutcomeUnknown),
        ("print(json.dumps({'remaining': -1, 'done': 0}))", OutcomeUnknown),
        ("print(json.dumps({'remaining': False, 'done': True}))", OutcomeUnknown),
        ("import time; time.sleep(30)", OutcomeUnknown),
    ],
)
def test_a_program_that_does_not_count_rows_drops_no_key(world, tmp_path, body, error):
    """Only a zero that it said itself ends the old key; its words hold no key."""
    says = "print(order['old'][0]['key'], order['new']['key'], file=sys.stderr)\n"
    kind = kind_in(hook(world, tmp_path, says + body, timeout="1s"))
    encrypting = two_phases(kind, world)[1]
    with pytest.raises(error) as caught:
        kind.advance(encrypting, 2)
    for entry in ring_of(texts_of(encrypting)).values():
        assert entry not in f"{caught.value.message} {caught.value.hint}"


def test_the_program_is_told_what_the_guide_says(world, tmp_path):
    """The new key, the old ones, and the same token every time."""
    body = (
        "open(sys.argv[0] + '.orders', 'a').write(json.dumps(order) + '\\n')\n"
        "print(json.dumps({'remaining': 0, 'done': 0}))"
    )
    kind = kind_in(hook(world, tmp_path, body))
    encrypting = two_phases(kind, world)[1]
    alone = kind.advance(encrypting, 2)
    kind.retire(alone, first(world))
    kind.prove_dead(first(world), current=alone)
    orders = [json.loads(line) for line in (tmp_path / "hook.py.orders").read_text().splitlines()]
    ring = ring_of(texts_of(encrypting))
    new = ids(encrypting)[0]
    expected = {
        "version": 1,
        "step": "rewrap",
        "secret": "it",
        "environment": "production",
        "project": "clipper",
        "token": TOKEN,
        "new": {"id": new, "key": ring[new]},
        "old": [{"id": "2024", "key": ring["2024"]}],
    }
    assert [expected] * 3 == orders


def test_rows_written_with_the_old_key_later_are_noticed(world):
    """A process that nobody restarted: the proof fails, and resuming repairs it."""
    kind = kind_in(world.setup)
    alone = kind.advance(two_phases(kind, world)[1], 2)
    world.processes[0].write("by a stale process")
    with pytest.raises(VerificationFailed, match="1 rows were still") as caught:
        kind.prove_dead(first(world), current=alone)
    assert "target.still-works" == caught.value.code
    kind.retire(alone, first(world))
    assert kind.prove_dead(first(world), current=alone).method


def test_an_old_key_in_the_ring_is_noticed(world):
    """Under its id, and under another."""
    kind = kind_in(world.setup)
    learnt, encrypting = two_phases(kind, world)
    texts = texts_of(kind.advance(encrypting, 2))
    texts["ring"] += f",renamed:{world.setup.first['value']}"
    for current in (first(world), learnt, encrypting, secret_values(texts)):
        with pytest.raises(VerificationFailed, match="still in the ring"):
            kind.prove_dead(first(world), current=current)
    with pytest.raises(Unavailable):
        kind.prove_dead(first(world))


def test_a_key_without_a_ring_is_adopted(world):
    """It gets an id of its own, always the same."""
    kind = kind_in(world.setup)
    bare = {FieldName("value"): first(world)["value"]}
    learnt = kind.create(bare, token=TOKEN)
    assert ids(learnt)[0] == ids(kind.create(bare, token=TOKEN))[0]
    assert learnt["value"] == bare["value"]
    kind.check(bare, learnt)


def test_a_leftover_of_a_rotation_that_went_back_is_re_encrypted_too(world):
    """Its key may have encrypted rows: it stays in the ring until they are moved."""
    kind = kind_in(world.setup)
    left, encrypting = two_phases(kind, world)
    world.take(texts_of(left))
    world.take(texts_of(encrypting))
    world.take(texts_of(left))
    assert 2 == len(world.on_keys())
    learnt = kind.create(left, token=Token("another"))
    assert 3 == len(ids(learnt))
    again = kind.advance(learnt, 1)
    world.take(texts_of(learnt))
    world.take(texts_of(again))
    alone = kind.advance(again, 2)
    assert {ids(alone)[0]} == set(world.on_keys())
    assert kind.prove_dead(left, current=alone).method


@pytest.mark.parametrize(
    ("ring", "says"),
    [
        ("nonsense", "no ring"),
        ("a:AAAA, b:BBBB", "no ring"),
        ("a:AAAA,a:BBBB", "alike"),
        ("a:AAAA", "not the first key"),
    ],
)
def test_a_present_ring_that_is_not_right_is_refused(world, ring, says):
    """Before anything is changed."""
    wrong = {**first(world), FieldName("ring"): SecretValue.from_text(ring)}
    for act in (lambda kind: kind.create(wrong, token=TOKEN), lambda kind: kind.probe(wrong)):
        with pytest.raises(VerificationFailed, match=says) as caught:
            act(kind_in(world.setup))
        assert "AAAA" not in f"{caught.value.message} {caught.value.hint}"


def test_a_key_that_cannot_be_used_fails_the_check(world):
    """Of a size that no cipher takes, and a ring that lacks the present key."""
    kind = kind_in(world.setup)
    short = base64.b64encode(secrets.token_bytes(31)).decode()
    with pytest.raises(VerificationFailed, match="is no key of"):
        kind.probe(secret_values({"value": short, "ring": f"x:{short}"}))
    other = texts_of(kind.create(None, token=TOKEN))
    with pytest.raises(VerificationFailed, match="does not have the keys"):
        kind.check(first(world), secret_values(other))


@pytest.mark.parametrize("size", [16, 24, 32, 48, 64])
@pytest.mark.parametrize("form", ["hex", "base64", "url"])
def test_keys_of_every_size_and_form_are_known(world, size, form):
    """As `generate` makes them."""
    raw = secrets.token_bytes(size)
    text = {
        "hex": raw.hex(),
        "base64": base64.b64encode(raw).decode(),
        "url": base64.urlsafe_b64encode(raw).rstrip(b"=").decode(),
    }[form]
    kind = kind_in(world.setup)
    assert (
        "sample decrypted" == kind.probe(secret_values({"value": text, "ring": f"a:{text}"})).method
    )


@pytest.mark.parametrize(
    "changes", [{"fields": ("value",)}, {"target": {}}, {"target": {"rewrap": []}}]
)
def test_without_a_ring_or_a_program_nothing_is_rotated(world, changes):
    """Stored data could not be read any more; the lines to write are shown."""
    with pytest.raises(UsageError, match="could not be read") as caught:
        kind_in(replace(world.setup, **changes))
    assert "rewrap = [" in caught.value.hint and "ring = " in caught.value.hint
    assert "rotation.target" == caught.value.code


def test_a_version_of_no_rotation_is_not_advanced(world):
    """Somebody stored another one meanwhile."""
    kind = kind_in(world.setup)
    with pytest.raises(VerificationFailed, match="no second key"):
        kind.advance(first(world), 1)
    with pytest.raises(InternalError):
        kind.advance(first(world), 3)


def test_a_first_key_is_alone_in_its_ring(world):
    """A birth has nothing to re-encrypt."""
    kind = kind_in(world.setup)
    made = kind.create(None, token=TOKEN)
    assert 1 == len(ids(made))
    assert kind.check(None, made).method
    assert dict(kind.describe(None)) and dict(kind.describe(made))


def test_every_row_stays_readable_during_a_rotation_in_small_batches(tmp_path, record_property):
    """Two processes read and write all the time, and the program is run again and again."""
    world = EncryptionWorld(batch=3)
    try:
        scene = Scene(world, tmp_path)
        with Client(world, tmp_path) as client:
            answer = scene.settle(scene.rotate())
            assert "done" == answer["state"], answer
            while client.used < 3:
                client.stopping.wait(0.01)
        assert [] == client.refused
        assert 1 == len(world.credentials())
        record_property("uses", client.used)
        scene.close()
    finally:
        world.close()
