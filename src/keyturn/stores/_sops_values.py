"""
Single values as SOPS writes them; pure.

    ENC[AES256_GCM,data:BASE64,iv:BASE64,tag:BASE64,type:str]

The associated data is the keys on the way to the value, each followed by a colon;
positions in lists do not count. What is empty stands as it is.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.crypto.gcm import open_parts, seal_parts
from keyturn.errors import Corrupt

__all__ = ["COMMENT", "Unclear", "binding_of", "clear_bytes", "open_value", "seal_value"]

IV_BYTES: Final = 32

_BASE64 = r"[A-Za-z0-9+/]*={0,2}"
_SEALED = re.compile(
    rf"ENC\[AES256_GCM,data:({_BASE64}),iv:({_BASE64}),tag:({_BASE64}),type:([a-z0-9]+)\]"
)
# A comment of a `.env` or YAML file, sealed as the values are.
COMMENT: Final = re.compile(
    rf"#(ENC\[AES256_GCM,data:{_BASE64},iv:{_BASE64},tag:{_BASE64},type:comment\])"
)


class Unclear:
    """A value in clear whose exact bytes SOPS alone knows, such as a date of YAML."""


def binding_of(path: Sequence[str]) -> bytes:
    """Return the associated data of what lies at *path*."""
    return (":".join(path) + ":").encode("utf-8", "surrogateescape")


def seal_value(
    value: SecretValue, binding: bytes, key: SecretValue, *, entropy: Entropy, kind: str
) -> str:
    """Return *value* as the file holds it."""
    if not value:
        return ""
    nonce = entropy.random_bytes(IV_BYTES)
    ciphertext, tag = seal_parts(key, value, binding, nonce=nonce)
    parts = (b64encode(part).decode("ascii") for part in (ciphertext, nonce, tag))
    return "ENC[AES256_GCM,data:{},iv:{},tag:{},type:{}]".format(*parts, kind)


def open_value(
    text: str, binding: bytes, key: SecretValue, *, what: str
) -> tuple[SecretValue, str]:
    """
    Return the value that *text* holds, and its kind.

    Raises:
        Corrupt: It is not sealed, or was changed or moved.
    """
    if not text:
        return SecretValue(b""), "str"
    found = _SEALED.fullmatch(text)
    if found is None:
        raise Corrupt(
            f"{what} lies in clear, and should not",
            hint="`sops edit` writes values; take this one out by hand, and rotate it",
        )
    try:
        ciphertext, nonce, tag = (b64decode(part, validate=True) for part in found.groups()[:3])
    except ValueError:
        raise Corrupt(f"{what} is damaged") from None
    value = open_parts(key, ciphertext, tag, binding, nonce=nonce, what=what)
    return value, found[4]


def clear_bytes(value: str | float) -> bytes:
    """Return what SOPS counts for a value that lies in clear."""
    if isinstance(value, bool):
        return b"True" if value else b"False"
    if isinstance(value, float):
        return _plain_float(value).encode("ascii")
    # Half of a pair of surrogates, which JSON can spell, is not told from another.
    return str(value).encode("utf-8", "surrogateescape" if _is_bytes(value) else "replace")


def _is_bytes(value: object) -> bool:
    """Tell whether what is not UTF-8 in it are bytes that were read so."""
    return all(not "\ud800" <= c <= "\udfff" or "\udc80" <= c <= "\udcff" for c in str(value))


def _plain_float(value: float) -> str:
    """Return the shortest digits that mean *value*, without an exponent."""
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
