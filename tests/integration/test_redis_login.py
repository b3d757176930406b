"""Redis logins on real servers: both strategies, what survives a restart, every refusal."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import threading
from dataclasses import replace

import pytest
import redis

from keyturn._internal import failpoints
from keyturn.core.ids import Token
from keyturn.errors import (
    KeyturnError,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
    VerificationFailed,
)
from keyturn.testing.redis import RedisServer
from tests.worlds.base import kind_in, secret_values, texts_of
from tests.worlds.redis_login import ADMIN, USER, RedisLoginWorld, name_of
from tests.worlds.redis_requirepass import RedisRequirepassWorld

TOKEN = Token("0123456789abcdef0123456789abcdef")


@pytest.fixture(params=["config", "aclfile"])
def world(request):
    found = RedisLoginWorld(keeps=request.param)
    yield found
    found.close()


@pytest.fixture
def simple():
    found = RedisLoginWorld()
    yield found
    found.close()


@pytest.fixture
def server_wide():
    found = RedisRequirepassWorld()
    yield found
    found.close()


def started(world, kind=None):
    """Do the steps up to the check and return the old and the new values."""
    kind = kind or kind_in(world.setup)
    current = secret_values(world.setup.first)
    pending = kind.create(current, token=TOKEN)
    kind.apply(current, pending)
    kind.check(current, pending)
    return kind, current, pending


def client_of(world, values):
    texts = texts_of(values)
    return redis.Redis(
        host=world.server.host,
        port=world.server.port,
        username=texts.get("username"),
        password=texts["password"],
        retry=None,
        single_connection_client=True,
    )


def target(world, **changes):
    return replace(world.setup, target=world.setup.target | changes)


# --- two passwords ----------------------------------------------------------------


def test_both_passwords_work_until_the_old_one_is_retired(world):
    """Then the old one is refused, and stays so after a restart."""
    kind, current, pending = started(world)
    old, new = texts_of(current), texts_of(pending)
    assert USER == new["username"]
    assert world.use(old) and world.use(new)
    world.server.restart()
    assert world.use(old) and world.use(new)
    kind.retire(pending, current)
    assert "login refused" == kind.prove_dead(current).method
    world.server.restart()
    assert not world.use(old) and world.use(new)
    assert {name_of(new)} == world.credentials()


def test_no_password_is_sent_when_it_is_set(simple):
    """The server keeps and is told the SHA-256 only: no text of it in its files or log."""
    _, _, pending = started(simple)
    text = texts_of(pending)["password"]
    for path in simple.server.folder.iterdir():
        assert text not in path.read_text(errors="replace")
    assert text not in str(simple.execute("SLOWLOG", "GET", "100"))


def test_retiring_ends_the_sessions_that_the_old_password_opened(simple):
    """Those of other users, and those opened afterwards, go on."""
    kind, current, pending = started(simple)
    stale, bystander = client_of(simple, current), simple.server.connect()
    stale.ping()
    number = bystander.client_id()
    kind.retire(pending, current)
    with pytest.raises(redis.ConnectionError):
        stale.ping()
    fresh = client_of(simple, pending)
    fresh.ping()
    assert number == bystander.client_id()
    bystander.close()
    fresh.close()


def test_every_step_may_be_done_again(simple):
    """Nothing is an error because it is so already."""
    kind, current, pending = started(simple)
    kind.apply(current, pending)
    kind.retire(pending, current)
    kind.retire(pending, current)
    kind.prove_dead(current)
    kind.withdraw(current, secret_values({"username": USER, "password": "never-there"}))
    assert {name_of(texts_of(pending))} == simple.credentials()


@pytest.mark.parametrize("point", ["apply", "apply.save"])
@pytest.mark.parametrize("moment", ["call", "called"])
def test_an_apply_that_was_cut_off_is_finished_by_the_next(world, point, moment):
    """What was set and not written down is written down."""
    kind = kind_in(world.setup)
    current = secret_values(world.setup.first)
    pending = kind.create(current, token=TOKEN)
    failpoints.arm(f"redis.{point}.{moment}:error")
    try:
        with pytest.raises(OSError):
            kind.apply(current, pending)
    finally:
        failpoints.disarm()
    kind.apply(current, pending)
    world.server.restart()
    assert world.use(texts_of(pending)) and world.use(texts_of(current))


def test_withdrawing_leaves_the_current_password_and_its_sessions(simple):
    """The new one is refused, durably."""
    kind, current, pending = started(simple)
    session = client_of(simple, current)
    session.ping()
    kind.withdraw(current, pending)
    session.ping()
    session.close()
    simple.server.restart()
    assert simple.use(texts_of(current)) and not simple.use(texts_of(pending))
    kind.prove_dead(pending)


def test_a_rehearsal_leaves_no_trace(simple):
    """The user is as it was."""
    before = simple.execute("ACL", "LIST")
    trial = kind_in(simple.setup).rehearsal()
    kind, current, pending = started(simple, trial)
    kind.withdraw(current, pending)
    kind.prove_dead(pending)
    assert before == simple.execute("ACL", "LIST")


def test_a_server_that_would_forget_is_refused_before_anything_is_changed():
    """Neither an ACL file nor a configuration file."""
    world = RedisLoginWorld(keeps="nowhere")
    try:
        kind = kind_in(world.setup)
        current = secret_values(world.setup.first)
        before = world.execute("ACL", "LIST")
        for step in (lambda: kind.describe(current), lambda: kind.create(current, token=TOKEN)):
            with pytest.raises(Rejected) as caught:
                step()
            assert "target.persistence" == caught.value.code
            assert "redis.conf" in caught.value.hint
        assert before == world.execute("ACL", "LIST")
    finally:
        world.close()


def test_a_file_that_cannot_be_written_is_said(simple):
    """The step fails, and can be withdrawn once it can be written again."""
    kind = kind_in(simple.setup)
    current = secret_values(simple.setup.first)
    pending = kind.create(current, token=TOKEN)
    configuration = simple.server.folder / "redis.conf"
    moved = configuration.rename(configuration.with_suffix(".away"))
    configuration.mkdir()
    with pytest.raises(Rejected) as caught:
        kind.apply(current, pending)
    assert "target.persistence" == caught.value.code
    configuration.rmdir()
    moved.rename(configuration)
    kind.withdraw(current, pending)
    assert {name_of(simple.setup.first)} == simple.credentials()


def test_the_login_itself_may_do_it():
    """Without an administrator, where it is allowed to."""
    world = RedisLoginWorld(own=True)
    try:
        kind, current, pending = started(world)
        kind.retire(pending, current)
        kind.prove_dead(current)
        assert not world.use(texts_of(current)) and world.use(texts_of(pending))
    finally:
        world.close()


def test_the_default_user_takes_two_passwords_too(server_wide):
    """Where `in-place` was not asked for."""
    kind, current, pending = started(
        server_wide, kind_in(replace(server_wide.setup, strategy="two-passwords"))
    )
    assert server_wide.use(texts_of(current)) and server_wide.use(texts_of(pending))
    kind.retire(pending, current)
    server_wide.server.restart()
    assert not server_wide.use(texts_of(current)) and server_wide.use(texts_of(pending))


def test_the_first_password_of_a_user_that_has_none():
    """A birth: nobody is shut out, for nobody came in."""
    world = RedisLoginWorld()
    try:
        world.execute("ACL", "SETUSER", USER, "resetpass")
        kind = kind_in(world.setup)
        made = secret_values(
            {
                "username": USER,
                **texts_of(kind.create(secret_values(world.setup.first), token=TOKEN)),
            }
        )
        kind.apply(None, made)
        kind.check(None, made)
        assert world.use(texts_of(made))
    finally:
        world.close()


# --- refusals ---------------------------------------------------------------------


@pytest.mark.parametrize("right", ["acl|setuser", "acl|getuser", "config|rewrite", "client|list"])
def test_a_missing_right_is_named(simple, right):
    """With the statement that gives it."""
    simple.execute("ACL", "SETUSER", ADMIN, f"-{right}")
    kind = kind_in(simple.setup)
    current = secret_values(simple.setup.first)
    with pytest.raises(Rejected) as caught:
        kind.apply(current, kind.create(current, token=TOKEN))
    assert "target.denied" == caught.value.code
    assert f"+{right}" in caught.value.hint


def test_the_rights_that_the_guide_names_are_enough_and_needed(simple):
    """An administrator with them, and no more, does a whole rotation."""
    kind, current, pending = started(simple)
    kind.describe(pending)
    kind.retire(pending, current)
    with pytest.raises(redis.exceptions.NoPermissionError):
        client_of(simple, secret_values(simple.setup.admin)).get("x")


@pytest.mark.parametrize(
    ("rules", "code"),
    [(("nopass",), "target.authentication"), (("off",), "target.role"), (None, "target.role")],
)
def test_a_user_that_cannot_be_rotated_is_refused(simple, rules, code):
    """It needs no password, is off, or is not there."""
    if rules is None:
        simple.execute("ACL", "DELUSER", USER)
    else:
        simple.execute("ACL", "SETUSER", USER, *rules)
    with pytest.raises(Rejected) as caught:
        kind_in(simple.setup).create(secret_values(simple.setup.first), token=TOKEN)
    assert code == caught.value.code
    assert "ACL SETUSER" in caught.value.hint


def test_a_command_that_the_user_may_not_run_fails_the_check(simple):
    """It is named; the new password is not what lacks the right."""
    setup = target(simple, commands=["GET x", "CONFIG GET maxmemory"])
    with pytest.raises(VerificationFailed) as caught:
        started(simple, kind_in(setup))
    assert "`CONFIG`" in caught.value.message


def test_an_old_password_that_works_again_is_noticed(simple):
    """Somebody put it back at the server."""
    kind, current, pending = started(simple)
    kind.retire(pending, current)
    simple.execute("ACL", "SETUSER", USER, ">" + simple.setup.first["password"])
    with pytest.raises(VerificationFailed) as caught:
        kind.prove_dead(current)
    assert "target.still-works" == caught.value.code


def test_a_user_without_password_proves_nothing(server_wide):
    """The server says that it asks for none: that is no refusal of the old one."""
    kind = kind_in(server_wide.setup)
    with server_wide.server.connect() as client:
        client.execute_command("ACL", "SETUSER", "default", "nopass")
    with pytest.raises(KeyturnError) as caught:
        kind.prove_dead(secret_values(server_wide.setup.first))
    assert caught.value.code in {"target.authentication", "target.still-works"}


def test_a_new_password_that_is_refused_keeps_the_old_one(simple):
    """Retiring looks at the new one first."""
    kind, current, pending = started(simple)
    simple.execute("ACL", "SETUSER", USER, "!" + name_of(texts_of(pending)))
    with pytest.raises(VerificationFailed):
        kind.retire(pending, current)
    assert simple.use(texts_of(current))


def test_versions_that_do_not_belong_together_retire_nothing(simple):
    """Another user, or the same password."""
    kind = kind_in(simple.setup)
    current = secret_values(simple.setup.first)
    other = secret_values({"username": "bystander", "password": "x"})
    for new in (other, current):
        with pytest.raises(Rejected):
            kind.retire(new, current)
    assert simple.use(texts_of(current))


def test_a_replica_that_uses_the_login_is_seen(simple):
    """It would lose its master."""
    current = secret_values(simple.setup.first)
    simple.execute("ACL", "SETUSER", USER, "+psync", "+replconf")
    replica = RedisServer(
        settings=[
            f"replicaof 127.0.0.1 {simple.server.port}",
            f"masteruser {USER}",
            f"masterauth {simple.setup.first['password']}",
        ]
    ).start()
    try:
        with simple.server.connect() as client:
            for _ in range(400):
                if client.info("replication")["connected_slaves"]:
                    break
                threading.Event().wait(0.02)
        with pytest.raises(Rejected) as caught:
            kind_in(simple.setup).create(current, token=TOKEN)
        assert "target.topology" == caught.value.code
        with pytest.raises(Rejected) as caught:
            setup = target(simple, port=replica.port)
            admin = {"username": "default", "password": replica.password.reveal_text()}
            with replica.connect() as client:
                client.acl_setuser(USER, enabled=True, passwords=["+x"])
            kind_in(replace(setup, admin=admin)).create(current, token=TOKEN)
        assert "replica" in caught.value.message
    finally:
        replica.stop()


def test_a_node_of_a_cluster_is_refused():
    """Its users are its own."""
    world = RedisLoginWorld(settings=["cluster-enabled yes"])
    try:
        with pytest.raises(Rejected) as caught:
            kind_in(world.setup).create(secret_values(world.setup.first), token=TOKEN)
        assert "target.topology" == caught.value.code
    finally:
        world.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": ""}, "host"),
        ({"port": "many"}, "port"),
        ({"port": 70000}, "port"),
        ({"tls": "maybe"}, "tls"),
        ({"ca_file": "/nowhere.pem"}, "ca_file"),
        ({"commands": "GET x"}, "commands"),
        ({"commands": ["'"]}, "commands"),
    ],
)
def test_a_target_that_does_not_say_enough(changes, words):
    """The hint says what to write, and where."""
    world_like = RedisSetup(changes)
    with pytest.raises(UsageError) as caught:
        kind_in(world_like)
    assert "rotation.target" == caught.value.code
    assert words in caught.value.hint + caught.value.message
    assert "[secrets.it.target]" in caught.value.hint


def RedisSetup(changes):
    from tests.worlds.base import Setup

    return Setup("redis-login", ("password",), {"host": "127.0.0.1"} | changes, {})


def test_plain_connections_leave_this_machine_never():
    """Without TLS only loopback is spoken to."""
    kind = kind_in(RedisSetup({"host": "192.0.2.1"}))
    with pytest.raises(Rejected) as caught:
        kind.probe(secret_values({"password": "x"}))
    assert "target.plaintext" == caught.value.code


def test_nobody_who_may_do_it():
    """A birth without an administrator."""
    with pytest.raises(Rejected) as caught:
        kind_in(RedisSetup({})).create(None, token=TOKEN)
    assert "admin" in caught.value.hint


# --- the network ------------------------------------------------------------------


class Cutting:
    """Passes bytes on to the server, and cuts the answer to what holds *word*."""

    def __init__(self, port, word):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._port, self._word = port, word
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(inner,), daemon=True).start()

    def _pass(self, inner):
        with inner, socket.create_connection(("127.0.0.1", self._port)) as outer:
            while data := inner.recv(65536):
                outer.sendall(data)
                answer = outer.recv(65536)
                if self._word in data:
                    return
                inner.sendall(answer)

    def close(self):
        self._listener.close()


def test_a_password_that_cannot_be_written_down_is_taken_out_again(simple):
    """The right went after it was looked for; the way back does not need it."""
    kind, current = kind_in(simple.setup), secret_values(simple.setup.first)
    pending = kind.create(current, token=TOKEN)
    before = simple.credentials()
    simple.execute("ACL", "SETUSER", ADMIN, "-config|rewrite")
    with pytest.raises(Rejected) as caught:
        kind.apply(current, pending)
    assert "CONFIG REWRITE" in caught.value.message
    assert before == simple.credentials()
    kind.withdraw(current, pending)
    assert before == simple.credentials()


def test_a_password_that_was_written_down_is_not_taken_from_memory_alone(simple):
    """A restart would bring it back; with the right it goes for good."""
    kind, current, pending = started(simple)
    simple.execute("ACL", "SETUSER", ADMIN, "-config|rewrite")
    with pytest.raises(Rejected):
        kind.withdraw(current, pending)
    assert name_of(texts_of(pending)) in simple.credentials()
    simple.execute("ACL", "SETUSER", ADMIN, "+config|rewrite")
    kind.withdraw(current, pending)
    simple.server.restart()
    assert not simple.use(texts_of(pending)) and simple.use(texts_of(current))


def test_what_a_rehearsal_of_redis_left_is_told_by_its_hash(simple):
    """As the server shows it, with the command that removes it."""
    kind, _, pending = started(simple)
    what, ending = kind.whereabouts(pending)
    assert name_of(texts_of(pending)) in what
    assert f"ACL SETUSER {USER} !{name_of(texts_of(pending))}" in ending


@pytest.mark.parametrize("word", [b"SETUSER", b"REWRITE"])
def test_a_lost_answer_to_a_change_is_unknown_and_the_next_try_settles_it(simple, word):
    """It was carried out; doing it again changes nothing more."""
    proxy = Cutting(simple.server.port, word)
    current = secret_values(simple.setup.first)
    pending = kind_in(simple.setup).create(current, token=TOKEN)
    with pytest.raises(OutcomeUnknown):
        kind_in(target(simple, port=proxy.port)).apply(current, pending)
    proxy.close()
    kind_in(simple.setup).apply(current, pending)
    assert {name_of(simple.setup.first), name_of(texts_of(pending))} == simple.credentials()


def test_a_server_that_is_down_proves_nothing(simple):
    """Neither that a password works nor that it is dead."""
    kind, current, _ = started(simple)
    simple.server.stop()
    for step in (kind.prove_dead, kind.probe):
        with pytest.raises(Unavailable):
            step(current)


def certificates(folder):
    """Make an authority and a server's certificate for 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def key():
        return ec.generate_private_key(ec.SECP256R1())

    def named(text):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def certificate(subject, public, issuer, signer, *extensions):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named(issuer))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(signer, hashes.SHA256())

    authority, server = key(), key()
    pem = serialization.Encoding.PEM
    paths = folder / "server.crt", folder / "server.key", folder / "ca.crt"
    root = certificate(
        "ca", authority.public_key(), "ca", authority, x509.BasicConstraints(ca=True, path_length=0)
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = certificate("server", server.public_key(), "ca", authority, address)
    paths[0].write_bytes(leaf.public_bytes(pem))
    paths[1].write_bytes(
        server.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    paths[2].write_bytes(root.public_bytes(pem))
    return paths


def test_tls_is_verified_with_the_ca_file(tmp_path):
    """A server of another authority is not spoken to."""
    paths = certificates(tmp_path)
    with RedisServer(tls=paths) as server:
        setup = RedisSetup({"port": server.port, "tls": True, "ca_file": str(paths[2])})
        values = secret_values({"password": server.password.reveal_text()})
        assert "login accepted" == kind_in(setup).probe(values).method
        (tmp_path / "other").mkdir()
        stranger = certificates(tmp_path / "other")[2]
        with pytest.raises(Unavailable) as caught:
            kind_in(RedisSetup(setup.target | {"ca_file": str(stranger)})).probe(values)
        assert "certificate" in caught.value.message.lower()


# --- in place ---------------------------------------------------------------------


def test_in_place_the_old_password_is_refused_at_once(server_wide):
    """The plan says so; the change survives a restart."""
    kind = kind_in(server_wide.setup)
    current = secret_values(server_wide.setup.first)
    assert not kind.overlaps and kind.rehearsal() is None
    assert any("refused until" in text for _, text in kind.describe(current))
    stale = client_of(server_wide, current)
    stale.ping()
    kind, current, pending = started(server_wide, kind)
    assert not server_wide.use(texts_of(current)) and server_wide.use(texts_of(pending))
    kind.apply(current, pending)
    stale.ping()
    kind.retire(pending, current)
    with pytest.raises(redis.ConnectionError):
        stale.ping()
    assert "login refused" == kind.prove_dead(current).method
    server_wide.server.restart()
    assert not server_wide.use(texts_of(current)) and server_wide.use(texts_of(pending))
    assert {texts_of(pending)["password"]} == server_wide.credentials()


def test_in_place_withdrawing_sets_the_old_password_again(server_wide):
    """Whatever came between."""
    kind, current, pending = started(server_wide)
    for _ in range(2):
        kind.withdraw(current, pending)
        server_wide.server.restart()
        assert server_wide.use(texts_of(current)) and not server_wide.use(texts_of(pending))


@pytest.mark.parametrize("point", ["redis.apply.called", "redis.apply.save.call"])
def test_in_place_a_change_that_was_not_written_down_is_on_the_next_call(server_wide, point):
    """The server takes the new password already, and would forget it."""
    kind = kind_in(server_wide.setup)
    current = secret_values(server_wide.setup.first)
    pending = kind.create(current, token=TOKEN)
    failpoints.arm(f"{point}:error")
    try:
        with pytest.raises(OSError):
            kind.apply(current, pending)
    finally:
        failpoints.disarm()
    kind.apply(current, pending)
    server_wide.server.restart()
    assert server_wide.use(texts_of(pending))


def test_in_place_is_for_a_password_of_the_server(simple):
    """Not for a user, and not for a server without one."""
    kind = kind_in(replace(simple.setup, strategy="in-place"))
    with pytest.raises(Rejected) as caught:
        kind.create(secret_values(simple.setup.first), token=TOKEN)
    assert "two passwords" in caught.value.hint


def test_a_password_that_the_server_repeats_is_not_passed_on():
    """A server that knows no CONFIG repeats its arguments in the error."""
    from keyturn.targets._redis_connection import RedisLogin, RedisTarget, log_in

    with RedisServer(settings=['rename-command CONFIG ""']) as server:
        login = RedisLogin("default", server.password, "it")
        with log_in(RedisTarget(server.host, server.port, False), login) as connection:
            with pytest.raises(Rejected) as caught:
                connection.change("CONFIG", "SET", "requirepass", "CANARY-value", point="x")
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_an_unknown_strategy_is_refused():
    """The hint names those there are."""
    with pytest.raises(UsageError) as caught:
        kind_in(replace(RedisSetup({}), strategy="two-logins"))
    assert "two-passwords" in caught.value.hint
