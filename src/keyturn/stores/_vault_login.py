"""Each way to log in to Vault or OpenBao; none of them is given a value, only where one is."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keyturn._internal import durable
from keyturn._internal.http import Reply, segment
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Rejected, Unavailable, UsageError
from keyturn.stores._vault_api import Cluster, words
from keyturn.stores._vault_settings import AuthMethod, VaultAuth

__all__ = ["KUBERNETES_JWT", "LOGIN_REFUSED", "Granted", "Surroundings", "log_in", "token_at_hand"]

LOGIN_REFUSED: Final = "store.login-refused"

_LIMIT_BYTES = 64 * 1024
KUBERNETES_JWT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
# A wrapping token, of Vault or OpenBao; a secret-id is a UUID unless somebody chose it.
_WRAPPING = re.compile(r"(hvs|s|b)\.[A-Za-z0-9_.-]{20,}", re.ASCII)
_REFUSALS = frozenset({400, 401, 403})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What a login may need besides its settings.

    Args:
        ask: Asks the person at the terminal, without echo.
        variables: The environment's.
        home: Where `.vault-token` is looked for.
    """

    ask: Callable[[str], SecretValue]
    variables: Mapping[str, str]
    home: Path


@dataclass(frozen=True, slots=True)
class Granted:
    """
    A token that was given to us.

    Args:
        ttl_seconds: How long it lives; 0 for ever.
        minted: A login made it, so it is ours to end.
    """

    token: SecretValue
    ttl_seconds: float
    renewable: bool
    minted: bool


def log_in(auth: VaultAuth, cluster: Cluster, around: Surroundings) -> Granted:
    """
    Log in by *auth*.

    Raises:
        Rejected: Refused, code `store.login-refused`; or the secret-id was unwrapped by
            somebody else, code `store.wrapped`.
        UsageError: A file that is needed cannot be read.
        Unavailable: No answer.
    """
    match auth.method:
        case AuthMethod.TOKEN:
            raise _no_token(auth)
        case AuthMethod.APPROLE:
            return _approle(auth, cluster)
        case AuthMethod.KUBERNETES | AuthMethod.JWT:
            return _jwt(auth, cluster)
        case AuthMethod.USERPASS:
            return _userpass(auth, cluster, around.ask)


def token_at_hand(auth: VaultAuth, around: Surroundings) -> tuple[SecretValue, str]:
    """
    Return the token of the method `token`, and where it was found.

    Raises:
        UsageError: There is none.
    """
    if auth.token_file is not None:
        return _read(auth.token_file, "token"), f"the file {auth.token_file}"
    found = around.variables.get(auth.token_variable)
    if found:
        return SecretValue.from_text(found), f"the variable {auth.token_variable}"
    usual = around.home / ".vault-token"
    if usual.exists():
        return _read(usual, "token"), f"the file {usual}"
    raise _no_token(auth)


def _no_token(auth: VaultAuth) -> UsageError:
    return UsageError(
        f"there is no token for Vault: neither `{auth.token_variable}` nor `~/.vault-token`",
        hint="log in with `bao login` or `vault login`, or name another method in the"
        " store's `auth`",
        code="store.auth",
    )


def _approle(auth: VaultAuth, cluster: Cluster) -> Granted:
    file, mount = auth.secret_id_file, auth.mount or "approle"
    if file is None:
        raise UsageError("the AppRole login needs `secret_id_file`", code="store.auth")
    secret_id = _read(file, "secret-id")
    if auth.wrapped and (wrapping := _wrapping_token(secret_id)) is not None:
        secret_id = _unwrapped(cluster, wrapping, file, mount)
    body = {"role_id": auth.role_id, "secret_id": secret_id.reveal_text()}
    reply = cluster.send("POST", f"auth/{_mount(mount)}/login", token=None, body=body)
    hint = f"the secret-id in `{file}` has expired or was used up: have a new one put there"
    return _granted(reply, f"the AppRole `{auth.role_id}`", hint)


def _jwt(auth: VaultAuth, cluster: Cluster) -> Granted:
    mount = auth.mount or str(auth.method)
    file = auth.jwt_file or KUBERNETES_JWT
    body: dict[str, object] = {"jwt": _read(file, "JSON Web Token").reveal_text()}
    if auth.role is not None:
        body["role"] = auth.role
    reply = cluster.send("POST", f"auth/{_mount(mount)}/login", token=None, body=body)
    hint = f"check the role's bound claims, and that the token in `{file}` has not expired"
    return _granted(reply, f"the role `{auth.role or 'default'}` by `{file}`", hint)


def _userpass(auth: VaultAuth, cluster: Cluster, ask: Callable[[str], SecretValue]) -> Granted:
    user, mount = auth.username or "", auth.mount or "userpass"
    path = f"auth/{_mount(mount)}/login/{segment(user)}"
    password = ask(f"Vault password of {user}")
    reply = cluster.send("POST", path, token=None, body={"password": password.reveal_text()})
    needed = reply.at("auth", "mfa_requirement")
    hint = "check the user name and the password, and type the code that is shown now"
    if reply.succeeded and isinstance(needed, dict) and needed:
        payload: dict[str, list[str]] = {}
        for method, asks_code in _second_factors(needed):
            code = ask(f"one-time code of {user}").reveal_text().strip() if asks_code else None
            payload[method] = [] if code is None else [code]
        body = {"mfa_request_id": needed.get("mfa_request_id"), "mfa_payload": payload}
        reply = cluster.send("POST", "sys/mfa/validate", token=None, body=body)
    return _granted(reply, f"the user `{user}`", hint)


