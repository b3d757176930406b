"""Every store of others as the manifest describes it, on the real server where one runs here."""

from __future__ import annotations

import contextlib
import itertools
import json
from dataclasses import dataclass, field

from tests._plugins.ci import STORE
from tests.integration.aws_front import AwsFront
from tests.worlds.sops import new_person

__all__ = ["STORES", "StoreWorld", "described", "kubeconfig"]

_PROJECTS = itertools.count(1)


@dataclass(frozen=True)
class StoreWorld:
    """
    A store that is ready to be written to.

    Args:
        kind: As in the manifest.
        options: The keys of its table there.
        environ: Variables that whoever opens it needs.
        real: Whether the server is a real one.
    """

    kind: str
    options: dict
    environ: dict = field(default_factory=dict)
    real: bool = True
    project: str = field(default_factory=lambda: f"clipper{next(_PROJECTS)}")

    @property
    def description(self):
        return {"kind": self.kind, "options": self.options, "project": self.project}


@contextlib.contextmanager
def _dotenv(request, folder):
    yield StoreWorld("dotenv", {})


@contextlib.contextmanager
def _compose(request, folder):
    yield StoreWorld("compose", {"folder": "secrets"})


@contextlib.contextmanager
def _swarm(request, folder):
    server = request.getfixturevalue("dockerd")
    yield StoreWorld("swarm", {"host": server.host})


def _kubernetes(layout):
    @contextlib.contextmanager
    def made(request, folder):
        from keyturn.testing.kubernetes import KubernetesSimulator

        with KubernetesSimulator() as simulator:
            config = folder / "kubeconfig"
            config.write_text(json.dumps(kubeconfig(simulator)))
            options = {"kubeconfig": str(config), "layout": layout, "namespace": "default"}
            yield StoreWorld("kubernetes", options, real=False)

    return made


def kubeconfig(simulator):
    """Return the login of somebody who may do everything in *simulator*."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": simulator.base_url}}],
        "users": [{"name": "test", "user": {"token": simulator.admin()}}],
    }


@contextlib.contextmanager
def _sops(request, folder):
    identity = folder / "age-identity"
    options = {"identity_file": str(identity), "recipients": [new_person(identity)]}
    yield StoreWorld("sops", options)


def _vault(layout):
    @contextlib.contextmanager
    def made(request, folder):
        server = request.getfixturevalue("openbao")
        token = folder / "vault-token"
        token.write_text(server.token.reveal_text())
        auth = {"method": "token", "token_file": str(token)}
        yield StoreWorld("vault", {"address": server.address, "layout": layout, "auth": auth})

    return made


@contextlib.contextmanager
def _aws(request, folder):
    front = AwsFront(request.getfixturevalue("moto_server").address)
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    try:
        options = {"region": "eu-central-1", "endpoint_url": front.address}
        yield StoreWorld("aws", options, keys, real=False)
    finally:
        front.stop()


STORES = {
    "dotenv": _dotenv,
    "sops": _sops,
    "vault": _vault("environment"),
    "vault-each": _vault("secret"),
    "aws": _aws,
    "compose": _compose,
    "swarm": _swarm,
    "kubernetes": _kubernetes("environment"),
    "kubernetes-each": _kubernetes("secret"),
}


@contextlib.contextmanager
def described(name, request, folder):
    """Yield the `StoreWorld` *name*; the servers it needs run meanwhile."""
    with STORES[name](request, folder) as world:
        kind = "real" if world.real else "simulated"
        request.node.user_properties.append((STORE, f"{world.kind} {kind}"))
        yield world
