"""The project's own files, as the house tests read them."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "keyturn"
# What no listing of ours goes into, where git cannot be asked.
NOT_OURS = {".git", ".venv", "__pycache__", "build", "dist"}


class Module(NamedTuple):
    """
    One parsed file.

    Args:
        path: Relative to the package (or to the root, outside of it), with slashes.
    """

    path: str
    text: str
    tree: ast.Module

    @property
    def room(self):
        """Return the folder or top-level module that the file belongs to."""
        return self.path.split("/", 1)[0].removesuffix(".py")


@cache
def modules():
    """Return the package's modules; the examples it ships are programs of their own."""
    return tuple(
        read(path, PACKAGE)
        for path in sorted(PACKAGE.rglob("*.py"))
        if "_examples" not in path.parts
    )


def read(path, base):
    text = path.read_text(encoding="utf-8")
    return Module(path.relative_to(base).as_posix(), text, ast.parse(text))


def rooms():
    """Return the names of all rooms: folders with an `__init__`, and top-level modules."""
    return sorted({module.room for module in modules()} - {"__init__"})


def functions(module):
    """Yield each function of *module* with its dotted name."""

    def walk(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{prefix}{child.name}"
                if not isinstance(child, ast.ClassDef):
                    yield name, child
                yield from walk(child, f"{name}.")
            else:
                yield from walk(child, prefix)

    yield from walk(module.tree, "")


def calls(module):
    """Yield each call of *module* with the dotted name of the function that it stands in."""

    def walk(node, place):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                yield place or "<module>", child
            named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            inner = f"{place}.{child.name}".lstrip(".") if named else place
            yield from walk(child, inner)

    yield from walk(module.tree, "")


def dotted(node):
    """Return `a.b.c` for a chain of names, or `` for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        prefix = dotted(node.value)
        return f"{prefix}.{node.attr}" if prefix else ""
    return ""


def imports(module):
    """Yield the dotted name and the line of each import of *module*, wherever it stands."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module, node.lineno


@cache
def settings():
    """Return the content of `pyproject.toml`."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def tracked():
    """
    Return the files of the repository: what git knows, and what it would be told.

    Without git (an unpacked source archive) it is what lies in the folder.
    """
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        names = [name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = [
            path.relative_to(ROOT).as_posix()
            for path in ROOT.rglob("*")
            if not NOT_OURS & set(path.relative_to(ROOT).parts)
        ]
    return tuple(name for name in sorted(names) if (ROOT / name).is_file())
