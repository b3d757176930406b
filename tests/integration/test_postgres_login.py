"""PostgreSQL logins on real servers: both strategies, every refusal, no value in the log."""

from __future__ import annotations

import os
import secrets
import select
import socket
import threading
import time
from dataclasses import replace
from functools import partial

import psycopg
import pytest

from keyturn.core.ids import FieldName, Token
from keyturn.core.value import SecretValue
from keyturn.errors import (
    KeyturnError,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    VerificationFailed,
)
from keyturn.targets import InPlace, PostgresTarget, TwoLogins
from keyturn.targets import _postgres_connection as connections
from keyturn.targets.postgres import probe
from keyturn.testing.postgres import PostgresServer, available_versions

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.parametrize("postgres", available_versions(), indirect=True),
]

USERNAME, PASSWORD = FieldName("username"), FieldName("password")
TOKEN = Token("t")


def make_password():
    """Return a password whose text is told apart from all else in a log."""
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


@pytest.fixture
def target(database):
    return target_of(database)


@pytest.fixture
def two(target):
    return TwoLogins(target, make_password=make_password)


@pytest.fixture
def in_place(target):
    return InPlace(target, make_password=make_password)


def rotate(kind, current):
    """Do the steps that a rotation does and return the new values."""
    pending = kind.create(current, token=TOKEN)
    kind.apply(current, pending)
    kind.check(current, pending)
    if current is not None:
        kind.retire(pending, current)
        kind.prove_dead(current)
    return pending


def values(username, password):
    """Return a version's fields."""
    return {USERNAME: SecretValue.from_text(username), PASSWORD: password}


# --- two logins -----------------------------------------------------------------------


def test_the_login_that_owns_its_tables_is_adopted(database, two):
    """It becomes the owner role; nothing changes its owner, and nobody logs in as it."""
    new = rotate(two, database.application_values)
    assert f"{database.name}_a" == new[USERNAME].reveal_text()
    with database.connect(new) as connection:
        assert (database.name,) == connection.execute("SELECT current_user").fetchone()
        connection.execute("INSERT INTO clip VALUES (1)")
        connection.execute("CREATE TABLE made_by_a (id int)")
    owners = database.execute(
        "SELECT tablename, tableowner FROM pg_tables WHERE tablename ~ 'clip|made'"
    )
    assert {("clip", database.name), ("made_by_a", database.name)} == set(owners)
    assert [(False,)] == database.execute(
        f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{database.name}'"
    )


def test_the_two_logins_take_turns(database, two):
    """a, b, a: each may do what the other one made."""
    seen = []
    current = database.application_values
    for number in range(3):
        current = rotate(two, current)
        seen.append(current[USERNAME].reveal_text().removeprefix(database.name))
        with database.connect(current) as connection:
            connection.execute(f"CREATE TABLE t{number} (id int)")
            connection.execute(f"ALTER TABLE t{max(number - 1, 0)} ADD COLUMN c{number} int")
    assert ["_a", "_b", "_a"] == seen


def test_the_old_login_works_until_it_is_retired(database, two):
    """Nothing is refused in between, and open sessions go on."""
    current = database.application_values
    with database.connect(current) as session:
        pending = two.create(current, token=TOKEN)
        two.apply(current, pending)
        two.check(current, pending)
        session.execute("INSERT INTO clip VALUES (7)")
        with database.connect(current), database.connect(pending):
            pass


def test_retiring_ends_every_session_of_the_old_login(database, two):
    """Whoever holds one, on whichever database of the server."""
    current = database.application_values
    here = database.connect(current)
    there = database.server.connect(
        user=database.application_user, password=database.application_password
    )
    rotate(two, current)
    for session in (here, there):
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_retiring_again_changes_nothing(database, two):
    """A crash right after it is answered by doing it once more."""
    new = rotate(two, database.application_values)
    two.retire(new, database.application_values)
    two.prove_dead(database.application_values)


def test_applying_again_changes_nothing(database, two):
    """The same transaction, with the same end."""
    current = database.application_values
    pending = two.create(current, token=TOKEN)
    for _ in range(2):
        two.apply(current, pending)
    two.check(current, pending)


