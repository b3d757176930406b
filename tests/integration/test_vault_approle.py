"""AppRole secret-ids on a real OpenBao server: overlap, orphans, lifetimes, every refusal."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from dataclasses import replace

import httpx
import hvac
import pytest

from keyturn._internal import failpoints
from keyturn.core.clock import SystemClock
from keyturn.core.ids import Token
from keyturn.errors import (
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
    VerificationFailed,
)
from tests.worlds.base import Setup, kind_in, secret_values, texts_of
from tests.worlds.vault_approle import ROLE, VaultAppRoleWorld

TOKEN = Token("0123456789abcdef0123456789abcdef")
OTHER = Token("fedcba9876543210fedcba9876543210")


class Hurried(SystemClock):
    """A clock whose waiting takes no time."""

    def sleep(self, seconds):
        pass


@pytest.fixture(scope="module")
def server():
    found = VaultAppRoleWorld()
    yield found
    found.close()


@pytest.fixture
def world(server):
    """The role as it was made, with one secret-id made by hand."""
    server.client.auth.approle.delete_role(ROLE)
    server.client.auth.approle.create_or_update_approle(
        ROLE, token_policies=["clipper"], token_ttl="5m"
    )
    server.setup = replace(server.setup, first=server.by_hand())
    return server


def tokens(world):
    """Return the accessors of the tokens that there are."""
    return set(world.client.list("auth/token/accessors")["data"]["keys"])


def started(world, kind=None):
    kind = kind or kind_in(world.setup, clock=Hurried())
    current = secret_values(world.setup.first)
    pending = kind.create(current, token=TOKEN)
    kind.apply(current, pending)
    kind.check(current, pending)
    return kind, current, pending


def change_role(world, **settings):
    world.client.auth.approle.create_or_update_approle(ROLE, **settings)


def test_both_secret_ids_work_until_the_old_one_is_destroyed(world):
    """Though the first one was made by hand; no token is left behind."""
    before = tokens(world)
    kind, current, pending = started(world)
    assert {"role_id", "secret_id", "secret_id_accessor"} == set(texts_of(pending))
    kind.retire(pending, current)
    kind.retire(pending, current)
    assert "login refused" == kind.prove_dead(current).method
    assert tokens(world) <= before
    assert not world.use(texts_of(current)) and world.use(texts_of(pending))
    assert {texts_of(pending)["secret_id_accessor"]} == world.credentials()


def test_the_next_rotation_ends_what_this_one_made(world):
    """By hand, first, second: one stays."""
    kind, current, first = started(world)
    kind.retire(first, current)
    second = kind.create(first, token=OTHER)
    kind.check(first, second)
    assert world.use(texts_of(first)) and world.use(texts_of(second))
    kind.retire(second, first)
    kind.prove_dead(first)
    assert {texts_of(second)["secret_id_accessor"]} == world.credentials()


@pytest.mark.parametrize("ending", ["again", "clean up"])
def test_what_a_lost_answer_left_behind_is_destroyed(world, ending):
    """It is known by the token in its metadata; another rotation's is let be."""
    kind = kind_in(world.setup)
    current = secret_values(world.setup.first)
    before = world.credentials()
    stays = texts_of(kind.create(current, token=OTHER))["secret_id_accessor"]
    failpoints.arm("approle.create.called:error")
    try:
        with pytest.raises(OSError):
            kind.create(current, token=TOKEN)
    finally:
        failpoints.disarm()
    assert 3 == len(world.credentials())
    if ending == "again":
        made = texts_of(kind_in(world.setup).create(current, token=TOKEN))
        expected = {*before, stays, made["secret_id_accessor"]}
    else:
        kind_in(world.setup).clean_up(TOKEN)
        expected = {*before, stays}
    assert expected == world.credentials()
    assert world.use(world.setup.first)


