"""What the form of a value gives away: absent, placeholder, malformed, weak, unmatched."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.entropy import SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.crypto.jwk import public_jwk, write_set
from keyturn.crypto.keypairs import ec_pair, ed25519_pair, read_private, rsa_pair
from keyturn.generate import Format, Policy, Settings, generate_fields, policy_for, random_value
from keyturn.manifest.kinds import KINDS
from keyturn.testing import SeededEntropy
from keyturn.verify import Severity, check_form, check_halves

PAIR = rsa_pair(2048)
OTHER = rsa_pair(2048)


def random_text(characters, form=Format.ALPHANUMERIC):
    policy = Policy(form, length=characters)
    return random_value(policy, entropy=SystemEntropy()).reveal_text()


def codes(kind, field, text, policy=None):
    value = text if isinstance(text, SecretValue) else SecretValue.from_text(text)
    return [finding.code for finding in check_form(kind, field, value, policy)]


def pem(key):
    return SecretValue(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def in_base64(value):
    return SecretValue(base64.b64encode(value.reveal()))


@pytest.mark.parametrize("kind", [str(kind) for kind in KINDS])
@pytest.mark.parametrize("value", [None, SecretValue(b"")])
def test_what_is_absent_is_bad(kind, value):
    """Of every kind, nothing is nothing."""
    (finding,) = check_form(kind, "value", value)
    assert ("form.missing", Severity.BAD, "value") == (
        finding.code,
        finding.severity,
        finding.subject,
    )


@pytest.mark.parametrize("kind", ["session-secret", "stripe-key", "guided", "human-password"])
@pytest.mark.parametrize("text", ["changeme", "<your key>", "xxxxxxxx", "  ", "sk_test_changeme"])
def test_a_placeholder_is_bad(kind, text):
    """What was left to be filled in is told apart from a weak value."""
    assert ["form.placeholder"] == codes(kind, "value", text)


def test_bytes_that_are_no_text_are_bad():
    """A value that is no text cannot be what these kinds are."""
    assert ["form.encoding"] == codes("session-secret", "value", SecretValue(b"\xff" * 40))


@pytest.mark.parametrize(
    ("kind", "field", "text", "found"),
    [
        ("openai-key", "value", "pk-{40}", "form.shape"),
        ("openai-key", "value", "sk-{5}", "form.shape"),
        ("sendgrid-key", "value", "SG.{40}", "form.shape"),
        ("sendgrid-key", "value", "XX.{22}.{43}", "form.shape"),
        ("stripe-key", "value", "pk_live_{24}", "form.shape"),
        ("stripe-key", "value", "sk_prod_{24}", "form.shape"),
        ("stripe-webhook-secret", "value", "{32}", "form.shape"),
        ("aws-access-key", "access_key_id", "AKIA{3}", "form.shape"),
        ("aws-access-key", "secret_access_key", "{39}", "form.shape"),
        ("twitch-app", "client_id", "{30}-", "form.shape"),
        ("vault-approle", "role_id", "backend", "form.shape"),
        ("session-secret", "value", "{12}", "form.weak"),
        ("postgres-login", "password", "hunter2hunter2hunter2hunter2hunter3", "form.weak"),
        ("generated", "value", "abcdefghijklmnopqrstuvwxyz0123456789", "form.weak"),
        ("redis-login", "password", "9876543210987654321098765432109876543210", "form.weak"),
        ("session-secret", "value", "Tr0ub4dor&3", "form.weak"),
        ("human-password", "value", "hunt3r the 2nd", "form.short"),
        ("session-secret", "value", "{40}\n", "form.edges"),
        ("guided", "value", " {40}", "form.edges"),
    ],
)
def test_a_wrong_form_is_found(kind, field, text, found):
    """Each kind's mistakes have their code, and no message quotes the value."""
    parts = text.replace("}", "{").split("{")
    value = "".join(
        random_text(int(part)) if part.isdigit() and index % 2 else part
        for index, part in enumerate(parts)
    )
    findings = check_form(kind, field, SecretValue.from_text(value))
    assert found in [finding.code for finding in findings]
    assert not any(value.strip() in finding.message for finding in findings)


