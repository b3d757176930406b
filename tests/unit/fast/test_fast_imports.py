"""What the fast path imports: this list, and not one module more."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.projects import KEYTURN

# Beyond what a bare interpreter imports to run `pass`. Each costs every `keyturn run`.
OURS = {"keyturn", "keyturn.fast", "keyturn._fastaudit"}
AGE = {"pyrage.pyrage"}  # the package's own file is not run
STANDARD = {"fcntl", "time"}
# Found by its name in this version of Python.
HASH = {"_sha256", "_sha2"}


PIPED = Path("/proc/sys/kernel/core_pattern").read_bytes().startswith(b"|")


def imported(*command, project, core_bytes=0):
    """
    Return the modules that a Python program imports, as `-X importtime` lists them.

    Where a handler reads cores from a pipe, the limit is set by us whatever it was,
    which needs one module more.
    """

    def limit():
        resource.setrlimit(resource.RLIMIT_CORE, (core_bytes, resource.RLIM_INFINITY))

    done = subprocess.run(
        preexec_fn=limit,
        args=[sys.executable, "-X", "importtime", *command],
        cwd=project.folder,
        env=project.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    found = {row.rpartition("|")[2].strip() for row in rows[1:]}
    return found - {"resource"} if PIPED and not core_bytes else found


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """What a bare interpreter imports before its first line."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--", "true"),
        ("run", "-e", "development", "--consumer", "backend", "--", "true"),
        ("get", "API_KEY"),
        ("get", "db.password"),
    ],
)
def test_the_fast_path_imports_exactly_this(words, bare, project):
    """`run` and `get` import the modules listed here beyond a bare interpreter's, no more, no less."""
    found = imported(str(KEYTURN), *words, project=project) - bare
    assert OURS | AGE | STANDARD - bare == found - HASH
    assert len(found & HASH) == 1


def test_a_core_limit_costs_one_module_more(bare, project):
    """Where a crash could leave a core, the module that forbids it is imported."""
    found = imported("-m", "keyturn", "get", "API_KEY", project=project, core_bytes=1 << 20)
    assert "resource" in found - bare


def test_a_name_that_needs_escaping_imports_one_module_more(bare, project):
    """A program whose name JSON must escape costs the C half of `json`, not `json`."""
    program = project.folder / 'a "quoted" name'
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o700)
    found = imported(str(KEYTURN), "run", "--", str(program), project=project) - bare
    assert {"_json"} == found - OURS - AGE - STANDARD - HASH


def test_help_is_not_slowed_by_what_verbs_need(bare, project):
    """The list of verbs opens no store and loads no cipher."""
    found = imported(str(KEYTURN), "--help", project=project) - bare
    roots = {name.partition(".")[0] for name in found}
    assert set() == roots & {"cryptography", "msgspec", "rich", "sqlite3", "tomlkit", "tomllib"}


SCRIPT = Path(__file__).parents[3] / "scripts" / "keyturn"


@pytest.mark.parametrize("options", ["", "PYTHONSAFEPATH=1"])
@pytest.mark.parametrize("way", ["as it is", "through a link"])
def test_what_lies_beside_the_command_is_no_module_of_ours(way, options, tmp_path):
    """Neither where the command was installed nor where a link to it was put."""
    for name in ("installed", "linked"):
        (tmp_path / name).mkdir()
        for trap in ("keyturn.py", "fcntl.py", "pyrage.py"):
            (tmp_path / name / trap).write_text("raise SystemExit(99)\n")
    command = tmp_path / "installed" / "keyturn"
    command.write_text(SCRIPT.read_text().replace("#!python", f"#!{sys.executable}", 1))
    command.chmod(0o755)
    link = tmp_path / "linked" / "keyturn"
    link.symlink_to(command)
    words = ["env", *options.split(), str(link if way == "through a link" else command)]
    done = subprocess.run([*words, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("keyturn ")
