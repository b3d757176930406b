"""Which kinds are made here, of what, and which must be supplied."""

from __future__ import annotations

import base64

import pytest

from keyturn.core.value import SecretValue
from keyturn.crypto.jwk import parse_set, public_jwk
from keyturn.crypto.keypairs import read_private, read_public, unwrapped
from keyturn.crypto.ring import key_id, parse_ring
from keyturn.errors import UsageError
from keyturn.generate import GENERATED_KINDS, Format, Settings, generate_fields, policy_for
from keyturn.manifest.kinds import KINDS, Making
from keyturn.testing import SeededEntropy

NAME = SecretValue(b"clipper_a")


def make(kind, fields, settings=None, **options):
    return generate_fields(kind, fields, settings or Settings(), entropy=SeededEntropy(), **options)


@pytest.mark.parametrize(
    "kind", sorted(str(kind) for kind, spec in KINDS.items() if spec.making is Making.NONE)
)
def test_a_supplied_kind_says_how_to_supply_it(kind):
    """A vendor's or a person's value is not made up: the hint is the command to run."""
    with pytest.raises(UsageError, match="comes from") as caught:
        make(kind, ("value",), name="stripe")
    assert "`keyturn set stripe`" in caught.value.hint
    assert "generate.supplied" == caught.value.code


def test_an_unknown_kind_is_refused():
    """A kind that nobody knows is not guessed at."""
    with pytest.raises(UsageError, match="not known"):
        make("no-such-kind", ("value",))


@pytest.mark.parametrize(
    ("kind", "fields", "settings", "says"),
    [
        ("session-secret", ("value",), Settings(format="base32"), "format is not known"),
        ("session-secret", ("value",), Settings(size_bytes=8), "bits of entropy"),
        ("session-secret", ("value",), Settings(length=50), "in bytes"),
        ("session-secret", ("value",), Settings(key_bits=2048), "no RSA key"),
        ("session-secret", ("other",), Settings(), "other fields"),
        ("session-secret", (), Settings(), "other fields"),
        ("encryption-key", ("value",), Settings(size_bytes=31), "encryption key"),
        ("encryption-key", ("value",), Settings("alphanumeric", length=32), "encryption key"),
        ("postgres-login", ("username", "password"), Settings(), "not drawn by lot"),
        ("postgres-login", ("passphrase",), Settings(), "other fields"),
        ("postgres-login", ("password",), Settings(length=12), "bits of entropy"),
        ("generated", ("value",), Settings(length=10**9, format="ascii"), "out of bounds"),
        ("jwt-signing-key", ("private_key",), Settings(), "other fields"),
        ("jwt-signing-key", ("private_key", "public_key"), Settings(key_bits=1024), "1024 bits"),
        ("jwt-signing-key", ("private_key", "public_key"), Settings(size_bytes=32), "key pair"),
        ("jwt-signing-key", ("private_key", "public_key"), Settings("base64"), "key pair"),
        (
            "jwt-signing-key",
            ("private_key", "public_key"),
            Settings(algorithm="HS256"),
            "algorithm is not known",
        ),
        ("jwt-signing-key", ("private_key", "public_key", "name"), Settings(), "other fields"),
        ("encryption-key", ("ring",), Settings(), "other fields"),
    ],
)
def test_what_cannot_be_made_is_refused(kind, fields, settings, says):
    """Weak, contradictory and foreign wishes are refused with a way out."""
    with pytest.raises(UsageError, match=says) as caught:
        make(kind, fields, settings)
    assert caught.value.hint


def test_a_login_gets_a_password_under_its_name():
    """The user name is taken as given; the password is 40 letters and digits."""
    made = make("postgres-login", ("username", "password"), given={"username": NAME})
    assert NAME == made["username"]
    assert 40 == made["password"].size_bytes
    assert made["password"].reveal_text().isalnum()


def test_a_redis_login_may_have_no_name():
    """A Redis password alone is a whole secret."""
    assert ["password"] == list(make("redis-login", ("password",)))


