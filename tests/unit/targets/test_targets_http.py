"""What is made of a vendor's words, addresses and waits, without a vendor."""

from __future__ import annotations

import pytest

from keyturn.core.ids import EnvironmentName, SecretName, Token
from keyturn.core.model import SecretRef
from keyturn.core.value import SecretValue
from keyturn.errors import OutcomeUnknown, Rejected, Unavailable, UsageError
from keyturn.targets._answer import Answer
from keyturn.targets._http import Login, Vendor, made_name, segment, until
from keyturn.testing.clock import FakeClock


def words(message):
    """Return what is shown of the vendor's *message*."""
    return Answer(400, "Vendor", {"error": {"message": message}}).words()


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-" + "aB3" * 16,
        "sk-abcd",
        "sk-proj-********************wXyZ",
        "rk_live_" + "x1" * 12,
        "whsec_" + "a1" * 16,
        "SG." + "a" * 22 + "." + "b" * 43,
        "k9" * 15,
        "AKIA" + "Q1" * 8,
    ],
)
def test_words_hold_no_key(key):
    """Whatever looks like a key, or like a part of one, is left out of a vendor's words."""
    shown = words(f"Incorrect API key provided: {key}. Look here.")
    assert shown.startswith("Incorrect API key provided: ***")
    assert shown.endswith("Look here.")
    assert key[-6:] not in shown


def test_words_are_short_and_plain():
    """Control characters of a vendor do not reach the terminal; long words are cut."""
    assert words("no\x1b[31m\r\nway") == "no [31m  way"
    assert len(words("no way " * 100)) <= 200
    late = words("a " * 95 + "sk-" + "c4" * 30)
    assert "c4" not in late


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "one"}}, "one"),
        ({"errors": [{"field": None, "message": "two"}]}, "two"),
        ({"status": 403, "message": "three"}, "three"),
        ({"error": "four"}, "four"),
        ({"errors": ["five"]}, "five"),
        ({"errors": []}, ""),
        (["six"], ""),
        (None, ""),
    ],
)
def test_words_of_each_vendors_form(body, expected):
    """The forms of error bodies that are known; of others nothing is said."""
    assert Answer(400, "Vendor", body).words() == expected


def test_an_answer_is_not_shown():
    """An answer may hold a new key, which its text form has not."""
    assert "hidden" not in repr(Answer(200, "Vendor", {"value": "hidden"}))


@pytest.mark.parametrize(("changing", "family"), [(True, OutcomeUnknown), (False, Unavailable)])
def test_an_answer_that_lacks_something(changing, family):
    """After a change it is in doubt what happened; after a question nothing did."""
    answer = Answer(200, "Vendor", {"value": 5, "rows": [1]}, changing)
    for read in (
        lambda: answer.text("value"),
        lambda: answer.secret("no", "where"),
        lambda: answer.rows("rows"),
    ):
        with pytest.raises(family) as caught:
            read()
        assert "Vendor answered without" in caught.value.message


def test_error_codes():
    """A code is a text; where it has none, the type; else nothing."""
    assert Answer(401, "V", {"error": {"code": "a", "type": "b"}}).error_code() == "a"
    assert Answer(401, "V", {"error": {"code": None, "type": "b"}}).error_code() == "b"
    assert Answer(401, "V", {"code": "c"}).error_code() == "c"
    assert Answer(401, "V", []).error_code() == ""


@pytest.mark.parametrize(
    ("text", "expected"), [("a/../b", "a%2F..%2Fb"), ("..", "%2E%2E"), ("x y?z#", "x%20y%3Fz%23")]
)
def test_a_segment_stays_one(text, expected):
    """What came from elsewhere cannot lead to another path."""
    assert segment(text) == expected


def test_a_made_key_is_named_for_its_rotation():
    """The name says who made it, for which secret, in which rotation."""
    ref = SecretRef(EnvironmentName("production"), SecretName("openai"))
    assert made_name(ref, Token("0123456789abcdef" * 2)) == "keyturn-openai-0123456789ab"


def test_asking_until_there_is_an_answer():
    """It stops at the first answer, and in any case after the time allowed."""
    clock = FakeClock()
    answers = iter([None, None, "yes"])
    assert until(clock, lambda: next(answers)) == "yes"
    started = clock.monotonic()
    assert until(clock, lambda: None, seconds=5) is None
    assert 3 < clock.monotonic() - started <= 5


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.vendor.example",
        "http://api.vendor.example",
        "http://127.0.0.1.vendor.example",
        "http://[::1",
        "https://user:word@api.vendor.example",
        "https://api.vendor.example/?key=word",
        "https://api.vendor.example:port",
        "https://api vendor.example",
        "file:///etc/hosts",
    ],
)
def test_addresses_that_are_refused(url):
    """Only https, or http to this machine, without anything secret in it."""
    with pytest.raises(UsageError) as caught:
        Vendor("Vendor", url, clock=FakeClock())
    assert caught.value.code == "rotation.target"
    assert "word" not in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "https://api.vendor.example/v1/",
        "http://127.0.0.1:80",
        "http://[::1]:8",
        "http://localhost:1",
    ],
)
def test_addresses_that_are_used(url):
    """https anywhere, http on this machine."""
    assert Vendor("Vendor", url, clock=FakeClock()).name == "Vendor"


@pytest.mark.parametrize(
    "value", ["", "two words", "line\nend", "sk-\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
@pytest.mark.parametrize("make", [Login.bearer, Login.basic])
def test_a_value_that_no_header_can_carry(value, make):
    """It is refused before the library, whose error would quote it; nothing is sent."""
    api = Vendor("Vendor", "http://127.0.0.1:9", clock=FakeClock())
    with pytest.raises(Rejected) as caught:
        api.request("GET", "/", login=make(SecretValue.from_text(value), "the key `x`"))
    assert caught.value.code == "target.login-refused"
    assert not value or value not in caught.value.message
