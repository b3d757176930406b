"""AWS access keys against moto with its checks on, and AWS's own answers where moto has others."""

from __future__ import annotations

import contextlib
import http.server
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import httpx
import pytest

from keyturn._internal import failpoints
from keyturn.core.clock import SystemClock
from keyturn.core.ids import Token
from keyturn.errors import (
    NotYet,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
    VerificationFailed,
)
from keyturn.rotate import rehearse
from keyturn.targets._aws_keys import KeyFacts, Note, lost_key
from tests.worlds.aws_access_key import USER, AwsAccessKeyWorld
from tests.worlds.base import Setup, kind_in, secret_values, texts_of

TOKEN = Token("0123456789abcdef0123456789abcdef")
OTHER = Token("fedcba9876543210fedcba9876543210")
TAG = "keyturn:clipper/production/it"


class Hurried(SystemClock):
    """A clock whose waiting takes no time, and is counted."""

    def __init__(self):
        self.slept = 0.0

    def sleep(self, seconds):
        self.slept += seconds


@pytest.fixture(scope="module")
def server():
    found = AwsAccessKeyWorld()
    yield found
    found.close()


@pytest.fixture
def world(server):
    """The user with one key that was made by hand, and no tags."""
    for key in server.keys():
        server.iam.delete_access_key(UserName=USER, AccessKeyId=key)
    server.iam.untag_user(UserName=USER, TagKeys=[TAG])
    made = server.iam.create_access_key(UserName=USER)["AccessKey"]
    first = {
        "access_key_id": made["AccessKeyId"],
        "secret_access_key": made["SecretAccessKey"],
    }
    server.setup = replace(server.setup, first=first)
    return server


@pytest.fixture
def disarmed():
    yield
    failpoints.disarm()


def kind_of(world, setup=None):
    return kind_in(setup or world.setup, clock=Hurried())


def started(world, kind=None):
    kind = kind or kind_of(world)
    current = secret_values(world.setup.first)
    pending = kind.create(current, token=TOKEN)
    kind.apply(current, pending)
    kind.check(current, pending)
    return kind, current, pending


def id_of(values):
    return texts_of(values)["access_key_id"]


def retire(kind, pending, current):
    """Retire as the runner does: once more after the wait."""
    with pytest.raises(NotYet) as caught:
        kind.retire(pending, current)
    assert not caught.value.person
    kind.retire(pending, current)
    return caught.value


def test_the_old_key_is_switched_off_first_and_deleted_after_the_wait(world):
    """Both work until then; whoever used it last is named."""
    kind, current, pending = started(world)
    assert world.use(texts_of(current)) and world.use(texts_of(pending))
    assert {} == world.tags()
    with pytest.raises(NotYet) as caught:
        kind.retire(pending, current)
    assert (False, 1) == (caught.value.person, caught.value.again_seconds)
    assert "by s3" in caught.value.message and "--status Active" in caught.value.hint
    assert {id_of(current): "Inactive", id_of(pending): "Active"} == world.keys()
    kind.retire(pending, current)
    kind.retire(pending, current)
    assert "call refused" == kind.prove_dead(current).method
    assert {id_of(pending): "Active"} == world.keys()
    assert not world.use(texts_of(current)) and world.use(texts_of(pending))


def test_without_a_wait_it_is_deleted_at_once(world):
    """Where the manifest says so."""
    setup = replace(world.setup, target=world.setup.target | {"inactive_wait": "0s"})
    kind, current, pending = started(world, kind_of(world, setup))
    kind.retire(pending, current)
    assert {id_of(pending)} == set(world.keys())


@pytest.mark.usefixtures("disarmed")
@pytest.mark.parametrize("ending", ["again", "clean up", "another rotation"])
def test_the_key_whose_answer_was_lost_is_deleted(world, ending):
    """It is the one that the note at the user does not know, and was never used."""
    current = secret_values(world.setup.first)
    failpoints.arm("aws.create.called:error")
    with pytest.raises(OSError):
        kind_of(world).create(current, token=TOKEN)
    (lost,) = set(world.keys()) - {id_of(current)}
    if ending == "clean up":
        kind_of(world).clean_up(TOKEN)
        assert ({id_of(current): "Active"}, {}) == (world.keys(), world.tags())
        return
    token = TOKEN if ending == "again" else OTHER
    made = kind_of(world).create(current, token=token)
    assert {id_of(current), id_of(made)} == set(world.keys())
    assert lost not in world.keys() and world.use(texts_of(made))


