"""A store in Vault whose server fails: answers lost, storms, redirects, a leader that dies."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from keyturn.core.clock import SystemClock
from keyturn.core.model import Stage
from keyturn.errors import OutcomeUnknown, Rejected, Unavailable
from keyturn.testing.openbao import cluster
from keyturn.testing.simulators import Fault, Reply
from tests.worlds.relay import Relay
from tests.worlds.vault_store import DB, ENVIRONMENT, VaultStoreWorld, activate, current, put


class Hurried(SystemClock):
    """A clock whose waiting takes no time, and is remembered."""

    def __init__(self):
        self.slept = []
        self.ahead = 0.0

    def monotonic(self):
        return super().monotonic() + self.ahead

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.ahead += seconds


@pytest.fixture(scope="module")
def running():
    made = VaultStoreWorld()
    yield made
    made.close()


@pytest.fixture
def world(running):
    yield running.fresh_mount()
    running.close_stores()


@pytest.fixture
def relay(world):
    with Relay(world.server.address, error={"errors": ["internal error"]}) as made:
        yield made
        world.close_stores()


@pytest.fixture
def clock():
    return Hurried()


@pytest.fixture
def store(world, relay, clock):
    """A store that reaches its server through the relay, with one version that is current."""
    made = world.store(addresses=(relay.base_url,), clock=clock)
    activate(made, b"one")
    return made


# --- answers that are lost ------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.BROKEN_AFTER, Fault.BROKEN_BEFORE])
@pytest.mark.parametrize("skip", range(4))
def test_a_lost_answer_to_a_write_is_settled_by_looking(world, relay, store, fault, skip):
    """Whichever write it is of a put and a promote, made or not: once done, and done once."""
    relay.fail_next(f"POST /v1/{world.mount}/", fault, skip=skip)
    activate(store, b"two")
    assert [entry.fault for entry in relay.journal].count(fault) == 1
    assert [version.number for version in store.history(DB)] == [2, 1]
    state = store.state(DB)
    assert (state.current, state.previous, state.pending) == (2, 1, None)
    assert world.live() == {"db": "two"}
    assert world.live_version() == 2
    assert not store.drifts(ENVIRONMENT)


def test_a_request_that_is_carried_out_late_changes_nothing(world, relay, store):
    """It names a version of the document that is the newest no longer."""
    relay.fail_next(f"POST /v1/{world.mount}/data/clipper", Fault.LATE)
    activate(store, b"two")
    activate(store, b"three")
    assert relay.catch_up() == 1
    assert world.live() == {"db": "three"}
    assert store.state(DB).current == 3


def test_a_write_whose_answers_are_all_lost_is_in_doubt(world, relay, store):
    """It ends, and says that it may have been made."""
    relay.fail_next(f"POST /v1/{world.mount}/data/clipper", Fault.BROKEN_BEFORE, times=1000)
    number = put(store, b"two")
    with pytest.raises(OutcomeUnknown):
        store.promote(DB, number, expected_current=1)
    assert relay.asked(f"POST /v1/{world.mount}/data/clipper") < 100


def test_a_server_that_goes_away_after_a_lost_answer_leaves_a_doubt(world, relay, store):
    """The write was made, so nobody may be told that nothing was."""
    number = put(store, b"two")
    relay.fail_next(f"POST /v1/{world.mount}/data/clipper", Fault.LOST)
    relay.fail_next("GET", Fault.BROKEN_BEFORE, times=10_000, skip=3)
    with pytest.raises(OutcomeUnknown):
        store.promote(DB, number, expected_current=1)
    assert world.live() == {"db": "two"}


# --- storms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LIMITED, Fault.BROKEN_BEFORE, Fault.LOST])
def test_a_storm_is_waited_for(relay, store, clock, fault):
    """Reads are tried again in growing pauses, until it is over."""
    clock.slept.clear()
    relay.fail_next("GET", fault, times=6, seconds=0)
    assert current(store) == b"one"
    assert len(clock.slept) == 6
    assert clock.slept[-1] > clock.slept[0]
    assert 0.3 < sum(clock.slept) < 10


@pytest.mark.parametrize("status", [412, 429, 472, 473, 500, 502, 503, 504])
def test_a_storm_that_does_not_end(relay, store, clock, status):
    """After the time that is set, the message says what the server says, without its words."""
    page = b"<html>the value is hunter2</html>"
    relay.answer_next("GET", Reply(status, page), times=10_000)
    clock.slept.clear()
    with pytest.raises(Unavailable) as raised:
        store.state(DB)
    assert str(status) in raised.value.message
    assert "hunter2" not in raised.value.message + raised.value.hint
    assert 5 < sum(clock.slept) <= 10
    assert len(clock.slept) < 40


def test_a_write_that_is_refused_for_now_is_made_later(world, relay, store, clock):
    """Too many requests change nothing, so the same request is sent again."""
    clock.slept.clear()
    relay.fail_next(f"POST /v1/{world.mount}/", Fault.LIMITED, times=3, seconds=2)
    activate(store, b"two")
    assert world.live() == {"db": "two"}
    assert sum(clock.slept) >= 6


def test_to_be_asked_to_wait_too_long(relay, store, clock):
    """An hour is not waited; it is said at once."""
    relay.fail_next("GET", Fault.LIMITED, times=100, seconds=3600)
    clock.slept.clear()
    with pytest.raises(Unavailable):
        store.state(DB)
    assert clock.slept == []


def test_words_that_are_not_the_vendors(world, relay, store):
    """A refusal that quotes what was sent is not quoted."""
    relay.answer_next(f"POST /v1/{world.mount}/", Reply(422, {"errors": ["bad: hunter2"]}))
    with pytest.raises(Rejected) as raised:
        put(store, b"hunter2")
    assert "hunter2" not in raised.value.message + str(raised.value.hint)
    assert "422" in raised.value.message


# --- redirects ------------------------------------------------------------------------------


def test_a_redirect_to_a_listed_address_is_followed(world, relay, clock):
    """A standby that passes nothing on sends us to the active node."""
    store = world.store(addresses=(relay.base_url, world.server.address), clock=clock)
    location = {"Location": f"{world.server.address}/v1/whatever"}
    relay.answer_next("", Reply(307, None, location), times=1)
    activate(store, b"one")
    assert world.live() == {"db": "one"}
    assert clock.slept == []


def test_the_token_goes_to_nobody_else(world, relay, clock):
    """A redirect to an address that is not listed is refused, and that server hears nothing."""
    with Relay(world.server.address) as stranger:
        store = world.store(addresses=(relay.base_url,), clock=clock)
        location = {"Location": f"{stranger.base_url}/v1/whatever"}
        relay.answer_next("", Reply(307, None, location), times=10_000)
        with pytest.raises(Unavailable, match="is on standby and sends us to") as raised:
            store.state(DB)
        assert stranger.base_url in raised.value.hint
        assert stranger.journal == []


def test_a_loop_of_redirects_ends(world, relay, clock):
    """Two nodes that name each other are down."""
    with Relay(world.server.address) as other:
        relay.answer_next("", Reply(307, None, {"Location": other.base_url}), times=10_000)
        other.answer_next("", Reply(307, None, {"Location": relay.base_url}), times=10_000)
        store = world.store(addresses=(relay.base_url, other.base_url), clock=clock)
        with pytest.raises(Unavailable, match="standby"):
            store.state(DB)
        assert len(relay.journal) + len(other.journal) < 200


# --- a cluster ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes():
    with cluster(3) as made:
        yield made


class ClusterWorld(VaultStoreWorld):
    """The same on a cluster."""

    def __init__(self, nodes):
        self.server = nodes
        self._own = False
        self.stores = []
        self.mount = "secret"


@pytest.fixture
def on_cluster(nodes):
    nodes.wait_until_formed()
    made = ClusterWorld(nodes).fresh_mount()
    yield made
    made.close_stores()


def test_a_standby_that_is_behind_is_not_believed(on_cluster, nodes):
    """What was written is there at once, through whichever node, for another process too."""
    leader = nodes.leader()
    for node in nodes.nodes:
        store = on_cluster.store(addresses=(node.address,), token=nodes.token)
        for number in range(10):
            data = b"%d" % number
            activate(store, data)
            for other in nodes.nodes:
                fresh = on_cluster.store(addresses=(other.address,), token=nodes.token)
                assert current(fresh) == data, (node is leader, other is leader)
                fresh.close()


def test_the_entry_limit_of_raft(on_cluster, nodes):
    """The largest value can be stored and made current; one that no entry holds is refused."""
    store = on_cluster.store(addresses=tuple(nodes.addresses), token=nodes.token)
    largest = b"\xff" * store.capabilities.max_value_bytes
    activate(store, largest)
    assert current(store) == largest
    with pytest.raises(Rejected) as raised:
        activate(store, b"<" * (200 * 1024) + b"\xff" * (300 * 1024), ref=DB)
        activate(store, b"<" * store.capabilities.max_value_bytes)
    assert raised.value.code == "store.too_large"


def test_the_leader_dies_while_values_are_written(on_cluster, nodes):
    """Nothing that was acknowledged is lost, and nothing is stuck."""
    addresses = tuple(nodes.addresses)
    acknowledged, failures = [], []
    stop = threading.Event()
    store = on_cluster.store(addresses=addresses, token=nodes.token, patience_seconds=20)

    def write():
        while not stop.is_set():
            try:
                acknowledged.append(activate(store, b"%d" % (len(acknowledged) + 1)))
            except Exception as error:  # noqa: BLE001 - judged below
                failures.append(error)
                return

    thread = threading.Thread(target=write)
    thread.start()
    until = time.monotonic() + 60
    while len(acknowledged) < 20 and not failures and time.monotonic() < until:
        time.sleep(0.05)
    victim = nodes.leader()
    victim.kill()
    killed, seen = time.monotonic(), len(acknowledged)
    while len(acknowledged) < seen + 20 and not failures and time.monotonic() < killed + 60:
        time.sleep(0.05)
    stop.set()
    thread.join(60)
    assert failures == []
    assert len(acknowledged) >= seen + 20
    assert acknowledged == list(range(1, len(acknowledged) + 1))
    victim.start()
    nodes.wait_until_formed()
    store = on_cluster.store(addresses=addresses, token=nodes.token)
    assert [version.number for version in store.history(DB)] == acknowledged[::-1]
    for number in acknowledged:
        assert store.read(DB, number).values["value"].reveal() == b"%d" % number
    assert store.state(DB).pending is None


def directly(node, world):
    """Return what *node* answers from its own copy."""
    answer = httpx.get(
        f"{node.address}/v1/{world.mount}/data/clipper/production",
        headers={"X-Vault-Token": world.server.token.reveal_text()},
        trust_env=False,
    )
    return answer.json()["data"]["data"] if answer.status_code == 200 else None


def eventually(holds):
    until = time.monotonic() + 20
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


def test_a_lone_survivor_does_not_serve(on_cluster, nodes):
    """Neither an old value is read from it nor a new one written, and both are said in time."""
    store = on_cluster.store(
        addresses=tuple(nodes.addresses), token=nodes.token, patience_seconds=1.0
    )
    activate(store, b"one")
    leader = nodes.leader()
    survivor = next(node for node in nodes.nodes if node is not leader)
    assert eventually(lambda: directly(survivor, on_cluster) == {"db": "one"})
    dead = [node for node in nodes.nodes if node is not survivor]
    for node in dead:
        node.kill()
    try:
        # So it would say to whoever does not ask for what is true now.
        assert directly(survivor, on_cluster) == {"db": "one"}
        begun = time.monotonic()
        with pytest.raises((Unavailable, OutcomeUnknown)):
            store.read(DB, Stage.CURRENT)
        with pytest.raises((Unavailable, OutcomeUnknown)):
            put(store, b"two")
        assert time.monotonic() - begun < 40
    finally:
        for node in dead:
            node.start()
        nodes.wait_until_formed()
    activate(store, b"two")
    assert current(store) == b"two"
