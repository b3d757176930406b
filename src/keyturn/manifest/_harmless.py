"""
Is a variable of a real `.env` clearly a plain setting, by its name and by its value?

Asked where what is not clear must be a secret: a manifest is committed. So unlike the
guesses of `strength` these err towards a secret.
"""

from __future__ import annotations

import re
from itertools import pairwise

from keyturn.manifest.strength import (
    holds_value,
    is_absolute_path,
    is_placeholder,
    is_setting_word,
    name_words,
    plain_words,
    says_password,
    words,
)

__all__ = ["is_harmless", "may_be_secret"]

_PUBLIC = words("public publishable site sitekey")
# What stands behind these is built into pages that everybody may read.
_PUBLIC_PREFIXES = (
    "expo_public_",
    "gatsby_",
    "next_public_",
    "nuxt_public_",
    "react_app_",
    "vite_",
)
# Besides `is_setting_word`: names that end in one of these describe something.
_PLAIN_WORDS = words(
    "admins age agent allowed args attempts authentication backend banner branch broker brokers"
    " bucket buffer cache capacity charset charsets class classes cluster collation color colour"
    " company compression concurrency connection contact control copyright cors countries cpus"
    " currencies currency database date day days db dbname debug default depth description dialect"
    " disable disabled disk distribution dn dns driver email emails enable encoding engine env"
    " environments exporter extensions factor features filter flag flags folder font format"
    " formats framework from frontend group groups handler height hello homepage hosts hours"
    " httponly instance instances interface internal job jobs keepalive keywords kind label"
    " languages lat latitude lifetime line lines list listen lng loader locales location log"
    " logger logs longitude loop mailer managers maximum memory message migrations minimum minutes"
    " model models module modules month ms namespace network node nodes offset only options order"
    " org organisation organization origin origins output pages paging partition pattern percent"
    " period phone platform plugins pool ports precision preset procs product profile project"
    " protocol proxies quality queue queues radius rate ratio release replica replicas retention"
    " retry root route routes samesite sampling schedule schema schemas scheme sdk seconds secure"
    " sender service services settings shard shell skip slogan slug socket source ssl sslmode"
    " stack stage standard store stream style subdomain subject suffix support table tables target"
    " team template tenant text theme threads threshold time timezone title tls to topic topics"
    " transport tz unit units uri uris url urls verbose verify vhost view views volume watch"
    " website weeks welcome width window worker workers workspace year zone zones"
)
# Names that end so may stand for what is given out to one alone, whatever else they are for.
_ODD_WORDS = words(
    "access account admin auth cert certificate code codes cookie hash id ids key keys login"
    " member merchant pin private serial session sid signature user username"
)
_CODES = words(
    "area country currency error exit lang language locale phone postal region status zip"
)
_PUBLIC_IDS = words(
    "analytics app application client container directory ga gtm measurement org organization"
    " pixel project property subscription team tenant tracking workspace zone"
)
_DIGESTS = words("checksum commit digest revision sha")
_HEX = re.compile(r"[0-9a-f]{7,64}")
_SWITCH = re.compile(r"true|false|yes|no|on|off|null|none|enabled|disabled|auto", re.IGNORECASE)
_NUMBER = re.compile(
    r"[+-]?[0-9]{1,5}(?:\.[0-9]{1,6})?(?:[nuµm]?s|m|h|d|w|y|min|k|[kmgt]i?b?|px|%)?", re.IGNORECASE
)
_VOCABULARY = words(
    "alpha apcu array async automatic basic beta bunyan cache canary console cookie crit critical"
    " cron daily database debug dev development disable dynamo dynamodb email emerg error errors"
    " fatal file fs gcs gzip hourly http https info inline json kafka ksuid lax live local"
    " localhost log mailgun main master memcached memory minimal monthly mysql native notice pgsql"
    " phpredis plain postgres postgresql predis prefer pretty prod production pusher queue"
    " rabbitmq redis require reverb rolling s3 sandbox sentry ses single slack smtp smtps sqlite"
    " sqs ssl stack staging starttls stderr stdout strict sync syslog test testing text tls trace"
    " uat utc utf8 utf8mb4 verbose verify-full warn warning weekly"
)
_LOCALE = re.compile(r"[a-z]{2}(?:[_-][A-Za-z]{2})?")
_ZONE = re.compile(r"(?:[A-Z][a-z]+)(?:/[A-Z][A-Za-z_]+){1,2}")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+){1,2}-?[0-9]{1,2}[a-z]?")
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]{0,20}://)?[a-z0-9._:/-]{0,300}")
_HOST = re.compile(r"(?:[a-z0-9-]{1,40}\.)+[a-z]{2,10}(?::[0-9]{1,5})?|localhost(?::[0-9]{1,5})?")
_IP = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]{1,5})?(?:/[0-9]{1,2})?")
_RELATIVE_PATH = re.compile(r"\.{1,2}(?:/[A-Za-z0-9_.-]{1,60}){1,10}/?")
_USER_INFO = re.compile(r"://[^\s/?#]*@")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_BETWEEN_PIECES = re.compile(r"[^A-Za-z0-9]+")
# `eu1`, `v2`, `utf8mb4`, `ec2`: what a word with digits in it looks like.
_WORD = re.compile(r"[A-Za-z]+[0-9]{0,4}|[0-9]{1,14}|[A-Za-z]{1,8}[0-9]{1,2}[A-Za-z]{1,5}[0-9]?")
_LONGEST_WORD = 20
_SHORT_PIECE = 6
_SHORT_ID = 12
_LONG_PIECE = 12
_PORT_DIGITS = 5
_LAST_PORT = 65_535


