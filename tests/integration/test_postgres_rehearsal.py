"""A rehearsal: every right is tried on a throw-away login, and no real login is touched."""

from __future__ import annotations

import secrets
from dataclasses import replace

import psycopg
import pytest

from keyturn.core.ids import FieldName, Token
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, VerificationFailed
from keyturn.targets import InPlace, PostgresTarget, TwoLogins
from keyturn.targets import _postgres_connection as connections
from keyturn.testing.postgres import available_versions

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.parametrize("postgres", available_versions(), indirect=True),
]

USERNAME, PASSWORD = FieldName("username"), FieldName("password")
TOKEN = Token("t")
# Everything that a rotation could change of a role, the passwords as digests.
ROLES = """
SELECT a.rolname, a.rolcanlogin, md5(a.rolpassword), a.rolconnlimit, a.rolvaliduntil::text,
       a.xmin::text, array(SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setrole = a.oid),
       array(SELECT m.roleid::regrole::text FROM pg_auth_members m WHERE m.member = a.oid
             ORDER BY 1)
FROM pg_authid a WHERE a.rolname LIKE '{}%' ORDER BY 1
"""


def make_password():
    """Return a password that a test can look for."""
    return SecretValue.from_text("CANARY" + secrets.token_hex(17))


def target_of(database, **changes):
    """Return the target as the manifest would describe it."""
    target = PostgresTarget(
        host=database.server.host,
        port=database.server.port,
        database=database.name,
        sslmode="disable",
        admin_user=database.admin_user,
        admin_password=database.admin_password,
    )
    return replace(target, **changes)


def kind_of(strategy, database, **changes):
    """Return the kind whose rehearsal is tried."""
    return strategy(target_of(database, **changes), make_password=make_password)


def rehearse(kind, current):
    """Do the steps that a rehearsal does and return the throw-away login's values."""
    rehearsal = kind.rehearsal()
    pending = rehearsal.create(current, token=TOKEN)
    try:
        rehearsal.apply(current, pending)
        rehearsal.check(current, pending)
    finally:
        rehearsal.withdraw(current, pending)
    rehearsal.prove_dead(pending)
    return pending


def rotate(kind, current):
    """Do the steps that a rotation does and return the new values."""
    pending = kind.create(current, token=TOKEN)
    kind.apply(current, pending)
    kind.check(current, pending)
    kind.retire(pending, current)
    kind.prove_dead(current)
    return pending


def roles_of(database):
    """Return what stands at the server of this database's roles."""
    return database.execute(ROLES.format(database.name))


@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
@pytest.mark.parametrize("rotations", [0, 1, 2])
def test_a_rehearsal_leaves_every_role_as_it_was(database, strategy, rotations):
    """Before the first rotation and between two; sessions go on, nothing is left."""
    kind, current = kind_of(strategy, database), database.application_values
    for _ in range(rotations):
        current = rotate(kind, current)
    before = roles_of(database)
    with database.connect(current) as session:
        used = rehearse(kind, current)
        session.execute("SELECT 1")
    assert before == roles_of(database)
    assert f"{current[USERNAME].reveal_text().removesuffix('_a').removesuffix('_b')}" in (
        used[USERNAME].reveal_text()
    )
    assert used[USERNAME].reveal_text().endswith("_rehearsal")
    rotate(kind, current)


@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_each_step_of_it_may_be_done_again(database, strategy):
    """A crash anywhere is answered by doing it once more; the leftovers are taken over."""
    rehearsal = kind_of(strategy, database).rehearsal()
    current = database.application_values
    before = roles_of(database)
    left = rehearsal.create(current, token=TOKEN)
    rehearsal.apply(current, left)
    pending = rehearsal.create(current, token=TOKEN)
    for _ in range(2):
        rehearsal.apply(current, pending)
    rehearsal.check(current, pending)
    rehearsal.clean_up(TOKEN)
    session = database.connect(pending)
    for _ in range(2):
        rehearsal.withdraw(current, pending)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    rehearsal.prove_dead(pending)
    assert before == roles_of(database)


@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_a_birth_is_rehearsed_without_making_the_owner(database, strategy):
    """Neither the owner role nor the first login is there afterwards; then it is born."""
    owner = f"{database.name}_fresh"
    kind = kind_of(strategy, database, owner_role=owner)
    before = roles_of(database)
    rehearse(kind, None)
    assert before == roles_of(database)
    first = kind.create(None, token=TOKEN)
    kind.apply(None, first)
    kind.check(None, first)
    before = roles_of(database)
    with pytest.raises(Rejected, match="somebody may be using it"):
        rehearse(kind, None)
    assert before == roles_of(database)


def test_the_throw_away_login_has_the_rights_of_the_current_one(database):
    """Memberships beside the owner role come along, or are found missing."""
    kind = kind_of(TwoLogins, database)
    current = rotate(kind, database.application_values)
    reader = f"{database.name}_reader"
    database.execute(f"CREATE ROLE {reader} SUPERUSER")
    database.execute(f"GRANT {reader} TO {current[USERNAME].reveal_text()}")
    before = roles_of(database)
    with pytest.raises(Rejected) as caught:
        rehearse(kind, current)
    assert connections.DENIED == caught.value.code
    assert f'GRANT "{reader}" TO "{database.admin_user}"' in caught.value.hint
    assert before == roles_of(database)
    database.execute(f"REVOKE {reader} FROM {current[USERNAME].reveal_text()}")
    database.execute(
        f"CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO {current[USERNAME].reveal_text()}"
    )
    with pytest.raises(VerificationFailed, match="1 objects"):
        rehearse(kind, current)


