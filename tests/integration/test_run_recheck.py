"""`run` on a store of others when the sealed bundle's short life is over: one request, or the slow way."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import time

import pytest

from keyturn.cli.exits import Exit
from keyturn.core.value import SecretValue
from keyturn.testing.openbao import OpenBaoServer
from tests.cli import projects
from tests.worlds.imports import imported
from tests.worlds.rechecking import asked_ago, expire
from tests.worlds.recording_front import RecordingFront

MANIFEST = """\
[project]
name = "clipper"
[environments.development]
store = "team"
[stores.team]
kind = "vault"
address = "ADDRESS"
cache = "10m"
[secrets.session]
kind = "session-secret"
variable = "SESSION_SECRET"
[secrets.token]
kind = "generated"
variable = "API_TOKEN"
[secrets.late]
kind = "generated"
variable = "LATE_TOKEN"
required = false
"""
PATH = "secret/data/clipper/development"
READ = f"GET /v1/{PATH}"
SEALED = (503, [], b'{"errors":["Vault is sealed"]}')
SHOW = ("run", "--", "sh", "-c", "printf %s $API_TOKEN")


@pytest.fixture(scope="module")
def server():
    with OpenBaoServer() as made:
        yield made


@pytest.fixture(scope="module")
def running(server):
    made = RecordingFront(server.address)
    yield made
    made.stop()


@pytest.fixture
def front(running):
    running.calm()
    return running


@pytest.fixture
def token(server):
    """A token of its own, which a test may revoke."""
    answer = server.request("POST", "auth/token/create", {"policies": ["root"]})
    return answer.json()["auth"]["client_token"]


DOCUMENTS = (PATH, "secret/data/keyturn/clipper/development/ledger")


def made(place, manifest, server, **environment):
    """Return a project with two values in the store, where nothing was before."""
    for path in DOCUMENTS:
        server.request("DELETE", path.replace("/data/", "/metadata/"))
    found = projects.empty(place, manifest)
    found.environment.update(environment, HOME=str(place))
    assert found("init", "-qq").code == 0
    for name in ("session", "token"):
        done = found("generate", name, "-qq")
        assert done.code == 0, done.text
    return found


@pytest.fixture(scope="module")
def template(tmp_path_factory, server, running):
    """A project, and what it left in the store."""
    text = MANIFEST.replace("ADDRESS", running.address)
    token = server.token.reveal_text()
    found = made(tmp_path_factory.mktemp("recheck"), text, server, VAULT_TOKEN=token)
    return found, {path: server.request("GET", path).json()["data"]["data"] for path in DOCUMENTS}


@pytest.fixture
def project(tmp_path, server, front, token, template):
    first, documents = template
    for path, data in documents.items():
        server.request("POST", path, {"data": data})
    found = projects.Project(
        tmp_path / "project", tmp_path / "keys", {"VAULT_TOKEN": token, "HOME": str(tmp_path)}
    )
    shutil.copytree(first.folder, found.folder)
    shutil.copytree(first.key_home, found.key_home)
    return found


def live(server):
    return server.request("GET", PATH).json()["data"]["data"]


def write(server, **changes):
    """Write the document as somebody else would."""
    server.request("POST", PATH, {"data": {**live(server), **changes}})


def test_what_has_not_changed_is_served_after_one_request(project, front, server):
    """The values are right, and the record is there before the program."""
    expire(project)
    front.taken()
    shown = project(*SHOW)
    assert (0, live(server)["token"].encode()) == (shown.code, shown.out)
    assert [READ] == front.taken()
    delivered = project.actions(action="environment.value.deliver")
    assert "session=1 token=1" == delivered[-1]["detail"]["versions"]


def test_it_is_good_for_another_life(project, front):
    """Within which nothing is asked; after it, the store is asked again."""
    expire(project)
    project("run", "--", "true")
    front.taken()
    project("run", "--", "true")
    assert [] == front.taken()
    asked_ago(project, 9)
    project("run", "--", "true")
    assert [] == front.taken()
    asked_ago(project, 11)
    project("run", "--", "true")
    assert [READ] == front.taken()


def test_get_asks_too(project, front, server):
    """By the same rule."""
    expire(project)
    front.taken()
    assert live(server)["token"].encode() == project("get", "token").out
    assert [READ] == front.taken()


def test_what_others_changed_is_given(project, front, server):
    """By the slow way, which reads the ledger too."""
    expire(project)
    write(server, token="changed-by-hand-aaaaaaaaaaaa")
    front.taken()
    assert b"changed-by-hand-aaaaaaaaaaaa" == project(*SHOW).out
    assert len(front.taken()) > 1


@pytest.mark.parametrize("changes", [{"late": "put-there-by-hand-bbbbbbbb"}, {"token": 7}])
def test_what_is_not_plain_is_for_the_slow_way(changes, project, front, server):
    """A value where there was none may be ours by now; one that is no text is not compared."""
    expire(project)
    write(server, **changes)
    front.taken()
    project("run", "--", "true")
    assert len(front.taken()) > 1


def test_fields_of_others_do_not_matter(project, front, server):
    """Whatever they write beside ours."""
    expire(project)
    write(server, somebody_elses="x")
    front.taken()
    assert live(server)["token"].encode() == project(*SHOW).out
    assert [READ] == front.taken()


def test_a_deleted_document_serves_nothing(project, server):
    """Not even though its values are sealed."""
    expire(project)
    server.request("DELETE", PATH)
    refused = project("run", "--", "true")
    assert refused.code not in (0, Exit.BUG)
    assert "session" in refused.text


def test_a_value_that_is_not_text_is_compared_too(project, front):
    """It lies in base64 there."""
    done = project("set", "token", "-", "--force", stdin=b"\xff\xfe-not-text-\x80\x81cccccccccc")
    assert done.code == 0, done.text
    expire(project)
    front.taken()
    assert b"\xff\xfe-not-text-\x80\x81cccccccccc" == project(*SHOW).out
    assert [READ] == front.taken()


def test_what_we_change_ourselves_is_given(project, front, server):
    """At once: the bundle is made stale by the change."""
    expire(project)
    project("run", "--", "true")
    before = live(server)["token"].encode()
    assert project("rotate", "token", "--now").code == 0
    shown = project(*SHOW)
    assert (0, live(server)["token"].encode()) == (shown.code, shown.out)
    assert before != shown.out


def test_a_revoked_token_serves_nothing(project, server, token):
    """Though all is sealed here: who may not read it there is not given it."""
    expire(project)
    server.request("POST", "auth/token/revoke", {"token": token})
    refused = project("run", "--", "true")
    assert refused.code not in (0, Exit.BUG)
    assert "token" in refused.text


def test_no_token_at_hand(project):
    """The slow way says where one is looked for."""
    expire(project)
    del project.environment["VAULT_TOKEN"]
    refused = project("run", "--", "true", environ={"VAULT_TOKEN": ""})
    assert refused.code not in (0, Exit.BUG)
    assert "no token" in refused.text


def test_the_token_of_the_usual_file(project, front, token):
    """Is taken where the variable is empty."""
    expire(project)
    del project.environment["VAULT_TOKEN"]
    (project.folder.parent / ".vault-token").write_text(f"{token}\n")
    front.taken()
    assert project("run", "--", "true", environ={"VAULT_TOKEN": ""}).code == 0
    assert [READ] == front.taken()


@pytest.mark.parametrize(
    "instead",
    [
        SEALED,
        (200, [], b"{"),
        (200, [("X-Vault-Index", "e30=")], b'{"data":{"data":{}}}'),
    ],
    ids=["sealed", "cut", "a copy"],
)
def test_an_answer_that_cannot_be_relied_on(instead, project, front):
    """Serves nothing: the slow way asks again, and says what is wrong."""
    expire(project)
    front.instead = instead
    front.taken()
    refused = project("run", "--", "touch", "started")
    assert refused.code not in (0, Exit.BUG)
    assert len(front.taken()) > 1
    assert not (project.folder / "started").exists()


def test_a_server_that_says_nothing(project, front, server):
    """It is waited for two seconds, then the slow way has its turn."""
    expire(project)
    front.silent = 1
    begun = time.monotonic()
    shown = project(*SHOW)
    assert (0, live(server)["token"].encode()) == (shown.code, shown.out)
    assert time.monotonic() - begun < 6


def test_last_good_counts_from_when_the_store_was_last_asked(project, front, server):
    """Not from when the values were sealed, which may be a day ago; too old they are refused."""
    text = project.manifest.read_text()
    project.manifest.write_text(text.replace('store = "team"', 'store = "team"\nlast_good = "15m"'))
    expire(project)
    project("run", "--", "true")
    asked_ago(project, 12)
    front.instead = SEALED
    shown = project(*SHOW)
    assert (0, live(server)["token"].encode()) == (shown.code, shown.out)
    assert "last_good" in shown.text
    asked_ago(project, 16)
    assert Exit.DENIED == project("run", "--", "true").code


def test_a_path_for_each_secret_is_read_the_slow_way(tmp_path, server, front, token):
    """One request cannot tell of many documents."""
    text = MANIFEST.replace("ADDRESS", front.address).replace(
        'cache = "10m"', 'cache = "10m"\nlayout = "secret"'
    )
    project = made(tmp_path, text, server, VAULT_TOKEN=token)
    expire(project)
    front.taken()
    assert project("run", "--", "true").code == 0
    assert len(front.taken()) > 2
    assert [] == list(project.keys.glob("fresh.*"))


def test_an_approle_logs_in_reads_and_ends_its_token(tmp_path, server, front):
    """Three requests, and no token of it lives on or lies anywhere."""
    server.request("POST", "sys/auth/approle", {"type": "approle"})
    rights = '["create", "delete", "list", "read", "update"]'
    policy = f'path "secret/*" {{ capabilities = {rights} }}'
    server.request("PUT", "sys/policies/acl/all", {"policy": policy})
    server.request("POST", "auth/approle/role/run", {"token_policies": ["all"]})
    role_id = server.request("GET", "auth/approle/role/run/role-id").json()["data"]["role_id"]
    answer = server.request("POST", "auth/approle/role/run/secret-id")
    (tmp_path / "secret-id").write_text(answer.json()["data"]["secret_id"])
    auth = f'method = "approle", role_id = "{role_id}", secret_id_file = "{tmp_path}/secret-id"'
    text = MANIFEST.replace("ADDRESS", front.address).replace(
        'cache = "10m"', f'cache = "10m"\nauth = {{ {auth} }}'
    )
    project = made(tmp_path, text, server)
    expire(project)
    front.taken()
    shown = project(*SHOW)
    assert (0, live(server)["token"].encode()) == (shown.code, shown.out)
    login, end = "POST /v1/auth/approle/login", "POST /v1/auth/token/revoke-self"
    assert [login, READ, end] == front.taken()
    accessors = server.request("LIST", "auth/token/accessors").json()["data"]["keys"]
    for accessor in accessors:
        told = server.request("POST", "auth/token/lookup-accessor", {"accessor": accessor})
        assert "all" not in told.json().get("data", {}).get("policies", [])


def certificate(folder, name):
    """Return a file with a certificate of 127.0.0.1 and its key, and one with the former alone."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / f"{name}.crt").write_bytes(pem)
    (folder / f"{name}.pem").write_bytes(pem + private)
    return folder / f"{name}.pem", folder / f"{name}.crt"


