"""`keyturn rotate` in Kubernetes: pods are restarted once, or the rotation is taken back."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest

from keyturn.cli.exits import Exit
from keyturn.testing.kubernetes import KubernetesSimulator, Rule
from keyturn.testing.simulators import Reply
from tests.cli import projects

KILLED = -signal.SIGKILL
RESTART = "PATCH /apis/apps/v1/namespaces/default/deployments/backend"
MANIFEST = """\
[project]
name = "clipper"
[environments.production]
store = "cluster"
[environments.laptop]
store = "local"
[stores.local]
kind = "embedded"
[stores.cluster]
kind = "kubernetes"
kubeconfig = "kube.yaml"
[config]
[secrets.session]
kind = "generated"
variable = "SESSION_SECRET"
[consumers.backend]
secrets = ["session"]
[consumers.backend.reload]
kubernetes = "deployment/backend"
"""
# What the guide gives Keyturn's own account.
RULES = (
    Rule(("get", "create", "patch")),
    Rule(("get", "patch"), ("deployments",), group="apps"),
)
_WAIT_SECONDS = 30


@pytest.fixture
def cluster():
    with KubernetesSimulator() as running:
        running.deploy("backend")
        yield running


@pytest.fixture
def begin(tmp_path, cluster):
    """Return a function that makes a project with first versions, from the text of its manifest."""

    def made(text=MANIFEST, *, rules=RULES):
        found = projects.empty(tmp_path, text)
        (found.folder / "kube.yaml").write_text(
            "current-context: c\n"
            f"clusters: [{{name: c, cluster: {{server: '{cluster.base_url}'}}}}]\n"
            f"users: [{{name: u, user: {{token: '{cluster.account('keyturn', *rules)}'}}}}]\n"
            "contexts: [{name: c, context: {cluster: c, user: u, namespace: default}}]\n"
        )
        projects.start(found)
        for environment in ("production", "laptop"):
            done = found("generate", "--missing", "-e", environment)
            assert Exit.DONE == done.code, done.text
        return found

    return made


def rotate(keyturn, *more, environment="production", **options):
    return keyturn("rotate", *more, "session", "-e", environment, "--now", **options)


def last(keyturn):
    rows = keyturn("status", "-e", "production", "--json").json()
    return [each["last_rotation"]["state"] for each in rows]


def live(cluster):
    return cluster.stored("clipper-secrets")["session"].decode()


def held(keyturn, environment="production"):
    return keyturn("get", "session", "-e", environment).out.decode()


def test_deployment_is_restarted_once(begin, cluster):
    """After the Secret has the new value, with no more rights than the guide names."""
    keyturn = begin()
    old = live(cluster)
    done = rotate(keyturn)
    assert Exit.DONE == done.code, done.text
    assert "restarted the deployment `backend` in the namespace `default`" in done.text
    assert live(cluster) == held(keyturn) != old
    assert 1 == cluster.asked(RESTART)


@pytest.mark.parametrize(
    "failpoint", ["deliver.consumer", "deliver.rollout.call", "deliver.rollout.called"]
)
def test_resumed_rotation_restarts_nothing_twice(begin, cluster, failpoint):
    """Killed before the restart it is made up for; killed after it, the rest is waited for."""
    keyturn = begin()
    old = live(cluster)
    killed = rotate(keyturn, environ={"KEYTURN_FAILPOINT": failpoint})
    assert KILLED == killed.code
    # A restart that was marked with the time would be another one by now.
    time.sleep(1.1)
    done = rotate(keyturn, "--resume")
    assert Exit.DONE == done.code, done.text
    assert ["done"] == last(keyturn)
    assert live(cluster) == held(keyturn) != old
    assert 1 == cluster.asked(RESTART)


def test_next_rotation_restarts_again(begin, cluster):
    """What a restart is marked with is a rotation's own."""
    keyturn = begin()
    for times in (1, 2):
        assert Exit.DONE == rotate(keyturn).code
        assert times == cluster.asked(RESTART)


