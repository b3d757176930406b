"""The Kubernetes store on an API server: what it writes, what it refuses, and what goes wrong."""

from __future__ import annotations

import ssl
import threading

import kubernetes
import pytest

from keyturn._internal import failpoints
from keyturn._internal.kubernetes import KubernetesApi
from keyturn._internal.kubernetes_login import ClusterLogin
from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, StoreName, Token
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.errors import (
    AccessDenied,
    Conflict,
    Corrupt,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
)
from keyturn.manifest import LiveKeys, StoreKind, StoreSettings
from keyturn.stores._context import StoreContext
from keyturn.stores._kubernetes_config import cluster_login
from keyturn.stores.kubernetes import KubernetesLayout, KubernetesSettings, build
from keyturn.stores.outside import OutsideStore
from keyturn.testing import FakeClock
from keyturn.testing.kubernetes import Fault, KubernetesSimulator, Rule
from keyturn.testing.simulators import Reply
from tests.worlds.authority import Authority

PRODUCTION = EnvironmentName("production")
DB = SecretRef(PRODUCTION, SecretName("db"))
API = SecretRef(PRODUCTION, SecretName("api-key"))
LIVE, ASIDE = "clipper-secrets", "clipper-secrets-keyturn"
ON_LIVE, ON_ASIDE = f"secrets/{LIVE}$", f"secrets/{ASIDE}$"
ROLE = Rule(["get", "create", "patch"])


@pytest.fixture
def simulator():
    with KubernetesSimulator() as running:
        yield running


@pytest.fixture(autouse=True)
def unarmed():
    yield
    failpoints.disarm()


@pytest.fixture
def layouts(simulator):
    """Return a function that makes a layout."""
    made = []

    def make(*, token=None, clock=None, **settings):
        login = ClusterLogin(
            simulator.base_url,
            "the test's login",
            token=SecretValue.from_text(token or simulator.admin()),
        )
        layout = KubernetesLayout(
            KubernetesSettings(**settings),
            login,
            project="clipper",
            clock=clock or SystemClock(),
            entropy=SystemEntropy(),
        )
        made.append(layout)
        return layout

    yield make
    for layout in made:
        layout.close()


@pytest.fixture
def connect(layouts):
    """Return a function that opens the store."""

    def open_store(**more):
        return OutsideStore(layouts(**more), clock=SystemClock(), entropy=SystemEntropy())

    return open_store


@pytest.fixture
def store(connect):
    return connect()


@pytest.fixture
def admin(simulator):
    """Somebody else at the same server."""
    login = ClusterLogin(
        simulator.base_url, "admin", token=SecretValue.from_text(simulator.admin())
    )
    api = KubernetesApi(login, clock=SystemClock(), entropy=SystemEntropy())
    yield api
    api.close()


def put(store, data, *, ref=DB, token="t", field="password"):
    values = {FieldName(field): SecretValue(data)}
    return store.put_pending(ref, values, origin=Origin.SET, token=Token(token)).number


def activate(store, data, *, ref=DB, field="password"):
    state = store.state(ref)
    number = put(store, data, ref=ref, field=field, token=f"token {state.next_number}")
    store.promote(ref, number, expected_current=state.current)
    return number


def test_applications_find_what_is_current(store, simulator):
    """One Secret, a key for each field, and nothing in it that is not current."""
    activate(store, b"one")
    activate(store, b"key", ref=API, field="value")
    put(store, b"two", token="later")
    assert {"db-password": b"one", "api-key": b"key"} == simulator.stored(LIVE)
    aside = simulator.stored(ASIDE)
    assert "ledger" in aside
    assert 4 == len(aside)


def test_the_published_client_reads_it(store, simulator):
    """As an operator's own program does: base64 of the value itself."""
    activate(store, "pässwörd\n".encode())
    settings = kubernetes.client.Configuration(host=simulator.base_url)
    settings.api_key = {"authorization": f"Bearer {simulator.admin()}"}
    with kubernetes.client.ApiClient(settings) as api:
        found = kubernetes.client.CoreV1Api(api).read_namespaced_secret(LIVE, "default")
        api.rest_client.pool_manager.clear()
    assert "cMOkc3N3w7ZyZAo=" == found.data["db-password"]
    assert "Opaque" == found.type
    assert {"app.kubernetes.io/managed-by": "keyturn"} == found.metadata.labels


