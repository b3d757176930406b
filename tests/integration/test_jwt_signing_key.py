"""Signing keys: every phase by hand, and a service that signs and verifies meanwhile."""

from __future__ import annotations

import base64
import json
import warnings
from dataclasses import replace

import pytest
from joserfc import jwk, jws
from joserfc.errors import SecurityWarning

from keyturn.core.ids import FieldName, Token
from keyturn.core.value import SecretValue
from keyturn.errors import InternalError, Unavailable, UsageError, VerificationFailed
from tests.worlds.base import kind_in, secret_values, texts_of
from tests.worlds.jwt_signing_key import JwtWorld, by_hand, sign
from tests.worlds.scene import Client, Scene

TOKEN = Token("0123456789abcdef0123456789abcdef")
TYPES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
ALL_FIELDS = ("private_key", "public_key", "jwks", "kid")


@pytest.fixture
def world():
    found = JwtWorld()
    yield found
    found.close()


def phases(kind, current):
    """Return the version of every phase of a rotation."""
    found = [kind.create(current, token=TOKEN)]
    kind.apply(current, found[0])
    kind.check(current, found[0])
    found += [kind.advance(found[0], 1)]
    return [*found, kind.advance(found[1], 2)]


def kids(values):
    return [entry["kid"] for entry in json.loads(values["jwks"].reveal())["keys"]]


def kid(values):
    return values["kid"].reveal_text()


def target(world, **changes):
    return replace(world.setup, target=world.setup.target | changes)


def single(world, **changes):
    return replace(target(world, **changes), fields=("private_key", "public_key"))


def test_the_set_announces_then_signs_then_forgets(world):
    """The key that signs is the first of the set, and the new one is never lost."""
    kind, old = kind_in(world.setup), secret_values(world.setup.first)
    announced, signing, alone = phases(kind, old)
    assert kid(old) == kid(announced) != kid(signing) == kid(alone)
    assert [kid(old), kid(signing)] == kids(announced)
    assert [kid(signing), kid(old)] == kids(signing)
    assert [kid(signing)] == kids(alone)
    assert old["private_key"] == announced["private_key"]
    assert announced["next_private_key"] == signing["private_key"] == alone["private_key"]
    assert set(ALL_FIELDS) == set(signing) == set(alone)
    kind.retire(alone, old)
    assert "signature refused" == kind.prove_dead(old, current=alone).method


def test_every_phase_signs_what_the_others_set_accepts(world):
    """So that processes may be one phase apart, whichever way they go."""
    versions = [texts_of(values) for values in phases(kind_in(world.setup), first(world))]
    for signer, publisher in [(0, 1), (1, 0), (1, 2), (2, 1)]:
        keys = jwk.KeySet.import_key_set(json.loads(versions[publisher]["jwks"]))
        jws.deserialize_compact(sign(versions[signer]), keys, algorithms=["ES256"])


def first(world):
    return secret_values(world.setup.first)


def test_the_waits_are_the_cache_and_the_life_of_a_token(world):
    """As the target says, or ten minutes and the grace."""
    kind = kind_in(world.setup)
    assert (1, (2, 0)) == (kind.first_wait(3600), tuple(kind.later_waits(3600)))
    kind = kind_in(replace(world.setup, target={}))
    assert (600, (3600, 0)) == (kind.first_wait(3600), tuple(kind.later_waits(3600)))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_the_algorithm_may_change(world, algorithm):
    """Old and new stand side by side in the set, each with its own."""
    kind = kind_in(target(world, algorithm=algorithm))
    announced, signing, alone = phases(kind, first(world))
    types = [entry["kty"] for entry in json.loads(announced["jwks"].reveal())["keys"]]
    assert ["EC", TYPES[algorithm]] == types
    assert kind.prove_dead(first(world), current=alone).method
    back = phases(kind_in(world.setup), alone)[2]
    assert kind.prove_dead(alone, current=back).method
    assert [algorithm] == [entry["alg"] for entry in json.loads(alone["jwks"].reveal())["keys"]]
    assert signing["private_key"] == alone["private_key"]


