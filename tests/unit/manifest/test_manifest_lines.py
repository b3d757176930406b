"""Finding the line of every key that TOML can spell."""

from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.manifest._lines import LineIndex

TEXT = '''\
# a comment with [brackets] and = signs
top = "a # b"
"quoted key" = 'it = 1'
[a.b]
c.d = { e = 1, f = [1, 2] }
g = """
not = "a key"
\\""" still inside """
h = [ # first
  "x",
  { i = 1 },
]
[[list]]
j = 2024-01-01T00:00:00Z
'''


def test_every_spelling_of_a_key_is_found():
    """Bare, quoted and dotted keys, inline tables, lists, texts of several lines, lists of tables."""
    tomllib.loads(TEXT)
    index = LineIndex.scan(TEXT)

    expected = {
        ("top",): 2,
        ("quoted key",): 3,
        ("a",): 4,
        ("a", "b"): 4,
        ("a", "b", "c", "d"): 5,
        ("a", "b", "c", "d", "e"): 5,
        ("a", "b", "c", "d", "f", 1): 5,
        ("a", "b", "g"): 6,
        ("a", "b", "h"): 9,
        ("a", "b", "h", 0): 10,
        ("a", "b", "h", 1, "i"): 11,
        ("list",): 13,
        ("list", "j"): 14,
    }
    assert expected == {path: index.line(path) for path in expected}


def test_an_unknown_key_has_the_line_of_its_table():
    """What is missing is pointed at by what it is missing from."""
    index = LineIndex.scan("[a]\nb = 1\n")

    assert 1 == index.line(("a", "missing", "deep"))
    assert index.line(("other",)) is None
    assert ("a", "b") == index.key_at(2)


_VALUES = st.one_of(
    st.integers(), st.booleans(), st.text(max_size=5), st.lists(st.text(max_size=3), max_size=3)
)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=4),
        st.dictionaries(st.text(min_size=1, max_size=4), _VALUES, max_size=3),
        max_size=4,
    )
)
def test_each_key_that_the_parser_sees_has_a_line(document):
    """Whatever tomllib reads, this follows to the end."""
    import tomlkit

    text = tomlkit.dumps(document)
    parsed = tomllib.loads(text)
    index = LineIndex.scan(text)

    for name, table in parsed.items():
        for key in table:
            assert (name, key) in index.lines
