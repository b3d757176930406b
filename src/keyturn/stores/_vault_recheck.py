"""How the fast path asks Vault whether a live document still holds what was read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlsplit

from keyturn._internal.http import segment
from keyturn.core.ids import FieldName, SecretName
from keyturn.core.model import VersionedValue
from keyturn.stores._place import Place
from keyturn.stores._recheck import server_rows
from keyturn.stores._vault_login import KUBERNETES_JWT
from keyturn.stores._vault_settings import AuthMethod, VaultAuth, VaultSettings

__all__ = ["recheck_rows"]

_NONE: Sequence[Sequence[str]] = ()


def recheck_rows(
    settings: VaultSettings,
    place: Place,
    path: str,
    declared: Mapping[SecretName, Collection[FieldName]],
    given: Mapping[SecretName, VersionedValue],
    *,
    serving: tuple[str, str] | None,
) -> Sequence[Sequence[str]]:
    """
    Return the lines for the one document at *path*, below `/v1/`; none where it cannot be asked.

    Args:
        serving: As `Cluster.serving` tells it.
    """
    prefix = "" if serving is None else urlsplit(serving[0]).path
    login = _login(settings.auth, f"{prefix}/v1/auth/")
    fields = _fields(place, declared, given)
    if serving is None or login is None or fields is None:
        return _NONE
    address, index = serving
    rows = [("kind", "vault"), *server_rows(address, settings.ca_file)]
    rows.append(("path", f"{prefix}/v1/{path}"))
    if index:
        rows.append(("index", index))
    if settings.namespace is not None:
        rows.append(("namespace", settings.namespace))
    return [*rows, *login, *fields]


def _fields(
    place: Place,
    declared: Mapping[SecretName, Collection[FieldName]],
    given: Mapping[SecretName, VersionedValue],
) -> list[tuple[str, ...]] | None:
    """Return which key must hold which field, and which must not be there."""
    rows: dict[str, tuple[str, ...]] = {}
    for name, fields in declared.items():
        held = given.get(name)
        if held is not None and held.version.drifted:
            # To take it in gives it a number, of which the document says nothing.
            return None
        for field in fields:
            key = place.live_key(name, field)
            if key in rows:
                return None
            is_held = held is not None and field in held.values
            rows[key] = ("field", key, f"{name}.{field}") if is_held else ("absent", key)
    return list(rows.values())


def _login(auth: VaultAuth, prefix: str) -> list[tuple[str, ...]] | None:
    """Return how to come by a token without asking anybody; None where that is not possible."""
    match auth.method:
        case AuthMethod.TOKEN:
            if auth.token_file is not None:
                return [("token_file", str(auth.token_file))]
            return [("token_variable", auth.token_variable)]
        case AuthMethod.APPROLE:
            if auth.wrapped:  # the file may hold something to be unwrapped first
                return None
            rows = [
                ("role_id", auth.role_id or ""),
                ("secret_id_file", str(auth.secret_id_file)),
            ]
        case AuthMethod.KUBERNETES | AuthMethod.JWT:
            rows = [("jwt_file", str(auth.jwt_file or KUBERNETES_JWT))]
            rows += [] if auth.role is None else [("role", auth.role)]
        case AuthMethod.USERPASS:
            return None
    mount = (auth.mount or str(auth.method)).strip("/")
    where = "/".join(segment(part) for part in mount.split("/"))
    return [("login", f"{prefix}{where}/login"), ("end", f"{prefix}token/revoke-self"), *rows]
