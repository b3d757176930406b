"""
The keys that an application can decrypt with, as one line; the first of them encrypts.

    ring = entry *("," entry)
    entry = id ":" key

An id is 1 to 64 letters, digits, `.`, `_` and `-`. The application writes it beside
what it encrypts, so that it knows which key to take. A key stands as it does in the
field `value`: base64, base64url or hexadecimal digits, none of which has `,` or `:`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.errors import VerificationFailed

__all__ = ["Entry", "key_id", "parse_ring", "raw_key", "require_usable", "write_ring"]

_ENTRY = re.compile(r"([A-Za-z0-9._-]{1,64}):([A-Za-z0-9+/_-]+={0,2})", re.ASCII)
_LABEL = b"keyturn ring id 1\0"
_ID_DIGITS = 8
_MOST_KEYS = 100
_CIPHER_BYTES = frozenset({16, 24, 32})
_KEY_BYTES = (16, 24, 32, 48, 64)
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a ring and the id that stands beside what it encrypted."""

    id: str
    key: SecretValue


def key_id(key: SecretValue) -> str:
    """Return the id of a key that nobody named: a few digits of its digest, always the same."""
    return "k" + hashlib.sha256(_LABEL + key.reveal()).hexdigest()[:_ID_DIGITS]


def parse_ring(value: SecretValue) -> list[Entry]:
    """
    Return the keys of a ring, the one that encrypts first.

    Raises:
        VerificationFailed: It is no ring, or names two keys alike.
    """
    try:
        parts = value.reveal_text().split(",")
    except ValueError:
        parts = [""]
    found = [_ENTRY.fullmatch(part) for part in parts[: _MOST_KEYS + 1]]
    entries = [Entry(one[1], SecretValue.from_text(one[2])) for one in found if one is not None]
    if len(entries) != len(found) or len(entries) > _MOST_KEYS:
        raise VerificationFailed(
            "is no ring of keys", hint="it looks like `ID:KEY,ID:KEY`, without blanks"
        )
    if len({entry.id for entry in entries}) != len(entries):
        raise VerificationFailed("names two keys alike", hint="give each key an id of its own")
    return entries


def write_ring(entries: Sequence[Entry]) -> SecretValue:
    """Return the ring of *entries*, the one that encrypts first."""
    return SecretValue(
        b",".join(entry.id.encode() + b":" + entry.key.reveal() for entry in entries)
    )


def raw_key(key: SecretValue) -> bytes | None:
    """Return the bytes that *key* is written for; None where it is in no known form."""
    text = key.reveal()
    # Sixty-four hexadecimal digits are base64 too, and are not meant so.
    if re.fullmatch(rb"(?:[0-9a-f]{2})+|(?:[0-9A-F]{2})+", text) and len(text) // 2 in _KEY_BYTES:
        return bytes.fromhex(text.decode("ascii"))
    try:
        padded = text.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(text) % 4)
        return base64.b64decode(padded, validate=True)
    except ValueError:
        return None


def require_usable(entry: Entry, *, entropy: Entropy) -> None:
    """
    Encrypt and decrypt a sample with AES-GCM, where the key's size is one of AES's.

    Raises:
        VerificationFailed: It is no key, or the sample did not come back.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    raw = raw_key(entry.key)
    if raw is None or len(raw) not in _KEY_BYTES:
        raise VerificationFailed(
            f"`{entry.id}` is no key of {', '.join(map(str, _KEY_BYTES))} bytes",
            hint="write it in base64 or in hexadecimal digits",
        )
    if len(raw) not in _CIPHER_BYTES:
        return
    sample, nonce = entropy.random_bytes(_NONCE_BYTES), entropy.random_bytes(_NONCE_BYTES)
    bound = entry.id.encode()
    try:
        # Two ciphers: the second knows nothing of the first but the key.
        same = AESGCM(raw).decrypt(nonce, AESGCM(raw).encrypt(nonce, sample, bound), bound)
    except InvalidTag:
        same = b""
    if same != sample:
        raise VerificationFailed(f"what `{entry.id}` encrypts it does not decrypt")