def test_withdrawing_shuts_the_new_login_out_and_leaves_the_old_one(database, two):
    """Its sessions end too; a second call does nothing."""
    current = database.application_values
    pending = two.create(current, token=TOKEN)
    two.apply(current, pending)
    session = database.connect(pending)
    for _ in range(2):
        two.withdraw(current, pending)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        database.connect(pending)
    database.connect(current).close()


def test_withdrawing_what_was_never_applied_is_nothing(database, two):
    """A rotation that failed before `apply` goes back all the same."""
    two.withdraw(database.application_values, two.create(database.application_values, token=TOKEN))


def test_an_old_login_that_lives_is_an_error(database, two):
    """The proof is an alarm, not a note."""
    with pytest.raises(VerificationFailed, match="still works"):
        two.prove_dead(database.application_values)


def test_role_settings_and_limits_come_along(database, two):
    """`search_path` with its quoting, settings of one database, a custom one, the limit."""
    name = database.application_user
    database.execute(f"""ALTER ROLE {name} SET search_path = "$user", 'odd "name"', public""")
    database.execute(f"ALTER ROLE {name} IN DATABASE {database.name} SET work_mem = '5MB'")
    database.execute(f"ALTER ROLE {name} CONNECTION LIMIT 7")
    new = rotate(two, database.application_values)
    with database.connect(new) as connection:
        path = connection.execute("SHOW search_path").fetchone()
        assert ('"$user", "odd ""name""", public',) == path
        assert ("5MB",) == connection.execute("SHOW work_mem").fetchone()
    assert [(7,)] == database.execute(
        f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{name}_a'"
    )
    database.execute(f"ALTER ROLE {name}_a RESET search_path")
    newer = rotate(two, new)
    with database.connect(newer) as connection:
        assert ('"$user", public',) == connection.execute("SHOW search_path").fetchone()


def test_memberships_come_along(database, two):
    """What the current login was granted beside the owner role, the next one is too."""
    new = rotate(two, database.application_values)
    database.execute(f"CREATE ROLE {database.name}_reader")
    database.execute(f"GRANT {database.name}_reader TO {database.admin_user} WITH ADMIN OPTION")
    database.execute(f"GRANT {database.name}_reader TO {new[USERNAME].reveal_text()}")
    newer = rotate(two, new)
    rows = database.execute(
        "SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
        f" JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = '{newer[USERNAME].reveal_text()}'"
    )
    assert {(database.name,), (f"{database.name}_reader",)} == set(rows)


def test_rights_that_only_the_current_login_has_are_found_before_promote(database, two):
    """The next login would lack them, so the check fails."""
    new = rotate(two, database.application_values)
    database.execute(f"GRANT pg_monitor TO {database.admin_user} WITH ADMIN OPTION")
    database.execute(
        f"CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO {new[USERNAME].reveal_text()}"
    )
    pending = two.create(new, token=TOKEN)
    two.apply(new, pending)
    with pytest.raises(VerificationFailed, match="1 objects") as caught:
        two.check(new, pending)
    assert "REASSIGN OWNED" in caught.value.hint


def test_a_grant_made_between_two_rotations_reaches_both_logins(database, two):
    """It is made to the owner role, which both act as: tables, schemas and memberships."""
    current = rotate(two, database.application_values)
    database.execute("CREATE SCHEMA later; CREATE TABLE later.t (id int)")
    database.execute(f"GRANT USAGE ON SCHEMA later TO {database.name}")
    database.execute(f"GRANT SELECT, INSERT ON later.t TO {database.name}")
    database.execute(f"CREATE ROLE {database.name}_group")
    database.execute("CREATE TABLE later.g (id int)")
    database.execute(f"GRANT SELECT ON later.g TO {database.name}_group")
    database.execute(f"GRANT {database.name}_group TO {database.name}")
    pending = two.create(current, token=TOKEN)
    two.apply(current, pending)
    two.check(current, pending)
    for login in (current, pending):
        with database.connect(login) as connection:
            connection.execute("INSERT INTO later.t VALUES (1)")
            connection.execute("SELECT * FROM later.t, later.g")
    two.retire(pending, current)
    newest = rotate(two, pending)
    with database.connect(newest) as connection:
        assert (2,) == connection.execute("SELECT count(*) FROM later.t").fetchone()


