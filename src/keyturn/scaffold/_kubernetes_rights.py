"""What Keyturn's pods may do in their cluster: only where a store or a consumer is in it."""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.manifest import KubernetesReload, Manifest, StoreKind, StoreSettings
from keyturn.scaffold._model import Deployment
from keyturn.scaffold._words import comment, yaml_word

__all__ = ["rights"]

_RIGHTS = """\
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: @base@-keyturn
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: @base@-keyturn
rules:
@rules@
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: @base@-keyturn
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: @base@-keyturn}
subjects:
  - {kind: ServiceAccount, name: @base@-keyturn}
"""
_RULE = '  - {apiGroups: ["@group@"], resources: ["@resource@"]@names@, verbs: [@verbs@]}'
_ONE_BY_ONE = "secret"


def rights(manifest: Manifest, deployment: Deployment, base: str) -> str:
    """Return the account of the jobs and its Role; empty where they ask no cluster for anything."""
    rules, places = [], set()
    store = manifest.stores[manifest.environments[deployment.environment].store]
    if store.kind is StoreKind.KUBERNETES and not _logs_in(store):
        # Which Secrets there are is asked only where each secret has its own.
        more = ("list",) if store.options.get("layout") == _ONE_BY_ONE else ()
        rules.append(_rule("", "secrets", (), ("get", "create", "patch", *more)))
        places.add(store.options.get("namespace"))
    for reload in _restarted(manifest, deployment):
        names = (reload.name,)
        rules.append(_rule("apps", f"{reload.workload}s", names, ("get", "patch")))
        if reload.namespace is not None:
            places.add(reload.namespace)
    if not rules:
        return ""
    named = sorted(str(place) for place in places if place is not None)
    notes = [
        f"# The Role and its binding belong into the namespace {comment(place)}; name this one in"
        " the\n# binding's subject.\n"
        for place in named
    ]
    text = _RIGHTS.replace("@base@", base).replace("@rules@", "\n".join(rules))
    return "".join(notes) + text


def _restarted(manifest: Manifest, deployment: Deployment) -> Iterator[KubernetesReload]:
    for consumer in manifest.resolved_consumers[deployment.environment].values():
        reload = consumer.reload
        own = isinstance(reload, KubernetesReload) and (reload.context or reload.kubeconfig)
        if isinstance(reload, KubernetesReload) and not own:
            yield reload


def _logs_in(store: StoreSettings) -> bool:
    return "context" in store.options or "kubeconfig" in store.options


def _rule(group: str, resource: str, names: tuple[str, ...], verbs: tuple[str, ...]) -> str:
    listed = ", ".join(yaml_word(name) for name in names)
    words = {
        "group": group,
        "resource": resource,
        "names": f", resourceNames: [{listed}]" if listed else "",
        "verbs": ", ".join(yaml_word(verb) for verb in verbs),
    }
    text = _RULE
    for name, word in words.items():
        text = text.replace(f"@{name}@", word)
    return text
