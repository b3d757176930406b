"""The demo's folder and programs: what they are given, and that nothing is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from keyturn.core.value import SecretValue
from keyturn.demo.stage import Stage, keyturn_command
from keyturn.errors import VerificationFailed


def python(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", program]


def said(stage: Stage, program: str, **options):
    """Run *program* and return its exit code and its lines."""
    lines: list[str] = []
    return stage.run(python(program), on_line=lines.append, **options), lines


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_the_folder_is_private_and_removed():
    """Nobody else can look in, and nothing is left."""
    with Stage() as stage:
        assert stat.S_IMODE(stage.folder.stat().st_mode) == 0o700
        (stage.project / "file").write_text("x")
    assert not stage.folder.exists()


def test_the_folder_goes_also_after_a_failure():
    """An error on its way out takes the folder and the programs with it."""
    with pytest.raises(RuntimeError), Stage() as stage:
        program = stage.start(python("input()"), log=stage.folder / "log")
        raise RuntimeError
    assert not stage.folder.exists()
    assert program.returncode is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number):
    """Each way of being told to end becomes an interrupt; the old handlers return."""
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Stage() as stage:
        os.kill(os.getpid(), number)
    assert not stage.folder.exists()
    assert signal.getsignal(number) is before


def test_a_signal_while_a_program_starts_waits_until_it_is_known():
    """No program is started and then forgotten."""

    class Words(list):
        def __iter__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().__iter__()

    with pytest.raises(KeyboardInterrupt), Stage() as stage:
        stage.start(Words(python("import signal; signal.pause()")), log=stage.folder / "log")
    assert stage._interrupted
    assert not stage.folder.exists()


def test_kept_folders_stay_and_their_programs_do_not():
    """Keeping is for looking at files."""
    with Stage(keep=True) as stage:
        program = stage.start(python("import signal; signal.pause()"), log=stage.folder / "log")
        pid = program.pid
    try:
        assert stage.folder.exists()
        assert gone(pid)
    finally:
        stage._keep = False
        stage.close()
    assert not stage.folder.exists()


def test_what_is_held_is_let_go_after_the_programs():
    """A server outlives the programs that use it, and ends with the stage."""
    events = []

    @contextlib.contextmanager
    def server():
        yield "server"
        events.append(program.returncode is not None)

    with Stage() as stage:
        assert stage.hold(server()) == "server"
        program = stage.start(python("import signal; signal.pause()"), log=stage.folder / "log")
    assert events == [True]


def test_a_program_that_will_not_end_is_killed():
    """One that ignores SIGTERM gets SIGKILL after a while."""
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('x', flush=True)\nwhile 1: signal.pause()"
    with Stage(end_seconds=0.05) as stage:
        log = stage.folder / "log"
        program = stage.start(python(deaf), log=log)
        while not log.read_text():
            pass
    assert program.returncode == -signal.SIGKILL


def test_a_program_that_dies_is_waited_for_at_once():
    """Its number is free and nobody can signal it, long before the demo ends."""
    with Stage() as stage:
        program = stage.start(
            python("import os; os.kill(os.getpid(), 9)"), log=stage.folder / "log"
        )
        while not gone(program.pid):
            pass
    assert program.returncode == -signal.SIGKILL


def test_lines_come_in_order_from_both_streams():
    """Output and errors are one conversation; the exit code is the program's."""
    program = "import sys, os; os.write(1, b'one\\n'); os.write(2, b'two\\n'); os.write(1, b'three'); sys.exit(3)"
    with Stage() as stage:
        assert said(stage, program) == (3, ["one", "two", "three"])


def test_a_signal_is_a_negative_code():
    """A program killed by SIGKILL ends with -9."""
    with Stage() as stage:
        assert said(stage, "import os; os.kill(os.getpid(), 9)") == (-signal.SIGKILL, [])


def test_a_hanging_program_is_killed():
    """No command holds the demo up for ever."""
    with Stage(command_seconds=0.2) as stage:
        assert said(stage, "import signal; signal.pause()") == (-signal.SIGKILL, [])


def test_a_value_is_given_on_standard_input():
    """The program reads exactly the value, and then the end."""
    with Stage() as stage:
        code = said(
            stage, "import sys; print(len(sys.stdin.read()))", given=SecretValue(b"seven77")
        )
        assert code == (0, ["7"])


def test_a_program_that_does_not_read_tells_its_own_reason():
    """A closed pipe is not the story."""
    with Stage() as stage:
        value = SecretValue(b"x" * 1_000_000)
        assert said(stage, "import sys; sys.exit('no')", given=value) == (1, ["no"])


def test_a_terminal_is_as_wide_as_asked():
    """A program that asks finds a terminal of that width."""
    program = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size(1).columns)"
    with Stage() as stage:
        assert said(stage, program, terminal_columns=91) == (0, ["True 91"])


def test_the_answer_of_a_question_is_a_value():
    """Exact bytes, masked in every text form."""
    with Stage() as stage:
        answer = stage.ask(python("import os; os.write(1, b'abc ')"))
    assert answer == SecretValue(b"abc ")
    assert "abc" not in repr(answer)


def test_a_failed_question_tells_what_was_said():
    """The error has the program's complaint and not its output."""
    program = "import sys; print('the value'); sys.exit('no such secret')"
    with Stage() as stage, pytest.raises(VerificationFailed, match="no such secret") as caught:
        stage.ask(python(program))
    assert "the value" not in str(caught.value)


def test_the_persons_own_settings_stay_outside(monkeypatch):
    """Keys and home are the stage's; a PORT or KEYTURN_* of the caller's changes nothing."""
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("KEYTURN_ENVIRONMENT", "production")
    monkeypatch.setenv("KEYTURN_HOME", "/nowhere")
    with Stage() as stage:
        found = stage.environment({"KEYTURN_FAILPOINT": "x"})
        assert (found["HOME"], found["KEYTURN_FAILPOINT"]) == (str(stage.folder), "x")
        assert found["KEYTURN_HOME"].startswith(str(stage.folder))
        assert not {"PORT", "KEYTURN_ENVIRONMENT"} & set(found)


def test_the_command_is_this_installations_own(monkeypatch, tmp_path):
    """In an environment it is the script beside the interpreter; elsewhere the module."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    module = [str(tmp_path / "python"), "-P", "-m", "keyturn"]
    assert keyturn_command() == module
    (tmp_path / "keyturn").touch(0o755)
    monkeypatch.setattr(sys, "prefix", "/an/environment")
    assert keyturn_command() == [str(tmp_path / "keyturn")]
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert keyturn_command() == module
