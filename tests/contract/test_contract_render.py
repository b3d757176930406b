"""
Every rendered format gives back the same bytes to the real readers of it.

The readers are the ones that people use: `sh`, `bash`, the JSON parser, python-dotenv,
the file system. A value that a format cannot carry is refused by name instead.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyturn.core.entropy import SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.deliver import Format, render
from keyturn.errors import DeliveryError
from keyturn.generate import Format as ValueFormat
from keyturn.generate import Policy, SafeFor, random_value

SHELLS = [shell for shell in ("sh", "dash", "bash", "ksh", "zsh") if shutil.which(shell)]
VERSIONS = {"jwt": 1, "db": 3}
SEPARATOR = b"\0"

TRICKY = {
    "EMPTY": b"",
    "ONE_BYTE": b"x",
    "NEWLINE": b"line one\nline two\n",
    "ONLY_NEWLINES": b"\n\n\n",
    "CRLF": b"one\r\ntwo\rthree",
    "SINGLE_QUOTE": b"it's",
    "ONLY_QUOTES": b"'\"'\"'''\"\"\"",
    "DOUBLE_QUOTE": b'say "hi"',
    "COMMAND": b"$(touch /tmp/keyturn-pwned)",
    "BACKTICKS": b"`touch /tmp/keyturn-pwned`",
    "VARIABLE": b"$HOME ${HOME} $$ $1 $! $? ${UNSET:-x}",
    "QUOTED_COMMAND": b"'$(id)'\"`id`\"",
    "BANG": b"!! !x wow!",
    "HASH": b"a #b#c",
    "LEADING_HASH": b"#not a comment",
    "EQUALS": b"a=b==",
    "LEADING_EQUALS": b"=x",
    "SPACES": b"  both ends  ",
    "TABS": b"\tboth ends\t",
    "BACKSLASH": b"a\\b\\\\c\\n",
    "LAST_BACKSLASH": b"ends in \\",
    "BACKSLASH_QUOTE": b"\\'\\\"",
    "BACKSLASH_NEWLINE": b"a\\\nb",
    "TILDE": b"~root:~",
    "GLOB": b"* ? [a-z] {a,b}",
    "OPERATORS": b"a; b & c | d > e < f && (g)",
    "EXPORT": b"export A=1\nB=2",
    "RTL": "\u202eشالوم\u202c".encode(),
    "EMOJI": "🔑🏴‍☠️".encode(),
    "CONTROLS": bytes(byte for byte in range(1, 32)) + b"\x7f",
    "BIG": b"'\"$`\\ \n" * 8_192 + b"x" * 8_192,
}
NOT_UTF8 = {"ALL_BYTES": bytes(range(1, 256)) * 2, "LATIN": b"caf\xe9", "CUT": b"\xf0\x9f"}
WITH_NUL = {"NUL": b"a\0b"}


def rendered(form, values):
    return render(form, {name: SecretValue(value) for name, value in values.items()}, VERSIONS)


def sourced(shell, content, names, folder):
    """Return what *shell* holds in *names* after sourcing *content* with all of it exported."""
    file = folder / "rendered"
    file.write_bytes(content)
    program = 'set -a; . "$0"; for name; do eval "printf \'%s\\0\' \\"\\$$name\\""; done'
    done = subprocess.run(
        [shell, "-c", program, str(file), *names],
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        timeout=60,
        check=False,
    )
    assert (0, b"") == (done.returncode, done.stderr)
    return dict(zip(names, done.stdout.split(SEPARATOR)[:-1], strict=True))


@pytest.mark.parametrize("form", [Format.DOTENV, Format.SHELL])
@pytest.mark.parametrize("name", WITH_NUL)
def test_a_line_format_refuses_nul(form, name):
    """No shell can hold a NUL, so the variable is named and nothing is written."""
    with pytest.raises(DeliveryError, match=f"`{name}` holds a NUL byte") as caught:
        rendered(form, {"FINE": b"x", **WITH_NUL})
    assert caught.value.hint


@pytest.mark.parametrize("name", NOT_UTF8)
def test_json_refuses_what_is_not_text(name):
    """JSON is UTF-8 text, so other bytes are refused by name."""
    with pytest.raises(DeliveryError, match=f"`{name}` holds bytes that are not UTF-8"):
        rendered(Format.JSON, {name: NOT_UTF8[name]})


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("name", ["A B", "../x", "A=B", "", "KEYTURN_VERSIONS", "A\nB"])
def test_no_format_takes_a_strange_name(form, name):
    """A name is written bare and becomes a file's name, so it must be a plain one."""
    with pytest.raises(DeliveryError, match="cannot name a variable") as caught:
        rendered(form, {name: b"canary"})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("form", [Format.DOTENV, Format.SHELL])
def test_sourcing_gives_the_same_bytes(shell, form, tmp_path):
    """Quotes, commands, newlines, any byte but NUL: a real shell reads back what was stored."""
    values = {**TRICKY, **NOT_UTF8}
    read = sourced(shell, rendered(form, values).reveal(), list(values), tmp_path)
    assert values == read


