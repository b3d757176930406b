"""
Vault or OpenBao as a store: the KV engine of version 2.

Applications read what they always did, and find only what is current there:

    secret/clipper/production            a field for each field of each secret, or
    secret/clipper/production/db         a path for each secret, a field for each of its fields

Fields of others in the same document stay. Beside it, below a path of Keyturn's own
which no application needs to read:

    secret/keyturn/clipper/production/ledger            which versions and stages there are
    secret/keyturn/clipper/production/versions/KEY      the values of one version, written once

Every write names the version of the document that was read (check-and-set). How many
versions of a document Vault keeps does not matter here. What is destroyed is removed
from the live document's own older versions too.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, is_name
from keyturn.core.model import SecretRef, VersionedValue
from keyturn.core.ports import StoreCapabilities
from keyturn.errors import Rejected
from keyturn.manifest import LiveKeys
from keyturn.stores._context import StoreContext
from keyturn.stores._place import Place, plain_key
from keyturn.stores._vault_api import Cluster
from keyturn.stores._vault_kv import Kv
from keyturn.stores._vault_login import Surroundings
from keyturn.stores._vault_place import LiveKey, VaultPlace
from keyturn.stores._vault_recheck import recheck_rows
from keyturn.stores._vault_session import Session
from keyturn.stores._vault_settings import AuthMethod, VaultAuth, VaultSettings, VaultShape
from keyturn.stores.outside import OutsideStore

__all__ = [
    "AuthMethod",
    "Surroundings",
    "VaultAuth",
    "VaultLayout",
    "VaultSettings",
    "VaultShape",
    "build",
    "policy",
]

# An entry of Vault's own storage holds 1 MiB, in which base64 takes four thirds.
_MAX_VALUE_BYTES = 512 * 1024
_CAPABILITIES: Final = StoreCapabilities(
    atomic_promote=True,
    compare_and_set=True,
    history=True,
    transactional=False,
    max_value_bytes=_MAX_VALUE_BYTES,
)


def build(context: StoreContext) -> OutsideStore:
    """
    Return the store that *context* describes.

    Raises:
        UsageError: The manifest's description of it cannot be used.
    """
    settings = _settings(context)
    around = Surroundings(context.ask, os.environ, Path.home())
    by_variable = context.settings.keys is LiveKeys.VARIABLES
    layout = VaultLayout(
        settings,
        project=context.project,
        clock=context.clock,
        entropy=context.entropy,
        around=around,
        live_key=context.live_key if by_variable else None,
    )
    return OutsideStore(layout, clock=context.clock, entropy=context.entropy)


def policy(settings: VaultSettings, project: str, environments: Iterable[EnvironmentName]) -> str:
    """Return the text of the policy that Keyturn's token needs, beside `default`."""
    lines = []
    for environment in environments:
        live, aside = _paths(settings, project, environment)
        if settings.shape is VaultShape.SECRET:
            lines.append(_line(settings.mount, "metadata", f"{aside}/", "list"))
            live, aside = f"{live}/+", f"{aside}/+"
        lines += [
            _line(settings.mount, "data", live, "create", "read", "update"),
            _line(settings.mount, "data", f"{aside}/ledger", "create", "read", "update"),
            _line(settings.mount, "data", f"{aside}/versions/*", "create", "read", "update"),
            # These four are for what is destroyed, and for what a lost race leaves behind.
            _line(settings.mount, "metadata", f"{aside}/versions/", "list"),
            _line(settings.mount, "metadata", f"{aside}/versions/*", "delete"),
            _line(settings.mount, "metadata", live, "read"),
            _line(settings.mount, "destroy", live, "update"),
        ]
    return "".join(f"{line}\n" for line in lines)


