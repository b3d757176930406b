"""`sync` where the other store does not do as it says, or the first one goes on."""

from __future__ import annotations

import pytest

from keyturn.app.sides import Side
from keyturn.app.stores import RoutedStore
from keyturn.app.sync_plan import Way
from keyturn.app.syncing import BATCH, plan_sync, sync
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, StoreName, Token
from keyturn.core.model import Origin, SecretRef
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, Rejected, Unavailable, VerificationFailed
from keyturn.stores import MemoryStore
from keyturn.testing import FakeClock

WHERE = EnvironmentName("development")
SOURCE, TARGET = Side(StoreName("local"), WHERE), Side(StoreName("team"), WHERE)
STORES = '[stores.team]\nkind = "dotenv"\n'


class Team:
    """A store in memory that others can write to; `before` and `spoil` are called on its way."""

    def __init__(self):
        self.inner = MemoryStore(clock=FakeClock())
        self.carried = []
        self.before = lambda moves: None
        self.spoil = lambda moves: moves

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def carry(self, moves):
        self.carried.append([move.history.ref.name for move in moves])
        self.before(moves)
        self.inner.carry(self.spoil(moves))

    def drifts(self, environment, declared=None):
        return {}

    def close(self):
        pass


@pytest.fixture
def team():
    return Team()


@pytest.fixture
def session(project, team):
    """A session whose store `team` is that one."""
    project.manifest.write_text(project.manifest.read_text() + STORES)
    opened = project.session()
    opened.store = RoutedStore(
        opened.manifest,
        opened.store.named(StoreName("local")),
        lambda settings: team,
        bundles=opened.bundles,
    )
    yield opened
    opened.close()


def run(session):
    counted = []
    plan = plan_sync(session, SOURCE, TARGET, overwrite=False)
    done = sync(session, SOURCE, TARGET, plan, progress=counted.append)
    assert sum(counted) == sum(each.is_work for each in plan)
    return done


def put(store, name, value, *, token="t"):
    ref = SecretRef(WHERE, SecretName(name))
    values = {FieldName("value"): SecretValue(value)}
    number = store.put_pending(ref, values, origin=Origin.SET, token=Token(token)).number
    store.promote(ref, number, expected_current=store.state(ref).current)


def told(session):
    """Return the outcomes of the sync's own record, oldest first."""
    records = session.audit.log.read(newest_first=False)
    return [each.outcome for each in records if each.action == "secret.version.sync"]


def test_batches_are_bounded(session, team):
    """A thousand secrets are not one write, nor a thousand."""
    with session.database.transaction():
        for index in range(2 * BATCH):
            put(session.embedded, f"more-{index}", b"test value")
    done = run(session)
    assert [len(batch) for batch in team.carried] == [BATCH, BATCH, 3]
    assert len(done.moved) == 2 * BATCH + 3
    assert told(session) == ["begun", "done", "done", "done", "done"]


def test_store_that_loses_what_it_took_is_told(session, team):
    """What was written is read back: a store's word is not enough."""
    team.spoil = lambda moves: [move for move in moves if move.history.ref.name != "db"]
    with pytest.raises(VerificationFailed) as failure:
        run(session)
    assert "`db`" in failure.value.message
    assert "`api`" not in failure.value.message
    assert told(session) == ["begun", "failed"]


def test_store_that_is_down_ends_it(session, team):
    """At once; and the next run does what is left and settles both."""

    def down(moves):
        raise Unavailable("no answer")

    team.before = down
    with pytest.raises(Unavailable):
        run(session)
    assert len(team.carried) == 1
    team.before = lambda moves: None
    assert len(run(session).moved) == 3
    assert run(session).moved == ()


def test_refused_rights_end_it(session, team):
    """Every other secret would be refused as well."""

    def denied(moves):
        raise Rejected("denied", code="store.denied")

    team.before = denied
    with pytest.raises(Rejected):
        run(session)
    assert len(team.carried) == 1


def test_one_in_the_way_hinders_no_other(session, team):
    """The batch is done one by one, and the one is told."""

    def moved(moves):
        if any(move.history.ref.name == "db" for move in moves):
            raise Conflict("changed", code="store.moved")

    team.before = moved
    done = run(session)
    assert [each.name for each in done.moved] == ["api", "session"]
    ((name, error),) = done.failed
    assert (name, error.code) == ("db", "store.moved")


def test_what_goes_on_at_the_source_is_told(session, team):
    """A value that was set meanwhile is not there yet; the next run brings it."""

    def meanwhile(moves):
        team.before = lambda moves: None
        put(session.embedded, "api", b"set meanwhile", token="meanwhile")

    team.before = meanwhile
    assert run(session).changed == ["api"]
    (planned,) = [
        each for each in plan_sync(session, SOURCE, TARGET, overwrite=False) if each.is_work
    ]
    assert (planned.name, planned.way) == ("api", Way.APPEND)
    assert run(session).changed == []


def test_run_that_died_is_settled_by_one_with_nothing_to_do(session, team):
    """Its `begun` does not stay open for ever."""

    class Death(BaseException):
        pass

    def die(moves):
        raise Death

    plan = plan_sync(session, SOURCE, TARGET, overwrite=False)
    team.inner.carry([each.move for each in plan])
    team.before = die
    with pytest.raises(Death):
        sync(session, SOURCE, TARGET, plan, progress=lambda _: None)
    assert [each.action for each in session.audit.open_begun()] == ["secret.version.sync"]
    assert run(session).moved == []
    assert session.audit.open_begun() == []
