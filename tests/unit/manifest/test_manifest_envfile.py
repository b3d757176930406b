"""Reading `.env` files as people have them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.errors import UsageError
from keyturn.manifest import parse_env


def values(text):
    data = text if isinstance(text, bytes) else text.encode()
    file = parse_env(data, file=".env")
    assert [] == [str(p) for p in file.problems]
    return {e.name: e.value.reveal_text() for e in file.live}


def problems(text):
    data = text if isinstance(text, bytes) else text.encode()
    return [(p.line, p.key, p.message) for p in parse_env(data, file=".env").problems]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A=", ""),
        ("A = b ", "b"),
        ("  A=b", "b"),
        ("export A=b", "b"),
        ("export\tA = b", "b"),
        ("A=b=c==", "b=c=="),
        ("A=b c", "b c"),
        ("A=b # note", "b"),
        ("A=b\t#note", "b"),
        ("A=b#c", "b#c"),
        ("A=#b", "#b"),
        ("A= # note", ""),
        ("A=$HOME ${X} $(id) `id`", "$HOME ${X} $(id) `id`"),
        (r"A=a\nb", r"a\nb"),
        ("A=''", ""),
        ('A=""', ""),
        ("A='b c' # note", "b c"),
        ("A='b # c'", "b # c"),
        (r"A='a\nb'", r"a\nb"),
        (r"A='it\'s'", "it's"),
        ("A='C:\\dir\\'", "C:\\dir\\"),
        ("A='say \"x\"'", 'say "x"'),
        ('A="b # c"# note'.replace("# note", " # note"), "b # c"),
        (r'A="a\nb\tc\\d\"e\$f"', 'a\nb\tc\\d"e$f'),
        (r'A="\u00e9\u20ac"', "é€"),
        (r'A="\q\x41"', r"\q\x41"),
        (r'A="\ud800\u0000"', r"\ud800\u0000"),
        ('A="$HOME"', "$HOME"),
        ("A='-----BEGIN\nabc\n-----END'", "-----BEGIN\nabc\n-----END"),
        ('A="-----BEGIN\r\nabc\r\n-----END\r\n"', "-----BEGIN\nabc\n-----END\n"),
        ('A="one \\\ntwo"', "one two"),
        ("A=pässwörd", "pässwörd"),
        ('A={"json": true}', '{"json": true}'),
        ("A=it's", "it's"),
        ("A=https://u:p@h/?a=b#frag", "https://u:p@h/?a=b#frag"),
    ],
)
def test_a_value_is_read_exactly(line, value):
    """Quotes, escapes, comments and spaces as dotenv files have them; nothing is interpolated."""
    assert {"A": value} == values(line)
    assert {"A": value, "B": "2"} == values(f"{line}\nB=2\n")
    if "\r" not in line and "\n" not in line:
        assert {"B": "2", "A": value} == values(f"B=2\r\n{line}\r\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("A=${X}", True),
        ("A=pa$word", True),
        ("A=a${X:-b}c # note", True),
        ('A="a $X"', True),
        (r'A="\\\\$X"', True),
        (r'A="\$X"', False),
        ("A='${X}'", False),
        ("A=5$ # ${X}", False),
        ("A=$1$(id)", False),
        ('A="5$" # $X', False),
    ],
)
def test_what_other_readers_would_replace_is_marked(line, expected):
    """Taken as it stands all the same; never in single quotes, nor behind a backslash."""
    (entry,) = parse_env(line.encode(), file=".env").entries

    assert expected is entry.interpolates


def test_sections_outlast_the_comments_in_them():
    """Ruled headings hold to the next one, those that only stand apart to the next gap."""
    file = parse_env(
        b"# ---\n# One\n# ---\n\n# about a\nA=\n\nB=\n\n# Two\n\nC=\nD=\n\n# == Three ==\nE=\n",
        file="x",
    )

    assert [("One",), ("One",), ("One", "Two"), ("One", "Two"), ("Three",)] == [
        tuple(w.strip("= ") for w in e.section if w.strip("-")) for e in file.entries
    ]


def test_a_byte_order_mark_is_passed_over():
    """A file from a Windows editor."""
    assert {"A": "1"} == values(b"\xef\xbb\xbfA=1\n")


def test_lines_comments_and_headings_are_kept():
    """What a person wrote around a variable says what it is for."""
    file = parse_env(
        b"""\
# Database
# of the backend

DB_HOST=localhost
DB_PASSWORD='x' # rotated by hand
# Optional: search
# SEARCH_KEY=
SEARCH_URL=

