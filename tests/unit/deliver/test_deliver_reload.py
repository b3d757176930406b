"""Consumers are told of new values, and only they."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyturn.core.value import SecretValue
from keyturn.deliver import (
    CommandReload,
    ComposeReload,
    HttpReload,
    SignalReload,
    SystemdReload,
    reload_consumer,
)
from keyturn.deliver._programs import masked
from keyturn.errors import DeliveryError

CANARY = "canary-said-by-a-program"
ROOT = os.geteuid() == 0


@pytest.fixture
def consumer(tmp_path):
    """A process that notes each SIGHUP, with its pid file."""
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGHUP, lambda *_: sys.exit(7))\n"
        "print(flush=True)\n"
        "signal.pause()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    process.stdout.readline()
    (tmp_path / "pid").write_text(f"{process.pid}\n")
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def fake_program(tmp_path, monkeypatch):
    """Put a program of any name on the path, which writes down its arguments."""

    def make(name):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/said\n')
        (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return tmp_path / "said"

    return make


def python(code):
    return CommandReload((sys.executable, "-c", code))


@pytest.mark.parametrize(
    "text",
    ["", "0", "1", "-1", "-4711", "12x", "0x10", "1 2", "१२", "99999999999", "4711" * 100, "\0"],
)
def test_a_pid_file_that_names_no_process_is_refused(tmp_path, text):
    """Not init, not a group, not half a number, and never a huge file."""
    (tmp_path / "pid").write_text(text)
    with pytest.raises(DeliveryError, match="does not hold the number") as caught:
        reload_consumer(SignalReload("HUP", "pid"), project=tmp_path)
    assert caught.value.hint
    assert "delivery.reload" == caught.value.code


def test_a_pid_file_that_is_none_is_refused(tmp_path):
    """Absent, a link or a pipe: nothing is signalled and nothing waits."""
    (tmp_path / "link").symlink_to("pid")
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("absent", "cannot be read"), ("link", "cannot be"), ("pipe", "not hold")):
        with pytest.raises(DeliveryError, match=says):
            reload_consumer(SignalReload("HUP", name), project=tmp_path)


def test_a_pid_file_that_anybody_may_write_is_refused(tmp_path, consumer):
    """Whoever writes it would choose whom we signal."""
    (tmp_path / "pid").chmod(0o666)
    with pytest.raises(DeliveryError, match="everybody may write"):
        reload_consumer(SignalReload("HUP", "pid"), project=tmp_path)
    assert consumer.poll() is None


def test_a_process_that_is_gone_is_told(tmp_path, consumer):
    """A stale pid file is an error, not a success."""
    consumer.kill()
    consumer.wait()
    with pytest.raises(DeliveryError, match="is not running"):
        reload_consumer(SignalReload("HUP", "pid"), project=tmp_path)


def test_somebody_elses_process_is_not_signalled(tmp_path, consumer):
    """A pid file cannot be used to reach another user's process."""
    if ROOT:
        # Theirs is the pid file; ours is the process that they would like signalled.
        os.chown(tmp_path / "pid", 12345, 12345)
    else:
        (tmp_path / "pid").write_text(str(os.getppid() if os.stat("/proc/2").st_uid else 2))
    with pytest.raises(DeliveryError, match="another user"):
        reload_consumer(SignalReload("HUP", "pid"), project=tmp_path)
    assert consumer.poll() is None


def test_no_such_signal(tmp_path):
    """A wrong name is refused before any file is read."""
    with pytest.raises(DeliveryError, match="is no signal"):
        reload_consumer(SignalReload("HUPP", "absent"), project=tmp_path)


@pytest.mark.parametrize("name", ["HUP", "SIGHUP"])
def test_a_consumer_gets_its_signal(tmp_path, consumer, name):
    """The process named in the file gets the signal, and what was done is told."""
    said = reload_consumer(SignalReload(name, "pid"), project=tmp_path)
    assert f"sent SIGHUP to process {consumer.pid}" == said
    assert 7 == consumer.wait(timeout=30)


