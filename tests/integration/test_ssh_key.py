"""SSH keys at a real OpenSSH server: both strategies, every refusal, the file byte for byte."""

from __future__ import annotations

import dataclasses
import os
import secrets
import socket
import stat
import threading

import pytest

from keyturn._internal import failpoints
from keyturn.core.clock import SystemClock
from keyturn.core.ids import FieldName, Token
from keyturn.errors import (
    KeyturnError,
    NotYet,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
    VerificationFailed,
)
from tests.worlds.base import kind_in, secret_values, texts_of
from tests.worlds.ssh_certificate import SshCertificateWorld, make_certificate
from tests.worlds.ssh_key import SshKeyWorld, log_in, make_key

TOKEN = Token("0123456789abcdef")


@pytest.fixture
def world():
    """A server with one key of ours among others."""
    opened = SshKeyWorld()
    yield opened
    opened.close()


@pytest.fixture
def certified():
    """A server that trusts a CA."""
    opened = SshCertificateWorld()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def nothing_armed():
    """Leave no failpoint behind."""
    yield
    failpoints.disarm()


def kind_of(world, **target):
    """Build the kind, with keys of its target changed."""
    kept = {**world.setup.target, **target}
    merged = {key: value for key, value in kept.items() if value is not None}
    return kind_in(dataclasses.replace(world.setup, target=merged))


def with_admin(world, values=None, **target):
    """Build the kind with an administrator's key."""
    admin = values or world.other
    setup = dataclasses.replace(world.setup, admin=admin, target={**world.setup.target, **target})
    return kind_in(setup)


def rotate(kind, current):
    """Do the steps of a rotation and return the new values."""
    pending = kind.create(current, token=TOKEN)
    kind.apply(current, pending)
    kind.check(current, pending)
    kind.retire(pending, current)
    kind.prove_dead(current, current=pending)
    return pending


def key_of(values):
    return texts_of(values)["public_key"].split()[1]


# --- authorised keys ------------------------------------------------------------------


def test_a_key_takes_the_others_place(world):
    """Both work until the old one is retired; then it is refused and the rest is untouched."""
    kind, old = kind_of(world), secret_values(world.first)
    before = world.server.authorized_keys.read_bytes()
    pending = kind.create(old, token=TOKEN)
    assert not world.use(texts_of(pending))
    kind.apply(old, pending)
    assert world.use(texts_of(pending)) and world.use(world.first)
    assert "login accepted" == kind.check(old, pending).method
    kind.retire(pending, old)
    assert "login refused" == kind.prove_dead(old, current=pending).method
    assert world.use(texts_of(pending)) and not world.use(world.first) and world.use(world.other)
    line = world.first["public_key"].encode() + b"\n"
    new = f"ssh-ed25519 {key_of(pending)} made-by-hand\n".encode()
    assert before.replace(line, b"") + new == world.server.authorized_keys.read_bytes()


def test_options_and_comment_go_with_the_key(world):
    """A key that was restricted is followed by one restricted the same way."""
    options = 'restrict,command="echo \\"forced, indeed\\"",environment="A=b c"'
    world.server.authorized_keys.write_text(
        f"{options} {world.first['public_key']}\n{world.other['public_key']}\n"
    )
    kind, old = with_admin(world), secret_values(world.first)
    pending = rotate(kind, old)
    text = world.server.authorized_keys.read_text()
    assert f"{options} ssh-ed25519 {key_of(pending)} made-by-hand\n" in text
    assert "forced, indeed" == log_in(world.server, texts_of(pending), "echo in")


def test_a_forced_command_is_not_run_by_the_check(world, tmp_path):
    """The check opens a session and asks for nothing."""
    flag = tmp_path / "ran"
    world.server.authorized_keys.write_text(
        f'command="touch {flag}" {world.first["public_key"]}\n{world.other["public_key"]}\n'
    )
    rotate(with_admin(world), secret_values(world.first))
    assert not flag.exists()


def test_every_step_again_changes_nothing(world):
    """A crash after any step is answered by doing it once more."""
    kind, old = kind_of(world), secret_values(world.first)
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    after = world.server.authorized_keys.read_bytes()
    kind.apply(old, pending)
    assert after == world.server.authorized_keys.read_bytes()
    kind.retire(pending, old)
    after = world.server.authorized_keys.read_bytes()
    kind.retire(pending, old)
    kind.prove_dead(old, current=pending)
    assert after == world.server.authorized_keys.read_bytes()


