"""Trying values side by side: one that hangs, breaks or is refused holds up no other."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from keyturn.app.checks import Check, Result
from keyturn.app.probing import AT_ONCE, Probe, live_check, retired_check, side_by_side
from keyturn.core.clock import SystemClock
from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import Origin, SecretRef, Version, VersionedValue
from keyturn.core.ports import Evidence
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, Unavailable, UsageError, VerificationFailed

VALUES = {FieldName("value"): SecretValue(b"test-value")}


def outcome(probes, seconds=5.0, **options):
    """Return what every one of *probes* found, by subject."""
    found = [
        c
        for cs in side_by_side(probes, clock=SystemClock(), seconds=seconds, **options)
        for c in cs
    ]
    return {check.subject: check for check in found}


def probe(name, ask):
    return Probe(name, "live", ask)


def passing(name):
    return probe(name, lambda: [Check(name, "live", Result.PASS)])


def raising(error):
    def ask():
        raise error

    return ask


class Kind:
    """A kind that says what it is told to."""

    def __init__(self, says):
        self._says = says

    def _say(self, *_, **__):
        if isinstance(self._says, Exception):
            raise self._says
        return self._says

    probe = prove_dead = _say

    def counted_on(self, values):
        return None

    def ask_dead(self, old, *, current):
        return None


class Accepting:
    """
    A system that accepts the versions *alive*, and remembers each try.

    Args:
        counts: Failures are counted against one login.
        known: What it says of each version without a try of it.
    """

    def __init__(self, *, alive=(), counts=False, known=None):
        self.alive, self.counts, self.known = alive, counts, known or {}
        self.tried = []

    def counted_on(self, values):
        return SecretValue(b"test-login") if self.counts else None

    def ask_dead(self, old, *, current):
        return self.known.get(number_of(old))

    def prove_dead(self, old, *, current=None):
        self.tried.append(("prove", number_of(old)))
        if number_of(old) in self.alive:
            raise VerificationFailed("it is accepted")
        return Evidence("refused", "no")

    def probe(self, values):
        self.tried.append(("probe", number_of(values)))
        if number_of(values) in self.alive:
            return Evidence("accepted", "yes")
        raise VerificationFailed("no")


def number_of(values):
    return int(values[FieldName("value")].reveal_text())


@pytest.mark.parametrize(
    ("error", "result", "unreachable", "words"),
    [
        (VerificationFailed("it is refused"), "fail", False, "it is refused"),
        (Rejected("not like that"), "fail", False, "not like that"),
        (Unavailable("no answer"), "fail", True, "unreachable: no answer"),
        (UsageError("says too little", hint="add x"), "skipped", False, "says too little; add x"),
        (RuntimeError("canary-5f3a"), "fail", False, "the probe itself broke: RuntimeError"),
    ],
)
def test_a_failure_is_one_check(error, result, unreachable, words):
    """What is raised becomes a result, without the words of an exception that is not ours."""
    found = outcome([probe("a", raising(error)), passing("b")])
    assert (result, unreachable, words) == (
        found["a"].result,
        found["a"].unreachable,
        found["a"].detail,
    )
    assert Result.PASS is found["b"].result


def test_one_that_hangs_is_given_up_and_holds_up_no_other():
    """Even where more hang than run at a time, the rest are asked."""
    never = threading.Event()
    hanging = [probe(f"h{n}", lambda: never.wait() and []) for n in range(AT_ONCE + 1)]
    found = outcome([*hanging, passing("b")], seconds=0.2)
    never.set()
    assert Result.PASS is found["b"].result
    given_up = [found[f"h{n}"] for n in range(AT_ONCE + 1)]
    assert {(Result.FAIL, True, "unreachable: no answer within 0.2 s")} == {
        (check.result, check.unreachable, check.detail) for check in given_up
    }
    assert all(0.2 <= check.seconds < 5 for check in given_up)


def test_no_more_than_eight_run_at_a_time():
    """However many are to be asked, and each is asked once."""
    lock, running, most, asked = threading.Lock(), [0], [0], []
    full = threading.Barrier(AT_ONCE)

    def ask(name):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            asked.append(name)
        full.wait(5)
        with lock:
            running[0] -= 1
        return [Check(name, "live", Result.PASS)]

    names = [f"n{n}" for n in range(3 * AT_ONCE)]
    assert set(names) == set(outcome([probe(n, lambda n=n: ask(n)) for n in names]))
    assert (AT_ONCE, sorted(names)) == (most[0], sorted(asked))


def test_of_nothing_is_nothing():
    """No thread is started and nothing is waited for."""
    assert {} == outcome([])


def test_says_what_is_waited_for():
    """For the line on a terminal."""
    said = []
    outcome([passing("a"), passing("b")], say=said.append)
    assert "2 to go: a, b" == said[0]


@pytest.mark.parametrize(
    ("says", "result", "words"),
    [
        (Evidence("login accepted", "`x`"), "pass", "login accepted: `x`"),
        (Evidence("not tried", "no target to ask"), "skipped", "not tried: no target to ask"),
        (VerificationFailed("it is refused"), "fail", "it is refused"),
    ],
)
def test_live(says, result, words):
    """What was not tried has not passed."""
    check = live_check("s", Kind(says), VALUES)
    assert ("live", result, words) == (check.check, check.result, check.detail)


@pytest.mark.parametrize(
    ("says", "result", "words"),
    [
        (Evidence("login refused", "28P01"), "pass", "version 3: login refused: 28P01"),
        (Evidence("not proven", "no target to ask"), "skipped", "version 3: not proven: no target"),
        (VerificationFailed("it logs in"), "fail", "version 3 is no longer in use and still works"),
        (Unavailable("no answer"), "skipped", "version 3 could not be tried: no answer"),
    ],
)
def test_retired(says, result, words):
    """An old version that works is a failure; one of which nothing is proven has not passed."""
    check = retired_check("s", Kind(says), [old(3)], current=VALUES)
    assert ("retired", result) == (check.check, check.result)
    assert check.detail.startswith(words)


def test_every_old_version_is_tried():
    """Those that are left out are told, and one that is skipped is no pass."""
    dead = Evidence("login refused", "28P01")
    check = retired_check("s", Kind(dead), [old(3), old(2)], current=VALUES, untried=4)
    assert "pass" == check.result
    assert "version 3: " in check.detail and "version 2: " in check.detail
    assert check.detail.endswith("4 older not tried")


def test_each_that_still_works_is_named():
    """Not the first alone; the later ones are tried once, as waiting was done already."""
    kind = Accepting(alive={5, 3, 2})
    check = retired_check("s", kind, numbered(5, 4, 3, 2), current=VALUES)
    assert "fail" == check.result
    assert ["5", "3", "2"] == [part.split()[1] for part in check.detail.split("; ")]
    assert [("prove", 5), ("probe", 4), ("probe", 3), ("probe", 2)] == kind.tried


def test_where_failures_are_counted_one_is_tried():
    """A system that locks the login after some of them would lock whoever uses it."""
    kind = Accepting(counts=True)
    check = retired_check("s", kind, numbered(5, 4, 3), current=VALUES, untried=1)
    assert ("pass", [("prove", 5)]) == (check.result, kind.tried)
    assert "2 not tried: their failures would count against the login in use" in check.detail
    assert check.detail.endswith("1 older not tried")


def test_what_can_be_looked_up_is_not_tried():
    """Then none of them counts, and all of them are told."""
    kind = Accepting(counts=True, known={5: Evidence("not known", "x"), 4: Evidence("gone", "y")})
    check = retired_check("s", kind, numbered(5, 4), current=VALUES)
    assert ("pass", []) == (check.result, kind.tried)
    assert "version 5: not known: x; version 4: gone: y" == check.detail


def test_one_that_was_ended_and_is_in_use_again_is_said_so():
    """Where only the store went back, such as to a signing key that was retired."""
    kind = Accepting(alive={5, 4})
    check = retired_check("s", kind, numbered(5, 4), current=VALUES, used=False, in_use=5)
    assert "version 5 was ended by a rotation and is in use again" in check.detail
    assert [("prove", 5), ("prove", 4)] == kind.tried


def test_a_probe_that_exits_is_a_failure():
    """It must not end its thread unheard, to be waited for until the time is up."""
    found = outcome([probe("a", raising(SystemExit(0)))], seconds=30.0)
    assert ("fail", "the probe itself broke: SystemExit") == (found["a"].result, found["a"].detail)
    assert not found["a"].unreachable


def numbered(*numbers):
    made = []
    for number in numbers:
        values = {FieldName("value"): SecretValue.from_text(str(number))}
        made.append(VersionedValue(old(number).version, values))
    return made


def old(number):
    ref = SecretRef(EnvironmentName("production"), SecretName("s"))
    version = Version(ref, number, datetime(2026, 1, 1, tzinfo=UTC), Origin.ROTATED, tuple(VALUES))
    return VersionedValue(version, VALUES)
