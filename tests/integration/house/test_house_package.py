"""What is built from the repository holds what an installed command needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from tests._plugins import source


def build(folder, target, out):
    """Build *folder* and return the one file that comes out."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    built = build(source.ROOT, "wheel", tmp_path_factory.mktemp("wheel"))
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_the_command_is_our_own_script(wheel):
    """The command is installed as it is written; an entry point would be wrapped by some pips."""
    script = next(n for n in wheel.namelist() if n.endswith(".data/scripts/keyturn"))
    assert wheel.read(script) == (source.ROOT / "scripts" / "keyturn").read_bytes()
    assert wheel.read(script).startswith(b"#!python\n")  # pip and uv put the interpreter there
    assert not [name for name in wheel.namelist() if name.endswith("entry_points.txt")]


def test_the_wheel_holds_every_module_and_the_licence(wheel):
    """Nothing that the package imports, and no typing mark, is left behind."""
    names = set(wheel.namelist())
    assert {f"keyturn/{module.path}" for module in source.modules()} <= names
    assert "keyturn/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_holds_the_example(wheel):
    """The demo runs from an installed package: the example is in it, dot files included."""
    prefix = "examples/clipper/"
    wanted = {n.removeprefix(prefix) for n in source.tracked() if n.startswith(prefix)}
    packed = "keyturn/_examples/clipper/"
    assert wanted == {n.removeprefix(packed) for n in wheel.namelist() if n.startswith(packed)}


def test_a_source_archive_builds_the_same_wheel(wheel, tmp_path):
    """Whoever packages from the archive gets what is built from the repository."""
    archive = build(source.ROOT, "sdist", tmp_path / "sdist")
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True)
    tree = tmp_path / archive.name.removesuffix(".tar.gz")
    with zipfile.ZipFile(build(tree, "wheel", tmp_path / "again")) as again:
        assert sorted(wheel.namelist()) == sorted(again.namelist())
        assert [] == [n for n in again.namelist() if wheel.read(n) != again.read(n)]
