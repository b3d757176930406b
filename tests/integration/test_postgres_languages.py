"""PostgreSQL servers that do not speak English: every answer is understood all the same."""

from __future__ import annotations

import datetime
import os
import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keyturn.core.ids import FieldName, Token
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, Unavailable, VerificationFailed
from keyturn.targets import InPlace, PostgresTarget, TwoLogins
from keyturn.targets import _postgres_connection as connections
from keyturn.targets.postgres import probe
from keyturn.testing.postgres import PostgresServer, available_versions

pytestmark = pytest.mark.postgres

USERNAME, PASSWORD = FieldName("username"), FieldName("password")
TOKEN = Token("t")
CATALOGS = Path("/usr/share/locale")
# Russian translates even the severity, in letters that are not ASCII.
SEVERITY = {"ru": "ВАЖНО"}


def make_password():
    """Return a password that a test can look for."""
    return SecretValue.from_text("CANARY" + secrets.token_hex(17))


def installed(language):
    """Return a version whose translation to *language* is installed, or None."""
    for version in available_versions():
        if (CATALOGS / language / "LC_MESSAGES" / f"postgres-{version}.mo").exists():
            return version
    return None


@pytest.fixture(scope="module", params=["ru"])
def foreign(request, tmp_path_factory):
    """A server in a foreign language that listens on TCP, with TLS, and on a socket file."""
    version = installed(request.param)
    if version is None:
        pytest.skip(
            f"no translation to `{request.param}` of a PostgreSQL that is here: Debian's"
            " `postgresql` package brings it, where /usr/share/locale is not left out"
        )
    with PostgresServer(version, language=request.param) as server:
        listen_everywhere(server, tmp_path_factory.mktemp("certificate"))
        yield server


@pytest.fixture
def postgres(foreign):
    """The server that the fixture `database` makes its roles on."""
    return foreign


def listen_everywhere(server, folder):
    """Give *server* a certificate and a socket file, and ask for md5 of who has only that."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    data = server.folder / "data"
    owner = data.stat()
    files = {
        "server.crt": certificate.public_bytes(serialization.Encoding.PEM),
        "server.key": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    for file, content in files.items():
        path = data / file
        path.touch(0o600)
        path.write_bytes(content)
        os.chown(path, owner.st_uid, owner.st_gid)
    hba = data / "pg_hba.conf"
    lines = hba.read_text().replace("scram-sha-256", "md5")
    hba.write_text("host all blocked all reject\nlocal all blocked reject\n" + lines)
    with server.connect() as connection:
        connection.execute("ALTER SYSTEM SET ssl = on")
        connection.execute(f"ALTER SYSTEM SET unix_socket_directories = '{server.folder}'")
        connection.execute("CREATE ROLE blocked LOGIN")
    server.restart()


@pytest.fixture(params=["tcp", "tls", "socket"])
def target(request, database):
    """The target, over each way to it."""
    tcp = PostgresTarget(
        host=database.server.host,
        port=database.server.port,
        database=database.name,
        sslmode="disable",
        admin_user=database.admin_user,
        admin_password=database.admin_password,
    )
    return {
        "tcp": tcp,
        "tls": replace(tcp, sslmode="require"),
        "socket": replace(tcp, host=str(database.server.folder)),
    }[request.param]


@pytest.fixture(params=["scram-sha-256", "md5"])
def current(request, database):
    """The application's login, its password kept in one way or the other."""
    with database.server.connect() as connection:
        connection.execute("SET log_statement = 'none'")
        connection.execute(f"SET password_encryption = '{request.param}'")
        connection.execute(
            f"ALTER ROLE {database.application_user}"
            f" PASSWORD '{database.application_password.reveal_text()}'"
        )
    return database.application_values


def values(username):
    """Return a login with a password that nobody has."""
    return {USERNAME: SecretValue.from_text(username), PASSWORD: make_password()}


def test_the_server_really_speaks_it(request, foreign, database, target):
    """Otherwise the tests below would show nothing."""
    with pytest.raises(VerificationFailed) as caught:
        probe(target, values(database.application_user))
    assert "password authentication failed" not in caught.value.message
    assert "FATAL" not in caught.value.message, "the severity is cut off"
    assert database.application_user in caught.value.message
    log = foreign.log_path.read_text(errors="replace")
    assert f"{SEVERITY[request.node.callspec.params['foreign']]}:" in log
    assert "password authentication failed" not in log


