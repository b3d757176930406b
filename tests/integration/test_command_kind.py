"""The kind `command`: what programs are told, what their ends mean, and what is never shown."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import secrets
import stat
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from keyturn.core.ids import Token
from keyturn.errors import (
    NotYet,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
    VerificationFailed,
)
from keyturn.targets._command_programs import Programs
from keyturn.testing.clock import FakeClock
from tests.worlds.base import Setup, kind_in, secret_values, texts_of
from tests.worlds.command import CommandWorld

TOKEN = Token("0123456789abcdef")
FIRST = {"value": "first-value"}


@pytest.fixture
def world():
    """The Acme service and a program for it."""
    opened = CommandWorld()
    yield opened
    opened.close()


@pytest.fixture
def programs(tmp_path):
    """Return a function from steps and their Python text to a kind that runs them."""

    def kind(strategy=None, fields=("value",), timeout="20s", admin=None, **steps):
        target = {"timeout": timeout}
        for step in {"status", "retire", "create", *steps}:
            path = tmp_path / f"{step}.py"
            path.write_text("import sys, json, os\n" + steps.get(step, "sys.exit(0)"))
            target[step] = [sys.executable, str(path)]
        setup = Setup("command", fields, target, FIRST, strategy=strategy, admin=admin)
        return kind_in(setup)

    return kind


def ended(status, words=""):
    return f"sys.stderr.write({words!r}); sys.exit({status})"


# --- a real service -------------------------------------------------------------------


def test_a_credential_takes_the_others_place(world):
    """Both work until the old one is retired, which is then refused."""
    kind, old = kind_in(world.setup), secret_values(world.service.first)
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    assert "accepted" == kind.check(old, pending).method
    assert world.use(texts_of(pending)) and world.use(world.service.first)
    kind.retire(pending, old)
    kind.retire(pending, old)
    assert "refused" == kind.prove_dead(old, current=pending).method
    assert world.use(texts_of(pending)) and not world.use(world.service.first)
    assert 1 == len(world.credentials())


def test_the_same_token_leaves_no_orphan(world):
    """What a lost answer left behind is ended by the next try, or by cleaning up."""
    kind, old = kind_in(world.setup), secret_values(world.service.first)
    before = world.credentials()
    kind.create(old, token=TOKEN)
    pending = kind.create(old, token=TOKEN)
    assert 2 == len(world.credentials()) and world.use(texts_of(pending))
    kind.clean_up(TOKEN)
    assert before == world.credentials()


def test_rehearsal_and_withdraw_leave_no_trace(world):
    """And the old one goes on working."""
    kind, old = kind_in(world.setup).rehearsal(), secret_values(world.service.first)
    before = world.credentials()
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    kind.check(old, pending)
    kind.withdraw(old, pending)
    kind.withdraw(old, pending)
    kind.prove_dead(pending, current=old)
    assert before == world.credentials() and world.use(world.service.first)


def test_the_programs_refusals_are_told(world):
    """With its own words, and without a value."""
    for number in range(3):
        world.service.make(f"other {number}")
    kind = kind_in(world.setup)
    with pytest.raises(Rejected, match="4 passwords already") as caught:
        kind.create(secret_values(world.service.first), token=TOKEN)
    assert "target.rejected" == caught.value.code and caught.value.hint
    denied = kind_in(dataclasses.replace(world.setup, admin={"password": "wrong-password"}))
    with pytest.raises(Rejected, match="only the administrator") as caught:
        denied.create(secret_values(world.service.first), token=TOKEN)
    assert "wrong-password" not in str(caught.value)


def test_a_service_that_is_away_is_unavailable(world):
    """It is proof of nothing."""
    kind, old = kind_in(world.setup), secret_values(world.service.first)
    world.service.process.terminate()
    world.service.process.wait(10)
    for step in (
        lambda: kind.create(old, token=TOKEN),
        lambda: kind.prove_dead(old),
        lambda: kind.probe(old),
        lambda: kind.withdraw(old, old),
    ):
        with pytest.raises(Unavailable):
            step()


def test_a_program_that_closes_its_outputs_is_waited_for(world):
    """Its time is real: a clock that leaps while it is ending is no reason to stop it."""
    programs = Programs(
        commands={
            "status": [
                sys.executable,
                "-c",
                "import os, time; os.closerange(0, 3); time.sleep(0.3)",
            ]
        },
        about={"secret": "db", "environment": "production"},
        admin=None,
        timeout_seconds=60.0,
        folder=None,
        clock=FakeClock(),
    )
    assert programs.answers("status", {"pending": secret_values(world.service.first)})


# --- the contract ---------------------------------------------------------------------


def test_a_program_is_told_everything_on_standard_input(programs, tmp_path, monkeypatch):
    """Nothing is in its arguments, and of our environment it is given three variables."""
    monkeypatch.setenv("KEYTURN_CANARY", "not for programs")
    seen = tmp_path / "seen"
    copy = (
        f"open({str(seen)!r}, 'w').write(json.dumps([sys.argv[1:], dict(os.environ),"
        " json.load(sys.stdin)]))"
    )
    kind = programs(retire=copy, admin={"password": "the-admin"})
    kind.retire(secret_values({"value": "new"}), secret_values(FIRST))
    arguments, environment, told = json.loads(seen.read_text())
    assert [] == arguments
    assert set(environment) - {"LC_CTYPE"} <= {"PATH", "HOME", "LANG"} and "PATH" in environment
    assert {
        "version": 1,
        "step": "retire",
        "secret": "it",
        "environment": "production",
        "project": "clipper",
        "fields": ["value"],
        "token": None,
        "current": {"value": "new"},
        "pending": None,
        "old": FIRST,
        "admin": {"password": "the-admin"},
    } == told


def test_create_is_told_its_token_and_may_print_more_fields(programs):
    """What it prints beside the declared fields is kept with them."""
    kind = programs(create="told = json.load(sys.stdin); print(json.dumps("
                    "{'value': 'v-' + told['token'], 'key_id': told['current']['value']}))")  # fmt: skip
    made = texts_of(kind.create(secret_values(FIRST), token=TOKEN))
    assert {"value": f"v-{TOKEN}", "key_id": "first-value"} == made


@pytest.mark.parametrize("status", [1, 2, 76, 126])
def test_a_program_that_broke_left_an_unknown(programs, status):
    """1 is what a script ends with that has a fault in it: it is no answer."""
    for step in ("create", "retire", "apply", "withdraw"):
        kind = programs(**{step: ended(status, "oops")})
        calls = {
            "create": lambda kind=kind: kind.create(None, token=TOKEN),
            "retire": lambda kind=kind: kind.retire(secret_values(FIRST), secret_values(FIRST)),
            "apply": lambda kind=kind: kind.apply(None, secret_values(FIRST)),
            "withdraw": lambda kind=kind: kind.withdraw(None, secret_values(FIRST)),
        }
        with pytest.raises(OutcomeUnknown, match=f"status {status}.*oops"):
            calls[step]()


@pytest.mark.parametrize("fault", ["raise SystemError", "sys.exit(2)", "os.kill(os.getpid(), 9)"])
def test_a_status_program_that_broke_proves_nothing(programs, fault):
    """The old value is dead only where the program says so."""
    kind = programs(status=fault)
    for step in (kind.prove_dead, kind.probe):
        with pytest.raises(Unavailable):
            step(secret_values(FIRST))


def test_the_other_answers(programs):
    """Refused, not now, and a person's turn."""
    old = secret_values(FIRST)
    with pytest.raises(Rejected, match="quota") as caught:
        programs(create=ended(10, "quota")).create(old, token=TOKEN)
    assert "target.rejected" == caught.value.code
    with pytest.raises(Unavailable, match="maintenance"):
        programs(create=ended(75, "maintenance")).create(old, token=TOKEN)
    with pytest.raises(NotYet, match="press the button") as waiting:
        programs(retire=ended(77, "press the button")).retire(old, old)
    assert waiting.value.person and "--resume it -e production" in waiting.value.hint
    with pytest.raises(VerificationFailed):
        programs(status=ended(10)).probe(old)
    with pytest.raises(VerificationFailed):
        programs(check=ended(10)).check(None, old)
    with pytest.raises(NotYet, match="did not say"):
        programs(status=ended(77)).probe(old)


