"""What a store in Vault or OpenBao is told: where it is, how things lie, and how to log in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from keyturn.errors import UsageError

__all__ = ["AuthMethod", "VaultAuth", "VaultSettings", "VaultShape"]

_MOUNT: Final = "secret"
_PATH: Final = "{project}/{environment}"
_ASIDE: Final = "keyturn"


class VaultShape(StrEnum):
    """How values lie: one path with a field for each, or a path for each secret."""

    ENVIRONMENT = "environment"
    SECRET = "secret"  # noqa: S105 - the name of a layout


class AuthMethod(StrEnum):
    """How Keyturn logs in."""

    TOKEN = "token"  # noqa: S105 - the name of a method
    APPROLE = "approle"
    KUBERNETES = "kubernetes"
    JWT = "jwt"
    USERPASS = "userpass"


@dataclass(frozen=True, slots=True)
class VaultAuth:
    """
    How to log in. No value stands here, only where one is.

    Args:
        mount: Where the method is mounted; its own name where None.
        role: AppRole, Kubernetes, JWT: the role to log in as.
        role_id: AppRole: the role's id, which is no secret.
        secret_id_file: AppRole: the file with the secret-id.
        wrapped: *secret_id_file* holds a wrapping token. It is unwrapped at the first
            login, and the file holds the secret-id from then on.
        token_file: Token: the file with it; `~/.vault-token` where None.
        token_variable: Token: the variable with it; it goes before the usual file.
        jwt_file: JWT, Kubernetes: the file with the token; Kubernetes has a usual one.
        username: Userpass: who is asked for the password.
    """

    method: AuthMethod = AuthMethod.TOKEN
    mount: str | None = None
    role: str | None = None
    role_id: str | None = None
    secret_id_file: Path | None = None
    wrapped: bool = False
    token_file: Path | None = None
    token_variable: str = "VAULT_TOKEN"  # noqa: S105 - the name of a variable
    jwt_file: Path | None = None
    username: str | None = None

    def __post_init__(self) -> None:
        needed: Mapping[AuthMethod, tuple[str, ...]] = {
            AuthMethod.TOKEN: (),
            AuthMethod.APPROLE: ("role_id", "secret_id_file"),
            AuthMethod.KUBERNETES: ("role",),
            AuthMethod.JWT: ("jwt_file",),
            AuthMethod.USERPASS: ("username",),
        }
        for name in needed[self.method]:
            if getattr(self, name) is None:
                raise UsageError(
                    f"the login `{self.method}` of the Vault store needs `{name}`",
                    hint=f"add `{name}` to the store's `auth` in keyturn.toml",
                    code="store.auth",
                )


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """
    Where the store is and how things lie in it.

    Args:
        addresses: Tried in turn. A token goes to these and to nobody else.
        path: `{project}` and `{environment}` are filled in; it must have the latter.
        aside: Path below which Keyturn keeps its own; no application needs it.
        history_limit: How many versions that no stage points at keep their values.
        patience_seconds: How long a server that does not serve is tried again.
    """

    addresses: tuple[str, ...]
    mount: str = _MOUNT
    path: str = _PATH
    aside: str = _ASIDE
    shape: VaultShape = VaultShape.ENVIRONMENT
    namespace: str | None = None
    ca_file: str | None = None
    auth: VaultAuth = field(default_factory=VaultAuth)
    history_limit: int | None = None
    patience_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("mount", "path", "aside"):
            _check_path(name, getattr(self, name))
        if not self.addresses:
            raise _unusable("has no address", 'write address = "https://HOST:8200"')
        if "{environment}" not in self.path:
            raise _unusable(
                "has one `path` for every environment", "write `{environment}` into its `path`"
            )
        aside, path = self.aside.split("/"), self.path.split("/")
        if path[: len(aside)] == aside:
            raise _unusable(
                f"keeps values below `{self.aside}`, which is for Keyturn's own",
                "choose another `path`",
            )


def _check_path(name: str, text: str) -> None:
    parts = text.split("/")
    printable = text.isascii() and text.isprintable() and not set(text) & set(" ?#%\\*+")
    if not printable or any(part in {"", ".", ".."} for part in parts):
        raise _unusable(
            f"has a `{name}` that is no path", f'write {name} = "team/app", without / at its ends'
        )


def _unusable(why: str, hint: str) -> UsageError:
    return UsageError(f"the Vault store {why}", hint=hint, code="store.settings")