@pytest.mark.parametrize(
    ("kind", "field", "text"),
    [
        ("openai-key", "value", "sk-proj-{48}"),
        ("sendgrid-key", "value", "SG.{22}.{43}"),
        ("stripe-key", "value", "sk_live_{24}"),
        ("stripe-key", "value", "rk_test_{99}"),
        ("stripe-webhook-secret", "value", "whsec_{32}"),
        ("aws-access-key", "secret_access_key", "{40}"),
        ("vault-approle", "role_id", "59d6d1ca-47bb-4e7e-a40b-8be3bc5a0ba8"),
        ("vault-approle", "secret_id", "84896a0c-1347-aa90-a4f6-aca8b7558780"),
        ("session-secret", "value", "{22}"),
        ("human-password", "value", "correct horse battery staple"),
        ("human-password", "value", "aardvarks eat ants"),
        ("guided", "value", "tiny7"),
        ("postgres-login", "username", "clipper_a"),
        ("redis-login", "username", "default_x"),
    ],
)
def test_a_right_form_is_left_alone(kind, field, text):
    """Real shapes, names and people's passwords give no finding."""
    parts = text.replace("}", "{").split("{")
    value = "".join(
        random_text(int(part)) if index % 2 else part for index, part in enumerate(parts)
    )
    assert [] == codes(kind, field, value)


@pytest.mark.parametrize(
    ("text", "policy", "found"),
    [
        ("not base64 at all!", None, "form.encoding"),
        (base64.b64encode(SeededEntropy().random_bytes(31)).decode(), None, "form.size"),
        (SeededEntropy().random_bytes(32).hex(), None, "form.size"),
        (base64.b64encode(b"0123456789abcdef" * 2).decode(), None, "form.weak"),
        (
            base64.b64encode(SeededEntropy().random_bytes(32)).decode(),
            Policy(Format.HEX),
            "form.encoding",
        ),
        (SeededEntropy().random_bytes(16).hex(), Policy(Format.HEX), "form.size"),
    ],
)
def test_an_encryption_key_of_another_size_is_found(text, policy, found):
    """32 bytes in base64, unless the manifest says otherwise."""
    assert found in codes("encryption-key", "value", text, policy)


@pytest.mark.parametrize(
    "kind", ["postgres-login", "session-secret", "encryption-key", "generated"]
)
@pytest.mark.parametrize("form", ["base64", "hex", "url", None])
def test_what_keyturn_makes_is_well_formed(kind, form):
    """Nothing that we generate is found wanting by us."""
    field = "password" if kind == "postgres-login" else "value"
    policy = policy_for(kind, Settings(form))
    for _ in range(20):
        made = generate_fields(kind, (field,), Settings(form), entropy=SystemEntropy())
        assert [] == codes(kind, field, made[field], policy)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(Format.HEX, size_bytes=14),
        Policy(Format.BASE64, size_bytes=14),
        Policy(Format.URL, size_bytes=14),
        Policy(Format.ALPHANUMERIC, length=19),
        Policy(Format.ASCII, length=18),
    ],
)
def test_a_value_at_the_floor_is_not_called_weak(policy):
    """The estimate does not cry wolf at what the policy proves to be enough."""
    entropy = SeededEntropy("floor")
    for _ in range(300):
        made = random_value(policy, entropy=entropy)
        assert [] == codes("generated", "value", made, policy)


@given(text=st.text(min_size=1), kind=st.sampled_from([str(kind) for kind in KINDS]))
@settings(max_examples=150, deadline=None)
def test_no_text_breaks_the_check(text, kind):
    """Whatever the value, findings come back, and none quotes it."""
    for field in ("value", "password", "private_key", "public_key"):
        for finding in check_form(kind, field, SecretValue.from_text(text)):
            assert len(text) < 8 or text not in finding.message


