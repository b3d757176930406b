"""Sending is bounded, and its failures are of one kind."""

from __future__ import annotations

import threading

import pytest

from keyturn.errors import Rejected, Unavailable
from keyturn.notify.channel import within


def test_what_ends_in_time_is_done():
    """And its effects are there on return."""
    done = []
    within(5, lambda: done.append(1))
    assert [1] == done


def test_what_does_not_end_is_left():
    """Told as no answer; what is left behind keeps no process alive."""
    stop = threading.Event()
    with pytest.raises(Unavailable, match=r"no answer within 0\.01 seconds"):
        within(0.01, stop.wait)
    [left] = [thread for thread in threading.enumerate() if thread.name == "notice"]
    assert left.daemon
    stop.set()
    left.join()


def test_our_failures_are_passed_on():
    """As they are."""

    def refuse():
        raise Rejected("no")

    with pytest.raises(Rejected, match="no"):
        within(5, refuse)


def test_a_fault_in_an_adapter_is_told_without_its_text():
    """Which may hold the address."""

    def fail():
        raise KeyError("canary-token")

    with pytest.raises(Unavailable, match="unexpectedly: KeyError") as caught:
        within(5, fail)
    assert "canary" not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
