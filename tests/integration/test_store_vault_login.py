"""Every way to log in to Vault, on a real OpenBao server: first, renewed, expired, refused."""

from __future__ import annotations

import base64
import hmac
import json
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from keyturn.core.clock import SystemClock
from keyturn.core.ids import EnvironmentName
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, UsageError
from keyturn.stores.vault import (
    AuthMethod,
    Surroundings,
    VaultAuth,
    VaultSettings,
    VaultShape,
    policy,
)
from tests.worlds.authority import Authority
from tests.worlds.vault_store import (
    DB,
    ENVIRONMENT,
    VaultStoreWorld,
    activate,
    current,
    nobody,
    put,
)

ROLE = "keyturn"


class Shifted(SystemClock):
    """A clock that is moved on by hand; waiting takes no time."""

    def __init__(self):
        self.ahead = 0.0

    def monotonic(self):
        return super().monotonic() + self.ahead

    def sleep(self, seconds):
        self.ahead += seconds


@pytest.fixture(scope="module")
def running():
    made = VaultStoreWorld()
    made.ask("POST", "sys/auth/approle", {"type": "approle"})
    made.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    yield made
    made.close()


@pytest.fixture
def world(running):
    """A KV engine that is empty, and a policy `keyturn` that is exactly what is documented."""
    running.fresh_mount()
    running.ask("POST", f"sys/policies/acl/{ROLE}", {"policy": needed(running)})
    yield running
    running.close_stores()


def needed(world, **settings):
    text = VaultSettings((world.server.address,), mount=world.mount, **settings)
    return policy(text, "clipper", [ENVIRONMENT])


def around(ask=nobody, home=Path("/nonexistent"), **variables):
    return Surroundings(ask, variables, home)


def works(store):
    """Use *store* in every way that a rotation does."""
    activate(store, b"one")
    activate(store, b"two")
    store.discard_pending(DB, put(store, b"three"))
    activate(store, b"four")
    store.destroy(DB, 3)
    store.destroy(DB, 1)
    assert current(store) == b"four"
    assert set(store.states(ENVIRONMENT)) == {"db"}


def accessors(world):
    return set(world.ask("LIST", "auth/token/accessors")["data"]["keys"])


# --- tokens ---------------------------------------------------------------------------------


def test_a_token_from_each_place(world, tmp_path):
    """The named file goes first, then the variable, then the usual file."""
    token = world.token(needed(world), ttl="1h")
    file = tmp_path / "token"
    file.write_bytes(token.reveal() + b"\n")
    usual = tmp_path / "home"
    usual.mkdir()
    for auth, here in (
        (VaultAuth(token_file=file), around(VAULT_TOKEN="s.wrong")),
        (VaultAuth(), around(VAULT_TOKEN=token.reveal_text())),
        (VaultAuth(token_variable="BAO_TOKEN"), around(BAO_TOKEN=token.reveal_text())),
    ):
        assert world.store(auth=auth, around=here).state(DB).current is None
    (usual / ".vault-token").write_bytes(token.reveal())
    assert world.store(around=around(home=usual)).state(DB).current is None


def test_no_token_anywhere(world, tmp_path):
    """The message says where one is looked for; nothing that is no file hangs it."""
    with pytest.raises(UsageError, match="neither `VAULT_TOKEN` nor") as raised:
        world.store(around=around()).state(DB)
    assert "bao login" in raised.value.hint
    for path in (tmp_path, tmp_path / "absent", tmp_path / "empty"):
        (tmp_path / "empty").write_bytes(b"\n")
        with pytest.raises(UsageError, match="cannot be read"):
            world.store(auth=VaultAuth(token_file=path), around=around()).state(DB)


def test_a_token_that_is_wrong(world):
    """It is told apart from one that lacks a right, and is not shown."""
    for text in ("s.nonsense", "two\nlines", "ünicode"):
        with pytest.raises(Rejected) as raised:
            world.store(around=around(VAULT_TOKEN=text)).state(DB)
        assert text not in raised.value.message
        assert raised.value.code in {"store.login-refused", "store.header"}


def test_a_token_is_renewed_in_its_last_third(world):
    """Before a change, or after a minute of use, its life is looked at."""
    token = world.token(needed(world), period="1h")
    clock = Shifted()
    store = world.store(token=token, clock=clock)
    activate(store, b"one")

    def left():
        told = world.ask("POST", "auth/token/lookup", {"token": token.reveal_text()})
        return told["data"].get("last_renewal")

    assert left() is None
    clock.ahead += 2500
    activate(store, b"two")
    assert left() is not None