@pytest.mark.parametrize("wrap", [lambda value: value, in_base64])
def test_a_jwt_pair_is_well_formed(wrap):
    """As PEM and as one line of base64."""
    values = {"private_key": wrap(PAIR.private), "public_key": wrap(PAIR.public)}
    for field, value in values.items():
        assert [] == check_form("jwt-signing-key", field, value)
    assert [] == check_halves("jwt-signing-key", values)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("private_key", SecretValue(b"no key"), "cannot be read"),
        ("private_key", PAIR.public, "cannot be read"),
        ("public_key", PAIR.private, "cannot be read"),
        ("private_key", in_base64(in_base64(PAIR.private)), "cannot be read"),
        ("private_key", pem(ec.generate_private_key(ec.SECP256K1())), "ES256"),
        ("private_key", pem(ed448.Ed448PrivateKey.generate()), "EdDSA"),
        ("private_key", pem(rsa.generate_private_key(65537, 1024)), "has 1024 bits"),
    ],
    ids=["text", "public", "private", "twice", "ec", "ed448", "short"],
)
def test_a_wrong_jwt_key_is_found(field, value, says):
    """Unreadable, of another algorithm, or too short."""
    (finding,) = check_form("jwt-signing-key", field, value)
    assert says in finding.message
    assert Severity.BAD is finding.severity


def test_halves_that_do_not_match_are_found():
    """A pair of which one half was replaced signs what nobody accepts."""
    (finding,) = check_halves(
        "jwt-signing-key", {"private_key": PAIR.private, "public_key": in_base64(OTHER.public)}
    )
    assert "form.halves" == finding.code
    for values in (
        {},
        {"private_key": PAIR.private},
        {"private_key": PAIR.private, "public_key": SecretValue(b"x")},
    ):
        assert [] == check_halves("jwt-signing-key", values)
    assert [] == check_halves(
        "generated", {"private_key": PAIR.private, "public_key": OTHER.public}
    )


