"""
A value is in the store, the sealed bundle, the program and the rendered file; and nowhere else.

Each way in has a value of its own. Every verb is run to success and to failure, with
`-v`, and then everything that was printed, written or shown in a process list is
searched for each of them in every usual disguise.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import sqlite3
import subprocess
import time
from dataclasses import dataclass, field, replace

import pytest

from keyturn.crypto import new_identity, recipient
from tests.cli import projects
from tests.cli.canaries import Canary, Search, Watch
from tests.cli.projects import KEYTURN, MANIFEST, Project
from tests.cli.terminal import Terminal

MORE = """
[secrets.db-admin]
kind = "postgres-login"
fields = { username = "", password = "" }

[secrets.odd]
kind = "guided"
variable = "ODD"
required = false
only = ["development"]
"""
# A port that nobody listens on: the login is tried, and refused by the system.
TARGET = """
[secrets.db.target]
host = "127.0.0.1"
port = "1"
database = "clipper"
sslmode = "disable"
admin = "db-admin"
owner_role = "clipper"
"""


@dataclass
class Story:
    """What was done with a project, and all that was seen of it."""

    project: Project
    root: object
    canaries: list = field(default_factory=list)
    printed: list = field(default_factory=list)
    allowed: set = field(default_factory=set)
    watched: list = field(default_factory=list)
    left: list = field(default_factory=list)

    def __post_init__(self):
        self.search = Search(self.canaries, self.root, allowed=self.allowed)

    def canary(self, channel, value=None):
        """Return a new one."""
        self.canaries.append(Canary(channel, value))
        return self.canaries[-1].value

    def run(self, *words, stdin=b"", shows=False, environ=None):
        """Run a command; note what it printed, unless to print is its purpose, and what it left."""
        with Watch(self.canaries) as watch:
            result = self.project(*words, stdin=stdin, environ=environ)
        label = " ".join(words)
        out = b"" if shows else result.out
        self.printed.append((label, out + result.err))
        self.watched.append((label, watch))
        self.left += [f"after `{label}`: {where}" for where in self.search()]
        assert "fault in Keyturn" not in result.text, result.text
        return result


def value_of(story, name):
    """Learn a value that Keyturn made, as a program would, and count it as a canary."""
    value = story.run("get", name, "-q", shows=True).out
    return story.canary(f"generated {name}", value)


def told(root):
    """Run every verb to success and to failure on a project below *root*."""
    for name in ("home", "tmp", "project"):
        (root / name).mkdir()
    project = Project(
        root / "project",
        root / "keys",
        {"HOME": str(root / "home"), "TMPDIR": str(root / "tmp")},
    )
    project.manifest.write_text(MANIFEST + MORE + TARGET, encoding="utf-8")
    story = Story(project, root)
    come_in(story)
    go_around(story)
    keep(story)
    fail(story)
    go_out(story)
    return story


def come_in(story):
    """Every way in."""
    story.run("init", "-v")
    imported = story.canary("imported")
    source = story.project.folder / ".env"
    story.allowed.add(source)
    quoted = imported.replace(b'"', b'\\"').replace(b"$", b"\\$")
    source.write_bytes(b'API_KEY="' + quoted + b'"\nSTRANGER=' + story.canary("stranger")[10:])
    assert 0 == story.run("import", ".env", "-v").code
    assert imported == story.run("get", "api", shows=True).out
    file = story.project.folder / "file"
    story.allowed.add(file)
    file.write_bytes(story.canary("file"))
    story.run("set", "odd", "--from-file", "file", "-v")
    story.run("set", "db.username", "-", stdin=b"clipper_a")
    story.run("set", "db.password", "-", "-v", stdin=story.canary("standard input"))
    story.run("set", "db-admin.username", "-", stdin=b"clipper_admin")
    story.run("set", "db-admin.password", "-", "-v", stdin=story.canary("administrator"))
    typed = story.canary("typed")
    words = [KEYTURN, "set", "odd", "-v"]
    with Terminal(words, cwd=story.project.folder, env=story.project.environ) as terminal:
        for _ in range(2):
            terminal.until(": ")
            terminal.type(typed.decode() + "\n")
        assert 0 == terminal.finish()
    story.printed.append(("set at a terminal", terminal.seen.encode()))
    story.run("generate", "session", "token", "-v")
    for name in ("session", "token"):
        value_of(story, name)


def go_around(story):
    """Every verb that succeeds without showing a value."""
    for words in (
        ("run", "--", "true"),
        ("run", "-v", "--consumer", "backend", "--", "true"),
        ("list", "-v"),
        ("list", "--json"),
        ("history", "api", "-v"),
        ("history", "db", "--json"),
        ("get", "api", "--json"),
        ("status", "-v"),
        ("status", "--json"),
        ("test", "-v"),
        ("test", "--json"),
        ("rotate", "token", "--dry-run", "-v"),
        ("rotate", "db", "--dry-run", "-v"),
        ("rotate", "token", "--now", "-v"),
    ):
        story.run(*words)
    value_of(story, "token")
    story.run("rotate", "root-key", "-v")
    story.run("rotate", "data-key", "-v")
    story.run("set", "odd", "-", stdin=story.canary("second version"))
    story.run("rollback", "odd", "-v")
    story.run("completion", "bash")
    story.run("help", "environment")
    for name in ("API_KEY", "DB_PASSWORD"):
        story.run("run", "--", "printenv", name, shows=True)


def keep(story):
    """Sealed for others, rehearsed, and brought back on a machine that has nothing."""
    folder = story.root / "machine"
    folder.mkdir()
    identity = new_identity()
    key = folder / "key.txt"
    key.write_bytes(identity.reveal())
    story.allowed.add(key)
    story.canary("identity", identity.reveal()[-40:])
    file = str(folder / "b.age")
    write = ("backup", "--to", file, "--recipient", recipient(identity), "--replace", "-v")
    read = ("restore", file, "--identity", str(key), "-v")
    assert 0 == story.run(*write, "--with-audit").code
    for words in (
        (*write, "--json"),
        (*read, "--list"),
        (*read, "--list", "--json"),
        (*read, "--rehearse"),
        (*read, "--dry-run"),
        (*read, "--overwrite", "odd"),
    ):
        assert 0 == story.run(*words).code
    for point in ("backup.write:full", "backup.rename", "backup.rename:error"):
        story.run(*write, environ={"KEYTURN_FAILPOINT": point})
    for point in ("rehearsal.filled", "database.commit:full"):
        story.run(*read, "--rehearse", environ={"KEYTURN_FAILPOINT": point})
    piped = story.run("backup", "--to", "-", "--recipient", recipient(identity), "-v")
    assert piped.out.startswith(b"age-encryption.org/v1")
    new = replace(story.project, folder=folder / "project", key_home=folder / "keys")
    new.folder.mkdir()
    old, story.project = story.project, new
    for point in ("restore.batch", "database.commit:full", "restore.batched"):
        story.run(*read, environ={"KEYTURN_FAILPOINT": point})
    assert 0 == story.run(*read).code
    story.run("run", "--", "true", "-v")
    story.project = old
    data = (folder / "b.age").read_bytes()
    (folder / "b.age").write_bytes(data[:-20])
    story.run(*read)
    (folder / "b.age").write_bytes(data[:200] + b"x" + data[201:])
    story.run(*read, "--rehearse")


def fail(story):
    """Every verb that fails while it holds a value, or near one."""
    nul = story.canary("with a NUL") + b"\0"
    for words, stdin in (
        (("rotate", "db", "--now", "-v"), b""),
        (("rotate", "--resume", "-v"), b""),
        (("rotate", "db", "--abandon", "-v"), b""),
        (("test", "db", "-v"), b""),
        (("generate", "session", "-v"), b""),
        (("import", ".env", "-e", "production", "-v"), b""),
        (("import", "file", "-v"), b""),
        (("set", "nowhere", "-", "-v"), story.canary("of an unknown name")),
        (("set", "api", "-", "-e", "production", "-v"), story.canary("without a reason")),
        (("set", "odd", "-", "-v"), nul),
        (("run", "-v", "--", "true"), b""),
        (("run", "--", "true"), b""),
        (("get", "odd", "--json", "--reveal", "-v"), b""),
        (("set", "odd", "-", "-v"), b"\xff" + story.canary("that is no text")),
        (("get", "odd", "--json", "--reveal", "-v"), b""),
        (("get", "odd", "--stage", "pending", "-v"), b""),
        (("rollback", "api", "--to", "9", "-v"), b""),
        (("render", "--consumer", "nobody", "-v"), b""),
        (("run", "-v", "--", "no-such-program"), b""),
        (("audit", "verify", "file", "-v"), b""),
    ):
        story.run(*words, stdin=stdin, shows=words[:1] == ("get",))
    for point in ("bundle.invalidated:error", "bundle.write:full", "database.commit:full"):
        story.run(
            "set", "odd", "-", "-v", stdin=story.canary(point), environ={"KEYTURN_FAILPOINT": point}
        )
    for point in ("database.commit", "database.committed", "bundle.written"):
        story.run(
            "set", "odd", "-", stdin=story.canary(point), environ={"KEYTURN_FAILPOINT": point}
        )
    # The target stands in the way.
    (story.project.folder / "run").write_text("no folder")
    story.run("render", "-v")
    (story.project.folder / "run").unlink()


def go_out(story):
    """What may hold values, and what only tells of them."""
    rendered = story.project.folder / "run" / "backend.env"
    story.allowed.add(rendered)
    assert 0 == story.run("render", "-v").code
    story.run("render", "--check", "-v")
    rendered.write_text("stale")
    story.run("render", "--check", "--json", "-v")
    story.run("test", "-v")
    story.run("audit", "log", "--limit", "1000", "-v")
    story.run("audit", "log", "--limit", "1000", "--json")
    assert 0 == story.run("audit", "export", "export.jsonl", "-v").code
    story.run("audit", "verify", "-v")
    story.run("doctor", "-v")
    database = story.project.state / "store.db"
    database.write_bytes(database.read_bytes()[:-4096])
    story.run("doctor", "-v")
    story.run("get", "api", "-v", "--json")


def test_the_search_finds_what_is_there():
    """Every disguise is recognised, or an empty answer would say nothing."""
    import base64
    import gzip
    import json
    import shlex
    import urllib.parse

    canary = Canary("self")
    text = canary.value.decode()
    disguised = {
        "raw": canary.value,
        "hex": canary.value.hex().encode(),
        "url": urllib.parse.quote(text).encode(),
        "json": json.dumps(text).encode(),
        "shell": shlex.quote(text).encode(),
        "utf-16": text.encode("utf-16"),
        "gzip": b"before" + gzip.compress(canary.value) + b"after",
        **{f"base64 {n}": base64.b64encode(b"." * n + canary.value) for n in range(3)},
    }
    assert [] == [name for name, data in disguised.items() if not canary.is_in(b"<" + data + b">")]
    assert not canary.is_in(Canary("other").value)


def test_it_is_nowhere_else(tmp_path):
    """Neither printed, nor in a process list, nor in any file at any time; but where it belongs."""
    story = told(tmp_path)
    # Outputs and tracebacks of all commands but those whose purpose it is to show a value.
    assert [] == [
        f"{canary.channel}: `{label}`"
        for label, data in story.printed
        for canary in story.canaries
        if canary.is_in(data)
    ]
    # Command lines of every process that ran meanwhile, programs of Keyturn's included.
    assert [] == sorted({where for _, watch in story.watched for where in watch.seen})
    # Store, its log and shared memory, bundles, keys, audit, exports, temporaries, home: after
    # each command, and those that were learnt later in what was left in the end.
    assert [] == story.left
    assert [] == Search(story.canaries, tmp_path, allowed=story.allowed)()
    # And the search did search.
    assert len(story.printed) > 60
    assert any(b'File "' in data for _, data in story.printed)
    assert sum(watch.reads for _, watch in story.watched) > 100
    assert Search(story.canaries, tmp_path)()


def test_a_passphrase_is_nowhere(tmp_path):
    """It is typed, stretched and forgotten, whether it is right or wrong."""
    place = Project(tmp_path / "project", tmp_path / "keys", {"HOME": str(tmp_path)})
    place.folder.mkdir()
    right, wrong, new = Canary("right"), Canary("wrong"), Canary("new")
    canaries = [right, wrong, new]
    search = Search(canaries, tmp_path)
    printed = b""
    for words, answers, code in (
        (("init", "--passphrase", "-v"), (right, right), 0),
        (("list", "-v"), (right,), 0),
        (("list", "-v"), (wrong,), 4),
        (("doctor", "-v"), (wrong,), 4),
        (("rotate", "root-key", "--passphrase", "-v"), (right, new, new), 0),
        (("audit", "log", "-v"), (new,), 0),
        (("rotate", "root-key", "-v"), (new,), 0),
    ):
        with Watch(canaries) as watch:
            command = [KEYTURN, *words]
            with Terminal(command, cwd=place.folder, env=place.environ) as terminal:
                for canary in answers:
                    terminal.until(": ")
                    terminal.type(canary.value.decode() + "\n")
                assert code == terminal.finish(), terminal.seen
        printed += terminal.seen.encode()
        assert set() == watch.seen
        assert [] == search()
    assert [] == [canary.channel for canary in canaries if canary.is_in(printed)]


# ---------------------------------------------------------------- core dumps


def unlimited():
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def core_limit(pid):
    with open(f"/proc/{pid}/limits") as file:
        return next(line for line in file if line.startswith("Max core file size")).split()[4]


def wait_until(condition, what):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@contextlib.contextmanager
def killed_after(process):
    """Leave no process behind, whatever the test found."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV])
