"""The simulated API server answers the published client of Kubernetes as a real one does."""

from __future__ import annotations

import base64
import json
import threading
import time

import pytest
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

from keyturn.testing import FakeClock
from keyturn.testing.kubernetes import Fault, KubernetesSimulator, Rule

NS = "default"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


@pytest.fixture
def simulator():
    with KubernetesSimulator() as running:
        yield running


@pytest.fixture
def connect(simulator):
    """Return the published client's API with a token, or anonymous."""
    opened = []

    def open_api(token=None):
        settings = client.Configuration(host=simulator.base_url)
        settings.retries = False
        if token is not None:
            settings.api_key = {"authorization": f"Bearer {token}"}
        api = client.ApiClient(settings)
        opened.append(api)
        return api

    yield open_api
    for api in opened:
        api.close()
        api.rest_client.pool_manager.clear()


@pytest.fixture
def api(simulator, connect):
    return connect(simulator.admin())


@pytest.fixture
def core(api):
    return client.CoreV1Api(api)


@pytest.fixture
def apps(api):
    return client.AppsV1Api(api)


def secret(name="db", *, version=None, text=None, data=None, **more):
    """Return a Secret of the published type."""
    if data is None and text is None:
        text = {"password": "one"}
    metadata = client.V1ObjectMeta(
        name=name, resource_version=version, labels=more.pop("labels", None)
    )
    return client.V1Secret(
        api_version="v1", kind="Secret", metadata=metadata, string_data=text, data=data, **more
    )


def refused(status, reason, action):
    """Run *action*, which the server must refuse, and return its Status."""
    with pytest.raises(ApiException) as caught:
        action()
    body = json.loads(caught.value.body)
    assert (status, reason, "Failure", status) == (
        caught.value.status,
        body["reason"],
        body["status"],
        body["code"],
    )
    assert ("Status", "v1") == (body["kind"], body["apiVersion"])
    return body


def test_a_secret_is_made_with_its_text_in_base64(core, simulator):
    """What is given as `stringData` comes back as `data`, and the other never does."""
    made = core.create_namespaced_secret(NS, secret(text={"password": "pässword"}))
    assert base64.b64encode("pässword".encode()).decode() == made.data["password"]
    assert made.string_data is None
    assert "Opaque" == made.type
    assert made.metadata.uid and made.metadata.creation_timestamp
    assert {"password": "pässword".encode()} == simulator.stored("db")
    assert made == core.read_namespaced_secret("db", NS)


def test_a_second_one_of_a_name_is_refused(core):
    """It exists already."""
    core.create_namespaced_secret(NS, secret())
    body = refused(409, "AlreadyExists", lambda: core.create_namespaced_secret(NS, secret()))
    assert 'secrets "db" already exists' == body["message"]


def test_what_is_not_there_is_not_found(core):
    """Neither the object nor the namespace."""
    body = refused(404, "NotFound", lambda: core.read_namespaced_secret("db", NS))
    assert {"name": "db", "kind": "secrets"} == body["details"]
    refused(404, "NotFound", lambda: core.create_namespaced_secret("elsewhere", secret()))
    refused(404, "NotFound", lambda: core.replace_namespaced_secret("db", NS, secret()))


def test_a_replacement_names_what_it_replaces(core):
    """A stale version is a conflict; without one the last writer wins."""
    first = core.create_namespaced_secret(NS, secret())
    stale = first.metadata.resource_version
    second = core.replace_namespaced_secret("db", NS, secret(version=stale, text={"a": "2"}))
    assert int(second.metadata.resource_version) > int(stale)
    body = refused(
        409, "Conflict", lambda: core.replace_namespaced_secret("db", NS, secret(version=stale))
    )
    assert body["message"].startswith(
        'Operation cannot be fulfilled on secrets "db": the object has been modified'
    )
    core.replace_namespaced_secret("db", NS, secret())


def test_a_replacement_by_the_same_is_no_change(core):
    """The version stays, and no watch tells of it."""
    first = core.create_namespaced_secret(NS, secret())
    again = core.replace_namespaced_secret("db", NS, first)
    assert first.metadata.resource_version == again.metadata.resource_version