@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_a_whole_rotation_and_its_way_back(database, target, current, strategy):
    """Refused where it must be, proven where it is."""
    kind = strategy(target, make_password=make_password)
    pending = kind.create(current, token=TOKEN)
    kind.apply(current, pending)
    kind.check(current, pending)
    kind.withdraw(current, pending)
    assert "login refused" == kind.prove_dead(pending).method
    kind.apply(current, pending)
    kind.check(current, pending)
    kind.retire(pending, current)
    assert "login refused" == kind.prove_dead(current).method
    database.connect(pending).close()


def test_a_current_login_that_is_refused_is_said_so(database, target):
    """`create` sees it in any language."""
    for strategy in (TwoLogins, InPlace):
        kind = strategy(target, make_password=make_password)
        with pytest.raises(Rejected) as caught:
            kind.create(values(database.application_user), token=TOKEN)
        assert "target.current" == caught.value.code


def test_a_role_without_login_is_a_refused_login(database, target, current):
    """The password is right, and the role is shut."""
    database.execute(f"ALTER ROLE {database.application_user} NOLOGIN")
    kind = TwoLogins(target, make_password=make_password)
    assert "login refused" == kind.prove_dead(current).method


def test_what_is_no_refusal_of_the_password_proves_nothing(database, target, current):
    """No such database, no line in pg_hba.conf, no right to connect, no connection left."""
    user = database.application_user
    cases = [
        (replace(target, database="nowhere"), current, Rejected, "target.connection"),
        (target, values("blocked"), Rejected, "target.connection"),
    ]
    for where, fields, error, code in cases:
        with pytest.raises(error) as caught:
            TwoLogins(where, make_password=make_password).prove_dead(fields)
        assert code == caught.value.code
    database.execute(f"ALTER ROLE {user} CONNECTION LIMIT 0")
    kind = TwoLogins(target, make_password=make_password)
    with pytest.raises(Unavailable, match="no connection left") as caught:
        kind.prove_dead(current)
    assert caught.value.retryable
    assert "CONNECTION LIMIT" in caught.value.hint
    kind.create(current, token=TOKEN)


def test_a_login_that_may_not_connect_is_told_the_grant(database, target):
    """The database is not open to everybody."""
    stranger = values(f"{database.name}_stranger")
    with database.server.connect() as connection:
        connection.execute("SET log_statement = 'none'")
        connection.execute(
            f"CREATE ROLE {database.name}_stranger LOGIN"
            f" PASSWORD '{stranger[PASSWORD].reveal_text()}'"
        )
    database.execute(f"REVOKE CONNECT ON DATABASE {database.name} FROM PUBLIC")
    with pytest.raises(Rejected) as caught:
        probe(target, stranger)
    assert "target.connection" == caught.value.code
    assert f'GRANT CONNECT ON DATABASE "{database.name}"' in caught.value.hint


def test_a_missing_right_names_the_role(database, target):
    """The hint is made of what was asked, not of the server's sentence."""
    login = f"{database.name}_a"
    database.execute(f"CREATE ROLE {login} IN ROLE {database.name}")
    database.execute(f"ALTER ROLE {database.admin_user} NOCREATEROLE")
    kind = TwoLogins(target, make_password=make_password)
    current = database.application_values
    pending = kind.create(current, token=TOKEN)
    with pytest.raises(Rejected) as caught:
        kind.apply(current, pending)
    assert connections.DENIED == caught.value.code
    assert f'GRANT "{login}" TO "{database.admin_user}" WITH ADMIN OPTION' in caught.value.hint


def test_the_administrator_s_refused_login_names_its_secret(target):
    """Not the application's."""
    wrong = replace(target, admin_password=make_password(), admin_secret="db-admin")
    kind = TwoLogins(wrong, make_password=make_password)
    for ask in (kind.describe, partial(kind.create, token=TOKEN)):
        with pytest.raises(Rejected) as caught:
            ask(values("whoever"))
        assert "target.admin-refused" == caught.value.code
        assert "keyturn set db-admin" in caught.value.hint


def test_no_password_stays_in_memory_files_or_in_errors(database, target, current):
    """The trace of a login is gone with it."""
    before = open_files()
    for _ in range(3):
        with pytest.raises(VerificationFailed) as caught:
            probe(target, values(database.application_user))
        assert "CANARY" not in str(caught.value)
        probe(target, current)
    assert before == open_files()


def open_files():
    """Return how many files this process holds open."""
    return len(list(Path("/proc/self/fd").iterdir()))