@pytest.mark.parametrize("way", ["short", "long"])
def test_a_crash_leaves_no_core_file(way, number, tmp_path):
    """A process that holds values and dies of a fault leaves no picture of its memory."""
    project = replace(projects.copied(tmp_path), environment={"TMPDIR": str(tmp_path)})
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("core files are not allowed here at all")
    if way == "short":
        project.refresh()
    log = (project.state / "audit" / "reads.log").open("rb")
    fcntl.flock(log, fcntl.LOCK_EX)
    held = sqlite3.connect(project.state / "store.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    words = ["run", "--", "true"] if way == "short" else ["set", "session", "-"]
    process = subprocess.Popen(
        [KEYTURN, *words],
        cwd=project.folder,
        env=project.environ,
        stdin=subprocess.PIPE,
        preexec_fn=unlimited,
    )
    with killed_after(process):
        process.stdin.write(Canary("core").value)
        process.stdin.close()
        # By now it waits for a lock: of the read log, or of the database.
        wait_until(
            lambda: "1" == core_limit(process.pid), "the limit is set before values are read"
        )
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(number)
        assert -number == process.wait(20)
    held.close()
    log.close()
    assert [] == [path for path in tmp_path.rglob("*core*") if path.is_file()]


def test_the_limit_stands_while_a_value_is_typed(project):
    """Before a prompt is answered, and before a file is read."""
    with Terminal(
        [KEYTURN, "set", "api"],
        cwd=project.folder,
        env=project.environ,
        preexec_fn=unlimited,
    ) as terminal:
        terminal.until("api.value: ")
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        assert ("1" if hard else "0") == core_limit(terminal.process.pid)
    os.mkfifo(project.folder / "pipe", 0o600)
    with killed_after(
        subprocess.Popen(
            [KEYTURN, "import", "pipe"],
            cwd=project.folder,
            env=project.environ,
            preexec_fn=unlimited,
        )
    ) as process:
        wait_until(
            lambda: core_limit(process.pid) in {"0", "1"}, "it is set before the file is read"
        )