def test_mode_owner_and_link_of_the_file_stay(world):
    """The new file is like the old one, and a link to it is followed."""
    real = world.server.folder / "keys-elsewhere"
    world.server.authorized_keys.rename(real)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 65534, 65534)
    owner = (real.stat().st_uid, real.stat().st_gid)
    world.server.authorized_keys.symlink_to(real)
    pending = rotate(kind_of(world), secret_values(world.first))
    assert world.server.authorized_keys.is_symlink()
    assert 0o640 == stat.S_IMODE(real.stat().st_mode)
    assert owner == (real.stat().st_uid, real.stat().st_gid)
    assert world.use(texts_of(pending))
    assert [real] == list(world.server.folder.glob("*keys-else*"))


def test_a_file_without_a_last_line_end_gets_one(world):
    """Else two keys would stand on one line, and neither would work."""
    world.server.authorized_keys.write_text(world.first["public_key"])
    pending = rotate(kind_of(world), secret_values(world.first))
    assert world.use(texts_of(pending))


def test_passphrase_and_rsa(world):
    """A declared passphrase protects the private key; OpenSSH opens it with that alone."""
    setup = dataclasses.replace(
        world.setup,
        fields=("private_key", "public_key", "passphrase"),
        target={**world.setup.target, "algorithm": "rsa"},
    )
    kind = kind_in(setup)
    pending = rotate(kind, secret_values(world.first))
    texts = texts_of(pending)
    assert texts["public_key"].startswith("ssh-rsa ") and len(texts["passphrase"]) == 32
    assert world.use(texts)
    kind.probe(pending)
    wrong = {**pending, **secret_values({"passphrase": "another"})}
    with pytest.raises(VerificationFailed) as caught:
        kind.probe(wrong)
    assert "ssh.key" == caught.value.code
    # A protected key is followed by another.
    assert world.use(texts_of(rotate(kind, pending)))


@pytest.mark.parametrize("kind_of_key", ["rsa", "ecdsa"])
def test_a_key_made_by_hand_is_replaced(world, kind_of_key):
    """Whatever kind it is of, and in PEM too."""
    first = make_key(kind=kind_of_key)
    with world.server.authorized_keys.open("a") as file:
        file.write(first["public_key"] + "\n")
    rotate(kind_of(world), secret_values({"private_key": first["private_key"]}))
    assert not world.use(first)


def test_withdraw_ends_the_new_key_and_keeps_the_old(world):
    """And puts the old one back if it is gone."""
    kind, old = kind_of(world), secret_values(world.first)
    before = world.server.authorized_keys.read_bytes()
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    kind.withdraw(old, pending)
    kind.withdraw(old, pending)
    assert before == world.server.authorized_keys.read_bytes()
    kind.prove_dead(pending, current=old)
    kind.apply(old, pending)
    kind.retire(pending, old)
    kind.withdraw(old, pending)
    assert world.use(world.first) and not world.use(texts_of(pending))


def test_rehearsal_leaves_no_trace(world):
    """Every byte of the file and of its folder is as before."""
    kind, old = kind_of(world).rehearsal(), secret_values(world.first)
    before = world.server.authorized_keys.read_bytes()
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    kind.check(old, pending)
    kind.withdraw(old, pending)
    kind.prove_dead(pending, current=old)
    kind.clean_up(TOKEN)
    assert before == world.server.authorized_keys.read_bytes()
    assert [world.server.authorized_keys] == list(world.server.authorized_keys.parent.iterdir())


def test_a_first_key_is_added_by_the_administrator(world):
    """And without one a person has to put it there."""
    pending = kind_of(world).create(None, token=TOKEN)
    with pytest.raises(Rejected, match="first key") as caught:
        kind_of(world).apply(None, pending)
    assert "admin" in caught.value.hint
    kind_of(world).withdraw(None, pending)
    kind = with_admin(world)
    kind.apply(None, pending)
    kind.check(None, pending)
    assert world.use(texts_of(pending))
    kind.withdraw(None, pending)
    assert not world.use(texts_of(pending))


def test_an_absent_file_is_made_for_a_first_key(world):
    """With its folder, for its owner alone."""
    path = world.server.folder / "home" / "fresh" / "keys"
    kind = with_admin(world, authorized_keys=str(path))
    kind.apply(None, kind.create(None, token=TOKEN))
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)