def test_an_old_value_that_still_works_is_noticed(programs):
    """And a refusal of the one in use proves nothing."""
    with pytest.raises(VerificationFailed) as caught:
        programs(status="sys.exit(0)").prove_dead(secret_values(FIRST))
    assert "target.still-works" == caught.value.code
    with pytest.raises(Unavailable, match="nothing is"):
        programs(status="sys.exit(10)").prove_dead(
            secret_values(FIRST), current=secret_values({"value": "new"})
        )


def test_the_old_value_stays_while_the_new_one_does_not_work(programs, tmp_path):
    """`retire` is not run."""
    flag = tmp_path / "ran"
    kind = programs(status="sys.exit(10)", retire=f"open({str(flag)!r}, 'w')")
    with pytest.raises(VerificationFailed):
        kind.retire(secret_values(FIRST), secret_values({"value": "old"}))
    assert not flag.exists()


@pytest.mark.parametrize(
    "printed", ["", "nonsense", "[]", '{"value": 7}', '{"value": ""}', '{"other": "x"}', '{"a b": "x"}']
)  # fmt: skip
def test_create_that_prints_something_else_is_unknown(programs, printed):
    """Something may have been made, and nobody has it."""
    kind = programs(create=f"sys.stdout.write({printed!r})")
    with pytest.raises(OutcomeUnknown):
        kind.create(None, token=TOKEN)


