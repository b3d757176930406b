"""The pages that people wrote: their links, their words, their names."""

from __future__ import annotations

import re

import pytest

from keyturn.cli.commands import VERBS
from tests.docs.documents import DOCS, ROOT, WRITTEN, anchors, tool

# Put together here, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a machine's path": r"/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "home/[a-z]", "tmp")) + ")/",
    "a registry": r"https?://[^ )]*(?:" + "|".join(("py" + "pi", "npm" + "js", "gh" + "cr")) + ")",
    "how it came about": r"\b(?:help" + r"er session|as an A" + r"I\b|" + "the br" + r"ief)\b",
    "marketing": r"(?i)\b(?:seamless|effortless|blazing|cutting-edge|world-class|revolutionary)",
    "unfinished": r"\b(?:TODO|TBD|FIXME|lorem)\b",
}
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)]+))?\)")
README_LINES = 200

everywhere = pytest.mark.parametrize(
    "path", WRITTEN, ids=[path.relative_to(ROOT).as_posix() for path in WRITTEN]
)


@everywhere
def test_links_lead_somewhere(path):
    """A relative link names a file, and where it names a heading, the file has it."""
    broken = []
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        there = (path.parent / target).resolve() if target else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(f"{target}#{anchor}")
    assert [] == broken


@everywhere
def test_words(path):
    """A page speaks of the project alone, and plainly."""
    text = path.read_text(encoding="utf-8")
    found = {what: re.findall(pattern, text)[:3] for what, pattern in FORBIDDEN.items()}
    assert {} == {what: hits for what, hits in found.items() if hits}


@everywhere
def test_commands_exist(path):
    """Every `keyturn VERB` that a page names is a command of this version."""
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|\$ |^)keyturn ([a-z]+)\b", text, re.MULTILINE))
    # Named as not being there yet.
    absent = {"backup"} if "There is no `keyturn backup`" in text else set()
    assert set() == named - VERBS.keys() - absent


def test_every_page_can_be_reached():
    """Each page of the documentation is linked from another."""
    linked = {
        (path.parent / target).resolve()
        for path in WRITTEN
        for target, _ in LINK.findall(path.read_text(encoding="utf-8"))
        if target and "://" not in target
    }
    assert [] == [path for path in sorted(DOCS.rglob("*.md")) if path not in linked]


def test_the_readme_is_short():
    """It is read before anything else."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").count("\n")
    assert lines <= README_LINES


def test_the_picture_holds_nothing_of_a_machine():
    """The recorded terminal was drawn here, loads nothing from elsewhere, and has no path."""
    text = (DOCS / "images" / "demo.svg").read_text(encoding="utf-8")
    assert "0 failed" in text.replace("&#160;", " ")
    assert not re.search(FORBIDDEN["a machine's path"], text)
    assert ["http://www.w3.org/2000/svg"] == re.findall(r"https?://[^\"' )]+", text)


def test_the_picture_is_of_the_scenes_wanted_and_evened_out():
    """Other scenes are left out; ports, process ids and hashes are the same in each picture."""
    picture = tool("picture")
    recorded = "intro\n1. One\n  127.0.0.1:33095\n2. Two\n  sent to process 77\n3. Three\n"
    lines = [line.plain for line in picture.scenes_of(recorded, (1, 2))]
    assert ["1. One", "  127.0.0.1:5432", "2. Two", "  sent to process 4242"] == lines
    assert "head 0123456789abcdef" == picture.even("head " + "af" * 8)