@pytest.mark.usefixtures("disarmed")
@pytest.mark.parametrize("point", ["aws.note.called", "aws.create.call"])
def test_a_try_that_made_nothing_is_done_again(world, point):
    """The list is looked at for a while: a new key is not in it at once."""
    current = secret_values(world.setup.first)
    failpoints.arm(f"{point}:error")
    with pytest.raises(OSError):
        kind_of(world).create(current, token=TOKEN)
    clock = Hurried()
    made = kind_in(world.setup, clock=clock).create(current, token=TOKEN)
    assert 5 < clock.slept <= 20
    assert {id_of(current), id_of(made)} == set(world.keys())


@pytest.mark.usefixtures("disarmed")
def test_a_key_that_was_used_is_never_taken_for_a_lost_one(world):
    """Somebody has its secret: a person is asked, and nothing is deleted."""
    current = secret_values(world.setup.first)
    failpoints.arm("aws.create.call:error")
    with pytest.raises(OSError):
        kind_of(world).create(current, token=TOKEN)
    theirs = world.iam.create_access_key(UserName=USER)["AccessKey"]
    world.use(
        {
            "access_key_id": theirs["AccessKeyId"],
            "secret_access_key": theirs["SecretAccessKey"],
        }
    )
    with pytest.raises(NotYet) as caught:
        kind_of(world).create(current, token=TOKEN)
    assert caught.value.person and theirs["AccessKeyId"] in caught.value.message
    assert f"--access-key-id {theirs['AccessKeyId']}" in caught.value.hint
    kind_of(world).clean_up(TOKEN)
    assert {id_of(current), theirs["AccessKeyId"]} == set(world.keys())


def test_two_keys_are_a_persons_to_sort_out(world):
    """AWS allows no third; the other one is named, with its last use."""
    other = world.iam.create_access_key(UserName=USER)["AccessKey"]["AccessKeyId"]
    kind, current = kind_of(world), secret_values(world.setup.first)
    with pytest.raises(NotYet) as caught:
        kind.create(current, token=TOKEN)
    assert caught.value.person and "last used never" in caught.value.message
    assert other in caught.value.message and id_of(current) not in caught.value.message
    assert any(other in text for step, text in kind.describe(current) if step == "note")
    world.iam.delete_access_key(UserName=USER, AccessKeyId=other)
    kind.create(current, token=TOKEN)


@pytest.mark.usefixtures("disarmed")
def test_without_tags_a_lost_key_is_a_persons_to_delete():
    """Nothing is known of it for certain; everything else works."""
    world = AwsAccessKeyWorld(tags=False)
    try:
        kind, current, pending = started(world)
        retire(kind, pending, current)
        failpoints.arm("aws.create.called:error")
        with pytest.raises(OSError):
            kind.create(pending, token=OTHER)
        with pytest.raises(NotYet) as caught:
            kind.create(pending, token=OTHER)
        assert caught.value.person
        kind.clean_up(OTHER)
        assert 2 == len(world.keys())
    finally:
        world.close()


def test_the_user_itself_may_do_it():
    """Without an administrator; the user is then the one whose key it is."""
    world = AwsAccessKeyWorld(own=True)
    try:
        target = {k: v for k, v in world.setup.target.items() if k != "user"}
        setup = replace(world.setup, target=target)
        kind, current, pending = started(world, kind_of(world, setup))
        kind.describe(pending)
        retire(kind, pending, current)
        kind.prove_dead(current)
        kind_of(world, setup).clean_up(TOKEN)
        third = kind.create(pending, token=OTHER)
        kind_of(world, setup).clean_up(OTHER, current=pending)
        assert {id_of(pending)} == set(world.keys()), third
        with pytest.raises(UsageError):
            kind_of(world, setup).create(None, token=TOKEN)
    finally:
        world.close()


def test_withdrawing_deletes_the_new_key_alone(world):
    """Also when it is done already."""
    kind, current, pending = started(world)
    kind.withdraw(current, pending)
    kind.withdraw(current, pending)
    assert ({id_of(current): "Active"}, {}) == (world.keys(), world.tags())
    kind.prove_dead(pending)
    assert world.use(texts_of(current))


