"""
Does this text look like a real secret, or like something to be filled in?

Shared by the manifest's loader (which holds no value, so one found in it is an
error), by the drafting of a manifest, and by the retrieval test. These are guesses
and err towards silence: a reason names a shape, never the text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

__all__ = [
    "find_values",
    "holds_value",
    "is_absolute_path",
    "is_login_pair",
    "is_placeholder",
    "is_setting_word",
    "looks_like_secret",
    "name_words",
    "plain_words",
    "says_password",
    "says_secret",
]


def words(text: str) -> frozenset[str]:
    """Return the words of *text*."""
    return frozenset(text.split())


# (literal that every match contains, what it is, the whole shape). The literal is
# looked for first: a search for plain text is a hundred times cheaper than the shape.
_SHAPES: tuple[tuple[str, str, str], ...] = (
    ("sk_live_", "a Stripe live key", r"sk_live_[A-Za-z0-9]{10,}"),
    ("sk_test_", "a Stripe test key", r"sk_test_[A-Za-z0-9]{10,}"),
    ("rk_live_", "a Stripe restricted key", r"rk_live_[A-Za-z0-9]{10,}"),
    ("rk_test_", "a Stripe restricted key", r"rk_test_[A-Za-z0-9]{10,}"),
    ("whsec_", "a webhook signing secret", r"whsec_[A-Za-z0-9+/=_-]{10,}"),
    ("sk-", "an API key", r"sk-[A-Za-z0-9_-]{20,}"),
    ("SG.", "a SendGrid key", r"SG\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("AKIA", "an AWS access key id", r"AKIA[A-Z0-9]{16}"),
    ("ASIA", "an AWS access key id", r"ASIA[A-Z0-9]{16}"),
    ("ghp_", "a GitHub token", r"ghp_[A-Za-z0-9]{20,}"),
    ("gho_", "a GitHub token", r"gho_[A-Za-z0-9]{20,}"),
    ("ghs_", "a GitHub token", r"ghs_[A-Za-z0-9]{20,}"),
    ("github_pat_", "a GitHub token", r"github_pat_[A-Za-z0-9_]{20,}"),
    ("glpat-", "a GitLab token", r"glpat-[A-Za-z0-9_-]{16,}"),
    ("xox", "a Slack token", r"xox[abeprs]-[A-Za-z0-9-]{10,}"),
    ("hvs.", "a Vault token", r"hvs\.[A-Za-z0-9_-]{20,}"),
    ("hvb.", "a Vault token", r"hvb\.[A-Za-z0-9_-]{20,}"),
    ("AIza", "a Google API key", r"AIza[A-Za-z0-9_-]{30,}"),
    ("npm_", "an npm token", r"npm_[A-Za-z0-9]{30,}"),
    ("pypi-", "a PyPI token", r"pypi-[A-Za-z0-9_-]{30,}"),
    ("AGE-SECRET-KEY-1", "an age identity", r"AGE-SECRET-KEY-1[A-Z0-9]{20,}"),
    ("PRIVATE KEY-----", "a private key", r"-----BEGIN (?:[A-Z0-9]{1,10} ){0,3}PRIVATE KEY-----"),
    # The same first line in base64: PKCS 8, RSA, EC, OpenSSH.
    ("LS0tLS1CRUdJTiBQUklWQVRF", "a private key in base64", "LS0tLS1CRUdJTiBQUklWQVRF"),
    ("LS0tLS1CRUdJTiBSU0EgUFJJVkFURS", "a private key in base64", "LS0tLS1CRUdJTiBSU0EgUFJJVkFURS"),
    ("LS0tLS1CRUdJTiBFQyBQUklWQVRF", "a private key in base64", "LS0tLS1CRUdJTiBFQyBQUklWQVRF"),
    ("LS0tLS1CRUdJTiBPUEVOU1NI", "a private key in base64", "LS0tLS1CRUdJTiBPUEVOU1NI"),
    ("hooks.slack", "a webhook's address with its token",
     r"hooks\.slack(?:-gov)?\.com/[a-z]{4,16}/[A-Za-z0-9]{1,64}/[A-Za-z0-9]{1,64}/[A-Za-z0-9/]{6,}"),
    ("webhooks/", "a webhook's address with its token",
     r"webhooks/[0-9]{5,25}/[A-Za-z0-9_-]{10,}"),
    ("webhook", "a webhook's address with its token",
     r"webhook(?:b2)?/[0-9a-f]{8}-[0-9a-f-]{27}[A-Za-z0-9@/-]{10,}"),
    ("api.telegram.org/bot", "a bot's address with its token",
     r"api\.telegram\.org/bot[0-9]{5,16}:[A-Za-z0-9_-]{20,}"),
    ("eyJ", "a signed token", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
)  # fmt: skip
_URL_PASSWORD = re.compile(
    r"""://(?P<user>[^\s:/?#@"'<>]{0,256}):(?P<password>[^\s/?#@"'<>]{1,512})@"""
)

