"""What the manifest says of the programs that are given secrets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from keyturn.core.ids import ConsumerName, SecretName

__all__ = [
    "CommandReload",
    "ComposeReload",
    "Consumer",
    "Health",
    "HttpReload",
    "KubernetesReload",
    "Reload",
    "Render",
    "RenderFormat",
    "SignalReload",
    "SwarmReload",
    "SystemdAction",
    "SystemdReload",
    "Workload",
]


class RenderFormat(StrEnum):
    """How a rendered file is written; `files` is a folder with one file a field."""

    DOTENV = "dotenv"
    JSON = "json"
    SHELL = "shell"
    FILES = "files"


@dataclass(frozen=True, slots=True)
class Render:
    """
    A file kept current for a consumer.

    Args:
        path: Relative to the project folder, without `..`.
        mode: Permission bits; never any for others.
        owner: `name`, `name:group` or numbers; None leaves it to whoever renders.
    """

    path: str
    format: RenderFormat = RenderFormat.DOTENV
    mode: int = 0o600
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class SignalReload:
    """Send *signal* (`HUP`, without `SIG`) to the process whose id stands in *pid_file*."""

    signal: str
    pid_file: str


@dataclass(frozen=True, slots=True)
class CommandReload:
    """Run *command*, without a shell."""

    command: tuple[str, ...]


class SystemdAction(StrEnum):
    """What is asked of a systemd unit."""

    RELOAD = "reload"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class SystemdReload:
    """Reload or restart a systemd *unit*."""

    unit: str
    action: SystemdAction = SystemdAction.RELOAD


@dataclass(frozen=True, slots=True)
class ComposeReload:
    """Restart a *service* of a compose *file* (None: the one that compose finds itself)."""

    service: str
    file: str | None = None


@dataclass(frozen=True, slots=True)
class HttpReload:
    """Send an empty POST to *url*."""

    url: str


class Workload(StrEnum):
    """What has pods that Kubernetes replaces one after the other."""

    DEPLOYMENT = "deployment"
    STATEFULSET = "statefulset"
    DAEMONSET = "daemonset"


@dataclass(frozen=True, slots=True)
class KubernetesReload:
    """
    Restart the pods of a workload, and wait until the new ones are ready.

    What is None is that of the environment's store, where that is Kubernetes too.

    Args:
        context: Of the kubeconfig.
        kubeconfig: Where it is not the usual one.
    """

    workload: Workload
    name: str
    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None


@dataclass(frozen=True, slots=True)
class SwarmReload:
    """Bring *services* to the secrets of the swarm that the environment's store keeps current."""

    services: tuple[str, ...]


Reload = (
    SignalReload
    | CommandReload
    | SystemdReload
    | ComposeReload
    | HttpReload
    | KubernetesReload
    | SwarmReload
)


@dataclass(frozen=True, slots=True)
class Health:
    """
    How a consumer shows that it is well.

    Args:
        versions: Dotted key of the JSON answer that maps secrets to version numbers.
        timeout: How long it may take to become healthy after a reload.
    """

    url: str
    versions: str | None = None
    timeout: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Consumer:
    """
    A program that is given secrets.

    Args:
        secrets: In the manifest's order. A `"*"` stands for every secret that does
            not administer another one.
        config: It is given the plain settings too.
    """

    name: ConsumerName
    secrets: tuple[SecretName, ...]
    config: bool = True
    render: Render | None = None
    reload: Reload | None = None
    health: Health | None = None