def test_keys_of_others_stay(store, simulator, admin):
    """What somebody put into the Secret beside ours survives every write."""
    admin.request(
        "POST",
        "/api/v1/namespaces/default/secrets",
        {"metadata": {"name": LIVE}, "stringData": {"theirs": "stays"}},
        about="it",
        query={"fieldManager": "argocd-controller"},
    )
    for data in (b"one", b"two", b"three"):
        activate(store, data)
    assert {"db-password": b"three", "theirs": b"stays"} == simulator.stored(LIVE)


def test_the_server_knows_which_keys_are_keyturns(store, simulator, admin):
    """After the first change they are of its own apply, whole."""
    activate(store, b"one")
    activate(store, b"key", ref=API, field="value")
    activate(store, b"two")
    found = admin.get("/api/v1/namespaces/default/secrets/" + LIVE, about="it")
    entries = found["metadata"]["managedFields"]
    applied = [one for one in entries if (one["manager"], one["operation"]) == ("keyturn", "Apply")]
    assert {".": {}, "f:db-password": {}, "f:api-key": {}} == applied[0]["fieldsV1"]["f:data"]


def test_a_controllers_key_is_not_fought_over(connect, simulator, admin):
    """The message names the manager; who insists may take it over."""
    store = connect()
    activate(store, b"one")
    admin.request(
        "PATCH",
        f"/api/v1/namespaces/default/secrets/{LIVE}",
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": LIVE},
            "data": {"db-password": "b25l"},
        },
        about="it",
        sort="application/apply-patch+yaml",
        query={"fieldManager": "argocd-controller"},
    )
    number = put(store, b"two", token="next")
    with pytest.raises(Rejected) as caught:
        store.promote(DB, number, expected_current=1)
    assert "store.owned" == caught.value.code
    assert "`argocd-controller`" in caught.value.message
    assert {"db-password": b"one"} == simulator.stored(LIVE)
    connect(take_over=True).promote(DB, number, expected_current=1)
    assert {"db-password": b"two"} == simulator.stored(LIVE)


def test_a_field_that_goes_leaves_the_secret(store, simulator):
    """A version with fewer fields removes the key, in the same write."""
    values = {FieldName("username"): SecretValue(b"u"), FieldName("password"): SecretValue(b"p")}
    number = store.put_pending(DB, values, origin=Origin.SET, token=Token("a")).number
    store.promote(DB, number, expected_current=None)
    activate(store, b"key", ref=API, field="value")
    activate(store, b"two")
    assert {"db-password": b"two", "api-key": b"key"} == simulator.stored(LIVE)
    number = store.put_pending(DB, values, origin=Origin.SET, token=Token("b")).number
    store.promote(DB, number, expected_current=2)
    activate(store, b"key2", ref=API, field="value")
    activate(store, b"three")
    assert {"db-password": b"three", "api-key": b"key2"} == simulator.stored(LIVE)


def test_an_immutable_secret_is_refused_before_it_is_tried(store, simulator, admin):
    """The message says so, and what to do."""
    activate(store, b"one")
    admin.request(
        "PATCH",
        f"/api/v1/namespaces/default/secrets/{LIVE}",
        {"immutable": True},
        about="it",
        sort="application/merge-patch+json",
    )
    number = put(store, b"two", token="next")
    asked = simulator.asked(f"PATCH .*{LIVE}$")
    with pytest.raises(Rejected, match="immutable") as caught:
        store.promote(DB, number, expected_current=1)
    assert "kubectl -n default delete secret clipper-secrets" in caught.value.hint
    assert asked == simulator.asked(f"PATCH .*{LIVE}$")