def test_a_rehearsal_leaves_no_trace(world):
    """Neither a key nor a tag."""
    kind, current, pending = started(world, kind_of(world).rehearsal())
    kind.withdraw(current, pending)
    kind.prove_dead(pending)
    assert ({id_of(current): "Active"}, {}) == (world.keys(), world.tags())


@pytest.mark.parametrize(
    ("action", "step"),
    [("GetAccessKeyLastUsed", "check"), ("UpdateAccessKey", "withdraw")],
)
def test_a_rehearsal_finds_the_rights_that_only_the_end_needs(world, action, step):
    """What `retire` asks for is denied already, and the key is deleted all the same."""

    def decide(asked, caller, count):
        denied = f"User: x is not authorized to perform: iam:{asked}"
        return (403, "AccessDenied", denied) if asked == action else None

    with answering(world, decide) as (setup, counts):
        kind = kind_of(world, setup).rehearsal()
        current = secret_values(world.setup.first)
        seen = {line.step: line for line in rehearse(kind, current, token=TOKEN)}
    assert [step] == [name for name, line in seen.items() if line.failure is not None]
    assert f"`{action}`" in seen[step].failure.hint
    assert 1 == counts["GetAccessKeyLastUsed"] == counts["UpdateAccessKey"]
    assert {id_of(current)} == set(world.keys())


def test_a_birth_makes_a_key_of_the_user_that_the_target_names(world):
    """The first version of all."""
    world.iam.delete_access_key(UserName=USER, AccessKeyId=world.setup.first["access_key_id"])
    kind = kind_of(world)
    made = kind.create(None, token=TOKEN)
    kind.apply(None, made)
    assert USER in kind.check(None, made).detail
    assert world.use(texts_of(made))


# --- refusals ---------------------------------------------------------------------


def test_a_missing_right_is_named(world):
    """As AWS spells it."""
    setup = replace(world.setup, admin=world.setup.first)
    with pytest.raises(Rejected) as caught:
        kind_of(world, setup).create(secret_values(world.setup.first), token=TOKEN)
    assert "target.denied" == caught.value.code
    assert "`ListAccessKeys`" in caught.value.hint


def test_a_key_of_another_user_fails_the_check(world):
    """The target names one user, the current version is another's."""
    kind = kind_of(world)
    current = secret_values(world.setup.first)
    pending = kind.create(current, token=TOKEN)
    stranger = secret_values(world.setup.admin)
    with pytest.raises(VerificationFailed) as caught:
        kind.check(stranger, pending)
    assert "user/keyturn" in caught.value.message
    other = replace(world.setup, target=world.setup.target | {"user": "somebody"})
    with pytest.raises(VerificationFailed):
        kind_of(world, other).check(None, pending)


def test_a_new_key_that_is_refused_keeps_the_old_one(world):
    """Retiring looks at the new one first; the same one is never retired."""
    kind, current, pending = started(world)
    world.iam.delete_access_key(UserName=USER, AccessKeyId=id_of(pending))
    with pytest.raises(VerificationFailed):
        kind.retire(pending, current)
    with pytest.raises(Rejected):
        kind.retire(current, current)
    assert {id_of(current): "Active"} == world.keys()


def test_an_old_key_that_still_works_is_noticed(world):
    """It is tried for a while, as a deletion takes a while to be known."""
    clock = Hurried()
    with pytest.raises(VerificationFailed) as caught:
        kind_in(world.setup, clock=clock).prove_dead(secret_values(world.setup.first))
    assert "target.still-works" == caught.value.code
    assert 5 < clock.slept <= 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"region": ""}, "region"),
        ({"inactive_wait": "soon"}, "inactive_wait"),
        ({"endpoint_url": "http://aws.example.net"}, "plain http"),
        ({"endpoint_url": "aws"}, "endpoint_url"),
    ],
)
def test_a_target_that_does_not_say_enough(changes, words):
    """The hint says what to write."""
    with pytest.raises(UsageError) as caught:
        kind_in(Setup("aws-access-key", (), {"region": "eu-central-1"} | changes, {}))
    assert "rotation.target" == caught.value.code
    assert words in caught.value.message


