"""
Signing a sample and verifying it as consumers of tokens do: by a published set of keys.

The sample is no token: it has no claims, so that nobody lets anybody in for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keyturn.core.value import SecretValue
from keyturn.crypto.jwk import Jwk, signing_algorithm
from keyturn.crypto.keypairs import read_private
from keyturn.errors import VerificationFailed

__all__ = ["is_accepted", "sign_sample"]

_SAMPLE = b"a sample, no token"
_ACCEPTED = ("RS256", "ES256", "ES384", "ES512", "EdDSA")


def sign_sample(private: SecretValue, kid: str) -> SecretValue:
    """
    Return a sample in compact form, signed with *private* (PEM) under the name *kid*.

    Raises:
        VerificationFailed: Tokens are not signed with such a key.
    """
    from joserfc import jws
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key

    facts = read_private(private)
    algorithm = signing_algorithm(facts)
    if algorithm is None:
        raise VerificationFailed(f"tokens are not signed with a key for `{facts.algorithm}`")
    kind = {"rsa": "RSA", "ec": "EC", "ed25519": "OKP"}[facts.algorithm]
    try:
        with _by_its_usual_name():
            key = import_key(private.reveal(), kind)  # type: ignore[call-overload]  # one of three
            signed = jws.serialize_compact(
                {"alg": algorithm, "kid": kid}, _SAMPLE, key, algorithms=[algorithm]
            )
    except (JoseError, ValueError):
        # Theirs may show what they were given.
        raise VerificationFailed("the private key signs nothing") from None
    return SecretValue.from_text(signed)


def is_accepted(sample: SecretValue, keys: Sequence[Jwk]) -> bool:
    """
    Tell whether a verifier that has *keys* accepts *sample*.

    Verifiers differ: one goes by the name of the key, another tries them all. It is
    accepted where any of them would do so.
    """
    texts = [dict(key) for key in keys]
    text = sample.reveal_text()
    by_name = _verifies(text, lambda jwk: jwk.KeySet.import_key_set({"keys": texts}))
    return by_name or any(
        _verifies(text, lambda jwk, one=one: jwk.import_key(one)) for one in texts
    )


def _verifies(text: str, read: Callable[..., Any]) -> bool:
    from joserfc import jwk, jws
    from joserfc.errors import JoseError

    try:
        with _by_its_usual_name():
            jws.deserialize_compact(text, read(jwk), algorithms=_ACCEPTED)
    except (JoseError, ValueError):
        # A key that this cannot read verifies nothing either.
        return False
    return True


@contextmanager
def _by_its_usual_name() -> Iterator[None]:
    from joserfc.errors import SecurityWarning

    with warnings.catch_warnings():
        # RFC 9864 renames `EdDSA` to `Ed25519`; hardly any verifier knows the new name.
        warnings.simplefilter("ignore", SecurityWarning)
        yield
