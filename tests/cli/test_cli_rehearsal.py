"""Rehearsals that meet missing rights, at a vendor's simulator and real servers."""

from __future__ import annotations

import json
import re

import pytest

from keyturn.testing.simulators._server import Reply
from tests.cli import projects
from tests.worlds.scene import open_world
from tests.worlds.vault_approle import ADMIN_POLICY

pytestmark = [pytest.mark.kinds]


def manifest_of(setup):
    """Return a manifest of one secret of *setup*, `it`, and its administrator."""

    names = dict.fromkeys((*setup.fields, *setup.first))

    def fields(names, prefix):
        return "{ " + ", ".join(f'{name} = "{prefix and prefix + name.upper()}"' for name in names)

    target = "\n".join(f"{key} = {json.dumps(value)}" for key, value in setup.target.items())
    admin = ""
    if setup.admin:
        admin = f'[secrets.it-admin]\nkind = "guided"\nfields = {fields(setup.admin, "")} }}\n\n'
        target += '\nadmin = "it-admin"'
    return f"""
[project]
name = "shop"

[environments.development]

{admin}[secrets.it]
kind = "{setup.kind}"
fields = {fields(names, "IT_")} }}

[secrets.it.target]
{target}
"""


@pytest.fixture
def world(request):
    opened = open_world(request.param)
    yield opened
    opened.close()


@pytest.fixture
def project(world, tmp_path):
    made = projects.empty(tmp_path, manifest_of(world.setup))
    projects.start(made)
    return made


@pytest.fixture
def command(world, quick):
    """Return the command, in a project that has the world's first values."""
    for name, values in (("it", world.setup.first), ("it-admin", world.setup.admin or {})):
        for field, value in values.items():
            # Some have an empty field at first.
            if not value:
                continue
            assert 0 == quick("set", f"{name}.{field}", "-", stdin=value.encode()).code
    return quick


def admin_key(world):
    keys = world.simulator.keys.values()
    return next(key for key in keys if key.value == world.setup.admin["value"])


def refuse_deletions(world):
    """Let nobody delete, until the function that is returned is called."""
    handle = world.simulator.handle

    def refusing(request):
        if request.method == "DELETE":
            return Reply(403, {"error": {"message": "no permission", "code": "denied"}})
        return handle(request)

    world.simulator.handle = refusing
    return lambda: setattr(world.simulator, "handle", handle)


@pytest.mark.parametrize("world", ["openai_key"], indirect=True)
@pytest.mark.parametrize("after", [("--rehearse",), ("--now",)])
def test_what_is_left_is_told_and_ended_by_the_next(after, world, command):
    """By its id, with what it can still do and where it is ended; then the right is given."""
    before = world.credentials()
    allow = refuse_deletions(world)
    seen = command("rotate", "it", "--rehearse")
    left = world.credentials() - before
    assert 1 == seen.code
    assert 1 == len(left)
    text = seen.out.decode()
    line = next(line for line in text.splitlines() if line.startswith("left\t"))
    assert any(key.id in line for key in world.simulator.keys.values() if key.live)
    assert "is left at the target, and it works" in line
    assert "hint: delete it at platform.openai.com" in seen.text
    allow()
    again = command("rotate", "it", *after)
    assert 0 == again.code, again.text
    assert not left & world.credentials()
    assert len(before) == len(world.credentials())


@pytest.mark.parametrize("world", ["sendgrid_key"], indirect=True)
@pytest.mark.parametrize("words", [("--rehearse",), ("--dry-run",), ("--now",)])
def test_every_missing_scope_is_named_before_a_key_is_made(words, world, command):
    """One that could not be deleted is never made."""
    key, before = admin_key(world), world.simulator.live()
    missing = ("api_keys.delete", "api_keys.read", "mail.send")
    key.scopes = tuple(scope for scope in key.scopes if scope not in missing)
    seen = command("rotate", "it", *words)
    assert 1 == seen.code
    said = seen.out.decode() + seen.text
    assert all(scope in said for scope in missing)
    assert before == world.simulator.live()
    # Nothing was made, so that there is nothing to clean up that could get stuck.
    assert "a rotation is open" not in command("status").text


