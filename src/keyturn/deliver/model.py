"""How a consumer gets its values and is told of new ones, as this room needs to know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from keyturn.core.value import SecretValue

__all__ = [
    "CommandReload",
    "ComposeReload",
    "Format",
    "HttpReload",
    "Reload",
    "RenderTarget",
    "Rendering",
    "SignalReload",
    "SystemdReload",
]


class Format(StrEnum):
    """How variables are written into files."""

    DOTENV = "dotenv"
    JSON = "json"
    SHELL = "shell"
    FILES = "files"


# The content of one file, or for `Format.FILES` of one file a variable.
Rendering = SecretValue | Mapping[str, SecretValue]


@dataclass(frozen=True, slots=True)
class RenderTarget:
    """
    Where a consumer's values are written.

    Args:
        path: Relative to the project folder, and then inside it; or absolute.
        mode: Permission bits of each file.
        owner: `user`, `user:group` or `:group`, by name or number; None leaves it.
    """

    path: str
    format: Format
    mode: int = 0o600
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class SignalReload:
    """
    Send a signal to the process named in a file.

    Args:
        signal: With or without `SIG`.
        pid_file: Relative to the project folder, or absolute.
    """

    signal: str
    pid_file: str


@dataclass(frozen=True, slots=True)
class CommandReload:
    """Run a program, by argument list, in the project folder."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SystemdReload:
    """
    Ask systemd.

    Args:
        action: `reload` or `restart`.
    """

    unit: str
    action: str = "reload"


@dataclass(frozen=True, slots=True)
class ComposeReload:
    """
    Ask Docker Compose.

    Args:
        file: The compose file, or None for the one in the project folder.
        signal: Send this instead of making the container anew.
    """

    service: str
    file: str | None = None
    signal: str | None = None


@dataclass(frozen=True, slots=True)
class HttpReload:
    """POST to an address: https, or http on this machine."""

    url: str


Reload = SignalReload | CommandReload | SystemdReload | ComposeReload | HttpReload
