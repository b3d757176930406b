"""Disks that are full or read-only, records that cannot be written: nothing leaves, nothing is lost."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess

import pytest

from tests.cli import projects
from tests.cli.projects import KEYTURN, VALUES
from tests.cli.test_cli_fresh import SHOW


def small_files(limit):
    """Return what makes every write beyond *limit* bytes of a file fail, as on a full disk."""

    def apply():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return apply


@pytest.mark.parametrize("words", [SHOW, ("get", "session")], ids=["run", "get"])
def test_without_a_record_nothing_is_delivered(words, either):
    """Where neither log can be written, no value leaves, and the exit code says so."""
    mark = either.folder / "started"
    command = words if words[0] == "get" else ("run", "--", "touch", str(mark))
    result = either(*command, preexec_fn=small_files(0))
    assert (7, b"") == (result.code, result.out), result.text
    assert result.text.startswith("error: ")
    assert not mark.exists()
    # With room again it goes on, and both logs are whole.
    assert 0 == either(*command).code
    assert 0 == either("audit", "verify").code


def test_a_line_that_fits_half_is_sealed_off(project):
    """The read log ends in half a line where the disk filled up; it is repaired and told of."""
    project.refresh()
    assert 0 == project(*SHOW).code
    log = project.state / "audit" / "reads.log"
    result = project(*SHOW, preexec_fn=small_files(log.stat().st_size + 50))
    assert result.out in {b"", VALUES["session"] + b"\n"}
    for _ in range(2):
        assert VALUES["session"] + b"\n" == project(*SHOW).out
    assert 0 == project("audit", "verify").code


def test_a_change_that_cannot_be_recorded_did_not_happen(project):
    """The value is the old one, and the next change works."""
    result = project("set", "session", "-", stdin=b"n" * 40, preexec_fn=small_files(0))
    assert (7, b"") == (result.code, result.out), result.text
    assert VALUES["session"] == project("get", "session").out
    assert 1 == len(project("history", "session", "--json").json())
    assert 0 == project("set", "session", "-", stdin=b"n" * 40).code


POINTS = {
    "bundle.write": 0,
    "bundle.written": 0,
    "bundle.invalidate": 7,
    "bundle.invalidated": 7,
    "database.commit": 7,
}


@pytest.mark.parametrize("how", ["error", "full"])
@pytest.mark.parametrize("point", POINTS)
def test_an_error_at_each_write_of_a_change(point, how, project):
    """Before the commit nothing happened and the code says so; after it the change is told as done."""
    result = project(
        "set", "session", "-", stdin=b"n" * 40, environ={"KEYTURN_FAILPOINT": f"{point}:{how}"}
    )
    assert POINTS[point] == result.code, result.text
    assert "fault in Keyturn" not in result.text
    expected = b"n" * 40 if result.code == 0 else VALUES["session"]
    assert expected + b"\n" == project(*SHOW).out
    if result.code == 0:
        assert "warning: the sealed bundle is not renewed" in result.text


def mounted(place, *options):
    """Mount a small file system in memory at *place*, or return why that cannot be."""
    if os.geteuid() != 0:
        return "only root can mount"
    if shutil.which("mount") is None:
        return "mount is not installed"
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", place], capture_output=True
    )
    return "" if done.returncode == 0 else "this machine lets nobody mount"


@pytest.fixture
def small_disk(tmp_path):
    """A project on a file system of its own, with little room."""
    place = tmp_path / "disk"
    reason = mounted(place, "size=1m")
    if reason:
        pytest.skip(reason)
    made = projects.copied(tmp_path / "made")
    project = projects.Project(place / "project", place / "keys")
    shutil.copytree(made.folder, project.folder)
    shutil.copytree(made.key_home, project.key_home)
    yield project
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk(small_disk):
    """Nothing is applied and nothing is delivered; with room again all is as it was."""
    small_disk.refresh()
    filler = small_disk.folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    for words in (SHOW, ("get", "session"), ("set", "session", "-"), ("generate", "token")):
        result = small_disk(*words, stdin=b"n" * 40)
        short = words[0] in {"run", "get"} and result.code == 0
        assert short or (7, b"") == (result.code, result.out), result.text
        assert "fault in Keyturn" not in result.text
        assert "Traceback" not in result.text
    filler.unlink()
    assert VALUES["session"] == small_disk("get", "session").out
    assert 0 == small_disk("set", "session", "-", stdin=b"n" * 40).code
    assert 0 == small_disk("audit", "verify").code
    assert 0 == small_disk("doctor").code


@pytest.mark.parametrize("way", ["short", "long"])
def test_a_read_only_file_system(way, small_disk):
    """Nothing is delivered where it cannot be recorded; the reason is told."""
    if way == "short":
        small_disk.refresh()
    subprocess.run(["mount", "-o", "remount,ro", small_disk.folder.parent], check=True)
    for words in (SHOW, ("get", "session"), ("set", "session", "-"), ("list",), ("doctor",)):
        result = small_disk(*words, stdin=b"n" * 40)
        assert result.code in {4, 7}, result.text
        assert b"" == result.out
        assert "fault in Keyturn" not in result.text
    subprocess.run(["mount", "-o", "remount,rw", small_disk.folder.parent], check=True)
    assert VALUES["session"] + b"\n" == small_disk(*SHOW).out


@pytest.fixture
def owner(project):
    """Return a function that runs a command as the project's owner, who is bound by modes."""
    prefix = []
    if os.geteuid() == 0:
        # Root without the right to pass over modes is an owner like any other.
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
        if shutil.which("setpriv") is None:
            pytest.skip("root is bound by no mode, and setpriv is not installed")

    def run(*words, stdin=b""):
        done = subprocess.run(
            [*prefix, KEYTURN, *words],
            cwd=project.folder,
            env=project.environ,
            input=stdin,
            capture_output=True,
            start_new_session=True,
        )
        return projects.Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.mark.parametrize("place", ["state", "keys", "audit", "bundles", "folder"])
def test_a_read_only_folder(place, project, owner):
    """Each folder in turn: the value is delivered and recorded, or neither; no fault, no loss."""
    folder = {
        "state": project.state,
        "keys": project.keys,
        "audit": project.state / "audit",
        "bundles": project.state / "bundles",
        "folder": project.folder,
    }[place]
    folder.chmod(0o500)
    codes = {}
    for words in (SHOW, ("set", "session", "-"), ("list",), ("render",)):
        result = owner(*words, stdin=b"n" * 40)
        codes[words[0]] = result.code
        assert result.code in {0, 1, 4, 7}, result.text
        assert "fault in Keyturn" not in result.text
        assert "Traceback" not in result.text
        assert result.code == 0 or "\nhint: " in result.text
    # SQLite needs its folder; of the rendered file, the project's folder is the place.
    assert (place != "state") == (codes["list"] == 0)
    assert (place not in {"state", "folder"}) == (codes["render"] == 0)
    folder.chmod(0o700)
    assert 0 == owner("audit", "verify").code
    session = b"n" * 40 if codes["set"] == 0 else VALUES["session"]
    assert session + b"\n" == owner(*SHOW).out


def test_a_manifest_that_cannot_be_read(project, owner):
    """Its owner took the right to read it away: said as what it is."""
    project.manifest.chmod(0o000)
    result = owner("list")
    assert (4, b"") == (result.code, result.out)
    assert "keyturn.toml`: Permission denied" in result.text
