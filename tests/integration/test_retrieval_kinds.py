"""The retrieval test of every kind of credential, in its world."""

from __future__ import annotations

import pytest
import tomlkit

from keyturn.app.checks import Result
from keyturn.app.retrieval import Wanted, prove_retrieval
from keyturn.app.session import open_session
from keyturn.core.ids import EnvironmentName, SecretName, Token
from keyturn.core.model import Origin, SecretRef
from tests.cli import projects
from tests.worlds.base import secret_values
from tests.worlds.scene import WORLDS, open_world

pytestmark = [pytest.mark.kinds]

HERE = EnvironmentName("development")
# There is nobody who could be asked whether these are right.
UNASKED = {"guided", "session_secret"}
# Of these an old one goes on being of use, so that nobody refuses it.
NOT_ENDED = {"jwt_signing_key", "encryption_key", "stripe_webhook_secret"}
# What is asked about the value may be known to whoever administers the target alone.
ASKS_AS_ADMIN = {"command", "external", "ssh_certificate", "stripe_webhook_secret"}


# A pair that does not match is found before it is tried.
PAIRS = {"ssh_key", "ssh_certificate"}
TRIED = [name for name in WORLDS if name != "redis_requirepass"]


@pytest.fixture(params=TRIED)
def world(request):
    opened = open_world(request.param)
    opened.name = request.param
    yield opened
    opened.close()


def others_of(setup):
    """Return the secrets beside it that its target names, with their values."""
    found = dict(setup.companions)
    if setup.admin is not None:
        found["admin"] = setup.admin
    return found


def manifest_of(setup):
    """Return a manifest with the secret of *setup*, and those that its target names."""
    secrets = {
        name: {"kind": "guided", "fields": dict.fromkeys(values, "")}
        for name, values in others_of(setup).items()
    }
    target = {**setup.target, **({"admin": "admin"} if setup.admin is not None else {})}
    secrets["it"] = {
        "kind": setup.kind,
        "fields": {field: f"IT_{field.upper()}" for field in setup.fields},
        **({"strategy": setup.strategy} if setup.strategy else {}),
        **({"target": target} if target else {}),
    }
    return tomlkit.dumps(
        {
            "project": {"name": "clipper", "owner": "team-core"},
            "environments": {"development": {"store": "local"}},
            "stores": {"local": {"kind": "embedded"}},
            "secrets": secrets,
        }
    )


@pytest.fixture
def session(world, tmp_path):
    """A project with the world's secret; what administers it has a value only where it must."""
    made = projects.empty(tmp_path, manifest_of(world.setup))
    projects.start(made)
    opened = open_session(
        made.settings, project_dir=made.folder, reason=None, ask_passphrase=projects.no_passphrase
    )
    if world.name in ASKS_AS_ADMIN:
        for name, values in others_of(world.setup).items():
            store(opened, 1, values, name=name)
    yield opened
    opened.close()


def store(session, number, texts, *, name="it"):
    """Make *texts* version *number*, and current."""
    ref = SecretRef(HERE, SecretName(name))
    token = Token(f"token-{name}-{number}")
    session.store.put_pending(ref, secret_values(texts), origin=Origin.IMPORTED, token=token)
    session.store.promote(ref, number, expected_current=number - 1 or None)


def tried(session):
    """Return the results of the checks that ask somebody, by name."""
    found = prove_retrieval(session, HERE, Wanted(("it",)))
    return {c.check: c for c in found if c.check in {"live", "retired"}}


def spoilt(texts):
    """Return *texts* with another secret part, of the same form."""
    turned = str.maketrans(
        "abcdefghijkmnopqrstuvwxy0123456789", "bcdefghijkmnopqrstuvwxya1234567890"
    )
    names = {"username", "client_id", "role_id", "access_key_id", "endpoint_id", "public_key"}
    return {
        field: text if field in names else text[:8] + text[8:].translate(turned)
        for field, text in texts.items()
    }


def test_what_works_passes(world, session):
    """Without the administering secret, which trying does not need."""
    store(session, 1, world.setup.first)
    found = tried(session)
    wanted = Result.SKIPPED if world.name in UNASKED else Result.PASS
    assert (wanted, {"live"}) == (found["live"].result, found.keys()), found["live"].detail


@pytest.mark.parametrize(
    "world", [name for name in TRIED if name not in UNASKED | NOT_ENDED | PAIRS], indirect=True
)
def test_what_does_not_work_fails_and_ended_ones_pass(world, session):
    """A value that the system refuses: as the one in use, and as the one before it."""
    store(session, 1, spoilt(world.setup.first))
    found = tried(session)
    assert (Result.FAIL, False) == (found["live"].result, found["live"].unreachable), found
    store(session, 2, world.setup.first)
    found = tried(session)
    assert [Result.PASS, Result.PASS] == [found[name].result for name in ("live", "retired")], found
