"""Reading back what was rendered: every format gives the values that went in."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyturn import deliver
from keyturn.app.copies import copy_files, read_copy, read_value, versions_of
from keyturn.core.value import SecretValue
from keyturn.deliver import Format, RenderTarget, write_rendered
from keyturn.errors import DeliveryError
from keyturn.manifest import Render, RenderFormat

# What shells and parsers stumble over, and any other text without NUL.
TEXTS = st.text(
    st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=30
) | st.text("'\"\\$`# \n\tab=", max_size=12)


def written(folder, form, values):
    """Write *values* as *form*, and return what the manifest says of that copy."""
    rendering = deliver.render(
        Format(form.value),
        {name: SecretValue.from_text(text) for name, text in values.items()},
        {"db": 3},
    )
    write_rendered(folder, RenderTarget("run/x", Format(form.value), 0o600), rendering)
    return Render("run/x", form)


@pytest.mark.parametrize("form", list(RenderFormat))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.dictionaries(st.sampled_from(["A", "B_C", "D9"]), TEXTS, max_size=3))
def test_every_format_reads_back(form, values, tmp_path_factory):
    """The same bytes, and the versions that were written with them."""
    folder = tmp_path_factory.mktemp("copy")
    found = dict(read_copy(folder, written(folder, form, values)))
    assert {"db": 3} == versions_of(found)
    del found["KEYTURN_VERSIONS"]
    assert values == {name: value.reveal_text() for name, value in found.items()}


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (RenderFormat.JSON, b"{canary"),
        (RenderFormat.JSON, b'["canary"]'),
        (RenderFormat.JSON, b"[" * 100_000),
        (RenderFormat.SHELL, b"export A='canary"),
        (RenderFormat.DOTENV, b"A=canary\0"),
    ],
)
def test_what_is_in_another_format_is_refused_without_being_quoted(form, data, tmp_path):
    """The words of a parser may hold what it stumbled over."""
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DeliveryError, match="is not in the format") as caught:
        read_copy(tmp_path, Render("x", form))
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("form", list(RenderFormat))
def test_what_is_absent_is_an_os_error(form, tmp_path):
    """For the caller to tell."""
    with pytest.raises(FileNotFoundError):
        read_copy(tmp_path, Render("x", form))


@pytest.mark.parametrize(
    "text", ["", "db", "db=", "db=3;rm", "DB=3", "db=3  jwt=1", "password=hunter2", "db=3\n"]
)
def test_versions_are_names_and_numbers_or_nothing(text):
    """Whatever stands in that place is told only if it is nothing else."""
    assert versions_of({"KEYTURN_VERSIONS": SecretValue.from_text(text)}) is None


def test_versions():
    """Several, and bytes that are no text."""
    said = {"KEYTURN_VERSIONS": SecretValue(b"db=3 jwt-key=12")}
    assert {"db": 3, "jwt-key": 12} == versions_of(said)
    assert versions_of({"KEYTURN_VERSIONS": SecretValue(b"\xff")}) is None
    assert versions_of({}) is None


def test_a_pipe_is_not_waited_for(tmp_path):
    """A reader that blocked would hang the test."""
    os.mkfifo(tmp_path / "x")
    assert not read_value(tmp_path / "x")


def test_one_value_loses_one_newline(tmp_path):
    """As an editor, or `echo`, leaves it."""
    (tmp_path / "x").write_bytes(b"a\n\n")
    assert SecretValue(b"a\n") == read_value(tmp_path / "x")


def test_the_files_of_a_set_are_one_a_variable(tmp_path):
    """And of every other format there is one."""
    assert [tmp_path / "run/x"] == copy_files(tmp_path, Render("run/x"), ())
    assert [] == copy_files(tmp_path, Render("run/x", RenderFormat.FILES), ())
