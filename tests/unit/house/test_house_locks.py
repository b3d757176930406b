"""The locked dependencies are complete, pinned by content, and name no host."""

from __future__ import annotations

import re
import sys
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests._plugins import source

LOCKS = ("dev", "run")
locks = pytest.mark.parametrize("name", LOCKS)


def text_of(name):
    return (source.ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")


def locked(name):
    """Return each requirement of a lock with the hashes of its files."""
    entries = text_of(name).replace("\\\n", " ").splitlines()
    found = {}
    for entry in entries:
        requirement, *hashes = re.split(r"\s+--hash=", entry.strip())
        found[Requirement(requirement)] = hashes
    return found


def wanted(name):
    """Return what `pyproject.toml` asks a lock to hold."""
    project, groups = source.settings()["project"], source.settings()["dependency-groups"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"]]
    # `all` names the other extras of this project, and nothing else.
    for extra in Requirement(extras["all"][0]).extras:
        asked += extras[extra]
    if name == "dev":
        asked += [*extras["demo"], *groups["test"], *groups["check"], *groups["build"]]
    return [Requirement(text) for text in asked]


@locks
def test_a_lock_names_no_host(name):
    """Where packages come from is the machine's affair; what they are is ours."""
    words = ("://", "file:", "--index", "--extra-index", "--find-links", "--trusted", "@")
    assert [] == [word for word in words if word in text_of(name)]


@locks
def test_every_package_is_pinned_by_version_and_content(name):
    """Each has one exact version, and the hashes of all files it was published as."""
    for requirement, hashes in locked(name).items():
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        # One hash alone would be a file that was built or kept on somebody's machine.
        assert len(hashes) >= 2, requirement
        assert [] == [text for text in hashes if not re.fullmatch(r"sha256:[0-9a-f]{64}", text)]


@locks
def test_a_lock_holds_what_the_project_asks_for(name):
    """A dependency that was added or raised without `./dev lock` is noticed here."""
    versions = {
        canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
        for requirement in locked(name)
    }
    stale = [
        str(requirement)
        for requirement in wanted(name)
        if not requirement.specifier.contains(
            versions.get(canonicalize_name(requirement.name), "0")
        )
    ]
    assert [] == stale


def test_what_runs_is_what_was_tested():
    """Every package of the smaller lock is in the larger one, the same to the byte."""

    def pins(name):
        found = locked(name).items()
        return {f"{wish.name}{wish.specifier}": hashes for wish, hashes in found}

    larger = pins("dev")
    assert {} == {pin: hashes for pin, hashes in pins("run").items() if larger.get(pin) != hashes}


def test_tests_declare_what_they_import():
    """Whatever tests, benchmarks and examples import is asked for by name, not found by luck."""
    declared = {canonicalize_name(wish.name) for wish in wanted("dev")}
    sold_as = packages_distributions()
    missing = set()
    for folder in ("tests", "bench", "examples"):
        files = [source.read(path, source.ROOT) for path in (source.ROOT / folder).rglob("*.py")]
        ours = {
            "keyturn",
            "tests",
            *(file.path.split("/")[-1].removesuffix(".py") for file in files),
        }
        for file in files:
            tops = {name.split(".")[0] for name, _ in source.imports(file)} - ours
            for top in tops - sys.stdlib_module_names:
                names = {canonicalize_name(name) for name in sold_as.get(top, [top])}
                if not names & declared:
                    missing.add(f"{file.path}: {top}")
    assert [] == sorted(missing)