def is_harmless(name: str, text: str) -> bool:
    """
    Tell whether *text* is clearly a plain setting as the value of the variable *name*.

    What `recognise` knows as a secret is not asked here.
    """
    text = text.strip()
    if not text or _SWITCH.fullmatch(text):
        return True
    if _USER_INFO.search(text):
        return False
    if _is_public(name) or (is_absolute_path(text) and not says_password(name)):
        return True
    return _fits(plain_words(name)[-1:], name, text)


def _fits(last: list[str], name: str, text: str) -> bool:
    """Tell whether *text* is what the *last* word of *name* promises."""
    if last in (["port"], ["ports"]) and text.isdecimal():
        # What is no port may be somebody's code.
        return len(text) <= _PORT_DIGITS and int(text) <= _LAST_PORT
    if _describes(name):
        return not _looks_drawn(text)
    if last and last[0] in _DIGESTS:
        return _HEX.fullmatch(text) is not None or not _looks_drawn(text)
    if last in (["id"], ["ids"]):
        return _is_plain_id(name, text)
    if last in (["user"], ["username"], ["login"]):
        return "@" in text and ":" not in text and not _looks_drawn(text)
    # A number may be somebody's code.
    counts = bool(last) and last[0] not in _ODD_WORDS
    return _says_itself(text) and (counts or _NUMBER.fullmatch(text) is None)


def may_be_secret(name: str, text: str, declared: str) -> bool:
    """
    Tell whether the setting *name*, of which a manifest says *declared*, may not become *text*.

    Where the manifest gives it a text of its own, somebody has held it for a setting: then
    only what looks like a secret is one. Where that only stands for a value, doubt is enough.
    """
    if holds_value(name, text) is not None or _USER_INFO.search(text):
        return True
    if is_harmless(name, text):
        return False
    return is_placeholder(declared) or _looks_drawn(text, least=_LONG_PIECE)


def _is_public(name: str) -> bool:
    folded = name.casefold()
    return folded.startswith(_PUBLIC_PREFIXES) or bool(_PUBLIC.intersection(name_words(name)))


def _describes(name: str) -> bool:
    parts = name_words(name)
    while parts and parts[-1].isdigit():
        parts.pop()
    if not parts:
        return False
    last = parts[-1]
    if last in {"code", "codes"}:
        return parts[-2:-1] != [] and parts[-2] in _CODES
    if last in {"user", "username", "id", "ids"}:
        return False
    return last in _PLAIN_WORDS or is_setting_word(last) or parts[0] in {"feature", "log"}


def _is_plain_id(name: str, text: str) -> bool:
    parts = plain_words(name)
    if parts[-2:-1] != [] and parts[-2] in _PUBLIC_IDS:
        return True
    if _UUID.fullmatch(text) or text.isdigit():
        return True
    return len(text) <= _SHORT_ID or not _looks_drawn(text)


def _says_itself(text: str) -> bool:
    """Tell whether *text* is a setting under any name: a count, a level, a place, an address."""
    items = [item for item in re.split(r"[\s,;|]+", text) if item]
    return all(map(_is_plain_item, items))


def _is_plain_item(item: str) -> bool:
    folded = item.lower()
    if folded in _VOCABULARY and item in {folded, folded.upper(), folded.capitalize()}:
        return True
    if _NUMBER.fullmatch(item):
        return True
    shapes = (_LOCALE, _ZONE, _REGION, _HOST, _IP, _RELATIVE_PATH)
    if any(shape.fullmatch(item) for shape in shapes):
        return not _looks_drawn(item)
    return "://" in item and _ADDRESS.fullmatch(item) is not None and not _looks_drawn(item)


def _looks_drawn(text: str, *, least: int = _SHORT_PIECE) -> bool:
    """Tell whether a piece of *text* of *least* characters may have been drawn by lot."""
    if _UUID.search(text):
        return True
    if any(c in text for c in "!%^$~`\\") and " " not in text and "://" not in text:
        return True
    return any(_is_drawn(piece) for piece in _BETWEEN_PIECES.split(text) if len(piece) >= least)


def _is_drawn(piece: str) -> bool:
    if _WORD.fullmatch(piece) is None or len(piece) > _LONGEST_WORD:
        return True
    # Words change from small to capital letters where one ends: `MyApp`, not `kQzVb`.
    changes = sum(a.islower() and b.isupper() for a, b in pairwise(piece))
    return changes > max(1, len(piece) // 5)