def test_withdrawing_destroys_the_new_one_alone(world):
    """Also when it is done already, and when there is no accessor."""
    kind, current, pending = started(world)
    kind.withdraw(current, pending)
    kind.withdraw(current, pending)
    assert world.use(texts_of(current)) and not world.use(texts_of(pending))
    assert "login refused" == kind.prove_dead(pending).method


def test_a_rehearsal_leaves_no_trace(world):
    """Neither a secret-id nor a token."""
    accessors, before = world.credentials(), tokens(world)
    kind, current, pending = started(world, kind_in(world.setup).rehearsal())
    kind.withdraw(current, pending)
    kind.prove_dead(pending)
    assert (accessors, before) == (world.credentials(), tokens(world))


def test_a_birth_asks_for_the_role_id(world):
    """The first version of all."""
    kind = kind_in(world.setup)
    made = kind.create(None, token=TOKEN)
    assert world.setup.first["role_id"] == texts_of(made)["role_id"]
    kind.check(None, made)
    assert world.use(texts_of(made))


def test_the_role_itself_may_do_it():
    """Without an administrator; nothing is cleaned up by whoever has no login."""
    world = VaultAppRoleWorld(own=True)
    try:
        kind, current, pending = started(world)
        kind.describe(pending)
        kind.retire(pending, current)
        kind.prove_dead(current)
        assert world.use(texts_of(pending))
        failpoints.arm("approle.create.called:error")
        with pytest.raises(OSError):
            kind.create(pending, token=OTHER)
        failpoints.disarm()
        (left,) = world.credentials() - {texts_of(pending)["secret_id_accessor"]}
        assert any(left in text for _, text in kind.describe(pending))
        kind_in(world.setup).clean_up(OTHER)
        assert 2 == len(world.credentials())
        kind_in(world.setup).clean_up(OTHER, current=pending)
        assert {texts_of(pending)["secret_id_accessor"]} == world.credentials()
        with pytest.raises(UsageError):
            kind_in(world.setup).create(None, token=TOKEN)
    finally:
        failpoints.disarm()
        world.close()


def test_the_administrator_may_be_an_approle(world):
    """Its token is made for the work and ended after it."""
    world.client.auth.approle.create_or_update_approle("keeper", token_policies=["keyturn-admin"])
    approle = world.client.auth.approle
    admin = {
        "role_id": approle.read_role_id("keeper")["data"]["role_id"],
        "secret_id": approle.generate_secret_id("keeper")["data"]["secret_id"],
    }
    before = tokens(world)
    kind, current, pending = started(world, kind_in(replace(world.setup, admin=admin)))
    kind.retire(pending, current)
    assert tokens(world) <= before


# --- refusals ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"secret_id_ttl": "30m"}, "expires after 30 min"),
        ({"secret_id_ttl": "1h"}, "expires after 1 h"),
        ({"secret_id_num_uses": 1}, "used once"),
        (
            {
                "bind_secret_id": False,
                "secret_id_bound_cidrs": None,
                "token_bound_cidrs": ["127.0.0.0/8"],
            },
            "without a secret-id",
        ),
    ],
)
def test_a_role_that_cannot_be_rotated_is_refused_before_one_is_made(world, settings, words):
    """Its secret-ids expire in the grace, are used up by the check, or are not asked for."""
    change_role(world, **settings)
    before = world.credentials()
    kind = kind_in(world.setup)
    for step in (
        lambda: kind.describe(secret_values(world.setup.first)),
        lambda: kind.create(secret_values(world.setup.first), token=TOKEN),
    ):
        with pytest.raises(Rejected) as caught:
            step()
        assert words in caught.value.message
    assert before == world.credentials()


def test_lifetime_and_uses_are_said(world):
    """In the dry run, which changes nothing."""
    change_role(world, secret_id_ttl="48h", secret_id_num_uses=5)
    before = world.credentials()
    text = str(kind_in(world.setup).describe(secret_values(world.setup.first)))
    assert "2 d" in text and "5 times" in text
    assert before == world.credentials()


