"""A consumer counts as healthy when it says so, on the versions that it ought to have."""

from __future__ import annotations

import json

import pytest

from keyturn.deliver import wait_healthy
from keyturn.deliver._http import Answer
from keyturn.errors import DeliveryError, Unavailable, VerificationFailed
from keyturn.testing import FakeClock

URL = "http://127.0.0.1:8080/health"


class Consumer:
    """Answers each question with the next of the answers, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, url, timeout_seconds):
        self.asked.append(timeout_seconds)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode())


def wait(consumer, expected=None, key="versions", timeout_seconds=10, clock=None):
    return wait_healthy(
        URL,
        key,
        {"db": 3} if expected is None else expected,
        timeout_seconds=timeout_seconds,
        clock=clock or FakeClock(),
        fetch=consumer,
    )


@pytest.mark.parametrize(
    ("answer", "saw"),
    [
        (Unavailable("no"), "no answer"),
        ((500, {"versions": {"db": 3}}), "status 500, versions db=3"),
        ((302, b""), "status 302"),
        ((200, {"versions": {"db": 2}}), "status 200, versions db=2"),
        ((200, {"versions": {"db": True}}), "status 200"),
        ((200, {"versions": {"db": "3"}}), "status 200"),
        ((200, {"versions": [3]}), "status 200"),
        ((200, {"versions": None}), "status 200"),
        ((200, {"other": {"db": 3}}), "status 200"),
        ((200, [1]), "status 200"),
        ((200, b"<html>"), "status 200"),
        ((200, b"\xff"), "status 200"),
        ((200, b"[" * 65_536), "status 200"),
        ((200, b'{"versions": {"db": 3'), "status 200"),
    ],
)
def test_it_gives_up_and_tells_what_it_saw(answer, saw):
    """Whatever else comes is no success, and the error has status and versions only."""
    clock = FakeClock()
    with pytest.raises(VerificationFailed) as caught:
        wait(Consumer(answer), clock=clock)
    expected = "expected a healthy answer with db=3"
    assert f"within 10 s: {expected}, last saw {saw}" in caught.value.message
    assert caught.value.message.endswith(saw)
    assert caught.value.hint
    assert clock.monotonic() <= 1_010


def test_words_of_the_answer_are_not_repeated():
    """A body may hold anything, a value among it."""
    body = {"versions": {"db": 2, "canary": 1}, "canary": "canary", "db": "canary"}
    with pytest.raises(VerificationFailed) as caught:
        wait(Consumer((200, body)))
    assert "canary" not in str(caught.value)


def test_an_address_that_we_do_not_talk_to_is_refused_at_once():
    """That is an error of the manifest, and waiting would not mend it."""
    clock = FakeClock()
    consumer = Consumer(DeliveryError("plain http"))
    with pytest.raises(DeliveryError):
        wait(consumer, clock=clock)
    assert 1_000 == clock.monotonic()


def test_a_healthy_consumer_is_not_waited_for():
    """The first look is at once."""
    clock = FakeClock()
    seen = wait(Consumer((200, {"versions": {"db": 3, "jwt": 9}})), clock=clock)
    assert (200, {"db": 3}) == (seen.status, dict(seen.versions))
    assert 1_000 == clock.monotonic()


def test_it_is_asked_until_it_is_ready():
    """Not up, starting, old version, then ready; the pauses grow from 20 ms to half a second."""
    clock = FakeClock()
    consumer = Consumer(
        *[Unavailable("no")] * 8,
        (503, b""),
        (200, {"versions": {"db": 2}}),
        (200, {"versions": {"db": 3}}),
    )
    wait(consumer, clock=clock)
    pauses = 0.02 + 0.04 + 0.08 + 0.16 + 0.32 + 5 * 0.5
    assert pauses == pytest.approx(clock.monotonic() - 1_000)
    assert 11 == len(consumer.asked)


def test_one_question_never_outlasts_the_whole():
    """Each exchange gets what is left of the time, and five seconds at most."""
    consumer = Consumer(Unavailable("no"))
    with pytest.raises(VerificationFailed):
        wait(consumer, timeout_seconds=6)
    assert 5 == consumer.asked[0]
    assert consumer.asked[-1] < 1
    assert all(0 < seconds <= 5 for seconds in consumer.asked)


def test_no_time_at_all_is_one_look():
    """A timeout of zero asks once."""
    consumer = Consumer((503, b""))
    with pytest.raises(VerificationFailed):
        wait(consumer, timeout_seconds=0)
    assert 1 == len(consumer.asked)


@pytest.mark.parametrize(
    ("key", "expected", "body"),
    [
        (None, {"db": 3}, b"ok"),
        (None, {}, b""),
        ("versions", {}, b""),
        ("a.b.c", {"db": 3}, {"a": {"b": {"c": {"db": 3}}}}),
        ("versions", {"db": 3, "jwt": 1}, {"versions": {"jwt": 1, "db": 3}}),
    ],
)
def test_what_counts_as_healthy(key, expected, body):
    """Without a key the status is enough; a dotted key leads inside."""
    assert 200 == wait(Consumer((200, body)), expected, key).status
