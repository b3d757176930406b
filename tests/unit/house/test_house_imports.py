"""Every room has its place in the contracts of `pyproject.toml`, which `lint-imports` holds."""

from __future__ import annotations

import re

from tests._plugins import source


def contracts():
    return {
        contract["id"]: contract
        for contract in source.settings()["tool"]["importlinter"]["contracts"]
    }


def names(text):
    """Return the rooms that one layer names."""
    return set(re.findall(r"\w+", text))


def rooms_of(contract_id, key):
    """Return the rooms, or the modules within them, that a contract lists."""
    return {name.removeprefix("keyturn.") for name in contracts()[contract_id][key]}


def test_every_room_stands_in_a_layer():
    """A room that no contract names could import anything, and be imported from anywhere."""
    placed = {name for layer in contracts()["layers"]["layers"] for name in names(layer)}
    assert [] == sorted(set(source.rooms()) - placed)


def test_every_pure_room_is_held_to_it():
    """The rooms of the pure layer are all forbidden to touch files, processes and the network."""
    layers = contracts()["layers"]["layers"]
    pure = names(next(layer for layer in layers if "policy" in layer)) | {"crypto"}
    assert [] == sorted((pure & set(source.rooms())) - rooms_of("pure", "source_modules"))


def test_every_room_is_free_or_forbidden_to_the_command_line():
    """The command line uses `app`, and words of the pure rooms; a new room is forbidden to it."""
    words = {"audit", "core", "errors", "generate", "manifest", "policy", "rotate"}
    free = {"__main__", "app", "cli", "demo", "fast", *words}
    assert [] == sorted(set(source.rooms()) - free - rooms_of("cli", "forbidden_modules"))


def test_every_room_is_forbidden_to_what_is_shipped_for_tests():
    """A fake that used a real room could pass with its faults."""
    free = {"__main__", "_internal", "cli", "core", "demo", "errors", "testing"}
    assert [] == sorted(set(source.rooms()) - free - rooms_of("testing", "forbidden_modules"))
