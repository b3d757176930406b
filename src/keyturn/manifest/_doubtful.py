"""
Names that may stand for a secret, though no rule knows them.

What a manifest says is committed, so whatever is in doubt is a secret that a person
should look at: taking a setting for a secret costs a minute, the contrary a rotation.
"""

from __future__ import annotations

import re

from keyturn.manifest.kinds import SecretKind
from keyturn.manifest.strength import (
    is_login_pair,
    is_placeholder,
    is_setting_word,
    name_words,
    plain_words,
    words,
)

__all__ = ["doubt"]

_WHO = "who issues this value? `generated` makes it here, `guided` takes it from a person"
_MADE = "made here; changing it makes void what was made with the old one: may it be renewed?"
_POST = "whoever knows the address of a webhook can post to it"
_LOGIN = "is it a user and a password in one? `config` takes it if it is neither"
_SERVER = "such an address often has a password in it; `config` takes it if yours has none"
_KEY = "is it a secret key? `config` takes it if everybody may know it"

_STRONG = words("credential credentials creds pepper pw salt seed")
_MADE_HERE = words("cookie hash pepper salt")
_PUBLIC = words("public publishable")
# What comes before `KEY` in names of things that are found by it.
_LOOKED_UP_BY = words("cache foreign idempotency index object partition primary shard site sort")
# Servers whose address is where their password stands, if they have one.
_SERVERS = words(
    "amqp broker cache celery cloudinary direct elastic elasticsearch mongo mq nats opensearch"
    " queue rabbitmq redis sidekiq"
)
_PLACES = words("addr address channel domain endpoint host server")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{0,20}://", re.IGNORECASE)
_FILE = re.compile(r"[A-Za-z0-9_./-]{1,300}\.(?:json|pem|key|crt|p12|txt|ya?ml)", re.IGNORECASE)
_AMOUNT = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,3})?[a-z]{0,2}", re.IGNORECASE)
_NO_LOGIN = re.compile(r"none|null|basic|digest|plain|login|bearer|md5|any", re.IGNORECASE)


def doubt(name: str, text: str) -> tuple[SecretKind, str] | None:
    """
    Return the kind of secret that *name* may be and why a person should look; None for a setting.

    Args:
        text: Its value in the example; empty and placeholders speak for a secret.
    """
    parts = name_words(name)
    if not parts or _PUBLIC.intersection(parts):
        return None
    if {"webhook", "webhooks"}.intersection(parts) and _may_be_webhook(parts[-1], text):
        return SecretKind.GUIDED, _POST
    if is_setting_word(parts[-1]):
        return None
    if not text and parts[-1] in {"url", "uri"} and _SERVERS.intersection(parts):
        return SecretKind.GUIDED, _SERVER
    why = _reason(name, parts, text)
    if why in {_WHO, _KEY} and _MADE_HERE.intersection(parts):
        return SecretKind.GENERATED, _MADE
    return None if why is None else (SecretKind.GUIDED, why)


def _reason(name: str, parts: list[str], text: str) -> str | None:
    if _is_strong(parts, text) or parts[-1] == "private":
        return _WHO
    if _ends_in_key(name) and not _FILE.fullmatch(text):
        return _KEY
    if "auth" in parts and _is_login(parts, text):
        return _LOGIN
    if "bot" in parts and not (_AMOUNT.fullmatch(text) or _ADDRESS.match(text)):
        return _WHO
    return None


def _is_strong(parts: list[str], text: str) -> bool:
    found = _STRONG.intersection(parts)
    if not found or _FILE.fullmatch(text):
        return False
    # `RETRY_SEED=42` and `SALT_LOOPS=12` count; `BIND_PW=1234` is bad, but a password.
    counts = found == {"seed"} or parts[-1] not in _STRONG
    return not (counts and _AMOUNT.fullmatch(text))


def _is_login(parts: list[str], text: str) -> bool:
    if is_login_pair(text) or not text:
        return True
    return parts[-1] == "auth" and is_placeholder(text) and not _NO_LOGIN.fullmatch(text)


def _ends_in_key(name: str) -> bool:
    parts = plain_words(name)
    if not parts or parts[-1] not in {"key", "keys"}:
        return False
    return parts[-2:-1] == [] or parts[-2] not in _LOOKED_UP_BY


def _may_be_webhook(last: str, text: str) -> bool:
    if is_setting_word(last) and last not in _PLACES:
        return False
    return is_placeholder(text) or _ADDRESS.match(text) is not None
