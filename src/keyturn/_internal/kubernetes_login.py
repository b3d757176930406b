"""
How to reach a Kubernetes API server and as whom: from inside a pod, or by a kubeconfig.

A server is verified always, and plain http goes to this machine only. Of a kubeconfig
the parts are used that name a server, its certificates, and a token or certificate of
ours. What would start a program, switch verification off or send requests another way
is refused: a login that works otherwise than it says is worse than none.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from keyturn._internal.filestate import read_bounded
from keyturn._internal.http import checked_address
from keyturn.core.value import SecretValue
from keyturn.errors import UsageError

__all__ = ["ACCOUNT_FOLDER", "ClusterLogin", "from_kubeconfig", "in_cluster"]

# Where Kubernetes puts a pod's own account; the token in it is replaced from time to time.
ACCOUNT_FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_LIMIT_BYTES = 1_048_576
_CODE = "store.kubeconfig"
_REFUSED_USER = {
    "exec": "starts a program for a token",
    "auth-provider": "has a login of a cloud that Kubernetes itself has dropped",
    "username": "has a password, which Kubernetes itself has dropped",
    "as": "impersonates somebody",
}
_REFUSED_CLUSTER = {
    "insecure-skip-tls-verify": "switches the verification of the server off",
    "proxy-url": "sends requests through a proxy",
}
_LOGIN_HINT = (
    "make a context for Keyturn with a token of a service account:"
    " `kubectl create token keyturn --duration=8h`, or with a client certificate"
)


@dataclass(frozen=True, slots=True)
class ClusterLogin:
    """
    A server, and who we are there.

    Args:
        server: `https://HOST:PORT`, perhaps with a path; http for this machine only.
        whose: For messages, such as "the context `prod` of ~/.kube/config".
        authority: The certificates to verify the server with, as PEM; the system's
            where None.
        server_name: The name in its certificate, where it is not the host's.
        token_file: Read again for each request, since tokens are replaced under way.
        certificate: A client's, as PEM, with its *key*.
        namespace: Where things are that name no other.
    """

    server: str
    whose: str
    authority: str | None = None
    server_name: str | None = None
    token: SecretValue | None = None
    token_file: Path | None = None
    certificate: str | None = None
    key: SecretValue | None = field(default=None, repr=False)
    namespace: str | None = None

    def __post_init__(self) -> None:
        _check_server(self.server, self.whose)

    def bearer(self) -> SecretValue | None:
        """
        Return the token to send now; None where the certificate says who we are.

        Raises:
            UsageError: Its file cannot be read.
        """
        if self.token_file is None:
            return self.token
        return SecretValue(_read(self.token_file, self.whose).strip())


def in_cluster(
    environment: Mapping[str, str], *, folder: Path = ACCOUNT_FOLDER
) -> ClusterLogin | None:
    """
    Return the login of the pod that this runs in; None outside of one.

    Args:
        environment: The process's variables.

    Raises:
        UsageError: The pod has no account: its token is not mounted.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return None
    whose = "the pod's service account"
    bracketed = f"[{host}]" if ":" in host else host
    namespace = folder / "namespace"
    return ClusterLogin(
        f"https://{bracketed}:{port}",
        whose,
        authority=_text(_read(folder / "ca.crt", whose), whose),
        token_file=folder / "token",
        namespace=_text(_read(namespace, whose), whose).strip() if namespace.exists() else None,
    )