@pytest.mark.parametrize("holder", ["_a", "_b"])
def test_a_direct_grant_to_one_login_is_reported(database, two, holder):
    """To the current one or to the next: the two would not be equal."""
    new = database.application_values
    for _ in range(3):
        new = rotate(two, new)
    assert f"{database.name}_a" == new[USERNAME].reveal_text()
    database.execute("CREATE TABLE other (id int)")
    database.execute(f"GRANT SELECT ON other TO {database.name}{holder}")
    pending = two.create(new, token=TOKEN)
    two.apply(new, pending)
    with pytest.raises(VerificationFailed, match=f"`{database.name}{holder}` itself") as caught:
        two.check(new, pending)
    assert f'grants for "{database.name}"' in caught.value.hint
    two.withdraw(new, pending)
    database.execute(f"REVOKE SELECT ON other FROM {database.name}{holder}")
    rotate(two, new)


def test_a_membership_that_only_the_next_login_has_is_reported(database, two):
    """What was revoked from the login in use must not come back with the other one."""
    current = rotate(two, rotate(two, database.application_values))
    database.execute(f"CREATE ROLE {database.name}_reader")
    database.execute(f"GRANT {database.name}_reader TO {database.name}_a")
    pending = two.create(current, token=TOKEN)
    two.apply(current, pending)
    with pytest.raises(VerificationFailed, match=f"`{database.name}_a` is a member of"):
        two.check(current, pending)


def test_an_attribute_that_the_owner_has_not_is_reported(database):
    """A login set up by hand may have more than the role that the next one acts as."""
    login, password = f"{database.name}_x", make_password()
    with database.server.connect() as connection:
        connection.execute("SET log_statement = 'none'")
        connection.execute(
            f"CREATE ROLE {login} LOGIN CREATEDB IN ROLE {database.name}"
            f" PASSWORD '{password.reveal_text()}'"
        )
        connection.execute(f"GRANT {login} TO {database.admin_user} WITH ADMIN OPTION")
    kind = TwoLogins(
        target_of(database, logins=(login, f"{database.name}_y")), make_password=make_password
    )
    with pytest.raises(VerificationFailed, match="has CREATEDB") as caught:
        rotate(kind, values(login, password))
    assert f'ALTER ROLE "{database.name}" CREATEDB' in caught.value.hint


@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_a_current_version_that_is_refused_is_not_rotated_from(database, target, strategy):
    """It is not what the service uses; nothing is made, and the hint says what to do."""
    wrong = values(database.application_user, make_password())
    with pytest.raises(Rejected) as caught:
        strategy(target, make_password=make_password).create(wrong, token=TOKEN)
    assert "target.current" == caught.value.code
    assert "keyturn set" in caught.value.hint
    assert "CANARY" not in str(caught.value)
    assert [] == database.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{database.name}_a'")


@pytest.mark.parametrize("which", ["", "_a"])
@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_a_login_that_another_secret_uses_is_not_changed(database, target, strategy, which):
    """As the login in use or as the next one; it names the secret."""
    shared = replace(target, reserved={database.name + which: "staging/db"})
    kind = strategy(shared, make_password=make_password)
    asks = [kind, kind.rehearsal()]
    for ask in asks:
        if strategy is InPlace and which:
            ask.create(database.application_values, token=TOKEN)
            continue
        with pytest.raises(Rejected, match="`staging/db`") as caught:
            ask.create(database.application_values, token=TOKEN)
        assert "target.shared" == caught.value.code