@pytest.mark.parametrize("sort", [MERGE, "application/strategic-merge-patch+json"])
def test_a_merge_patch_may_name_a_version(core, simulator, sort):
    """A stale one is a conflict; other keys stay, and null removes one."""
    first = core.create_namespaced_secret(NS, secret(text={"a": "1", "b": "2"}))
    stale = first.metadata.resource_version
    core.patch_namespaced_secret("db", NS, {"stringData": {"c": "3"}}, _content_type=sort)
    body = {"metadata": {"resourceVersion": stale}, "data": {"a": None}}
    refused(
        409,
        "Conflict",
        lambda: core.patch_namespaced_secret("db", NS, body, _content_type=sort),
    )
    core.patch_namespaced_secret("db", NS, {"data": {"a": None}}, _content_type=sort)
    assert {"b": b"2", "c": b"3"} == simulator.stored("db")


def test_a_json_patch_is_not_played(core):
    """What is not played is refused, never half done."""
    core.create_namespaced_secret(NS, secret())
    patch = [{"op": "remove", "path": "/data/password"}]
    refused(415, "UnsupportedMediaType", lambda: core.patch_namespaced_secret("db", NS, patch))


def apply(core, data, *, manager="keyturn", **more):
    """Apply a Secret with these values, in base64."""
    metadata = {"name": "db"} | more.pop("metadata", {})
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
    return core.patch_namespaced_secret(
        "db", NS, body, field_manager=manager, _content_type=APPLY, **more
    )


def test_an_apply_of_anothers_field_is_a_conflict(core, simulator):
    """It names manager and field; forced, the field changes its owner."""
    core.create_namespaced_secret(NS, secret(), field_manager="kubectl-create")
    body = refused(409, "Conflict", lambda: apply(core, {"password": "two"}))
    assert body["message"] == (
        'Apply failed with 1 conflict: conflict with "kubectl-create" using v1: .data.password'
    )
    assert [("FieldManagerConflict", ".data.password")] == [
        (cause["reason"], cause["field"]) for cause in body["details"]["causes"]
    ]
    made = apply(core, {"password": "two"}, force=True)
    assert {"password": b"two"} == simulator.stored("db")
    owners = {entry.manager: entry.fields_v1 for entry in made.metadata.managed_fields}
    assert "f:data" in owners["keyturn"]
    assert "f:data" not in owners["kubectl-create"]


def test_an_apply_owns_what_it_names(core, simulator):
    """What it names no longer goes, what others own stays; the same value is shared."""
    apply(core, {"a": "1", "b": "2"})
    core.patch_namespaced_secret("db", NS, {"stringData": {"c": "3"}}, _content_type=MERGE)
    apply(core, {"b": "2"}, manager="other")
    apply(core, {"a": "1"})
    assert {"a": b"1", "b": b"2", "c": b"3"} == simulator.stored("db")
    apply(core, {}, manager="other")
    assert {"a": b"1", "c": b"3"} == simulator.stored("db")


def test_an_apply_may_name_a_version(core):
    """A stale one is a conflict, forced or not."""
    first = apply(core, {"a": "1"})
    stale = {"resourceVersion": first.metadata.resource_version}
    apply(core, {"a": "2"}, metadata=stale)
    for force in (False, True):
        refused(
            409,
            "Conflict",
            lambda force=force: apply(core, {"a": "3"}, metadata=stale, force=force),
        )


def test_an_apply_needs_a_manager(core):
    """The server does not guess one."""
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}}
    refused(
        422, "Invalid", lambda: core.patch_namespaced_secret("db", NS, body, _content_type=APPLY)
    )


