"""Fixtures of the command's tests."""

from __future__ import annotations

import io
import sys

import pytest

from keyturn.cli import prompt
from keyturn.cli.commands import import_
from keyturn.cli.main import main
from tests.cli import projects


@pytest.fixture
def project(tmp_path):
    """A project with values in `development`, none in `production`, and no fresh bundle."""
    return projects.copied(tmp_path)


@pytest.fixture(params=["short", "long"])
def way(request):
    """Which way `run` and `get` go: through the sealed bundle, or through the store."""
    return request.param


@pytest.fixture
def either(project, way):
    """The project, prepared so that the next `run` or `get` goes the *way*."""
    if way == "short":
        project.refresh()
    return project


@pytest.fixture
def quick(project, monkeypatch, capfdbinary):
    """Return a function that runs a command of the project in this process, by the long way."""
    monkeypatch.chdir(project.folder)
    for module in (prompt, import_):
        monkeypatch.setattr(module, "has_terminal", lambda: False)
    for name, value in project.environ.items():
        monkeypatch.setenv(name, value)

    def run(*words, stdin=b"", environ=None):
        with monkeypatch.context() as patch:
            for name, value in (environ or {}).items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            capfdbinary.readouterr()
            code = main(["keyturn", *words])
            sys.stdout.flush()
            sys.stderr.flush()
        seen = capfdbinary.readouterr()
        return projects.Result(int(code), seen.out, seen.err)

    return run
