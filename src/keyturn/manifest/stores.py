"""What the manifest says of each kind of store: every key, and which kind has which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from keyturn.core.ids import StoreName
from keyturn.manifest import _read
from keyturn.manifest._faults import Faults, nearest
from keyturn.manifest._lines import Path
from keyturn.manifest.durations import DURATION_PATTERN, parse_duration
from keyturn.manifest.shapes import Choice, Flag, Key, ListOf, MapOf, Number, Table, Text

__all__ = ["LiveKeys", "StoreKind", "StoreSettings", "build_store", "store_table"]

_CACHE = "1m"


class StoreKind(StrEnum):
    """The stores that this release can use."""

    EMBEDDED = "embedded"
    VAULT = "vault"
    AWS = "aws"
    KUBERNETES = "kubernetes"
    SWARM = "swarm"
    COMPOSE = "compose"
    DOTENV = "dotenv"
    SOPS = "sops"
    EXTERNAL = "external"


class LiveKeys(StrEnum):
    """What a field is called where applications read it."""

    NAMES = "names"
    VARIABLES = "variables"


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """
    Where the versions of an environment live.

    Args:
        options: What else the manifest says of it, by the keys of its kind.
        keys: What its fields are called.
        cache: How long a sealed bundle of its values is good without asking it.
    """

    name: StoreName
    kind: StoreKind
    options: Mapping[str, object] = field(default_factory=dict)
    keys: LiveKeys = LiveKeys.NAMES
    cache: timedelta = timedelta(minutes=1)

    @property
    def is_outside(self) -> bool:
        """Whether it is somebody else's, which others write to as well."""
        return self.kind is not StoreKind.EMBEDDED


@dataclass(frozen=True, slots=True)
class _Spec:
    """
    One kind: its keys, those it must have, and what `layout` may be.

    Args:
        variables: Its fields are called by their variables, unless `keys` says otherwise.
    """

    keys: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    variables: bool = False


_SPECS: Mapping[StoreKind, _Spec] = MappingProxyType(
    {
        StoreKind.EMBEDDED: _Spec(),
        StoreKind.VAULT: _Spec(
            ("address", "mount", "path", "layout", "namespace", "ca_file", "auth"),
            ("address",),
            ("environment", "secret"),
        ),
        StoreKind.AWS: _Spec(
            ("region", "endpoint_url", "profile", "path", "layout", "kms_key", "recovery_days"),
            (),
            ("string", "json"),
        ),
        StoreKind.KUBERNETES: _Spec(
            ("namespace", "name", "layout", "context", "kubeconfig", "take_over"),
            (),
            ("environment", "secret"),
        ),
        StoreKind.SWARM: _Spec(("host", "prefix", "tls_folder")),
        StoreKind.COMPOSE: _Spec(("folder", "uid", "gid"), ("folder",)),
        StoreKind.DOTENV: _Spec(("path",), variables=True),
        StoreKind.SOPS: _Spec(
            ("path", "recipients", "identity_file"), ("recipients",), variables=True
        ),
        StoreKind.EXTERNAL: _Spec(("plugin", "options"), ("plugin",)),
    }
)

