"""`keyturn run` is not there: the program finds what it would have found without it, both ways."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest

from tests.cli.projects import KEYTURN, VALUES
from tests.cli.terminal import Terminal

OWN = {
    "PORT": b"8080",
    "GREETING": "grüß dich".encode(),
    "SESSION_SECRET": VALUES["session"],
    "API_KEY": VALUES["api"],
    "DB_USER": VALUES["db.username"],
    "DB_PASSWORD": VALUES["db.password"],
    "KEYTURN_VERSIONS": b"api=1 db=2 session=1",
}

# A program that counts the signals it gets, and tells of each on standard output.
COUNTING = """\
import os, signal, sys
names = ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT", "SIGQUIT"]
wanted = {getattr(signal, name) for name in names}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("ready", os.getpid(), flush=True)
while True:
    print(signal.Signals(signal.sigwait(wanted)).name, flush=True)
"""


@pytest.fixture(params=["bare", "short", "long"])
def started(request, project):
    """Return a function that starts a program: without Keyturn, or through it by either way."""
    way = request.param
    if way == "short":
        project.refresh()
    prefix = [] if way == "bare" else [KEYTURN, "run", "--"]

    def start(*words, environ=None, **options):
        return subprocess.Popen(
            [*prefix, *words],
            **{"cwd": project.folder, "stdout": subprocess.PIPE, **options},
            env={**project.environ, **(environ or {})},
        )

    return start


def both(project, *words, environ=None, **options):
    """Return what *words* write without Keyturn and through it."""
    found = []
    for prefix in ([], [KEYTURN, "run", "--"]):
        done = subprocess.run(
            [*prefix, *words],
            **{"cwd": project.folder, "stdin": subprocess.DEVNULL, **options},
            env={**project.environ, **(environ or {})},
            capture_output=True,
        )
        found.append((done.returncode, done.stdout, done.stderr))
    return found


# ---------------------------------------------------------------- how it ends


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 126", 126),
        ("exit 255", 255),
        ("kill -TERM $$", -signal.SIGTERM),
        ("kill -KILL $$", -signal.SIGKILL),
        ("kill -HUP $$", -signal.SIGHUP),
        ("kill -INT $$", -signal.SIGINT),
        ("ulimit -c 0; kill -SEGV $$", -signal.SIGSEGV),
        ("kill -PIPE $$", -signal.SIGPIPE),
    ],
)
def test_the_wait_status_is_the_program_s(script, expected, either):
    """Whoever waits for it sees the exit code or the signal of the program itself."""
    assert expected == either("run", "--", "sh", "-c", script).code


def test_a_program_that_is_not_there(either):
    """127, as a shell gives it; the message names the program."""
    result = either("run", "--", "no-such-program")
    assert (127, b"") == (result.code, result.out)
    assert "error: cannot start `no-such-program`: No such file or directory\n" == result.text


@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("./plain", 126, "Permission denied"),
        ("./", 126, "Permission denied"),
        ("./plain/x", 126, "Not a directory"),
        ("./absent", 127, "No such file or directory"),
        ("", 127, "No such file or directory"),
    ],
)
def test_what_cannot_be_executed(name, code, why, either):
    """126 and the system's reason, as `env` gives them."""
    (either.folder / "plain").write_text("text")
    result = either("run", "--", name)
    assert (code, f"error: cannot start `{name}`: {why}\n") == (result.code, result.text)


def test_a_script_without_a_first_line_is_the_shell_s(either):
    """As `env` and `nohup` run it."""
    script = either.folder / "script"
    script.write_text('echo "$0 $1 $PORT"\n')
    script.chmod(0o755)
    result = either("run", "--", "./script", "a b")
    assert (0, b"./script a b 8080\n") == (result.code, result.out)


def test_the_path_is_searched_to_its_end(either):
    """A file of the same name that is no program hides no later one that is."""
    for place, mode in (("a", 0o644), ("b", 0o755)):
        (either.folder / place).mkdir()
        program = either.folder / place / "prog"
        program.write_text(f"#!/bin/sh\necho {place}\n")
        program.chmod(mode)
    path = f"{either.folder}/nowhere:{either.manifest}:a:b:/usr/bin:/bin"
    result = either("run", "--", "prog", environ={"PATH": path})
    assert (0, b"b\n") == (result.code, result.out)


def test_arguments_and_environment_too_large(project, way):
    """The kernel's limit is said in words; nothing is cut."""
    project.put("session", b"x" * 131_000)
    if way == "short":
        project.refresh()
    # Room enough to start Keyturn with these arguments, and not for the secret beside them.
    words = ["x" * 100_000] * 20
    result = project("run", "--", "true", *words, preexec_fn=usual_stack)
    assert 126 == result.code
    assert (
        "error: cannot start `true`: its arguments and environment together are more than"
        " this system takes\n" == result.text
    )