@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_a_service_that_fills_its_own_limit_is_rotated(database, target, strategy):
    """The limit is looked at after the password, so the password is right."""
    kind = strategy(target, make_password=make_password)
    database.execute(f"ALTER ROLE {database.application_user} CONNECTION LIMIT 1")
    with database.connect(database.application_values):
        kind.create(database.application_values, token=TOKEN)
        with pytest.raises(Unavailable, match="no connection left") as caught:
            kind.probe(database.application_values)
    assert caught.value.retryable
    kind.clean_up(TOKEN)


def test_a_birth_makes_owner_and_first_login(database):
    """Nothing existed; the owner role cannot log in."""
    owner = f"{database.name}_fresh"
    kind = TwoLogins(target_of(database, owner_role=owner), make_password=make_password)
    first = rotate(kind, None)
    assert f"{owner}_a" == first[USERNAME].reveal_text()
    assert [(False,)] == database.execute(
        f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{owner}'"
    )
    second = rotate(kind, first)
    assert f"{owner}_b" == second[USERNAME].reveal_text()
    kind.withdraw(None, kind.create(None, token=TOKEN))


def test_a_birth_does_not_take_a_login_over(database, two):
    """Somebody may be using it with a password that Keyturn does not know."""
    new = rotate(two, database.application_values)
    kind = TwoLogins(target_of(database, owner_role=database.name), make_password=make_password)
    pending = kind.create(None, token=TOKEN)
    with pytest.raises(Rejected, match="somebody may be using it"):
        kind.apply(None, pending)
    database.connect(new).close()


def test_a_birth_that_is_refused_does_not_end_the_login(database, two):
    """The way back leaves alone what the way there did not make."""
    new = rotate(two, database.application_values)
    owned = target_of(database, owner_role=database.name)
    for kind, login in (
        (TwoLogins(owned, make_password=make_password), new),
        (
            InPlace(
                replace(owned, logins=(f"{database.name}_a", "b")), make_password=make_password
            ),
            new,
        ),
    ):
        with database.connect(login) as session:
            pending = kind.create(None, token=TOKEN)
            with pytest.raises(Rejected, match="somebody may be using it"):
                kind.apply(None, pending)
            kind.withdraw(None, pending)
            session.execute("SELECT 1")
        database.connect(login).close()


def test_an_idle_login_in_use_keeps_its_password(database, two):
    """The store was put back to a retired login, and the service runs on the other one."""
    retired = rotate(two, database.application_values)
    used = rotate(two, retired)
    with database.connect(used) as service, database.connect(used):
        for refused in (partial(two.create, token=TOKEN), two.describe):
            with pytest.raises(Rejected) as caught:
                refused(retired)
            assert "target.in-use" == caught.value.code
            assert f"`{database.name}_b` ought to be idle and has 2 sessions" in str(caught.value)
            assert "keyturn history" in caught.value.hint
        service.execute("SELECT 1")
    database.connect(used).close()


def test_sessions_that_do_not_stand_in_the_way(database, two, target):
    """Keyturn's own, those of the current login, and those of a login that is shut."""
    current = rotate(two, database.application_values)
    idle = two.create(current, token=TOKEN)
    two.apply(current, idle)
    with (
        connections.log_in(target, idle[USERNAME].reveal_text(), idle[PASSWORD]),
        database.connect(current),
    ):
        two.create(current, token=TOKEN)
    with database.connect(idle):
        database.execute(f"ALTER ROLE {idle[USERNAME].reveal_text()} NOLOGIN")
        two.create(current, token=TOKEN)


def test_named_logins_and_owner_are_used(database):
    """The manifest may say what they are called, with any characters."""
    odd = f'{database.name}_Ödd "b"; --'
    kind = TwoLogins(
        target_of(database, owner_role=database.name, logins=(f"{database.name}_x", odd)),
        make_password=make_password,
    )
    current = rotate(kind, rotate(kind, database.application_values))
    assert odd == current[USERNAME].reveal_text()
    database.connect(current).close()


