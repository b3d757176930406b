"""
Kubernetes as a store: Secrets of type `Opaque`, as pods use them.

Usually one for each environment, with a key for each field: `clipper-secrets` with
`db-password`. What is pending, previous and older lies in a second Secret beside it,
`clipper-secrets-keyturn`, so that a pod that takes all keys of the first one gets what
is current and nothing else. A Secret takes any bytes: nothing is coded another way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, final

from keyturn._internal.kubernetes import KubernetesApi, object_path
from keyturn._internal.kubernetes_login import ClusterLogin
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import SecretRef
from keyturn.core.ports import StoreCapabilities
from keyturn.errors import Rejected, UsageError
from keyturn.manifest import LiveKeys
from keyturn.stores._context import StoreContext
from keyturn.stores._kubernetes_config import cluster_login
from keyturn.stores._kubernetes_place import (
    ASIDE_ENDING,
    ENVIRONMENT_NOTE,
    LABELS,
    SECRET_NOTE,
    KubernetesPlace,
    SecretNames,
)
from keyturn.stores._place import Place, plain_key
from keyturn.stores.outside import OutsideStore

__all__ = ["KubernetesLayout", "KubernetesSettings", "build", "cluster_login"]

# So many old versions and three that stages point at, of the largest size and as they
# are kept, still fit into one Secret.
_MAX_VALUE_BYTES: Final = 64 * 1024
_HISTORY: Final = 8
_CAPABILITIES: Final = StoreCapabilities(
    atomic_promote=True,
    compare_and_set=True,
    history=True,
    transactional=False,
    max_value_bytes=_MAX_VALUE_BYTES,
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_MAX_NAME = 253 - len(ASIDE_ENDING)

# (environment, secret, field) -> the key in the live Secret.
LiveKey = Callable[[EnvironmentName, SecretName, FieldName], str]


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """
    Where the Secrets are; `{project}`, `{environment}` and `{secret}` are filled in.

    Args:
        namespace: The login's own where None.
        name: Of the Secret; `{project}-secrets`, or `{project}-{secret}` with
            *per_secret*, where None.
        per_secret: A Secret for each secret, with a key for each of its fields.
        take_over: Write keys that another field manager writes as well.
    """

    namespace: str | None = None
    name: str | None = None
    per_secret: bool = False
    take_over: bool = False
    history_limit: int | None = _HISTORY


def _shared_key(_: EnvironmentName, name: SecretName, field: FieldName) -> str:
    return plain_key(name, field).replace("_", "-")


def _own_key(_: EnvironmentName, __: SecretName, field: FieldName) -> str:
    return field.replace("_", "-")


@final
class KubernetesLayout:
    """
    Implements `Layout`; one for each thread.

    Args:
        key: What a field is called in the live Secret; where None, `db-password`, and
            `password` in a Secret of its own.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        login: ClusterLogin,
        *,
        project: str,
        clock: Clock,
        entropy: Entropy,
        key: LiveKey | None = None,
    ) -> None:
        self._settings = settings
        self._project = project
        self._key = key or (_own_key if settings.per_secret else _shared_key)
        usual = "{project}-{secret}" if settings.per_secret else "{project}-secrets"
        self._name = settings.name or usual
        if settings.per_secret and "{secret}" not in self._name:
            raise UsageError(
                "the name of the Secrets is the same for each secret",
                hint="put `{secret}` into `name`, or leave `name` out",
                code="store.name",
            )
        self._api = KubernetesApi(login, clock=clock, entropy=entropy)

    @property
    def api(self) -> KubernetesApi:
        """The cluster, as whom the store is logged in; it ends with the store."""
        return self._api

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
        return f"Kubernetes at {self._api.where}"

    def place(self, ref: SecretRef) -> Place:
        """
        Return the place that holds *ref*.

        Raises:
            Rejected: Kubernetes takes no Secret of that name.
        """
        secret = ref.name if self._settings.per_secret else None
        return self._place(ref.environment, secret)

    def places(
        self, environment: EnvironmentName, names: Iterable[SecretName] | None
    ) -> Iterable[Place]:
        """
        Return the places that hold *names*, or all that are there.

        Raises:
            Unavailable: No answer.
            AccessDenied: We may not list them.
        """
        if not self._settings.per_secret:
            return [self._place(environment, None)]
        wanted = self._recorded(environment) if names is None else names
        return [self._place(environment, name) for name in wanted]

    def advice(self, environment: EnvironmentName) -> list[str]:
        """
        Return in words what a person should know of this cluster, the most urgent first.

        Raises:
            Unavailable: No answer.
        """
        namespace = self.namespace(environment)
        said = []
        if self._api.may("*", "*"):
            said.append(
                "keyturn's login may do everything in the cluster: bind it to a Role that has get,"
                f" create and patch of secrets in the namespace `{namespace}`"
            )
        elif self._api.may("list", "secrets"):
            said.append(
                "keyturn's login may read the Secrets of every namespace: bind it to a Role of the"
                f" namespace `{namespace}` instead of a ClusterRole"
            )
        said.append(
            "whether the cluster encrypts Secrets where it stores them cannot be asked of it: see"
            " that its API server has an EncryptionConfiguration with a provider other than"
            " `identity` first"
        )
        return said

    def close(self) -> None:
        """Let the connection go."""
        self._api.close()

    def _place(self, environment: EnvironmentName, secret: SecretName | None) -> KubernetesPlace:
        live = self._filled(self._name, environment).replace("{secret}", secret or "")
        if secret is not None and secret.endswith(ASIDE_ENDING):
            raise Rejected(
                f"`{secret}` ends like what Keyturn keeps beside a secret",
                hint=f"give it a name without `{ASIDE_ENDING}`",
                code="store.name",
            )
        if len(live) > _MAX_NAME or not _NAME.fullmatch(live):
            raise Rejected(
                f"`{live[:80]}` cannot be the name of a Secret",
                hint="give the secret or the store another name: lower-case letters, digits, and"
                " `-` between them",
                code="store.name",
            )
        names = SecretNames(environment, secret, self.namespace(environment), live)

        def key(name: SecretName, field: FieldName) -> str:
            return self._key(environment, name, field)

        return KubernetesPlace(self._api, names, key=key, take_over=self._settings.take_over)

    def _recorded(self, environment: EnvironmentName) -> list[SecretName]:
        label = ",".join(f"{name}={value}" for name, value in LABELS)
        found = self._api.list_metadata(
            object_path("secrets", self.namespace(environment)),
            selector=label,
            about=f"Secrets in the namespace `{self.namespace(environment)}`",
        )
        names = set()
        for metadata in found:
            notes = metadata.get("annotations")
            if isinstance(notes, dict) and notes.get(ENVIRONMENT_NOTE) == environment:
                secret = notes.get(SECRET_NOTE)
                names |= {SecretName(secret)} if isinstance(secret, str) else set()
        return sorted(names)

    def namespace(self, environment: EnvironmentName) -> str:
        """
        Return the namespace of *environment*.

        Raises:
            Rejected: Its name cannot be one.
        """
        pattern = self._settings.namespace or self._api.namespace or "default"
        found = self._filled(pattern, environment)
        if not _NAMESPACE.fullmatch(found):
            raise Rejected(
                f"`{found[:80]}` cannot be a namespace",
                hint="check the store's `namespace`",
                code="store.name",
            )
        return found

    def _filled(self, pattern: str, environment: EnvironmentName) -> str:
        return pattern.replace("{project}", self._project).replace("{environment}", environment)


def build(context: StoreContext) -> OutsideStore:
    """
    Return the store that *context* describes; it is not asked anything yet.

    Raises:
        UsageError: There is no login, or it cannot be used.
    """
    login = cluster_login(
        file=context.text("kubeconfig"), context=context.text("context"), folder=context.folder
    )
    settings = KubernetesSettings(
        namespace=context.text("namespace"),
        name=context.text("name"),
        per_secret=context.text("layout") == "secret",
        take_over=context.settings.options.get("take_over") is True,
    )

    layout = KubernetesLayout(
        settings,
        login,
        project=context.project,
        clock=context.clock,
        entropy=context.entropy,
        # For pods that take all keys as their environment.
        key=context.live_key if context.settings.keys is LiveKeys.VARIABLES else None,
    )
    return OutsideStore(layout, clock=context.clock, entropy=context.entropy)
