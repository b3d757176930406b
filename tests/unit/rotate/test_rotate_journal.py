"""The journal: one open rotation a secret, leases, fences, and what can be asked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from keyturn.core.ids import RotationId
from keyturn.errors import Conflict, Corrupt, NotFound, Rejected
from keyturn.rotate import End, Journal, State, Step
from keyturn.rotate import _owner as owners
from keyturn.testing import SeededEntropy
from tests.unit.rotate.rotating import Rotating
from tests.unit.stores.workshop import DB, WEB


@pytest.fixture
def rotating(tmp_path):
    made = Rotating(tmp_path)
    yield made
    made.close()


@pytest.fixture
def journal(rotating):
    return rotating.journal


def begin(rotating, number=1, *, owner="", ref=DB):
    """Open a rotation."""
    return rotating.journal.begin(
        ref, rotating.plan(), rotation_id=RotationId(f"r{number}"), owner=owner
    )


def test_a_second_rotation_is_refused_with_who_and_where(rotating):
    """The message says since when, by whom and at which step, and what to do."""
    begin(rotating, owner=owners.make(SeededEntropy()))
    with pytest.raises(Conflict) as caught:
        begin(rotating, 2)
    assert "already running: started 2026-01-02T03:04:05" in caught.value.message
    assert f"process {os.getpid()} on" in caught.value.message
    assert "step `create`" in caught.value.message
    assert "keyturn rotate --resume db" in caught.value.hint


def test_two_secrets_rotate_side_by_side(rotating, journal):
    """The rule is one a secret."""
    begin(rotating)
    begin(rotating, 2, ref=WEB)
    assert {DB, WEB} == {rotation.ref for rotation in journal.all_live()}


def test_the_table_itself_refuses_a_second_one(rotating):
    """Even a writer that did not look first is stopped."""
    rotation = begin(rotating)
    with pytest.raises(Conflict):
        rotating.store.database.execute(
            "INSERT INTO rotation SELECT 'other', environment, secret, kind, strategy, state, step,"
            " step_state, old_version, new_version, plan, owner, fence, lease_until, wait_until,"
            " attempts, error_code, error, started_at, updated_at, finished_at, phase, fallback"
            " FROM rotation WHERE id = ?",
            (rotation.id,),
        )


def test_what_was_written_is_read_back(rotating, journal):
    """Every column survives."""
    rotation = begin(rotating, owner="me")
    moved = journal.advance(
        rotation, Step.APPLY, new_version=2, wait_until=rotating.clock.now(), detail="made"
    )
    assert moved == journal.live(DB)
    assert moved == journal.get(rotation.id)
    assert moved == journal.last(DB)


def test_each_step_leaves_its_events(rotating, journal):
    """Begin and end of each, in order, with their detail."""
    rotation = journal.advance(begin(rotating), Step.APPLY, detail="made")
    rotation = journal.retry(rotation, Rejected("no answer"))
    journal.finish(rotation, End.STUCK, failure=Rejected("no right"))
    found = [(event.step.value, event.event, event.detail) for event in journal.events(rotation.id)]
    assert [
        ("create", "begun", ""),
        ("create", "done", "made"),
        ("apply", "begun", ""),
        ("apply", "retried", "store.rejected: no answer"),
        ("apply", "failed", "store.rejected: no right"),
        ("apply", "stuck", ""),
    ] == found


def test_a_stale_holder_cannot_write(rotating, journal):
    """Its fence is lower, whichever write it tries."""
    old = begin(rotating)
    journal.take_over(old, owner="new", step=old.step)
    for write in (
        lambda: journal.advance(old, Step.APPLY),
        lambda: journal.finish(old, End.DONE),
        lambda: journal.retry(old, Rejected("x")),
        lambda: journal.renew(old),
        lambda: journal.release(old, why="interrupted"),
        lambda: journal.take_over(old, owner="newer", step=old.step),
    ):
        with pytest.raises(Conflict) as caught:
            write()
        assert "rotation.fenced" == caught.value.code


def test_a_step_is_ended_once(rotating, journal):
    """A writer that believes in an earlier step is refused."""
    first = begin(rotating)
    journal.advance(first, Step.APPLY)
    with pytest.raises(Conflict):
        journal.advance(first, Step.APPLY)


def test_an_ended_rotation_takes_no_write(rotating, journal):
    """Done is done."""
    ended = journal.finish(begin(rotating), End.DONE)
    with pytest.raises(Conflict):
        journal.renew(ended)
    assert journal.live(DB) is None


def test_a_living_process_is_never_overtaken(rotating, journal):
    """Not even when its lease has ended: it is there, it can be asked."""
    rotation = begin(rotating, owner=owners.make(SeededEntropy()))
    rotating.clock.advance(3600)
    with pytest.raises(Conflict) as caught:
        journal.take_over(rotation, owner="other", step=rotation.step)
    assert "rotation.running" == caught.value.code


def test_a_dead_process_of_this_machine_is_overtaken_at_once(rotating, journal):
    """Its lease need not run out; the fence rises by one."""
    code = (
        "from keyturn.rotate import _owner;"
        "from keyturn.core.entropy import SystemEntropy;"
        "print(_owner.make(SystemEntropy()))"
    )
    dead = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert owners.Life.GONE is owners.life_of(dead)
    rotation = begin(rotating, owner=dead)
    taken = journal.take_over(rotation, owner="other", step=rotation.step)
    assert (rotation.fence + 1, "other") == (taken.fence, taken.owner)


def test_a_process_elsewhere_is_overtaken_after_its_lease(rotating, journal):
    """It cannot be asked, so its sixty seconds are waited for."""
    rotation = begin(rotating, owner="elsewhere/0000.1/4242/77/abcd")
    with pytest.raises(Conflict):
        journal.take_over(rotation, owner="other", step=rotation.step)
    rotation = journal.renew(rotation)
    rotating.clock.advance(59)
    with pytest.raises(Conflict):
        journal.take_over(rotation, owner="other", step=rotation.step)
    rotating.clock.advance(1)
    assert "other" == journal.take_over(rotation, owner="other", step=rotation.step).owner


def test_a_later_process_with_the_same_pid_is_another_one():
    """The start time tells them apart."""
    parts = owners.make(SeededEntropy()).split("/")
    parts[3] = str(int(parts[3]) + 1)
    assert owners.Life.GONE is owners.life_of("/".join(parts))


def test_a_killed_process_that_nobody_waited_for_is_gone():
    """A zombie holds nothing."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = "/".join([*owners.make(SeededEntropy()).split("/")[:2], str(child.pid)])
    started = owners._start_time(child.pid)
    assert owners.Life.LIVING is owners.life_of(f"{owner}/{started}/abcd")
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owners.Life.GONE is owners.life_of(f"{owner}/{started}/abcd")
    child.communicate()


