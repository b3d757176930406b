"""Which variables of a `.env` file are secrets, and of which kind: told by name, then by look."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from keyturn.core.ids import FieldName, SecretName
from keyturn.manifest._doubtful import doubt
from keyturn.manifest._harmless import is_harmless
from keyturn.manifest.envfile import EnvEntry
from keyturn.manifest.kinds import Making, SecretKind, kind_spec
from keyturn.manifest.strength import (
    is_absolute_path,
    looks_like_secret,
    says_password,
    says_secret,
)

__all__ = ["Recognised", "alone", "in_order", "recognise"]

_MAX_NAME = 56
_SWITCH = re.compile(r"true|false|yes|no|on|off", re.IGNORECASE)
_USER_INFO = re.compile(r"://[^\s/?#@]*:[^\s/?#]*@")
_OTHER_DATABASE = re.compile(r"mysql|maria|mssql|sqlserver|oracle|mongo|sqlite", re.IGNORECASE)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY"
    r"|LS0tLS1CRUdJTi(?:BQUklWQVRF|BSU0EgUFJJ|BFQyBQUklW|BPUEVOU1NI|BFTkNSWVBU)"
)
_MYSQL_PORT = "3306"

_WHO = "who issues this value? `generated` makes it here, `guided` takes it from a person"
_ELSEWHERE = "Keyturn makes and delivers it; the server itself must be told by you"
_KEY_TEXT = "a private key stands there, which no random text replaces: who makes the next one?"
_ADDRESS = "a password inside an address: a login of its own could be rotated"
_DOUBT = "nothing says that everybody may know it; `config` takes it if they may"


@dataclass(frozen=True, slots=True)
class Recognised:
    """
    Variables that make up one secret.

    Args:
        fields: Each field with the entry that carries it.
        prefix: What the variables' names have in common: `DB_`.
        generate: Format and size as the manifest writes them, where not the kind's own.
        review: What a person should look at.
    """

    name: SecretName
    kind: SecretKind
    fields: Mapping[FieldName, EnvEntry]
    prefix: str = ""
    generate: str | None = None
    review: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rule:
    """
    One way to tell a secret by the name of the variable that proves.

    Args:
        pattern: The whole name; groups `p` (prefix) and `s` (suffix) are for templates.
        field: The field of the variable that matched.
        siblings: Other fields, each with templates of the names that may carry it.
        name: Template of the secret's name; made of the variable's where it is empty.
        alone: Kind and field where no sibling is there; None keeps both.
        paired: It holds only where a sibling is there.
    """

    pattern: str
    kind: SecretKind
    field: str = "value"
    siblings: tuple[tuple[str, tuple[str, ...]], ...] = ()
    name: str = ""
    alone: str | None = None
    review: str | None = None
    generate: str | None = None
    paired: bool = False


_B64 = r"(?P<s>_B64|_BASE64|_PEM)?"
_USERS = ("{p}USER", "{p}USERNAME", "{p}LOGIN")
_ACCESS_KEYS = ("{p}ACCESS_KEY_ID", "{p}ACCESS_KEY")
_PASSWORD = r"(?:PASSWORD|PASSWD|PASS|PWD)"  # noqa: S105 - a pattern of names
_POSTGRES = r"(?:.+_)?(?:DB|DATABASE|POSTGRES|POSTGRESQL)_"
_OWN_SERVERS = (
    "OPENSEARCH|ELASTIC|ELASTICSEARCH|RABBITMQ|MONGO|MONGODB|MYSQL|MARIADB|MINIO|CLICKHOUSE|NATS"
    "|KAFKA|GRAFANA|CASSANDRA|NEO4J|MEILISEARCH|TYPESENSE"
)
_MADE_HERE = "INTERNAL|CRON|METRICS|HMAC|SIGNING|PREVIEW|REVALIDATE|UNSUBSCRIBE|HEALTH"
_FRAMEWORK_SECRETS = (
    "SECRET_KEY|SECRET_KEY_BASE|APP_KEY|APP_SECRET|AUTH_SECRET|NEXTAUTH_SECRET|BETTER_AUTH_SECRET"
    "|(?:DJANGO|FLASK|RAILS)_SECRET_KEY(?:_BASE)?|(?:.+_)?(?:SESSION|COOKIE|CSRF|XSRF)_(?:SECRET|KEY)"
)

# The first that matches wins, so what is particular stands before what is general.
_RULES = (
    _Rule(
        rf"(?P<p>{_POSTGRES})(?P<s>ADMIN|SUPERUSER|ROOT)_{_PASSWORD}",
        SecretKind.GUIDED,
        "password",
        (("username", ("{p}{s}_USER", "{p}{s}_USERNAME", "{p}{s}_LOGIN")),),
        name="{p}ADMIN",
    ),
    _Rule(
        rf"(?P<p>{_POSTGRES}|PG){_PASSWORD}",
        SecretKind.POSTGRES_LOGIN,
        "password",
        (("username", _USERS),),
        name="{p}",
    ),
    _Rule(
        rf"(?P<p>(?:.+_)?REDIS_){_PASSWORD}",
        SecretKind.REDIS_LOGIN,
        "password",
        (("username", _USERS),),
        name="{p}",
    ),
    _Rule(
        rf"(?P<p>(?:.+_)?JWT_(?:.+_)?)PRIVATE_KEY{_B64}",
        SecretKind.JWT_SIGNING_KEY,
        "private_key",
        (
            ("kid", ("{p}KEY_ID", "{p}KID")),
            ("jwks", ("{p}JWKS",)),
            ("public_key", ("{p}PUBLIC_KEY{s}",)),
        ),
        name="{p}",
    ),
    _Rule(
        rf"(?P<p>(?:.+_)?SSH_(?:.+_)??)(?:PRIVATE_)?KEY{_B64}",
        SecretKind.SSH_KEY,
        "private_key",
        (("public_key", ("{p}PUBLIC_KEY{s}",)),),
        name="{p}",
    ),
    _Rule(
        rf"(?P<p>.+_)PRIVATE_KEY{_B64}",
        SecretKind.GUIDED,
        "private_key",
        (("public_key", ("{p}PUBLIC_KEY{s}",)),),
        name="{p}",
        alone="value",
        review="what kind of key pair is it?",
    ),
    _Rule(
        r"(?P<p>(?:.+_)?(?:AWS|S3)_(?:.+_)??)SECRET_KEY",
        SecretKind.AWS_ACCESS_KEY,
        "secret_access_key",
        (("access_key_id", _ACCESS_KEYS),),
        name="{p}",
        review="is it Amazon's? `guided` where another server keeps the bucket",
        paired=True,
    ),
    _Rule(
        r"(?P<p>(?:.+_)?)SECRET_KEY",
        SecretKind.GUIDED,
        "secret_access_key",
        (("access_key_id", _ACCESS_KEYS),),
        name="{p}ACCESS_KEY",
        review=_WHO,
        paired=True,
    ),
    _Rule(_FRAMEWORK_SECRETS, SecretKind.SESSION_SECRET),
    _Rule(
        r"(?:.+_)?JWT_(?:.+_)?SECRET(?:_KEY)?",
        SecretKind.GENERATED,
        generate='{ format = "base64", bytes = 32 }',
    ),
    _Rule(
        r"(?P<p>.+_)?ENCRYPTION_KEY_HEX",
        SecretKind.ENCRYPTION_KEY,
        name="{p}ENCRYPTION",
        generate='{ format = "hex", bytes = 32 }',
    ),
    _Rule(
        rf"(?P<p>.+_)?ENCRYPTION_KEY{_B64}",
        SecretKind.ENCRYPTION_KEY,
        siblings=(("ring", ("{p}ENCRYPTION_KEYS{s}",)),),
        name="{p}ENCRYPTION",
    ),
    _Rule(
        r"(?P<p>(?:.+_)?TWITCH_)CLIENT_SECRET",
        SecretKind.TWITCH_APP,
        "client_secret",
        (("client_id", ("{p}CLIENT_ID",)),),
        name="{p}",
    ),
    _Rule(
        r"(?P<p>(?:.+_)?STRIPE_(?:.+_)?)WEBHOOK_(?:SIGNING_)?SECRET(?P<s>_.+)?",
        SecretKind.STRIPE_WEBHOOK_SECRET,
        siblings=(("alt", ("{p}WEBHOOK_SECRET{s}_ALT",)),),
        name="{p}WEBHOOK{s}",
    ),
    _Rule(
        r"(?P<p>(?:.+_)?STRIPE_)(?:SECRET_KEY|API_KEY|RESTRICTED_KEY|SECRET)",
        SecretKind.STRIPE_KEY,
        name="{p}",
    ),
    _Rule(r"(?P<p>(?:.+_)?OPENAI_)(?:API_)?KEY", SecretKind.OPENAI_KEY, name="{p}"),
    _Rule(r"(?P<p>(?:.+_)?SENDGRID_)(?:API_)?KEY", SecretKind.SENDGRID_KEY, name="{p}"),
    _Rule(
        r"(?P<p>(?:.+_)?VAULT_(?:.+_)?)SECRET_ID",
        SecretKind.VAULT_APPROLE,
        "secret_id",
        (("role_id", ("{p}ROLE_ID",)),),
        name="{p}",
    ),
    _Rule(
        r"(?P<p>(?:.+_)?AWS_(?:.+_)?)SECRET_ACCESS_KEY",
        SecretKind.AWS_ACCESS_KEY,
        "secret_access_key",
        (("access_key_id", _ACCESS_KEYS),),
        name="{p}",
    ),
    _Rule(
        r"(?P<p>.+_)SECRET_ACCESS_KEY",
        SecretKind.GUIDED,
        "secret_access_key",
        (("access_key_id", _ACCESS_KEYS),),
        name="{p}",
        alone="value",
    ),
    _Rule(
        r"(?P<p>.+_)CLIENT_SECRET",
        SecretKind.GUIDED,
        "client_secret",
        (("client_id", ("{p}CLIENT_ID",)),),
        name="{p}",
        alone="value",
    ),
    _Rule(
        r"(?:.+_)?(?:DATABASE|DB|POSTGRES|POSTGRESQL|PG|MONGO|MONGODB|MYSQL|AMQP|RABBITMQ)_"
        r"(?:URL|URI|CONNECTION_STRING)",
        SecretKind.GUIDED,
        review=_ADDRESS,
    ),
    _Rule(r"(?P<p>.+_)DSN", SecretKind.GUIDED, name="{p}"),
    _Rule(
        rf"(?P<p>(?:.+_)?(?:{_OWN_SERVERS})_(?:.+_)?){_PASSWORD}",
        SecretKind.GENERATED,
        "password",
        (("username", _USERS),),
        name="{p}",
        alone="value",
        review=_ELSEWHERE,
    ),
    _Rule(
        rf"(?P<p>.+_){_PASSWORD}",
        SecretKind.GUIDED,
        "password",
        (("username", _USERS),),
        name="{p}",
        alone="value",
        review=_WHO,
    ),
    _Rule(
        rf"(?:.+_)?(?:{_MADE_HERE})_(?:.+_)?(?:SECRET|TOKEN|KEY)",
        SecretKind.GENERATED,
        review=_WHO,
    ),
)


@dataclass(slots=True)
class _Pool:
    """The variables that no secret has yet."""

    free: dict[str, EnvEntry]
    found: list[Recognised] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def add(
        self,
        name: str,
        kind: SecretKind,
        fields: Mapping[FieldName, EnvEntry],
        *,
        prefix: str = "",
        generate: str | None = None,
        review: tuple[str, ...] = (),
    ) -> None:
        unique = _unique(_slug(name), self.names)
        self.names.add(unique)
        for entry in fields.values():
            del self.free[entry.name]
        recognised = Recognised(SecretName(unique), kind, fields, prefix, generate, review)
        self.found.append(recognised)


def recognise(
    entries: Mapping[str, EnvEntry], text_of: Callable[[EnvEntry], str], *, real: bool = False
) -> tuple[tuple[Recognised, ...], tuple[EnvEntry, ...]]:
    """
    Return the secrets among *entries*, and the entries that are plain settings.

    Args:
        entries: By name; each variable once.
        text_of: Gives an entry's value, for the few guesses that need a look at it.
        real: The values are real, so that what is not clearly a plain setting is a secret.
    """
    pool = _Pool(dict(entries))
    for rule in _RULES:
        pattern = re.compile(rule.pattern)
        for name in tuple(pool.free):
            match = pattern.fullmatch(name.upper())
            if match is not None and name in pool.free and not _is_plain(pool.free[name], text_of):
                _apply(rule, match, pool, text_of)
    for entry in tuple(pool.free.values()):
        _by_look(entry, pool, text_of)
    if real:
        for entry in tuple(pool.free.values()):
            if not is_harmless(entry.name, text_of(entry)):
                value = {FieldName("value"): entry}
                pool.add(entry.name, SecretKind.GUIDED, value, review=(_DOUBT,))
    return in_order(pool.found), tuple(pool.free.values())


def alone(entry: EnvEntry, why: str) -> Recognised:
    """Return *entry* as a secret of its own that a person brings; *why* is to be looked at."""
    return Recognised(
        SecretName(_slug(entry.name)),
        SecretKind.GUIDED,
        {FieldName("value"): entry},
        review=(why,),
    )


def in_order(found: Iterable[Recognised]) -> tuple[Recognised, ...]:
    """Return *found* as their variables stand in the file, each under a name of its own."""
    names: set[str] = set()
    ordered = []
    for one in sorted(found, key=lambda one: min(e.line for e in one.fields.values())):
        name = _unique(str(one.name), names)
        names.add(name)
        ordered.append(replace(one, name=SecretName(name)))
    return tuple(ordered)


def _apply(
    rule: _Rule, match: re.Match[str], pool: _Pool, text_of: Callable[[EnvEntry], str]
) -> None:
    groups = {key: value or "" for key, value in match.groupdict().items()}
    groups = {"p": "", "s": ""} | groups
    by_upper = {name.upper(): entry for name, entry in reversed(pool.free.items())}
    entry = by_upper[match[0]]
    fields: dict[FieldName, EnvEntry] = {}
    for sibling, templates in rule.siblings:
        for template in templates:
            other = by_upper.get(template.format(**groups))
            if other is not None and other is not entry:
                fields[FieldName(sibling)] = other
                break
    if rule.paired and not fields:
        return
    name, kind = rule.name.format(**groups) if rule.name else _stem(match[0]), rule.kind
    review = [rule.review] if rule.review else []
    own = rule.field
    if not fields and rule.alone is not None:
        own, name = rule.alone, match[0]
    fields[FieldName(own)] = entry
    if kind is SecretKind.POSTGRES_LOGIN and _is_other_database(groups["p"], pool, text_of):
        kind = SecretKind.GUIDED
        review = ["its database is not PostgreSQL, which is all that Keyturn rotates yet"]
    needed = [FieldName(name) for name, _ in rule.siblings if name in kind_spec(kind).fields]
    lacking = [name for name in needed if name not in fields]
    if lacking and kind not in {SecretKind.REDIS_LOGIN, SecretKind.GUIDED, SecretKind.GENERATED}:
        review.append(f"no variable for its `{lacking[0]}` was found")
    generate = rule.generate
    if kind is SecretKind.JWT_SIGNING_KEY:
        form = "pem-base64" if groups["s"] in {"_B64", "_BASE64"} else "pem"
        generate = f'{{ format = "{form}", bits = 3072 }}'
    random = kind_spec(kind).making is Making.RANDOM
    alone = kind is SecretKind.JWT_SIGNING_KEY and bool(lacking)
    if (random or alone) and _PRIVATE_KEY.search(text_of(entry)):
        kind, generate = SecretKind.GUIDED, None
        review = [_KEY_TEXT]
    ordered = _ordered(fields, rule)
    pool.add(name, kind, ordered, prefix=groups["p"], generate=generate, review=tuple(review))


def _ordered(fields: Mapping[FieldName, EnvEntry], rule: _Rule) -> dict[FieldName, EnvEntry]:
    """Return *fields* with what names before what proves; a key stands before what goes with it."""
    names = list(fields)
    if rule.field in {"private_key", "value"}:
        names.reverse()
    return {name: fields[name] for name in names}


def _by_look(entry: EnvEntry, pool: _Pool, text_of: Callable[[EnvEntry], str]) -> None:
    text = text_of(entry)
    if _is_plain(entry, text_of):
        return
    value = {FieldName("value"): entry}
    doubtful = doubt(entry.name, text)
    if _PRIVATE_KEY.search(text):
        pool.add(entry.name, SecretKind.GUIDED, value, review=(_KEY_TEXT,))
    elif _USER_INFO.search(text):
        pool.add(entry.name, SecretKind.GUIDED, value, review=(_ADDRESS,))
    elif doubtful is not None:
        kind, why = doubtful
        pool.add(entry.name, kind, value, review=(why,))
    elif says_secret(entry.name):
        pool.add(entry.name, SecretKind.GUIDED, value, review=(_WHO,))
    elif looks_like_secret(entry.name, text) is not None:
        review = "its name says nothing, but its value looks like a secret"
        pool.add(entry.name, SecretKind.GUIDED, value, review=(review,))


def _is_plain(entry: EnvEntry, text_of: Callable[[EnvEntry], str]) -> bool:
    """Tell whether the entry only switches something on, or only says where a file is."""
    text = text_of(entry)
    return _is_switch(entry, text_of) or (is_absolute_path(text) and not says_password(entry.name))


def _is_switch(entry: EnvEntry, text_of: Callable[[EnvEntry], str]) -> bool:
    """Tell whether the entry only turns something on: `REQUIRE_PASSWORD=true`."""
    return _SWITCH.fullmatch(text_of(entry)) is not None


def _is_other_database(prefix: str, pool: _Pool, text_of: Callable[[EnvEntry], str]) -> bool:
    for name, entry in pool.free.items():
        upper = name.upper()
        if not upper.startswith(prefix):
            continue
        tail = upper[len(prefix) :]
        if tail in {"CONNECTION", "DRIVER", "ENGINE", "DIALECT", "TYPE", "CLIENT"}:
            if _OTHER_DATABASE.search(text_of(entry)):
                return True
        elif tail == "PORT" and text_of(entry) == _MYSQL_PORT:
            return True
    return False


def _stem(name: str) -> str:
    """Return *name* without the word that says that it is secret, where anything is left."""
    stem = re.sub(r"_(?:SECRET|KEY|TOKEN)(?:_KEY|_BASE)?$", "", name)
    return stem if stem not in {"SECRET", "APP"} else name


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_MAX_NAME].rstrip("-")
    if slug == "pg":
        return "postgres"
    return slug if slug[:1].isalpha() else f"secret-{slug}".rstrip("-")


def _unique(slug: str, taken: set[str]) -> str:
    number = 1
    name = slug
    while name in taken:
        number += 1
        name = f"{slug}-{number}"
    return name
