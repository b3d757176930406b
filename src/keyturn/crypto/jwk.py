"""
JSON Web Keys and their sets (RFC 7517): public halves only, named by thumbprint (RFC 7638).

A set is one line of JSON:

    {"keys":[{"kty":"RSA","n":"...","e":"AQAB","kid":"...","use":"sig","alg":"RS256"}]}

Keys that others added to a set are carried over, but never what is private of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from keyturn.core.value import SecretValue
from keyturn.crypto.keypairs import KeyFacts
from keyturn.errors import VerificationFailed

__all__ = [
    "Jwk",
    "holds_private",
    "parse_set",
    "public_jwk",
    "same_key",
    "signing_algorithm",
    "thumbprint",
    "without_private",
    "write_set",
]

Jwk: TypeAlias = Mapping[str, str]

# What a thumbprint is made of, by type of key (RFC 7638, 3.2; RFC 8037, 2).
_REQUIRED = MappingProxyType(
    {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
)
_DESCRIPTIVE = ("kid", "use", "alg")
# Private members of every type, and the whole of a symmetric key (RFC 7518, 6).
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# OpenSSL's name of a curve, its name in a JWK, and what is signed with it.
_CURVES = MappingProxyType(
    {
        "secp256r1": ("P-256", "ES256"),
        "secp384r1": ("P-384", "ES384"),
        "secp521r1": ("P-521", "ES512"),
    }
)
_MOST_KEYS = 100


def signing_algorithm(facts: KeyFacts) -> str | None:
    """Return what tokens are signed with by such a key; None where they are not."""
    match facts.algorithm:
        case "rsa":
            return "RS256"
        case "ed25519":
            return "EdDSA"
        case "ec" if facts.curve in _CURVES:
            return _CURVES[facts.curve][1]
        case _:
            return None


def public_jwk(facts: KeyFacts, *, kid: str | None = None) -> Jwk:
    """
    Return the public half of a key as a JWK.

    Args:
        kid: Its name; None for its thumbprint.

    Raises:
        VerificationFailed: Tokens are not signed with such a key.
    """
    algorithm = signing_algorithm(facts)
    if algorithm is None:
        raise VerificationFailed(
            f"tokens are not signed with a key for `{facts.algorithm}`",
            hint="use one for RS256, ES256 or EdDSA",
        )
    members = _members(facts)
    name = thumbprint(members) if kid is None else kid
    return {**members, "kid": name, "use": "sig", "alg": algorithm}


def thumbprint(jwk: Jwk) -> str:
    """
    Return the SHA-256 thumbprint of *jwk*, in base64url.

    Raises:
        VerificationFailed: It is no public key of a known type.
    """
    names = _REQUIRED.get(jwk.get("kty", ""))
    if names is None or any(name not in jwk for name in names):
        raise VerificationFailed("a key of the set is of no known type, or is not whole")
    canonical = json.dumps({name: jwk[name] for name in names}, separators=(",", ":"))
    return _url(hashlib.sha256(canonical.encode()).digest())


def same_key(first: Jwk, second: Jwk) -> bool:
    """Tell whether two entries are one key, whatever they are called."""
    return thumbprint(first) == thumbprint(second)


def parse_set(value: SecretValue) -> list[Jwk]:
    """
    Return the keys of the set that *value* is, as they are written there.

    Raises:
        VerificationFailed: It is no set of keys.
    """
    try:
        found = json.loads(value.reveal())
    except ValueError:
        found = None
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise VerificationFailed(
            "is no JSON Web Key Set", hint='it looks like {"keys":[{"kty":"RSA",...}]}'
        )
    if len(keys) > _MOST_KEYS:
        raise VerificationFailed(f"holds more than {_MOST_KEYS} keys")
    return [{name: text for name, text in key.items() if isinstance(text, str)} for key in keys]


def holds_private(jwk: Jwk) -> bool:
    """Tell whether an entry shows what must not be published."""
    return not _PRIVATE.isdisjoint(jwk) or jwk.get("kty") == "oct"


def without_private(keys: Sequence[Jwk]) -> list[Jwk]:
    """Return the public halves of *keys*; what is of no known type is left out."""
    found: list[Jwk] = []
    for key in keys:
        names = _REQUIRED.get(key.get("kty", ""))
        if names is not None and all(name in key for name in names):
            found.append({name: key[name] for name in (*names, *_DESCRIPTIVE) if name in key})
    return found


def write_set(keys: Sequence[Jwk]) -> SecretValue:
    """Return the set of *keys* as one line of JSON."""
    return SecretValue.from_text(json.dumps({"keys": list(map(dict, keys))}, separators=(",", ":")))


def _members(facts: KeyFacts) -> dict[str, str]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(facts.public_der)
    match key:
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        case ec.EllipticCurvePublicKey():
            point, size = key.public_numbers(), (key.key_size + 7) // 8
            name = _CURVES[key.curve.name][0]
            return {
                "kty": "EC",
                "crv": name,
                "x": _number(point.x, size),
                "y": _number(point.y, size),
            }
        case ed25519.Ed25519PublicKey():
            return {"kty": "OKP", "crv": "Ed25519", "x": _url(key.public_bytes_raw())}
        case _:
            raise VerificationFailed("tokens are not signed with such a key")


def _number(number: int, size_bytes: int | None = None) -> str:
    return _url(number.to_bytes(size_bytes or (number.bit_length() + 7) // 8, "big"))


def _url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