# Words that nobody has in a real value, long enough not to turn up in random text.
_TELLING = re.compile(
    r"changeme|change[-_ ]me|change[-_ ]?this|change[-_ ]?in[-_ ]?prod|placeholder|example"
    r"|replace[-_ ]?(?:me|this|with)|insert[-_ ]|fill[-_ ]?(?:me|in)|your[-_ ]|generate[-_ ]with"
    r"|redacted|notset|not[-_ ]set|[-_ ]here\b|dummy[-_ ]|xxxxxx|to[-_ ]be[-_ ]"
    r"|do[-_ ]?not[-_ ]?use|yourkey|yoursecret|yourpassword|yourtoken",
    re.IGNORECASE,
)
_TELLING_WORDS = words("todo fixme tbd xxx xxxx xxxxx dummy sample your replace unset redacted")
# A text made of nothing but these (and short numbers) protects nothing.
_WEAK_WORDS = words(
    "a access admin administrator an api app auth bar base64 baz change client database db default"
    " demo dev development elastic empty encryption fake false foo for guest hello hex id in"
    " insecure is jwt key live local localhost long me minio minioadmin my mysql no none not null"
    " of only opensearch or pass passwd password pk postgres postgresql private prod production"
    " public pwd rabbitmq random real redis rk root safe secret secrets secure sentry session sg sk"
    " some string strong super supersecret test testing text the this token true unsafe user"
    " username value very webhook whsec yes"
)
_BRACKETED = re.compile(
    r"\s*(?:<[^<>]*>|\$\{[^{}]*\}|\{\{.*\}\}|\$\(.*\)|%[A-Za-z_]+%|\[[^\[\]]*\])\s*"
)
_BETWEEN_WORDS = re.compile(r"[^A-Za-z0-9]+")
_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_TRAILING_DIGITS = re.compile(r"[0-9]{1,4}$")
_SHORT_NUMBER = re.compile(r"[0-9]{1,4}|12345[0-9]*")
_MAX_LOOKED_AT = 65_536

