"""How the demo looks on a terminal and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from keyturn.demo.load import Load, Tally
from keyturn.demo.show import Show, aligned, counted
from keyturn.testing import FakeClock

TALLY = Tally(
    requests=1234,
    failed=0,
    reasons={},
    logins={"clipper_a": 300, "clipper_b": 317},
    latest_login="clipper_b",
    median_ms=4.2,
    p99_ms=19.6,
)


def shown(play, *, encoding="utf-8", **console):
    """Return the bytes that *play* puts on a console with these settings."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    play(Show(console=Console(file=stream, highlight=False, soft_wrap=True, **console)))
    return stream.buffer.getvalue().decode(encoding)


def whole(show: Show) -> None:
    show.scene("Rotate")
    show.command(["keyturn", "rotate", "db"], {"KEYTURN_FAILPOINT": "x"})
    show.output("\x1b[32mapply\x1b[0m done [1/9]")
    show.say("It was killed.")
    show.proven("it is healthy")
    show.failed("it is not")
    with show.counting(Load(1, pages=["/"])):
        pass


def test_a_pipe_gets_plain_text():
    """No escape sequence and no moving line, whatever a command's own output has."""
    assert shown(whole) == (
        "\n1. Rotate\n"
        "   $ KEYTURN_FAILPOINT=x keyturn rotate db\n"
        "     apply done [1/9]\n"
        "   It was killed.\n"
        "   ✓ it is healthy\n"
        "   ✗ it is not\n"
    )


def test_signs_are_words_where_the_encoding_has_no_signs():
    """An ASCII stream is told `ok:` and `FAILED:`."""
    text = shown(whole, encoding="ascii")
    assert "   ok: it is healthy\n   FAILED: it is not\n" in text


def test_a_terminal_gets_colour_and_a_count():
    """The count stands below while the load runs."""
    text = shown(whole, force_terminal=True, color_system="standard")
    assert "\x1b[" in text
    assert "0 requests, 0 failed" in text


def test_no_color_is_respected(monkeypatch):
    """`NO_COLOR` takes the colours away, also on a terminal."""
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(lambda show: show.output("\x1b[32mdone\x1b[0m"), force_terminal=True)
    assert "\x1b[32" not in text


def test_scenes_are_numbered_and_timed():
    """Each scene has the next number; the show knows how long it goes on."""
    clock = FakeClock()
    show = Show(console=Console(file=io.StringIO()), clock=clock)
    show.scene("one")
    show.scene("two")
    clock.advance(12)
    assert show.seconds == 12
    assert show.console.file.getvalue() == "\n1. one\n\n2. two\n"


def test_the_count_says_how_many_failed():
    """A reader and a script find `0 failed` as such."""
    assert counted(TALLY) == "1,234 requests, 0 failed, median 4 ms, p99 20 ms"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], []),
        (["no cells"], ["no cells"]),
        (["db\tok\t1d", "session\tmissing\t-"], ["db       ok       1d", "session  missing  -"]),
        (["a long line of talk", "x\ty"], ["a long line of talk", "x  y"]),
    ],
)
def test_tables_from_a_pipe_are_set_in_columns(lines, expected):
    """Cells stand below each other; a line without cells does not stretch them."""
    assert aligned(lines) == expected