def test_open_sessions_go_on(world):
    """Taking a line out ends no session: said, and so."""
    import paramiko

    kind, old = kind_of(world), secret_values(world.first)
    assert any("stay open" in text for _, text in kind.describe(old))
    from io import StringIO

    key = paramiko.Ed25519Key.from_private_key(StringIO(world.first["private_key"]))
    transport = paramiko.Transport((world.server.host, world.server.port))
    try:
        transport.connect(username=world.server.user, pkey=key)
        rotate(kind, old)
        channel = transport.open_session()
        channel.exec_command("echo still here")
        assert b"still here\n" == channel.makefile().read()
    finally:
        transport.close()


# --- faults ---------------------------------------------------------------------------


def test_another_host_key_stops_everything(world):
    """Nothing is sent to a server whose key is not the pinned one, of whatever type."""
    old = secret_values(world.first)
    for other in (make_key(), make_key(kind="rsa"), make_key(kind="ecdsa")):
        with pytest.raises(Rejected) as caught:
            kind_of(world, host_key=other["public_key"]).probe(old)
        assert "target.host-key" == caught.value.code
    assert "Accepted" not in world.server.log_path.read_text()


def test_a_line_of_known_hosts_is_a_host_key(world):
    """People copy it from there."""
    line = f"[{world.server.host}]:{world.server.port} {world.server.host_key}"
    kind_of(world, host_key=line).probe(secret_values(world.first))


def test_a_file_that_sshd_does_not_read_is_noticed(world):
    """The key in use is not in it."""
    path = world.server.folder / "home" / "wrong"
    path.write_text("# nobody\n")
    kind, old = kind_of(world, authorized_keys=str(path)), secret_values(world.first)
    with pytest.raises(Rejected) as caught:
        kind.apply(old, kind.create(old, token=TOKEN))
    assert "target.key-file" == caught.value.code and "authorized_keys" in caught.value.hint
    assert "# nobody\n" == path.read_text()


def test_an_old_key_that_still_works_is_noticed(world):
    """Another line lets it in: the proof fails and says so."""
    kind, old = kind_of(world), secret_values(world.first)
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    kind.retire(pending, old)
    with world.server.authorized_keys.open("a") as file:
        file.write(world.first["public_key"] + "\n")
    with pytest.raises(VerificationFailed) as caught:
        kind.prove_dead(old, current=pending)
    assert "target.still-works" == caught.value.code


def test_a_refusal_of_everybody_proves_nothing(world):
    """Where the key in use is refused too, the server refuses for another reason."""
    kind, old = kind_of(world), secret_values(world.first)
    pending = kind.create(old, token=TOKEN)
    world.server.authorized_keys.write_text("")
    with pytest.raises(Unavailable):
        kind.prove_dead(old, current=pending)


def test_the_old_key_stays_while_the_new_one_is_refused(world):
    """Retiring asks the new key first."""
    kind, old = with_admin(world), secret_values(world.first)
    pending = kind.create(old, token=TOKEN)
    with pytest.raises(VerificationFailed):
        kind.retire(pending, old)
    assert world.use(world.first)


def test_a_new_key_that_is_refused_fails_the_check(world):
    """And the probe."""
    kind, old = kind_of(world), secret_values(world.first)
    pending = kind.create(old, token=TOKEN)
    for step in (lambda: kind.check(old, pending), lambda: kind.probe(pending)):
        with pytest.raises(VerificationFailed) as caught:
            step()
        assert "target.login-refused" == caught.value.code


def test_the_administrators_own_key_is_not_removed(world):
    """It is the one that would have to go on working."""
    kind, old = with_admin(world, values=world.first), secret_values(world.first)
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    with pytest.raises(Rejected) as caught:
        kind.retire(pending, old)
    assert "target.own-key" == caught.value.code
    assert world.use(world.first)


def test_one_key_in_both_versions_is_not_retired(world):
    """It would end the one in use."""
    old = secret_values(world.first)
    with pytest.raises(Rejected) as caught:
        kind_of(world).retire(old, old)
    assert "target.same-key" == caught.value.code


def test_a_login_that_may_not_write_is_told_so(world):
    """A key restricted to a command cannot change the file, and an administrator is named."""
    world.server.authorized_keys.write_text(f'command="true" {world.first["public_key"]}\n')
    kind, old = kind_of(world), secret_values(world.first)
    with pytest.raises(Rejected) as caught:
        kind.apply(old, kind.create(old, token=TOKEN))
    assert "target.denied" == caught.value.code and "admin" in caught.value.hint


