"""
Who makes the value of which kind: one function for each kind that Keyturn can make itself.

The other kinds are made by a vendor, by another system or by a person, and come
in through `keyturn set`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from keyturn.core.entropy import Entropy
from keyturn.core.ids import FieldName
from keyturn.core.value import SecretValue
from keyturn.errors import UsageError
from keyturn.generate.policy import Format, Policy, require_floor
from keyturn.generate.values import random_value

if TYPE_CHECKING:
    from keyturn.crypto.keypairs import KeyPair

__all__ = ["GENERATED_KINDS", "Settings", "generate_fields", "policy_for"]

_RSA_BITS = (2048, 3072, 4096)
_DEFAULT_RSA_BITS = 3072
_NONE_GIVEN: Mapping[FieldName, SecretValue] = MappingProxyType({})
_KEY_BYTES = (16, 24, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What the manifest's `generate` says; None leaves it to the kind.

    Args:
        format: One of `Format`, or for a key pair `pem` or `pem-base64`.
        length: In characters, for `alphanumeric` and `ascii`.
        size_bytes: For `base64`, `hex` and `url`.
        key_bits: The modulus of an RSA key pair.
        algorithm: What a key pair signs with; `RS256` where nothing is said.
    """

    format: str | None = None
    length: int | None = None
    size_bytes: int | None = None
    key_bits: int | None = None
    algorithm: str | None = None


@dataclass(frozen=True, slots=True)
class _Order:
    kind: str
    fields: tuple[FieldName, ...]
    settings: Settings
    given: Mapping[FieldName, SecretValue]
    secret: str
    entropy: Entropy


_Maker = Callable[[_Order], dict[FieldName, SecretValue]]

_DEFAULT_POLICIES = {
    "postgres-login": Format.ALPHANUMERIC,
    "redis-login": Format.ALPHANUMERIC,
    "session-secret": Format.BASE64,
    "encryption-key": Format.BASE64,
    "generated": Format.BASE64,
}

# Where the value of a kind that Keyturn cannot make comes from.
_SUPPLIERS = {
    "openai-key": "OpenAI's dashboard",
    "sendgrid-key": "SendGrid's dashboard",
    "stripe-key": "Stripe's dashboard",
    "stripe-webhook-secret": "Stripe's dashboard",
    "twitch-app": "the Twitch developer console",
    "vault-approle": "Vault",
    "aws-access-key": "AWS",
    "guided": "its provider",
    "command": "its own command",
    "external": "its plug-in",
    "ssh-key": "`ssh-keygen`",
    "human-password": "the person who uses it",
}

_PEM = "pem"
_PEM_FORMATS = frozenset({_PEM, "pem-base64"})

_VALUE = FieldName("value")
_RING = FieldName("ring")
_USERNAME = FieldName("username")
_PRIVATE = FieldName("private_key")
_PUBLIC = FieldName("public_key")
_JWKS = FieldName("jwks")
_KID = FieldName("kid")


def generate_fields(
    kind: str,
    fields: tuple[FieldName, ...],
    settings: Settings,
    *,
    entropy: Entropy,
    given: Mapping[FieldName, SecretValue] = _NONE_GIVEN,
    name: str = "NAME",
) -> dict[FieldName, SecretValue]:
    """
    Return a new value for each of *fields* of a secret of *kind*.

    Args:
        given: Fields taken as they are, such as a user name, which is not drawn by lot.
        name: The secret's name, for the hint of an error.

    Raises:
        UsageError: A vendor or a person supplies this kind, or *settings* ask for
            what is too weak or cannot be.
    """
    maker = _MAKERS.get(kind)
    if maker is None:
        raise _supplied_elsewhere(kind, name)
    return maker(_Order(kind, fields, settings, given, name, entropy))


def policy_for(kind: str, settings: Settings) -> Policy | None:
    """
    Return the policy for the random field of *kind*; None where it has none.

    Raises:
        UsageError: *settings* ask for what is too weak or cannot be.
    """
    default = _DEFAULT_POLICIES.get(kind)
    if default is None:
        return None
    if settings.key_bits is not None:
        raise _refused(f"`{kind}` is no RSA key pair", "leave out `bits`")
    form = _format(settings.format, default)
    policy = Policy(form, size_bytes=settings.size_bytes, length=settings.length)
    if kind == "encryption-key" and policy.size_bytes not in _KEY_BYTES:
        raise _refused(
            "an encryption key is a whole number of bytes of a size that ciphers take",
            "use `base64`, `hex` or `url` with `bytes = 32`",
        )
    require_floor(policy)
    return policy


def _format(text: str | None, default: Format) -> Format:
    if text is None:
        return default
    try:
        return Format(text)
    except ValueError:
        known = ", ".join(f"`{form}`" for form in Format)
        raise _refused("the format is not known", f"use one of {known}") from None