def test_a_token_that_expired_in_the_middle_is_read_again(world, tmp_path):
    """Who keeps the file up to date, such as an agent, is followed."""
    file = tmp_path / "token"
    first = world.token(needed(world), ttl="1h")
    file.write_bytes(first.reveal())
    store = world.store(auth=VaultAuth(token_file=file), around=around())
    activate(store, b"one")
    number = put(store, b"two")
    world.ask("POST", "auth/token/revoke", {"token": first.reveal_text()})
    with pytest.raises(Rejected, match="expired or was revoked") as raised:
        store.promote(DB, number, expected_current=1)
    assert raised.value.code == "store.login-refused"
    file.write_bytes(world.token(needed(world), ttl="1h").reveal())
    store.promote(DB, number, expected_current=1)
    assert current(store) == b"two"


# --- AppRole --------------------------------------------------------------------------------


@pytest.fixture
def approle(world, tmp_path):
    """Return a function that writes a secret-id to a file, and returns how to log in with it."""
    world.ask("POST", f"auth/approle/role/{ROLE}", {"token_policies": [ROLE], "token_ttl": "1h"})
    role_id = world.ask("GET", f"auth/approle/role/{ROLE}/role-id")["data"]["role_id"]
    file = tmp_path / "secret-id"

    def auth(*, wrapped=False, path=f"auth/approle/role/{ROLE}/secret-id"):
        if wrapped:
            text = wrap(world, path)
        else:
            text = world.ask("POST", path)["data"]["secret_id"]
        file.write_text(text + "\n")
        return VaultAuth(AuthMethod.APPROLE, role_id=role_id, secret_id_file=file, wrapped=wrapped)

    return auth


def wrap(world, path, ttl="60s"):
    import httpx

    answer = httpx.post(
        f"{world.server.address}/v1/{path}",
        headers={"X-Vault-Token": world.server.token.reveal_text(), "X-Vault-Wrap-TTL": ttl},
        trust_env=False,
    )
    return answer.json()["wrap_info"]["token"]


def test_an_approle(world, approle):
    """One login for all of a process's requests, ended with it."""
    before = accessors(world)
    store = world.store(auth=approle(), around=around())
    works(store)
    assert len(accessors(world) - before) == 1
    store.close()
    assert accessors(world) == before


