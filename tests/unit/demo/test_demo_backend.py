"""What the example backend reads: Keyturn's rendered file and the list of versions."""

from __future__ import annotations

import base64
import importlib
import secrets
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import FieldName
from keyturn.core.value import SecretValue
from keyturn.deliver import Format, render
from keyturn.generate import Settings, generate_fields

EXAMPLE = Path(__file__).parents[3] / "examples" / "clipper"


@pytest.fixture(scope="module")
def example():
    """Return a function from a name to a module of the example, which are programs elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield importlib.import_module
    for name in ("backend", "delivery", "keys"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def delivery(example):
    """What reads the delivered file."""
    return example("delivery")


@pytest.fixture(scope="module")
def backend(example):
    """The service."""
    return example("backend")


@pytest.fixture(scope="module")
def keys(example):
    """What signs and encrypts."""
    return example("keys")


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@given(values=st.dictionaries(st.sampled_from("A DB_PASSWORD _X9 lower".split()), TEXTS))
def test_it_reads_back_every_value_that_keyturn_renders(delivery, values):
    """Quotes, backslashes, dollars, line ends: each value comes out as it went in."""
    variables = {name: SecretValue.from_text(text) for name, text in values.items()}
    rendered = render(Format.DOTENV, variables, {"db": 3, "jwt": 1})
    found = delivery.read_dotenv(rendered.reveal_text())
    assert found == {**values, "KEYTURN_VERSIONS": "db=3 jwt=1"}


def test_a_line_inside_a_value_is_not_an_entry(delivery):
    """A value of several lines is one value, whatever its lines look like."""
    assert delivery.read_dotenv("A='one\nB=two\n'\nC=3\n") == {"A": "one\nB=two\n", "C": "3"}


def test_versions_are_a_mapping(delivery):
    """`KEYTURN_VERSIONS` becomes numbers by name; none is an empty mapping."""
    assert delivery.read_versions("db=3 jwt=12") == {"db": 3, "jwt": 12}
    assert delivery.read_versions("") == {}


@pytest.mark.parametrize("text", ["db", "db=", "db=three", "db=1=2"])
def test_versions_that_do_not_read_like_ones_are_refused(delivery, text):
    """A reload with such a list is refused, and the service goes on."""
    with pytest.raises(delivery.BadSettings, match="KEYTURN_VERSIONS"):
        delivery.read_versions(text)


def test_everything_missing_and_malformed_is_named(delivery):
    """A missing variable is named, and a port that is no number is refused unquoted."""
    complete = dict.fromkeys(delivery.REQUIRED, "1")
    assert delivery.complete(complete, "it") == complete
    with pytest.raises(delivery.BadSettings, match="it lacks DB_HOST, PORT"):
        delivery.complete({**complete, "DB_HOST": "", "PORT": ""}, "it")
    with pytest.raises(delivery.BadSettings, match="DB_PORT in it is not a number"):
        delivery.complete({**complete, "DB_PORT": "http"}, "it")


def test_reasons_for_strangers_tell_nothing(backend):
    """An answer names the kind of fault, never the words of the database."""
    import psycopg

    error = psycopg.OperationalError('password authentication failed for user "clipper_a"')
    assert "clipper_a" not in backend.public_reason(error)
    assert backend.describe(error).startswith("OperationalError: password authentication failed")
    assert backend.describe(psycopg.OperationalError()) == "OperationalError"
    assert backend.public_reason(backend.Busy()) == "every database connection is in use"


@pytest.fixture(scope="module")
def signing():
    """Two deliveries of signing keys, as Keyturn makes them."""
    fields = {
        "private_key": "JWT_PRIVATE_KEY_B64",
        "public_key": "JWT_PUBLIC_KEY_B64",
        "jwks": "JWT_JWKS",
        "kid": "JWT_KEY_ID",
    }

    def made():
        found = generate_fields(
            "jwt-signing-key",
            tuple(map(FieldName, fields)),
            Settings(format="pem-base64", key_bits=2048),
            entropy=SystemEntropy(),
        )
        return {variable: found[name].reveal_text() for name, variable in fields.items()}

    return made(), made()


def test_tokens_of_every_published_key_are_accepted(keys, signing):
    """A key that is published and does not sign is accepted; one that is not published is not."""
    old, new = (keys.Tokens(one) for one in signing)
    entries = [one["JWT_JWKS"].removeprefix('{"keys":[').removesuffix("]}") for one in signing]
    both = keys.Tokens(signing[1] | {"JWT_JWKS": '{"keys":[' + ",".join(entries) + "]}"})
    assert both.user_of(old.issue("7")) == both.user_of(new.issue("7")) == "7"
    assert new.user_of(both.issue("7")) == "7"
    with pytest.raises(keys.Refused, match="not signed by a key"):
        new.user_of(old.issue("7"))


def test_a_token_that_is_none_is_refused(keys, signing):
    """Nonsense, another algorithm and a changed user are refused, and nothing breaks."""
    tokens = keys.Tokens(signing[0])
    head, body, signature = tokens.issue("7").split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    other = base64.urlsafe_b64encode(b'{"sub":"8"}').rstrip(b"=").decode()
    for text in ("", "a.b.c", f"{none}.{body}.", f"{head}.{other}.{signature}", f"{head}.{body}."):
        with pytest.raises(keys.Refused):
            tokens.user_of(text)


def test_sessions_of_every_listed_secret_are_accepted(keys):
    """The first signs; what the second signed is accepted, and what a third did is not."""
    first, second, third = (secrets.token_urlsafe(32) for _ in range(3))
    both = keys.Sessions({"SESSION_SECRET": f"{first},{second}"})
    for one in (first, second):
        assert both.user_of(keys.Sessions({"SESSION_SECRET": one}).issue("7")) == "7"
    assert keys.Sessions({"SESSION_SECRET": first}).user_of(both.issue("7")) == "7"
    with pytest.raises(keys.Refused):
        both.user_of(keys.Sessions({"SESSION_SECRET": third}).issue("7"))


def test_seeds_are_read_with_the_key_that_is_named_beside_them(keys):
    """The first encrypts, all read; a seed does not open for another user or without its key."""
    old, new = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
    before = keys.Seeds({"MFA_ENCRYPTION_KEYS": f"k1:{old}"})
    ring = keys.Seeds({"MFA_ENCRYPTION_KEYS": f"k2:{new},k1:{old}"})
    after = keys.Seeds({"MFA_ENCRYPTION_KEYS": f"k2:{new}"})
    sealed = before.seal(7, b"seed")
    assert ring.open(7, *sealed) == b"seed"
    assert ring.seal(7, b"seed")[0] == "k2"
    for user, one in ((8, ring), (7, after)):
        with pytest.raises(keys.Refused):
            one.open(user, *sealed)


def test_what_is_not_there_is_left_out_and_what_is_broken_is_named(backend, keys):
    """An optional secret may lack; one that cannot be used is refused by name, unquoted."""
    assert backend.optional(keys.Seeds, {}, "MFA_ENCRYPTION_KEYS") is None
    with pytest.raises(backend.BadSettings, match="MFA_ENCRYPTION_KEYS cannot be used") as caught:
        backend.optional(keys.Seeds, {"MFA_ENCRYPTION_KEYS": "k:pass"}, "MFA_ENCRYPTION_KEYS")
    assert "k:pass" not in str(caught.value)