# The last word of a variable's name, once words that only qualify are taken off.
_SECRET_WORDS = words(
    "apikey credential credentials dsn htpasswd licence license otp pass passcode passphrase passwd"
    " password pepper pin pw pwd secret token totp"
)
_PASSWORD_WORDS = words("pass passphrase passwd password pw pwd")
_LOGIN_WORDS = words("auth basicauth credential credentials creds userpass")
# Names that end in one of these describe something, whatever stands before.
_SETTING_WORDS = words(
    "activity addr address alg algorithm audience bytes channel count dir directory domain"
    " enabled endpoint environment events expires expiry file header headers host hostname id ids"
    " image interval issuer lang language length level limit locale max method min mode name names"
    " owner path paths policy port prefix provider realm region retries role rounds scope scopes"
    " server size status strategy tag timeout ttl type user username version"
)
_KEY_WORDS = words(
    "access api app auth encryption hmac jwt license master private secret service session shared"
    " signing ssh webhook"
)
_QUALIFIERS = words(
    "alt b64 base base64 backup current dev fallback fallbacks hex live new next old pem prev"
    " previous primary prod secondary test value"
)
_HARMLESS_VALUE = re.compile(
    r"true|false|yes|no|on|off"
    r"|[+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?[a-z]{0,3}"  # a count, a size, a time
    r"|https?://[^@\s]{1,80}"
    r"|[A-Za-z0-9_./-]{1,300}\.(?:json|pem|key|crt|p12|txt|ya?ml)",  # a file
    re.IGNORECASE,
)
_LOGIN_PAIR = re.compile(r"(?P<user>[^\s:/@,;{}]{1,128}):(?P<password>[^\s/]{1,512})")
_PORT_NUMBER = re.compile(r"[0-9]{1,5}")
_PATH = re.compile(r"(?:/[A-Za-z0-9_.@-]{1,100}){2,32}/?")
_PUBLIC_WORDS = words("public publishable site sitekey hash sha commit checksum digest")
_RANDOM_TEXT = re.compile(r"[A-Za-z0-9+/_=-]{32,512}")
_LIKELY_LENGTH = 12
_LIKELY_BITS_PER_CHARACTER = 3.0
_RANDOM_BITS_PER_CHARACTER = 4.0


def is_placeholder(text: str) -> bool:
    """Tell whether *text* only stands for a value: empty, `changeme`, `<...>`, a dev default."""
    text = text[:_MAX_LOOKED_AT].strip()
    if not text or _BRACKETED.fullmatch(text):
        return True
    if len(set(text)) <= 1 + (len(text) > 4) or text.endswith("..."):  # noqa: PLR2004 - `****`, `0101`
        return True
    if _TELLING.search(text):
        return True
    parts = [word for word in _BETWEEN_WORDS.split(text[:1_024].casefold()) if word]
    if _TELLING_WORDS.intersection(parts):
        return True
    return bool(parts) and all(_is_weak(word) for word in parts)


def _is_weak(word: str) -> bool:
    if word in _WEAK_WORDS or _SHORT_NUMBER.fullmatch(word):
        return True
    return _TRAILING_DIGITS.sub("", word) in _WEAK_WORDS


def name_words(name: str) -> list[str]:
    """Return the words of the variable *name*, in small letters."""
    return [word for word in _BETWEEN_WORDS.split(name.casefold()) if word]


def plain_words(name: str) -> list[str]:
    """Return the words of *name* less those at its end that only qualify, such as `_B64`."""
    parts = name_words(name)
    while parts and (parts[-1] in _QUALIFIERS or parts[-1].isdigit()):
        parts.pop()
    return parts


def is_setting_word(word: str) -> bool:
    """Tell whether a name that ends in *word* describes something: `_ID`, `_TTL`, `_PATH`."""
    return word in _SETTING_WORDS


def says_password(name: str) -> bool:
    """Tell whether the variable *name* promises a password."""
    return plain_words(name)[-1:] != [] and plain_words(name)[-1] in _PASSWORD_WORDS


def is_absolute_path(text: str) -> bool:
    """Tell whether *text* is a path from the root, and not base64 that begins with a slash."""
    if _PATH.fullmatch(text) is None:
        return False
    parts = text.strip("/").split("/")
    return not any(len(part) >= _LIKELY_LENGTH and _is_mixed(part) for part in parts)


def is_login_pair(text: str) -> bool:
    """Tell whether *text* has the form `user:password`, and not that of a host with its port."""
    match = _LOGIN_PAIR.fullmatch(text)
    return match is not None and _PORT_NUMBER.fullmatch(match["password"]) is None


def says_secret(name: str) -> bool:
    """Tell whether the variable *name* promises a secret: `..._PASSWORD`, `..._API_KEY`."""
    parts = plain_words(name)
    if not parts:
        return False
    last = parts[-1]
    if last in _SECRET_WORDS:
        return True
    if last == "id":
        return parts[-2:-1] == ["secret"]
    if last not in {"key", "keys"} or len(parts) == 1:
        return False
    return parts[-2] in _KEY_WORDS and "public" not in parts


