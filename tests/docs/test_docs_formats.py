"""The page on formats, and the one on rotations, name what the code has."""

from __future__ import annotations

import re

import pytest

from keyturn._internal.schema import APPLICATION_ID, MIGRATIONS
from keyturn.crypto import envelope
from keyturn.deliver import bundle
from keyturn.rotate.saga import Step
from tests.docs.documents import DOCS, ROOT

FORMATS = (DOCS / "internals" / "formats.md").read_text(encoding="utf-8")
ROTATION = (DOCS / "concepts" / "rotation.md").read_text(encoding="utf-8")
SOURCE = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "src" / "keyturn").rglob("*.py"))
)


def test_the_bundle_is_drawn_as_it_is_written():
    """Each line of the bundle's header stands on the page with the same words."""
    drawn = re.findall(r"^    ([a-z_]+(?: [A-Z_]+(?:\.\.\.)?)+)", bundle.__doc__, re.MULTILINE)
    assert len(drawn) > 10
    lines = {
        " ".join(line.split()[: line.split("  ")[0].count(" ") + 1]) for line in FORMATS.split("\n")
    }
    assert [] == [line for line in drawn if line not in lines]


def test_every_table_has_its_row():
    """Each table of the control database is on the page, and no other."""
    made = re.findall(r"^CREATE TABLE (\w+)", "\n".join(MIGRATIONS), re.MULTILINE)
    section = FORMATS.split("## `store.db`")[1].split("\n### ")[0]
    assert made == re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert f"0x{APPLICATION_ID:X}" in section
    assert f"counts the migrations\napplied ({len(MIGRATIONS)})" in section


@pytest.mark.parametrize("mark", sorted(set(re.findall(r"\bkeyturn-[a-z-]+-\d\b", FORMATS))))
def test_a_mark_is_one_of_the_code(mark):
    """A version mark on the page is what the code writes."""
    assert mark in SOURCE


@pytest.mark.parametrize("mark", sorted(set(re.findall(r'"(keyturn[a-z -]+\d?)"', FORMATS))))
def test_a_domain_is_one_of_the_code(mark):
    """A format's name or a hash's domain on the page is what the code writes."""
    assert mark in SOURCE


def test_every_label_of_a_binding_has_its_row():
    """Each label that something is bound under is on the page."""
    labels = set(re.findall(r'bind\(\s*"([a-z-]+)"', SOURCE))
    assert labels
    assert [] == sorted(label for label in labels if f"`{label}`" not in FORMATS)
    assert f"0x{envelope._FORMAT:02x}" in FORMATS


def test_every_purpose_of_a_sub_key_is_named():
    """Each purpose that a key is derived for is on the page."""
    purposes = set(re.findall(r'subkey\([^)]*?"([a-z-]+)"\)', SOURCE))
    assert purposes
    assert [] == sorted(purpose for purpose in purposes if f"`{purpose}`" not in FORMATS)


def test_every_step_of_a_rotation_is_explained():
    """Each step is in the concept, and those that go forward in the table of what dies where."""
    assert [] == [step for step in Step if not re.search(rf"\b{step}\b", ROTATION)]
    crash = ROTATION.split("## When it dies")[1].split("## When a step fails")[0]
    forward = [step for step in Step][: list(Step).index(Step.PROVE) + 1]
    assert [] == [step for step in forward if f"| {step} |" not in crash]
