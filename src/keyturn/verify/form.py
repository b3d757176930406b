"""
Whether a value has the form that its kind demands, without asking anybody.

Four questions: is it there, is it more than a placeholder, is it well-formed, and
is it strong. Strength is an estimate from what can be seen (length, alphabet,
repetition), so it can prove a value weak and never prove it strong.
"""

from __future__ import annotations

import base64
import math
import re
import string
import zlib
from collections.abc import Callable, Mapping
from itertools import combinations, pairwise
from types import MappingProxyType

from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.value import SecretValue
from keyturn.crypto.jwk import (
    holds_private,
    parse_set,
    public_jwk,
    signing_algorithm,
    thumbprint,
)
from keyturn.crypto.keypairs import KeyFacts, read_private, read_public, unwrapped
from keyturn.crypto.ring import parse_ring
from keyturn.errors import VerificationFailed
from keyturn.generate import FLOOR_BITS, Format, Policy, entropy_bits
from keyturn.manifest import is_placeholder
from keyturn.verify.findings import Finding, Severity

__all__ = ["check_form", "check_halves"]

_ENCRYPTION_KEY_BYTES = 32
_HUMAN_MINIMUM = 15  # NIST SP 800-63B-4, 3.1.1.2: a password used alone
_RSA_MINIMUM_BITS = 2048