def usual_stack():
    # A quarter of it holds arguments and environment (execve(2)).
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, hard))


# ---------------------------------------------------------------- what it is given


def test_the_environment_is_the_caller_s_and_ours(either):
    """Every byte of the caller's variables, and what the manifest says; nothing else."""
    given = {
        b"ODD": b"\xff\xfe \n'",
        b"EMPTY": b"",
        b"odd name-\xc3": b"x",
        b"PATH": b"/usr/bin:/bin",
    }
    given[b"KEYTURN_HOME"] = os.fsencode(either.key_home)
    done = subprocess.run(
        [KEYTURN, "run", "--", "env", "-0"], cwd=either.folder, env=given, capture_output=True
    )
    found = dict(item.split(b"=", 1) for item in done.stdout.split(b"\0")[:-1])
    assert {**given, **{name.encode(): value for name, value in OWN.items()}} == found


@pytest.mark.parametrize(
    "locale",
    [{"LANG": "C"}, {"LC_ALL": "C"}, {"LC_CTYPE": "C.UTF-8"}, {"LC_CTYPE": "POSIX"}, {"LANG": ""}],
)
def test_the_locale_is_the_caller_s(locale, either):
    """The interpreter sets `LC_CTYPE` for itself where the locale is C; the program does not see it."""
    given = {"PATH": "/usr/bin:/bin", "KEYTURN_HOME": str(either.key_home), **locale}
    done = subprocess.run(
        [KEYTURN, "run", "--consumer", "worker", "--", "env"],
        cwd=either.folder,
        env=given,
        capture_output=True,
        text=True,
    )
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    session = OWN["SESSION_SECRET"].decode()
    assert {**given, "SESSION_SECRET": session, "KEYTURN_VERSIONS": "session=1"} == found


def test_a_setting_gives_way_and_a_secret_does_not(either):
    """What the caller set stays, where it is no secret."""
    result = either(
        "run", "--", "printenv", "PORT", "API_KEY", environ={"PORT": "9000", "API_KEY": "old"}
    )
    assert b"9000\n" + VALUES["api"] + b"\n" == result.out


def test_the_consumer_gets_its_own_only(either):
    """No secret of another consumer, and no setting where it wants none."""
    result = either("run", "--consumer", "worker", "--", "env")
    names = {line.partition(b"=")[0].decode() for line in result.out.splitlines()}
    assert {"SESSION_SECRET", "KEYTURN_VERSIONS"} == names & OWN.keys()


def test_an_unknown_consumer(either):
    """A mistyped consumer starts nothing; the near one is named."""
    result = either("run", "--consumer", "worke", "--", "true")
    assert 2 == result.code
    assert "worke" in result.text
    assert "worker" in result.text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--", "echo", "-e", "x", "--consumer", "y"], b"-e x --consumer y\n"),
        (["echo", "-e", "x", "--help"], b"-e x --help\n"),
        (["-e", "development", "echo", "-e", "production"], b"-e production\n"),
        (["echo", "a", "--", "b"], b"a -- b\n"),
        (["--", "echo", "--", "-q", "--json"], b"-- -q --json\n"),
        (["--", "echo", "", "a b", "\xff"], " a b \xff\n".encode()),
    ],
)
def test_the_program_s_options_are_its_own(words, expected, either):
    """Keyturn reads nothing behind the program's name, and eats none of it."""
    program = either.folder / "echo"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    program.chmod(0o755)
    words = ["./echo" if word == "echo" else word for word in words]
    result = either("run", *words)
    assert (0, expected) == (result.code, result.out)


def test_without_a_program(either):
    """Options alone start nothing, and say what is missing."""
    for words in (["run"], ["run", "--"], ["run", "-e", "development"]):
        result = either(*words)
        assert (2, b"") == (result.code, result.out)
        assert "missing argument 'PROGRAM...'" in result.text


STATUS = ("grep", "-E", "^(Sig(Blk|Ign|Cgt)|Umask|Groups|NoNewPrivs|Uid|Gid):", "/proc/self/status")


def test_signals_are_as_they_were(either):
    """Nothing is ignored, blocked or caught that was not; `SIGPIPE` ends the program again."""
    bare, through = both(either, *STATUS)
    assert bare == through
    assert 0 == bare[0]


def test_what_was_ignored_stays_ignored(either):
    """A program under `nohup`, or behind a shell's `&`, goes on ignoring its signals."""

    def ignoring():
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})

    bare, through = both(either, *STATUS, preexec_fn=ignoring)
    assert bare == through
    assert b"SigIgn:\t0000000000004007\n" in bare[1]
    assert b"SigBlk:\t0000000000000800\n" in bare[1]


