"""What is generated for consumers and stores that are in Kubernetes or in a swarm."""

from __future__ import annotations

import pytest
import yaml

from keyturn.scaffold import Family
from tests.unit.scaffold.conftest import PLAIN

JOBS = "deploy/keyturn-cronjob.yaml"
UNIT = "systemd/shop-keyturn-tick.service"
RESTART = 'kubernetes = "deployment/shop-web"'


def manifest(reload, store='kind = "kubernetes"'):
    text = PLAIN.replace('signal = "HUP"\npid_file = "run/app.pid"', reload)
    text = text.replace('[consumers.app.render]\npath = "run/app.env"\n', "")
    return f"{text}\n[stores.team]\n{store}\n"


def documents(generate, text):
    found = generate(text, families=[Family.KUBERNETES])[JOBS].text
    return found, list(yaml.safe_load_all(found))


def role(generate, text):
    """Return what the Role of the jobs allows: verbs by group, resource and names."""
    (found,) = [each for each in documents(generate, text)[1] if each["kind"] == "Role"]
    return {
        (*each["apiGroups"], *each["resources"], *each.get("resourceNames", ())): each["verbs"]
        for each in found["rules"]
    }


def test_jobs_have_an_account_with_the_rights_that_are_needed(generate):
    """Secrets of its namespace, and that one workload."""
    text, found = documents(generate, manifest(RESTART))
    kinds = ["CronJob", "CronJob", "ServiceAccount", "Role", "RoleBinding"]
    assert kinds == [each["kind"] for each in found]
    for job in found[:2]:
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        assert ("shop-keyturn", True) == (
            pod["serviceAccountName"],
            pod["automountServiceAccountToken"],
        )
    assert {"shop-keyturn"} == {each["metadata"]["name"] for each in found[2:]}
    assert "shop-keyturn" == found[4]["subjects"][0]["name"] == found[4]["roleRef"]["name"]
    assert {
        ("", "secrets"): ["get", "create", "patch"],
        ("apps", "deployments", "shop-web"): ["get", "patch"],
    } == role(generate, manifest(RESTART))
    assert "reached by a file" not in text


def test_a_secret_for_each_must_be_listed(generate):
    """Which there are is asked of the cluster then."""
    text = manifest(RESTART, 'kind = "kubernetes"\nlayout = "secret"')
    assert ["get", "create", "patch", "list"] == role(generate, text)["", "secrets"]


def test_another_namespace_is_told(generate):
    """A Role holds in its own."""
    text = manifest(RESTART + '\nnamespace = "web"', 'kind = "kubernetes"\nnamespace = "vaults"')
    said, _ = documents(generate, text)
    assert "into the namespace vaults;" in said
    assert "into the namespace web;" in said


@pytest.mark.parametrize(
    ("reload", "store"),
    [
        (f'{RESTART}\ncontext = "far"', 'kind = "embedded"'),
        (f'{RESTART}\nkubeconfig = "far.yaml"', 'kind = "kubernetes"\ncontext = "far"'),
        ('http = "https://app.example.com/reload"', 'kind = "kubernetes"\nkubeconfig = "far.yaml"'),
    ],
)
def test_no_account_where_a_kubeconfig_says_who_keyturn_is(generate, reload, store):
    """The pod's own is of no use then."""
    _, found = documents(generate, manifest(reload, store))
    assert ["CronJob", "CronJob"] == [each["kind"] for each in found]
    for job in found:
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("host", "asked"), [("", True), ('host = "tcp://10.0.0.1:2376"', False)])
def test_units_reach_the_socket_of_a_swarm(generate, host, asked):
    """Where it is this machine's; over TLS no group is needed."""
    text = manifest('swarm = ["shop_app"]', f'kind = "swarm"\n{host}')
    found = generate(text, families=[Family.SYSTEMD])[UNIT].text
    assert asked == ("\nSupplementaryGroups=docker\n" in found)
    assert asked == ("the store team, app is changed through Docker's socket" in found)
    assert "MemoryDenyWriteExecute=true" in found


@pytest.mark.parametrize(
    ("reload", "store", "said"),
    [
        (RESTART, 'kind = "kubernetes"', "the deployment `shop-web` is restarted"),
        (
            'swarm = ["a", "b"]',
            'kind = "swarm"',
            "these services of the swarm get the new secret: `a`, `b`",
        ),
    ],
)
def test_the_runbook_says_how_a_consumer_is_told(generate, reload, store, said):
    """In a person's words."""
    files = generate(manifest(reload, store), families=[Family.RUNBOOK])
    assert any(said in file.text for file in files.values())