def test_an_approle_whose_token_expired_logs_in_again(world, approle):
    """In the middle of a rotation, without anybody's doing."""
    store = world.store(auth=approle(), around=around())
    before = accessors(world)
    activate(store, b"one")
    number = put(store, b"two")
    for accessor in accessors(world) - before:
        world.ask("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    store.promote(DB, number, expected_current=1)
    assert current(store) == b"two"


def test_an_approle_renews_its_token_and_logs_in_where_that_cannot_be(world, approle):
    """In the last third of the token's life, before it is refused."""
    for kind in ("service", "batch"):
        auth = approle()
        settings = {"token_policies": [ROLE], "token_ttl": "1h", "token_type": kind}
        world.ask("POST", f"auth/approle/role/{ROLE}", settings)
        clock = Shifted()
        store = world.store(auth=auth, around=around(), clock=clock)
        activate(store, b"one")
        first = store._layout._session._granted
        clock.ahead += 1000
        activate(store, b"two")
        assert store._layout._session._granted is first
        clock.ahead += 1500
        activate(store, b"three")
        later = store._layout._session._granted
        assert later is not first
        assert (later.token == first.token) == (kind == "service")


def test_a_secret_id_that_is_refused(world, approle):
    """The message names the file and the role, not the secret-id."""
    auth = approle()
    auth.secret_id_file.write_text("11111111-2222-3333-4444-555555555555")
    with pytest.raises(Rejected, match="refused the login of the AppRole") as raised:
        world.store(auth=auth, around=around()).state(DB)
    assert raised.value.code == "store.login-refused"
    assert "invalid role or secret id" in raised.value.message
    assert "11111111" not in raised.value.message + raised.value.hint


def test_a_wrapped_secret_id_is_unwrapped_once(world, approle):
    """The file holds the secret-id from then on, for this user alone."""
    auth = approle(wrapped=True)
    wrapping = auth.secret_id_file.read_text()
    activate(world.store(auth=auth, around=around()), b"one")
    assert auth.secret_id_file.read_text() != wrapping
    assert auth.secret_id_file.stat().st_mode & 0o777 == 0o600
    assert current(world.store(auth=auth, around=around())) == b"one"


def test_a_wrapped_secret_id_that_somebody_else_took(world, approle):
    """It is an alarm, and says what to do."""
    auth = approle(wrapped=True)
    token = SecretValue.from_text(auth.secret_id_file.read_text().strip())
    world.ask("POST", "sys/wrapping/unwrap", token=token)
    with pytest.raises(Rejected, match="ALARM") as raised:
        world.store(auth=auth, around=around()).state(DB)
    assert raised.value.code == "store.wrapped"
    assert "audit log" in raised.value.hint


def test_a_wrapping_token_of_something_else(world, approle):
    """What was not made as a secret-id is not taken for one."""
    auth = approle(wrapped=True, path="sys/wrapping/wrap")
    with pytest.raises(Rejected, match="was not made as a secret-id"):
        world.store(auth=auth, around=around()).state(DB)


# --- JSON Web Tokens ------------------------------------------------------------------------


def signed(key, **claims):
    now = int(time.time())
    claims = {"iss": "tests", "iat": now, "exp": now + 600, **claims}
    return jwt.encode({"alg": "ES256"}, claims, key)


def test_a_json_web_token(world, tmp_path):
    """From its file; one for somebody else is refused."""
    key = ECKey.generate_key("P-256")
    world.ask("POST", f"sys/auth/jwt-{world.mount}", {"type": "jwt"})
    mount = f"jwt-{world.mount}"
    public = key.as_pem(private=False).decode()
    world.ask("POST", f"auth/{mount}/config", {"jwt_validation_pubkeys": [public]})
    role = {
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": ["vault"],
        "token_policies": [ROLE],
    }
    world.ask("POST", f"auth/{mount}/role/{ROLE}", role)
    file = tmp_path / "jwt"
    auth = VaultAuth(AuthMethod.JWT, mount=mount, role=ROLE, jwt_file=file)
    file.write_text(signed(key, aud="vault", sub="ci"))
    works(world.store(auth=auth, around=around()))
    file.write_text(signed(key, aud="others", sub="ci"))
    with pytest.raises(Rejected, match="invalid audience"):
        world.store(auth=auth, around=around()).state(DB)


class TokenReview(BaseHTTPRequestHandler):
    """As much of a Kubernetes API as Vault asks."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = {
            "authenticated": asked["spec"]["token"] == self.server.expected,
            "user": {"username": "system:serviceaccount:apps:keyturn", "uid": "u1"},
        }
        body = json.dumps(
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}
        ).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def kubernetes_api():
    server = ThreadingHTTPServer(("127.0.0.1", 0), TokenReview)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_kubernetes(world, tmp_path, kubernetes_api):
    """With the service account's token, which the cluster is asked about."""
    key = ECKey.generate_key("P-256")
    token = signed(
        key,
        sub="system:serviceaccount:apps:keyturn",
        **{
            "kubernetes.io": {
                "namespace": "apps",
                "serviceaccount": {"name": "keyturn", "uid": "u1"},
            }
        },
    )
    kubernetes_api.expected = token
    mount = f"kubernetes-{world.mount}"
    world.ask("POST", f"sys/auth/{mount}", {"type": "kubernetes"})
    host = f"http://127.0.0.1:{kubernetes_api.server_address[1]}"
    world.ask(
        "POST",
        f"auth/{mount}/config",
        {
            "kubernetes_host": host,
            "kubernetes_ca_cert": Authority(tmp_path).file.read_text(),
            "disable_local_ca_jwt": True,
            "token_reviewer_jwt": token,
        },
    )
    world.ask(
        "POST",
        f"auth/{mount}/role/{ROLE}",
        {
            "bound_service_account_names": ["keyturn"],
            "bound_service_account_namespaces": ["apps"],
            "token_policies": [ROLE],
        },
    )
    file = tmp_path / "token"
    file.write_text(token)
    auth = VaultAuth(AuthMethod.KUBERNETES, mount=mount, role=ROLE, jwt_file=file)
    works(world.store(auth=auth, around=around()))
    kubernetes_api.expected = "another"
    with pytest.raises(Rejected) as raised:
        world.store(auth=auth, around=around()).state(DB)
    assert raised.value.code == "store.login-refused"


# --- a person -------------------------------------------------------------------------------


class Person:
    """Answers what is asked, and remembers it."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, prompt):
        self.asked.append(prompt)
        answer = self.answers.pop(0)
        return SecretValue.from_text(answer() if callable(answer) else answer)


@pytest.fixture
def user(running, world):
    """A user with a password and a one-time code; return name, password and the code's maker."""
    name, password = f"ada-{world.mount}", "made for a test"
    world.ask(
        "POST", f"auth/userpass/users/{name}", {"password": password, "token_policies": [ROLE]}
    )
    accessor = world.ask("GET", "sys/auth")["data"]["userpass/"]["accessor"]
    entity = world.ask("POST", "identity/entity", {"name": name, "policies": [ROLE]})["data"]["id"]
    alias = {"name": name, "canonical_id": entity, "mount_accessor": accessor}
    world.ask("POST", "identity/entity-alias", alias)
    # As long as the server allows: a code is good once, and no test waits for the next.
    method = world.ask(
        "POST",
        "identity/mfa/method/totp",
        {"issuer": "tests", "period": 30, "algorithm": "SHA1", "digits": 6},
    )["data"]["method_id"]
    made = world.ask(
        "POST",
        "identity/mfa/method/totp/admin-generate",
        {"method_id": method, "entity_id": entity},
    )
    key = parse_qs(urlsplit(made["data"]["url"]).query)["secret"][0]
    path = f"identity/mfa/login-enforcement/{world.mount}"
    body = {"mfa_method_ids": [method], "identity_entity_ids": [entity]}
    world.ask("POST", path, body)
    yield name, password, lambda: code_of(key)
    world.ask("DELETE", path)


def code_of(key):
    padded = key + "=" * (-len(key) % 8)
    counter = struct.pack(">Q", int(time.time()) // 30)
    digest = hmac.digest(base64.b32decode(padded), counter, "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4]) & 0x7FFFFFFF) % 10**6:06}"


def test_a_person_with_a_password_and_a_code(world, user):
    """Both are asked for, once for all requests."""
    name, password, code = user
    person = Person(password, code)
    auth = VaultAuth(AuthMethod.USERPASS, username=name)
    works(world.store(auth=auth, around=around(person)))
    assert person.asked == [f"Vault password of {name}", f"one-time code of {name}"]


def test_a_wrong_password_or_code(world, user):
    """Neither is repeated in the message."""
    name, password, _ = user
    auth = VaultAuth(AuthMethod.USERPASS, username=name)
    for answers in (("not this",), (password, "000000")):
        store = world.store(auth=auth, around=around(Person(*answers)))
        with pytest.raises(Rejected, match=f"refused the login of the user `{name}`") as raised:
            store.state(DB)
        assert raised.value.code == "store.login-refused"
        assert answers[-1] not in raised.value.message


@pytest.mark.parametrize("method", [m for m in AuthMethod if m is not AuthMethod.TOKEN])
def test_a_login_that_lacks_what_it_needs(method):
    """It is said which key of the manifest is missing."""
    with pytest.raises(UsageError, match=f"the login `{method}` of the Vault store needs `"):
        VaultAuth(method)


# --- rights ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", VaultShape)
def test_the_policy_is_enough(world, shape):
    """Everything works with a token that has it, and nothing but it and `default`."""
    token = world.token(needed(world, shape=shape))
    works(world.store(token=token, shape=shape))
    other = world.store(token=token, shape=shape)
    with pytest.raises(Rejected) as raised:
        other.states(EnvironmentName("staging"))
    assert raised.value.code == "store.denied"


@pytest.mark.parametrize("shape", VaultShape)
def test_each_line_of_the_policy_is_needed_and_named(world, shape):
    """Without one of them, the refusal names its path and the capability."""
    lines = needed(world, shape=shape).splitlines()
    for number in range(len(lines)):
        line = lines[number]
        rest = "\n".join(other for other in lines if other != line)
        store = world.store(token=world.token(rest), shape=shape, project="clipper")
        path = line.split('"')[1]
        if path.endswith("/versions/"):
            # What a dead writer left is then not found; nothing else is missing.
            works(store)
            continue
        with pytest.raises(Rejected, match="Vault denies `") as raised:
            works(store)
        assert raised.value.code == "store.denied", line
        steady = path.split("*")[0].split("+")[0]
        assert f"`{steady}" in raised.value.message, (number, line, raised.value.message)
        assert raised.value.hint.startswith(f'its policy needs: path "{steady}')
        world.fresh_mount()
        lines = needed(world, shape=shape).splitlines()