# (kind, field) whose value a machine drew, so that the floor applies.
_MACHINE_FIELDS = frozenset(
    {
        ("postgres-login", "password"),
        ("redis-login", "password"),
        ("session-secret", "value"),
        ("encryption-key", "value"),
        ("generated", "value"),
        ("stripe-webhook-secret", "value"),
        ("stripe-webhook-secret", "alt"),
        ("twitch-app", "client_secret"),
        ("vault-approle", "secret_id"),
        ("aws-access-key", "secret_access_key"),
        ("openai-key", "value"),
        ("sendgrid-key", "value"),
        ("stripe-key", "value"),
    }
)
# Of these the provider fixes the form: (shape, how it looks in words, severity).
# Where the provider promises no form, not to have it is a warning only.
_SHAPES: Mapping[tuple[str, str], tuple[re.Pattern[str], str, Severity]] = MappingProxyType(
    {
        ("openai-key", "value"): (
            re.compile(r"sk-[A-Za-z0-9_-]{20,}"),
            "`sk-` and at least 20 characters",
            Severity.BAD,
        ),
        ("sendgrid-key", "value"): (
            re.compile(r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
            "`SG.` and two parts",
            Severity.BAD,
        ),
        ("stripe-key", "value"): (
            re.compile(r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}"),
            "`sk_live_`, `sk_test_`, `rk_live_` or `rk_test_` and at least 16 characters",
            Severity.BAD,
        ),
        ("stripe-webhook-secret", "value"): (
            re.compile(r"whsec_[A-Za-z0-9+/=_-]{16,}"),
            "`whsec_` and at least 16 characters",
            Severity.BAD,
        ),
        ("stripe-webhook-secret", "alt"): (
            re.compile(r"whsec_[A-Za-z0-9+/=_-]{16,}"),
            "`whsec_` and at least 16 characters",
            Severity.BAD,
        ),
        ("aws-access-key", "access_key_id"): (
            re.compile(r"A(?:KIA|SIA)[A-Z0-9]{16}"),
            "`AKIA` or `ASIA` and 16 characters",
            Severity.BAD,
        ),
        ("aws-access-key", "secret_access_key"): (
            re.compile(r"[A-Za-z0-9/+=]{40}"),
            "40 characters",
            Severity.BAD,
        ),
        ("twitch-app", "client_id"): (
            re.compile(r"[a-z0-9]{30}"),
            "30 small letters and digits",
            Severity.WARNING,
        ),
        ("twitch-app", "client_secret"): (
            re.compile(r"[a-z0-9]{30}"),
            "30 small letters and digits",
            Severity.WARNING,
        ),
        ("vault-approle", "role_id"): (
            re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
            "a UUID, unless it was chosen by hand",
            Severity.WARNING,
        ),
    }
)
_BASE64_SYMBOLS = "+/-_="
_BASE64_ALPHABET = string.ascii_letters + string.digits + _BASE64_SYMBOLS
_KEY_PAIR_KINDS = frozenset({"jwt-signing-key", "ssh-key"})
_PRIVATE = FieldName("private_key")
_PUBLIC = FieldName("public_key")
_VALUE = FieldName("value")
_JWKS = FieldName("jwks")
_KID = FieldName("kid")
_RING = FieldName("ring")
# Empty between two rotations: there is no other value then.
_MAY_BE_EMPTY = frozenset({("stripe-webhook-secret", "alt")})


def check_form(
    kind: str,
    field: FieldName,
    value: SecretValue | None,
    policy: Policy | None = None,
    *,
    strategy: str | None = None,
) -> list[Finding]:
    """
    Return what is wrong with the form of *value*; empty where nothing is.

    Args:
        value: None where there is none.
        policy: What new values of this field are made by, where it is a random one.
        strategy: The secret's: of a session secret by `list` each part is looked at.
    """
    if not value:
        if value is not None and (kind, field) in _MAY_BE_EMPTY:
            return []
        return [_bad("missing", field, "has no value")]
    match kind, field:
        case "jwt-signing-key" | "ssh-key", "private_key" | "public_key":
            return _check_key(kind, field, value)
        case "jwt-signing-key", "jwks":
            return _check_set(field, value)
        case "encryption-key", "ring":
            return _check_ring(field, value, policy)
        case _:
            return _check_text(kind, field, value, policy, listed=strategy == "list")


def _check_text(
    kind: str, field: FieldName, value: SecretValue, policy: Policy | None, *, listed: bool
) -> list[Finding]:
    try:
        text = value.reveal_text()
    except ValueError:
        return [_bad("encoding", field, "is not UTF-8 text")]
    if is_placeholder(text):
        return [_bad("placeholder", field, "is a placeholder, not a value")]
    if kind == "session-secret" and listed:
        return _check_list(field, text, policy)
    findings = [*_check_edges(field, text), *_check_shape(kind, field, text.strip())]
    if kind == "encryption-key":
        findings += _check_encryption_key(field, text.strip(), policy)
    if kind == "human-password":
        findings += _check_human(field, text)
    elif (kind, str(field)) in _MACHINE_FIELDS or policy is not None:
        findings += _check_strength(field, text.strip(), policy)
    return findings


def check_halves(kind: str, values: Values) -> list[Finding]:
    """Return what is wrong between the fields of a secret that belong together."""
    if kind == "encryption-key":
        return _check_first_of_ring(values)
    if kind not in _KEY_PAIR_KINDS or not values.get(_PRIVATE) or not values.get(_PUBLIC):
        return []
    try:
        private = read_private(unwrapped(values[_PRIVATE]))
        public = read_public(unwrapped(values[_PUBLIC]))
    except VerificationFailed:
        # `check_form` says so, of the half that it is.
        return []
    if private.public_der != public.public_der:
        return [_bad("halves", _PUBLIC, "is not the other half of `private_key`")]
    return _check_published(private, values) if kind == "jwt-signing-key" else []


def _check_published(private: KeyFacts, values: Values) -> list[Finding]:
    if not values.get(_JWKS) or signing_algorithm(private) is None:
        return []
    key = public_jwk(private)
    try:
        found = [one for one in parse_set(values[_JWKS]) if thumbprint(one) == key["kid"]]
    except VerificationFailed:
        return []
    if not found:
        return [_bad("halves", _JWKS, "does not have the key of `private_key`")]
    if values.get(_KID) and values[_KID] != SecretValue.from_text(found[0].get("kid", "")):
        return [_bad("halves", _KID, "is not what `jwks` calls the key of `private_key`")]
    return []


def _check_first_of_ring(values: Values) -> list[Finding]:
    if not values.get(_RING) or not values.get(_VALUE):
        return []
    try:
        first = parse_ring(values[_RING])[0]
    except VerificationFailed:
        return []
    if first.key == values[_VALUE]:
        return []
    return [_bad("halves", _RING, "does not begin with the key of `value`, which encrypts")]


def _check_key(kind: str, field: FieldName, value: SecretValue) -> list[Finding]:
    read: Callable[[SecretValue], KeyFacts] = read_private if field == _PRIVATE else read_public
    try:
        facts = read(unwrapped(value))
    except VerificationFailed as error:
        return [_bad("key", field, error.message)]
    if kind == "jwt-signing-key" and signing_algorithm(facts) is None:
        words = f"is a key for `{facts.algorithm}`; RS256, ES256 and EdDSA need another"
        return [_bad("key", field, words)]
    if facts.algorithm == "rsa" and facts.size_bits < _RSA_MINIMUM_BITS:
        return [
            _bad(
                "weak", field, f"has {facts.size_bits} bits; RSA needs {_RSA_MINIMUM_BITS} or more"
            )
        ]
    return []


def _check_set(field: FieldName, value: SecretValue) -> list[Finding]:
    try:
        keys = parse_set(value)
        prints = [thumbprint(key) for key in keys if not holds_private(key)]
    except VerificationFailed as error:
        return [_bad("key", field, error.message)]
    if len(prints) != len(keys):
        return [_bad("private", field, "publishes a private key: rotate it")]
    if not keys:
        return [_bad("key", field, "has no key: every token is refused with it")]
    names = [key.get("kid") for key in keys]
    if None in names or len(set(names)) != len(names):
        return [_bad("duplicate", field, "has two keys of one name, or one without a name")]
    return []


def _check_ring(field: FieldName, value: SecretValue, policy: Policy | None) -> list[Finding]:
    try:
        entries = parse_ring(value)
    except VerificationFailed as error:
        return [_bad("key", field, error.message)]
    found: list[Finding] = []
    for entry in entries:
        found += _check_encryption_key(field, entry.key.reveal_text(), policy)
    if any(one.key == other.key for one, other in combinations(entries, 2)):
        found.append(_bad("duplicate", field, "has one key twice"))
    return found


def _check_list(field: FieldName, text: str, policy: Policy | None) -> list[Finding]:
    parts = text.split(",")
    found: list[Finding] = []
    for part in parts:
        if not part.strip():
            found.append(_bad("missing", field, "has an empty place in its list"))
            continue
        found += [*_check_edges(field, part), *_check_strength(field, part.strip(), policy)]
    if len(set(parts)) != len(parts):
        found.append(_bad("duplicate", field, "has one value twice in its list"))
    return found


def _check_edges(field: FieldName, text: str) -> list[Finding]:
    if text == text.strip():
        return []
    what = "ends in a newline" if text.endswith("\n") else "starts or ends with a blank"
    return [_warning("edges", field, f"{what}: was it pasted so by mistake?")]


def _check_shape(kind: str, field: FieldName, text: str) -> list[Finding]:
    known = _SHAPES.get((kind, str(field)))
    if known is None or known[0].fullmatch(text):
        return []
    _, words, severity = known
    return [Finding("form.shape", severity, field, f"does not look like {words}")]


def _check_encryption_key(field: FieldName, text: str, policy: Policy | None) -> list[Finding]:
    wanted = _ENCRYPTION_KEY_BYTES
    form = Format.BASE64
    if policy is not None and policy.size_bytes is not None:
        wanted, form = policy.size_bytes, policy.format
    raw = _decoded(text, form)
    if raw is None:
        return [_bad("encoding", field, f"is not written in `{form}`")]
    if len(raw) != wanted:
        return [_bad("size", field, f"has {len(raw)} bytes instead of {wanted}")]
    if _news_bits(raw) < min(FLOOR_BITS, 8 * wanted):
        return [_bad("weak", field, "repeats itself: it was not drawn at random")]
    return []


def _decoded(text: str, form: Format) -> bytes | None:
    try:
        match form:
            case Format.HEX:
                return bytes.fromhex(text)
            case Format.URL:
                padded = text + "=" * (-len(text) % 4)
                return base64.b64decode(padded, altchars=b"-_", validate=True)
            case _:
                return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def _check_human(field: FieldName, text: str) -> list[Finding]:
    if len(text) >= _HUMAN_MINIMUM:
        return []
    return [_warning("short", field, f"has fewer than {_HUMAN_MINIMUM} characters")]


def _check_strength(field: FieldName, text: str, policy: Policy | None) -> list[Finding]:
    bits = _estimated_bits(text, policy)
    if bits >= FLOOR_BITS:
        return []
    return [
        _bad("weak", field, f"has about {math.floor(bits)} bits at most; {FLOOR_BITS} is the floor")
    ]


def _estimated_bits(text: str, policy: Policy | None) -> float:
    """
    Return an upper bound, give or take, of what it takes to guess *text*.

    As if each character were drawn from the alphabet seen, or what is left when all
    that repeats itself is packed, whichever is less.
    """
    if policy is not None and _could_be_made_by(policy, text):
        drawn = entropy_bits(policy)
    else:
        drawn = len(text) * math.log2(_alphabet_size(text))
    return min(drawn, _news_bits(text.encode("utf-8")))


def _could_be_made_by(policy: Policy, text: str) -> bool:
    known = set(policy.alphabet) or set(_BASE64_ALPHABET)
    return len(text) == policy.characters and known.issuperset(text)


def _alphabet_size(text: str) -> int:
    if re.fullmatch(r"[0-9a-f-]+|[0-9A-F-]+", text):
        return 16 if re.search(r"[A-Fa-f]", text) else 10
    lower, upper, digit = (bool(re.search(form, text)) for form in ("[a-z]", "[A-Z]", "[0-9]"))
    # A short random text of letters of both cases may well have no digit.
    size = 62 if lower and upper else 26 * (lower or upper) + 10 * digit
    if not set(text) <= set(_BASE64_ALPHABET):
        size += 33  # all that stand on a keyboard
    elif any(symbol in text for symbol in _BASE64_SYMBOLS):
        size += 2
    return max(size, 2)


def _news_bits(raw: bytes) -> int:
    # The steps from one byte to the next pack `abcdef` and `9876`.
    steps = bytes((after - before) % 256 for before, after in pairwise(raw))
    return min(_packed_bits(raw), 8 + _packed_bits(steps))


def _packed_bits(raw: bytes) -> int:
    # Random text does not shrink; bare deflate adds up to two bytes of its own.
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(raw) + packer.flush()
    return 8 * max(len(packed) - 2, 0)


def _bad(code: str, field: FieldName, message: str) -> Finding:
    return Finding(f"form.{code}", Severity.BAD, field, message)


def _warning(code: str, field: FieldName, message: str) -> Finding:
    return Finding(f"form.{code}", Severity.WARNING, field, message)