def test_a_jose_library_reads_what_is_published(world):
    """Thumbprints are those of RFC 7638 as it computes them, and signatures verify."""
    for algorithm, kty in TYPES.items():
        made = texts_of(kind_in(target(world, algorithm=algorithm)).create(None, token=TOKEN))
        key = jwk.import_key(base64.b64decode(made["private_key"]), kty)
        entry = json.loads(made["jwks"])["keys"][0]
        assert key.thumbprint() == made["kid"] == entry["kid"]
        assert "d" not in entry
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)
            text = jws.serialize_compact(
                {"alg": algorithm, "kid": made["kid"]}, b"x", key, algorithms=[algorithm]
            )
            keys = jwk.KeySet.import_key_set(json.loads(made["jwks"]))
            assert b"x" == jws.deserialize_compact(text, keys, algorithms=[algorithm]).payload


def test_a_pair_made_by_hand_is_adopted(world):
    """PEM alone, without a set and a name: its name is computed, its form kept."""
    pem = by_hand()
    old = secret_values(
        {name: base64.b64decode(pem[name]).decode() for name in ("private_key", "public_key")}
    )
    announced, _, alone = phases(kind_in(world.setup), old)
    assert pem["kid"] == kid(announced) == kids(announced)[0]
    for values in (announced, alone):
        assert values["private_key"].reveal().startswith(b"-----BEGIN PRIVATE KEY-----\n")
        assert values["public_key"].reveal().startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert announced["next_private_key"] == alone["private_key"]
    assert kind_in(world.setup).prove_dead(old, current=alone).method


def test_a_name_that_a_person_chose_is_kept(world):
    """Tokens that live carry it; it may stand in the set alone."""
    old = secret_values(by_hand(kid="main-1"))
    announced, signing, _ = phases(kind_in(world.setup), old)
    assert "main-1" == kid(announced) == kids(announced)[0] == kids(signing)[1]
    unnamed = {name: value for name, value in old.items() if name != "kid"}
    assert "main-1" == kid(kind_in(world.setup).create(unnamed, token=TOKEN))


def test_other_keys_of_the_set_stay_until_the_end_without_what_is_private(world):
    """Tokens of a rotation that was given up may live; a private key was never to be there."""
    texts = dict(world.setup.first)
    stray = {**jwk.ECKey.generate_key("P-256").as_dict(private=True), "kid": "stray"}
    oct_key = {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric"}
    keys = json.loads(texts["jwks"])["keys"]
    texts["jwks"] = json.dumps({"keys": [*keys, stray, oct_key]})
    announced, signing, alone = phases(kind_in(world.setup), secret_values(texts))
    assert "stray" in kids(announced) and "stray" in kids(signing)
    assert [kid(alone)] == kids(alone)
    assert stray["d"] not in announced["jwks"].reveal_text()
    assert "symmetric" not in kids(announced)


def test_an_old_key_that_is_still_published_is_noticed(world):
    """By its name, by its key under another name, and by what it signs."""
    kind, old = kind_in(world.setup), first(world)
    announced, signing, alone = phases(kind, old)
    renamed = texts_of(alone)
    entries = json.loads(renamed["jwks"])["keys"]
    entries.append({**json.loads(old["jwks"].reveal())["keys"][0], "kid": "another"})
    renamed["jwks"] = json.dumps({"keys": entries})
    for current in (old, announced, signing, secret_values(renamed)):
        with pytest.raises(VerificationFailed, match="still published") as caught:
            kind.prove_dead(old, current=current)
        assert "target.still-works" == caught.value.code
    with pytest.raises(Unavailable, match="nothing is proven"):
        kind.prove_dead(old)


def test_a_leftover_of_a_rotation_that_went_back_is_proven_dead_too(world):
    """Its announced key may have signed for a while."""
    kind = kind_in(world.setup)
    left = kind.create(first(world), token=TOKEN)
    announced, _, alone = phases(kind, left)
    assert 3 == len(kids(announced))
    assert kind.prove_dead(left, current=alone).method
    with pytest.raises(VerificationFailed):
        kind.prove_dead(left, current=kind.advance(left, 1))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("private_key", "no key at all", "cannot be read"),
        ("public_key", by_hand()["public_key"], "not the other half"),
        ("jwks", by_hand()["jwks"], "does not have the signing key"),
        ("jwks", "{}", "no JSON Web Key Set"),
        ("kid", "another", "does not have the signing key"),
    ],
)
def test_parts_that_do_not_belong_together_fail_the_check(world, field, value, says):
    """Of the new version and, outside of a rotation, of the present one."""
    kind = kind_in(world.setup)
    announced = kind.create(first(world), token=TOKEN)
    for values in (announced, first(world)):
        wrong = {**values, FieldName(field): SecretValue.from_text(value)}
        with pytest.raises(VerificationFailed, match=says) as caught:
            kind.probe(wrong)
        assert value not in str(caught.value.message)
        with pytest.raises(VerificationFailed):
            kind.check(first(world), wrong)