def find_values(text: str) -> Iterator[tuple[int, str]]:
    """
    Yield (offset, what it is) for everything in *text* that has the shape of a real value.

    Placeholders of that shape, such as `sk_test_your_key_here`, are passed over.
    """
    for literal, what, shape in _SHAPES:
        if literal not in text:
            continue
        for match in re.finditer(shape, text):
            start = match.start()
            if start and text[start - 1].isalnum():
                continue
            if not _stands_for_one(match[0]):
                yield start, what
    if "://" in text:
        for match in _URL_PASSWORD.finditer(text):
            password = match["password"]
            # In `://${secret:mail.token}@host` the colon is the reference's own.
            stands = (
                is_placeholder(password)
                or _is_variable(password)
                or match["user"].endswith("${secret")
            )
            if not stands and match["user"] != password:
                yield match.start(), "an address with a password in it"


def _stands_for_one(found: str) -> bool:
    # A private key's first line is all words, and so would pass for a placeholder.
    return not found.startswith(("-----", "LS0t", "eyJ")) and is_placeholder(found)


def _is_variable(text: str) -> bool:
    return "${" in text or _VARIABLE.fullmatch(text) is not None


def looks_like_secret(name: str, text: str) -> str | None:
    """
    Return why *text*, as the value of *name*, looks like a real secret; None where it does not.

    The reason names a shape (`a Stripe live key`), never the text.
    """
    text = text[:_MAX_LOOKED_AT]
    for _, what in find_values(text):
        return what
    if is_placeholder(text) or _HARMLESS_VALUE.fullmatch(text):
        return None
    bits = _bits_per_character(text)
    if says_secret(name):
        irregular = len(text) >= _LIKELY_LENGTH and bits >= _LIKELY_BITS_PER_CHARACTER
        wordy = _is_made_of_words(text)
        return "a value too irregular for a placeholder" if irregular and not wordy else None
    if _PUBLIC_WORDS.intersection(_BETWEEN_WORDS.split(name.casefold())):
        return None
    if _RANDOM_TEXT.fullmatch(text) and bits >= _RANDOM_BITS_PER_CHARACTER and _is_mixed(text):
        return "a long random text"
    return None


def holds_value(name: str, text: str) -> str | None:
    """
    Return why the plain setting *name* may not be *text*; None where it may.

    Stricter than `looks_like_secret` where the name promises a secret: there, any
    text that is not a placeholder is taken for one.
    """
    for _, what in find_values(text):
        return what
    if is_placeholder(text) or _is_variable(text):
        return None
    if _holds_login(name, text):
        return "a user and a password"
    if not says_secret(name) or _HARMLESS_VALUE.fullmatch(text):
        return None
    if is_absolute_path(text) and not says_password(name):
        return None
    return "a value under a name that says secret"


def _holds_login(name: str, text: str) -> bool:
    parts = name_words(name)
    if not _LOGIN_WORDS.intersection(parts) or is_setting_word(parts[-1]):
        return False
    return is_login_pair(text) and not is_placeholder(text.partition(":")[2])


def _is_made_of_words(text: str) -> bool:
    """Tell whether *text* reads like `shop_dev_password1`: plain words, one of them a weak one."""
    parts = [word for word in _BETWEEN_WORDS.split(text) if word]
    plain = all(re.fullmatch(r"[a-z]+[0-9]{0,4}", word) for word in parts)
    return plain and (text.isalpha() or any(_is_weak(word) for word in parts))


def _is_mixed(text: str) -> bool:
    return (
        any(c.isdigit() for c in text)
        and any(c.islower() for c in text)
        and any(c.isupper() for c in text)
    )


def _bits_per_character(text: str) -> float:
    counts = Counter(text)
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in counts.values())
