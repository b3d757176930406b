"""What a document shows is what happens."""

from __future__ import annotations

import re

import pytest

from keyturn.manifest import load
from tests.docs import worlds
from tests.docs.documents import RUNNABLE, blocks, examples

# What a fragment of a manifest may lean on.
BASE = """
[project]
name = "shop"
owner = "team-shop"
[environments.development]
[secrets.session]
kind = "session-secret"
variable = "SESSION_SECRET"
[config]
"""
# Sections that the base has and a fragment may state in its own way.
OWN_CONFIG = re.compile(r"^\[config\]$", re.MULTILINE)


def chosen(*, postgres):
    found = [example for example in examples() if (example.world == "postgres") is postgres]
    return pytest.mark.parametrize("example", found, ids=str)


def play(example, world):
    """Do every step of *example*, each of which must go as the document says."""
    for step in example.steps:
        place = f"{example.document.name}:{step.line}"
        if step.how == "sql":
            world.sql(step.what)
        elif step.how in {"file", "append"}:
            with (world.project / step.what).open("w" if step.how == "file" else "a") as file:
                file.write(step.text)
        else:
            code, shown = world.run(step.what)
            assert step.code == code, f"{place}: `{step.what}` ended with {code}\n{shown}"
            require_shown(step.expected, shown, place)


def require_shown(expected, shown, place):
    """Each line that the document shows is there, in this order."""
    rest = shown.split("\n")
    for line in expected:
        if line == "...":
            continue
        pattern = ".*".join(map(re.escape, line.split("...")))
        while rest and not re.fullmatch(pattern, rest[0]):
            rest.pop(0)
        assert rest, f"{place}: the document shows\n{line}\nand what came was\n{shown}"
        rest.pop(0)


@chosen(postgres=False)
def test_an_example_runs(example, tmp_path):
    """The commands of a guide run as they stand, in a project of their own."""
    assert example.world, f"`{example}` does not say in which world it begins"
    play(example, getattr(worlds, example.world)(tmp_path))


@pytest.mark.postgres
@chosen(postgres=True)
@pytest.mark.parametrize("postgres", ["15", "18"], indirect=True)
def test_an_example_runs_on_postgresql(example, postgres, tmp_path):
    """The commands and the SQL of a guide run as they stand, on an old and a new server."""
    world = worlds.postgres(tmp_path, postgres)
    try:
        play(example, world)
    finally:
        worlds.tidy(world)


def of_all(said):
    found = [
        pytest.param(block.text, id=f"{path.stem}:{block.line}")
        for path in RUNNABLE
        for block in blocks(path, said=said, language="toml")
    ]
    return pytest.mark.parametrize("text", found)


@of_all("manifest")
def test_a_manifest_loads(text):
    """A whole manifest in a guide is one, without a warning."""
    assert not load(text.encode(), file="keyturn.toml").warnings


@of_all("fragment")
def test_a_part_of_a_manifest_loads(text):
    """A part of a manifest in a guide is right in a manifest that has the rest."""
    base = BASE.replace("[config]\n", "") if OWN_CONFIG.search(text) else BASE
    named = {match for match in re.findall(r"^\[consumers\.([a-z-]+)", text, re.MULTILINE)}
    needed = [name for name in named if f"[consumers.{name}]\n" not in text]
    if "[environments.production]" not in text:
        base += "[environments.production]\n"
    more = "".join(f'[consumers.{name}]\nsecrets = "*"\n' for name in needed)
    load(f"{base}\n{more}{text}".encode(), file="keyturn.toml")


def test_every_example_is_told_what_to_become():
    """A block of commands or of a manifest in a guide is run, or it names a place that is not here."""
    untested = [
        f"{path.name}:{block.line}"
        for path in RUNNABLE
        for block in blocks(path)
        if block.language == "toml" and not block.said
    ]
    assert [] == untested
