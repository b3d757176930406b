"""Transcripts of `render`, `rotate`, `status`, `test`, `audit` and `doctor`."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.cli.projects import VALUES

TOKEN = b"test-token-Pp0Oo9Ii8Uu7Yy6Tt5Rr4"
NOT_TRIED = "not tried: there is nobody to ask; its form was looked at"


def rows(result):
    """Return the cells of a table that was written to a pipe."""
    return [line.split("\t") for line in result.out.decode().splitlines()]


# ---------------------------------------------------------------- render


def test_render_writes_and_checks(quick, project):
    """The file is written once, and `--check` tells whether it is still what it would be."""
    path = project.folder / "run" / "backend.env"
    assert 1 == quick("render", "--check").code
    result = quick("render")
    assert (0, b"", f"backend: {path} written\n") == (result.code, result.out, result.text)
    assert 0o600 == path.stat().st_mode & 0o777
    assert b"DB_PASSWORD=" + VALUES["db.password"] in path.read_bytes()
    checked = quick("render", "--check")
    assert (0, [["backend", str(path), "current", "-"]]) == (checked.code, rows(checked))
    quick("set", "session", "-", stdin=b"test-session-after-rendering-1234")
    checked = quick("render", "--check")
    assert (1, "stale") == (checked.code, rows(checked)[0][2])
    path.chmod(0o644)
    assert "mode is 0644 instead of 0600" in quick("render", "--check").out.decode()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--consumer", "worker"), 3, "no consumer has a `[consumers.NAME.render]` section"),
        (("--consumer", "worker", "--check"), 3, "no consumer has a"),
        (("--consumer", "nobody"), 2, "nobody"),
        (("-e", "production"), 1, "4 required values are missing in `production` for `backend`"),
        (("-e", "production", "--check"), 1, "4 required values are missing"),
    ],
)
def test_render_of_nothing(words, code, message, quick, project):
    """Nothing to write is not the same as written."""
    result = quick("render", *words)
    assert (code, b"") == (result.code, result.out)
    assert message in result.text
    assert not (project.folder / "run").exists()


def test_a_render_that_failed_is_settled(quick, project):
    """The record says that it failed, so that nothing is taken for half-done."""
    result = project("render", environ={"KEYTURN_FAILPOINT": "deliver.write:full"})
    assert 1 == result.code
    assert "run/backend.env`" in result.text
    outcomes = [r["outcome"] for r in project.actions(action="consumer.file.render")]
    assert ["begun", "failed"] == outcomes
    assert "nothing was left half-done" in quick("doctor").out.decode()


def test_a_render_that_is_refused_is_recorded(quick, project):
    """Before anything was begun: one record, which says why."""
    (project.folder / "run").write_text("a file in the folder's place")
    result = quick("render")
    assert 1 == result.code
    assert "run/backend.env`" in result.text
    [record] = project.actions(action="consumer.file.render")
    assert ("failed", "delivery.path") == (record["outcome"], record["detail"]["error"])
    assert "nothing was left half-done" in quick("doctor").out.decode()


def test_a_render_that_was_killed_is_told_of_and_mended(quick, project):
    """`doctor` names what was begun; writing it again leaves one file, whole."""
    done = project("render", environ={"KEYTURN_FAILPOINT": "deliver.rename"})
    assert -signal.SIGKILL == done.code
    assert "`consumer.file.render` of `development/backend` was begun" in (
        quick("doctor").out.decode()
    )
    assert 0 == quick("render").code
    assert ["backend.env"] == os.listdir(project.folder / "run")
    assert "nothing was left half-done" in quick("doctor").out.decode()


# ---------------------------------------------------------------- rotate


@pytest.fixture
def token(project):
    """A project with a value that only our own programs know."""
    project.put("token", TOKEN)
    return project


def test_rotate_shows_each_step(token, quick):
    """Steps and their times on standard error; at the end which version is in use."""
    result = quick("rotate", "token", "--now")
    assert (0, b"") == (result.code, result.out)
    lines = result.text.splitlines()
    steps = [line.split()[1] for line in lines if line.startswith("  ✓")]
    assert ["create", "promote"] == [step for step in steps if step in {"create", "promote"}]
    assert re.fullmatch(r"  ✓ create +\d+ ms.*", lines[0] if "create" in lines[0] else lines[1])
    assert "development/token: version 2 is in use, rotation done" == lines[-1]
    new = quick("get", "token").out
    assert TOKEN != new
    assert new not in result.err


def test_rotate_with_grace_waits_and_is_resumed(token, quick):
    """The command ends when both are valid; the way to the end is said, and taken by `--resume`."""
    result = quick("rotate", "token", "-q")
    assert re.fullmatch(
        r"development/token: version 2 is in use; the old one stays valid until \S+Z, then "
        r"`keyturn rotate --resume token -e development` ends it; until then "
        r"`keyturn rollback token -e development` goes back to it\n",
        result.text,
    )
    assert "a rotation is open at step `grace`" in quick("status").text
    for words in (("set", "token", "-"), ("rotate", "token")):
        refused = quick(*words, stdin=TOKEN)
        assert (5, b"") == (refused.code, refused.out)
        assert "hint: " in refused.text
    assert 0 == quick("rotate", "--resume", "--now").code
    assert "done" in rows(quick("status"))[3][6]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "error: name the secret to rotate"),
        (("nowhere",), 2, "`nowhere`"),
        (("api",), 0, "a person is needed at `create`"),
        (("--all", "db"), 2, "error: `--all` takes no name"),
        (("token", "--priority", "low"), 2, "error: `--priority` belongs to `--all`"),
        (("token", "--rehearse"), 2, "cannot be rehearsed"),
        (("db",), 2, "error: the manifest does not say enough of what `db` opens"),
        (("db", "--dry-run"), 2, "error: the manifest does not say enough of what `db` opens"),
        (("token", "--resume"), 2, "error: no rotation of `development/token` is open"),
        (("--resume",), 0, "no rotation is open"),
        (("root-key", "--dry-run"), 0, "the root key is replaced"),
        (("data-key", "--dry-run"), 0, "every value is sealed again"),
        (("root-key", "--passphrase"), 2, "there is no terminal"),
    ],
)
def test_rotate_refuses(words, code, message, token, quick):
    """What cannot be rotated is named, with what can be done; nothing is touched."""
    result = quick("rotate", *words)
    assert (code, b"") == (result.code, result.out)
    assert message in result.text
    assert TOKEN == quick("get", "token").out


def test_rotate_dry_run_is_a_plan(token, quick):
    """Steps and what each would do; no version is made."""
    result = quick("rotate", "token", "--dry-run")
    assert (0, "nothing was touched\n") == (result.code, result.text)
    assert ["create", "apply", "check", "promote", "deliver", "grace", "retire", "prove"] == [
        row[0] for row in rows(result)
    ]
    assert 1 == len(quick("history", "token", "--json").json())


@pytest.mark.parametrize("key", ["root-key", "data-key"])
def test_rotate_keyturn_s_own_keys(key, quick, project):
    """Every value reads back afterwards, by both ways, and the log says what was done."""
    assert 0 == project("run", "--", "true").code
    before = (project.keys / "root.key").read_bytes()
    result = quick("rotate", key)
    assert (0, b"") == (result.code, result.out)
    assert (key == "data-key") == (before == (project.keys / "root.key").read_bytes())
    for _ in range(2):
        shown = project("run", "--", "printenv", "DB_PASSWORD")
        assert VALUES["db.password"] + b"\n" == shown.out
    assert 0 == quick("doctor").code
    assert [] != project.actions(action=f"key.{key.partition('-')[0]}.rotate", outcome="done")


# ---------------------------------------------------------------- status, test


def test_status(quick):
    """One line a secret: how old, when due, what became of its last rotation, who uses it."""
    result = quick("status")
    assert (0, b"") == (result.code, result.err)
    assert [
        ["session", "session-secret", "1", "ok", "never", "backend, worker"],
        ["api", "guided", "1", "ok", "never", "backend"],
        ["db", "postgres-login", "2", "ok", "never", "backend"],
        ["token", "generated", "-", "optional", "never", "-"],
    ] == [[*row[:3], *row[5:]] for row in rows(result)]
    # Up to a twentieth before the 90 days are over, so that they do not all come at once.
    assert {"85d", "86d", "87d", "88d", "89d"} >= {row[4] for row in rows(result)[:3]}


def test_status_of_an_environment_without_values(quick):
    """What is required and absent is missing."""
    states = [row[5] for row in rows(quick("status", "-e", "production"))]
    assert ["missing", "missing", "missing", "optional"] == states


def test_test_passes_and_tells_what_it_could_not_look_at(quick):
    """Skipped is shown with its reason and never counts as passed."""
    result = quick("test")
    found = rows(result)
    assert 1 == result.code  # the file that `backend` reads was never written
    assert ["backend backend.env", "delivered", "fail", "is absent"] in found
    assert ["session", "live", "skipped", NOT_TRIED] in found
    [why] = [row[3] for row in found if row[:3] == ["db", "live", "skipped"]]
    assert "no target to try it on; describe `[secrets.db.target]` in keyturn.toml: `host`" in why
    assert re.search(r"\d+ passed, 1 failed, \d+ warnings, \d+ skipped\n$", result.text)
    quick("render")
    assert 0 == quick("test").code


def test_test_goes_on_after_a_failure(quick):
    """A weak value, a placeholder and a missing one are all told in one run."""
    quick("set", "session", "-", stdin=b"changeme")
    quick("set", "api", "-", stdin=b"your-api-key-here")
    result = quick("test", "session", "api", "token")
    assert 1 == result.code
    failed = {(row[0], row[1]) for row in rows(result) if row[2] == "fail"}
    assert {("session", "form"), ("api", "form")} == failed
    assert ["token", "present", "skipped", "no value; optional"] in rows(result)
    assert b"changeme" not in result.out + result.err


def test_test_of_nothing_is_not_a_success(quick):
    """Where all was skipped, the exit code says that nothing was checked."""
    result = quick("test", "token")
    assert 3 == result.code
    assert "0 passed, 0 failed, 0 warnings, 1 skipped\n" == result.text
    assert 2 == quick("test", "nowhere").code


# ---------------------------------------------------------------- audit


def test_audit_log_shows_chain_and_read_log_as_one(quick, project):
    """Newest first; filters apply to both."""
    quick("get", "api", "--stage", "current")
    assert 0 == project("run", "--consumer", "worker", "--", "true").code
    assert 0 == project("run", "--consumer", "worker", "--", "true").code
    delivered = rows(quick("audit", "log", "--action", "environment.*"))
    assert ["segment/1:1", "environment.value.deliver", "done"] == [
        delivered[0][0],
        delivered[0][3],
        delivered[0][5],
    ]
    assert "versions=session=1 consumer=worker command=true" == delivered[0][6]
    assert 2 == len(delivered)
    read = rows(quick("audit", "log", "--action", "secret.value.read", "--object", "*/api"))
    assert ["development/api", "done", "field=value version=1"] == read[0][4:]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--since", "1x"), 2, "`--since` is neither a time nor an age"),
        (("--since", "9" * 30 + "d"), 2, "`--since` is neither a time nor an age"),
        (("--since", "²d"), 2, "`--since` is neither a time nor an age"),
        (("--until", "yesterday"), 2, "`--until` is neither a time nor an age"),
        (("--outcome", "fine"), 2, "the outcome is not known"),
        (("--limit", "0"), 2, "0"),
        (("--actor", "nobody-of-that-name"), 0, "no record matches"),
        (("--until", "9999d"), 0, "no record matches"),
        (("--since", "2026-01-31T12:00:00Z", "--action", "x.*"), 0, "no record matches"),
    ],
)
def test_audit_log_filters(words, code, message, quick):
    """A filter that makes no sense is refused; one that matches nothing says so."""
    result = quick("audit", "log", *words)
    assert (code, b"") == (result.code, result.out)
    assert message in result.text


def test_audit_verify(quick):
    """What was verified, in numbers, and the key that signs."""
    result = quick("audit", "verify")
    assert 0 == result.code
    assert re.fullmatch(
        r"verified: \d+ records, head [0-9a-f]{16}\n"
        r"checkpoints: \d+, signed up to \d+\n"
        r"read log: 0 lines in 1 segments\n",
        result.out.decode(),
    )
    assert re.fullmatch(r"public key of the checkpoints: [0-9a-f]{64}\n", result.text)


def test_audit_export_is_verified_elsewhere(quick, project):
    """The file is verified without a project, by the key that was told; a wrong key is refused."""
    quick("get", "api")
    result = quick("audit", "export", "log.jsonl")
    assert (0, b"") == (result.code, result.out)
    key = re.search(r"--public-key ([0-9a-f]{64})", result.text)[1]
    project.manifest.rename(project.folder / "elsewhere")
    checked = quick("audit", "verify", "log.jsonl", "--public-key", key)
    assert (0, b"") == (checked.code, checked.err)
    believed = quick("audit", "verify", "log.jsonl")
    assert 0 == believed.code
    assert "warning: no `--public-key`" in believed.text
    assert 1 == quick("audit", "verify", "log.jsonl", "--public-key", "0" * 64).code
    assert 2 == quick("audit", "verify", "log.jsonl", "--public-key", "no hex").code
    path = project.folder / "log.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"secret.value.read", b"secret.metadata.x"))
    changed = quick("audit", "verify", "log.jsonl", "--public-key", key)
    assert (1, b"") == (changed.code, changed.out)
    path.write_bytes(b"")
    assert quick("audit", "verify", "log.jsonl", "--public-key", key).code in {1, 3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "keyturn.toml"), "`keyturn.toml` exists"),
        (("export", "nowhere/x"), "cannot be written: No such file or directory"),
        (("export",), "missing argument 'FILE'"),
        (("verify", "absent"), "`absent` cannot be read: No such file or directory"),
        (("verify", "."), "`.` cannot be read: Is a directory"),
        (("nothing",), "no such command 'nothing'"),
    ],
)
def test_audit_refuses(words, message, quick):
    """Nothing that exists is overwritten."""
    result = quick("audit", *words)
    assert (2, b"") == (result.code, result.out)
    assert message in result.text


# ---------------------------------------------------------------- doctor


def test_doctor_of_a_healthy_project(quick):
    """Every look says what it found."""
    result = quick("doctor")
    assert (0, b"") == (result.code, result.err)
    found = {row[0]: row[1] for row in rows(result)}
    assert {"folders", "keys", "store", "clock", "unfinished", "audit"} <= found.keys()
    assert {"ok"} == set(found.values())


def test_doctor_names_what_is_open_to_others(quick, project):
    """A fault comes with the command that mends it, and the looks go on."""
    (project.state / "store.db").chmod(0o644)
    project.keys.chmod(0o750)
    (project.keys / "bundle.key").chmod(0o604)
    result = quick("doctor")
    found = rows(result)
    assert 1 == result.code
    fixes = [row[3] for row in found if row[1] == "fail"]
    assert f"`chmod 600 {project.state / 'store.db'}`" in fixes
    assert f"`chmod 700 {project.keys}`" in fixes
    assert f"`chmod 600 {project.keys / 'bundle.key'}`" in fixes
    assert ["store", "ok"] in [row[:2] for row in found]


def test_doctor_warns_of_a_lost_bundle_key(quick, project):
    """Nothing is lost with it, so it is a warning."""
    (project.keys / "bundle.key").unlink()
    result = quick("doctor")
    assert 0 == result.code
    assert ["keys", "warn"] in [row[:2] for row in rows(result)]


def test_doctor_finds_keys_inside_the_project(project):
    """A key in the repository is one `git add` away from everybody."""
    (project.key_home).rename(project.folder / "keys")
    result = project("doctor", environ={"KEYTURN_HOME": str(project.folder / "keys")})
    assert 1 == result.code
    assert b"the keys lie inside the project" in result.out