def test_what_does_not_fit_is_refused_before_it_is_sent(layouts, simulator):
    """A mebibyte in all, as the server counts it, and not one byte more."""
    place = layouts().place(DB)
    seen = place.look(live=True, ledger=True)
    with pytest.raises(Rejected, match="1048577 bytes") as caught:
        place.write_live({"a": b"x" * 1_048_576, "b": b"y"}, seen=seen)
    assert "store.too_large" == caught.value.code
    with pytest.raises(Rejected, match="1048577 bytes"):
        place.write_ledger(b"l", keep={"a": b"x" * 1_048_576}, drop=[], seen=seen)
    assert 0 == simulator.asked("POST")
    place.write_live({"a": b"x" * 1_048_576}, seen=seen)
    assert 1_048_576 == len(simulator.stored(LIVE)["a"])


def test_a_stale_mark_loses(layouts, simulator):
    """Of a write, of a first write, of the ledger, and where the Secret is gone or made anew."""
    layout = layouts()
    place = layout.place(DB)
    empty = place.look(live=True, ledger=True)
    place.write_live({"a": b"1"}, seen=empty)
    place.write_ledger(b"{}", keep={}, drop=[], seen=empty)
    seen = place.look(live=True, ledger=True)
    place.write_live({"a": b"2"}, seen=seen)
    place.write_ledger(b"{ }", keep={"k": b"v"}, drop=["none"], seen=seen)

    def lost(action):
        with pytest.raises(Conflict) as caught:
            action()
        assert "store.mark" == caught.value.code

    for stale in (empty, seen):
        lost(lambda stale=stale: place.write_live({"a": b"3"}, seen=stale))
        lost(lambda stale=stale: place.write_ledger(b"!", keep={}, drop=[], seen=stale))
    assert ({"a": b"2"}, b"v") == (simulator.stored(LIVE), place.kept("k"))
    seen = place.look(live=True, ledger=True)
    for name in (LIVE, ASIDE):
        layout._api.request("DELETE", f"/api/v1/namespaces/default/secrets/{name}", about="it")
    lost(lambda: place.write_live({"a": b"3"}, seen=seen))
    lost(lambda: place.write_ledger(b"!", keep={}, drop=[], seen=seen))
    place.write_live({"a": b"4"}, seen=empty)
    lost(lambda: place.write_live({"a": b"5"}, seen=seen))


def test_a_key_without_a_value_is_empty(layouts, simulator):
    """A server writes it as null; what is not base64 is no value at all."""
    place = layouts().place(DB)
    body = {"metadata": {"resourceVersion": "7", "uid": "u"}, "data": {"a": None, "b": "YQ=="}}
    simulator.answer_next(f"GET .*{ON_LIVE}", Reply(200, body))
    assert {"a": b"", "b": b"a"} == place.look(live=True, ledger=False).live
    for broken in (body | {"data": {"a": "%"}}, {"data": {}}):
        simulator.answer_next(f"GET .*{ON_LIVE}", Reply(200, broken))
        with pytest.raises(Corrupt):
            place.look(live=True, ledger=False)


def test_what_is_dropped_is_gone(store, simulator):
    """A destroyed version leaves no value behind."""
    activate(store, b"first value")
    activate(store, b"second value")
    activate(store, b"third value")
    store.destroy(DB, 1)
    assert [2, 3] == sorted(int(key.split(".")[1]) for key in simulator.stored(ASIDE) if "." in key)


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_a_server_in_trouble_is_asked_again(store, simulator, status):
    """Reads and changes come through when it is over, whatever it said before."""
    simulator.refuse_next("GET", status, times=3)
    simulator.refuse_next("POST|PATCH", status, times=3)
    activate(store, b"one")
    assert {"db-password": b"one"} == simulator.stored(LIVE)
    assert SecretValue(b"one") == store.read(DB, Stage.CURRENT).values[FieldName("password")]


def test_a_server_that_stays_in_trouble_is_given_up(layouts, simulator):
    """After its patience, and by a clock; a change that may have been made is not denied."""
    clock = FakeClock()
    place = layouts(clock=clock).place(DB)
    seen = place.look(live=True, ledger=True)
    started = clock.monotonic()
    simulator.refuse_next(".", 503, times=10_000)
    with pytest.raises(Unavailable):
        place.look(live=True, ledger=False)
    assert 5 < clock.monotonic() - started <= 10
    with pytest.raises(OutcomeUnknown):
        place.write_live({"a": b"1"}, seen=seen)