def ignored(project, prefix, environment=""):
    """Return what a program ignores that *prefix* starts from a caller without SIGPIPE and SIGXFSZ."""
    script = f'{environment} exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *prefix, "grep", "SigIgn", "/proc/self/status"],
        cwd=project.folder,
        env=project.environ,
        preexec_fn=lambda: [signal.signal(n, signal.SIG_IGN) for n in PYTHON_S_OWN],
        # What `subprocess` restores is just what is asked about here.
        restore_signals=False,
        capture_output=True,
        check=True,
    )
    mask = int(done.stdout.split()[1], 16)
    return {number for number in signal.Signals if mask >> (number - 1) & 1}


PYTHON_S_OWN = {signal.SIGPIPE, signal.SIGXFSZ}


def test_what_python_ignores_itself_becomes_the_default(either):
    """Of these two nobody can know what the caller had: the guide says so, and what to do."""
    run = [KEYTURN, "run", "--"]
    assert PYTHON_S_OWN == ignored(either, [])
    assert set() == ignored(either, run)
    assert {signal.SIGPIPE} == ignored(either, [*run, "env", "--ignore-signal=PIPE"])


@pytest.mark.parametrize(
    ("pid", "kept"),
    [("$$", {signal.SIGPIPE}), ("$PPID", set()), ("1", set()), ("", set()), ("x", set())],
)
def test_started_by_systemd_sigpipe_stays_ignored(pid, kept, either):
    """It names the process that it starts, and ignores SIGPIPE for it; a later one is another."""
    run = [KEYTURN, "run", "--"]
    assert kept == ignored(either, run, f"SYSTEMD_EXEC_PID={pid}")
    default = [*run, "env", "--default-signal=PIPE"]
    assert set() == ignored(either, default, f"SYSTEMD_EXEC_PID={pid}")


def test_limits_are_as_they_were(either):
    """The limit on core files, which Keyturn takes down for itself, is the caller's again."""

    def limited():
        resource.setrlimit(resource.RLIMIT_NOFILE, (123, 456))
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    bare, through = both(either, "cat", "/proc/self/limits", preexec_fn=limited)
    assert bare == through


def test_no_core_limit_is_kept_at_none(either):
    """A caller that allows no core file finds the same in its program."""

    def limited():
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    bare, through = both(either, "grep", "core", "/proc/self/limits", preexec_fn=limited)
    assert bare == through


def test_umask_folder_and_root(either, tmp_path):
    """Where it stands and what files it makes."""
    inner = either.folder / "deep" / "er"
    inner.mkdir(parents=True)
    bare, through = both(
        either, "sh", "-c", "umask; pwd -P; readlink /proc/self/root", cwd=inner, umask=0o137
    )
    assert bare == through
    assert b"0137\n" in bare[1]


OPEN_FILES = """\
import os, stat, sys
for number in range(100):
    try:
        found = os.fstat(number)
    except OSError:
        continue
    pipe = stat.S_ISFIFO(found.st_mode)
    print(number, oct(found.st_mode), "pipe" if pipe else found.st_ino, os.get_inheritable(number))
print(os.read(int(sys.argv[1]), 100))
"""


def test_open_files_are_the_caller_s_and_no_other(either, tmp_path):
    """Inherited descriptors stay open at their numbers, and none of Keyturn's own is left."""
    (tmp_path / "file").write_bytes(b"once")
    found = []
    for prefix in ([], [KEYTURN, "run", "--"]):
        with (tmp_path / "file").open("rb", buffering=0) as file:
            number = file.fileno()
            done = subprocess.run(
                [*prefix, sys.executable, "-S", "-E", "-c", OPEN_FILES, str(number)],
                cwd=either.folder,
                env=either.environ,
                pass_fds=(number,),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
            )
            found.append(done.stdout)
            assert b"" == file.read()  # where the program read, the caller goes on
    assert found[0] == found[1]
    assert b"b'once'" in found[0]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_closed_on_the_short_way(closed, project):
    """A descriptor that was closed is not another file's in the program."""
    project.refresh()
    listing = project.folder / "listing"
    inner = f"ls /proc/$$/fd > {listing}"
    script = f"'{KEYTURN}' run -- sh -c '{inner}' {closed}"
    subprocess.run(["sh", "-c", script], cwd=project.folder, env=project.environ, check=True)
    through = listing.read_bytes()
    subprocess.run(["sh", "-c", f"sh -c '{inner}' {closed}"], check=True)
    assert listing.read_bytes() == through


def test_standard_input_is_untouched(either):
    """All that is piped in reaches the program, binary and all."""
    data = bytes(range(256)) * 4096
    result = either("run", "--", "cat", stdin=data)
    assert (0, data) == (result.code, result.out)