def test_nothing_of_the_environment_is_used(world, monkeypatch, tmp_path):
    """No profile, file, endpoint, proxy or certificate of whoever runs it."""
    config = tmp_path / "config"
    config.write_text("[default]\nregion = nowhere\n[broken")
    for name, value in {
        "AWS_PROFILE": "does-not-exist",
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(config),
        "AWS_SESSION_TOKEN": "CANARY",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_IAM": "http://127.0.0.1:1",
        "AWS_CA_BUNDLE": "/nowhere",
        "REQUESTS_CA_BUNDLE": "/nowhere",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
        "AWS_MAX_ATTEMPTS": "7",
    }.items():
        monkeypatch.setenv(name, value)
    kind_of(world).probe(secret_values(world.setup.first))


def test_aws_itself_is_the_endpoint_where_none_is_named(monkeypatch):
    """Whatever the environment names."""
    from keyturn.core.value import SecretValue
    from keyturn.targets import _aws_api

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    key = _aws_api.AwsKey("AKIAIOSFODNN7EXAMPLE", SecretValue(b"x" * 40), "it")
    client = _aws_api._client(_aws_api.AwsTarget("eu-central-1", None), key, "sts", attempts=1)
    assert "https://sts.eu-central-1.amazonaws.com" == client.meta.endpoint_url


# --- what moto does not do --------------------------------------------------------


@contextlib.contextmanager
def answering(world, decide):
    """
    Pass calls on to moto, and answer those that *decide* has an answer for.

    Args:
        decide: Called with the action, the key id of the caller and how often the
            action was asked; returns (status, code, message), 0 to cut the
            connection once the call is done, or None.
    """
    counts = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            action = parse_qs(body.decode())["Action"][0]
            caller = self.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
            counts[action] = counts.get(action, 0) + 1
            found = decide(action, caller, counts[action])
            if isinstance(found, tuple):
                status, code, message = found
                text = (
                    "<ErrorResponse><Error><Type>Sender</Type>"
                    f"<Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
                )
                return self._answer(status, text.encode())
            answer = httpx.post(world.server.address, content=body, headers=dict(self.headers))
            if found == 0:
                return self.connection.close()
            return self._answer(answer.status_code, answer.content)

        def _answer(self, status, content):
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield replace(world.setup, target=world.setup.target | {"endpoint_url": address}), counts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_inactive_key_is_refused_by_aws(world):
    """Which moto goes on taking: the same code and words as for one that is deleted."""
    kind, current, pending = started(world)
    with pytest.raises(NotYet):
        kind.retire(pending, current)

    def aws(action, caller, count):
        if world.keys().get(caller) == "Inactive":
            return (
                403,
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            )
        return None

    with answering(world, aws) as (setup, _):
        kind = kind_of(world, setup)
        assert "call refused" == kind.prove_dead(current).method
        kind.probe(pending)


def test_a_new_key_that_is_not_known_everywhere_is_tried_again(world):
    """AWS takes some seconds."""
    current = secret_values(world.setup.first)

    def aws(action, caller, count):
        if action == "GetCallerIdentity" and caller != id_of(current) and count < 4:
            return 403, "InvalidClientTokenId", "The security token is invalid."
        return None

    with answering(world, aws) as (setup, counts):
        clock = Hurried()
        kind = kind_in(setup, clock=clock)
        pending = kind.create(current, token=TOKEN)
        kind.check(current, pending)
    assert clock.slept > 1 and counts["GetCallerIdentity"] >= 4