def test_a_server_that_does_not_answer_is_unavailable(world):
    """It is no proof of anything."""
    kind, old = kind_of(world), secret_values(world.first)
    pending = kind.create(old, token=TOKEN)
    world.server.pause()
    for step in (
        lambda: kind.apply(old, pending),
        lambda: kind.check(old, pending),
        lambda: kind.retire(pending, old),
        lambda: kind.prove_dead(old),
        lambda: kind.probe(old),
        lambda: kind.withdraw(old, pending),
    ):
        with pytest.raises(Unavailable):
            step()
    world.server.resume()
    kind.probe(old)


class CutRelay:
    """Passes bytes on to the server, and cuts the connection after so many of one direction."""

    def __init__(self, server, *, sent=None, received=None):
        self.server = server
        self.limits = {"sent": sent, "received": received}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._serve)]
        self.threads[0].start()

    def _serve(self):
        try:
            client, _ = self.listener.accept()
        except OSError:
            return
        upstream = socket.create_connection((self.server.host, self.server.port))
        with client, upstream:
            pairs = [("sent", client, upstream), ("received", upstream, client)]
            workers = [
                threading.Thread(target=self._pass, args=(*pair, (client, upstream)))
                for pair in pairs
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()

    def _pass(self, name, source, sink, both):
        left = self.limits[name]
        try:
            while chunk := source.recv(65536):
                if left is not None:
                    chunk, left = chunk[:left], left - len(chunk)
                sink.sendall(chunk)
                if left is not None and left <= 0:
                    break
        except OSError:
            pass
        for end in both:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.threads[0].join()


def test_a_connection_cut_anywhere_proves_nothing(world):
    """Only the server's own refusal counts, however the connection ends before it."""
    unknown = secret_values(make_key())

    def refusals():
        return world.server.log_path.read_text().count("Failed publickey")

    proven, broken = 0, 0
    for direction, end in (("sent", 2200), ("received", 2600)):
        for size in range(20, end, 170):
            before = refusals()
            with CutRelay(world.server, **{direction: size}) as relay:
                try:
                    kind_of(world, port=relay.port).prove_dead(unknown)
                except Unavailable:
                    broken += 1
                    continue
            proven += 1
            assert refusals() > before
    # A cut behind the refusal is none; most cuts are before it.
    assert broken > proven > 0
    kind_of(world).prove_dead(unknown)


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_a_connection_cut_while_the_file_changes_is_settled_by_asking(world, direction):
    """The file is the old one or the new one, and the same step again finishes it."""
    old = secret_values(world.first)
    direct = kind_of(world)
    outcomes = set()
    for size in range(3000, 9000, 500):
        before = world.server.authorized_keys.read_bytes()
        pending = direct.create(old, token=TOKEN)
        with CutRelay(world.server, **{direction: size}) as relay:
            try:
                kind_of(world, port=relay.port).apply(old, pending)
                outcomes.add("done")
            except (Unavailable, OutcomeUnknown) as error:
                outcomes.add(type(error).__name__)
        now = world.server.authorized_keys.read_bytes()
        assert (
            now == before or now.startswith(before) and now.count(b"\n") == before.count(b"\n") + 1
        )
        direct.apply(old, pending)
        direct.withdraw(old, pending)
        assert before == world.server.authorized_keys.read_bytes()
    assert {"done", "Unavailable"} <= outcomes
    assert [world.server.authorized_keys] == list(world.server.authorized_keys.parent.iterdir())


def test_what_a_killed_try_left_beside_the_file_is_replaced(world):
    """It has a name of its own, so that the next try finds it."""
    kind, old = kind_of(world), secret_values(world.first)
    pending = kind.create(old, token=TOKEN)
    failpoints.arm("ssh.apply.call:error")
    with pytest.raises(Unavailable):
        kind.apply(old, pending)
    folder = world.server.authorized_keys.parent
    assert 2 == len(list(folder.iterdir()))
    assert not world.use(texts_of(pending))
    kind.apply(old, pending)
    assert [world.server.authorized_keys] == list(folder.iterdir())
    assert world.use(texts_of(pending))
    failpoints.arm("ssh.withdraw.call:error")
    with pytest.raises(Unavailable):
        kind.withdraw(old, pending)
    assert 2 == len(list(folder.iterdir()))
    # Nothing is left to change here, and what was left goes all the same.
    world.server.authorized_keys.write_text(world.first["public_key"] + "\n")
    kind.withdraw(old, pending)
    assert [world.server.authorized_keys] == list(folder.iterdir())


@pytest.mark.parametrize("key", ["host", "user", "host_key"])
def test_a_missing_key_of_the_target_is_named(world, key):
    """With the line to write."""
    with pytest.raises(UsageError, match=key) as caught:
        kind_of(world, **{key: None})
    assert "rotation.target" == caught.value.code and key in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"port": "ssh"}, "port"),
        ({"port": 70000}, "port"),
        ({"algorithm": "dsa"}, "algorithm"),
        ({"authorized_keys": "keys"}, "authorized_keys"),
        ({"authorized_keys": "~other/keys"}, "authorized_keys"),
    ],
)
def test_a_target_that_cannot_be_is_refused(world, changes, words):
    """Before anything is connected to."""
    with pytest.raises(UsageError, match=words):
        kind_of(world, **changes)


