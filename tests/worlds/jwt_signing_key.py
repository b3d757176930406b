"""A service of two processes that sign tokens and publish their keys, and who verifies them."""

from __future__ import annotations

import base64
import json
import threading
import time

from joserfc import jwk, jws
from joserfc.errors import JoseError

from tests.worlds.base import Setup
from tests.worlds.issued import Issued

ALGORITHMS = ["ES256", "RS256"]
CACHE = "1s"


def by_hand(key=None, kid=None):
    """Return a credential as a person makes one, with the tools of a JOSE library."""
    key = key or jwk.ECKey.generate_key("P-256")
    kid = kid or key.thumbprint()
    entry = {**key.as_dict(private=False), "kid": kid, "use": "sig"}
    return {
        "private_key": base64.b64encode(key.as_pem(private=True)).decode(),
        "public_key": base64.b64encode(key.as_pem(private=False)).decode(),
        "jwks": json.dumps({"keys": [entry]}),
        "kid": kid,
    }


def sign(values, payload=b"{}"):
    """Return a token, signed as an application does with what was delivered to it."""
    key = jwk.import_key(base64.b64decode(values["private_key"]), values_type(values))
    algorithm = "RS256" if isinstance(key, jwk.RSAKey) else "ES256"
    return jws.serialize_compact({"alg": algorithm, "kid": values["kid"]}, payload, key)


def values_type(values):
    entries = json.loads(values["jwks"])["keys"]
    return next(entry["kty"] for entry in entries if entry["kid"] == values["kid"])


class Verifier:
    """Keeps the published set for a while; a patient one asks again for a name it does not know."""

    def __init__(self, fetch, *, cache_seconds, asks_again):
        self.fetch = fetch
        self.cache_seconds = cache_seconds
        self.asks_again = asks_again
        self.refresh()

    def refresh(self):
        self.keys = jwk.KeySet.import_key_set(self.fetch())
        self.fetched = time.monotonic()

    def accepts(self, token):
        if time.monotonic() > self.fetched + self.cache_seconds:
            self.refresh()
        if self.verifies(token):
            return True
        if not self.asks_again:
            return False
        self.refresh()
        return self.verifies(token)

    def verifies(self, token):
        try:
            jws.deserialize_compact(token, self.keys, algorithms=ALGORITHMS)
        except JoseError:
            return False
        return True


class JwtWorld:
    """
    Two processes sign; the second one publishes, and is the last to be given a version.

    *token_seconds* is how long tokens live; those that were issued within it must be
    accepted whenever the world is used.
    """

    def __init__(self, *, asks_again=True, token_seconds=0.0, cache_seconds=1.0):
        first = by_hand()
        self.setup = Setup(
            kind="jwt-signing-key",
            fields=("private_key", "public_key", "jwks", "kid"),
            target={"algorithm": "ES256", "cache": CACHE, "token_lifetime": "2s"},
            first=first,
        )
        self.lock = threading.Lock()
        self.processes = [first, first]
        self.verifiers = [
            Verifier(self.published, cache_seconds=cache_seconds, asks_again=asks_again)
            for _ in range(3)
        ]
        self.issued = Issued(self.verifiers, seconds=token_seconds)

    def published(self):
        return json.loads(self.processes[1]["jwks"])

    def take(self, values):
        """Give *values* to one process after the other; tokens of both are accepted all the time."""
        with self.lock:
            for number in range(len(self.processes)):
                self.processes[number] = values
                for process in self.processes:
                    self.issued.add(sign(process))
            self.issued.look_back()

    def use(self, values):
        """Sign, and be accepted by who has the set in a cache and by who asks for it now."""
        with self.lock:
            token = sign(values)
            fresh = Verifier(self.published, cache_seconds=0, asks_again=False)
            return all(each.accepts(token) for each in [*self.verifiers, fresh])

    def credentials(self):
        with self.lock:
            return {entry["kid"] for entry in self.published()["keys"]}

    def supply(self):
        raise NotImplementedError

    def person_ends_old(self):
        raise NotImplementedError

    def close(self):
        self.issued.given.clear()


def open_world():
    return JwtWorld()
