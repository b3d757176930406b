"""
Key pairs that sign JSON Web Tokens.

With a published set of keys (the secret has the field `jwks`) nothing is refused:

    phase 0   the set has old and new; the old key signs. Wait: verifiers cache the set
    phase 1   the new key signs; the set has both. Wait: tokens live so long
    phase 2   the set has the new key only

The new private key is in the version from phase 0 on, in a field that no manifest
declares: a crash at any point loses nothing. Every phase can go back to the one before
it, because no consumer meets a token whose key it has not been given before.

Without the set a consumer knows one key, and tokens of the old one end with it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

from keyturn.core.ids import FieldName, Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.crypto.jwk import Jwk, thumbprint
from keyturn.crypto.jws import is_accepted, sign_sample
from keyturn.crypto.keypairs import SIGNING_ALGORITHMS
from keyturn.errors import InternalError, Unavailable, UsageError, VerificationFailed
from keyturn.targets._base import OnePhase
from keyturn.targets._jwt_keys import (
    JWKS,
    NEXT,
    SigningKey,
    in_form_of,
    next_key,
    published,
    require_halves,
    signing_key,
    values_of,
    verifying_keys,
)
from keyturn.targets._target_table import duration_seconds, faulty, optional_text

__all__ = ["PublishedSet", "SingleKey", "build"]

_CACHE_SECONDS = 600
_LAST_PHASE = 2


class _SigningKind(OnePhase):
    """What both forms have in common: no system is told, so there is nothing to undo."""

    def __init__(self, *, make: Callable[[], Values], fields: Sequence[FieldName]) -> None:
        self._make = make
        self._fields = fields

    def apply(self, current: Values | None, pending: Values) -> None:
        """Do nothing: consumers are told by delivery."""

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Do nothing: nobody but the store has the new key."""

    def retire(self, current: Values, old: Values) -> None:
        """Do nothing: no consumer has the old key any more."""

    def check(self, current: Values | None, pending: Values) -> Evidence:  # noqa: ARG002 - the port's
        """
        Sign with every key that this version brings, and verify as consumers do.

        Raises:
            VerificationFailed: A half, a name or a signature is not right.
        """
        return _require_working(pending)

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """
        Sign with the old key and be refused by what is published now.

        Raises:
            VerificationFailed: It is accepted, or its name is still published.
            Unavailable: Nothing is known of what is published.
        """
        keys = [signing_key(old), *([next_key(old)] if NEXT in old else [])]
        return _require_refused(keys, current)

    def probe(self, values: Values) -> Evidence:
        """Check *values* as `check` does."""
        return _require_working(values)


class SingleKey(_SigningKind):
    """One key, which consumers know alone."""

    overlaps = False

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do."""
        lines = [("create", "a new key pair"), ("check", "sign with it, and verify")]
        if current is not None:
            ends = "each consumer refuses tokens of the old key from then on"
            lines.append(("deliver", f"{ends}; with a field `jwks` none would be refused"))
            lines.append(("prove", "a signature of the old key is refused with the new public key"))
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """Return a new pair, in the form that the present one has."""
        made = self._make()
        if current is None:
            return made
        new = signing_key(made)
        return values_of(new, [new.jwk], fields=self._fields, like=current)

    def rehearsal(self) -> RotationKind | None:
        """Return itself: a pair that is not delivered is a throw-away one."""
        return self


class PublishedSet(_SigningKind):
    """
    A key in a published set.

    Args:
        cache_seconds: How long verifiers keep the set.
        token_lifetime_seconds: How long a token is valid; None for the grace.
    """

    def __init__(
        self,
        *,
        make: Callable[[], Values],
        fields: Sequence[FieldName],
        cache_seconds: int,
        token_lifetime_seconds: int | None,
    ) -> None:
        super().__init__(make=make, fields=fields)
        self._cache_seconds = cache_seconds
        self._token_lifetime_seconds = token_lifetime_seconds

    def first_wait(self, grace_seconds: int) -> int:  # noqa: ARG002 - the port's
        """Return how long verifiers keep the set: then each has the new key."""
        return self._cache_seconds

    def later_waits(self, grace_seconds: int) -> Sequence[int]:
        """Return the life of a token, then nothing: the old key is gone from the set."""
        if self._token_lifetime_seconds is None:
            return (grace_seconds, 0)
        return (self._token_lifetime_seconds, 0)

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do."""
        lines = [("create", "a new key pair"), ("check", "sign with it, and verify with the set")]
        if current is not None:
            old = signing_key(current)
            lines = [
                ("create", f"a new key pair; the set has it beside `{old.kid}`, which signs"),
                ("check", "sign with both, and verify with the set"),
                ("advance", "the new key signs; the old one stays in the set"),
                ("advance", "the old key leaves the set"),
                ("prove", "a signature of the old key is refused with the set"),
            ]
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """
        Return the version whose set announces the new key, and which the old one signs.

        Raises:
            VerificationFailed: The present key cannot be read, or signs no tokens.
        """
        made = self._make()
        if current is None:
            return made
        old, new = signing_key(current), signing_key(made)
        values = values_of(old, published([old, new], current), fields=self._fields, like=current)
        return {**values, NEXT: in_form_of(new.pem, current.get(FieldName("private_key")))}

    def advance(self, current: Values, phase: int) -> Values:
        """
        Return the version in which the new key signs, or in which it is alone.

        Raises:
            VerificationFailed: *current* is of no such rotation.
        """
        if phase == 1:
            new = next_key(current)
            keys = published([new, signing_key(current)], current)
        elif phase == _LAST_PHASE:
            new = signing_key(current)
            keys = [new.jwk]
        else:
            raise InternalError(f"a signing key was asked for phase {phase}")
        return values_of(new, keys, fields=self._fields, like=current)

    def rehearsal(self) -> RotationKind | None:
        """Return the same steps; what is thrown away is the announced key."""
        return _Rehearsal(
            make=self._make,
            fields=self._fields,
            cache_seconds=self._cache_seconds,
            token_lifetime_seconds=self._token_lifetime_seconds,
        )


