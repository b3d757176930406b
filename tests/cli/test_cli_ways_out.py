"""Transcripts of what cannot simply go on: forgotten secrets, protected places, dead versions."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from keyturn.app.secrets import set_fields
from keyturn.core.ids import FieldName, RotationId, SecretName
from keyturn.core.model import SecretRef
from keyturn.core.value import SecretValue
from keyturn.rotate import Plan
from keyturn.testing.clock import FakeClock
from tests.cli.projects import DEVELOPMENT, PRODUCTION

TOKEN = b"test-token-Aa1Bb2Cc3Dd4Ee5"
VERBS = ("create", "status", "retire")
TOOL = (
    '\n[secrets.tool]\nkind = "command"\nvariable = "TOOL_KEY"\n[secrets.tool.target]\n'
    + "".join(f'{verb} = ["./tool", "{verb}"]\n' for verb in VERBS)
)
# Makes a new value each time; works with what stands in `accepted`, and takes it out there.
PROGRAM = r"""#!/usr/bin/env python3
import json, pathlib, sys
given = json.load(sys.stdin)
place = pathlib.Path("accepted")
held = place.read_text().split() if place.exists() else []
match sys.argv[1]:
    case "create":
        made = f"test-tool-made-Xx1Yy2Zz3-{len(held)}{pathlib.Path('count').stat().st_size}"
        with open("count", "a") as count:
            count.write(".")
        place.write_text("\n".join([*held, made]))
        print(json.dumps({"value": made}))
    case "retire":
        old = given["old"]["value"]
        place.write_text("\n".join(value for value in held if value != old))
    case "status":
        sys.exit(0 if given["pending"]["value"] in held else 10)
"""


@pytest.fixture
def tool(project):
    """A project with a command's secret, whose first version works."""
    program = project.folder / "tool"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (project.folder / "count").write_text("")
    (project.folder / "accepted").write_text("test-tool-first-Aa1Bb2Cc3\n")
    project.manifest.write_text(project.manifest.read_text() + TOOL)
    project.put("tool", b"test-tool-first-Aa1Bb2Cc3")
    return project


def forget(project, name):
    """Take the secret *name* out of the manifest."""
    text = project.manifest.read_text()
    head, _, tail = text.partition(f"[secrets.{name}]")
    rest = tail.partition("\n[")[2]
    text = head + (f"[{rest}" if rest else "")
    project.manifest.write_text(text.replace(f'"{name}", ', ""))


@pytest.fixture
def forgotten(project, quick):
    """A project whose `api` waits for a person, and is in the manifest no more."""
    assert 0 == quick("rotate", "api").code
    forget(project, "api")
    return project


# --- a secret that the manifest no longer has -----------------------------------------------


@pytest.mark.parametrize(
    "words", [("rotate", "--resume", "api"), ("rotate", "--resume"), ("tick", "--dry-run")]
)
def test_a_forgotten_secret_says_both_ways_out(words, forgotten, quick):
    """Back into the manifest and on, or the end where it is; with the commands."""
    result = quick(*words)
    seen = result.text + result.out.decode()
    assert "put `api` back into keyturn.toml" in seen
    assert "keyturn rotate api -e development --give-up" in seen
    assert (0 if words[0] == "tick" else 2) == result.code


@pytest.mark.parametrize("words", [("doctor",), ("status",), ("tick",)])
def test_who_looks_is_told_of_it(words, forgotten, quick):
    """`doctor`, `status` and `tick`, which do not go on with it."""
    result = quick(*words)
    assert "keyturn rotate api -e development --give-up" in result.text + result.out.decode()


def test_given_up_it_is_gone(forgotten, quick):
    """The command that is named works, and nothing is told any more."""
    assert 0 == quick("rotate", "api", "--give-up", "--yes").code
    assert b"half-done" in quick("doctor").out
    assert "give-up" not in quick("status").text


# --- a protected environment ------------------------------------------------------------------


@pytest.fixture
def waiting(project, quick):
    """A rotation in `production`, which is protected, that waits for a person."""
    project.put("api", TOKEN, environment=PRODUCTION)
    begun = quick("rotate", "api", "-e", "production", "--reason", "test", "--yes")
    assert 0 == begun.code, begun.text
    return project