def _random_fields(order: _Order) -> dict[FieldName, SecretValue]:
    policy = policy_for(order.kind, order.settings) or Policy(Format.BASE64)
    return {
        name: order.given[name]
        if name in order.given
        else random_value(policy, entropy=order.entropy)
        for name in order.fields
    }


def _single_value(order: _Order) -> dict[FieldName, SecretValue]:
    _expect(order, {_VALUE})
    return _random_fields(order)


def _login(order: _Order) -> dict[FieldName, SecretValue]:
    _expect(order, {_USERNAME, FieldName("password")})
    if _USERNAME in order.fields and _USERNAME not in order.given:
        raise UsageError(
            f"the username of `{order.secret}` is not known, and is not drawn by lot",
            hint=f"name the login in the manifest, or run `keyturn set {order.secret}`",
            code="generate.supplied",
        )
    return _random_fields(order)


def _encryption_key(order: _Order) -> dict[FieldName, SecretValue]:
    from keyturn.crypto.ring import Entry, key_id, write_ring

    _expect(order, {_VALUE, _RING})
    made = _random_fields(replace(order, fields=(_VALUE,)))
    if _RING in order.fields:
        made[_RING] = write_ring([Entry(key_id(made[_VALUE]), made[_VALUE])])
    return {name: made[name] for name in order.fields}


def _jwt_signing_key(order: _Order) -> dict[FieldName, SecretValue]:
    from keyturn.crypto.jwk import public_jwk, write_set
    from keyturn.crypto.keypairs import read_public

    _expect(order, {_PRIVATE, _PUBLIC, _JWKS, _KID}, needed={_PRIVATE, _PUBLIC})
    if order.given:
        raise _refused(
            "the fields of a signing key are made together", "leave out `identity`: it names a key"
        )
    pair = _signing_pair(order)
    jwk = public_jwk(read_public(pair.public))
    # One line, so that every environment file can carry it.
    written = pair if order.settings.format == _PEM else _one_lines(pair)
    made = {
        _PRIVATE: written.private,
        _PUBLIC: written.public,
        _JWKS: write_set([jwk]),
        _KID: SecretValue.from_text(jwk["kid"]),
    }
    return {name: made[name] for name in order.fields}


def _signing_pair(order: _Order) -> KeyPair:
    from keyturn.crypto.keypairs import SIGNING_ALGORITHMS, ec_pair, ed25519_pair, rsa_pair

    settings = order.settings
    if settings.format not in {None, *_PEM_FORMATS} or settings.length or settings.size_bytes:
        raise _refused(
            f"`{order.kind}` is a key pair", "use the format `pem` or `pem-base64`, and `bits`"
        )
    match settings.algorithm:
        case "ES256":
            return ec_pair()
        case "EdDSA":
            return ed25519_pair()
        case None | "RS256":
            bits = settings.key_bits or _DEFAULT_RSA_BITS
            if bits not in _RSA_BITS:
                raise _refused(
                    f"an RSA key of {bits} bits is not made here", "ask for 2048, 3072 or 4096 bits"
                )
            return rsa_pair(bits)
        case _:
            known = ", ".join(f"`{name}`" for name in SIGNING_ALGORITHMS)
            raise _refused("the algorithm is not known", f"use one of {known}")


def _one_lines(pair: KeyPair) -> KeyPair:
    return replace(pair, private=_one_line(pair.private), public=_one_line(pair.public))


def _one_line(pem: SecretValue) -> SecretValue:
    return SecretValue(base64.b64encode(pem.reveal()))


def _expect(
    order: _Order, known: set[FieldName], *, needed: Collection[FieldName] = (_VALUE,)
) -> None:
    unknown = [name for name in order.fields if name not in known]
    lacking = [name for name in needed if name in known and name not in order.fields]
    if unknown or lacking or not order.fields:
        wanted = ", ".join(f"`{name}`" for name in sorted(known))
        raise _refused(f"`{order.kind}` has other fields", f"its fields are {wanted}")


def _refused(message: str, hint: str) -> UsageError:
    return UsageError(message, hint=hint, code="generate.policy")


def _supplied_elsewhere(kind: str, secret: str) -> UsageError:
    supplier = _SUPPLIERS.get(kind)
    if supplier is None:
        return _refused(f"the kind `{kind}` is not known", "see `keyturn help kinds`")
    return UsageError(
        f"`{secret}` is of the kind `{kind}`: its value comes from {supplier}",
        hint=f"supply it with `keyturn set {secret}`",
        code="generate.supplied",
    )


_MAKERS: dict[str, _Maker] = {
    "postgres-login": _login,
    "redis-login": _login,
    "session-secret": _single_value,
    "encryption-key": _encryption_key,
    "generated": _random_fields,
    "jwt-signing-key": _jwt_signing_key,
}

# The kinds that `generate_fields` makes.
GENERATED_KINDS = frozenset(_MAKERS)