def test_what_is_not_base64_cannot_be_read(core):
    """It is a bad request, not an invalid object."""
    body = refused(
        400, "BadRequest", lambda: core.create_namespaced_secret(NS, secret(data={"a": "!!!!"}))
    )
    assert "cannot be handled as a Secret: illegal base64 data" in body["message"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (secret("Bad_Name"), "metadata.name"),
        (secret(data={"bad key": "AAAA"}), "data[bad key]"),
        (secret(type="kubernetes.io/tls"), "data[tls.crt]"),
        (
            secret(type="kubernetes.io/dockerconfigjson", text={".dockerconfigjson": "no json"}),
            "data[.dockerconfigjson]",
        ),
    ],
)
def test_what_no_secret_can_be_is_invalid(core, simulator, given, field):
    """The answer names the field, and nothing is stored."""
    body = refused(422, "Invalid", lambda: core.create_namespaced_secret(NS, given))
    assert field in [cause["field"] for cause in body["details"]["causes"]]
    assert [] == core.list_namespaced_secret(NS).items


def test_a_secret_has_a_mebibyte_and_no_more(core, simulator):
    """The bytes of its values are counted, all together."""
    half = base64.b64encode(b"x" * 524_288).decode()
    core.create_namespaced_secret(NS, secret(data={"a": half, "b": half}))
    more = secret("more", data={"a": half, "b": half, "c": "AA=="})
    body = refused(422, "Invalid", lambda: core.create_namespaced_secret(NS, more))
    assert body["message"].endswith("Too long: may not be more than 1048576 bytes")


def test_an_immutable_secret_stays(core):
    """Neither values, nor the mark, nor the type can be changed; the labels can."""
    core.create_namespaced_secret(NS, secret(immutable=True))
    for patch in ({"stringData": {"password": "2"}}, {"immutable": False}):
        body = refused(
            422,
            "Invalid",
            lambda patch=patch: core.patch_namespaced_secret("db", NS, patch, _content_type=MERGE),
        )
        assert "field is immutable when `immutable` is set" in body["message"]
    refused(
        422,
        "Invalid",
        lambda: core.patch_namespaced_secret("db", NS, {"type": "x"}, _content_type=MERGE),
    )
    labels = {"metadata": {"labels": {"a": "b"}}}
    core.patch_namespaced_secret("db", NS, labels, _content_type=MERGE)


def test_a_deletion_may_name_a_version(core, simulator):
    """A stale one is a conflict and deletes nothing."""
    made = core.create_namespaced_secret(NS, secret())
    stale = client.V1DeleteOptions(preconditions=client.V1Preconditions(resource_version="1"))
    refused(409, "Conflict", lambda: core.delete_namespaced_secret("db", NS, body=stale))
    assert simulator.stored("db") is not None
    right = client.V1DeleteOptions(
        preconditions=client.V1Preconditions(
            resource_version=made.metadata.resource_version, uid=made.metadata.uid
        )
    )
    gone = client.V1Status.from_dict(core.delete_namespaced_secret("db", NS, body=right))
    assert ("Success", "db", "secrets") == (gone.status, gone.details.name, gone.details.kind)
    assert simulator.stored("db") is None


def test_a_dry_run_stores_nothing(core, simulator):
    """It answers as if it did."""
    made = core.create_namespaced_secret(NS, secret(), dry_run="All")
    assert "db" == made.metadata.name
    assert simulator.stored("db") is None
    core.create_namespaced_secret(NS, secret())
    core.patch_namespaced_secret(
        "db", NS, {"stringData": {"password": "2"}}, _content_type=MERGE, dry_run="All"
    )
    core.delete_namespaced_secret("db", NS, dry_run="All")
    assert {"password": b"one"} == simulator.stored("db")


def test_a_list_is_selected_by_labels_and_comes_in_pages(core):
    """Selectors, limit and continue."""
    for number in range(5):
        labels = {"app": "clipper" if number % 2 else "other"}
        core.create_namespaced_secret(NS, secret(f"s{number}", labels=labels))
    found = core.list_namespaced_secret(NS, label_selector="app=clipper").items
    assert ["s1", "s3"] == [one.metadata.name for one in found]
    page = core.list_namespaced_secret(NS, limit=3)
    rest = core.list_namespaced_secret(NS, limit=3, _continue=page.metadata._continue)
    assert ["s0", "s1", "s2", "s3", "s4"] == [
        one.metadata.name for one in [*page.items, *rest.items]
    ]
    assert rest.metadata._continue is None
    assert 5 == len(core.list_secret_for_all_namespaces().items)