def test_a_login_set_up_by_hand_is_known_by_its_membership(database):
    """Named logins without `SET role` yet: the one role they are members of is the owner."""
    login = f"{database.name}_x"
    password = make_password()
    with database.server.connect() as connection:
        connection.execute("SET log_statement = 'none'")
        connection.execute(
            f"CREATE ROLE {login} LOGIN IN ROLE {database.name} PASSWORD '{password.reveal_text()}'"
        )
        connection.execute(f"GRANT {login} TO {database.admin_user} WITH ADMIN OPTION")
    target = target_of(database, logins=(login, f"{database.name}_y"))
    new = rotate(TwoLogins(target, make_password=make_password), values(login, password))
    assert f"{database.name}_y" == new[USERNAME].reveal_text()


def test_the_plan_names_the_roles(database, two):
    """A dry run says which login comes and which goes."""
    text = " ".join(line for _, line in two.describe(database.application_values))
    assert f"`{database.name}_a`" in text
    assert f"`{database.name}` may log in no more" in text


@pytest.mark.parametrize("attribute", ["SUPERUSER", "REPLICATION"])
@pytest.mark.parametrize("which", ["", "_a"])
def test_a_role_over_the_whole_server_is_refused(database, two, attribute, which):
    """As the current login or as the idle one."""
    name = database.application_user + which
    if which:
        database.execute(f"CREATE ROLE {name} IN ROLE {database.application_user}")
    database.execute(f"ALTER ROLE {name} {attribute}")
    with pytest.raises(Rejected, match="does not rotate those"):
        two.create(database.application_values, token=TOKEN)


def test_the_administrator_is_refused(database, two):
    """It cannot shut itself out."""
    with pytest.raises(Rejected, match="administers the logins") as caught:
        two.create(values(database.admin_user, database.admin_password), token=TOKEN)
    assert "in-place" in caught.value.hint


@pytest.mark.parametrize("name", ["pg_monitor", "pg_app", "x" * 62])
def test_names_that_postgresql_keeps_or_cuts_are_refused(database, name):
    """`_a` and `_b` behind a long name would become one role."""
    kind = TwoLogins(target_of(database, owner_role=name), make_password=make_password)
    with pytest.raises(Rejected):
        kind.create(database.application_values, token=TOKEN)


def test_a_stranger_of_the_idle_login_s_name_is_left_alone(database, two):
    """A role that is not a member of the owner may be somebody's."""
    database.execute(f"CREATE ROLE {database.name}_a LOGIN")
    with pytest.raises(Rejected, match="may be somebody's"):
        two.create(database.application_values, token=TOKEN)


def test_owner_and_logins_must_differ(database):
    """One name in two places would retire the owner."""
    for changes in (
        {"logins": (database.name, "x")},
        {"logins": ("x", "x")},
    ):
        kind = TwoLogins(
            target_of(database, owner_role=database.name, **changes), make_password=make_password
        )
        with pytest.raises(Rejected, match="three different roles"):
            kind.create(database.application_values, token=TOKEN)


def test_a_birth_must_know_its_owner(database, two):
    """Guessing a name would make roles that nobody asked for."""
    with pytest.raises(Rejected) as caught:
        two.create(None, token=TOKEN)
    assert "owner_role" in caught.value.hint


def test_an_owner_that_is_not_there_is_refused(database):
    """A typing error in the manifest does not become a role."""
    kind = TwoLogins(
        target_of(database, owner_role=f"{database.name}_typo"), make_password=make_password
    )
    pending = kind.create(database.application_values, token=TOKEN)
    with pytest.raises(Rejected, match="no role"):
        kind.apply(database.application_values, pending)


def test_a_login_is_never_its_own_successor(database, two):
    """Retiring what is in use is refused."""
    with pytest.raises(Rejected, match="login in use"):
        two.retire(database.application_values, database.application_values)


def test_a_missing_right_is_named(database, postgres):
    """The message says who lacks it, the hint what to run."""
    database.execute(f"REVOKE {database.application_user} FROM {database.admin_user} CASCADE")
    database.execute(f"ALTER ROLE {database.admin_user} NOCREATEROLE")
    kind = TwoLogins(target_of(database), make_password=make_password)
    pending = kind.create(database.application_values, token=TOKEN)
    with pytest.raises(Rejected) as caught:
        kind.apply(database.application_values, pending)
    assert connections.DENIED == caught.value.code
    assert database.admin_user in caught.value.message
    assert "WITH ADMIN OPTION" in caught.value.hint
    assert [] == database.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{database.name}_a'"), (
        "a refused apply leaves nothing"
    )