def test_an_administrator_without_admin_option_on_the_current_login_is_found(database, postgres):
    """From 16 on; before, CREATEROLE is enough for a role that is no superuser."""
    kind = kind_of(TwoLogins, database)
    current = rotate(kind, database.application_values)
    login = current[USERNAME].reveal_text()
    # The one that made the login gave itself ADMIN OPTION; another administrator has not.
    other, password = f"{database.name}_other", make_password()
    with database.server.connect() as connection:
        connection.execute("SET log_statement = 'none'")
        connection.execute(
            f"CREATE ROLE {other} LOGIN CREATEROLE PASSWORD '{password.reveal_text()}'"
        )
    database.execute(f"GRANT {database.name} TO {other} WITH ADMIN OPTION")
    kind = kind_of(TwoLogins, database, admin_user=other, admin_password=password)
    before = roles_of(database)
    if int(postgres.version) < 16:
        rehearse(kind, current)
    else:
        with pytest.raises(Rejected) as caught:
            rehearse(kind, current)
        assert connections.DENIED == caught.value.code
        assert f'GRANT "{login}" TO "{other}" WITH ADMIN OPTION' in caught.value.hint
        assert before == roles_of(database)
        database.execute(f'GRANT "{login}" TO "{other}" WITH ADMIN OPTION')
        rehearse(kind, current)
        # In place, the login changes its own password where the administrator may not.
        database.execute(f'REVOKE "{login}" FROM "{other}" CASCADE')
    in_place = kind_of(InPlace, database, admin_user=other, admin_password=password)
    rehearsal = in_place.rehearsal()
    pending = rehearsal.create(current, token=TOKEN)
    rehearsal.apply(current, pending)
    by = f"`{other}`" if int(postgres.version) < 16 else f"`{login}` itself"
    assert f"{by} would change" in rehearsal.check(current, pending).detail
    rehearsal.withdraw(current, pending)
    rotate(in_place, current)


@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_an_administrator_that_may_make_no_role_is_found(database, strategy):
    """The hint has what to run."""
    database.execute(f"ALTER ROLE {database.admin_user} NOCREATEROLE")
    before = roles_of(database)
    for current in (database.application_values, None):
        with pytest.raises(Rejected) as caught:
            rehearse(
                kind_of(
                    strategy, database, owner_role=f"{database.name}_n" if current is None else None
                ),
                current,
            )
        assert caught.value.code in {connections.DENIED, "target.rehearsal"}
        assert f'ALTER ROLE "{database.admin_user}" CREATEROLE' in caught.value.hint
    assert before == roles_of(database)


@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_a_current_login_that_is_refused_is_found(database, strategy):
    """Nothing is made for it."""
    before = roles_of(database)
    wrong = {**database.application_values, PASSWORD: make_password()}
    with pytest.raises(Rejected) as caught:
        rehearse(kind_of(strategy, database), wrong)
    assert "target.current" == caught.value.code
    assert "keyturn set" in caught.value.hint
    assert before == roles_of(database)


@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_a_role_of_that_name_that_is_somebody_s_is_left_alone(database, strategy):
    """It has not the comment, so it is neither changed nor dropped."""
    name = f"{database.name}_rehearsal"
    database.execute(f"CREATE ROLE {name} LOGIN IN ROLE {database.name}")
    before = roles_of(database)
    rehearsal = kind_of(strategy, database).rehearsal()
    current = database.application_values
    somebodys = {USERNAME: SecretValue.from_text(name), PASSWORD: make_password()}
    real = database.application_values
    for refused in (
        lambda: rehearsal.create(current, token=TOKEN),
        lambda: rehearsal.apply(current, somebodys),
        lambda: rehearsal.withdraw(current, somebodys),
        lambda: rehearsal.retire(current, somebodys),
        lambda: rehearsal.retire(somebodys, real),
    ):
        with pytest.raises(Rejected, match="no rehearsal made it"):
            refused()
    assert before == roles_of(database)


def test_a_long_owner_name_is_cut_between_characters(database):
    """PostgreSQL cuts names at 63 bytes without a word."""
    owner = f"{database.name}_" + "ö" * 25
    database.execute(f'CREATE ROLE "{owner}"')
    database.execute(f'GRANT "{owner}" TO {database.admin_user} WITH ADMIN OPTION')
    kind = kind_of(TwoLogins, database, owner_role=owner, logins=("x_a", "x_b"))
    before = roles_of(database)
    used = rehearse(kind, None)
    name = used[USERNAME].reveal_text()
    assert 62 <= len(name.encode()) <= 63
    assert name.endswith("ö_rehearsal")
    assert before == roles_of(database)


@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_the_plan_names_the_throw_away_login(database, strategy):
    """A dry run of the rehearsal."""
    lines = dict(kind_of(strategy, database).rehearsal().describe(database.application_values))
    assert f"drop `{database.name}_rehearsal`" == lines["withdraw"]
    assert database.application_values.keys() == {USERNAME, PASSWORD}
