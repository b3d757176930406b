"""What is kept for a version that never came to be goes, and nothing else does."""

from __future__ import annotations

import threading

import pytest

from keyturn.core.ids import SecretName
from keyturn.core.model import SecretRef, Stage
from keyturn.errors import Conflict, OutcomeUnknown
from keyturn.stores.vault import VaultSettings, VaultShape, policy
from keyturn.testing.simulators import Fault
from tests.worlds.relay import Relay
from tests.worlds.vault_fixtures import running, world
from tests.worlds.vault_store import DB, ENVIRONMENT, activate, current, put

__all__ = ["running", "world"]

ASIDE = "keyturn/clipper/production"
LEDGER = f"/data/{ASIDE}/ledger"
VERSIONS = f"/metadata/{ASIDE}/versions"


class Meddler(Relay):
    """Lets somebody else act right before a request that changes the ledger."""

    before = None

    def respond(self, request):
        if request.method == "POST" and request.path.endswith(LEDGER) and self.before is not None:
            act, self.before = self.before, None
            act()
        return super().respond(request)


@pytest.fixture
def relay(world):
    with Meddler(world.server.address, error={"errors": ["internal error"]}) as made:
        yield made
        world.close_stores()


@pytest.fixture
def slow(world, relay):
    """A store that somebody else can be faster than."""
    made = world.store(addresses=(relay.base_url,))
    activate(made, b"one")
    return made


def kept(world):
    """Return (secret, number) of each document that is kept."""
    answer = world.server.request("LIST", f"{world.mount}{VERSIONS}")
    keys = answer.json()["data"]["keys"] if answer.status_code == 200 else []
    return sorted((key.split(".")[0], int(key.split(".")[1])) for key in keys)


def test_who_lost_the_race_leaves_nothing(world, relay, slow):
    """The other's version is pending, and the values of the loser's are nowhere."""
    other = world.store()
    relay.before = lambda: put(other, b"theirs")
    with pytest.raises(Conflict):
        put(slow, b"mine")
    assert kept(world) == [("db", 1), ("db", 2)]
    other.promote(DB, 2, expected_current=1)
    assert current(slow) == b"theirs"


def test_who_lost_the_race_and_won_the_next_leaves_nothing(world, relay, slow):
    """The values have another number then, and are kept under that alone."""
    other = world.store()
    relay.before = lambda: activate(other, b"theirs")
    assert put(slow, b"mine") == 3
    assert kept(world) == [("db", 1), ("db", 2), ("db", 3)]
    slow.promote(DB, 3, expected_current=2)
    assert current(other) == b"mine"


def test_equal_values_of_the_winner_stay(world, relay, slow):
    """Both kept the same document under the same name; it is the winner's."""
    other = world.store()
    relay.before = lambda: put(other, b"the same")
    with pytest.raises(Conflict):
        put(slow, b"the same")
    other.promote(DB, 2, expected_current=1)
    assert other.read(DB, 2).values["value"].reveal() == b"the same"
    assert current(slow) == b"the same"


def test_who_is_still_at_it_loses_nothing(world, relay, slow):
    """Its values are kept and not yet named when somebody else sweeps."""
    other = world.store()
    activate(slow, b"two")
    activate(slow, b"three")
    swept = []

    def sweep():
        swept.append(kept(world))
        other.destroy(DB, 1)

    relay.before = sweep
    number = put(slow, b"four")
    assert swept == [[("db", 1), ("db", 2), ("db", 3), ("db", 4)]]
    assert (number, kept(world)) == (4, [("db", 2), ("db", 3), ("db", 4)])
    slow.promote(DB, 4, expected_current=3)
    assert slow.read(DB, 4).values["value"].reveal() == b"four"


def test_what_one_that_died_left_goes_with_the_next(world, relay, slow):
    """The first write of another process, whose version takes the number."""
    relay.fail_next(f"POST /v1/{world.mount}{LEDGER}", Fault.BROKEN_BEFORE, times=1000)
    with pytest.raises(OutcomeUnknown):
        put(slow, b"left behind")
    assert kept(world) == [("db", 1), ("db", 2)]
    put(world.store(), b"two")
    assert kept(world) == [("db", 1), ("db", 2)]
    other = world.store()
    other.discard_pending(DB, 2)
    assert other.read(DB, 2).values["value"].reveal() == b"two"


def test_what_lies_beside_another_ledger_stays(world):
    """Where somebody removed the ledger, what it named can still be had back."""
    first = world.store()
    for data in (b"one", b"two", b"three"):
        activate(first, data)
    assert world.server.request("DELETE", f"{world.mount}{LEDGER}").status_code == 204
    store = world.store()
    store.accept(DB, ["value"])
    activate(store, b"four")
    activate(store, b"five")
    assert current(store) == b"five"
    assert kept(world) == [("db", 1), ("db", 1), ("db", 2), ("db", 2), ("db", 3), ("db", 3)]


def test_what_is_not_ours_stays(world):
    """Documents that somebody put beside ours, whatever they are called."""
    activate(world.store(), b"one")
    strangers = ["db.1.0123456789abcdef", "db.x.1", "note", "db.0.0123456789abcdef"]
    for name in strangers:
        world.ask("POST", f"{world.mount}/data/{ASIDE}/versions/{name}", {"data": {"text": "{}"}})
    activate(world.store(), b"two")
    answer = world.ask("LIST", f"{world.mount}{VERSIONS}")
    assert set(strangers) < set(answer["data"]["keys"])
    assert len(answer["data"]["keys"]) == len(strangers) + 2


@pytest.mark.parametrize("shape", VaultShape)
def test_the_right_to_list_may_be_absent(world, shape):
    """A policy of before works on; nothing is swept."""
    settings = VaultSettings((world.server.address,), mount=world.mount, shape=shape)
    text = policy(settings, "clipper", [ENVIRONMENT])
    for line in (text, "\n".join(x for x in text.splitlines() if 'versions/"' not in x)):
        store = world.store(token=world.token(line), shape=shape)
        number = activate(store, b"some")
        assert store.state(DB).current == number
    assert len(line) < len(text)


def test_writers_who_race_for_long_leave_what_is_named(world):
    """Three writers of one secret and one of another: what is kept is what the ledger names."""
    shared, failures = threading.Barrier(4), []
    own = SecretRef(ENVIRONMENT, SecretName("own"))

    def write(mark, ref):
        store = world.store()
        try:
            shared.wait(30)
            for number in range(15):
                try:
                    activate(store, b"%s %d" % (mark, number), ref=ref)
                except Conflict:
                    state = store.state(ref)
                    if state.pending is not None:
                        try:
                            store.discard_pending(ref, state.pending)
                        except Conflict:
                            continue
        except Exception as error:  # noqa: BLE001 - judged below
            failures.append(error)

    threads = [
        threading.Thread(target=write, args=(mark, ref))
        for mark, ref in ((b"a", DB), (b"b", DB), (b"c", DB), (b"d", own))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    store = world.store()
    named = [(str(ref.name), v.number) for ref in (DB, own) for v in store.history(ref)]
    assert kept(world) == sorted(named)
    for ref in (DB, own):
        for version in store.history(ref):
            store.read(ref, version.number)
        assert store.read(ref, Stage.CURRENT).version.number == store.state(ref).current
