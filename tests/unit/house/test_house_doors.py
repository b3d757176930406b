"""What stands at the doors of the rooms is documented, and the errors are told apart."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

import keyturn
from keyturn import errors
from tests._plugins import source

DOORS = [module for module in source.modules() if module.path.endswith("/__init__.py")]


def leaves():
    """Return every class of the error tree but its root, in all loaded modules."""
    for room in set(source.rooms()) - {"__main__"}:
        importlib.import_module(f"keyturn.{room}")
    found, left = set(), [errors.KeyturnError]
    while left:
        for child in left.pop().__subclasses__():
            if child not in found and child.__module__.startswith("keyturn."):
                found.add(child)
                left.append(child)
    return sorted(found, key=lambda error: error.__name__)


def described(thing):
    """Return whether *thing* has a docstring that a person wrote."""
    text = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
    # A dataclass without one is given its own signature.
    return bool(text) and not text.startswith(f"{thing.__name__}(")


@pytest.mark.parametrize("door", DOORS, ids=lambda module: module.room)
def test_what_a_door_exports_is_documented(door):
    """Every public function and class that a room exports says what it is for."""
    room = importlib.import_module(
        f"keyturn.{door.path.removesuffix('/__init__.py').replace('/', '.')}"
    )
    assert room.__doc__
    exported = {name: getattr(room, name) for name in getattr(room, "__all__", ())}
    bare = [
        name
        for name, thing in exported.items()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and not described(thing)
        # The tree at the top of `keyturn.errors` describes each of them.
        and not (inspect.isclass(thing) and issubclass(thing, errors.KeyturnError))
    ]
    assert [] == bare


def test_public_names_resolve():
    """`keyturn.__all__` names exactly what can be had from the package."""
    assert [] == [name for name in keyturn.__all__ if getattr(keyturn, name, None) is None]


def test_each_error_has_a_code_of_its_own():
    """No error answers with its parent's code: programs tell them apart by it."""
    codes = {error: error.__dict__.get("code") for error in leaves()}
    assert codes
    assert [] == [error.__name__ for error, code in codes.items() if not code]
    assert len(codes) == len(set(codes.values()))
    assert all(re.fullmatch(r"[a-z]+(\.[a-z]+)*", code) for code in codes.values())


def test_the_tree_of_errors_is_whole():
    """Every exported error stands in the tree that heads its module, and the other way round."""
    drawn = set(re.findall(r"^ +[│├└─ ]*([A-Z]\w+)", errors.__doc__, re.MULTILINE))
    exported = {name for name in errors.__all__ if issubclass(getattr(errors, name), Exception)}
    assert exported == drawn