def test_a_target_that_changed_midway_is_refused(database, two):
    """The pending version is for another login than the target now says."""
    pending = two.create(database.application_values, token=TOKEN)
    changed = target_of(database, logins=(f"{database.name}_x", f"{database.name}_y"))
    with pytest.raises(Rejected, match="new version is for"):
        TwoLogins(changed, make_password=make_password).apply(database.application_values, pending)


# --- in place -------------------------------------------------------------------------


def test_in_place_changes_the_password(database, in_place):
    """The same login, the new password, the old one refused, old sessions ended."""
    session = database.connect(database.application_values)
    new = rotate(in_place, database.application_values)
    assert database.application_user == new[USERNAME].reveal_text()
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    database.connect(new).close()


def test_in_place_goes_back(database, in_place):
    """The old password works again, the new one does not; twice is as good as once."""
    current = database.application_values
    pending = in_place.create(current, token=TOKEN)
    in_place.apply(current, pending)
    for _ in range(2):
        in_place.withdraw(current, pending)
    database.connect(current).close()
    with pytest.raises(psycopg.OperationalError):
        database.connect(pending)


def test_in_place_without_the_right_the_login_does_it_itself(database, in_place):
    """On 16 and later CREATEROLE alone may not; a role may always change its own."""
    database.execute(f"REVOKE {database.application_user} FROM {database.admin_user} CASCADE")
    database.execute(f"ALTER ROLE {database.admin_user} NOCREATEROLE")
    current = database.application_values
    pending = in_place.create(current, token=TOKEN)
    in_place.apply(current, pending)
    in_place.check(current, pending)
    in_place.withdraw(current, pending)
    rotate(in_place, current)


def test_in_place_a_login_that_acts_as_its_owner_does_it_itself(database, in_place, two):
    """It puts the owner's role aside, which has no right on it; its sessions end as well."""
    current = rotate(two, database.application_values)
    login = current[USERNAME].reveal_text()
    database.execute(f"REVOKE {login} FROM {database.admin_user} CASCADE")
    database.execute(f"ALTER ROLE {database.admin_user} NOCREATEROLE")
    with database.connect(current) as session:
        rotate(in_place, current)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_in_place_rotates_the_administrator_itself(database, in_place):
    """With the password that it is about to lose."""
    new = rotate(in_place, values(database.admin_user, database.admin_password))
    database.connect(new).close()


def test_in_place_birth_and_its_way_back(database):
    """A login is made, or shut out again."""
    kind = InPlace(
        target_of(database, owner_role=f"{database.name}_n"), make_password=make_password
    )
    pending = kind.create(None, token=TOKEN)
    kind.apply(None, pending)
    kind.apply(None, pending)
    kind.check(None, pending)
    kind.withdraw(None, pending)
    with pytest.raises(psycopg.OperationalError):
        database.connect(pending)


def test_in_place_birth_does_not_take_a_login_over(database):
    """Its users would be refused."""
    kind = InPlace(target_of(database, owner_role=database.name), make_password=make_password)
    with pytest.raises(Rejected, match="somebody may be using it"):
        kind.apply(None, kind.create(None, token=TOKEN))
    database.connect(database.application_values).close()


def test_in_place_refuses_a_superuser(database, in_place):
    """Its password is not an application's."""
    database.execute(f"ALTER ROLE {database.application_user} SUPERUSER")
    current = database.application_values
    with pytest.raises(Rejected, match="does not rotate those"):
        in_place.apply(current, in_place.create(current, token=TOKEN))


def test_in_place_with_no_password_that_works_says_so(database, in_place):
    """Somebody changed the administrator's at the server."""
    wrong = values(database.admin_user, make_password())
    with pytest.raises(Rejected, match="no password that Keyturn knows"):
        in_place.apply(wrong, values(database.admin_user, make_password()))


