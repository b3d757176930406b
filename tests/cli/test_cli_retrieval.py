"""Transcripts of `test`: what is tried, what is reported, and what must be denied."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.projects import DEVELOPMENT, KEYTURN, VALUES, copied

OLD = b"test-tool-one-Aa1Bb2Cc3Dd4Ee5"
NEW = b"test-tool-two-Ff6Gg7Hh8Ii9Jj0"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

TOOL = """
[secrets.tool]
kind = "command"
variable = "TOOL_KEY"
[secrets.tool.target]
create = ["./tool", "create"]
status = ["./tool", "status"]
retire = ["./tool", "retire"]
"""
# Works with what stands in `accepted`; `mood` makes it fail in other ways.
PROGRAM = """\
#!/bin/sh
given=$(cat)
case "$(cat mood)" in down) exit 75 ;; hang) exec sleep 60 ;; esac
while read -r value; do
  case "$given" in *"$value"*) exit 0 ;; esac
done < accepted
exit 10
"""


def rows(result):
    """Return the cells of a table that was written to a pipe."""
    return [line.split("\t") for line in result.out.decode().splitlines()]


def checks(result, subject, check):
    """Return (result, detail) of the checks of one name."""
    return [(row[2], row[3]) for row in rows(result) if row[:2] == [subject, check]]


@pytest.fixture
def tool(project):
    """A project with a secret that a program of its own tries: two versions, the new one works."""
    program = project.folder / "tool"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    project.manifest.write_text(project.manifest.read_text() + TOOL)
    for value in (OLD, NEW):
        project.put("tool", value)

    def accepts(*values, mood=""):
        (project.folder / "accepted").write_bytes(b"".join(value + b"\n" for value in values))
        (project.folder / "mood").write_text(mood)

    accepts(NEW)
    return accepts


# ---------------------------------------------------------------- live, retired


def test_what_works_passes_and_what_is_ended_is_refused(tool, quick):
    """The value in use is tried, and so is the one before it."""
    result = quick("test", "tool")
    assert 0 == result.code, result.text
    assert [("pass", "accepted: by `status`")] == checks(result, "tool", "live")
    assert [("pass", "version 1: refused: by `status`")] == checks(result, "tool", "retired")


def test_an_old_version_that_works_is_a_failure(tool, quick):
    """It was to be ended when the new one came."""
    tool(OLD, NEW)
    result = quick("test", "tool")
    [(verdict, words)] = checks(result, "tool", "retired")
    assert (1, "fail") == (result.code, verdict)
    assert words.startswith("version 1 is no longer in use and still works")
    assert OLD not in result.out + result.err


def test_while_a_rotation_is_open_both_may_work(tool, quick):
    """So nothing is held against the old one."""
    tool(OLD, NEW, b"A")
    made = '{"value": "test-tool-three-Kk1Ll2Mm3Nn4"}'
    Path("tool").write_text(
        f"#!/bin/sh\ncat >/dev/null\n[ $1 = create ] && echo '{made}'\nexit 0\n"
    )
    assert 0 == quick("rotate", "tool").code
    [(verdict, words)] = checks(quick("test", "tool"), "tool", "retired")
    assert ("skipped", "version 2 may still work: a rotation is open") == (verdict, words)


def test_a_refused_value_fails_and_proves_nothing_of_the_old_one(tool, quick):
    """A target that refuses everything says nothing about what was ended."""
    tool()
    result = quick("test", "tool")
    assert 1 == result.code
    assert [("fail", "`status` says that the value does not work")] == checks(
        result, "tool", "live"
    )
    assert [] == checks(result, "tool", "retired")


def test_unreachable_is_a_failure_of_its_own(tool, quick):
    """Nothing was proven; the exit code tells it from a refusal, unless something else failed."""
    tool(mood="down")
    result = quick("test", "tool")
    [(verdict, words)] = checks(result, "tool", "live")
    assert (7, "fail") == (result.code, verdict)
    assert words.startswith("unreachable: ")
    quick("set", "session", "-", stdin=b"changeme")
    assert 1 == quick("test", "tool", "session").code


def test_one_that_hangs_does_not_hold_the_command(tool, quick):
    """Each has its time, and the others are told."""
    tool(mood="hang")
    result = quick("test", "tool", "api", "--timeout", "0.5")
    assert 7 == result.code
    assert [("fail", "unreachable: no answer within 0.5 s")] == checks(result, "tool", "live")
    assert [("pass", "-")] == checks(result, "api", "form")


def test_a_lone_administering_secret_does_not_matter(quick, project):
    """Trying needs the value alone; what would administer the target has none."""
    text = project.manifest.read_text().replace(
        "[secrets.db]",
        '[secrets.admin]\nkind = "guided"\nfields = { username = "", password = "" }\n[secrets.db]',
    )
    project.manifest.write_text(
        text
        + '[secrets.db.target]\nhost = "127.0.0.1"\nport = 1\ndatabase = "x"\nadmin = "admin"\n'
    )
    result = quick("test", "db")
    [(verdict, words)] = checks(result, "db", "live")
    assert (7, "fail") == (result.code, verdict), words
    assert "unreachable" in words


# ---------------------------------------------------------------- reports


def test_junit(tool, quick, project):
    """Counted, escaped, and of the form that both descriptions of it ask for."""
    tool(OLD, NEW)
    (project.folder / "run").mkdir()
    (project.folder / "run" / "backend.env").write_text("KEYTURN_VERSIONS='db=2'\n")
    result = quick("test", "--junit", "report.xml")
    assert 1 == result.code
    piped = quick("test", "--format", "junit").out
    for data in ((project.folder / "report.xml").read_bytes(), piped):
        root = ElementTree.fromstring(data)
        assert ("testsuites", {}) == (root.tag, root.attrib)
        [suite] = root
        assert ("development", "keyturn.clipper", "0") == tuple(
            map(suite.get, ("name", "package", "id"))
        )
        assert {"hostname", "timestamp", "time"} < set(suite.keys())
        assert [
            "properties",
            *["testcase"] * int(suite.get("tests")),
            "system-out",
            "system-err",
        ] == [part.tag for part in suite]
        cases = suite.findall("testcase")
        assert all(
            {"name", "classname", "time"} == set(case.keys()) and len(case) <= 1 for case in cases
        )
        for tag, total in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            found = [case for case in cases if case.find(tag) is not None]
            assert suite.get(total) == str(len(found))
            assert all(case.find(tag).get("message") for case in found)
        names = {(case.get("classname"), case.get("name")) for case in cases if len(case) == 0}
        assert ("clipper.development.tool", "live") in names
        failed = {
            (c.get("classname"), c.get("name")) for c in cases if c.find("failure") is not None
        }
        assert ("clipper.development.tool", "retired") in failed
        assert ("clipper.development.backend backend_env", "delivered") in failed
        assert not any(value in data for value in (OLD, NEW, VALUES["db.password"]))


def test_an_unreachable_target_is_a_junit_error(tool, quick):
    """Which CI systems show apart from a failure."""
    tool(mood="down")
    [suite] = ElementTree.fromstring(quick("test", "tool", "--format", "junit").out)
    assert ("0", "1") == (suite.get("failures"), suite.get("errors"))
    assert "unreachable" == suite.find("testcase/error").get("type")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--json", "--format", "junit"), 2, "ask for two things"),
        (("--format", "html"), 2, "html"),
        (("--live",), 2, "`--live` belongs to `--as-consumer`"),
        (("db", "--as-consumer", "backend"), 2, "leave out the names"),
        (("--as-consumer", "nobody"), 2, "no consumer `nobody`"),
        (("--consumer", "nobody"), 2, "no consumer `nobody`"),
        (("db", "--consumer", "worker"), 2, "`worker` is not given `db`"),
        (("--timeout", "0"), 2, "0"),
        (("--junit", "nowhere/x.xml"), 2, "`nowhere/x.xml` cannot be written"),
    ],
)
def test_refuses(words, code, message, quick):
    """What makes no sense together is said, and nothing is shown."""
    result = quick("test", *words)
    assert (code, b"") == (result.code, result.out)
    assert message in result.text


# ---------------------------------------------------------------- consumers


def test_of_one_consumer(quick):
    """What another one is given is left out, and so is its file."""
    result = quick("test", "--consumer", "worker")
    assert 0 == result.code
    assert {"session", "store"} == {row[0] for row in rows(result)}


def test_a_stale_copy_says_how_far_behind_it_is(quick, project):
    """By version, not by value."""
    quick("render")
    quick("set", "session", "-", stdin=b"test-session-after-rendering-1234")
    result = quick("test", "--consumer", "backend")
    [(verdict, words)] = checks(result, "backend backend.env", "delivered")
    assert (1, "fail") == (result.code, verdict)
    assert "content differs: it holds session=1 instead of 2" == words


@pytest.fixture
def backend(project):
    """A running consumer that says which versions it has, and a function that changes them."""
    says = {"status": 200, "body": b"{}"}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(says["status"])
            self.end_headers()
            self.wfile.write(says["body"])

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    project.manifest.write_text(
        project.manifest.read_text()
        + f'[consumers.worker.health]\nurl = "http://127.0.0.1:{server.server_port}/health"\n'
        'versions = "secrets"\ntimeout = "2s"\n'
    )
    yield says
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "code", "verdict", "words"),
    [
        (200, b'{"secrets": {"session": 1}}', 0, "pass", "status 200, versions session=1"),
        (200, b'{"secrets": {"session": 7}}', 1, "fail", "runs on session=7 instead of 1"),
        (200, b"{}", 1, "fail", "names no version at `secrets`"),
        (503, b"", 1, "fail", "answers 503"),
    ],
)
def test_health(status, body, code, verdict, words, backend, quick):
    """What runs is compared with what the store has."""
    backend.update(status=status, body=body)
    result = quick("test", "--consumer", "worker")
    assert (code, [(verdict, words)]) == (result.code, checks(result, "worker", "health"))


def test_a_consumer_that_does_not_answer_is_unreachable(quick, project):
    """Nothing listens there."""
    project.manifest.write_text(
        project.manifest.read_text()
        + '[consumers.worker.health]\nurl = "http://127.0.0.1:1/health"\n'
    )
    result = quick("test", "--consumer", "worker")
    assert 7 == result.code
    [(verdict, words)] = checks(result, "worker", "health")
    assert ("fail", True) == (verdict, words.startswith("unreachable: "))


# ---------------------------------------------------------------- denied, from outside


@pytest.mark.parametrize(
    ("place", "mode", "verdict"),
    [("state", 0o755, "fail"), ("keys", 0o750, "fail"), ("store", 0o644, "warn")],
)
def test_what_others_could_read_is_told(place, mode, verdict, quick, project):
    """A folder that is open is a failure; an open file in a closed one is a warning."""
    paths = {"state": project.state, "keys": project.keys, "store": project.state / "locator2"}
    if place == "store":
        paths[place].write_text("x")
    paths[place].chmod(mode)
    found = checks(quick("test"), "store", "denied")
    assert [verdict] == [result for result, _ in found]
    assert f"`{paths[place]}` has mode {mode:04o}" in found[0][1]


@pytest.fixture
def shared():
    """A project in a folder that every user of the machine can pass."""
    with tempfile.TemporaryDirectory(prefix="keyturn-test-") as name:
        Path(name).chmod(0o755)
        made = copied(Path(name))
        made.folder.chmod(0o755)
        yield made


def give_to_nobody(project):
    """Let the user `nobody` own the file of `backend`."""
    text = project.manifest.read_text().replace(
        'path = "run/backend.env"', f'path = "run/backend.env"\nowner = "{NOBODY}:{NOBODY}"'
    )
    project.manifest.write_text(
        text + '[consumers.worker.render]\npath = "run/worker.json"\nformat = "json"\n'
    )
    assert 0 == project("render").code


@as_root
def test_root_tries_as_the_consumer_s_user(shared):
    """It reads its own file and nothing else; what it can read besides is named."""
    give_to_nobody(shared)
    result = shared("test")
    assert 0 == result.code, result.out
    assert [("pass", f"reads its own `{shared.folder}/run/backend.env`")] == checks(
        result, "backend", "allowed"
    )
    assert [("pass", "6 refused, 0 not to be seen")] == checks(result, "backend", "denied")
    (shared.folder / "run" / "worker.json").chmod(0o644)
    (shared.folder / "run" / "backend.env").chmod(0o000)
    result = shared("test")
    [(verdict, words)] = checks(result, "backend", "denied")
    assert "fail" == verdict
    assert f"file of worker `{shared.folder}/run/worker.json`" in words
    [(verdict, words)] = checks(result, "backend", "allowed")
    assert ("fail", True) == (verdict, words.startswith("may not read its own"))


# ---------------------------------------------------------------- as the consumer


# Where the interpreter lies in a home of its own, nobody else can start it: so the same
# command is run once before, for what it imports, and then as the user.
AS_USER = """
import contextlib, io, os, sys
from keyturn.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    main(sys.argv[1:])
os.setgroups([]), os.setgid({user}), os.setuid({user})
sys.exit(main(sys.argv[1:]))
"""


def inside(project, *words, user=None, environ=None):
    """Run `keyturn test --as-consumer` as *user*, with nothing of the operator's environment."""
    start = [KEYTURN]
    if user is not None:
        start = [sys.executable, "-c", AS_USER.format(user=user), "keyturn"]
    return subprocess.run(
        [*start, "test", "--as-consumer", "backend", *words],
        cwd=project.folder,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(environ or {})},
        capture_output=True,
        timeout=60,
    )


