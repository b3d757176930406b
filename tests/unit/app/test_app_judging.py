"""Judging many secrets, the guard of what begins, and carrying it out."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from keyturn.app.judging import Judged, judge_all
from keyturn.app.tick import carry_out
from keyturn.app.waves import Ended, WaveEnd
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef
from keyturn.errors import Unavailable
from keyturn.rotate.schedule import Decision, Turn
from tests.worlds.year import DAY, HOUR, Ticker, YearWorker, a_year

GO = Decision(Turn.ROTATE)
TUESDAY = datetime(2026, 9, 1, 12, tzinfo=UTC)
SATURDAY = datetime(2026, 9, 5, 12, tzinfo=UTC)


def ref(name, environment="development"):
    return SecretRef(EnvironmentName(environment), SecretName(name))


@pytest.fixture
def year(tmp_path):
    """Ten secrets, pairs all of them, in each of three environments; all are due."""
    with a_year(tmp_path, secrets=30, troubles=(), deaths=0) as made:
        made.clock.advance((TUESDAY - made.clock.now()).total_seconds())
        yield made


@pytest.fixture
def worker(year):
    made = YearWorker(year, Ticker())
    yield made
    made.close()


def turns(year, environment="development"):
    found = judge_all(year, [EnvironmentName(environment)])
    return {str(each.ref.name): each.decision for each in found}


def test_of_each_pair_one_goes_first(year):
    """And the other one is told to wait for it."""
    found = turns(year)
    assert 10 == len(found)
    for number in range(0, 10, 2):
        pair = [found[f"s{number:03}"], found[f"s{number + 1:03}"]]
        assert {Turn.ROTATE, Turn.WAIT} == {each.turn for each in pair}
        waits = next(each for each in pair if each.turn is Turn.WAIT)
        assert "goes first" in waits.reason


def test_nothing_begins_beside_its_pair(year, worker):
    """Whoever judged both of them due begins only one, in that environment alone."""
    assert WaveEnd.DONE is worker.do(Judged(ref("s000"), GO, 1)).end
    refused = worker.do(Judged(ref("s001"), GO, 1))
    assert (WaveEnd.SKIPPED, "rotation.pair") == (refused.end, refused.text)
    assert year.journal.last(ref("s001")) is None
    assert WaveEnd.FAILED is not worker.do(Judged(ref("s001", "staging"), GO, 1)).end
    waits = turns(year)["s001"]
    assert (Turn.WAIT, year.clock.now() + 3 * DAY) == (waits.turn, waits.at)


def test_nothing_begins_beside_an_open_one_of_its_pair(year, worker):
    """A grace of the other one counts, however long."""
    assert WaveEnd.WAITING is worker.do(Judged(ref("s001"), GO, 1)).end
    year.clock.advance(0.5 * HOUR.total_seconds())
    assert "rotation.pair" == worker.do(Judged(ref("s000"), GO, 1)).text


def test_nothing_begins_in_a_freeze_that_came_after_the_look(year, worker):
    """A run may take long; what counts is the moment in which it would begin."""
    look = Judged(ref("s000", "production"), GO, 1)
    assert Turn.ROTATE in {each.turn for each in turns(year, "production").values()}
    year.clock.advance((SATURDAY - year.clock.now()).total_seconds())
    refused = worker.do(look)
    assert (WaveEnd.SKIPPED, "rotation.frozen") == (refused.end, refused.text)
    assert year.journal.last(look.ref) is None
    assert {Turn.WAIT} == {each.turn for each in turns(year, "production").values()}


def change(year, environment, edit):
    """Let *edit* change the secrets that the manifest gives *environment*."""
    where = EnvironmentName(environment)
    secrets = {**year.manifest.resolved[where]}
    edit(secrets)
    year.manifest = type(year.manifest)(
        **{
            name: getattr(year.manifest, name)
            for name in year.manifest.__dataclass_fields__
            if name != "resolved"
        },
        resolved={**year.manifest.resolved, where: secrets},
    )


def test_a_rotation_of_what_the_manifest_forgot_is_told(year, worker):
    """It bars nothing, but nobody goes on with it by itself."""
    worker.do(Judged(ref("s001"), GO, 1))
    change(year, "development", lambda secrets: secrets.pop(SecretName("s001")))
    found = turns(year)["s001"]
    assert (Turn.PERSON, True) == (found.turn, found.alarming)
    assert "`keyturn rotate s001 -e development --give-up`" in found.reason


def test_what_is_not_automatic_comes_with_its_command(year):
    """The schedule leaves it alone, and says what to type instead."""
    name = SecretName("s001")

    def by_hand(secrets):
        secrets[name] = replace(secrets[name], automatic=False)

    change(year, "development", by_hand)
    found = turns(year)["s001"]
    assert Turn.PERSON is found.turn
    assert (
        "`automatic = false`: `keyturn rotate s001 -e development`"
        == found.reason.partition("says ")[2]
    )


# --- carrying out -----------------------------------------------------------------------


class Hand:
    """A worker that notes what it did, and fails where it is told to."""

    def __init__(self, log, failing=()):
        self.log, self.failing = log, failing
        log.append("hired")

    def do(self, judged):
        name = str(judged.ref.name)
        self.log.append(name)
        error = dict(self.failing).get(name)
        if isinstance(error, Unavailable):
            return Ended(judged.ref, WaveEnd.FAILED, error.message, failure=error)
        if error is not None:
            raise error
        return Ended(judged.ref, WaveEnd.DONE)

    def close(self):
        self.log.append("left")


def jobs(**after):
    return [
        Judged(ref(name), GO, 1, frozenset(ref(other) for other in others))
        for name, others in after.items()
    ]


def run(todo, log, *, failing=(), at_once=1):
    found = carry_out(todo, lambda: Hand(log, failing), at_once=at_once)
    return {str(each.ref.name): each.end for each in found}


def test_what_is_needed_comes_first():
    """Whatever the order of the list, and however many hands there are."""
    for at_once in (1, 4):
        log = []
        ends = run(jobs(a="b", b="c", c="", d=""), log, at_once=at_once)
        assert {WaveEnd.DONE} == set(ends.values())
        assert log.index("c") < log.index("b") < log.index("a")
        assert 1 <= log.count("hired") == log.count("left") <= at_once


def test_a_failure_stops_those_that_need_it():
    """All the way down the chain, and nobody else."""
    log = []
    ends = run(jobs(a="", b="a", c="b", d=""), log, failing={"a": Unavailable("no")}.items())
    assert {"a": "failed", "b": "skipped", "c": "skipped", "d": "done"} == ends
    assert {"b", "c"}.isdisjoint(log)


def test_a_fault_costs_one_worker_and_nothing_else():
    """What nobody foresaw is a failure of that secret; its text is not shown."""
    log = []
    found = {
        each.ref.name: each
        for each in carry_out(
            jobs(a="", b=""), lambda: Hand(log, {"a": ValueError("inner")}.items()), at_once=1
        )
    }
    assert "a fault in Keyturn: ValueError" == found["a"].text
    assert WaveEnd.DONE is found["b"].end
    assert ["hired", "a", "left", "hired", "b", "left"] == log


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt()])
def test_a_worker_that_would_end_its_thread_does_not(error):
    """Whoever waits for its end would wait for ever."""
    log = []
    ends = {
        str(each.ref.name): each
        for each in carry_out(jobs(a="", b=""), lambda: Hand(log, {"a": error}.items()), at_once=1)
    }
    assert (WaveEnd.FAILED, WaveEnd.DONE) == (ends["a"].end, ends["b"].end)
    assert type(error).__name__ in ends["a"].text


def test_a_worker_that_cannot_let_go_costs_no_other_job():
    """Its job had failed already, and the next one gets a worker of its own."""
    log = []

    class Clinging(Hand):
        def close(self):
            super().close()
            if "b" not in log:
                raise OSError("still busy")

    failing = {"a": ValueError("inner")}.items()
    found = carry_out(jobs(a="", b=""), lambda: Clinging(log, failing), at_once=1)
    assert {"a": "failed", "b": "done"} == {str(each.ref.name): each.end for each in found}


def test_a_worker_that_cannot_be_had_is_a_failure_of_each():
    """Such as a store that is sealed by now."""

    def hire():
        raise Unavailable("no store")

    ends = {each.ref.name: each.text for each in carry_out(jobs(a="", b=""), hire, at_once=2)}
    assert {"a": "no store", "b": "no store"} == ends


def test_whoever_stops_listening_leaves_no_thread():
    """What runs ends; what has not begun is left for another run."""
    log = []
    before = threading.active_count()
    ends = carry_out(jobs(a="", b="", c=""), lambda: Hand(log), at_once=1)
    assert "a" == next(ends).ref.name
    ends.close()
    assert before == threading.active_count()
    assert "c" not in log