@pytest.mark.parametrize("name", [("api",), ()])
def test_to_resume_is_as_guarded_as_to_begin(name, waiting, quick):
    """Without a reason or an answer nothing goes on; with both it does."""
    words = ("rotate", "--resume", *name, "-e", "production")
    refused = quick(*words)
    assert (4, True) == (refused.code, "needs a reason" in refused.text)
    unasked = quick(*words, "--reason", "test")
    assert (2, True) == (unasked.code, "--yes" in unasked.text)
    steps = [record["action"] for record in waiting.actions(action="rotation.run.resume")]
    assert [] == steps
    assert 0 == quick(*words, "--reason", "test", "--yes").code
    assert waiting.actions(action="rotation.run.resume")


# --- versions that a rotation has ended ------------------------------------------------------


def test_a_version_that_was_ended_does_not_come_back(tool, quick):
    """Neither by name nor by default; with `--force` it does."""
    assert 0 == quick("rotate", "tool", "--now").code
    for words in ((), ("--to", "1")):
        refused = quick("rollback", "tool", *words)
        assert (1, b"") == (refused.code, refused.out)
        assert "version 1 of `development/tool` was ended by the rotation of" in refused.text
        assert "--to 1 --force" in refused.text
    assert b"version 2" in quick("test", "tool").out
    forced = quick("rollback", "tool", "--force")
    assert (0, True) == (forced.code, "version 1 is current" in forced.text)
    # What is in use now works no more, and the one before it does.
    assert 1 == quick("test", "tool").code


def test_where_a_reason_is_needed_the_way_out_has_it(tool, quick):
    """In a protected environment the commands that are named can be typed as they are."""
    guarded = ("-e", "production", "--reason", "test", "--yes")
    tool.put("tool", b"test-tool-first-Aa1Bb2Cc3", environment=PRODUCTION)
    assert 0 == quick("rotate", "tool", "--now", *guarded).code
    refused = quick("rollback", "tool", *guarded)
    assert 1 == refused.code
    assert "`keyturn rotate tool -e production --reason 'WHY'`" in refused.text
    assert "rollback tool -e production --to 1 --force --reason 'WHY'`" in refused.text


def test_a_value_that_was_ended_is_not_set_again(tool, quick):
    """Under whatever name it is given; nothing is stored, and with `--force` it is."""
    assert 0 == quick("rotate", "tool", "--now").code
    for name in ("tool", "TOOL_KEY", "tool.value"):
        refused = quick("set", name, "-", stdin=b"test-tool-first-Aa1Bb2Cc3")
        assert (1, b"") == (refused.code, refused.out)
        assert "version 1 of `development/tool` was ended by the rotation of" in refused.text
        assert "Aa1Bb2Cc3" not in refused.text
    assert 2 == quick("history", "tool", "--json").json()[0]["version"]
    forced = quick("set", "tool", "-", "--force", stdin=b"test-tool-first-Aa1Bb2Cc3")
    assert (0, True) == (forced.code, "version 3 is current" in forced.text)


def test_an_env_file_brings_no_ended_login_back(tool, quick):
    """The file is kept from before the rotation, and is imported once more for what is new."""
    (tool.folder / ".env").write_text(
        "TOOL_KEY=test-tool-first-Aa1Bb2Cc3\nSTRANGER_KEY=Qq1Ww2Ee3\n"
    )
    assert 0 == quick("rotate", "tool", "--now").code
    current = quick("get", "tool").out
    result = quick("import", ".env")
    assert 0 == result.code, result.text
    assert (
        "warning: `tool` in the file is of version 1, older than what is current (version 2): "
        "left alone; `keyturn rollback tool --to 1 -e development` or `--force-old` takes it\n"
    ) in result.text
    assert (current, b"Qq1Ww2Ee3") == (quick("get", "tool").out, quick("get", "STRANGER_KEY").out)


def test_a_version_that_nobody_ended_comes_back(tool, quick):
    """One that was stored by hand is no affair of a rotation."""
    tool.put("tool", b"test-tool-typed-in-wrongly-1")
    back = quick("rollback", "tool")
    assert (0, True) == (back.code, "version 1 is current" in back.text)