def test_a_set_without_the_new_key_fails_the_check(world):
    """Its tokens would be refused from the next phase on."""
    kind = kind_in(world.setup)
    announced = kind.create(first(world), token=TOKEN)
    with pytest.raises(VerificationFailed, match="is refused with what is published"):
        kind.check(first(world), {**announced, FieldName("jwks"): first(world)["jwks"]})


def test_a_version_of_no_rotation_is_not_advanced(world):
    """Somebody stored another one meanwhile."""
    kind = kind_in(world.setup)
    with pytest.raises(VerificationFailed, match="announces no next key"):
        kind.advance(first(world), 1)
    with pytest.raises(InternalError):
        kind.advance(first(world), 3)


def test_a_key_that_signs_no_tokens_is_refused(world):
    """A key on a curve of no JOSE algorithm is not adopted."""
    odd = by_hand(jwk.ECKey.generate_key("secp256k1"))
    texts = {name: odd[name] for name in ("private_key", "public_key")}
    with pytest.raises(VerificationFailed, match="tokens are not signed"):
        kind_in(world.setup).create(secret_values(texts), token=TOKEN)


@pytest.mark.parametrize("changes", [{"algorithm": "HS256"}, {"cache": "soon"}, {"cache": 5}])
def test_a_target_that_says_what_is_not_known_is_refused(world, changes):
    """With what to write."""
    with pytest.raises(UsageError) as caught:
        kind_in(target(world, **changes))
    assert "keyturn.toml" in caught.value.hint
    assert "rotation.target" == caught.value.code


def test_a_single_key_ends_the_tokens_of_the_old_one(world):
    """That is said before, and proven with the public key."""
    kind = kind_in(single(world))
    old = {name: first(world)[name] for name in ("private_key", "public_key")}
    assert not kind.overlaps
    assert "refuses tokens of the old key" in dict(kind.describe(old))["deliver"]
    new = kind.create(old, token=TOKEN)
    assert {"private_key", "public_key"} == set(new)
    kind.check(old, new)
    assert "signature refused" == kind.prove_dead(old, current=new).method
    with pytest.raises(VerificationFailed, match="still published"):
        kind.prove_dead(old, current=old)


def test_a_first_key_is_whole(world):
    """All declared fields, and a set of one."""
    for setup in (world.setup, single(world)):
        kind = kind_in(setup)
        made = kind.create(None, token=TOKEN)
        assert set(setup.fields) == set(made)
        assert kind.check(None, made).method
        assert dict(kind.describe(None))


def test_what_is_said_beforehand_names_no_value(world):
    """The plan has names of keys and steps."""
    said = dict(kind_in(world.setup).describe(first(world)))
    assert {"create", "check", "advance", "prove"} == set(said)
    assert world.setup.first["kid"] in said["create"]


def test_no_token_is_refused_while_verifiers_keep_the_set(tmp_path, record_property):
    """Their cache is strict, and what was issued earlier is accepted as long as it lives."""
    world = JwtWorld(asks_again=False, token_seconds=1.8)
    try:
        scene = Scene(world, tmp_path)
        with Client(world, tmp_path) as client:
            answer = scene.run("start", now=False)
            assert "done" == answer["state"], answer
        assert [] == client.refused
        assert not world.use(world.setup.first)
        assert world.use(scene.values())
        assert world.issued.accepted_later > 100
        record_property("tokens_accepted", world.issued.accepted_later)
        record_property("uses", client.used)
        scene.close()
    finally:
        world.close()


def test_a_hurry_is_noticed_by_verifiers_that_do_not_ask_again(tmp_path):
    """The waits are what keeps tokens from being refused: without them some are."""
    world = JwtWorld(asks_again=False, cache_seconds=60)
    try:
        scene = Scene(world, tmp_path)
        with Client(world, tmp_path) as client:
            scene.settle(scene.rotate())
        assert client.refused
        scene.close()
    finally:
        world.close()
