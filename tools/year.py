"""
Play a year of ticks over 999 secrets, judge it, and draw it for the documents.

    .venv/bin/python tools/year.py [--secrets N] [--seed N] [--folder FOLDER]

The schedule, the journal and the runner are the real ones; time, targets and troubles are
those of `tests/worlds/year.py`. It takes some minutes, draws `docs/images/year.svg`, prints
what was counted, and fails where anything was wrong. The same seed gives the same year but
for what two tickers that run side by side do first.
"""  # noqa: INP001 - a script, and no package

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.worlds.year import DAY, START, Year, a_year, problems  # noqa: E402 - after the path

__all__ = ["drawn", "main"]

PICTURE = ROOT / "docs" / "images" / "year.svg"
DAYS = 365
LEFT, TOP, WIDTH, LANE, GAP = 100, 56, 1095, 120, 34
COLOURS = {"production": "#1b6ca8", "staging": "#2a9d5c", "development": "#8a63b8"}
TROUBLE_COLOURS = {"outage": "#d1495b", "denied": "#d1495b", "off": "#7a7a7a", "clock": "#b8860b"}
TROUBLE_WORDS = {
    "outage": "a quarter of the targets is down",
    "denied": "a quarter of the targets refuses",
    "off": "the machine is off",
    "clock": "the clock is wrong",
}


def main() -> int:
    """Play, judge and draw; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--secrets", type=int, default=999)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", help="where the journal lies meanwhile")
    asked = parser.parse_args()
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(dir=asked.folder) as folder,
        a_year(Path(folder), secrets=asked.secrets, seed=asked.seed) as year,
    ):
        seen = year.run(DAYS)
        found = problems(year)
        say(f"{seen.ticks} ticks over {len(year.refs)} secrets")
        say(f"{len(seen.begun)} rotations begun, {len(seen.promoted) - len(year.refs)} came true")
        say(f"{seen.kills} processes killed in the middle of a step")
        for end, count in sorted(seen.ends.items(), key=lambda pair: -pair[1])[:8]:
            say(f"{count:8} {end}")
        oldest = max(age - year.max_age(ref) for ref, _, _, age, _ in year.lives())
        say(f"longest over its max_age: {oldest}")
        PICTURE.write_text(drawn(year), encoding="utf-8")
    say("\n".join(found[:20]) or "nothing wrong")
    say(f"{time.monotonic() - started:.0f} s")
    return 1 if found else 0


def say(text: str) -> None:
    """Write one line."""
    sys.stdout.write(f"{text}\n")


def drawn(year: Year) -> str:
    """Return the year as SVG that loads nothing from anywhere."""
    names = list(year.manifest.environments)
    height = TOP + len(names) * (LANE + GAP) + 40
    body = [part for number, name in enumerate(names) for part in _lane(year, number, name)]
    body += _troubles(year, height)
    body += _months(height)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}"'
        ' font-family="ui-sans-serif, Helvetica, Arial" font-size="13" role="img"'
        ' aria-label="rotations begun on each day of a simulated year">'
        '<rect width="100%" height="100%" fill="#ffffff"/>'
    )
    begun = len(year.seen.begun)
    title = (
        f"A year of ticks: {len(year.refs)} secrets, {year.seen.ticks} ticks, {begun} rotations; "
        "begun on each day (grey: a freeze)"
    )
    text = f'<text x="{LEFT}" y="20" font-size="15" fill="#222">{title}</text>'
    return head + text + "".join(body) + "</svg>\n"


def _x(days: float) -> float:
    return round(LEFT + days * WIDTH / DAYS, 1)


def _lane(year: Year, number: int, name: str) -> Iterator[str]:
    floor = TOP + number * (LANE + GAP) + LANE
    for start, end in year.seen.frozen[name]:
        x, width = _x(start / DAY), (end - start) / DAY * WIDTH / DAYS
        yield (
            f'<rect x="{x}" y="{floor - LANE}" width="{width:.1f}" height="{LANE}" fill="#e4e4e4"/>'
        )
    counts = Counter(b.passed // DAY for b in year.seen.begun if b.ref.environment == name)
    most = max(counts.values(), default=1)
    for day, count in sorted(counts.items()):
        tall = round(count / most * (LANE - 8), 1)
        yield (
            f'<rect x="{_x(day)}" y="{floor - tall}" width="{WIDTH / DAYS * 0.8:.1f}"'
            f' height="{tall}" fill="{COLOURS[name]}"/>'
        )
    yield f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{floor}" y2="{floor}" stroke="#444"/>'
    yield f'<text x="{LEFT - 8}" y="{floor - LANE / 2}" text-anchor="end" fill="#222">{name}</text>'
    yield (
        f'<text x="{LEFT - 8}" y="{floor - LANE + 12}" text-anchor="end" fill="#666"'
        f' font-size="11">{most} a day</text>'
    )


def _troubles(year: Year, height: int) -> Iterator[str]:
    bottom = height - 40 - GAP
    for number, trouble in enumerate(sorted(year.troubles, key=lambda each: each.start)):
        x = _x(trouble.start)
        width = max((trouble.end - trouble.start) * WIDTH / DAYS, 1.5)
        colour = TROUBLE_COLOURS[trouble.kind]
        yield (
            f'<rect x="{x}" y="{TOP}" width="{width:.1f}" height="{bottom - TOP}" fill="{colour}"'
            ' fill-opacity="0.35"/>'
        )
        y = TOP - 18 + 13 * (number % 2)
        words = TROUBLE_WORDS[trouble.kind]
        yield f'<text x="{x}" y="{y}" font-size="10" fill="{colour}">{words}</text>'


def _months(height: int) -> Iterator[str]:
    for month in range(1, 13):
        day = (START.replace(month=month) - START) / DAY
        yield (
            f'<text x="{_x(day)}" y="{height - 44}" fill="#444" font-size="11">'
            f"{START.replace(month=month):%b}</text>"
        )


if __name__ == "__main__":
    raise SystemExit(main())
