"""The worked example: every secret of it rotated by one command, while its users go on."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from pathlib import Path

import pytest

from tests.worlds.clipper import (
    AUTOMATIC,
    EXAMPLE,
    PATIENCE_SECONDS,
    USERS,
    WHERE,
    ClipperWorld,
    Visits,
)

pytestmark = [pytest.mark.postgres, pytest.mark.kinds]

# It takes some ten seconds; this only says that nothing waited for a time to pass.
BOUND_SECONDS = 120
# What names rather than proves, and may be said.
NAMES = {
    "JWT_KEY_ID",
    "JWT_JWKS",
    "JWT_PUBLIC_KEY_B64",
    "OPENSEARCH_USERNAME",
    "TWITCH_CLIENT_ID",
    "VAULT_ROLE_ID",
    "DB_USER",
}
# Only the backend, and who reads its database, can say of these whether the old one ended.
OURS = {"jwt", "session", "mfa-encryption"}
BY_HAND = {
    "stripe",
    "twitch",
    "db-admin",
    "openai-admin",
    "opensearch-admin",
    "sendgrid-admin",
    "vault-admin",
}


@pytest.fixture(scope="module")
def world():
    """The example, filled and running."""
    # The database's own user must reach its files, so not below pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="kt-"))
    folder.chmod(0o711)
    world = ClipperWorld(folder)
    try:
        world.fill()
        world.run_backend()
        yield world
    finally:
        world.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def rotated(world):
    """What everything came to: `rotate --all` under load, and the two that a person fetches."""
    found = {"before": world.delivered(), "works before": world.works(world.delivered())}
    found["token"] = world.ask("/token?user=7")[1]
    with Visits(world.port) as visits:
        # Every seed is written once before its key is changed.
        visits.more(USERS * 6)
        found["all"] = world.rotate_all("--json")
        found["person"] = [world.rotate_twitch(), world.rotate_stripe()]
        visits.more(USERS)
    found["visits"] = visits
    found["after"] = world.delivered()
    return found


def ends(ended):
    """Return how each secret of a `--json` answer ended."""
    return {each["secret"]: each["end"] for each in ended.document["secrets"]}


def test_every_secret_that_needs_no_person_is_rotated(rotated):
    """Ten kinds end with `done`, and the exit code says so."""
    ended = rotated["all"]
    assert ended.code == 0, ended.err
    done = {name for name, end in ends(ended).items() if end == "done"}
    assert set(AUTOMATIC) == done
    assert ended.seconds < BOUND_SECONDS


def test_what_a_person_fetches_is_left_to_one(rotated):
    """Guided kinds are named with the command that says what to do; one without a value is not."""
    found = {each["secret"]: each for each in rotated["all"].document["secrets"]}
    assert BY_HAND == {name for name, each in found.items() if each["end"] == "person"}
    assert "`keyturn rotate twitch -e production`" in found["twitch"]["text"]
    assert ("skipped", "it has no value yet") == (found["sentry"]["end"], found["sentry"]["text"])


def test_no_request_was_refused(rotated):
    """Queries, new logins, cache, tokens, sessions and seeds: all of them were answered."""
    visits = rotated["visits"]
    assert {} == dict(visits.refused)
    assert visits.requests > USERS * 7


def test_every_old_credential_is_refused_by_its_own_system(world, rotated):
    """An ordinary client was let in by the old ones before, and is let in by the new ones only."""
    names = {*AUTOMATIC, "stripe", "twitch"} - OURS
    assert dict.fromkeys(names, True) == rotated["works before"]
    assert dict.fromkeys(names, False) == world.works(rotated["before"])
    assert dict.fromkeys(names, True) == world.works(rotated["after"])


def test_what_the_old_keys_signed_has_ended(world, rotated):
    """Without a grace, tokens and sessions of the old keys end; those of the new are accepted."""
    old = rotated["token"]
    assert world.ask("/whoami", token=old["token"])[0] == 401
    assert world.ask("/whoami", cookie=old["cookie"])[0] == 401
    new = world.ask("/token?user=7")[1]
    assert world.ask("/whoami", token=new["token"], cookie=new["cookie"]) == (
        200,
        {"user": {"token": "7", "session": "7"}},
    )


def test_every_row_is_encrypted_with_the_new_key(world, rotated):
    """No seed is left on the old key, none is lost, and the ring has the new key alone."""
    (key_id,) = (
        entry.partition(":")[0] for entry in rotated["after"]["MFA_ENCRYPTION_KEYS"].split(",")
    )
    assert {key_id: USERS} == world.rows_by_key()
    assert key_id not in rotated["before"]["MFA_ENCRYPTION_KEYS"]


def test_nothing_is_left_at_the_vendors(world, rotated):
    """As many credentials as before: nothing of a rotation stayed behind."""
    assert rotated["all"].code == 0
    assert len(world.openai.credentials()) == 1
    assert len(world.sendgrid.credentials()) == 2  # the administrator's, and ours
    assert len(world.vault.credentials()) == 1
    assert len(world.stripe.credentials()) == 1
    assert set(world.opensearch.users) == {"admin", rotated["after"]["OPENSEARCH_USERNAME"]}


def test_the_backend_runs_on_what_is_current(world, rotated):
    """Health names the current version of every secret that the backend is given."""
    assert rotated["all"].code == 0
    _, health = world.ask("/health")
    rows = world.must("status", "-e", "production", "--json").document
    current = {row["secret"]: row["version"] for row in rows}
    assert {name: current[name] for name in health["versions"]} == health["versions"]
    assert {*AUTOMATIC, "stripe", "twitch"} == set(health["versions"])


def test_the_audit_log_is_whole_and_nothing_was_said_of_a_value(world, rotated):
    """The chain verifies, and no value is in what the commands or the backend said."""
    world.must("audit", "verify")
    ended = [rotated["all"], *rotated["person"]]
    said = "".join(each.out + each.err for each in ended)
    said += (world.folder / "backend.log").read_text()
    said += world.must("audit", "log", "--json").out
    manifest = tomllib.loads((EXAMPLE / "keyturn.toml").read_text())
    settings = set(manifest["config"]) | NAMES
    values = {
        part
        for delivered in (rotated["before"], rotated["after"])
        for name, value in delivered.items()
        if name not in settings and not name.startswith("KEYTURN_")
        for part in value.replace(":", ",").split(",")
        if len(part) > 12
    }
    assert len(values) > len(AUTOMATIC) * 2
    assert [] == [value[:4] for value in values if value in said]


def test_with_their_graces_both_work_until_these_are_over(world, rotated):
    """What Keyturn made itself is rotated too; it waits, is not begun twice, and then ends."""
    assert rotated["all"].code == 0
    before, given = world.delivered(), world.ask("/token?user=7")[1]
    words = ("rotate", "--all", *WHERE, "--json")
    with Visits(world.port) as visits:
        visits.more(100)
        begun = ends(world.must(*words))
        assert {True} == set(world.works(before).values())
        assert world.ask("/whoami", token=given["token"], cookie=given["cookie"])[0] == 200
        assert begun == ends(world.must(*words))
        world.must("rotate", "--resume", "--now", *WHERE)
        visits.more(100)
    assert {} == dict(visits.refused)
    # Its rows are re-encrypted at once: it has no grace.
    graced = set(AUTOMATIC) - {"mfa-encryption"}
    assert dict.fromkeys(graced, "waiting") == {n: e for n, e in begun.items() if e == "waiting"}
    assert "done" == begun["mfa-encryption"]
    still = {name for name, works in world.works(before).items() if works}
    assert {"stripe", "twitch"} == still
    assert world.ask("/whoami", token=given["token"])[0] == 401


def test_it_ends_when_it_is_told_to(world, rotated):
    """The backend stops within the time it has, whatever it was reloaded with."""
    assert rotated["all"].code == 0
    world.backend.terminate()
    assert world.backend.wait(PATIENCE_SECONDS) == 0