@pytest.mark.parametrize("world", ["vault_approle"], indirect=True)
@pytest.mark.parametrize("words", [("--rehearse",), ("--dry-run",), ("--now",)])
def test_every_missing_capability_is_named_before_a_secret_id_is_made(words, world, command):
    """One that could not be destroyed is never made."""
    kept = [
        rule
        for rule in re.findall(r'path "[^"]+" \{[^}]*\}', ADMIN_POLICY)
        if "destroy" not in rule and "secret-id/lookup" not in rule
    ]
    world.client.sys.create_or_update_policy("keyturn-admin", "\n".join(kept))
    before = world.credentials()
    seen = command("rotate", "it", *words)
    assert 1 == seen.code
    said = seen.out.decode() + seen.text
    assert "`auth/approle/role/clipper/secret-id-accessor/destroy` (update)" in said
    assert "`auth/approle/role/clipper/secret-id/lookup` (update)" in said
    assert before == world.credentials()
    assert "a rotation is open" not in command("status").text


@pytest.mark.parametrize("world", ["vault_approle"], indirect=True)
def test_a_token_that_may_not_ask_what_it_may_do_is_let_try(world, command):
    """Then each request tells by itself; that its own rights cannot be asked is no fault."""
    deny = 'path "sys/capabilities-self" { capabilities = ["deny"] }'
    world.client.sys.create_or_update_policy("keyturn-admin", f"{ADMIN_POLICY}\n{deny}")
    rehearsed = command("rotate", "it", "--rehearse")
    assert 0 == rehearsed.code, rehearsed.out


@pytest.mark.parametrize("world", ["redis_login"], indirect=True)
@pytest.mark.parametrize("keeps_dry_run", [True, False])
@pytest.mark.parametrize("words", [("--rehearse",), ("--now",)])
def test_every_missing_right_of_redis_is_named(words, keeps_dry_run, world, command):
    """Also where the server may not be asked; a rotation goes back and is not stuck."""
    missing = ["config|rewrite", "client|kill", *([] if keeps_dry_run else ["acl|dryrun"])]
    world.execute("ACL", "SETUSER", "keyturn", *(f"-{right}" for right in missing))
    before = world.credentials()
    seen = command("rotate", "it", *words)
    assert 1 == seen.code
    said = seen.out.decode() + seen.text
    assert all(f"+{right}" in said for right in missing)
    assert before == world.credentials()
    assert "stuck" not in said
    assert "a rotation is open" not in command("status").text


@pytest.mark.parametrize("world", ["redis_login"], indirect=True)
def test_a_plan_refuses_what_the_server_would_forget(world, command):
    """It does not claim that the change is kept where it cannot be written."""
    world.execute("ACL", "SETUSER", "keyturn", "-config|rewrite")
    seen = command("rotate", "it", "--dry-run")
    assert (1, b"") == (seen.code, seen.out)
    assert "`CONFIG REWRITE`" in seen.text


@pytest.mark.parametrize("world", ["stripe_webhook_secret"], indirect=True)
def test_each_phase_of_a_plan_has_its_own_lines(world, command):
    """The second delivery is not described as the first."""
    seen = command("rotate", "it", "--dry-run")
    assert 0 == seen.code, seen.text
    lines = [line.split("\t") for line in seen.out.decode().splitlines()]
    first, second = (text for step, text in lines if step == "deliver")
    assert "both are accepted" in first
    assert "accepted" not in second


@pytest.mark.parametrize("world", ["jwt_signing_key"], indirect=True)
def test_each_advance_of_a_plan_has_its_own_line(world, command):
    """First the new key signs, then the old one leaves; neither line says both."""
    seen = command("rotate", "it", "--dry-run")
    lines = [line.split("\t") for line in seen.out.decode().splitlines()]
    first, second = (text for step, text in lines if step == "advance")
    assert "the new key signs" in first and "leaves" not in first
    assert "the old key leaves the set" in second and "signs" not in second