def test_each_field_of_a_generated_secret_is_its_own():
    """Several fields get several values, and given ones stay."""
    made = make("generated", ("username", "one", "two"), given={"username": NAME})
    assert made["one"] != made["two"]
    assert NAME == made["username"]


@pytest.mark.parametrize("kind", ["session-secret", "encryption-key"])
def test_a_key_is_32_bytes_of_base64(kind):
    """The guide's form of a key."""
    made = make(kind, ("value",))["value"]
    assert 44 == made.size_bytes
    assert 32 == len(base64.b64decode(made.reveal(), validate=True))


def test_settings_are_followed():
    """The manifest's format and size win over the kind's."""
    assert 64 == make("encryption-key", ("value",), Settings("hex"))["value"].size_bytes
    settings = Settings("alphanumeric", length=50)
    assert 50 == make("session-secret", ("value",), settings)["value"].size_bytes
    assert Format.HEX is policy_for("generated", Settings("hex")).format
    assert policy_for("stripe-key", Settings()) is None


@pytest.mark.parametrize(
    ("settings", "bits", "one_line"),
    [
        (Settings(key_bits=2048), 2048, True),
        (Settings("pem-base64", key_bits=2048), 2048, True),
        (Settings("pem", key_bits=3072), 3072, False),
    ],
)
def test_a_jwt_key_pair_is_two_halves_of_one(settings, bits, one_line):
    """PKCS#8 and SubjectPublicKeyInfo that belong together, by default as one line of base64."""
    made = make("jwt-signing-key", ("private_key", "public_key"), settings)
    private, public = made["private_key"], made["public_key"]
    assert one_line is (b"\n" not in private.reveal())
    if one_line:
        private = SecretValue(base64.b64decode(private.reveal(), validate=True))
        public = SecretValue(base64.b64decode(public.reveal(), validate=True))
    assert private.reveal().startswith(b"-----BEGIN PRIVATE " + b"KEY-----")
    assert public.reveal().startswith(b"-----BEGIN PUBLIC KEY-----")
    facts = read_private(private)
    assert ("rsa", bits) == (facts.algorithm, facts.size_bits)
    assert facts.public_der == read_public(public).public_der


@pytest.mark.parametrize(
    ("algorithm", "facts"),
    [("RS256", ("rsa", 2048)), ("ES256", ("ec", 256)), ("EdDSA", ("ed25519", 256))],
)
def test_a_signing_key_comes_with_its_name_and_its_set(algorithm, facts):
    """Where the manifest has fields for them; the size is RSA's alone."""
    fields = ("private_key", "public_key", "jwks", "kid")
    made = make("jwt-signing-key", fields, Settings(key_bits=2048, algorithm=algorithm))
    assert fields == tuple(made)
    private = read_private(unwrapped(made["private_key"]))
    assert facts == (private.algorithm, private.size_bits)
    assert private == read_public(unwrapped(made["public_key"]))
    (entry,) = parse_set(made["jwks"])
    assert (algorithm, made["kid"].reveal_text()) == (entry["alg"], entry["kid"])
    assert entry == public_jwk(private)


def test_a_name_of_a_signing_key_is_not_given():
    """It is computed from the key, and changes with it."""
    with pytest.raises(UsageError, match="made together") as caught:
        make("jwt-signing-key", ("private_key", "public_key", "kid"), given={"kid": NAME})
    assert "identity" in caught.value.hint


def test_an_encryption_key_is_alone_in_its_ring():
    """The ring of a first key has it under an id of its own."""
    made = make("encryption-key", ("value", "ring"))
    (entry,) = parse_ring(made["ring"])
    assert (key_id(made["value"]), made["value"]) == (entry.id, entry.key)


def test_the_kinds_made_here_are_those_the_manifest_says():
    """The two lists of what can be generated agree."""
    assert GENERATED_KINDS == {
        str(kind) for kind, spec in KINDS.items() if spec.making is not Making.NONE
    }