def test_nothing_is_said(either):
    """Both streams are the program's alone."""
    result = either("run", "--", "sh", "-c", "echo out; echo err >&2")
    assert (0, b"out\n", b"err\n") == (result.code, result.out, result.err)


# ---------------------------------------------------------------- processes and signals


def test_it_is_the_same_process(started):
    """No process stands between: the program has the id that the caller waits for."""
    process = started("sh", "-c", "echo $$ $PPID")
    out, _ = process.communicate(timeout=20)
    assert [process.pid, os.getpid()] == [int(word) for word in out.split()]


def test_every_signal_arrives_once(started):
    """Signals sent to the process reach the program, each once, in its turn."""
    with started(sys.executable, "-S", "-E", "-c", COUNTING) as process:
        lines = iter(process.stdout.readline, b"")
        assert [b"ready", str(process.pid).encode()] == next(lines).split()
        for name in ("SIGUSR1", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2", "SIGTERM"):
            process.send_signal(getattr(signal, name))
            assert name.encode() == next(lines).strip()
        process.kill()
        assert b"" == process.stdout.read()
    assert -signal.SIGKILL == process.returncode


def test_a_default_signal_ends_it_as_it_would(started):
    """A program that handles nothing is ended by the signal, and the caller sees which."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        with started("sh", "-c", "echo ready; exec sleep 60") as process:
            assert b"ready\n" == process.stdout.readline()
            process.send_signal(number)
            assert -number == process.wait(20)


def test_in_a_terminal(either):
    """It is the foreground group of its session, on a terminal of the size that it has."""
    script = (
        "tty >/dev/null && stty size; cut -d' ' -f 5-8 /proc/$$/stat; echo pid $$; "
        "test -t 0 && test -t 1 && test -t 2 && echo all three"
    )
    words = [KEYTURN, "run", "--", "sh", "-c", script]
    with Terminal(words, size=(33, 101), cwd=either.folder, env=either.environ) as terminal:
        assert 0 == terminal.finish()
    size, ids, pid, all_three = terminal.seen.splitlines()
    number = pid.removeprefix("pid ")
    group, session, _, foreground = ids.split()
    assert ("33 101", "all three") == (size, all_three)
    assert [str(terminal.process.pid)] * 4 == [number, group, session, foreground]


def test_ctrl_c_reaches_the_program_once(either):
    """What the person types interrupts the program, once; Keyturn says nothing."""
    words = [KEYTURN, "run", "--", sys.executable, "-S", "-E", "-c", COUNTING]
    with Terminal(words, cwd=either.folder, env=either.environ) as terminal:
        terminal.until("ready")
        terminal.type("\x03")
        terminal.until("SIGINT")
        terminal.type("\x1c")
        terminal.until("SIGQUIT")
        terminal.process.send_signal(signal.SIGTERM)
        terminal.until("SIGTERM")
        terminal.process.kill()
        assert -signal.SIGKILL == terminal.finish()
    assert 1 == terminal.seen.count("SIGINT")
    assert "interrupted" not in terminal.seen


def test_job_control_stops_and_goes_on(started):
    """Stopped and continued, it is the program that stops: nobody else holds the terminal."""
    with started(
        "sh", "-c", "echo ready; read line; echo got $line", stdin=subprocess.PIPE
    ) as process:
        assert b"ready\n" == process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        process.stdin.write(b"x\n")
        process.stdin.flush()
        assert b"got x\n" == process.stdout.readline()
        assert 0 == process.wait(20)


def may_unshare():
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True
    )
    return "" if done.returncode == 0 else "this machine lets nobody make a process namespace"


PID_1 = """\
import os, signal, time
child = os.fork()
if not child:
    if not os.fork():
        os._exit(7)  # an orphan, which process 1 inherits
    os._exit(3)
ended = sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2))
print(os.getpid(), ended, flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(42))
print("ready", flush=True)
signal.pause()
"""


def test_as_process_1(either):
    """As the first process of a container it reaps, and is signalled, as the bare program is."""
    reason = may_unshare()
    if reason:
        pytest.skip(reason)
    for prefix in ([], [KEYTURN, "run", "--"]):
        process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", *prefix]
            + [sys.executable, "-S", "-E", "-c", PID_1],
            cwd=either.folder,
            env=either.environ,
            stdout=subprocess.PIPE,
        )
        with process:
            assert b"1 [3, 7]\n" == process.stdout.readline()
            assert b"ready\n" == process.stdout.readline()
            children = f"/proc/{process.pid}/task/{process.pid}/children"
            with open(children) as file:
                os.kill(int(file.read()), signal.SIGTERM)
            assert 42 == process.wait(20)