@pytest.mark.parametrize(
    ("reload", "says"),
    [
        (CommandReload(()), "empty"),
        (CommandReload(("/no/such/program",)), "cannot be started"),
        (CommandReload(("true", "a\0b")), "cannot be started"),
        (SystemdReload("--now"), "no valid name"),
        (SystemdReload("x y"), "no valid name"),
        (SystemdReload(""), "no valid name"),
        (SystemdReload("x.service", "stop"), "`reload` or to `restart`"),
        (ComposeReload("--help"), "no valid name"),
        (ComposeReload("a;b"), "no valid name"),
        (ComposeReload("a", signal="NO"), "is no signal"),
        (HttpReload("http://192.0.2.1/x"), "plain http to another machine"),
        (HttpReload("ftp://127.0.0.1/x"), "not an http"),
        (HttpReload("http://user@127.0.0.1/"), "user name or password"),
        (HttpReload("http://[::1/"), "not an http"),
        (HttpReload("http://127.0.0.1:99999/"), "not an http"),
        (HttpReload("http://127.0.0.1/a b"), "not an http"),
        (HttpReload("http://127.0.0.1.example.com/"), "plain http to another machine"),
        (HttpReload("http:///x"), "not an http"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path, reload, says):
    """Odd names never become options, and no address outside is spoken to in clear."""
    with pytest.raises(DeliveryError, match=says) as caught:
        reload_consumer(reload, project=tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("reload", "program", "arguments"),
    [
        (
            SystemdReload("clipper@1.service"),
            "systemctl",
            ["--no-ask-password", "reload", "clipper@1.service"],
        ),
        (SystemdReload("x", "restart"), "systemctl", ["--no-ask-password", "restart", "x"]),
        (
            ComposeReload("backend"),
            "docker",
            ["compose", "up", "-d", "--force-recreate", "--no-deps", "backend"],
        ),
        (
            ComposeReload("backend", file="deploy/compose.yml", signal="HUP"),
            "docker",
            ["compose", "--file", "deploy/compose.yml", "kill", "-s", "SIGHUP", "backend"],
        ),
    ],
)
def test_programs_get_their_arguments(tmp_path, fake_program, reload, program, arguments):
    """systemd and Compose are asked by argument list, in the project folder."""
    said = fake_program(program)
    assert f"ran `{program}`" == reload_consumer(reload, project=tmp_path)
    assert arguments == said.read_text().splitlines()


def test_a_command_runs_in_the_project_without_a_shell(tmp_path):
    """The arguments arrive as they are; nothing expands them; no input is there to wait for."""
    code = "import os, sys; open('here', 'w').write(sys.argv[1] + repr(sys.stdin.read()))"
    command = CommandReload((sys.executable, "-c", code, "$(id) *"))
    reload_consumer(command, project=tmp_path)
    assert "$(id) *''" == (tmp_path / "here").read_text()


def test_a_failing_command_tells_its_status_and_masked_words(tmp_path):
    """The last words of a program are worth showing, a value in them is not."""
    code = (
        f"import sys; print('stdout {CANARY}');"
        f"print('cannot\\x1b[2J\\nuse {CANARY} ' + 'x' * 5000, file=sys.stderr); sys.exit(3)"
    )
    with pytest.raises(
        DeliveryError, match=r"ended with status 3: cannot\[2J use \*\*\* x"
    ) as error:
        reload_consumer(python(code), project=tmp_path, hidden=[SecretValue.from_text(CANARY)])
    assert CANARY not in str(error.value)
    assert len(error.value.message) < 300


def test_a_killed_command_tells_the_signal(tmp_path):
    """A program that was ended by a signal did not reload anything."""
    with pytest.raises(DeliveryError, match="was ended by signal 9"):
        reload_consumer(python("import os; os.kill(os.getpid(), 9)"), project=tmp_path)


def test_a_command_that_hangs_is_stopped_with_its_children(tmp_path):
    """After the time limit nothing that it started goes on."""
    code = (
        "import subprocess, time;"
        "p = subprocess.Popen(['sleep', '600']); open('child', 'w').write(str(p.pid));"
        "time.sleep(600)"
    )
    started = time.monotonic()
    with pytest.raises(DeliveryError, match="did not end within"):
        reload_consumer(python(code), project=tmp_path, timeout_seconds=1)
    assert time.monotonic() - started < 10
    child = int((tmp_path / "child").read_text())
    while time.monotonic() - started < 10:
        try:
            status = Path(f"/proc/{child}/stat").read_text().rsplit(")")[1].split()[0]
        except FileNotFoundError:
            break
        if status == "Z":
            break
    else:
        pytest.fail("the child goes on")


def test_a_flood_of_words_neither_blocks_nor_grows(tmp_path):
    """More than a pipe holds is read and let go."""
    code = "import sys; sys.stderr.write('x' * 3_000_000); sys.exit(1)"
    with pytest.raises(DeliveryError, match="ended with status 1") as caught:
        reload_consumer(python(code), project=tmp_path)
    assert len(caught.value.message) < 300


def test_a_daemon_left_behind_does_not_hold_us(tmp_path):
    """A program may leave a child with its error output open, and we go on."""
    code = "import subprocess; subprocess.Popen(['sleep', '5'])"
    started = time.monotonic()
    reload_consumer(python(code), project=tmp_path)
    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("text", "hidden", "shown"),
    [
        (b"", [b"x"], ""),
        (b"nothing here", [], "nothing here"),
        (b"a secret b", [b"secret"], "a *** b"),
        (b"outer-inner-outer", [b"inner", b"outer-inner-outer"], "***"),
        (b"key: second line!", [b"first line\nsecond line\n"], "key: ***!"),
        (b"cut off: sec", [b"secret"], "cut off: sec"),
        (b"cut off: secre", [b"secret"], "cut off: ***"),
        (b"\xff\xfe\x00 \x1b]0;x\x07", [b""], "\ufffd\ufffd ]0;x"),
        (b"pass\xc3\xa9", ["passé".encode()], "***"),
    ],
)
def test_masking(text, hidden, shown):
    """Whole values, single lines of them and cut ends are hidden; the rest is printable."""
    assert shown == masked(text, [SecretValue(value) for value in hidden])


def test_the_children_take_no_signal_of_ours(tmp_path):
    """A reload runs in a session of its own, so Ctrl-C reaches us and not half of it."""
    code = "import os; open('session', 'w').write(str(os.getsid(0) == os.getpid()))"
    reload_consumer(python(code), project=tmp_path)
    assert "True" == (tmp_path / "session").read_text()
