"""Consumers that Kubernetes or a swarm runs: what `reload` may say of them."""

from __future__ import annotations

import tomllib

import pytest

from keyturn.errors import ManifestError
from keyturn.manifest import KubernetesReload, SwarmReload, Workload, json_schema, load

jsonschema = pytest.importorskip("jsonschema")

HEAD = """\
[project]
name = "clipper"
[environments.development]
store = "docker"
[environments.production]
store = "docker"
[stores.docker]
kind = "swarm"
[config]
STACK = { development = "dev", production = "clips" }
UGLY = "Über"
[consumers.a]
secrets = []
[consumers.a.reload]
"""
LINE = HEAD.count("\n")


def loaded(text, head=HEAD):
    return load((head + text).encode(), file="keyturn.toml")


def told(text, head=HEAD):
    """The faults of *text*, as (line within it, key, message), and each one's way out."""
    with pytest.raises(ManifestError) as caught:
        loaded(text, head)
    start = head.count("\n")
    return [(p.line and p.line - start, p.key, p.message, p.fix) for p in caught.value.problems]


def accepted(text):
    """Tell whether an editor that has the schema takes *text*."""
    found = jsonschema.Draft202012Validator(json_schema()).iter_errors(tomllib.loads(HEAD + text))
    return not list(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kubernetes = 'deployment/api'", KubernetesReload(Workload.DEPLOYMENT, "api")),
        ("kubernetes = 'daemonset/a.b-c'", KubernetesReload(Workload.DAEMONSET, "a.b-c")),
        (
            (
                "kubernetes = 'statefulset/${STACK}-db'\nnamespace = '${STACK}'\n"
                "context = 'at ${STACK}'\nkubeconfig = '~/${STACK}.yaml'"
            ),
            KubernetesReload(Workload.STATEFULSET, "clips-db", "clips", "at clips", "~/clips.yaml"),
        ),
        ("swarm = ['api']", SwarmReload(("api",))),
        ("swarm = ['${STACK}_api', 'work']", SwarmReload(("clips_api", "work"))),
    ],
)
def test_what_is_said_is_read_and_filled_in(text, expected):
    """Settings differ from one environment to the next; the schema takes what the loader does."""
    assert expected == loaded(text).consumer_in("production", "a").reload
    assert accepted(text)


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("kubernetes = 'api'", 1, "kubernetes", "is not a workload such as `deployment/backend`"),
        ("kubernetes = 'pod/api'", 1, "kubernetes", "is not a workload"),
        ("kubernetes = 'deployment/'", 1, "kubernetes", "is not a workload"),
        ("kubernetes = 'deployment/a b'", 1, "kubernetes", "is not a workload"),
        ("swarm = []", 1, "swarm", ""),
        ("swarm = 'api'", 1, "swarm", ""),
        ("swarm = ['a', 'a']", 1, "swarm", "twice"),
        ("swarm = ['a', 'b/c']", 1, "swarm[1]", "is not a service's name"),
        ("namespace = 'a'\nhttp = 'https://a.example.com'", 0, "reload", "`namespace` needs `kubernetes`"),
        ("http = 'https://a.example.com'\ncontext = 'a'", 0, "reload", "`context` needs `kubernetes`"),
        ("swarm = ['a']\nkubeconfig = 'a'", 0, "reload", "`kubeconfig` needs `kubernetes`"),
        ("swarm = ['a']\nkubernetes = 'deployment/a'", None, "", ""),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_is_told_at_its_line(text, line, key, words):
    """By the loader with the way out, and by the schema."""
    found = told(text)
    assert not accepted(text)
    assert any(
        (line is None or line == at)
        and where.startswith("consumers.a.reload")
        and where.endswith(key)
        and words in message
        and fix
        for at, where, message, fix in found
    ), found


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("kubernetes = 'deployment/Api'", 1, "kubernetes"),
        ("kubernetes = 'deployment/${UGLY}'", 1, "kubernetes"),
        ("kubernetes = 'deployment/a'\nnamespace = 'a.b'", 2, "namespace"),
        ("swarm = ['a', '${UGLY}']", 1, "swarm[1]"),
        ("swarm = ['_a']", 1, "swarm[0]"),
    ],
)
def test_a_name_that_the_other_side_would_not_have(text, line, key):
    """Once its settings are filled in, and for each environment where that is so."""
    found = [(at, where) for at, where, message, _ in told(text) if "is not a name" in message]
    assert found
    assert {(line, f"consumers.a.reload.{key}")} == set(found)


def test_a_setting_without_a_value():
    """Is told as everywhere else."""
    (first, *_) = told("kubernetes = 'deployment/a'\ncontext = '${NONE}'")
    assert (2, "consumers.a.reload.context") == first[:2]
    assert "`${NONE}` has no value" in first[2]


def test_services_need_a_swarm():
    """Somewhere: in an environment whose store is another one there is nothing to update."""
    head = HEAD.replace('kind = "swarm"', 'kind = "embedded"')
    (found,) = told("swarm = ['api']", head)
    assert (1, "consumers.a.reload.swarm") == found[:2]
    assert "no environment has its versions in a swarm" in found[2]
    assert 'kind = "swarm"' in found[3]
    two = HEAD.replace('store = "docker"', 'store = "own"', 1) + "swarm = ['api']\n"
    assert loaded('[stores.own]\nkind = "embedded"\n', two)


def test_a_faulty_store_is_told_once():
    """Whether it would have been a swarm is not asked as well."""
    found = told("swarm = ['api']", HEAD.replace('kind = "swarm"', 'kind = "swarn"'))
    assert ["stores.docker.kind"] == [where for _, where, *_ in found]
