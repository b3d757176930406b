"""The keys that a version of a `jwt-signing-key` holds: reading them, and writing new versions."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.value import SecretValue
from keyturn.crypto.jwk import (
    Jwk,
    parse_set,
    public_jwk,
    same_key,
    thumbprint,
    without_private,
    write_set,
)
from keyturn.crypto.keypairs import KeyFacts, public_pem, read_private, read_public, unwrapped
from keyturn.errors import VerificationFailed

__all__ = [
    "JWKS",
    "NEXT",
    "SigningKey",
    "in_form_of",
    "next_key",
    "published",
    "require_halves",
    "signing_key",
    "values_of",
    "verifying_keys",
]

PRIVATE = FieldName("private_key")
PUBLIC = FieldName("public_key")
JWKS = FieldName("jwks")
KID = FieldName("kid")
# The key that will sign, in a version whose set only announces it. It is in no
# manifest, so that no consumer is given it.
NEXT = FieldName("next_private_key")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """
    A private key.

    Args:
        pem: The key, whatever form the version has it in.
        jwk: Its public half, under the name that its tokens carry.
    """

    pem: SecretValue
    facts: KeyFacts
    jwk: Jwk

    @property
    def kid(self) -> str:
        """The name that its tokens carry."""
        return self.jwk["kid"]


def signing_key(values: Values) -> SigningKey:
    """
    Return the key that signs, under the name that its version or its set gives it.

    Raises:
        VerificationFailed: There is none, or tokens are not signed with it.
    """
    pem = _pem(values, PRIVATE)
    facts = read_private(pem)
    plain = public_jwk(facts)
    if values.get(KID):
        return SigningKey(pem, facts, {**plain, "kid": values[KID].reveal_text()})
    # A person may have named it, in the set alone.
    named = [key for key in _set_of(values) if "kid" in key and same_key(key, plain)]
    return SigningKey(pem, facts, {**plain, "kid": named[0]["kid"]} if named else plain)


def next_key(values: Values) -> SigningKey:
    """
    Return the key that is announced and does not sign yet.

    Raises:
        VerificationFailed: There is none: this version is of no rotation.
    """
    if not values.get(NEXT):
        raise VerificationFailed(
            "the version in use announces no next key",
            hint="roll the rotation back with `keyturn rollback`, and begin again",
        )
    pem = _pem(values, NEXT)
    facts = read_private(pem)
    return SigningKey(pem, facts, public_jwk(facts))


def verifying_keys(values: Values) -> list[Jwk]:
    """Return what tokens are verified with: the set, or the one public key."""
    if values.get(JWKS):
        return _set_of(values)
    return [public_jwk(read_public(_pem(values, PUBLIC)), kid=signing_key(values).kid)]


def published(first: Sequence[SigningKey], values: Values) -> list[Jwk]:
    """Return a set with *first*, then every other key that the set of *values* has."""
    ours = [key.jwk for key in first]
    prints = {thumbprint(jwk) for jwk in ours}
    return ours + [key for key in _set_of(values) if thumbprint(key) not in prints]


def values_of(
    key: SigningKey,
    keys: Sequence[Jwk],
    *,
    fields: Collection[FieldName],
    like: Values,
) -> dict[FieldName, SecretValue]:
    """
    Return the version that signs with *key* and publishes *keys*.

    Args:
        fields: Those that the manifest declares.
        like: Its keys are in PEM or in one line of base64, and so will these be.
    """
    made = {
        PRIVATE: in_form_of(key.pem, like.get(PRIVATE)),
        PUBLIC: in_form_of(public_pem(key.facts), like.get(PUBLIC, like.get(PRIVATE))),
        JWKS: write_set(keys),
        KID: SecretValue.from_text(key.kid),
    }
    return {name: value for name, value in made.items() if name in fields}


def in_form_of(pem: SecretValue, like: SecretValue | None) -> SecretValue:
    """Return *pem* as it is where *like* is PEM, else as one line of base64."""
    if like is not None and b"-----BEGIN" in like.reveal():
        return pem
    return SecretValue(base64.b64encode(pem.reveal()))


def require_halves(values: Values) -> None:
    """
    Return where the parts of a version belong together.

    Raises:
        VerificationFailed: The public key or the set is of another key, or the set
            has the key under another name.
    """
    key = signing_key(values)
    if PUBLIC in values:
        public = read_public(_pem(values, PUBLIC))
        if public.public_der != key.facts.public_der:
            raise VerificationFailed("`public_key` is not the other half of `private_key`")
    if values.get(JWKS):
        named = [one for one in _set_of(values) if one.get("kid") == key.kid]
        if len(named) != 1 or not same_key(named[0], key.jwk):
            raise VerificationFailed("`jwks` does not have the signing key under its `kid`")


def _set_of(values: Values) -> list[Jwk]:
    if not values.get(JWKS):
        return []
    try:
        return without_private(parse_set(values[JWKS]))
    except VerificationFailed as error:
        raise VerificationFailed(f"`jwks` {error.message}", hint=error.hint) from None


def _pem(values: Values, field: FieldName) -> SecretValue:
    if not values.get(field):
        raise VerificationFailed(f"`{field}` has no value")
    return unwrapped(values[field])
