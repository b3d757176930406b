"""
SSH keys: two in `authorized_keys` that take turns, or keys that a CA vouches for.

    authorized-keys   The new key's line is added beside the old one's, with its options
                      and comment; the old line goes when nobody uses it any more.
    certificate       The server trusts a CA. The new key gets a certificate; the old
                      one is put on the server's list of revoked keys, or expires.

Both overlap. Sessions that are open when a key ends stay open: sshd asks only at a
login. The server's own key is pinned: it is never trusted on first use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import NoReturn

from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.ports import KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.crypto.sshkeys import ALGORITHMS
from keyturn.errors import UsageError
from keyturn.manifest.durations import parse_duration
from keyturn.targets._ssh_account import CERTIFICATE, PASSPHRASE, PRIVATE_KEY, Account, key_of
from keyturn.targets._ssh_authorized import AuthorizedKeys
from keyturn.targets._ssh_certificate import Authority, Certified
from keyturn.targets._ssh_connection import Login, SshServerAddress

__all__ = ["AuthorizedKeys", "Certified", "build"]

_DEFAULT_PORT = 22
_HIGHEST_PORT = 65_535
_DEFAULT_FILE = "~/.ssh/authorized_keys"
_DEFAULT_VALIDITY = "90d"
_VALUE = FieldName("value")


def build(context: KindContext) -> RotationKind:
    """
    Return the steps for one SSH key.

    Raises:
        UsageError: The target does not say enough.
    """
    target = context.target
    algorithm = _text(target, "algorithm", ALGORITHMS[0])
    if algorithm not in ALGORITHMS:
        _refuse(f"`algorithm` is `{algorithm}`", 'algorithm = "ed25519"')
    if PRIVATE_KEY not in context.fields:
        _refuse("the secret has no field `private_key`", 'fields = { private_key = "" }')
    account = _account(context)
    strategy = context.strategy or "authorized-keys"
    if strategy == "certificate":
        return Certified(
            account,
            _authority(context),
            fields=context.fields,
            algorithm=algorithm,
            clock=context.clock,
            entropy=context.entropy,
        )
    if strategy != "authorized-keys":
        _refuse(f"there is no strategy `{strategy}` for SSH keys", 'strategy = "authorized-keys"')
    if CERTIFICATE in context.fields:
        _refuse("a `certificate` is made by another strategy only", 'strategy = "certificate"')
    return AuthorizedKeys(
        account, fields=context.fields, algorithm=algorithm, entropy=context.entropy
    )


def _account(context: KindContext) -> Account:
    target, ref = context.target, context.ref
    user = _text(target, "user")
    address = SshServerAddress(_text(target, "host"), _port(target), _text(target, "host_key"))
    admin = _admin(context, user)
    path = _text(target, "authorized_keys", _DEFAULT_FILE)
    return Account(
        address=address,
        user=user,
        authorized_keys=_at_server(path, "authorized_keys", user, admin),
        admin=admin,
        label=f"keyturn-{ref.name}-{ref.environment}",
        mark="keyturn-" + hashlib.sha256(f"{context.project}/{ref}".encode()).hexdigest()[:12],
    )


def _admin(context: KindContext, user: str) -> Login | None:
    values = context.admin
    if values is None:
        return None
    name = values.get(FieldName("username"))
    certificate = values.get(CERTIFICATE)
    return Login(
        name.reveal_text() if name else user,
        key_of({PRIVATE_KEY: _private_of(values, context.admin_name), **_passphrase_of(values)}),
        certificate.reveal_text().strip() if certificate else None,
    )


def _authority(context: KindContext) -> Authority:
    name = _text(context.target, "ca")
    values = context.companions.get(name)
    if values is None:
        _refuse(f"the CA's secret `{name}` has no value", f'ca = "{name}"')
    path = _text(context.target, "revoked_keys", "")
    validity = _seconds(context.target)
    if validity <= context.grace_seconds:
        _refuse("certificates would expire within the grace", f'validity = "{_DEFAULT_VALIDITY}"')
    account = _text(context.target, "user")
    return Authority(
        private=_private_of(values, name),
        passphrase=values.get(PASSPHRASE),
        validity_seconds=validity,
        revoked_keys=_at_server(path, "revoked_keys", account, None) if path else None,
    )


def _private_of(values: Values, name: str | None) -> SecretValue:
    found = values.get(PRIVATE_KEY) or values.get(_VALUE)
    if not found:
        _refuse(f"the secret `{name}` has no field `private_key`", 'fields = { private_key = "" }')
    return found


def _passphrase_of(values: Values) -> Values:
    found = values.get(PASSPHRASE)
    return {PASSPHRASE: found} if found else {}


def _at_server(path: str, key: str, user: str, admin: Login | None) -> str:
    # SFTP begins in the home of whoever is logged in.
    if path.startswith("~/"):
        if admin is not None and admin.user != user:
            _refuse(
                f"`{key}` is in the home of `{user}`, and `{admin.user}` changes it",
                f'{key} = "/home/{user}/.ssh/authorized_keys"',
            )
        return path[2:]
    if not path.startswith("/"):
        _refuse(f"`{key}` is neither below `~/` nor an absolute path", f'{key} = "{_DEFAULT_FILE}"')
    return path


def _seconds(target: Mapping[str, object]) -> int:
    found = target.get("validity", _DEFAULT_VALIDITY)
    span = parse_duration(found) if isinstance(found, str) else found
    if not isinstance(span, timedelta) or not span:
        _refuse("`validity` is no duration", f'validity = "{_DEFAULT_VALIDITY}"')
    return int(span.total_seconds())


def _port(target: Mapping[str, object]) -> int:
    found = str(target.get("port", _DEFAULT_PORT))
    if not found.isdecimal() or not 0 < int(found) <= _HIGHEST_PORT:
        _refuse("`port` is no port", f"port = {_DEFAULT_PORT}")
    return int(found)


def _text(target: Mapping[str, object], key: str, default: str | None = None) -> str:
    found = target.get(key, default)
    if not isinstance(found, str) or (not found and default != ""):
        _refuse(f"`{key}` of the SSH key's target is missing", f'{key} = "..."')
    return found


def _refuse(message: str, line: str) -> NoReturn:
    raise UsageError(message, hint=f"write in keyturn.toml: {line}", code="rotation.target")