# --- probe, connection, log -----------------------------------------------------------


def test_probe_logs_in(database, target):
    """The retrieval test's question."""
    evidence = probe(target, database.application_values)
    assert "login accepted" == evidence.method


def test_a_probe_that_is_refused_is_a_failed_verification(database, target):
    """Wrong password, no login, no such role: all the same answer."""
    database.execute(f"CREATE ROLE {database.name}_n NOLOGIN")
    for name in (database.application_user, f"{database.name}_n", "nobody at all"):
        with pytest.raises(VerificationFailed):
            probe(target, values(name, make_password()))


def test_a_server_that_is_away_is_unavailable(database, target):
    """Nothing is proven by it, least of all that a login is dead."""
    with socket.socket() as taken:
        taken.bind((target.host, 0))
        away = replace(target, port=taken.getsockname()[1])
    kind = TwoLogins(away, make_password=make_password)
    for ask in (partial(kind.create, token=TOKEN), kind.prove_dead, kind.probe):
        with pytest.raises(Unavailable):
            ask(database.application_values)


def test_a_server_that_never_answers_is_unavailable(database, target):
    """It accepts the connection and says nothing."""
    with socket.socket() as silent:
        silent.bind((target.host, 0))
        silent.listen()
        mute = replace(target, port=silent.getsockname()[1], connect_timeout_seconds=2)
        started = time.monotonic()
        with pytest.raises(Unavailable):
            probe(mute, database.application_values)
        assert time.monotonic() - started < 10


def test_a_wrong_database_is_not_taken_for_a_refused_login(database, target):
    """It would prove a living login dead."""
    with pytest.raises(Rejected, match="does not exist") as caught:
        TwoLogins(replace(target, database="nowhere"), make_password=make_password).prove_dead(
            database.application_values
        )
    assert connections.LOGIN_REFUSED != caught.value.code


def test_a_refused_administrator_is_named(database, target):
    """Its secret is the one to look at."""
    refused = replace(target, admin_password=make_password(), admin_secret="db-admin")
    kind = TwoLogins(refused, make_password=make_password)
    with pytest.raises(Rejected, match=f"refused the login of `{database.admin_user}`") as caught:
        kind.create(database.application_values, token=TOKEN)
    assert connections.ADMIN_REFUSED == caught.value.code
    assert caught.value.hint.endswith("keyturn set db-admin")


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
def test_a_connection_in_clear_leaves_no_loopback(postgres, target, sslmode, database):
    """`prefer` falls back to clear without a word, so it is refused as well."""
    far = replace(target, host="db.example.com,127.0.0.1", sslmode=sslmode)
    with pytest.raises(Rejected) as caught:
        probe(far, database.application_values)
    assert "target.plaintext" == caught.value.code
    assert "verify-full" in caught.value.hint


def test_the_environment_and_the_home_do_not_steer_it(
    database, target, monkeypatch, tmp_path, own_home
):
    """`PGSERVICE`, `PGPASSFILE` and the rest name another place; nobody listens."""
    service = tmp_path / "service.conf"
    service.write_text("[other]\nhost=192.0.2.1\ntarget_session_attrs=standby\n")
    passes = own_home / ".pgpass"
    passes.write_text("*:*:*:*:wrong\n")
    passes.chmod(0o600)
    settings = {
        "PGSERVICE": "other",
        "PGSERVICEFILE": str(service),
        "PGPASSFILE": str(passes),
        "PGHOSTADDR": "192.0.2.1",
        "PGUSER": "postgres",
        "PGDATABASE": "postgres",
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGTARGETSESSIONATTRS": "standby",
        "PGREQUIREAUTH": "gss",
        "PGSSLMODE": "require",
    }
    with monkeypatch.context() as patched:
        for name, text in settings.items():
            patched.setenv(name, text)
        new = rotate(TwoLogins(target, make_password=make_password), database.application_values)
        probe(target, new)
        assert settings.items() <= os.environ.items(), "the environment is as it was"


