"""
Record `keyturn demo` as the picture that the README shows.

    .venv/bin/python tools/picture.py

The demo is played for real, with a real PostgreSQL; what it shows is what is drawn, less
the scenes that only prepare. Numbers that differ each time and say nothing (ports, process
ids, hashes) are evened out; times are those of the run. It fails where a request failed.
"""  # noqa: INP001 - a script, and no package

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from keyturn.demo import Show, play
from keyturn.demo.load import Load

__all__ = ["drawn", "even", "main", "scenes_of"]

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "demo.svg"
COLUMNS = 104
# The rotation, the one that is killed and resumed, and the sum.
SCENES = (4, 5, 6, 8)

_EVEN = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:5432"),
    (re.compile(r"process \d+"), "process 4242"),
    (re.compile(r"\b[0-9a-f]{16,64}\b"), "0123456789abcdef"),
)
_FONT_FACE = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)
_SCENE = re.compile(r"(\d+)\. ")


class _StillShow(Show):
    """The show without its moving last line, of which a picture would hold every frame."""

    @contextlib.contextmanager
    def counting(self, load: Load) -> Iterator[None]:
        del load
        yield


def main() -> int:
    """Play the demo, draw the picture and return the exit code."""
    console = Console(
        file=io.StringIO(),
        record=True,
        force_terminal=True,
        color_system="truecolor",
        width=400,  # lines are cut where they are drawn, not where they are said
        highlight=False,
        soft_wrap=True,
        legacy_windows=False,
    )
    if not play(requests=1000, show=_StillShow(console=console)):
        sys.stderr.write(console.export_text())
        return 1
    lines = scenes_of(console.export_text(styles=True), SCENES)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawn(lines), encoding="utf-8")
    sys.stderr.write(f"{PICTURE.name}: {len(lines)} lines\n")
    return 0


def scenes_of(recorded: str, wanted: tuple[int, ...]) -> list[Text]:
    """Return the lines of the *wanted* scenes of a recording, evened out, with their colours."""
    lines: list[Text] = []
    scene = 0
    for raw in recorded.split("\n"):
        line = Text.from_ansi(even(raw))
        heading = _SCENE.match(line.plain)
        if heading:
            scene = int(heading[1])
        if scene in wanted:
            lines.append(line)
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return lines


def even(text: str) -> str:
    """Return *text* without the numbers that are others each time and say nothing."""
    for pattern, instead in _EVEN:
        text = pattern.sub(instead, text)
    return text


def drawn(lines: list[Text]) -> str:
    """Return *lines* as SVG that loads nothing from anywhere."""
    console = Console(file=io.StringIO(), record=True, width=COLUMNS, force_terminal=True)
    for line in lines:
        console.print(line, overflow="ellipsis", no_wrap=True, crop=True)
    # The same bytes for the same lines: by default the id is made from them anyway.
    svg = console.export_svg(
        title="keyturn demo",
        theme=MONOKAI,
        code_format=_FONT_FACE.sub("", CONSOLE_SVG_FORMAT),
        unique_id="keyturn-demo",
    )
    svg = re.sub(r"\s*<!-- .*? -->", "", svg)  # a greeting with an address
    return svg.replace("Fira Code", "ui-monospace, Menlo, Consolas") + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