def test_a_lost_answer_to_create_is_unknown_and_leaves_no_key(world):
    """The call is sent once, and the next try deletes what it made."""
    current = secret_values(world.setup.first)

    def aws(action, caller, count):
        return 0 if action == "CreateAccessKey" and count == 1 else None

    with answering(world, aws) as (setup, counts):
        with pytest.raises(OutcomeUnknown):
            kind_of(world, setup).create(current, token=TOKEN)
        assert 1 == counts["CreateAccessKey"]
        assert 2 == len(world.keys())
        made = kind_of(world, setup).create(current, token=TOKEN)
    assert {id_of(current), id_of(made)} == set(world.keys())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((500, "ServiceFailure", "x"), OutcomeUnknown),
        ((400, "Throttling", "Rate exceeded"), Unavailable),
        ((409, "EntityTemporarilyUnmodifiable", "x"), Rejected),
        ((403, "AccessDenied", "User is not authorized"), Rejected),
    ],
)
def test_an_answer_to_a_change_is_what_it_means(world, answer, error):
    """A server's fault may have come after the deed."""
    current = secret_values(world.setup.first)
    with answering(world, lambda action, *_: answer if action == "CreateAccessKey" else None) as (
        setup,
        counts,
    ):
        with pytest.raises(error):
            kind_of(world, setup).create(current, token=TOKEN)
        assert 1 == counts["CreateAccessKey"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            (403, "SignatureDoesNotMatch", "Signature expired: 2020 is now earlier than 2026"),
            Rejected,
        ),
        ((500, "InternalFailure", "x"), Unavailable),
        ((403, "AccessDenied", "x"), Rejected),
    ],
)
def test_what_is_no_refusal_of_the_key_proves_nothing(world, answer, error):
    """A wrong clock here has the code of a wrong secret."""
    with answering(world, lambda *_: answer) as (setup, _):
        with pytest.raises(error):
            kind_of(world, setup).prove_dead(secret_values(world.setup.first))


def test_a_secret_that_aws_repeats_is_not_passed_on(world):
    """Nor anything else of its own is shown beyond its first words."""
    values = world.setup.first
    words = f"canonical string: {values['secret_access_key']}"
    with answering(world, lambda *_: (400, "ValidationError", words)) as (setup, _):
        with pytest.raises(Rejected) as caught:
            kind_of(world, setup).probe(secret_values(values))
    assert values["secret_access_key"] not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize("arn", ["arn:aws:iam::1:root", "arn:aws:sts::1:assumed-role/r/s"])
def test_a_key_that_is_no_users_is_refused(arn):
    """Those of the root user and of roles are not rotated."""
    content = (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<GetCallerIdentityResult><Arn>{arn}</Arn><UserId>u</UserId><Account>1</Account>"
        "</GetCallerIdentityResult></GetCallerIdentityResponse>"
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        target = {
            "region": "eu-central-1",
            "endpoint_url": f"http://127.0.0.1:{server.server_port}",
        }
        kind = kind_in(Setup("aws-access-key", (), target, {}))
        values = secret_values({"access_key_id": "AKIA", "secret_access_key": "x"})
        with pytest.raises(Rejected) as caught:
            kind.probe(values)
        assert "target.role" == caught.value.code
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_network_that_is_not_there_proves_nothing():
    """Neither that a key works nor that it is dead."""
    target = {"region": "eu-central-1", "endpoint_url": "http://127.0.0.1:1"}
    kind = kind_in(Setup("aws-access-key", (), target, {}), clock=Hurried())
    values = secret_values({"access_key_id": "AKIA", "secret_access_key": "x"})
    for step in (kind.probe, kind.prove_dead):
        with pytest.raises(Unavailable):
            step(values)


# --- which key is the lost one ----------------------------------------------------

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTE = Note("t", NOW, frozenset({"A"}))
LOST = KeyFacts("B", True, NOW + timedelta(seconds=2))


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ([LOST], LOST),
        ([KeyFacts("A", True, NOW), LOST], LOST),
        ([], None),
        ([KeyFacts("A", True, NOW)], None),
        ([replace(LOST, id="C")], None),
        ([replace(LOST, active=False)], None),
        ([replace(LOST, made=NOW + timedelta(minutes=7))], None),
        ([replace(LOST, made=NOW - timedelta(minutes=7))], None),
        ([LOST, replace(LOST, id="D")], None),
    ],
)
def test_a_key_is_lost_only_where_there_is_no_doubt(keys, found):
    """One, unknown to the note, made at its time, active, and not the current one."""
    assert found == lost_key(NOTE, keys, current="C")


@pytest.mark.parametrize("text", ["", "by hand", "a b c", "t 2026-03-01T12:00:00 A", "t x A"])
def test_a_note_that_a_person_wrote_is_none(text):
    """It says nothing, and is overwritten."""
    assert Note.parse(text) is None
    assert NOTE == Note.parse(NOTE.text())
