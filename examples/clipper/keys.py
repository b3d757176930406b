"""
What the backend signs, verifies and encrypts with, as Keyturn delivers it.

While a key is changed there are two, and each of the three forms says so in its own way:

    tokens     JWT_JWKS has the public keys that are accepted; JWT_KEY_ID says which signs
    sessions   SESSION_SECRET is a list with commas; the first signs, all are accepted
    seeds      MFA_ENCRYPTION_KEYS is a list of ID:KEY; the first encrypts, and the id
               stands beside what it encrypted

A program that takes all of what is delivered, and not only the first, refuses nobody
while a key is changed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Refused", "Seeds", "Sessions", "Tokens"]

_NONCE_BYTES = 12
_TOKEN_SECONDS = 15 * 60


class Refused(Exception):
    """What a caller showed was not made by us, or too long ago; the text says which."""


class Tokens:
    """Access tokens: JWT, signed with RS256."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._issuer = settings.get("JWT_ISSUER") or "clipper"
        pem = base64.b64decode(settings["JWT_PRIVATE_KEY_B64"])
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError("JWT_PRIVATE_KEY_B64 is no RSA key")
        self._key = key
        self._key_id = settings.get("JWT_KEY_ID") or "only"
        # An application that is not given the set yet knows one key: its own.
        self._accepted = _public_keys(settings.get("JWT_JWKS") or "") or {
            self._key_id: key.public_key()
        }

    def issue(self, user: str) -> str:
        """Return a token of *user*."""
        head = {"alg": "RS256", "typ": "JWT", "kid": self._key_id}
        body = {"iss": self._issuer, "sub": user, "exp": _now() + _TOKEN_SECONDS}
        signed = f"{_encode(json.dumps(head).encode())}.{_encode(json.dumps(body).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encode(signature)}"

    def user_of(self, token: str) -> str:
        """Return whose *token* it is, or raise `Refused`."""
        signed, _, signature = token.rpartition(".")
        try:
            head, body = (json.loads(_decode(part)) for part in signed.split("."))
            if head["alg"] != "RS256":
                raise Refused("the token is signed in another way")
            self._accepted[head["kid"]].verify(
                _decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
            user, issuer, expires = body["sub"], body["iss"], body["exp"]
        except (ValueError, TypeError, KeyError, InvalidSignature):
            raise Refused("the token was not signed by a key that is accepted") from None
        if issuer != self._issuer or expires < _now():
            raise Refused("the token has expired")
        return str(user)


class Sessions:
    """Session cookies: the user's number and a signature of it."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._secrets = [text.encode() for text in settings["SESSION_SECRET"].split(",")]

    def issue(self, user: str) -> str:
        """Return a cookie of *user*."""
        return f"{user}.{_signature(self._secrets[0], user)}"

    def user_of(self, cookie: str) -> str:
        """Return whose *cookie* it is, or raise `Refused`."""
        user, _, signature = cookie.partition(".")
        for secret in self._secrets:
            if hmac.compare_digest(_signature(secret, user).encode(), signature.encode()):
                return user
        raise Refused("the session was not signed by a secret that is accepted")


class Seeds:
    """Encrypts the seeds of second factors; the user's number is bound to what is encrypted."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        entries = (entry.partition(":") for entry in settings["MFA_ENCRYPTION_KEYS"].split(","))
        self._keys = {name: AESGCM(base64.b64decode(key)) for name, _, key in entries}

    def seal(self, user: int, seed: bytes) -> tuple[str, bytes, bytes]:
        """Return the id of the key that was used, a nonce, and *seed* encrypted."""
        key_id, key = next(iter(self._keys.items()))
        nonce = os.urandom(_NONCE_BYTES)
        return key_id, nonce, key.encrypt(nonce, seed, str(user).encode())

    def open(self, user: int, key_id: str, nonce: bytes, sealed: bytes) -> bytes:
        """Return the seed, or raise `Refused` where no key of ours encrypted it."""
        try:
            return self._keys[key_id].decrypt(nonce, sealed, str(user).encode())
        except (KeyError, InvalidTag):
            raise Refused("the seed cannot be read with the keys that are here") from None


def _public_keys(jwks: str) -> dict[str, rsa.RSAPublicKey]:
    entries = json.loads(jwks)["keys"] if jwks else []
    return {
        entry["kid"]: rsa.RSAPublicNumbers(_number(entry["e"]), _number(entry["n"])).public_key()
        for entry in entries
        if entry["kty"] == "RSA"
    }


def _signature(secret: bytes, user: str) -> str:
    return hmac.new(secret, user.encode(), hashlib.sha256).hexdigest()


def _now() -> int:
    return int(time.time())  # noqa: TID251 - a program of its own


def _number(text: str) -> int:
    return int.from_bytes(_decode(text), "big")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