class Seen:
    """The result of `inside`, in the form that `rows` takes."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr


GIVEN = {
    "SESSION_SECRET": VALUES["session"].decode(),
    "API_KEY": VALUES["api"].decode(),
    "DB_USER": VALUES["db.username"].decode(),
    "DB_PASSWORD": VALUES["db.password"].decode(),
}


@as_root
def test_as_the_consumer_all_is_well(shared):
    """Its file is read by its own user, nothing else is, and neither store nor key was needed."""
    give_to_nobody(shared)
    seen = Seen(inside(shared, user=NOBODY))
    assert 0 == seen.code, seen.out + seen.err
    assert [("pass", "SESSION_SECRET")] == checks(seen, "session", "present")
    denied = {row[0]: row[2] for row in rows(seen) if row[1] == "denied"}
    assert {"store", "bundles", "read log", "locator", "keys", "file of worker"} < denied.keys()
    assert {"pass"} == set(denied.values())
    assert not any(
        value in seen.out + seen.err for name, value in VALUES.items() if name != "db.username"
    )
    assert [] == shared.actions(action="secret.value.probe")


@as_root
def test_as_the_consumer_what_must_be_denied_is_tried(shared):
    """Rights are not reckoned: what opens is a failure."""
    give_to_nobody(shared)
    shared.state.chmod(0o755)
    (shared.state / "store.db").chmod(0o644)
    (shared.folder / "run" / "worker.json").chmod(0o644)
    seen = Seen(inside(shared, user=NOBODY))
    failed = {row[0] for row in rows(seen) if row[2] == "fail"}
    assert (1, {"store", "file of worker"}) == (seen.code, failed)


@as_root
def test_as_the_consumer_its_own_file_must_be_readable(shared):
    """A file that it cannot open fails, and so does every value in it."""
    give_to_nobody(shared)
    os.chown(shared.folder / "run" / "backend.env", 0, 0)
    seen = Seen(inside(shared, user=NOBODY))
    assert 1 == seen.code
    assert [("fail", "its own file: Permission denied")] == checks(
        seen, "backend backend.env", "delivered"
    )
    assert [("fail", "API_KEY neither in the environment nor in a file")] == checks(
        seen, "api", "present"
    )


def test_as_the_consumer_by_environment_alone(project):
    """In a container there may be no file, no store and no key at all."""
    for path in (project.state, project.key_home):
        path.rename(path.with_name(f"{path.name}-away"))
    seen = Seen(inside(project, environ=GIVEN))
    assert 0 == seen.code, seen.out
    assert {"pass", "skipped"} == {row[2] for row in rows(seen)}
    environ = {**GIVEN, "API_KEY": "changeme"}
    del environ["DB_PASSWORD"]
    seen = Seen(inside(project, environ=environ))
    failed = {(row[0], row[1]) for row in rows(seen) if row[2] == "fail"}
    assert (1, {("api", "form"), ("db", "present")}) == (
        seen.code,
        failed - {("backend backend.env", "delivered")},
    )
    assert b"changeme" not in seen.out + seen.err


def test_as_the_consumer_a_secret_file_by_its_variable(project):
    """`NAME_FILE` names a file, as a container's secrets are handed over."""
    secret = project.folder / "db_password"
    secret.write_bytes(VALUES["db.password"] + b"\n")
    secret.chmod(0o440)
    environ = {**GIVEN, "DB_PASSWORD_FILE": str(secret)}
    del environ["DB_PASSWORD"]
    seen = Seen(inside(project, environ=environ))
    assert [("pass", "DB_USER, DB_PASSWORD")] == checks(seen, "db", "present")
    assert [("pass", "mode 0440")] == checks(seen, "backend db_password", "denied")
    secret.chmod(0o444)
    seen = Seen(inside(project, environ=environ))
    assert [("fail", "mode 0444 lets everybody have it")] == checks(
        seen, "backend db_password", "denied"
    )