def test_a_program_that_takes_too_long_is_stopped_with_its_children(programs, tmp_path):
    """A change is then unknown; a look has no answer."""
    child = tmp_path / "child"
    slow = (
        "import subprocess, time\n"
        f"p = subprocess.Popen(['sleep', '60']); open({str(child)!r}, 'w').write(str(p.pid))\n"
        "time.sleep(60)"
    )
    kind = programs(timeout="1s", create=slow, status=slow)
    begun = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="within 1 s"):
        kind.create(None, token=TOKEN)
    assert time.monotonic() - begun < 15
    pid = int(child.read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
        except FileNotFoundError:
            break
        if state == "Z":
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the program's child goes on")
    with pytest.raises(Unavailable, match="within 1 s"):
        kind.probe(secret_values(FIRST))


def test_a_daemon_that_keeps_the_pipes_is_not_waited_for(programs):
    """The program itself has ended."""
    kind = programs(
        timeout="30s",
        status="import subprocess\nsubprocess.Popen(['sleep', '5'])\nsys.exit(0)",
    )
    begun = time.monotonic()
    kind.probe(secret_values(FIRST))
    assert time.monotonic() - begun < 4.5


def test_a_program_that_says_much_or_reads_nothing_does_not_block(programs):
    """Neither its output nor our input is waited for beyond its end."""
    big = secret_values({"value": "x" * 200_000})
    kind = programs(
        create="sys.stderr.write('e' * 2_000_000); print(json.dumps({'value': 'v'}))",
        status="sys.exit(0)",
    )
    assert {"value": "v"} == texts_of(kind.create(big, token=TOKEN))
    kind.probe(big)
    noisy = programs(create="sys.stdout.write('o' * 2_000_000)")
    with pytest.raises(OutcomeUnknown):
        noisy.create(None, token=TOKEN)


def test_no_value_is_shown_in_any_form(programs):
    """Plain, by line, encoded, or new: what a program prints of it is taken out."""
    value = f'pass"word {secrets.token_hex(8)}\nsecond-line-{secrets.token_hex(8)}/+?'
    forms = [
        value,
        value.splitlines()[1],
        base64.b64encode(value.encode()).decode(),
        base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
        value.encode().hex(),
        quote(value, safe=""),
        json.dumps(value),
        repr(value),
    ]
    for form in forms:
        kind = programs(retire=ended(10, f"it was {form} indeed"))
        with pytest.raises(Rejected) as caught:
            kind.withdraw(None, secret_values({"value": value}))
        shown = caught.value.message
        assert "it was" in shown and "indeed" in shown
        for part in (value.split()[1], "second-line", form[:20]):
            assert part not in shown, form
    fresh = secrets.token_hex(16)
    said = f"print(json.dumps({{'value': '{fresh}'}})); sys.stderr.write('{fresh}'); sys.exit(10)"
    with pytest.raises(Rejected) as caught:
        programs(create=said).create(None, token=TOKEN)
    assert fresh not in str(caught.value)
    long = programs(retire=ended(10, "word " * 500))
    with pytest.raises(Rejected) as caught:
        long.withdraw(None, secret_values(FIRST))
    assert len(caught.value.message) < 400


def test_a_program_that_cannot_be_started_is_named(tmp_path):
    """Nothing was done: it is no unknown."""
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    plain.chmod(stat.S_IRUSR)
    words = {"absent": str(tmp_path / "absent"), "not executable": str(plain), "NUL": "a\0b"}
    for program in words.values():
        target = {"create": [program], "status": [program], "retire": [program]}
        kind = kind_in(Setup("command", ("value",), target, FIRST))
        with pytest.raises(Rejected, match="cannot be started") as caught:
            kind.create(None, token=TOKEN)
        assert "target.command" == caught.value.code


def test_no_shell_reads_the_arguments(tmp_path):
    """They reach the program as they stand."""
    seen = tmp_path / "seen"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" > {seen}\n')
    program.chmod(0o700)
    words = [str(program), "$HOME", "a b", "; true", "*"]
    kind = kind_in(
        Setup("command", ("value",), {"create": words, "status": words, "retire": words}, FIRST)
    )
    kind.probe(secret_values(FIRST))
    assert "$HOME|a b|; true|*|" == seen.read_text()
    assert any("$HOME" in text for _, text in kind.describe(None))


def test_in_place_there_is_no_overlap(programs):
    """The old value ends with `apply`; nothing can be rehearsed, and `retire` may be absent."""
    nothing = ["/bin/true"]
    target = dict.fromkeys(("create", "apply", "withdraw", "status"), nothing)
    kind = kind_in(Setup("command", ("value",), target, FIRST, strategy="in-place"))
    assert not kind.overlaps and kind.rehearsal() is None
    kind.retire(secret_values(FIRST), secret_values(FIRST))
    assert programs().overlaps


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({}, "status"),
        ({"status": ["true"]}, "create"),
        ({"status": ["true"], "create": ["true"]}, "retire"),
        ({"status": "true", "retire": ["true"], "create": ["true"]}, "status"),
        ({"status": [], "retire": ["true"], "create": ["true"]}, "status"),
        ({"status": [""], "retire": ["true"], "create": ["true"]}, "status"),
        ({"status": ["true", 1], "retire": ["true"], "create": ["true"]}, "status"),
        (
            {"status": ["true"], "retire": ["true"], "create": ["true"], "timeout": "soon"},
            "timeout",
        ),
    ],
)
def test_a_target_that_says_too_little_is_refused(target, words):
    """With the line to write."""
    with pytest.raises(UsageError, match=words) as caught:
        kind_in(Setup("command", ("value",), target, FIRST))
    assert "rotation.target" == caught.value.code and words in caught.value.hint


def test_a_strategy_that_is_none_is_refused(programs):
    """So is `in-place` without a way back."""
    with pytest.raises(UsageError, match="no strategy"):
        programs(strategy="two-logins")
    with pytest.raises(UsageError, match="apply"):
        programs(strategy="in-place")


def test_programs_run_where_the_target_says(tmp_path):
    """So that a program of the project can be named from its folder."""
    (tmp_path / "tool").write_text("#!/bin/sh\ntest -e tool\n")
    (tmp_path / "tool").chmod(0o700)
    target = dict.fromkeys(("create", "status", "retire"), ["./tool"]) | {"folder": str(tmp_path)}
    kind_in(Setup("command", ("value",), target, FIRST)).probe(secret_values(FIRST))
    assert os.getcwd() != str(tmp_path)
