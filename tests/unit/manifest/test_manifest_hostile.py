"""Manifests that nobody wrote in good faith: bounded work, typed errors, nothing quoted."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.errors import ManifestError
from keyturn.manifest import load

HEAD = b'[project]\nname = "a"\n[environments.e]\n'


def refused(text):
    with pytest.raises(ManifestError) as caught:
        load(text, file="keyturn.toml")
    return caught.value.problems


def test_ten_megabytes_are_refused_unread():
    """Size is looked at before anything else."""
    (found,) = refused(b"#" * 10_000_000)

    assert "larger than 1 MiB" in found.message


@pytest.mark.parametrize("junk", [b"\xff\xfe\x00a", b'x = "\xe9"', b"\x80" * 100])
def test_what_is_not_utf8_is_refused_with_its_line(junk):
    """The bytes themselves are not shown."""
    (found,) = refused(HEAD + junk)

    assert (4, "is not UTF-8") == (found.line, found.message)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"x = ", 4, "is not TOML"),
        (b"x = 1\nx = 2\n", 5, "Cannot overwrite".lower()),
        (b'x = "open\n', 4, "is not TOML"),
        (b"[project]\n", 4, "is not TOML"),
        (b"x = \x00\n", 4, "is not TOML"),
        (b"x = " + b"9" * 5_000, None, "cannot be read"),
        (b"x = " + b"[" * 20_000, 4, "nests too deep"),
        (b"a" + b".a" * 200_000 + b" = 1\n", 4, "more than 16 parts"),
        (b"x = {" + b"a." * 100_000, 4, "more than 16 parts"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_line(text, line, words):
    """A fault of syntax is one problem, since nothing after it can be trusted."""
    (found,) = refused(HEAD + text)

    assert line == found.line
    assert words in found.message


def test_a_flood_of_faults_ends_at_a_hundred():
    """The rest is not looked at, and that is said."""
    found = refused(HEAD + b"".join(b"k%d = 1\n" % n for n in range(2_000)))

    assert 101 == len(found)
    assert "the rest was not looked at" in found[-1].message


def test_more_secrets_than_a_manifest_holds_are_refused():
    """Counts are bounded."""
    text = b"".join(b'[secrets.s%d]\nkind = "guided"\n' % n for n in range(5_001))

    assert ["must have 0 to 5000 entries"] == [p.message for p in refused(HEAD + text)]


@pytest.mark.parametrize(
    "text",
    [
        b"x = " + b"[" * 500_000,
        b"a" + b".a" * 400_000 + b" = 1",
        (b"." * 60 + b"\n") * 10_000,
        b"x = '" + b"sk-" * 300_000 + b"'",
        b"x = '" + b"://a:" * 200_000 + b"'",
        b"#" + b"eyJaaaaaaaa." * 80_000,
        b'x = """' + b'\\"""' * 200_000,
        b"[" * 900_000,
        b'"' * 900_000,
        b"".join(b'[secrets.s%d]\nkind = "guidet"\n' % n for n in range(6_000)),
        b"[secrets.x]\nkind = 'guided'\ndepends_on = ["
        + b",".join(b"'s%d'" % n for n in range(90))
        + b"]",
    ],
    ids=range(11),
)
def test_hostile_text_takes_bounded_time(text):
    """Nothing in a mebibyte keeps the loader busy: every case ends within seconds."""
    begun = time.process_time()

    refused(HEAD + text)

    assert time.process_time() - begun < 5


def test_a_long_chain_of_dependencies_is_ordered():
    """No recursion limit stands in the way of an honest chain."""
    text = b"".join(
        b'[secrets.s%d]\nkind = "guided"\nvariable = ""\ndepends_on = ["s%d"]\n' % (n, n + 1)
        for n in range(1_500)
    )
    manifest = load(HEAD + text + b'[secrets.s1500]\nkind = "guided"\n', file="k")

    order = manifest.order("e")
    assert ("s1500", "s0") == (order[0], order[-1])


_WORDS = st.sampled_from(
    ["project", "secrets", "config", "consumers", "environments", "kind", "db", "a.b", "'", '"']
    + ["=", "[", "]", "{", "}", "\n", '"guided"', "1", "true", "name", "reload", "\\", "#", "."]
)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.lists(_WORDS, max_size=60).map(" ".join)))
def test_any_bytes_load_or_raise_a_manifest_error(text):
    """No input brings out any other exception."""
    data = text if isinstance(text, bytes) else text.encode()
    try:
        load(data, file="k")
    except ManifestError as error:
        assert error.problems


_VALUES = st.recursive(
    st.one_of(
        st.booleans(), st.integers(), st.text(max_size=8), st.sampled_from(["*", "90d", "db"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["host", "format", "path", "development", "x"]), inner),
    ),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    "kind purpose owner priority max_age grace strategy required depends_on fields variable "
    "identity generate only environments target secrets config render reload health".split()
)


@settings(max_examples=60, deadline=None)
@given(
    section=st.sampled_from(
        ["secrets.db", "consumers.app", "environments.e", "config", "stores.s"]
    ),
    kind=st.sampled_from(["postgres-login", "generated", "guided", "jwt-signing-key"]),
    entries=st.dictionaries(_KEYS, _VALUES, max_size=6),
)
def test_any_types_load_or_raise_a_manifest_error(section, kind, entries):
    """Wrong types in any place are problems, never a crash."""
    import tomlkit

    table = {**({"kind": kind} if section == "secrets.db" else {}), **entries}
    try:
        body = tomlkit.dumps(table)
    except Exception:
        return
    try:
        load(
            b'[project]\nname = "a"\n[environments.x]\n' + f"[{section}]\n{body}".encode(), file="k"
        )
    except ManifestError as error:
        assert error.problems