@pytest.mark.parametrize("shell", SHELLS)
@given(
    values=st.lists(st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b"")), max_size=40),
    quoting=st.lists(st.text("'\"\\$`!{}() \n~#=", max_size=20), min_size=20, max_size=60),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_sourcing_gives_any_bytes(shell, values, quoting, tmp_path):
    """The same for values that nobody thought of."""
    everything = values + [text.encode() for text in quoting]
    named = {f"V{number}": value for number, value in enumerate(everything)}
    for form in (Format.DOTENV, Format.SHELL):
        assert named == sourced(shell, rendered(form, named).reveal(), list(named), tmp_path)


@pytest.mark.parametrize("form", [Format.DOTENV, Format.SHELL])
def test_sourcing_tells_the_versions(form, tmp_path):
    """Each format carries the version of every secret in it."""
    content = rendered(form, {"A": b"x"}).reveal()
    read = sourced("sh", content, ["A", "KEYTURN_VERSIONS"], tmp_path)
    assert {"A": b"x", "KEYTURN_VERSIONS": b"db=3 jwt=1"} == read


@given(values=st.dictionaries(st.from_regex(r"[A-Z][A-Z_0-9]{0,9}", fullmatch=True), st.text()))
@settings(max_examples=60, deadline=None)
def test_json_gives_the_same_text(values):
    """Any text, NUL and line separators included, comes back from the JSON parser."""
    raw = {name: value.encode("utf-8") for name, value in values.items()}
    read = json.loads(rendered(Format.JSON, raw).reveal())
    assert {**values, "KEYTURN_VERSIONS": "db=3 jwt=1"} == read


def test_json_gives_back_the_tricky_ones():
    """The same for the list above."""
    read = json.loads(rendered(Format.JSON, TRICKY).reveal())
    read.pop("KEYTURN_VERSIONS")
    assert TRICKY == {name: value.encode() for name, value in read.items()}


def dotenv_read(content):
    values = dotenv_values(
        stream=io.StringIO(content.decode("utf-8"), newline=""), interpolate=False
    )
    return {name: (value or "").encode() for name, value in values.items()}


def keeps_a_backslash(value):
    """Tell whether python-dotenv must differ: it has no escape for these in double quotes."""
    double = b"'" in value or b"\\\\" in value or value.endswith(b"\\")
    return double and (b"$" in value or b"`" in value)


def test_python_dotenv_gives_the_same_text():
    """All but the values that the documentation of the format names."""
    values = {name: value for name, value in TRICKY.items() if not keeps_a_backslash(value)}
    assert {"QUOTED_COMMAND", "BIG"} == set(TRICKY) - set(values)
    read = dotenv_read(rendered(Format.DOTENV, values).reveal())
    assert {**values, "KEYTURN_VERSIONS": b"db=3 jwt=1"} == read


@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
@settings(max_examples=200, deadline=None)
def test_python_dotenv_gives_any_text(value):
    """The documented exceptions are all there are."""
    raw = value.encode("utf-8")
    if not keeps_a_backslash(raw):
        assert raw == dotenv_read(rendered(Format.DOTENV, {"A": raw}).reveal())["A"]


@pytest.mark.parametrize(
    "policy",
    [
        Policy(ValueFormat.BASE64),
        Policy(ValueFormat.HEX),
        Policy(ValueFormat.URL),
        Policy(ValueFormat.ALPHANUMERIC),
        *(Policy(ValueFormat.ASCII, safe_for=place) for place in (SafeFor.URL, SafeFor.SHELL)),
    ],
)
def test_what_keyturn_generates_needs_no_quotes(policy):
    """So that every reader of environment files takes it, those without quoting included."""
    for _ in range(50):
        value = random_value(policy, entropy=SystemEntropy()).reveal().replace(b"~", b"-")
        assert b"A=" + value + b"\n" in rendered(Format.DOTENV, {"A": value}).reveal()


def test_files_hold_the_bytes_and_nothing_else():
    """One entry a variable, named as it is, any byte included."""
    values = {**TRICKY, **NOT_UTF8, **WITH_NUL}
    read = {name: value.reveal() for name, value in rendered(Format.FILES, values).items()}
    assert {**values, "KEYTURN_VERSIONS": b"db=3 jwt=1"} == read


@pytest.mark.parametrize("form", Format)
def test_equal_values_give_equal_bytes(form):
    """The order in which variables came does not show, so that a copy can be compared."""
    values = {"B": b"2", "A": b"1", "Z": b"0"}
    backwards = dict(reversed(values.items()))
    assert rendered(form, values) == rendered(form, backwards)
    if form is Format.FILES:
        assert ["A", "B", "KEYTURN_VERSIONS", "Z"] == list(rendered(form, values))


@pytest.mark.parametrize("form", [Format.DOTENV, Format.SHELL])
def test_nothing_is_run_while_sourcing(form, tmp_path):
    """A value that is a command stays a value."""
    mark = tmp_path / "pwned"
    values = {"A": f"$(touch {mark})".encode(), "B": f"'; touch {mark}; '".encode()}
    for shell in SHELLS:
        sourced(shell, rendered(form, values).reveal(), list(values), tmp_path)
    assert not mark.exists()
