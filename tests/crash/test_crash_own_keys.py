"""Keyturn's own keys are changed by the real command, which is killed at every point it reaches."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.crash

KEYTURN = str(Path(sys.executable).with_name("keyturn"))
MANIFEST = """\
[project]
name = "own-keys"
owner = "team"
[environments.development]
store = "local"
[stores.local]
kind = "embedded"
[secrets.session]
kind = "session-secret"
variable = "SESSION_SECRET"
[secrets.api]
kind = "generated"
variable = "API_TOKEN"
"""
MOST_POINTS = 200


class Project:
    """A project whose every value is known to the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "keyturn.toml").write_text(MANIFEST)
        self.run("init", "-qq")
        self.run("generate", "-qq")
        self.values = {name: self.run("get", name).stdout for name in ("session", "api")}

    def run(self, *words, failpoint=None, check=True):
        import os

        environ = dict(os.environ)
        if failpoint:
            environ["KEYTURN_FAILPOINT"] = failpoint
        return subprocess.run(
            [KEYTURN, *words],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            check=check,
            timeout=60,
        )

    def require_sound(self):
        """Every value is there by both paths, and nothing is wrong with the store."""
        for name, value in self.values.items():
            assert value == self.run("get", name).stdout
            assert value == self.run("get", name, "--stage", "current").stdout
        child = self.run("run", "--", "sh", "-c", 'printf %s "$SESSION_SECRET"')
        assert self.values["session"] == child.stdout
        doctor = self.run("doctor", check=False)
        assert 0 == doctor.returncode, doctor.stdout.decode() + doctor.stderr.decode()


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.mark.parametrize("name", ["root-key", "data-key"])
def test_a_killed_change_of_keys_loses_nothing(project, name):
    """Whatever point it dies at, the next command opens the store and the change can be made."""
    killed = 0
    for number in range(1, MOST_POINTS):
        done = project.run("rotate", name, failpoint=f"*:{number}", check=False)
        if done.returncode == 0:
            break
        assert -signal.SIGKILL == done.returncode, done.stderr.decode()
        killed += 1
        for value_name, value in project.values.items():
            assert value == project.run("get", value_name).stdout, f"point {number}"
    else:
        pytest.fail("the command never came to its end")
    print(f"{name}: killed at {killed} points")
    assert killed >= 5
    project.require_sound()
    assert 0 == project.run("rotate", name).returncode
    project.require_sound()


def test_no_bundle_is_left_that_the_old_key_opens(project):
    """The key of the bundles goes with the root key."""
    home = next(Path(project.folder).joinpath(".keyturn").glob("bundles/*.age"))
    old_bundle = home.read_bytes()
    key = next(path for path in _key_home().glob("*/bundle.key"))
    old_key = key.read_bytes()
    project.run("rotate", "root-key")
    assert key.read_bytes() != old_key
    project.require_sound()
    assert old_bundle != home.read_bytes()


def _key_home() -> Path:
    import os

    return Path(os.environ["KEYTURN_HOME"])