PORT=80
""",
        file=".env.example",
    )

    host, password, key, url, port = file.entries
    assert [4, 5, 7, 8, 10] == [e.line for e in file.entries]
    assert ((), ("Database", "of the backend")) == (host.comments, host.heading)
    assert ("rotated by hand", True) == (password.note, password.quoted)
    assert (True, ("Optional: search",)) == (key.commented_out, key.comments)
    assert ((), ("Optional: search",)) == (url.comments, url.heading)
    assert () == port.heading
    assert ["DB_HOST", "DB_PASSWORD", "SEARCH_URL", "PORT"] == [e.name for e in file.live]


@pytest.mark.parametrize(
    "comment", ["# Set FOO=bar to try", "# a = b", "#!/bin/sh", "# see https://x/?a=b", "# FOO"]
)
def test_prose_is_not_an_entry(comment):
    """Only a name in capitals at the start of a comment is a variable."""
    assert () == parse_env(comment.encode(), file="x").entries


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("A=1\nnonsense\nB=2", 2, "", "no `=`"),
        ("1A=x\nB=2", 1, "", "not a variable name"),
        ("A-B=x\nB=2", 1, "", "not a variable name"),
        ("=x\nB=2", 1, "", "not a variable name"),
        ("export A\nB=2", 1, "", "no `=`"),
        ("A='x\nB=2", 1, "A", "never closed"),
        ('A="x\nB=2', 1, "A", "never closed"),
        ('A="x" y\nB=2', 1, "A", "after the closing quote"),
        (b"A=\xff\xfe\nB=2", 1, "A", "not UTF-8"),
        ("B=1\nC=3\nB=2", 3, "B", "set on line 1 already"),
    ],
)
def test_a_bad_line_is_a_problem_and_the_rest_is_read(text, line, key, words):
    """The line is named, its content is not quoted, and later lines are taken."""
    data = text if isinstance(text, bytes) else text.encode()
    file = parse_env(data, file=".env")

    ((found_line, found_key, message),) = problems(text)
    assert (line, key) == (found_line, found_key)
    assert words in message
    assert "nonsense" not in message
    assert "2" == {e.name: e.value.reveal_text() for e in file.entries}["B"]


@pytest.mark.parametrize("data", [b"A=\x00", "A=1\n".encode("utf-16")])
def test_what_is_not_text_is_refused(data):
    """A NUL can be in no environment variable, and UTF-16 is not silently taken for something."""
    with pytest.raises(UsageError, match="NUL byte on line 1"):
        parse_env(data, file=".env")


def test_a_file_beyond_a_mebibyte_is_refused():
    """Size is looked at first."""
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        parse_env(b"#" * 1_048_577, file=".env")


def test_no_value_shows_in_any_text_form():
    """Entries and problems can be logged."""
    canary = "canary-" + "7f3d9a"
    file = parse_env(f"A={canary}\n# BB={canary}\nC='{canary}\n{canary}\n".encode(), file="x")

    assert 2 == len(file.entries)
    assert canary not in repr(file) + "".join(map(str, file.problems))


@pytest.mark.parametrize(
    "data",
    [
        b'A="\\"\n' * 170_000,
        b"A='\\'\n" * 150_000,
        b'A="\\"\n' * 150_000 + b'" x',
        b"A='x' '\n" * 100_000,
        b"\n" * 300_000,
        b"=" * 1_000_000,
        b" " * 1_000_000,
        b"garbage\n" * 100_000,
        b"#" + b"-" * 1_000_000 + b"x",
        b'A="' + b"\\\\" * 400_000 + b'"',
    ],
    ids=range(10),
)
def test_hostile_files_take_bounded_time(data):
    """No line makes the reader go over the rest of the file again and again."""
    begun = time.process_time()
    file = parse_env(data, file="x")

    assert time.process_time() - begun < 5
    assert len(file.problems) <= 101


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(_TEXT, min_size=1, max_size=4))
def test_any_text_survives_double_quotes(texts):
    """Written with the five escapes that quoting needs, every value comes back as it was."""
    lines = [
        f"V{n}=" + '"' + t.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        for n, t in enumerate(texts)
    ]

    assert {f"V{n}": t for n, t in enumerate(texts)} == values("\n".join(lines))


@settings(max_examples=120, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=120),
        st.lists(st.sampled_from(["A", "=", "'", '"', "#", " ", "\n", "\\", "export ", "\r"])).map(
            lambda parts: "".join(parts).encode()
        ),
    )
)
def test_any_bytes_are_read_or_refused(data):
    """Garbage brings out problems and no other exception."""
    try:
        file = parse_env(data, file="x")
    except UsageError:
        return
    assert all(p.line for p in file.problems)
    assert len({e.name for e in file.live}) == len(file.live)