def test_an_ssh_pair_is_well_formed():
    """OpenSSH's own forms of both halves are known."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    values = {"private_key": SecretValue(private), "public_key": SecretValue(public + b" me@here")}
    assert [] == [f for name, value in values.items() for f in check_form("ssh-key", name, value)]
    assert [] == check_halves("ssh-key", values)


@pytest.mark.parametrize("pair", [PAIR, ec_pair(), ed25519_pair()], ids=["rsa", "ec", "ed25519"])
def test_a_whole_signing_key_is_well_formed(pair):
    """Of every algorithm, with its set and its name."""
    jwk = public_jwk(read_private(pair.private))
    values = {
        "private_key": pair.private,
        "public_key": pair.public,
        "jwks": write_set([jwk, public_jwk(read_private(OTHER.private))]),
        "kid": SecretValue.from_text(jwk["kid"]),
    }
    assert [] == [f for n, v in values.items() for f in check_form("jwt-signing-key", n, v)]
    assert [] == check_halves("jwt-signing-key", values)


ENTRY = public_jwk(read_private(PAIR.private))
STRANGER = public_jwk(read_private(OTHER.private))


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ([{**ENTRY, "d": "x"}], "form.private"),
        ([{"kty": "oct", "k": "x", "kid": "y"}], "form.private"),
        ([], "form.key"),
        ([{"kty": "RSA", "kid": "y"}], "form.key"),
        ([ENTRY, {**STRANGER, "kid": ENTRY["kid"]}], "form.duplicate"),
        ([{n: t for n, t in ENTRY.items() if n != "kid"}], "form.duplicate"),
    ],
)
def test_a_wrong_key_set_is_found(keys, found):
    """Private, empty, broken, or without names that tell its keys apart."""
    assert [found] == codes("jwt-signing-key", "jwks", write_set(keys))
    assert ["form.key"] == codes("jwt-signing-key", "jwks", "{}")


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"jwks": write_set([STRANGER])}, "jwks"),
        ({"kid": SecretValue(b"another")}, "kid"),
    ],
)
def test_a_set_that_is_of_another_key_is_found(changes, subject):
    """Tokens would be refused by everybody."""
    values = {
        "private_key": PAIR.private,
        "public_key": PAIR.public,
        "jwks": write_set([ENTRY]),
        "kid": SecretValue.from_text(ENTRY["kid"]),
    }
    assert [] == check_halves("jwt-signing-key", values)
    (finding,) = check_halves("jwt-signing-key", {**values, **changes})
    assert (subject, "form.halves") == (finding.subject, finding.code)
    assert [] == check_halves("jwt-signing-key", {**values, "jwks": SecretValue(b"{}")})


def key_text(seed):
    return base64.b64encode(SeededEntropy(seed).random_bytes(32)).decode()


@pytest.mark.parametrize(
    ("ring", "found"),
    [
        (f"a:{key_text('a')},b:{key_text('b')}", []),
        ("nonsense", ["form.key"]),
        (f"a:{key_text('a')},a:{key_text('b')}", ["form.key"]),
        (f"a:{key_text('a')},b:{key_text('a')}", ["form.duplicate"]),
        (f"a:{key_text('a')},b:AAAA", ["form.size"]),
        (f"a:{base64.b64encode(b'0123456789abcdef' * 2).decode()}", ["form.weak"]),
    ],
)
def test_a_ring_is_looked_at_key_by_key(ring, found):
    """Its form, its ids, and each key as `value` is."""
    assert found == codes("encryption-key", "ring", ring)


def test_a_ring_begins_with_the_key_that_encrypts():
    """Else rows are written that other processes do not expect."""
    values = {
        "value": SecretValue.from_text(key_text("a")),
        "ring": SecretValue.from_text(f"a:{key_text('a')},b:{key_text('b')}"),
    }
    assert [] == check_halves("encryption-key", values)
    wrong = {**values, "value": SecretValue.from_text(key_text("b"))}
    assert ["form.halves"] == [f.code for f in check_halves("encryption-key", wrong)]
    for ring in (SecretValue(b""), SecretValue(b"nonsense")):
        assert [] == check_halves("encryption-key", {**values, "ring": ring})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{40},{40}", []),
        ("{40},{6}", ["form.weak"]),
        ("{40},", ["form.missing"]),
        ("{40}, {41}", ["form.edges"]),
    ],
)
def test_a_list_of_session_secrets_is_looked_at_part_by_part(text, found):
    """A weak part is accepted by the application as well as a strong one."""
    parts = text.replace("}", "{").split("{")
    value = "".join(random_text(int(p)) if n % 2 else p for n, p in enumerate(parts))
    checked = check_form("session-secret", "value", SecretValue.from_text(value), strategy="list")
    assert found == [finding.code for finding in checked]


def test_a_session_secret_that_is_listed_twice_is_found():
    """Rotation would end nothing."""
    text = random_text(40)
    value = SecretValue.from_text(f"{text},{text}")
    (finding,) = check_form("session-secret", "value", value, strategy="list")
    assert "form.duplicate" == finding.code


def test_the_other_webhook_secret_may_be_empty_and_has_the_form_of_the_first():
    """Between two rotations there is none."""
    assert [] == check_form("stripe-webhook-secret", "alt", SecretValue(b""))
    assert ["form.missing"] == [f.code for f in check_form("stripe-webhook-secret", "alt", None)]
    assert [] == codes("stripe-webhook-secret", "alt", f"whsec_{random_text(32)}")
    assert "form.shape" in codes("stripe-webhook-secret", "alt", random_text(32))
