"""Requests to a vendor that misbehaves."""

from __future__ import annotations

import socket
import threading
import traceback

import pytest

from keyturn.core.value import SecretValue
from keyturn.errors import OutcomeUnknown, Rejected, Unavailable
from keyturn.targets._http import Login, Vendor
from keyturn.testing.clock import FakeClock
from keyturn.testing.simulators import Fault, Reply, Simulator

KEY = SecretValue(b"made-for-a-test")


class Echo(Simulator):
    """Answers with what it was sent."""

    def handle(self, request):
        body = {
            "query": dict(request.query),
            "form": request.form(),
            "bearer": request.bearer,
            "user": request.basic_user,
            "own": request.headers.get("idempotency-key"),
            "encoding": request.headers.get("accept-encoding"),
        }
        return Reply(200, body)


@pytest.fixture()
def simulator():
    """A vendor that answers with what it was sent."""
    with Echo() as simulator:
        yield simulator


@pytest.fixture()
def clock():
    """Time that passes at once."""
    return FakeClock()


@pytest.fixture()
def api(simulator, clock):
    """The vendor, as the kinds reach it."""
    return Vendor("Vendor", simulator.base_url, clock=clock)


def test_what_is_sent(api):
    """Query, form with a secret field, headers and both logins arrive as they should."""
    answer = api.request(
        "POST",
        "/x",
        login=Login.bearer(KEY, "the key"),
        query={"a": "1 2"},
        form={"client_secret": KEY, "b": "&"},
        headers={"Idempotency-Key": "t"},
    )
    assert answer.at("query", "a") == "1 2"
    assert answer.at("form") == [["client_secret", "made-for-a-test"], ["b", "&"]]
    assert answer.at("bearer") == "made-for-a-test"
    assert answer.at("own") == "t"
    assert answer.at("encoding") == "identity"
    assert api.request("GET", "/", login=Login.basic(KEY, "k")).at("user") == "made-for-a-test"


def test_nothing_of_the_environment_is_used(api, monkeypatch):
    """A proxy that is set for others gets no key."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert api.request("GET", "/").succeeded


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.BROKEN_BEFORE, Fault.BROKEN_AFTER])
@pytest.mark.parametrize(
    ("method", "changing", "family"),
    [
        ("GET", None, Unavailable),
        ("POST", None, OutcomeUnknown),
        ("DELETE", None, OutcomeUnknown),
        ("POST", False, Unavailable),
    ],
)
def test_no_answer(simulator, api, fault, method, changing, family):
    """After a change it may have happened; after a question it is only not known."""
    simulator.fail_next("/", fault)
    with pytest.raises(family) as caught:
        api.request(method, "/x", login=Login.bearer(KEY, "the key"), changing=changing)
    assert caught.value.hint
    assert "made-for-a-test" not in "".join(traceback.format_exception(caught.value))


def test_a_request_that_was_never_sent_changed_nothing(simulator, api):
    """A refused connection is not in doubt, whatever the request."""
    simulator.stop()
    with pytest.raises(Unavailable):
        api.request("POST", "/x")


@pytest.mark.parametrize("status", [408, 502, 503])
def test_errors_between_us_and_the_vendor(simulator, api, status):
    """An error of something in between leaves a change in doubt."""
    simulator.answer_next("/", Reply(status), times=2)
    with pytest.raises(OutcomeUnknown):
        api.request("POST", "/x")
    with pytest.raises(Unavailable):
        api.request("GET", "/x")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "target.login-refused"),
        (403, "target.denied"),
        (404, "target.rejected"),
        (409, "target.rejected"),
        (422, "target.rejected"),
    ],
)
def test_a_definite_no(simulator, api, status, code):
    """Each refusal has its code, the vendor's words and the caller's hint."""
    simulator.answer_next("/", Reply(status, {"message": "because"}), times=2)
    with pytest.raises(Rejected) as caught:
        api.request("POST", "/x", login=Login.bearer(KEY, "the key `x`"), hint="do this")
    assert (caught.value.code, caught.value.hint) == (code, "do this")
    assert "because" in caught.value.message
    assert api.request("POST", "/x", expect=(status,)).status == status


def test_a_redirect_is_not_followed(simulator, api):
    """A key is not sent to where somebody else says."""
    simulator.answer_next("/x", Reply(307, None, {"Location": f"{simulator.base_url}/y"}))
    with pytest.raises(Rejected) as caught:
        api.request("GET", "/x", login=Login.bearer(KEY, "the key"))
    assert "redirect" in caught.value.message
    assert simulator.asked("/y") == 0


@pytest.mark.parametrize(("method", "family"), [("GET", Unavailable), ("POST", OutcomeUnknown)])
def test_an_answer_that_is_too_long(simulator, api, method, family):
    """It is not read to its end."""
    simulator.answer_next("/", Reply(200, {"x": "y" * 2_000_000}))
    with pytest.raises(family) as caught:
        api.request(method, "/x")
    assert "does not end" in caught.value.message


def test_waits_are_counted_together(simulator, api, clock):
    """Two waits that are short by themselves and long together are not both made."""
    simulator.fail_next("/", Fault.LIMITED, times=2, seconds=6)
    with pytest.raises(Unavailable) as caught:
        api.request("POST", "/x")
    assert "6 seconds" in caught.value.message
    assert clock.monotonic() == 1006
    assert simulator.asked("/") == 2


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2026 07:28:00 GMT", "-5", "nan", "1e9"])
def test_a_wait_that_is_not_a_number_is_ours_to_choose(simulator, api, clock, header):
    """One second, then two; then it is told."""
    simulator.answer_next("/", Reply(429, None, {"Retry-After": header}), times=3)
    with pytest.raises(Unavailable) as caught:
        api.request("POST", "/x")
    assert clock.monotonic() == 1003
    assert "asks to wait" not in caught.value.message


@pytest.mark.parametrize(
    ("sent", "family"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>no>", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"[" * 99_999, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", OutcomeUnknown),
        (b"\x15\x03\x01 not http at all\r\n\r\n", OutcomeUnknown),
    ],
)
def test_answers_that_are_not_of_the_kind(clock, sent, family):
    """A page in place of JSON has no body; half an answer to a change is in doubt."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(sent)

        thread = threading.Thread(target=answer)
        thread.start()
        api = Vendor("Vendor", f"http://127.0.0.1:{listener.getsockname()[1]}", clock=clock)
        try:
            if family is None:
                assert api.request("POST", "/").body is None
            else:
                with pytest.raises(family):
                    api.request("POST", "/")
        finally:
            thread.join(10)


def test_a_bug_of_the_simulator_is_not_hidden():
    """A simulator that fails says so when it is stopped, whatever the client made of it."""

    class Broken(Simulator):
        def handle(self, request):
            raise ZeroDivisionError

    simulator = Broken().start()
    with pytest.raises(Unavailable):
        Vendor("Vendor", simulator.base_url, clock=FakeClock()).request("GET", "/")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        simulator.stop()