def test_tls_is_verified(tmp_path, server, token):
    """With the right authority it serves; a server that another one vouches for gets no token."""
    both, public = certificate(tmp_path, "right")
    other, _ = certificate(tmp_path, "other")
    front = RecordingFront(server.address, certificate=both)
    try:
        text = MANIFEST.replace("ADDRESS", front.address).replace(
            'cache = "10m"', f'cache = "10m"\nca_file = "{public}"'
        )
        project = made(tmp_path, text, server, VAULT_TOKEN=token)
        expire(project)
        front.taken()
        assert project("run", "--", "true").code == 0
        assert [READ] == front.taken()
        asked_ago(project, 11)
        public.write_bytes(other.with_suffix(".crt").read_bytes())
        refused = project("run", "--", "true")
        assert refused.code not in (0, Exit.BUG)
        assert "does not prove who it is" in refused.text
        assert [] == front.taken()
    finally:
        front.stop()


def test_nothing_lies_in_clear(project, server, token):
    """Neither a value nor the token, in any file of the project or the keys."""
    expire(project)
    assert project("run", "--", "true").code == 0
    hidden = [live(server)["token"].encode(), live(server)["session"].encode(), token.encode()]
    files = [p for top in (project.folder, project.key_home) for p in top.rglob("*") if p.is_file()]
    assert any(path.name == "fresh.development" for path in files)
    for path in files:
        data = path.read_bytes()
        assert not any(SecretValue(secret).reveal() in data for secret in hidden), path.name


def test_stamp_is_its_owners_alone(project, front):
    """And one that others could write says nothing."""
    expire(project)
    project("run", "--", "true")
    stamp = project.keys / "fresh.development"
    assert 0o600 == stamp.stat().st_mode & 0o777
    stamp.chmod(0o622)
    front.taken()
    assert project("run", "--", "true").code == 0
    assert [READ] == front.taken()


# Beyond those of the fast path; `ssl` comes in where the address is https.
CHECK = {"keyturn._fastread"}
ASK = {"keyturn._fastread.wire", "keyturn._fastread.vault", "_socket", "_json"}


def test_the_way_imports_exactly_this(project, running):
    """No client library, no `http`, `json`, `socket` or `re`; with a stamp one module more."""
    expire(project)
    asking = imported(project, "run", "--", "true")
    stamped = imported(project, "run", "--", "true")
    project.stale()
    project("run", "--", "true")
    fresh = imported(project, "run", "--", "true")
    assert (CHECK, CHECK | ASK) == (stamped - fresh, asking - fresh)
