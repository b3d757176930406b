"""What the manifest says of each kind's target: every key, and which kind has which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from keyturn.core.ids import FieldName
from keyturn.manifest.durations import DURATION_PATTERN
from keyturn.manifest.kinds import SecretKind
from keyturn.manifest.shapes import Choice, Flag, Key, ListOf, MapOf, Number, Table, Text

__all__ = ["COMMAND_KEYS", "SECRET_KEYS", "TargetSpec", "target_spec", "target_table"]

# Keys that name a secret.
SECRET_KEYS = ("admin", "ca")

# Lists of arguments: no shell reads them, and `${...}` in one is its own language.
COMMAND_KEYS = ("create", "apply", "check", "withdraw", "retire", "status", "rewrap")


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """
    The target of one kind.

    Args:
        keys: What may be said of it.
        required: What must be said where the target is described at all.
        admin_fields: The secret named by `admin` must have all of one of these; empty
            where the kind has no administering secret.
        shares_admin: The administering secret is one that the application uses too.
    """

    keys: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    admin_fields: tuple[frozenset[FieldName], ...] = ()
    shares_admin: bool = False


def _fields(*names: str) -> frozenset[FieldName]:
    return frozenset(FieldName(name) for name in names)


_LOGIN = (_fields("username", "password"),)
_TOKEN = (_fields("value"),)

_SPECS: Mapping[SecretKind, TargetSpec] = MappingProxyType(
    {
        SecretKind.POSTGRES_LOGIN: TargetSpec(
            (
                "host",
                "port",
                "database",
                "sslmode",
                "sslrootcert",
                "admin",
                "owner_role",
                "logins",
            ),
            ("host", "database"),
            _LOGIN,
        ),
        SecretKind.REDIS_LOGIN: TargetSpec(
            ("host", "port", "tls", "ca_file", "admin", "commands"),
            ("host",),
            (_fields("password"),),
        ),
        SecretKind.JWT_SIGNING_KEY: TargetSpec(("algorithm", "cache", "token_lifetime")),
        SecretKind.SESSION_SECRET: TargetSpec(("keep",)),
        SecretKind.ENCRYPTION_KEY: TargetSpec(("rewrap", "timeout", "folder")),
        SecretKind.OPENAI_KEY: TargetSpec(
            ("base_url", "project", "service_account", "scopes", "admin"),
            ("project", "service_account", "admin"),
            _TOKEN,
        ),
        SecretKind.SENDGRID_KEY: TargetSpec(("base_url", "scopes", "admin"), (), _TOKEN),
        SecretKind.STRIPE_KEY: TargetSpec(("base_url", "preview", "admin"), (), _TOKEN),
        SecretKind.STRIPE_WEBHOOK_SECRET: TargetSpec(
            ("base_url", "admin", "url", "endpoint", "events"),
            ("admin",),
            _TOKEN,
            shares_admin=True,
        ),
        SecretKind.TWITCH_APP: TargetSpec(("base_url",)),
        SecretKind.VAULT_APPROLE: TargetSpec(
            ("address", "mount", "role", "namespace", "ca_file", "admin"),
            ("address", "role"),
            (_fields("value"), _fields("token"), _fields("role_id", "secret_id")),
        ),
        SecretKind.AWS_ACCESS_KEY: TargetSpec(
            ("region", "endpoint_url", "user", "admin", "inactive_wait"),
            (),
            (_fields("access_key_id", "secret_access_key"),),
        ),
        SecretKind.SSH_KEY: TargetSpec(
            (
                "host",
                "port",
                "user",
                "host_key",
                "authorized_keys",
                "admin",
                "ca",
                "revoked_keys",
                "validity",
                "algorithm",
            ),
            ("host", "user", "host_key"),
            (_fields("private_key"),),
        ),
        SecretKind.GUIDED: TargetSpec(("instructions",)),
        SecretKind.COMMAND: TargetSpec(
            (
                "create",
                "apply",
                "check",
                "withdraw",
                "retire",
                "status",
                "timeout",
                "folder",
                "admin",
            ),
            ("create", "status"),
            (frozenset(),),
        ),
        SecretKind.EXTERNAL: TargetSpec(
            ("plugin", "options", "admin"), ("plugin",), (frozenset(),)
        ),
    }
)
_NONE = TargetSpec()

_URL = Text(
    "an address such as `https://api.example.com/v1`, or `${NAME}`",
    r"https?://[^\x00-\x20\x7f]+|\$\{[A-Za-z_][A-Za-z0-9_]*\}",
)
_HOST = Text("a host name, an address, a socket folder, or `${DB_HOST}`", r"[^\x00-\x20\x7f]+")
_PATH = Text("a path", r"[^\x00-\x1f\x7f]+", max_length=1_024)
_LINE = Text("one line of text", r"[^\x00-\x1f\x7f]+", max_length=1_024)
_DURATION = Text('a duration such as "10m" (s, m, h, d or w)', DURATION_PATTERN)
_POSTGRES_NAME = Text("a PostgreSQL name of 1 to 63 characters", r"[^\x00-\x1f\x7f]+", (), 63)
_NAME = Text("the name of a secret", r"[a-z][a-z0-9-]{0,62}")
_WORD = Text("a name without blanks", r"[^\x00-\x20\x7f]+", max_length=256)
_SSLMODE = Text(
    "`disable`, `require`, `verify-full`, ..., or `${DB_SSLMODE}`",
    r"disable|allow|prefer|require|verify-ca|verify-full|\$\{[A-Za-z_][A-Za-z0-9_]*\}",
)
_PORT = Choice(
    (
        Number(1, 65_535),
        Text("a port, or `${DB_PORT}`", r"[0-9]{1,5}|\$\{[A-Za-z_][A-Za-z0-9_]*\}"),
    ),
    "a port, or `${DB_PORT}`",
)
_COMMAND = ListOf(
    Text("one argument", r"[^\x00]*", empty=True),
    "a program and its arguments",
    low=1,
    high=256,
    unique=False,
)
_OPTION = Choice((_LINE, Number(-(2**63), 2**63 - 1), Flag()), "a text, a number or `true`/`false`")

_KEYS = (
    Key("host", _HOST, "The server."),
    Key("port", _PORT, "Its port; the kind's usual one if left out."),
    Key("database", _POSTGRES_NAME, "The database to log in to."),
    Key("sslmode", _SSLMODE, "How TLS is checked."),
    Key("sslrootcert", _PATH, "File with the certificates that are trusted."),
    Key("admin", _NAME, "The secret that may administer the target."),
    Key("owner_role", _POSTGRES_NAME, "The role that both logins act for."),
    Key(
        "logins",
        ListOf(_POSTGRES_NAME, "a list of two login roles", low=2, high=2),
        "The two login roles that take turns.",
    ),
    Key("tls", Flag(), "Connect by TLS."),
    Key("ca_file", _PATH, "File with the certificates that are trusted."),
    Key(
        "commands",
        ListOf(_LINE, "a list of commands", high=100),
        'Commands that the login must be allowed, such as "GET key".',
    ),
    Key(
        "algorithm",
        Text("an algorithm", choices=("RS256", "ES256", "EdDSA", "ed25519", "rsa")),
        "How tokens are signed, or what kind of SSH key is made.",
    ),
    Key("cache", _DURATION, "How long verifiers keep the published keys."),
    Key("token_lifetime", _DURATION, "How long a signed token is valid."),
    Key("keep", Number(2, 10), "How many values the application accepts."),
    Key("rewrap", _COMMAND, "The program that re-encrypts what the old key encrypted."),
    Key("timeout", _DURATION, "How long a program may take."),
    Key("folder", _PATH, "Where programs are started."),
    Key("base_url", _URL, "The vendor's API, where it is not the usual one."),
    Key("project", _WORD, "The vendor's id of the project."),
    Key("service_account", _WORD, "The vendor's id of the service account."),
    Key("scopes", ListOf(_WORD, "a list of scopes"), "What a new key may do."),
    Key("preview", Flag(), "Use the vendor's preview API for keys."),
    Key("url", _URL, "The endpoint that the vendor calls."),
    Key("endpoint", _WORD, "The vendor's id of the endpoint."),
    Key("events", ListOf(_WORD, "a list of events", high=250), "What a first endpoint is sent."),
    Key(
        "instructions",
        ListOf(_LINE, "a list of lines", low=1, high=20),
        "What a person has to do to get a new value, a line a step.",
    ),
    Key("address", _URL, "The server's address."),
    Key("mount", _LINE, "Where the auth method is mounted."),
    Key("role", _WORD, "The role."),
    Key("namespace", _LINE, "The namespace."),
    Key("region", _WORD, "The region."),
    Key("endpoint_url", _URL, "An endpoint other than the vendor's own."),
    Key("user", _WORD, "The user that the credential belongs to."),
    Key("inactive_wait", _DURATION, "How long the old key is inactive before it is deleted."),
    Key("host_key", _LINE, "The server's public host key, as `ssh-keyscan` prints it."),
    Key("authorized_keys", _PATH, "The file with the keys that may log in."),
    Key("ca", _NAME, "The secret with the key that signs certificates."),
    Key("revoked_keys", _PATH, "The server's file of revoked keys."),
    Key("validity", _DURATION, "How long a certificate is valid."),
    *(Key(name, _COMMAND, f"The program that does `{name}`.") for name in COMMAND_KEYS[:-1]),
    Key("plugin", _WORD, "The entry point of the plug-in."),
    Key(
        "options",
        MapOf(_WORD, _OPTION, "a table of options"),
        "What the plug-in asks for; it holds no value of a secret.",
    ),
)


def target_table() -> Table:
    """Return the description of a `target`, with the keys of every kind."""
    return Table(_KEYS, "`target`")


def target_spec(kind: SecretKind) -> TargetSpec:
    """Return what the manifest may say of the target of a secret of *kind*."""
    return _SPECS.get(kind, _NONE)
