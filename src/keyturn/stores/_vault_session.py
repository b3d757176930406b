"""A token at work: found or made by a login, renewed in time, replaced once where it died."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

from keyturn._internal.http import Reply
from keyturn.core.clock import Clock
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Rejected
from keyturn.stores._vault_api import Cluster
from keyturn.stores._vault_login import (
    LOGIN_REFUSED,
    Granted,
    Surroundings,
    log_in,
    token_at_hand,
)
from keyturn.stores._vault_settings import AuthMethod, VaultAuth

__all__ = ["Session"]

_FORBIDDEN = 403
# A command that only reads is over by then; it need not ask how long its token lives.
_SHORT_USE_SECONDS = 60.0


class Session:
    """
    Sends requests with a token.

    It may be used by several threads at once: they share the token.
    """

    def __init__(
        self, auth: VaultAuth, cluster: Cluster, *, clock: Clock, around: Surroundings
    ) -> None:
        self._auth = auth
        self._cluster = cluster
        self._clock = clock
        self._around = around
        self._lock = threading.RLock()
        self._granted: Granted | None = None
        self._source = "a login"
        self._since = 0.0
        self._asked = False

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        changing: bool = False,
    ) -> Reply:
        """
        Send one request with the token; where the token died meanwhile, with a new one.

        Returns:
            Any answer; 403 means that a token which is alive may not do this.

        Raises:
            Rejected: The login was refused, code `store.login-refused`.
            KeyturnError: As `Cluster.send`.
        """
        token = self._token(changing=changing)
        reply = self._cluster.send(method, path, token=token, body=body, changing=changing)
        if reply.status != _FORBIDDEN or self._is_alive(token):
            return reply
        # A refused request was not carried out, so it is safe to send it again.
        token = self._replaced(token)
        return self._cluster.send(method, path, token=token, body=body, changing=changing)

    def close(self) -> None:
        """End a token that a login made; one that cannot be ended ends by its TTL."""
        with self._lock:
            granted, self._granted = self._granted, None
        if granted is not None and granted.minted:
            with contextlib.suppress(KeyturnError):
                path = "auth/token/revoke-self"
                self._cluster.send("POST", path, token=granted.token, patient=False)

    def _token(self, *, changing: bool) -> SecretValue:
        with self._lock:
            granted = self._granted or self._begin()
            if not granted.minted and not self._asked and (changing or self._used_long()):
                granted = self._told(granted)
            if granted.ttl_seconds > 0 and self._left(granted) < granted.ttl_seconds / 3:
                granted = self._renewed(granted)
            return granted.token

    def _begin(self) -> Granted:
        if self._auth.method is AuthMethod.TOKEN:
            token, self._source = token_at_hand(self._auth, self._around)
            # How long it lives is asked for where that matters.
            return self._hold(Granted(token, 0.0, renewable=False, minted=False))
        return self._hold(log_in(self._auth, self._cluster, self._around))

    def _hold(self, granted: Granted) -> Granted:
        self._granted = granted
        self._since = self._clock.monotonic()
        return granted

    def _left(self, granted: Granted) -> float:
        return granted.ttl_seconds - (self._clock.monotonic() - self._since)

    def _used_long(self) -> bool:
        return self._clock.monotonic() - self._since > _SHORT_USE_SECONDS

    def _told(self, granted: Granted) -> Granted:
        """Return *granted* with how long it lives, as the server says."""
        self._asked = True
        reply = self._cluster.send("GET", "auth/token/lookup-self", token=granted.token)
        ttl = reply.at("data", "ttl")
        if not reply.succeeded or not isinstance(ttl, int):
            return granted
        renewable = reply.at("data", "renewable") is True
        first = reply.at("data", "creation_ttl")
        held = self._hold(Granted(granted.token, float(ttl), renewable, minted=False))
        if isinstance(first, int) and renewable and 0 < ttl < first / 3:
            return self._renewed(held)
        return held

    def _renewed(self, granted: Granted) -> Granted:
        """Return *granted* with a longer life, or the token of a new login."""
        if granted.renewable:
            reply = self._cluster.send("POST", "auth/token/renew-self", token=granted.token)
            lease = reply.at("auth", "lease_duration")
            if reply.succeeded and isinstance(lease, int) and lease > self._left(granted):
                longer = Granted(
                    granted.token,
                    float(lease),
                    reply.at("auth", "renewable") is True,
                    minted=granted.minted,
                )
                # At the end of what its maximum allows, little is given: then a new one.
                if not granted.minted or lease >= granted.ttl_seconds / 3:
                    return self._hold(longer)
        # A person is not asked again while the old token still works.
        if not granted.minted or (
            self._auth.method is AuthMethod.USERPASS and self._left(granted) > 0
        ):
            # It is not asked for more again.
            left = max(1.0, self._left(granted))
            return self._hold(Granted(granted.token, left, renewable=False, minted=granted.minted))
        self.close()
        return self._begin()

    def _is_alive(self, token: SecretValue) -> bool:
        reply = self._cluster.send("GET", "auth/token/lookup-self", token=token)
        return reply.succeeded

    def _replaced(self, dead: SecretValue) -> SecretValue:
        """
        Return another token than *dead*.

        Raises:
            Rejected: There is none.
        """
        with self._lock:
            if self._granted is not None and self._granted.token != dead:
                # Another thread was faster.
                return self._granted.token
            self._granted, self._asked = None, False
            granted = self._begin()
            if granted.token != dead:
                return granted.token
            self._granted = None
        raise Rejected(
            f"Vault does not accept the token from {self._source}: it expired or was revoked",
            hint="log in again (`bao login` or `vault login`), or give a new token there; one"
            " without the policy `default` looks the same",
            code=LOGIN_REFUSED,
        )