def test_who_asks_decides_what_is_answered(simulator, connect, core):
    """Unknown, nobody, somebody without a right, and somebody with one for one name."""
    core.create_namespaced_secret(NS, secret())
    core.create_namespaced_secret(NS, secret("other"))
    unknown = client.CoreV1Api(connect("not-a-token"))
    refused(401, "Unauthorized", lambda: unknown.read_namespaced_secret("db", NS))
    nobody = client.CoreV1Api(connect())
    body = refused(403, "Forbidden", lambda: nobody.read_namespaced_secret("db", NS))
    assert body["message"] == (
        'secrets "db" is forbidden: User "system:anonymous" cannot get resource "secrets"'
        ' in API group "" in the namespace "default"'
    )
    bare = client.CoreV1Api(connect(simulator.account("bare")))
    refused(403, "Forbidden", lambda: bare.read_namespaced_secret("db", NS))
    one = client.CoreV1Api(connect(simulator.account("one", Rule(["get"], names=["db"]))))
    assert "db" == one.read_namespaced_secret("db", NS).metadata.name
    refused(403, "Forbidden", lambda: one.read_namespaced_secret("other", NS))
    refused(403, "Forbidden", lambda: one.list_namespaced_secret(NS))
    refused(403, "Forbidden", lambda: one.create_namespaced_secret(NS, secret("new")))


def test_everybody_may_ask_what_they_may(simulator, connect):
    """The review tells of rights by name and namespace."""
    token = simulator.account("one", Rule(["get"], names=["db"]), Rule(["list"], namespace=None))
    api = client.AuthorizationV1Api(connect(token))

    def may(verb, name=None, namespace=NS):
        attributes = client.V1ResourceAttributes(
            verb=verb, resource="secrets", name=name, namespace=namespace
        )
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        return api.create_self_subject_access_review(review).status.allowed

    assert (True, False, False, True) == (
        may("get", "db"),
        may("get", "other"),
        may("get"),
        may("list", namespace=None),
    )


def test_a_token_is_issued_and_ends():
    """A service account's token works until its time is over."""
    clock = FakeClock()
    with KubernetesSimulator(clock=clock) as running:
        running.account("app", Rule(["get", "list"]))
        settings = client.Configuration(host=running.base_url)
        settings.api_key = {"authorization": f"Bearer {running.admin()}"}
        with client.ApiClient(settings) as api:
            core = client.CoreV1Api(api)
            short = client.AuthenticationV1TokenRequest(
                spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=60)
            )
            refused(
                422,
                "Invalid",
                lambda: core.create_namespaced_service_account_token("app", NS, short),
            )
            wanted = client.AuthenticationV1TokenRequest(
                spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600)
            )
            token = core.create_namespaced_service_account_token("app", NS, wanted).status.token
            review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token))
            found = client.AuthenticationV1Api(api).create_token_review(review).status
            assert "system:serviceaccount:default:app" == found.user.username
            settings.api_key = {"authorization": f"Bearer {token}"}
            assert [] == core.list_namespaced_secret(NS).items
            clock.advance(601)
            refused(401, "Unauthorized", lambda: core.list_namespaced_secret(NS))
            api.rest_client.pool_manager.clear()


@pytest.mark.parametrize("since", [None, "0", "first"])
def test_a_watch_tells_of_changes(core, since):
    """From nothing or 0 it begins with what is there; from a version, with what came after."""
    first = core.create_namespaced_secret(NS, secret())
    core.create_namespaced_secret(NS, secret("unwatched"))
    timer = threading.Timer(
        0.1,
        core.patch_namespaced_secret,
        ("db", NS, {"stringData": {"password": "2"}}),
        {"_content_type": MERGE},
    )
    timer.start()
    more = {} if since is None else {"resource_version": "0"}
    if since == "first":
        more = {"resource_version": first.metadata.resource_version}
    seen = [
        (event["type"], event["object"].metadata.name)
        for event in watch.Watch().stream(
            core.list_namespaced_secret,
            NS,
            field_selector="metadata.name=db",
            timeout_seconds=1,
            **more,
        )
    ]
    timer.join()
    wanted = [("ADDED", "db"), ("MODIFIED", "db")]
    assert wanted[1 if since == "first" else 0 :] == seen