def test_rollout_that_does_not_progress_is_taken_back(begin, cluster):
    """What was current is again, also where pods read it, and they are restarted with it."""
    keyturn = begin()
    old = live(cluster)
    seen = []

    def controller():
        until = time.monotonic() + _WAIT_SECONDS
        for times, done in ((1, False), (2, True)):
            while cluster.asked(RESTART) < times and time.monotonic() < until:
                time.sleep(0.01)
            seen.append(live(cluster))
            cluster.settle("backend", done=done)

    cluster.deploy("backend", looks=None)
    thread = threading.Thread(target=controller)
    thread.start()
    failed = rotate(keyturn)
    thread.join(_WAIT_SECONDS)
    assert Exit.DONE != failed.code
    assert "progress deadline" in failed.text
    assert ["rolled-back"] == last(keyturn)
    assert 2 == cluster.asked(RESTART)
    assert old == held(keyturn) == live(cluster) == seen[1] != seen[0]


def test_consumer_in_a_cluster_of_its_own(begin, cluster):
    """Its kubeconfig and namespace are used, whatever the store; settings are filled in."""
    text = MANIFEST.replace(
        'kubernetes = "deployment/backend"',
        'kubernetes = "statefulset/${WHO}"\nkubeconfig = "kube.yaml"\ncontext = "c"\n'
        'namespace = "kube-system"',
    ).replace("[config]", '[config]\nWHO = "api"')
    rights = Rule(("get", "patch"), ("statefulsets",), group="apps", namespace="kube-system")
    keyturn = begin(text, rules=(*RULES, rights))
    cluster.deploy("api", resource="statefulsets", namespace="kube-system")
    path = "PATCH /apis/apps/v1/namespaces/kube-system/statefulsets/api"
    for times, environment in enumerate(("laptop", "production"), 1):
        done = rotate(keyturn, environment=environment)
        assert Exit.DONE == done.code, done.text
        assert times == cluster.asked(path)


def test_consumer_that_is_nowhere_is_told_before_anything_is_changed(begin, cluster):
    """The store does not say which cluster it is, and neither does the consumer."""
    keyturn = begin()
    old = held(keyturn, "laptop")
    refused = rotate(keyturn, environment="laptop")
    assert Exit.DONE != refused.code
    assert "nothing says in which cluster" in refused.text
    assert "namespace" in refused.text
    assert old == held(keyturn, "laptop")
    assert 0 == cluster.asked("deployments")


@pytest.mark.parametrize(
    ("name", "rules", "says"),
    [
        ("nobody", RULES, "kubectl -n default get deployment"),
        ("backend", RULES[:1], "is forbidden|may not"),
        (
            "backend",
            (RULES[0], Rule(("get",), ("deployments",), group="apps")),
            "may not restart the deployment `backend` in the namespace `default`",
        ),
    ],
)
def test_workload_that_cannot_be_restarted_is_told_first(begin, cluster, name, rules, says):
    """Nothing was changed, so that nothing has to be taken back."""
    keyturn = begin(MANIFEST.replace("deployment/backend", f"deployment/{name}"), rules=rules)
    old = live(cluster)
    failed = rotate(keyturn)
    assert Exit.DONE != failed.code
    assert re.search(says, failed.text), failed.text
    (row,) = keyturn("status", "-e", "production", "--json").json()
    assert row["last_rotation"] is None
    assert old == live(cluster)
    assert 0 == cluster.asked(RESTART)


def test_doctor_tells_of_rights_and_encryption(begin):
    """As warnings; a login of its own namespace is told nothing of rights."""
    keyturn = begin()
    found = keyturn("doctor", "--json")
    assert Exit.DONE == found.code
    (told,) = [each for each in found.json() if each["what"] == "stores"]
    assert "warn" == told["result"]
    assert "EncryptionConfiguration" in told["detail"]


def test_doctor_tells_that_a_login_may_do_too_much(begin):
    """Which right to give up comes first."""
    keyturn = begin(rules=(Rule(("*",), ("*",), group="*", namespace=None),))
    told = [
        each["detail"] for each in keyturn("doctor", "--json").json() if each["what"] == "stores"
    ]
    assert "may do everything in the cluster" in told[0]


def test_doctor_tells_that_the_login_has_ended(begin, cluster):
    """That is a fault, with its exit code."""
    keyturn = begin()
    cluster.answer_next("selfsubjectaccessreviews", Reply(401, {"reason": "Unauthorized"}))
    found = keyturn("doctor", "--json")
    assert Exit.BAD == found.code
    assert ["fail"] == [each["result"] for each in found.json() if each["what"] == "stores"]
