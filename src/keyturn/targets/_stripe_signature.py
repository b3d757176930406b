"""The signatures of Stripe's calls to a webhook, as its documentation describes them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from keyturn.core.clock import Clock
from keyturn.core.value import SecretValue

__all__ = ["accepts", "signature_header"]

_TOLERANCE_SECONDS = 300


def signature_header(secret: SecretValue, payload: bytes, *, clock: Clock) -> str:
    """Return the header `Stripe-Signature` that Stripe would send *payload* with."""
    at = str(int(clock.now().timestamp()))
    return f"t={at},v1={_digest(secret, at, payload)}"


def accepts(secrets: Iterable[SecretValue], payload: bytes, header: str, *, clock: Clock) -> bool:
    """Tell whether an application that knows *secrets* accepts *payload* with *header*."""
    parts = [part.partition("=") for part in header.split(",")]
    at = next((text for name, _, text in parts if name == "t"), "")
    if not at.isdigit() or abs(clock.now().timestamp() - int(at)) > _TOLERANCE_SECONDS:
        return False
    signed = [text for name, _, text in parts if name == "v1"]
    return any(
        hmac.compare_digest(_digest(secret, at, payload), text)
        for secret in secrets
        for text in signed
    )


def _digest(secret: SecretValue, at: str, payload: bytes) -> str:
    # The whole text of the secret is the key, `whsec_` and all.
    return hmac.new(secret.reveal(), at.encode() + b"." + payload, hashlib.sha256).hexdigest()