RESTART = {
    "spec": {
        "template": {
            "metadata": {
                "annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-02T03:04:05Z"}
            }
        }
    }
}


def test_a_change_of_the_template_is_rolled_out(apps, simulator):
    """The generation grows, and the status catches up after so many looks."""
    simulator.deploy("web", replicas=2, looks=5)
    assert 1 == apps.read_namespaced_deployment("web", NS).metadata.generation
    patched = apps.patch_namespaced_deployment("web", NS, RESTART, _content_type=MERGE)
    assert 2 == patched.metadata.generation
    seen = []
    for _ in range(6):
        status = apps.read_namespaced_deployment("web", NS).status
        counts = (status.updated_replicas, status.replicas, status.available_replicas)
        seen.append((status.observed_generation, *counts))
    assert [
        (1, 2, 2, 2),
        (2, 1, 3, 2),
        (2, 2, 3, 2),
        (2, 2, 2, 1),
        (2, 2, 2, 2),
        (2, 2, 2, 2),
    ] == seen


def test_the_same_template_is_no_rollout(apps, simulator):
    """A patch of nothing changes no generation."""
    simulator.deploy("web", looks=1)
    apps.patch_namespaced_deployment("web", NS, RESTART, _content_type=MERGE)
    again = apps.patch_namespaced_deployment("web", NS, RESTART, _content_type=MERGE)
    assert 2 == again.metadata.generation


def test_a_rollout_ends_on_command(apps, simulator):
    """As it should, or at its deadline."""
    simulator.deploy("web", looks=None)
    apps.patch_namespaced_deployment("web", NS, RESTART, _content_type=MERGE)
    for _ in range(5):
        status = apps.read_namespaced_deployment("web", NS).status
    assert (2, 1) == (status.updated_replicas, status.available_replicas)
    simulator.settle("web", done=False)
    status = apps.read_namespaced_deployment("web", NS).status
    (progressing,) = [one for one in status.conditions if one.type == "Progressing"]
    assert ("False", "ProgressDeadlineExceeded") == (progressing.status, progressing.reason)
    simulator.settle("web", done=True)
    status = apps.read_namespaced_deployment("web", NS).status
    assert (2, 2) == (status.updated_replicas, status.available_replicas)


def test_stateful_and_daemon_sets_are_there_too(apps, simulator):
    """Each with the status of its own type."""
    simulator.deploy("db", resource="statefulsets", looks=3)
    simulator.deploy("log", resource="daemonsets", looks=3)
    apps.patch_namespaced_stateful_set("db", NS, RESTART, _content_type=MERGE)
    apps.patch_namespaced_daemon_set("log", NS, RESTART, _content_type=MERGE)
    stateful = [apps.read_namespaced_stateful_set("db", NS).status for _ in range(3)]
    assert [True, False, True] == [one.current_revision == one.update_revision for one in stateful]
    daemons = [apps.read_namespaced_daemon_set("log", NS).status for _ in range(3)]
    assert [2, 1, 2] == [one.updated_number_scheduled for one in daemons]


def test_faults_come_on_demand(core, simulator):
    """Too many requests, broken, unavailable: nothing is done."""
    for status, reason in (
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
    ):
        simulator.refuse_next("POST .*secrets", status, retry_after=7)
        with pytest.raises(ApiException) as caught:
            core.create_namespaced_secret(NS, secret())
        assert (status, "7") == (caught.value.status, caught.value.headers["Retry-After"])
        assert reason == json.loads(caught.value.body)["reason"]
    assert simulator.stored("db") is None


def test_an_answer_is_lost_after_the_change(core, simulator):
    """The connection ends, and the object is there."""
    simulator.fail_next("POST .*secrets", Fault.LOST)
    with pytest.raises(Exception, match="(?i)connection|closed|aborted"):
        core.create_namespaced_secret(NS, secret())
    assert {"password": b"one"} == simulator.stored("db")


