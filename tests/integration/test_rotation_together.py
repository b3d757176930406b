"""Two rotations of one secret that are started together."""

from __future__ import annotations

import threading
from collections import Counter

from keyturn.errors import Conflict
from keyturn.rotate import State
from tests.unit.rotate.rotating import Rotating
from tests.unit.stores.workshop import DB

ROUNDS = 50


def test_one_runs_and_the_other_is_refused(tmp_path):
    """Fifty times, each thread with a connection of its own; no version is lost or made twice."""
    rotating = Rotating(tmp_path)
    barrier = threading.Barrier(2)
    plans = {}
    ends = Counter()

    def run():
        store = rotating.workshop.open()
        rotating.workshop.open_stores.remove(store)  # only this thread may close it
        runner = rotating.runner(store=store)
        for number in range(1, ROUNDS + 1):
            barrier.wait()
            try:
                report = runner.start(DB, rotating.kind, plans.setdefault(number, plan(number)))
            except Conflict as error:
                ends[error.code] += 1
            else:
                ends[report.rotation.state] += 1
            barrier.wait()
        store.database.close()

    def plan(number):
        return type(first)(first.kind, first.strategy, number, first.overlaps)

    first = rotating.plan()
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ROUNDS == ends[State.DONE]
    # Late by a whole rotation, the other one finds that its plan is of yesterday.
    assert ROUNDS == ends["rotation.running"] + ends["rotation.stale"]
    assert ends["rotation.running"] > 0
    assert ROUNDS + 1 == rotating.store.state(DB).current == len(rotating.store.history(DB))
    assert [] == rotating.journal.all_live()
    assert {rotating.current_value()} == rotating.target.accepted
    rotating.close()
