"""Which login to Kubernetes is used: a kubeconfig's or the pod's own."""

from __future__ import annotations

import os
from pathlib import Path

from keyturn._internal.kubernetes_login import ClusterLogin, from_kubeconfig, in_cluster
from keyturn.errors import UsageError

__all__ = ["cluster_login"]


def cluster_login(
    *,
    file: str | None,
    context: str | None,
    folder: Path,
    environment: dict[str, str] | None = None,
) -> ClusterLogin:
    """
    Return the login to use: of a kubeconfig that is named, of the pod, or the usual kubeconfig.

    Args:
        file: The kubeconfig, taken from *folder*; None for the usual one.
        environment: The process's variables where None.

    Raises:
        UsageError: There is none, or it cannot be used.
    """
    variables = dict(os.environ) if environment is None else environment
    kubeconfig = None if file is None else folder / Path(file).expanduser()
    if kubeconfig is None and context is None:
        found = in_cluster(variables)
        if found is not None:
            return found
    if kubeconfig is None:
        # Several may be named, as paths are; the usual tool merges them, and we take the first.
        named = variables.get("KUBECONFIG", "").split(os.pathsep)[0]
        kubeconfig = Path(named) if named else Path(variables.get("HOME", "/")) / ".kube" / "config"
    return from_kubeconfig(kubeconfig, context, parse=_parsed)


def _parsed(content: bytes) -> object:
    """Return what *content* means as YAML; None where it means nothing."""
    try:
        import yaml
    except ImportError:
        raise UsageError(
            "the package pyyaml, which reads a kubeconfig, is not installed",
            hint="pip install 'keyturn[kubernetes]'",
            code="store.driver",
        ) from None
    try:
        found: object = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError):
        # Its words would quote the line, and a token may stand in it.
        return None
    return found