def test_as_the_consumer_an_environment_older_than_the_file(project):
    """The process was not started again after a rotation."""
    assert 0 == project("render").code
    seen = Seen(inside(project, environ={**GIVEN, "API_KEY": "test-api-of-last-month-9876543"}))
    [(verdict, words)] = checks(seen, "backend environment", "fresh")
    assert ("fail", True) == (verdict, words.startswith("the file holds other values"))
    assert "API_KEY" in words
    assert "SESSION_SECRET" not in words


def test_as_the_consumer_values_are_tried_on_demand(tool, project):
    """With `--live`, by what the process has, wherever that came from."""
    text = project.manifest.read_text()
    project.manifest.write_text(text.replace('"api", "db"]', '"api", "db", "tool"]'))
    for value, verdict in ((NEW, "pass"), (OLD, "fail")):
        environ = {**GIVEN, "TOOL_KEY": value.decode()}
        assert [] == checks(Seen(inside(project, environ=environ)), "tool", "live")
        seen = Seen(inside(project, "--live", environ=environ))
        assert [verdict] == [result for result, _ in checks(seen, "tool", "live")]
        assert value not in seen.out + seen.err


def test_the_use_is_recorded_before_it_is_made(quick, project):
    """With the consumer it was made for."""
    quick("test", "--consumer", "worker")
    [record] = project.actions(action="secret.value.probe")
    assert (str(DEVELOPMENT), {"consumer": "worker"}) == (record["object"], record["detail"])
    assert "done" == record["outcome"]