def test_an_answer_is_slow(core, simulator):
    """It comes late, and others are served meanwhile."""
    simulator.fail_next("GET .*secrets/db", Fault.SLOW, seconds=0.3)
    core.create_namespaced_secret(NS, secret())
    started = time.monotonic()
    core.read_namespaced_secret("db", NS)
    assert time.monotonic() - started >= 0.3


def test_what_is_not_played_is_not_there(core):
    """Other sorts of objects are no part of it."""
    refused(404, "NotFound", lambda: core.list_namespaced_config_map(NS))
    refused(404, "NotFound", lambda: core.list_namespace())


def test_names_and_namespaces_must_agree(core):
    """What the body says with what the path says."""
    core.create_namespaced_secret(NS, secret())
    refused(400, "BadRequest", lambda: core.replace_namespaced_secret("db", NS, secret("other")))
    elsewhere = secret("new")
    elsewhere.metadata.namespace = "kube-system"
    refused(400, "BadRequest", lambda: core.create_namespaced_secret(NS, elsewhere))


def test_a_new_object_names_no_version(core):
    """The server gives it one."""
    given = secret(version="5")
    body = refused(500, "InternalError", lambda: core.create_namespaced_secret(NS, given))
    assert "resourceVersion should not be set" in body["message"]


def test_another_object_of_the_same_name_is_a_conflict(core):
    """The uid tells them apart."""
    core.create_namespaced_secret(NS, secret())
    given = secret()
    given.metadata.uid = "00000000-0000-0000-0000-000000000000"
    refused(409, "Conflict", lambda: core.replace_namespaced_secret("db", NS, given))
    gone = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=given.metadata.uid))
    refused(409, "Conflict", lambda: core.delete_namespaced_secret("db", NS, body=gone))


def test_only_one_sort_of_dry_run_is_known(core, simulator):
    """Another word for it changes nothing."""
    refused(422, "Invalid", lambda: core.create_namespaced_secret(NS, secret(), dry_run="Some"))
    assert simulator.stored("db") is None


def test_selectors_of_every_form(core):
    """Equal, unequal, there, not there, and by field."""
    core.create_namespaced_secret(NS, secret("a", labels={"app": "x"}))
    core.create_namespaced_secret(NS, secret("b", labels={"app": "y", "tier": "z"}))

    def names(**selector):
        return [one.metadata.name for one in core.list_namespaced_secret(NS, **selector).items]

    assert ["a"] == names(label_selector="app==x")
    assert ["b"] == names(label_selector="app!=x")
    assert ["b"] == names(label_selector="tier")
    assert ["a"] == names(label_selector="!tier,app")
    assert ["b"] == names(field_selector="metadata.name=b,type=Opaque")
    assert [] == names(field_selector="metadata.name!=b,metadata.name!=a")


def test_more_than_the_server_reads_is_refused(core):
    """Before it is looked at."""
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_secret(NS, secret(text={"a": "x" * 3_200_000}))
    assert 413 == caught.value.status
    assert "RequestEntityTooLarge" == json.loads(caught.value.body)["reason"]


def test_two_conflicts_are_told_together(core):
    """Each with its field, and the manager once."""
    core.create_namespaced_secret(NS, secret(text={"a": "1", "b": "2"}), field_manager="other")
    body = refused(409, "Conflict", lambda: apply(core, {"a": "x", "b": "y"}))
    assert body["message"] == (
        'Apply failed with 2 conflicts: conflicts with "other" using v1:\n- .data.a\n- .data.b'
    )


def test_an_apply_makes_what_is_not_there_unless_it_names_a_version(core, simulator):
    """Whoever changes what they saw is told that it is gone."""
    refused(409, "Conflict", lambda: apply(core, {"a": "1"}, metadata={"resourceVersion": "7"}))
    assert simulator.stored("db") is None
    apply(core, {"a": "1"})
    assert {"a": b"1"} == simulator.stored("db")