def from_kubeconfig(
    path: Path, context: str | None = None, *, parse: Callable[[bytes], object]
) -> ClusterLogin:
    """
    Return the login of *context* in the kubeconfig *path*, or of its current context.

    Args:
        parse: Reads YAML; None where it is none.

    Raises:
        UsageError: It cannot be read, or says what is not supported; the message says
            which part, and never what it holds.
    """
    document = parse(_read(path, "the kubeconfig"))
    if not isinstance(document, dict):
        raise _refused(f"the kubeconfig `{path}` is not YAML of the usual form", "check the file")
    name = context or _word(document, "current-context")
    if not name:
        raise _refused(f"the kubeconfig `{path}` has no current context", "name one: `context`")
    whose = f"the context `{name}` of {path}"
    chosen = _entry(document, "contexts", "context", name, whose)
    cluster = _entry(document, "clusters", "cluster", _word(chosen, "cluster") or "", whose)
    server, named = _word(cluster, "server") or "", _word(chosen, "user")
    # Who listens on this machine without TLS, as `kubectl proxy`, logs in by itself.
    proxied = server.startswith("http:")
    user = (
        {} if proxied and named is None else _entry(document, "users", "user", named or "", whose)
    )
    for table, refused in ((cluster, _REFUSED_CLUSTER), (user, _REFUSED_USER)):
        for key, why in refused.items():
            if table.get(key):
                raise _refused(f"{whose} has `{key}`, which {why}: not supported", _LOGIN_HINT)
    folder = path.parent
    token_file = _word(user, "tokenFile")
    certificate = _data(user, "client-certificate", folder, whose)
    private = _data(user, "client-key", folder, whose)
    token = _word(user, "token")
    paired = certificate is not None and private is not None
    if token is None and token_file is None and not paired and not proxied:
        raise _refused(f"{whose} has neither a token nor a certificate with its key", _LOGIN_HINT)
    authority = _data(cluster, "certificate-authority", folder, whose)
    return ClusterLogin(
        server,
        whose,
        authority=None if authority is None else _text(authority, whose),
        server_name=_word(cluster, "tls-server-name"),
        token=SecretValue.from_text(token) if token and not token_file else None,
        token_file=folder / token_file if token_file else None,
        certificate=None if certificate is None or private is None else _text(certificate, whose),
        key=None if certificate is None or private is None else SecretValue(private),
        namespace=_word(chosen, "namespace"),
    )


def _entry(
    document: Mapping[object, object], table: str, part: str, name: str, whose: str
) -> Mapping[object, object]:
    listed = document.get(table)
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict) and one.get("name") == name:
            found = one.get(part)
            if isinstance(found, dict):
                return found
    raise _refused(
        f"{whose} is not complete: there is no `{name}` in `{table}`",
        "`kubectl config get-contexts` lists what there is",
    )


def _word(table: Mapping[object, object], key: str) -> str | None:
    found = table.get(key)
    return found if isinstance(found, str) and found else None


def _data(table: Mapping[object, object], key: str, folder: Path, whose: str) -> bytes | None:
    """Return what stands under *key*`-data`, or in the file that *key* names."""
    inline = _word(table, f"{key}-data")
    if inline is not None:
        try:
            return base64.b64decode(inline, validate=True)
        except (binascii.Error, ValueError):
            raise _refused(f"{whose} has a `{key}-data` that is not base64", "check it") from None
    file = _word(table, key)
    return None if file is None else _read(folder / file, whose)


def _read(path: Path, whose: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(
            f"`{path}` of {whose} cannot be read: {error.strerror}",
            "check that it is there, and that you may read it",
        ) from error
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        content = read_bounded(descriptor, _LIMIT_BYTES + 1) if regular else b""
    finally:
        os.close(descriptor)
    if not content or len(content) > _LIMIT_BYTES:
        raise _refused(f"`{path}` of {whose} is empty, too long, or no file", "check the path")
    return content


def _text(content: bytes, whose: str) -> str:
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise _refused(f"{whose} has a certificate that is not PEM", "check it") from None


def _check_server(server: str, whose: str) -> None:
    try:
        checked_address(server)
    except UsageError as error:
        raise _refused(
            f"the server of {whose} cannot be used: {error.message}",
            "write it like `https://10.0.0.1:6443`; plain http is for this machine, as with"
            " `kubectl proxy`",
        ) from None


def _refused(message: str, hint: str) -> UsageError:
    return UsageError(message, hint=hint, code=_CODE)