class _Rehearsal(PublishedSet):
    """Ends with the announced key, which nothing in use knows."""

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        key = next_key(old) if NEXT in old else signing_key(old)
        if current is None:
            return Evidence("not in use", "nothing is published yet")
        return _require_refused([key], current)


def build(context: KindContext) -> RotationKind:
    """
    Return the steps of a signing key.

    Raises:
        UsageError: The target says what is not known, or a package is missing.
    """
    algorithm = optional_text(context, "algorithm")
    if algorithm not in (None, *SIGNING_ALGORITHMS):
        raise faulty(
            context,
            f"has an algorithm that is none of {', '.join(SIGNING_ALGORITHMS)}",
            'write algorithm = "RS256"',
        )
    cache = duration_seconds(context, "cache", example="10m")
    lifetime = duration_seconds(context, "token_lifetime", example="1h")
    if importlib.util.find_spec("joserfc") is None:
        raise UsageError(
            "the package joserfc, which signs and verifies tokens, is not installed",
            hint="pip install joserfc",
            code="target.driver",
        )
    if JWKS not in context.fields:
        return SingleKey(make=context.make, fields=context.fields)
    return PublishedSet(
        make=context.make,
        fields=context.fields,
        cache_seconds=_CACHE_SECONDS if cache is None else cache,
        token_lifetime_seconds=lifetime,
    )


def _require_working(values: Values) -> Evidence:
    require_halves(values)
    verifying = verifying_keys(values)
    key = signing_key(values)
    keys = [key, next_key(values)] if NEXT in values else [key]
    for one in keys:
        if not is_accepted(sign_sample(one.pem, one.kid), verifying):
            raise VerificationFailed(
                f"what the key `{one.kid}` signs is refused with what is published",
                code="target.login-refused",
            )
    names = " and ".join(f"`{one.kid}`" for one in keys)
    return Evidence("signature accepted", f"of {names}")


def _require_refused(keys: Sequence[SigningKey], current: Values | None) -> Evidence:
    if current is None:
        raise Unavailable(
            "what is published now is not known, so that nothing is proven",
            code="target.unavailable",
        )
    verifying = verifying_keys(current)
    for key in keys:
        if _is_published(key, verifying):
            raise _still_works(f"the old key `{key.kid}` is still published")
        sample: SecretValue = sign_sample(key.pem, key.kid)
        if is_accepted(sample, verifying):
            raise _still_works(f"what the old key `{key.kid}` signs is still accepted")
    names = " and ".join(f"`{key.kid}`" for key in keys)
    return Evidence("signature refused", f"of {names}, which is published no more")


def _is_published(key: SigningKey, verifying: Sequence[Jwk]) -> bool:
    prints = {thumbprint(jwk) for jwk in verifying}
    return thumbprint(key.jwk) in prints or key.kid in {jwk.get("kid") for jwk in verifying}


def _still_works(message: str) -> VerificationFailed:
    return VerificationFailed(
        message,
        hint="see with `keyturn history` which version is in use",
        code="target.still-works",
    )
