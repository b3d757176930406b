"""A service that signs tokens with one key, and one that verifies them with its public half."""

from __future__ import annotations

import base64
import hashlib

from joserfc import jwk, jws
from joserfc.errors import JoseError

from tests.worlds.base import Setup


class SingleKeyWorld:
    """Both are given the same version; the tokens of another are refused."""

    def __init__(self):
        key = jwk.ECKey.generate_key("P-256")
        first = {
            "private_key": base64.b64encode(key.as_pem(private=True)).decode(),
            "public_key": base64.b64encode(key.as_pem(private=False)).decode(),
        }
        self.setup = Setup(
            kind="jwt-signing-key",
            fields=tuple(first),
            target={"algorithm": "ES256"},
            first=first,
            overlaps=False,
        )
        self.take(first)

    def take(self, values):
        """Give the public half to who verifies."""
        self.verifying = base64.b64decode(values["public_key"])

    def use(self, values):
        """Sign a token with *values*, and have it verified."""
        key = jwk.ECKey.import_key(base64.b64decode(values["private_key"]))
        token = jws.serialize_compact({"alg": "ES256"}, b"{}", key)
        try:
            jws.deserialize_compact(
                token, jwk.ECKey.import_key(self.verifying), algorithms=["ES256"]
            )
        except JoseError:
            return False
        return True

    def credentials(self):
        return {hashlib.sha256(self.verifying).hexdigest()[:12]}

    def close(self):
        self.verifying = b""


def open_world():
    return SingleKeyWorld()
