"""Key sets hold public halves only, under the names that RFC 7638 gives them."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from keyturn.core.value import SecretValue
from keyturn.crypto import jwk, jws
from keyturn.crypto.keypairs import (
    ec_pair,
    ed25519_pair,
    public_pem,
    read_private,
    read_public,
    rsa_pair,
)
from keyturn.errors import VerificationFailed
from tests.unit.crypto.test_crypto_keypairs import private_text

# RFC 7638, 3.1.
RFC_KEY = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc"
    "_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FD"
    "W2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQF"
    "h6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
PAIRS = {"RS256": rsa_pair(2048), "ES256": ec_pair(), "EdDSA": ed25519_pair()}


def test_the_thumbprint_of_the_standard_comes_out():
    """Other members of the entry do not count."""
    assert jwk.thumbprint(RFC_KEY) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_public_half_is_named_and_says_what_it_is_for(algorithm):
    """And holds nothing that is private."""
    facts = read_private(PAIRS[algorithm].private)
    found = jwk.public_jwk(facts)
    assert (algorithm, "sig", jwk.thumbprint(found)) == (found["alg"], found["use"], found["kid"])
    assert not jwk.holds_private(found)
    assert "mine" == jwk.public_jwk(facts, kid="mine")["kid"]
    assert facts == read_public(public_pem(facts))


def test_coordinates_keep_their_leading_zeros():
    """Each is as long as the curve, or verifiers refuse it."""
    for number in range(1, 600):
        key = ec.derive_private_key(number, ec.SECP256R1())
        found = jwk.public_jwk(read_private(private_text(key)))
        assert 43 == len(found["x"]) == len(found["y"])


def test_a_key_of_no_algorithm_is_refused():
    """Its name is said, nothing of it."""
    facts = read_private(private_text(ec.generate_private_key(ec.SECP256K1())))
    assert jwk.signing_algorithm(facts) is None
    with pytest.raises(VerificationFailed, match="not signed with a key for `ec`"):
        jwk.public_jwk(facts)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"keys": {}}', '{"keys": [1]}', "\x00", json.dumps({"keys": [{}] * 101})],
)
def test_what_is_no_set_is_refused(text):
    """Whatever it is instead."""
    with pytest.raises(VerificationFailed):
        jwk.parse_set(SecretValue.from_text(text))


def test_a_set_survives_being_written():
    """In one line, as variables carry it."""
    keys = [jwk.public_jwk(read_private(pair.private)) for pair in PAIRS.values()]
    written = jwk.write_set(keys)
    assert keys == jwk.parse_set(written)
    assert b"\n" not in written.reveal()


def test_what_is_private_is_left_out_and_told_apart():
    """A symmetric key is private as a whole, and an unknown one is not carried over."""
    private = {**RFC_KEY, "d": "x", "use": "sig", "x5t": "y"}
    odd = {"kty": "oct", "k": "x"}
    assert jwk.holds_private(private) and jwk.holds_private(odd)
    assert [{**RFC_KEY, "use": "sig"}] == jwk.without_private([private, odd, {"kty": "EC"}])
    with pytest.raises(VerificationFailed, match="no known type"):
        jwk.thumbprint({"kty": "EC", "crv": "P-256"})


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_sample_is_accepted_by_its_own_key_alone(algorithm):
    """By a set with it under its name or another, and by no other key."""
    pair = PAIRS[algorithm]
    own = jwk.public_jwk(read_private(pair.private))
    others = [jwk.public_jwk(read_private(p.private)) for p in PAIRS.values() if p is not pair]
    sample = jws.sign_sample(pair.private, own["kid"])
    assert jws.is_accepted(sample, [*others, own])
    assert jws.is_accepted(sample, [{**own, "kid": "renamed"}])
    assert not jws.is_accepted(sample, others)
    assert not jws.is_accepted(sample, [])
    # Another key under its name, and one that cannot be read.
    assert not jws.is_accepted(sample, [{**others[0], "kid": own["kid"]}, {"kty": "EC"}])


def test_what_signs_nothing_is_refused():
    """A key on a curve without an algorithm."""
    with pytest.raises(VerificationFailed, match="not signed"):
        jws.sign_sample(private_text(ec.generate_private_key(ec.SECP256K1())), "x")