def test_a_limit_is_waited_for(layouts, simulator):
    """As long as the server asks, or not at all where that is too long."""
    clock = FakeClock()
    place = layouts(clock=clock).place(DB)
    started = clock.monotonic()
    simulator.refuse_next("GET", 429, retry_after=4)
    place.look(live=True, ledger=False)
    assert 4 <= clock.monotonic() - started < 5
    seen = place.look(live=True, ledger=True)
    simulator.refuse_next("POST", 429, retry_after=60)
    with pytest.raises(Unavailable, match="limits how often"):
        place.write_live({"a": b"1"}, seen=seen)
    assert simulator.stored(LIVE) is None


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.BROKEN_AFTER])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("where", ["POST .*secrets$", f"PATCH .*{ON_LIVE}", f"PATCH .*{ON_ASIDE}"])
def test_a_lost_answer_is_settled(store, simulator, fault, first, where):
    """The change was made: it is found, and not made twice."""
    if not first:
        activate(store, b"zero")
    simulator.fail_next(where, fault)
    number = activate(store, b"one")
    assert {"db-password": b"one"} == simulator.stored(LIVE)
    state = store.state(DB)
    assert (number, None, number - 1 or None) == (state.current, state.pending, state.previous)
    assert number == len(store.history(DB))


def test_a_lost_answer_is_never_a_no(layouts, simulator):
    """The place itself says that it does not know."""
    place = layouts().place(DB)
    seen = place.look(live=True, ledger=True)
    simulator.fail_next("POST", Fault.LOST)
    with pytest.raises(OutcomeUnknown):
        place.write_live({"a": b"1"}, seen=seen)
    simulator.fail_next("POST", Fault.BROKEN_AFTER)
    with pytest.raises(OutcomeUnknown):
        place.write_ledger(b"{}", keep={}, drop=[], seen=seen)
    assert simulator.stored(ASIDE) is not None


def test_a_connection_that_was_ended_is_made_again(store, simulator):
    """A server that closed what was idle is asked by another."""
    activate(store, b"one")
    simulator.hang_up()
    activate(store, b"two")
    assert {"db-password": b"two"} == simulator.stored(LIVE)


def test_a_server_that_is_gone_is_unavailable(layouts, simulator):
    """Nothing was sent, so nothing is in doubt."""
    place = layouts(clock=FakeClock()).place(DB)
    seen = place.look(live=True, ledger=True)
    simulator.stop()
    for action in (
        lambda: place.look(live=True, ledger=False),
        lambda: place.write_live({"a": b"1"}, seen=seen),
    ):
        with pytest.raises(Unavailable):
            action()


@pytest.mark.parametrize("point", ["write", "written", "keep", "kept"])
def test_dying_at_any_write_is_settled_by_the_next(connect, simulator, point):
    """Whoever comes next finds one truth, and goes on from it."""
    store = connect()
    activate(store, b"one")
    failpoints.arm(f"store.kubernetes.{point}:error")
    with pytest.raises(OSError, match="Input/output"):
        activate(store, b"two")
    failpoints.disarm()
    later = connect()
    live = simulator.stored(LIVE)["db-password"]
    assert SecretValue(live) == later.read(DB, Stage.CURRENT).values[FieldName("password")]
    state = later.state(DB)
    number = state.pending or put(later, b"two", token="again")
    later.promote(DB, number, expected_current=state.current)
    assert {"db-password": b"two"} == simulator.stored(LIVE)


def test_two_writers_lose_nothing(connect, simulator):
    """Two hundred writes of two secrets in one Secret, by two at once: each one is there."""
    failures = []

    def write(ref):
        try:
            store = connect()
            for number in range(1, 101):
                assert number == activate(store, b"%d" % number, ref=ref)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(ref,)) for ref in (DB, API)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [] == failures
    live = simulator.stored(LIVE)
    assert {"db-password": b"100", "api-key-password": b"100"} == live
    store = connect()
    assert [100, 100] == [store.state(ref).current for ref in (DB, API)]
    assert [100, 100] == [len(store.history(ref)) for ref in (DB, API)]