def test_uses_of_the_current_one_are_not_spent(world):
    """Only the new one is logged in with."""
    change_role(world, secret_id_num_uses=2)
    world.setup = replace(world.setup, first=world.by_hand())
    kind, current, _ = started(world)
    assert world.use(texts_of(current)) and world.use(texts_of(current))


def test_a_missing_right_is_named(world):
    """With the line of the policy that gives it."""
    token = world.client.auth.token.create(policies=["clipper"], ttl="1h")["auth"]["client_token"]
    kind = kind_in(replace(world.setup, admin={"value": token}))
    with pytest.raises(Rejected) as caught:
        kind.create(secret_values(world.setup.first), token=TOKEN)
    assert "target.denied" == caught.value.code
    assert f'path "auth/approle/role/{ROLE}"' in caught.value.hint
    assert token not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"role": "nobody"}, "no role `nobody`"), ({"mount": "elsewhere"}, "no role")],
)
def test_a_role_or_mount_that_is_not_there(world, changes, words):
    """The names are in the message."""
    kind = kind_in(
        replace(
            world.setup,
            target=world.setup.target | changes,
            admin={"token": world.server.token.reveal_text()},
        )
    )
    with pytest.raises(Rejected) as caught:
        kind.create(secret_values(world.setup.first), token=TOKEN)
    assert words in caught.value.message


def test_fewer_policies_than_the_current_one_fail_the_check(world):
    """The current version is another role's."""
    approle = world.client.auth.approle
    approle.create_or_update_approle("bigger", token_policies=["clipper", "more"])
    bigger = {
        "role_id": approle.read_role_id("bigger")["data"]["role_id"],
        "secret_id": approle.generate_secret_id("bigger")["data"]["secret_id"],
    }
    root = {"token": world.server.token.reveal_text()}
    kind = kind_in(replace(world.setup, admin=root), clock=Hurried())
    pending = kind.create(secret_values(world.setup.first), token=TOKEN)
    with pytest.raises(VerificationFailed) as caught:
        kind.check(secret_values(bigger), pending)
    assert "`more`" in caught.value.message


def test_an_old_one_that_still_logs_in_is_noticed(world):
    """Retiring did not happen."""
    kind, current, _ = started(world)
    with pytest.raises(VerificationFailed) as caught:
        kind.prove_dead(current)
    assert "target.still-works" == caught.value.code


def test_a_new_one_that_is_refused_keeps_the_old_one(world):
    """Retiring looks at the new one first."""
    kind, current, pending = started(world)
    kind.withdraw(current, pending)
    with pytest.raises(VerificationFailed):
        kind.retire(pending, current)
    with pytest.raises(Rejected):
        kind.retire(current, current)
    assert world.use(texts_of(current))


def test_no_error_has_the_value(world):
    """Of a login that is refused."""
    kind = kind_in(world.setup, clock=Hurried())
    wrong = world.setup.first | {"secret_id": "CANARY-3c7a-4b5d-9f10"}
    with pytest.raises(VerificationFailed) as caught:
        kind.probe(secret_values(wrong))
    assert "CANARY" not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"address": ""}, "address"),
        ({"role": ""}, "role"),
        ({"address": "http://vault.example.net:8200"}, "plain http"),
        ({"ca_file": "/nowhere.pem"}, "ca_file"),
    ],
)
def test_a_target_that_does_not_say_enough(changes, words):
    """The hint says what to write."""
    target = {"address": "http://127.0.0.1:1", "role": "r"} | changes
    with pytest.raises(UsageError) as caught:
        kind_in(Setup("vault-approle", ("role_id", "secret_id"), target, {}))
    assert "rotation.target" == caught.value.code
    assert words in caught.value.message
    assert "base_url" not in caught.value.message + caught.value.hint


# --- the network ------------------------------------------------------------------