def _second_factors(needed: Mapping[str, object]) -> list[tuple[str, bool]]:
    """Return one method for each demand, and whether it takes a code."""
    demands = needed.get("mfa_constraints")
    found = []
    for demand in demands.values() if isinstance(demands, dict) else ():
        methods = demand.get("any") if isinstance(demand, dict) else None
        known = [one for one in methods or () if isinstance(one, dict) and "id" in one]
        # One that takes a code works without anything but this terminal.
        known.sort(key=lambda one: not one.get("uses_passcode"))
        if known:
            found.append((str(known[0]["id"]), bool(known[0].get("uses_passcode"))))
    return found


def _granted(reply: Reply, whose: str, hint: str) -> Granted:
    token = reply.at("auth", "client_token")
    if reply.succeeded and isinstance(token, str) and token:
        lease = reply.at("auth", "lease_duration")
        seconds = float(lease) if isinstance(lease, int) else 0.0
        renewable = reply.at("auth", "renewable") is True
        return Granted(SecretValue.from_text(token), seconds, renewable, minted=True)
    raise _refused(reply, whose, hint)


def _refused(reply: Reply, whose: str, hint: str) -> KeyturnError:
    if reply.succeeded:
        return Unavailable(f"Vault answered the login of {whose} without a token")
    if reply.status in _REFUSALS:
        return Rejected(
            f"Vault refused the login of {whose}: {words(reply)}", hint=hint, code=LOGIN_REFUSED
        )
    return Rejected(
        f"Vault answered the login of {whose} with {reply.status}: {words(reply)}",
        hint="check `mount` in the store's `auth`, and `namespace`",
        code=LOGIN_REFUSED,
    )


# --- a secret-id that comes wrapped ---------------------------------------------------------


def _wrapping_token(content: SecretValue) -> SecretValue | None:
    """Return the wrapping token that *content* is; None where it is a secret-id already."""
    text = content.reveal_text()
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["wrap_info"]["token"])
        except (ValueError, KeyError, TypeError):
            return None
    return SecretValue.from_text(text) if _WRAPPING.fullmatch(text) else None


def _unwrapped(cluster: Cluster, wrapping: SecretValue, file: Path, mount: str) -> SecretValue:
    """Return the secret-id, which takes the wrapping token's place in *file*."""
    if not os.access(file.parent, os.W_OK):
        raise UsageError(
            f"the secret-id cannot be kept in place of the wrapping token in `{file}`",
            hint=f"let the folder of `{file}` be written to, or put the secret-id itself there",
            code="store.auth",
        )
    body = {"token": wrapping.reveal_text()}
    told = cluster.send("POST", "sys/wrapping/lookup", token=None, body=body)
    if not told.succeeded:
        raise _taken(file)
    made_by = str(told.at("data", "creation_path"))
    if re.fullmatch(rf"auth/{re.escape(mount)}/role/[^/]+/(custom-)?secret-id", made_by) is None:
        raise Rejected(
            f"what the wrapping token in `{file}` holds was not made as a secret-id",
            hint="somebody put another token there: find out who, and ask for a new secret-id",
            code="store.wrapped",
        )
    # A lost answer loses the secret-id with it: the next login then says that it was taken.
    reply = cluster.send("POST", "sys/wrapping/unwrap", token=wrapping)
    found = reply.at("data", "secret_id")
    if not reply.succeeded or not isinstance(found, str):
        raise _taken(file)
    secret_id = SecretValue.from_text(found)
    durable.replace(file, secret_id.reveal() + b"\n", point="store.vault.unwrap")
    return secret_id


def _taken(file: Path) -> Rejected:
    return Rejected(
        f"ALARM: the wrapping token in `{file}` was used by somebody else, or has expired",
        hint="ask who unwrapped it (Vault's audit log says); if nobody of yours did, destroy that"
        " secret-id at once; then ask for a new one",
        code="store.wrapped",
    )


# --- files ----------------------------------------------------------------------------------


def _read(path: Path, what: str) -> SecretValue:
    """
    Return the one line in the file *path*.

    Raises:
        UsageError: It cannot be read, or holds nothing.
    """
    try:
        # A pipe that nobody writes to must not hang a command.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            data = file.read(_LIMIT_BYTES + 1).strip() if regular else b""
    except OSError as error:
        raise _unreadable(path, what, error.strerror or type(error).__name__) from None
    if not data or len(data) > _LIMIT_BYTES or not data.isascii():
        raise _unreadable(path, what, "it holds none")
    return SecretValue(data)


def _unreadable(path: Path, what: str, why: str) -> UsageError:
    return UsageError(
        f"the {what} for Vault cannot be read from `{path}`: {why}",
        hint="check the store's `auth` in keyturn.toml, and who may read the file",
        code="store.auth",
    )


def _mount(mount: str) -> str:
    return "/".join(segment(part) for part in mount.strip("/").split("/"))