def test_two_writers_of_one_secret_have_one_winner(connect):
    """Two hundred times: one pending version, one clean loser."""
    stores = [connect(), connect()]
    barrier = threading.Barrier(2)
    results: list[list[object]] = [[], []]

    def write(who):
        for number in range(200):
            barrier.wait(30)
            try:
                found = put(stores[who], b"%d" % who, token=f"{number} {who}")
                results[who].append(found)
            except Conflict as error:
                results[who].append(error.code)
            barrier.wait(30)
            if isinstance(results[who][-1], int):
                stores[who].discard_pending(DB, results[who][-1])
            barrier.wait(30)

    threads = [threading.Thread(target=write, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [200, 200] == [len(one) for one in results]
    for number, pair in enumerate(zip(*results, strict=True), start=1):
        assert {number, "store.pending"} == set(pair)


def test_a_role_of_three_verbs_is_enough(connect, simulator):
    """Get, create and patch, in one namespace: no list, no delete, no update."""
    store = connect(token=simulator.account("keyturn", ROLE))
    activate(store, b"one")
    activate(store, b"two")
    assert {DB.name: store.state(DB)} == dict(store.states(PRODUCTION))
    assert 2 == len(store.history(DB))


def test_a_missing_right_is_named(connect, simulator):
    """Which, on what, and for whom; and a token that is unknown."""
    reader = connect(token=simulator.account("reader", Rule(["get"])))
    with pytest.raises(AccessDenied, match="the test's login may not make the Secret") as caught:
        put(reader, b"one")
    assert "store.denied" == caught.value.code
    blind = connect(token=simulator.account("blind"))
    with pytest.raises(AccessDenied, match=f"may not read the Secret `{ASIDE}`"):
        blind.state(DB)
    stranger = connect(token="not-a-token")
    with pytest.raises(AccessDenied, match="does not know the test's login"):
        stranger.state(DB)
    with pytest.raises(UsageError, match="characters that no token has"):
        connect(token="two\nlines").state(DB)


def test_a_namespace_that_is_not_there_is_told(connect):
    """Before anything is made."""
    with pytest.raises(NotFound, match="nowhere"):
        put(connect(namespace="nowhere"), b"one")


def test_two_environments_do_not_share_a_secret(connect):
    """The second one is refused, and told how to keep them apart."""
    store = connect()
    activate(store, b"one")
    other = SecretRef(EnvironmentName("staging"), DB.name)
    with pytest.raises(Rejected, match="is of `production`, not of `staging`") as caught:
        put(store, b"two", ref=other)
    assert "store.shared" == caught.value.code
    apart = connect(name="{project}-{environment}")
    activate(apart, b"one")
    activate(apart, b"two", ref=other)


def test_what_kubernetes_cannot_name_is_refused(connect, layouts):
    """A secret whose name ends in a hyphen, or like what lies aside; a namespace."""
    each = {"per_secret": True}
    for name in ("db-", "db-keyturn"):
        with pytest.raises(Rejected) as caught:
            put(connect(**each), b"one", ref=SecretRef(PRODUCTION, SecretName(name)))
        assert "store.name" == caught.value.code
    with pytest.raises(Rejected, match="cannot be a namespace"):
        connect(namespace="No Such").state(DB)
    with pytest.raises(UsageError, match="the same for each secret"):
        layouts(per_secret=True, name="{project}")


def test_a_secret_each_is_found_without_reading_values(connect, simulator):
    """A list of metadata tells which there are; somebody's own Secrets are not ours."""
    store = connect(per_secret=True)
    activate(store, b"one")
    activate(store, b"key", ref=API, field="value")
    assert {"password": b"one"} == simulator.stored("clipper-db")
    assert {"value": b"key"} == simulator.stored("clipper-api-key")
    assert [API.name, DB.name] == list(store.states(PRODUCTION))
    assert 1 == simulator.asked("GET .*/secrets$")
    assert {} == dict(store.states(EnvironmentName("staging")))


def test_a_long_list_comes_in_pages(connect, simulator):
    """Each page is asked for, and a list without an end is given up."""
    store = connect(per_secret=True)
    activate(store, b"one")
    page = {"items": [], "metadata": {"continue": "0"}}
    simulator.answer_next("GET .*/secrets$", Reply(200, page), times=2)
    assert [DB.name] == list(store.states(PRODUCTION))
    assert 3 == simulator.asked("GET .*/secrets$")
    simulator.answer_next("GET .*/secrets$", Reply(200, page), times=10_000)
    with pytest.raises(Rejected, match="without an end"):
        store.states(PRODUCTION)


def test_a_redirect_is_not_followed(store, simulator):
    """A token goes to the server of the login and nowhere else."""
    away = Reply(302, None, {"Location": "http://127.0.0.1:1/"})
    simulator.answer_next("GET", away)
    with pytest.raises(Rejected, match="a redirect, which is not followed"):
        store.state(DB)


def test_drift_is_seen_and_settled(store, simulator, admin):
    """What somebody wrote behind our back is told, accepted, or put right."""
    activate(store, b"one")

    def meddle(text):
        admin.request(
            "PATCH",
            f"/api/v1/namespaces/default/secrets/{LIVE}",
            {"stringData": {"db-password": text}},
            about="it",
            sort="application/merge-patch+json",
            query={"fieldManager": "kubectl-edit"},
        )

    meddle("theirs")
    assert [DB.name] == list(store.drifts(PRODUCTION))
    with pytest.raises(Conflict) as caught:
        activate(store, b"two")
    assert "store.drift" == caught.value.code
    store.restore(DB)
    assert {"db-password": b"one"} == simulator.stored(LIVE)
    store.discard_pending(DB, 2)
    meddle("theirs")
    store.accept(DB, [FieldName("password")])
    assert {} == dict(store.drifts(PRODUCTION))
    activate(store, b"four")
    assert {"db-password": b"four"} == simulator.stored(LIVE)


def test_advice_tells_of_rights_that_are_too_broad(layouts, simulator):
    """Everything, every namespace, or neither; and of what cannot be known, always."""
    everything = layouts().advice(PRODUCTION)
    broad = simulator.account("broad", ROLE, Rule(["list"], namespace=None))
    narrow = simulator.account("narrow", ROLE)
    assert "may do everything in the cluster" in everything[0]
    assert "every namespace" in layouts(token=broad).advice(PRODUCTION)[0]
    (only,) = layouts(token=narrow).advice(PRODUCTION)
    assert "EncryptionConfiguration" in only
    assert only == everything[-1]


def test_no_value_stands_in_an_error(layouts, simulator):
    """A refusal names the field; the server's own words stay out."""
    place = layouts().place(DB)
    seen = place.look(live=True, ledger=True)
    with pytest.raises(Rejected) as caught:
        place.write_live({"bad key": b"fake-value-for-tests"}, seen=seen)
    said = f"{caught.value.message} {caught.value.hint}"
    assert "422 Invalid" in said
    assert "fake-value" not in said
    assert "regex" not in said


# --- TLS ---------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def halves(file):
    """Return the certificate and the key of a file with both."""
    key, mark, certificate = file.read_text().partition("-----BEGIN CERTIFICATE-----")
    return mark + certificate, SecretValue.from_text(key)


@pytest.fixture
def https(authority):
    """Return a function that starts a server over TLS, by the name in its certificate."""
    running = []

    def start(name="127.0.0.1"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.certificate(name))
        context.load_verify_locations(authority.file)
        context.verify_mode = ssl.CERT_OPTIONAL
        server = KubernetesSimulator(tls=context).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()


def look(login):
    """Look once, with *login*."""
    api = KubernetesApi(login, clock=FakeClock(), entropy=SystemEntropy())
    try:
        return api.get("/api/v1/namespaces/default/secrets/db", about="the Secret")
    finally:
        api.close()


def test_a_server_proves_who_it_is(https, authority, tmp_path):
    """By the authority that the login names, and by no other."""
    server = https()
    token = SecretValue.from_text(server.admin())
    ours = authority.file.read_text()
    assert look(ClusterLogin(server.base_url, "the test", token=token, authority=ours)) is None
    asked = server.asked(".")
    (tmp_path / "other").mkdir()
    for other in (None, Authority(tmp_path / "other").file.read_text()):
        with pytest.raises(Rejected, match="does not prove who it is"):
            look(ClusterLogin(server.base_url, "the test", token=token, authority=other))
    assert asked == server.asked(".")


def test_a_server_goes_by_its_name(https, authority):
    """The host's, or the one that the login gives."""
    name = "kubernetes.default.svc"
    server = https(name)
    login = {
        "token": SecretValue.from_text(server.admin()),
        "authority": authority.file.read_text(),
    }
    with pytest.raises(Rejected, match="does not prove who it is"):
        look(ClusterLogin(server.base_url, "the test", **login))
    assert look(ClusterLogin(server.base_url, "the test", server_name=name, **login)) is None


def test_a_certificate_is_a_login(https, authority):
    """It says who we are, without a token, and never lies in a file of ours."""
    server = https()
    certificate, key = halves(authority.certificate("keyturn"))
    mine = {"authority": authority.file.read_text(), "certificate": certificate}
    with pytest.raises(AccessDenied):
        look(ClusterLogin(server.base_url, "the test", key=key, **mine))
    server.access.bind("keyturn", Rule(["get"]))
    assert look(ClusterLogin(server.base_url, "the test", key=key, **mine)) is None
    _, another = halves(authority.certificate("keyturn"))
    with pytest.raises(UsageError, match="certificates of the test cannot be used"):
        look(ClusterLogin(server.base_url, "the test", key=another, **mine))


def test_the_login_is_the_pods_or_a_kubeconfigs(tmp_path, simulator):
    """What is named comes first; then the pod; then the usual file."""
    config = tmp_path / "named"
    config.write_text(
        "current-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: '{simulator.base_url}'}}}}]\n"
        f"users: [{{name: u, user: {{token: '{simulator.admin()}'}}}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    found = cluster_login(file=str(config), context=None, folder=tmp_path, environment=pod)
    assert simulator.base_url == found.server
    assert look(found) is None
    assert found == cluster_login(
        file=None, context="c", folder=tmp_path, environment={"KUBECONFIG": str(config)}
    )
    with pytest.raises(UsageError, match="serviceaccount"):
        cluster_login(file=None, context=None, folder=tmp_path, environment=pod)
    (tmp_path / ".kube").mkdir()
    config.rename(tmp_path / ".kube" / "config")
    usual = cluster_login(
        file=None, context=None, folder=tmp_path, environment={"HOME": str(tmp_path)}
    )
    assert found.server == usual.server


def test_the_manifest_builds_it(tmp_path, simulator):
    """From its keys alone; fields may be called by their variables."""
    (tmp_path / "kube.yaml").write_text(
        "current-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: '{simulator.base_url}'}}}}]\n"
        f"users: [{{name: u, user: {{token: '{simulator.admin()}'}}}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u, namespace: kube-system}}]\n"
    )

    def open_store(keys, **options):
        settings = StoreSettings(
            StoreName("k8s"), StoreKind.KUBERNETES, {"kubeconfig": "kube.yaml"} | options, keys
        )
        context = StoreContext(
            settings=settings,
            project="clipper",
            folder=tmp_path,
            state=tmp_path,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            variable=lambda ref, field: None,
            facts=lambda ref: {},
            ask=lambda words: SecretValue(b""),
            keep=lambda environment: None,
        )
        return build(context)

    store = open_store(LiveKeys.NAMES)
    activate(store, b"one")
    assert {"db-password": b"one"} == simulator.stored(LIVE, namespace="kube-system")
    store.close()
    store = open_store(LiveKeys.VARIABLES, namespace="default", name="{project}-{environment}")
    activate(store, b"one")
    assert {"DB_PASSWORD": b"one"} == simulator.stored("clipper-production")
    store.close()
    store = open_store(LiveKeys.NAMES, layout="secret", namespace="default")
    activate(store, b"one")
    assert {"password": b"one"} == simulator.stored("clipper-db")
    store.close()
