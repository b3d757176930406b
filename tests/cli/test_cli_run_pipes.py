"""A pipe in place of a file that `run` and `get` read: an answer comes, and nothing hangs."""

from __future__ import annotations

import os

import pytest

from keyturn.app.project import ProjectPaths
from keyturn.app.session import read_manifest
from keyturn.errors import NotFound

NO_PLAIN_FILE = "no plain file"
# Each place, and what `run` and `list` say of a pipe there; None where they need it not,
# or write it anew.
PLACES = {
    "manifest": (lambda p: p.manifest, "no `keyturn.toml` here", "no `keyturn.toml` here"),
    "locator": (lambda p: p.state / "locator", NO_PLAIN_FILE, NO_PLAIN_FILE),
    "read log": (lambda p: p.state / "audit" / "reads.log", NO_PLAIN_FILE, NO_PLAIN_FILE),
    "bundle": (lambda p: p.bundle, None, None),
    "bundle key": (lambda p: p.keys / "bundle.key", None, None),
    "root key": (lambda p: p.keys / "root.key", None, "not a plain file"),
    "generation": (lambda p: p.keys / "generation.development", None, None),
    "anchor": (lambda p: p.keys / "anchor", None, NO_PLAIN_FILE),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_pipe_is_not_waited_for(name, project):
    """The command ends; where it needs the file it says which one is wrong, and starts nothing."""
    place, said_by_run, said_by_list = PLACES[name]
    path = place(project)
    project.refresh()
    path.unlink()
    os.mkfifo(path, 0o600)
    for words, said in ((("run", "--", "echo", "on"), said_by_run), (("list",), said_by_list)):
        result = project(*words)
        if said is None:
            assert 0 == result.code
            continue
        assert 0 != result.code
        assert b"" == result.out
        assert result.text.startswith("error: ")
        assert said in result.text
        assert str(path.name) in result.text


def mended(project):
    result = project("run", "--", "echo", "on")
    return result.code, result.out


@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_a_read_log_that_others_may_write_stops_every_command(mode, project):
    """Neither way goes past it; what mends it is said, and mends it."""
    path = project.state / "audit" / "reads.log"
    path.chmod(mode)
    for words in (("run", "--", "echo", "on"), ("get", "api"), ("list",)):
        result = project(*words)
        assert (4, b"") == (result.code, result.out)
        assert f"error: others may write to the read log `{path}`" in result.text
        assert f"hint: `chmod 600 {path}`" in result.text
    path.chmod(0o600)
    assert (0, b"on\n") == mended(project)


def test_a_manifest_that_became_a_pipe_is_not_waited_for(project):
    """Between finding and reading it, too."""
    project.manifest.unlink()
    os.mkfifo(project.manifest)
    with pytest.raises(NotFound, match="is no plain file"):
        read_manifest(ProjectPaths(project.folder, project.key_home))
