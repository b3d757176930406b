"""What the fast path hands to the child, reads from its files, and writes."""

from __future__ import annotations

import json
import os
import resource
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn import _fastaudit, fast


class Rows:
    """Stands for a bundle: settings and secrets as `Bundle.entries` gives them."""

    def __init__(self, *, config=(), secrets=()):
        self._config, self._secrets = config, secrets

    def entries(self):
        rows = [([b"config", name, b"%d" % len(value)], value) for name, value in self._config]
        for name, version, variable, value in self._secrets:
            row = [b"secret", name, b"%d" % version, b"value", variable, b"%d" % len(value)]
            rows.append((row, value))
        return rows


def child(rows, monkeypatch, *, environ, names=(), config=True):
    monkeypatch.setattr(fast, "_environ", environ)
    return fast.child_environment(rows, set(names), config=config)


def test_a_secret_replaces_and_a_setting_gives_way(monkeypatch):
    """`PORT=9000 keyturn run` means what it says; a secret is the store's alone."""
    rows = Rows(
        config=[(b"PORT", b"8080"), (b"LEVEL", b"info")],
        secrets=[(b"db", 3, b"DB_PASSWORD", b"new"), (b"jwt", 1, b"-", b"file only")],
    )
    environ = {b"PORT": b"9000", b"DB_PASSWORD": b"old", b"odd \xff": b"\xfe\n"}
    found, versions = child(rows, monkeypatch, environ=environ, names=[b"db", b"jwt"])
    assert {
        b"PORT": b"9000",
        b"LEVEL": b"info",
        b"DB_PASSWORD": b"new",
        b"odd \xff": b"\xfe\n",
        b"KEYTURN_VERSIONS": b"db=3 jwt=1",
    } == found
    assert "db=3 jwt=1" == versions


def test_the_environment_is_this_process_s(monkeypatch):
    """What is handed on is what `os.environb` holds, and a copy of it."""
    monkeypatch.setenv("KEYTURN_TEST", "here")
    found, _ = fast.child_environment(Rows(), set(), config=True)
    assert {**os.environb, b"KEYTURN_VERSIONS": b""} == {**found, **_restored(found)}
    assert b"KEYTURN_VERSIONS" not in os.environb


def _restored(found):
    # The interpreter may have set it for itself, and then the child does not see it.
    locale = os.environb.get(b"LC_CTYPE")
    return {b"LC_CTYPE": locale} if locale and b"LC_CTYPE" not in found else {}


def test_only_what_is_asked_for(monkeypatch):
    """A consumer without settings gets none, and no secret of another."""
    rows = Rows(
        config=[(b"PORT", b"8080")], secrets=[(b"db", 3, b"DB", b"x"), (b"a", 1, b"A", b"y")]
    )
    found, versions = child(rows, monkeypatch, environ={}, names=[b"a"], config=False)
    assert {b"A": b"y", b"KEYTURN_VERSIONS": b"a=1"} == found
    assert "a=1" == versions


def test_an_entry_without_a_name_is_left_out(monkeypatch):
    """The system may hand one on, and no program could be started with it."""
    found, _ = child(Rows(), monkeypatch, environ={b"": b"x", b"A": b"y"})
    assert {b"A": b"y", b"KEYTURN_VERSIONS": b""} == found


def test_another_lc_ctype_is_the_caller_s(monkeypatch):
    """Only the values that the interpreter sets are looked at twice."""
    monkeypatch.setattr(fast, "_restore_lc_ctype", pytest.fail)
    found, _ = child(Rows(), monkeypatch, environ={b"LC_CTYPE": b"de_DE.UTF-8"})
    assert b"de_DE.UTF-8" == found[b"LC_CTYPE"]


@given(text=st.text(st.characters(exclude_categories=[]), max_size=30))
def test_quoted_text_is_json(text):
    """Whatever a program is called, the audit line stays one line of JSON."""
    made = _fastaudit.quoted(text)
    assert text.encode("utf-8", "backslashreplace").decode() == json.loads(made)
    assert made.isascii()
    assert "\n" not in made


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 64, 1000])
def test_a_private_file_is_read_whole(size, tmp_path):
    """A file longer than expected is read to its end."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    path.chmod(0o600)
    assert path.read_bytes() == fast.read_private(str(path), 16)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o620, 0o610, 0o601, 0o4600 | 0o001])
def test_a_file_that_others_can_reach_is_not_read(mode, tmp_path):
    """A single bit for group or others is enough."""
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    with pytest.raises(PermissionError):
        fast.read_private(str(path), 16)


def test_a_pipe_is_not_waited_for(tmp_path):
    """What is no plain file is refused at once, however it is kept."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(PermissionError, match="no plain file"):
        fast.read_private(str(tmp_path / "pipe"), 16)


def test_no_core_file_is_left_and_the_child_may_leave_one():
    """The limit is one byte, which stops pipes as well, and is given back for the child."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    kept = fast._core_limit
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
        fast._core_limit = None
        fast.forbid_core()
        fast.forbid_core()
        assert (1 if before[1] else 0, before[1]) == resource.getrlimit(resource.RLIMIT_CORE)
        if before[1]:
            assert (before[1], before[1]) == fast._core_limit
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
        fast._core_limit = kept


def test_a_file_that_cannot_be_started_gives_the_shell_s_code(tmp_path, capsys, monkeypatch):
    """127 for one that is not there, 126 for one that is no program; the message names it."""
    monkeypatch.setattr(fast, "_core_limit", None)
    plain = tmp_path / "plain"
    plain.write_text("no program")
    environ = {b"PATH": os.fsencode(tmp_path)}
    assert 127 == fast.start(["nowhere"], environ)
    assert 126 == fast.start(["plain"], environ)
    assert 126 == fast.start([str(tmp_path)], environ)
    assert 127 == fast.start([""], {b"PATH": b""})
    assert [
        "error: cannot start `nowhere`: No such file or directory",
        "error: cannot start `plain`: Permission denied",
        f"error: cannot start `{tmp_path}`: Permission denied",
        "error: cannot start ``: No such file or directory",
    ] == capsys.readouterr().err.splitlines()


def test_a_program_that_cannot_be_started_leaves_our_signals_alone():
    """What the interpreter ignores for itself is ignored again, for we go on."""
    for more in ({}, {b"SYSTEMD_EXEC_PID": b"%d" % os.getpid()}):
        with pytest.raises(FileNotFoundError):
            fast.replace_process(["keyturn-no-such-program"], {b"PATH": b"/nonexistent", **more})
    assert signal.SIG_IGN == signal.getsignal(signal.SIGPIPE)
    assert signal.SIG_IGN == signal.getsignal(signal.SIGXFSZ)