def test_an_older_version_that_works_again_is_found(tool, quick):
    """Not only the one before: each that the store still has, the newest five."""
    for _ in range(7):
        assert 0 == quick("rotate", "tool", "--now").code
    clean = quick("test", "tool")
    assert 0 == clean.code, clean.out
    assert "; 2 older not tried" in clean.out.decode()
    accepted = tool.folder / "accepted"
    held = accepted.read_text()
    with closing(tool.session(reason="test")) as opened:
        ref = SecretRef(DEVELOPMENT, SecretName("tool"))
        old = opened.store.read(ref, 4).values["value"].reveal_text()
    accepted.write_text(f"{held}\n{old}")
    found = quick("test", "tool")
    assert 1 == found.code
    assert "version 4 is no longer in use and still works" in found.out.decode()
    assert old.encode() not in found.out + found.err


# --- what was given and not taken --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "code", "message"),
    [
        ("token", TOKEN, 2, "the value of `--from-file` would not be taken"),
        ("api", b"changeme", 1, "only stands for a value"),
        ("api", b"", 2, "the value is empty"),
        ("root-key", TOKEN, 2, "`--from-file` belongs to one secret"),
    ],
)
def test_a_value_that_was_not_taken_is_no_success(name, given, code, message, project, quick):
    """Whoever gave one must not believe that it is in use."""
    project.put("token", TOKEN)
    result = quick("rotate", name, "--now", "--from-file", "-", stdin=given)
    assert code == result.code, result.text
    assert message in result.text


def test_a_value_for_many_is_refused(project, quick):
    """`--resume` alone would not know whose it is."""
    assert 2 == quick("rotate", "--resume", "--from-file", "-", stdin=TOKEN).code
    assert 0 == quick("rotate", "api", "--from-file", "-", stdin=b"test-api-new-Qq1Ww2Ee3").code


# --- a clock that was set back ----------------------------------------------------------------


def test_no_age_is_negative(project, quick):
    """What was written by a clock that ran ahead is `in the future`, wherever ages stand."""
    clock = FakeClock()
    clock.step((datetime.now(UTC) + timedelta(days=400) - clock.now()).total_seconds())
    ref = SecretRef(DEVELOPMENT, SecretName("session"))
    value = SecretValue(b"test-session-of-next-year-Qq1Ww2Ee3Rr4")
    with closing(project.session(reason="test", clock=clock)) as opened:
        set_fields(opened, ref, {FieldName("value"): value})
        plan = Plan(kind="guided", strategy="default", old_version=1, overlaps=True)
        api = SecretRef(DEVELOPMENT, SecretName("api"))
        opened.journal.begin(api, plan, rotation_id=RotationId("ahead"), owner="")
    for words, column in ((("list",), 4), (("status",), 3), (("history", "session"), 2)):
        ages = [line.split("\t")[column] for line in quick(*words).out.decode().splitlines()]
        assert "in the future" in ages, words
        assert not [age for age in ages if age.startswith("-") and age != "-"], words
    assert "live in the future\t" in quick("status").out.decode()
    metrics = quick("status", "--format", "prometheus").out.decode()
    assert not [line for line in metrics.splitlines() if "_age_seconds{" in line and " -" in line]


# --- what a person does -----------------------------------------------------------------------


def test_nothing_to_rehearse_is_said_with_what_can_be_tried(project, quick):
    """Of a value that a person fetches there is no throw-away one."""
    refused = quick("rotate", "api", "--rehearse")
    assert (2, b"") == (refused.code, refused.out)
    assert "a person makes the new one" in refused.text
    assert "`keyturn test api -e development` looks at the form" in refused.text
    assert "--dry-run" in refused.text


def test_a_dry_run_numbers_what_the_person_does(project, quick):
    """A line each, before what Keyturn does with the value."""
    text = project.manifest.read_text().replace(
        "[secrets.api]\n",
        '[secrets.api]\ntarget = { instructions = ["open the door", "ask the porter"] }\n',
    )
    project.manifest.write_text(text)
    lines = quick("rotate", "api", "--dry-run", "--json").json()
    assert [
        {"step": "create", "text": "you, 1 of 2: open the door"},
        {"step": "create", "text": "you, 2 of 2: ask the porter"},
        {"step": "create", "text": "version 2 is stored as pending"},
    ] == lines[:3]