@pytest.mark.parametrize("owner", ["nonsense", "a/b/c/d/e/f", "host/boot/pid/start/nonce"])
def test_an_owner_that_cannot_be_read_counts_as_elsewhere(owner):
    """Its lease decides."""
    assert owners.Life.ELSEWHERE is owners.life_of(owner)


def test_nobody_is_gone():
    """A released rotation is free."""
    assert owners.Life.GONE is owners.life_of(owners.NOBODY)
    assert "nobody at the moment" == owners.describe(owners.NOBODY)


def test_two_runners_of_one_process_are_two_owners():
    """Or threads of a server would overtake each other."""
    entropy = SeededEntropy()
    assert owners.make(entropy) != owners.make(entropy)


def test_the_history_is_newest_first_and_bounded(rotating, journal):
    """`limit` bounds it, and other secrets are not in it."""
    for number in range(5):
        journal.finish(begin(rotating, number), End.ROLLED_BACK)
        rotating.clock.advance(1)
    begin(rotating, 9, ref=WEB)
    assert ["r4", "r3", "r2"] == [rotation.id for rotation in journal.history(DB, limit=3)]
    assert State.ROLLED_BACK is journal.last(DB).state


def test_a_rotation_that_was_given_up_is_closed(rotating, journal):
    """It keeps its step and its error, bars no second one, and cannot be written again."""
    begun = begin(rotating)
    journal.give_up(begun, Rejected("no right"))
    found = journal.last(DB)
    assert (State.GIVEN_UP, begun.step, "no right") == (found.state, found.step, found.error)
    assert "" == found.owner
    assert journal.live(DB) is None
    with pytest.raises(Conflict, match="taken over"):
        journal.renew(found)
    begin(rotating, 2)


def test_a_rotation_that_is_not_there_is_not_found(journal):
    """The id may be mistyped."""
    with pytest.raises(NotFound):
        journal.get(RotationId("nope"))
    assert journal.last(DB) is None


def test_a_plan_of_a_newer_form_is_refused(rotating, journal):
    """Guessing its meaning could retire the wrong thing."""
    begin(rotating)
    rotating.store.database.execute("""UPDATE rotation SET plan = '{"format": 2}'""")
    with pytest.raises(Corrupt, match="does not know"):
        journal.live(DB)


def test_a_long_error_is_cut(rotating, journal):
    """The journal keeps what a line can show."""
    ended = journal.finish(begin(rotating), End.STUCK, failure=Rejected("x" * 2000))
    assert 500 == len(ended.error)


def test_a_journal_joins_an_outer_transaction(rotating):
    """What the caller undoes was never begun."""
    database = rotating.store.database
    with pytest.raises(KeyError), database.transaction():
        begin(rotating)
        raise KeyError
    assert Journal(database, clock=rotating.clock).live(DB) is None