class VaultLayout:
    """
    Implements `Layout`.

    It may be used by several threads at once: they share connections and login.

    Args:
        around: What logging in may need.
        live_key: The key of a field in the live document; the usual one where None.

    Raises:
        UsageError: An address or a file of *settings* cannot be used.
    """

    def __init__(
        self,
        settings: VaultSettings,
        *,
        project: str,
        clock: Clock,
        entropy: Entropy,
        around: Surroundings,
        live_key: LiveKey | None = None,
    ) -> None:
        self._settings = settings
        self._project = project
        self._live_key = live_key or _usual_key(settings.shape)
        self._cluster = Cluster(settings, clock=clock, entropy=entropy)
        self._session = Session(settings.auth, self._cluster, clock=clock, around=around)
        self._kv = Kv(self._session, settings.mount)

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store guarantees."""
        return _CAPABILITIES

    @property
    def history_limit(self) -> int | None:
        """How many versions that no stage points at keep their values."""
        return self._settings.history_limit

    @property
    def where(self) -> str:
        """Where it is, for messages."""
        # A message that names it names the environment too.
        path = self._settings.path.replace("{project}", self._project).partition("{environment}")[0]
        return f"{self._settings.mount}/{path}".rstrip("/") + f" on {self._cluster.where}"

    def place(self, ref: SecretRef) -> Place:
        """
        Return the place that holds *ref*.

        Raises:
            Rejected: Its names would lead elsewhere.
        """
        if not is_name(ref.environment) or not is_name(ref.name):
            raise Rejected("the secret or environment has a name that stores cannot take")
        return self._place(ref.environment, ref.name)

    def places(
        self, environment: EnvironmentName, names: Iterable[SecretName] | None
    ) -> Iterable[Place]:
        """Return the places that hold *names*, or all that are there; each one once."""
        if self._settings.shape is VaultShape.ENVIRONMENT:
            return [self._place(environment, None)]
        if names is None:
            _, aside = _paths(self._settings, self._project, environment)
            names = [SecretName(name) for name in self._kv.names(aside) if is_name(name)]
        return [self.place(SecretRef(environment, name)) for name in sorted(set(names))]

    def recheck(
        self,
        environment: EnvironmentName,
        declared: Mapping[SecretName, Collection[FieldName]],
        given: Mapping[SecretName, VersionedValue],
    ) -> Sequence[Sequence[str]]:
        """Return how one request tells that *given* is still live; with many paths none can."""
        if self._settings.shape is VaultShape.SECRET:
            return ()
        live, _ = _paths(self._settings, self._project, environment)
        return recheck_rows(
            self._settings,
            self._place(environment, None),
            self._kv.data_path(live),
            declared,
            given,
            serving=self._cluster.serving(),
        )

    def _place(self, environment: EnvironmentName, name: SecretName | None) -> VaultPlace:
        live, aside = _paths(self._settings, self._project, environment)
        if self._settings.shape is VaultShape.SECRET:
            live, aside = f"{live}/{name}", f"{aside}/{name}"
        return VaultPlace(self._kv, live, aside, environment, self._live_key)

    def close(self) -> None:
        """End the token that a login made, and let connections go."""
        self._session.close()
        self._cluster.close()


def _usual_key(shape: VaultShape) -> LiveKey:
    if shape is VaultShape.SECRET:
        return lambda _environment, _name, part: part
    return lambda _environment, name, part: plain_key(name, part)


def _paths(settings: VaultSettings, project: str, environment: EnvironmentName) -> tuple[str, str]:
    """Return the paths of what is live in *environment*, and of what is kept aside."""
    path = settings.path.replace("{project}", project).replace("{environment}", environment)
    return path, f"{settings.aside}/{path}"


def _line(mount: str, kind: str, path: str, *capabilities: str) -> str:
    listed = ", ".join(f'"{name}"' for name in capabilities)
    return f'path "{mount}/{kind}/{path}" {{ capabilities = [{listed}] }}'


# --- the manifest ---------------------------------------------------------------------------


def _settings(context: StoreContext) -> VaultSettings:
    address = context.settings.options.get("address")
    usual = VaultSettings(("https://127.0.0.1",))
    ca_file = context.text("ca_file")
    return VaultSettings(
        addresses=tuple(map(str, address)) if isinstance(address, list) else (str(address),),
        mount=(context.text("mount") or usual.mount).strip("/"),
        path=(context.text("path") or usual.path).strip("/"),
        shape=VaultShape(context.text("layout") or usual.shape),
        namespace=context.text("namespace"),
        ca_file=None if ca_file is None else str(_file(context, ca_file)),
        auth=_auth(context),
    )


def _auth(context: StoreContext) -> VaultAuth:
    found = context.settings.options.get("auth")
    table: Mapping[str, object] = found if isinstance(found, Mapping) else {}

    def text(key: str) -> str | None:
        value = table.get(key)
        return value if isinstance(value, str) else None

    def file(key: str) -> Path | None:
        value = text(key)
        return None if value is None else _file(context, value)

    return VaultAuth(
        method=AuthMethod(text("method") or AuthMethod.TOKEN),
        mount=text("mount"),
        role=text("role"),
        role_id=text("role_id"),
        secret_id_file=file("secret_id_file"),
        wrapped=table.get("wrapped") is True,
        token_file=file("token_file"),
        token_variable=text("token_variable") or VaultAuth().token_variable,
        jwt_file=file("jwt_file"),
        username=text("username"),
    )


def _file(context: StoreContext, path: str) -> Path:
    return context.folder / Path(path).expanduser()