class Cutter:
    """
    A proxy to the server that cuts the first connection to send COMMIT.

    Args:
        delivered: Cut after the server has it, so that only the answer is lost.
    """

    def __init__(self, server, *, delivered):
        self.server = server
        self.delivered = delivered
        self.cut = threading.Event()
        self.listener = socket.create_server((server.host, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection((self.server.host, self.server.port))
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()

    def _pump(self, client, server):
        with client, server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for source in ready:
                    data = source.recv(65536)
                    committing = source is client and b"COMMIT" in data and not self.cut.is_set()
                    if committing and not self.delivered:
                        self.cut.set()
                        return
                    if not data:
                        return
                    (server if source is client else client).sendall(data)
                    if committing:
                        server.recv(65536)  # the server has committed; nobody hears it
                        self.cut.set()
                        return


@pytest.mark.parametrize("delivered", [True, False])
@pytest.mark.parametrize("strategy", [TwoLogins, InPlace])
def test_a_commit_whose_answer_is_lost_is_of_unknown_outcome(database, target, strategy, delivered):
    """Committed or not, the next call asks the server and ends the same."""
    cutter = Cutter(database.server, delivered=delivered)
    kind = strategy(replace(target, port=cutter.port), make_password=make_password)
    current = database.application_values
    pending = kind.create(current, token=TOKEN)
    with pytest.raises(OutcomeUnknown):
        kind.apply(current, pending)
    assert cutter.cut.is_set()
    kind.apply(current, pending)
    kind.check(current, pending)
    kind.withdraw(current, pending)
    probe(target, current)
    cutter.listener.close()


def test_two_keyturns_at_one_server_wait_for_each_other(database, target):
    """Two secrets of one owner role change their logins at once; neither fails."""
    current = database.application_values
    kinds = [
        TwoLogins(
            replace(
                target,
                owner_role=database.name,
                logins=(f"{database.name}_{n}x", f"{database.name}_{n}y"),
            ),
            make_password=make_password,
        )
        for n in range(4)
    ]
    failures = []

    def apply(kind):
        try:
            for _ in range(5):
                kind.apply(current, kind.create(current, token=TOKEN))
        except KeyturnError as error:
            failures.append(error)

    threads = [threading.Thread(target=apply, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures


def test_no_password_reaches_the_server_s_log_or_an_error(database, two, in_place):
    """Both strategies, forward and back, with every DDL statement logged."""
    current = rotate(two, database.application_values)
    two.withdraw(current, two.create(current, token=TOKEN))
    pending = two.create(current, token=TOKEN)
    two.apply(current, pending)
    with pytest.raises(VerificationFailed) as caught:
        two.prove_dead(current)
    rotate(in_place, current)
    with pytest.raises(KeyturnError):
        InPlace(
            replace(target_of(database), database="nowhere"), make_password=make_password
        ).apply(current, pending)
    log = database.server.log_path.read_text(errors="replace")
    assert "ALTER ROLE" in log
    assert "SCRAM-SHA-256$" in log
    assert "CANARY" not in log
    assert "CANARY" not in str(caught.value)


def test_the_grant_that_ends_sessions_is_never_kept(database, two):
    """The administrator is a member of no login afterwards, but for what it was before."""
    held = f"""SELECT r.rolname, m.admin_option FROM pg_auth_members m
        JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
        WHERE u.rolname = '{database.admin_user}' AND r.rolname = '{database.application_user}'"""
    before = database.execute(held)
    session = database.connect(database.application_values)
    rotate(two, database.application_values)
    assert before == database.execute(held)
    session.close()


# --- the fixture itself ---------------------------------------------------------------


def test_the_server_leaves_nothing_behind(postgres):
    """Its folder and its process are gone; a second stop does nothing."""
    with PostgresServer(postgres.version) as server:
        folder, port = server.folder, server.port
        server.restart()
        server.connect().close()
    server.stop()
    assert not folder.exists()
    with socket.socket() as probe_socket:
        assert 0 != probe_socket.connect_ex((server.host, port))
    assert postgres.version in available_versions()
