"""Where a value leaves its type is on a list that a person reads."""

from __future__ import annotations

from pathlib import Path

from tests._plugins import source

ALLOWED = Path(__file__).with_name("reveal_allowlist.txt")


def listed():
    """Return the entries of the list with their reasons."""
    lines = ALLOWED.read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line.strip() and not line.startswith("#")]
    return {entry: reason.strip() for entry, _, reason in (line.partition(" ") for line in entries)}


def found():
    """Return every place of the package that takes a value out of its type."""
    return {
        f"{module.path}:{place}"
        for module in source.modules()
        for place, call in source.calls(module)
        if source.dotted(call.func).endswith((".reveal", ".reveal_text"))
        or getattr(call.func, "attr", "") in {"reveal", "reveal_text"}
    }


def test_every_place_that_reveals_is_listed():
    """A new call of `reveal` is looked at by a person, who adds it here with its reason."""
    assert [] == sorted(found() - listed().keys())


def test_no_entry_outlives_its_place():
    """An entry whose place is gone would let the next one in unseen."""
    assert [] == sorted(listed().keys() - found())


def test_every_entry_says_why():
    """An entry without a reason cannot be judged."""
    assert [] == [entry for entry, reason in listed().items() if not reason]
