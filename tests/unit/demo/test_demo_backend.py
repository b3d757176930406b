"""What the example backend reads: Keyturn's rendered file and the list of versions."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.value import SecretValue
from keyturn.deliver import Format, render

EXAMPLE = Path(__file__).parents[3] / "examples" / "clipper"


@pytest.fixture(scope="module")
def backend():
    """The example's program as a module."""
    spec = importlib.util.spec_from_file_location("clipper_backend", EXAMPLE / "backend.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@given(values=st.dictionaries(st.sampled_from("A DB_PASSWORD _X9 lower".split()), TEXTS))
def test_it_reads_back_every_value_that_keyturn_renders(backend, values):
    """Quotes, backslashes, dollars, line ends: each value comes out as it went in."""
    variables = {name: SecretValue.from_text(text) for name, text in values.items()}
    rendered = render(Format.DOTENV, variables, {"db": 3, "jwt": 1})
    found = backend.read_dotenv(rendered.reveal_text())
    assert found == {**values, "KEYTURN_VERSIONS": "db=3 jwt=1"}


def test_a_line_inside_a_value_is_not_an_entry(backend):
    """A value of several lines is one value, whatever its lines look like."""
    assert backend.read_dotenv("A='one\nB=two\n'\nC=3\n") == {"A": "one\nB=two\n", "C": "3"}


def test_versions_are_a_mapping(backend):
    """`KEYTURN_VERSIONS` becomes numbers by name; none is an empty mapping."""
    assert backend.read_versions("db=3 jwt=12") == {"db": 3, "jwt": 12}
    assert backend.read_versions("") == {}


@pytest.mark.parametrize("text", ["db", "db=", "db=three", "db=1=2"])
def test_versions_that_do_not_read_like_ones_are_refused(backend, text):
    """A reload with such a list is refused, and the service goes on."""
    with pytest.raises(backend.BadSettings, match="KEYTURN_VERSIONS"):
        backend.read_versions(text)


def test_everything_missing_and_malformed_is_named(backend):
    """A missing variable is named, and a port that is no number is refused unquoted."""
    complete = dict.fromkeys(backend.REQUIRED, "1")
    assert backend.complete(complete, "it") == complete
    with pytest.raises(backend.BadSettings, match="it lacks DB_HOST, PORT"):
        backend.complete({**complete, "DB_HOST": "", "PORT": ""}, "it")
    with pytest.raises(backend.BadSettings, match="DB_PORT in it is not a number"):
        backend.complete({**complete, "DB_PORT": "http"}, "it")


def test_reasons_for_strangers_tell_nothing(backend):
    """An answer names the kind of fault, never the words of the database."""
    import psycopg

    error = psycopg.OperationalError('password authentication failed for user "clipper_a"')
    assert "clipper_a" not in backend.public_reason(error)
    assert backend.describe(error).startswith("OperationalError: password authentication failed")
    assert backend.describe(psycopg.OperationalError()) == "OperationalError"
    assert backend.public_reason(backend.Busy()) == "every database connection is in use"