_URL = Text("an address such as `https://vault.example.com:8200`", r"https?://[^\x00-\x20\x7f]+")
_LINE = Text("one line of text", r"[^\x00-\x1f\x7f]+", max_length=1_024)
_WORD = Text("a name without blanks", r"[^\x00-\x20\x7f]+", max_length=256)
_FILE = Text("a path", r"[^\x00-\x1f\x7f]+", max_length=1_024)
_VARIABLE = Text("a variable name such as `VAULT_TOKEN`", r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DURATION = Text('a duration such as "1m" (s, m, h, d or w)', DURATION_PATTERN)
_ID = Number(0, 2**31 - 1)
_OPTION = Choice((_LINE, Number(-(2**63), 2**63 - 1), Flag()), "a text, a number or `true`/`false`")

_AUTH = Table(
    (
        Key(
            "method",
            Text("a method", choices=("token", "approle", "kubernetes", "jwt", "userpass")),
            "How Keyturn logs in.",
            required=True,
        ),
        Key("mount", _LINE, "Where the method is mounted, where it is not its own name."),
        Key("role", _WORD, "The role to log in as."),
        Key("role_id", _WORD, "The AppRole's role-id; it is no secret."),
        Key("secret_id_file", _FILE, "The file with the AppRole's secret-id."),
        Key("wrapped", Flag(), "The secret-id's file holds a wrapping token.", default=False),
        Key("token_file", _FILE, "The file with the token; `~/.vault-token` if left out."),
        Key("token_variable", _VARIABLE, "The variable with the token.", default="VAULT_TOKEN"),
        Key("jwt_file", _FILE, "The file with the JSON Web Token."),
        Key("username", _WORD, "The user who is asked for the password."),
    ),
    "`auth`",
)

_KEYS = (
    Key("kind", Text("a kind of store", choices=tuple(StoreKind)), "What it is.", required=True),
    Key(
        "keys",
        Text("what fields are called", choices=tuple(LiveKeys)),
        "Whether applications find `db_password` there or `DB_PASSWORD`.",
    ),
    Key("cache", _DURATION, "How long `run` goes without asking it again.", default=_CACHE),
    Key(
        "address",
        Choice((_URL, ListOf(_URL, "a list of addresses", low=1, high=10)), "an address"),
        "The server, or several that are tried in turn.",
    ),
    Key("mount", _LINE, "Where the KV engine of version 2 is mounted.", default="secret"),
    Key("path", _LINE, "Where things lie; `{project}` and `{environment}` are filled in."),
    Key("layout", _WORD, "How things lie; the kind's usual way if left out."),
    Key("namespace", _LINE, "The namespace."),
    Key("ca_file", _FILE, "File with the certificates that are trusted."),
    Key("auth", _AUTH, "How Keyturn logs in; with a token if left out."),
    Key("region", _WORD, "The region."),
    Key("endpoint_url", _URL, "An endpoint other than the vendor's own."),
    Key("profile", _WORD, "The profile of the AWS configuration."),
    Key("kms_key", _WORD, "The KMS key that new secrets are encrypted with."),
    Key("recovery_days", Number(7, 30), "How long a deleted secret can be had back.", default=30),
    Key("name", _LINE, "The object's name; `{project}` and `{environment}` are filled in."),
    Key("context", _LINE, "The context of the kubeconfig."),
    Key("kubeconfig", _FILE, "The kubeconfig, where it is not the usual one."),
    Key("take_over", Flag(), "Write keys that another manager owns.", default=False),
    Key("tls_folder", _FILE, "The folder with the client's certificate and key."),
    Key("host", _LINE, "The Docker engine's address, where it is not the usual one."),
    Key("prefix", _WORD, "What the names of its secrets begin with."),
    Key("folder", _FILE, "The folder that the containers' files are written to."),
    Key("uid", _ID, "The user id that the container reads them as."),
    Key("gid", _ID, "The group id that the container reads them as."),
    Key(
        "recipients",
        ListOf(_WORD, "a list of age recipients", low=1, high=100),
        "Who can open the file, as `age1...`.",
    ),
    Key("identity_file", _FILE, "The age identity that opens the file."),
    Key("plugin", _WORD, "The entry point of the plug-in."),
    Key(
        "options",
        MapOf(_WORD, _OPTION, "a table of options"),
        "What the plug-in asks for; it holds no value of a secret.",
    ),
)
_EVERY_KIND = ("kind", "cache", "keys")


def store_table() -> Table:
    """Return the description of a store, with the keys of every kind."""
    return Table(_KEYS, "a store")


def build_store(name: str, table: Mapping[str, object], faults: Faults) -> StoreSettings | None:
    """Return the store *name*; None where its kind is not known, which was told already."""
    text = _read.text(table, "kind")
    if text is None:
        return None
    kind = StoreKind(text)
    spec, path = _SPECS[kind], ("stores", name)
    options = _options(kind, spec, table, path, faults)
    usual = LiveKeys.VARIABLES if spec.variables else LiveKeys.NAMES
    cache = parse_duration(_read.text(table, "cache") or _CACHE)
    if cache is None:
        faults.add((*path, "cache"), "is longer than ten years", "write a shorter one")
    return StoreSettings(
        StoreName(name),
        kind,
        MappingProxyType(options),
        keys=LiveKeys(_read.text(table, "keys") or usual),
        cache=timedelta(minutes=1) if cache is None else cache,
    )


def _options(
    kind: StoreKind, spec: _Spec, table: Mapping[str, object], path: Path, faults: Faults
) -> dict[str, object]:
    for name in sorted(table.keys() - set(spec.keys) - set(_EVERY_KIND)):
        listed = ", ".join(f"`{key}`" for key in spec.keys) or "none but `kind`"
        faults.add(
            (*path, name),
            f"a store of kind `{kind}` has no such key",
            nearest(name, spec.keys, otherwise=f"remove it; there are {listed}"),
        )
    # A faulty one was told already, and counts as said.
    told = {fault.path[:3] for fault in faults.errors}
    for name in spec.required:
        if name not in table and (*path, name) not in told:
            faults.add(path, f"a store of kind `{kind}` needs `{name}`", f"add `{name}`")
    layout = _read.text(table, "layout")
    if layout is not None and spec.layouts and layout not in spec.layouts:
        listed = ", ".join(f"`{word}`" for word in spec.layouts)
        fix = nearest(layout, spec.layouts, otherwise=f"write one of {listed}")
        faults.add((*path, "layout"), f"`{kind}` has no such layout", fix)
    return {name: value for name, value in table.items() if name in spec.keys}