def test_a_host_key_that_is_none_is_refused(world):
    """It is never learned from the server."""
    with pytest.raises(UsageError, match="host_key"):
        kind_of(world, host_key="anything").probe(secret_values(world.first))


def test_strategies_that_are_none_are_refused(world):
    """So are fields that do not fit."""
    for changes in (
        {"strategy": "two-logins"},
        {"fields": ("public_key",)},
        {"fields": ("private_key", "certificate")},
    ):
        with pytest.raises(UsageError):
            kind_in(dataclasses.replace(world.setup, **changes))


def test_another_accounts_administrator_needs_the_whole_path(world):
    """SFTP begins in the home of whoever is logged in."""
    with pytest.raises(UsageError, match="home of"):
        with_admin(world, values={**world.other, "username": "somebody"})


def test_no_error_shows_a_value(world):
    """Neither half of a key nor a passphrase is in any text of an error."""
    canary = "canary" + secrets.token_hex(12)
    kind = kind_of(world)
    bad = [
        {"private_key": canary},
        {"private_key": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{canary}\n"},
        {"private_key": world.first["private_key"], "certificate": f"ssh-ed25519 {canary}"},
    ]
    seen = 0
    for texts in bad:
        values = secret_values(texts)
        try:
            kind.probe(values)
        except (KeyturnError, ValueError) as error:
            seen += 1
            assert canary not in f"{error!r} {error.args} {getattr(error, 'hint', '')}"
    assert seen >= 2


# --- certificates ---------------------------------------------------------------------


def test_a_certified_key_takes_the_others_place(certified):
    """The old one is on the list of revoked keys; what was there stays."""
    kind, old = kind_of(certified), secret_values(certified.first)
    before = certified.server.revoked_keys.read_bytes()
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    assert certified.use(certified.first) and certified.use(texts_of(pending))
    kind.check(old, pending)
    kind.retire(pending, old)
    kind.retire(pending, old)
    kind.prove_dead(old, current=pending)
    assert certified.use(texts_of(pending)) and not certified.use(certified.first)
    added = certified.server.revoked_keys.read_bytes().removeprefix(before)
    assert 1 == added.count(b"\n") and certified.first["public_key"].split()[1].encode() in added
    assert b"" == certified.server.authorized_keys.read_bytes()


def test_a_certificate_says_whose_it_is_and_for_how_long(certified):
    """OpenSSH reads what was made; the rights are those of the certificate before."""
    import subprocess

    setup = certified.setup
    certified.first["certificate"] = make_certificate(
        certified.first, certified.ca, "-O", "clear", "-O", "source-address=127.0.0.0/8",
        user=certified.server.user,
    )  # fmt: skip
    kind = kind_in(dataclasses.replace(setup, target={**setup.target, "validity": "2d"}))
    pending = kind.create(secret_values(certified.first), token=TOKEN)
    path = certified.server.folder / "seen.pub"
    path.write_text(texts_of(pending)["certificate"] + "\n")
    text = subprocess.run(
        ["ssh-keygen", "-Lf", str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert 'Key ID: "keyturn-it-production-0123456789ab"' in text
    assert "source-address 127.0.0.0/8" in text and "permit-pty" not in text
    kind.check(secret_values(certified.first), pending)


def test_a_plain_key_is_followed_by_a_certified_one(certified):
    """Its line goes, and the certificate allows what it allowed."""
    plain = make_key()
    certified.server.authorized_keys.write_text(plain["public_key"] + "\n# kept\n")
    kind, old = kind_of(certified), secret_values(plain)
    pending = rotate(kind, old)
    assert b"# kept\n" == certified.server.authorized_keys.read_bytes()
    assert certified.use(texts_of(pending)) and not certified.use(plain)


def test_a_certified_key_that_has_a_line_as_well_is_not_dead(certified):
    """The proof tries the key without its certificate too."""
    old = {name: certified.first[name] for name in ("private_key", "public_key")}
    certified.server.authorized_keys.write_text(old["public_key"] + "\n")
    expired = make_certificate(old, certified.ca, "-V", "-2d:-1d", user=certified.server.user)
    kind = kind_of(certified)
    with pytest.raises(VerificationFailed) as caught:
        kind.prove_dead(secret_values({**old, "certificate": expired}))
    assert "target.still-works" == caught.value.code


def test_without_a_list_the_old_certificate_has_to_expire(certified):
    """The rotation waits until then, and says how to end it sooner."""
    kind, old = kind_of(certified, revoked_keys=None), secret_values(certified.first)
    pending = kind.create(old, token=TOKEN)
    kind.check(old, pending)
    with pytest.raises(NotYet) as caught:
        kind.retire(pending, old)
    assert not caught.value.person and 29 * 86_400 < caught.value.again_seconds < 31 * 86_400
    assert "RevokedKeys" in caught.value.hint
    ended = make_certificate(
        certified.first, certified.ca, "-V", "-2d:-1d", user=certified.server.user
    )
    expired = secret_values({**certified.first, "certificate": ended})
    kind.retire(pending, expired)
    kind.prove_dead(expired, current=pending)


def test_a_certificate_of_an_untrusted_ca_fails_the_check(certified):
    """The server has to trust the CA; nothing else lets it in."""
    setup = dataclasses.replace(certified.setup, companions={"ssh-ca": make_key()})
    kind, old = kind_in(setup), secret_values(certified.first)
    with pytest.raises(VerificationFailed, match="new key"):
        kind.check(old, kind.create(old, token=TOKEN))


def test_a_withdrawn_certificate_is_refused(certified):
    """The one in use goes on."""
    kind, old = kind_of(certified), secret_values(certified.first)
    pending = kind.create(old, token=TOKEN)
    kind.check(old, pending)
    kind.withdraw(old, pending)
    kind.withdraw(old, pending)
    kind.prove_dead(pending, current=old)
    assert certified.use(certified.first)


def test_a_certificate_is_rehearsed_without_a_trace(certified):
    """One of minutes comes and goes; without a list nothing could end it."""
    kind, old = kind_of(certified).rehearsal(), secret_values(certified.first)
    before = certified.server.revoked_keys.read_bytes()
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    kind.check(old, pending)
    kind.withdraw(old, pending)
    assert before != certified.server.revoked_keys.read_bytes()
    kind.prove_dead(pending, current=old)
    assert before == certified.server.revoked_keys.read_bytes()
    assert kind_of(certified, revoked_keys=None).rehearsal() is None


def test_a_binary_list_is_left_alone(certified):
    """A line at its end would make the server refuse everybody."""
    kind, old = kind_of(certified), secret_values(certified.first)
    pending = kind.create(old, token=TOKEN)
    content = b"SSHKRL\n\0" + bytes(40)
    path = certified.server.folder / "krl"
    path.write_bytes(content)
    kind = kind_of(certified, revoked_keys=str(path))
    with pytest.raises(Rejected, match="binary"):
        kind.retire(pending, old)
    assert content == path.read_bytes()


def test_a_list_that_is_not_there_is_not_made(certified):
    """The server would not read it."""
    kind = kind_of(certified, revoked_keys=str(certified.server.folder / "absent"))
    old = secret_values(certified.first)
    with pytest.raises(Rejected, match="no file"):
        kind.retire(kind.create(old, token=TOKEN), old)


def test_a_ca_without_a_value_is_named(certified):
    """So is a certificate that would not outlive the grace."""
    with pytest.raises(UsageError, match="ssh-ca"):
        kind_in(dataclasses.replace(certified.setup, companions={}))
    with pytest.raises(UsageError, match="grace"):
        kind_of(certified, validity="1h")
    assert FieldName("certificate") in kind_of(certified).create(None, token=TOKEN)
    assert SystemClock().now()