@contextlib.contextmanager
def answering(world, replies):
    """
    Pass requests on to the server; a path that ends as one of *replies* gets that status.

    A status of 0 cuts the connection after the server has done what was asked.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def _serve(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.server.seen.append(dict(self.headers))
            asked = f"{self.command} {self.path}"
            status = next((s for end, s in replies.items() if asked.endswith(end)), None)
            if status is not None and status > 0:
                return self._answer(status, json.dumps({"errors": ["Vault is sealed"]}).encode())
            kept = {"Authorization": self.headers.get("Authorization", "")}
            address = world.server.address + self.path
            answer = httpx.request(self.command, address, content=body, headers=kept)
            if status == 0:
                return self.connection.close()
            return self._answer(answer.status_code, answer.content)

        def _answer(self, status, content):
            self.send_response(status)
            if status == 307:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_LIST = _serve

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def through(world, server, **changes):
    target = world.setup.target | {"address": f"http://127.0.0.1:{server.server_port}"} | changes
    return kind_in(replace(world.setup, target=target), clock=Hurried())


def test_a_lost_answer_to_create_is_unknown_and_leaves_nothing_after_the_next_try(world):
    """The one that nobody has is destroyed."""
    current = secret_values(world.setup.first)
    with answering(world, {f"POST /v1/auth/approle/role/{ROLE}/secret-id": 0}) as server:
        with pytest.raises(OutcomeUnknown):
            through(world, server).create(current, token=TOKEN)
    assert 2 == len(world.credentials())
    with answering(world, {}) as server:
        made = texts_of(through(world, server).create(current, token=TOKEN))
    assert made["secret_id_accessor"] in world.credentials()
    assert 2 == len(world.credentials())


@pytest.mark.parametrize("status", [472, 473, 503])
def test_a_server_that_does_not_serve_is_unavailable(world, status):
    """Sealed, or on standby: nothing is proven and nothing changed."""
    current = secret_values(world.setup.first)
    with answering(world, {"/login": status, f"role/{ROLE}": status}) as server:
        kind = through(world, server)
        for step in (
            lambda: kind.probe(current),
            lambda: kind.prove_dead(current),
            lambda: kind.create(current, token=TOKEN),
        ):
            with pytest.raises(Unavailable):
                step()


def test_a_redirect_is_not_followed(world):
    """The token would go along."""
    with answering(world, {f"role/{ROLE}": 307}) as server:
        with pytest.raises(Rejected) as caught:
            through(world, server).create(secret_values(world.setup.first), token=TOKEN)
    assert "active node" in caught.value.hint


def test_the_namespace_is_said_with_every_request(world):
    """The header reaches the server; the server of these tests has no such namespace."""
    with answering(world, {}) as server:
        kind = through(world, server, namespace="team/one")
        kind.probe(secret_values(world.setup.first))
    assert ["team/one"] * len(server.seen) == [seen["X-Vault-Namespace"] for seen in server.seen]


def test_a_server_that_is_not_there_proves_nothing():
    """Neither that a secret-id works nor that it is dead."""
    target = {"address": "http://127.0.0.1:9", "role": "r"}
    kind = kind_in(Setup("vault-approle", ("role_id", "secret_id"), target, {}), clock=Hurried())
    values = secret_values({"role_id": "r", "secret_id": "s"})
    for step in (kind.probe, kind.prove_dead):
        with pytest.raises(Unavailable):
            step(values)


def test_a_sealed_server_is_unavailable():
    """The real one."""
    world = VaultAppRoleWorld()
    try:
        world.client.sys.seal()
        with pytest.raises(Unavailable) as caught:
            kind_in(world.setup).create(secret_values(world.setup.first), token=TOKEN)
        assert "sealed" in caught.value.message
        with pytest.raises(hvac.exceptions.VaultDown):
            world.use(world.setup.first)
    finally:
        world.close()
