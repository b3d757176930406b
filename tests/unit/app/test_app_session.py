"""Opening a project: what is checked, what is told, and what a change does to the bundles."""

from __future__ import annotations

import os
import shutil

import pytest

from keyturn import fast
from keyturn._internal import failpoints
from keyturn.app.config import Settings, local_principal, local_source
from keyturn.app.delivery import prepare_run, refresh_bundle, resolve
from keyturn.app.doctor import accept_rollback, examine
from keyturn.app.secrets import get_value, roll_back, set_field
from keyturn.app.session import read_manifest
from keyturn.app.shred import shred
from keyturn.core.ids import VariableName
from keyturn.core.model import SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.errors import (
    AccessDenied,
    Corrupt,
    IntegrityError,
    InternalError,
    ManifestError,
    Missing,
    NotFound,
    Sealed,
    Unavailable,
    UsageError,
)
from tests.cli.projects import DEVELOPMENT, PRODUCTION, VALUES

NEW = SecretValue(b"test-new-Yy1Xx2Ww3Vv4Uu5Tt6Ss7")


@pytest.fixture(autouse=True)
def disarmed():
    """Leave no failpoint armed for the next test."""
    yield
    failpoints.disarm()


def generation(project):
    return (project.keys / "generation.development").read_bytes()


# ---------------------------------------------------------------- bundles


@pytest.mark.parametrize("point", ["bundle.invalidate:error", "database.commit:error"])
def test_a_change_that_fails_leaves_old_value_and_no_fresh_bundle_of_another(
    point, project, session
):
    """The generation may have been raised for nothing; the value that is served is the old one."""
    refresh_bundle(session, DEVELOPMENT)
    failpoints.arm(point)
    with pytest.raises((OSError, Unavailable)):
        set_field(session, DEVELOPMENT, "session", NEW)
    failpoints.disarm()
    found = session.store.read(SecretRef(DEVELOPMENT, "session"), Stage.CURRENT)
    assert VALUES["session"] == found.values["value"].reveal()


def test_each_promote_raises_the_generation_and_a_read_does_not(project, session):
    """So that a bundle from before is stale, and one from after stays fresh."""
    refresh_bundle(session, DEVELOPMENT)
    seen = [generation(project)]
    get_value(session, DEVELOPMENT, "session", Stage.CURRENT)
    assert seen == [generation(project)]
    set_field(session, DEVELOPMENT, "session", NEW)
    seen.append(generation(project))
    roll_back(session, DEVELOPMENT, "session", to=None)
    seen.append(generation(project))
    assert 3 == len(set(seen))


def test_a_generation_that_cannot_be_written_stops_the_change(project, session):
    """A stale bundle could be served otherwise; the error names the file."""
    (project.keys / "generation.development").unlink(missing_ok=True)
    # One that is empty would be replaced.
    (project.keys / "generation.development" / "kept").mkdir(parents=True)
    with pytest.raises(Unavailable, match=r"generation\.development"):
        set_field(session, DEVELOPMENT, "session", NEW)
    assert 1 == session.store.state(SecretRef(DEVELOPMENT, "session")).current


def test_no_bundle_of_what_may_still_be_undone(session):
    """Inside a change it would say that the change is done."""
    with session.database.transaction():
        with pytest.raises(InternalError):
            refresh_bundle(session, DEVELOPMENT)


def test_a_bundle_that_cannot_be_written_is_told_and_the_change_stands(project, session):
    """The value is set; the next `run` takes the long way."""
    shutil.rmtree(project.bundle.parent)
    project.bundle.parent.write_text("a file in the folder's place")
    assert 2 == set_field(session, DEVELOPMENT, "session", NEW).number
    assert 1 == len(session.notes)
    assert session.notes[0].startswith("the sealed bundle is not renewed, so `run` is slower: ")


def test_what_the_long_way_hands_over_is_what_the_bundle_holds(project, session, monkeypatch):
    """Both ways make the child's environment by the same function, from the same content."""
    monkeypatch.setenv("KEYTURN_HOME", str(project.key_home))
    environ = prepare_run(session, DEVELOPMENT, "backend", ["server"])
    delivered = resolve(session, DEVELOPMENT, "backend")
    session.close()
    bundle = fast.open_bundle(str(project.folder), "development")
    names, config = fast.select(bundle, "backend")
    assert environ == fast.child_environment(bundle, names, config=config)[0]
    for name, value in delivered.variables.items():
        assert environ[name.encode()] == value.reveal()
    assert VALUES["api"] == delivered.variables[VariableName("API_KEY")].reveal()


def test_what_is_missing_is_listed(session):
    """By variable, in the manifest's order."""
    with pytest.raises(Missing) as caught:
        prepare_run(session, PRODUCTION, None, ["server"])
    assert ["SESSION_SECRET", "API_KEY", "DB_USER", "DB_PASSWORD"] == caught.value.names


# ---------------------------------------------------------------- the rollback anchor


def test_an_anchor_that_cannot_be_written_is_told(project, session):
    """The change is durable by then: to call it failed would be wrong."""
    (project.keys / "anchor").unlink()
    (project.keys / "anchor").mkdir()
    assert 2 == set_field(session, DEVELOPMENT, "session", NEW).number
    assert [] != session.notes
    assert all("the rollback anchor" in note for note in session.notes)


def test_the_anchor_tells_how_far_the_log_came(project, session):
    """After each commit, and not by what was undone."""

    def reached():
        return (project.keys / "anchor").read_text().split()[2:4]

    def expected():
        head = session.audit.log.head()
        return [f"{head.seq:020d}", head.head.hex()]

    set_field(session, DEVELOPMENT, "session", NEW)
    before = reached()
    assert expected() == before
    failpoints.arm("database.commit:error")
    with pytest.raises(OSError):
        set_field(session, DEVELOPMENT, "session", NEW)
    assert before == reached()
    set_field(session, DEVELOPMENT, "session", NEW)
    assert expected() == reached()
    assert before < reached()


@pytest.mark.parametrize("state", ["missing", "torn"])
def test_an_anchor_that_is_lost_is_told_and_written_anew(state, project):
    """This once an older copy would not be noticed; the person hears of it."""
    anchor = project.keys / "anchor"
    anchor.unlink() if state == "missing" else os.truncate(anchor, 20)
    opened = project.session()
    assert any(f"is {state}" in note for note in opened.notes)
    opened.close()
    again = project.session()
    assert [] == again.notes
    again.close()


def test_an_older_store_is_refused_and_accepted_with_a_reason(project):
    """What was lost is in the record, and every bundle is stale from then on."""
    shutil.copytree(project.state, project.folder / "copy")
    project.put("session", NEW.reveal())
    project.refresh()
    before = generation(project)
    shutil.rmtree(project.state)
    (project.folder / "copy").rename(project.state)
    with pytest.raises(IntegrityError) as caught:
        project.session()
    assert "store.rolled_back" == caught.value.code
    opened = project.session(accept_rollback=True)
    with pytest.raises(UsageError):
        accept_rollback(opened)
    opened.close()
    opened = project.session(accept_rollback=True, reason="restored")
    assert "accepted" in accept_rollback(opened)
    opened.close()
    assert before != generation(project)
    project.session().close()


# ---------------------------------------------------------------- opening


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda p: p.manifest.write_text("x ="), ManifestError),
        (lambda p: p.manifest.unlink(), NotFound),
        (lambda p: (p.state / "locator").unlink(), NotFound),
        (lambda p: shutil.rmtree(p.state), NotFound),
        (lambda p: (p.state / "locator").write_text("keyturn-locator-1 ../x\n"), Corrupt),
        (lambda p: (p.state / "locator").write_bytes(b"\xff"), Corrupt),
        (lambda p: (p.state / "locator").chmod(0o644), AccessDenied),
        (lambda p: p.state.chmod(0o722), AccessDenied),
        (lambda p: (p.state / "store.db").unlink(), Unavailable),
        (lambda p: (p.keys / "root.key").unlink(), Sealed),
    ],
)
def test_what_keeps_it_from_opening(spoil, error, project):
    """Each by its family, with a hint; the database is closed again."""
    spoil(project)
    with pytest.raises(error) as caught:
        project.session()
    assert caught.value.hint or error is ManifestError


def test_a_state_folder_that_is_a_link_is_not_followed(project):
    """Whoever made the link could make it point elsewhere later."""
    project.state.rename(project.folder / "elsewhere")
    project.state.symlink_to(project.folder / "elsewhere")
    with pytest.raises((AccessDenied, NotFound, Corrupt)):
        project.session()


def test_the_manifest_s_stamp_is_of_what_was_read(project, session):
    """It is taken before the reading, so that a change in between looks like a change."""
    _, stamp = read_manifest(session.paths)
    assert fast.manifest_stamp(str(project.folder)) == stamp
    project.manifest.write_text(project.manifest.read_text() + "\n")
    assert fast.manifest_stamp(str(project.folder)) != stamp


def test_doctor_goes_on_after_a_look_that_fails(project, session):
    """One fault hides no other."""
    (project.keys / "bundle.key").chmod(0o644)
    found = {look.what: look.result for look in examine(session)}
    assert {"folders", "keys", "store", "clock", "unfinished", "audit"} <= found.keys()
    assert "fail" == found["keys"]
    assert "ok" == found["audit"]


# ---------------------------------------------------------------- settings


def test_settings_come_from_the_environment(monkeypatch):
    """Empty variables say nothing."""
    monkeypatch.setenv("KEYTURN_HOME", "/k")
    read = Settings.read({"KEYTURN_ENVIRONMENT": "qa", "KEYTURN_REASON": "why"})
    assert ("qa", "why", "/k") == (read.environment, read.reason, str(read.key_home))
    empty = Settings.read({"KEYTURN_ENVIRONMENT": "", "KEYTURN_REASON": ""})
    assert ("development", None) == (empty.environment, empty.reason)


def test_a_user_without_a_name(monkeypatch):
    """A container's uid may stand in no user database; records name it by its number."""
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    assert ("uid-4000000001", 4_000_000_001) == (local_principal().name, local_principal().uid)
    assert isinstance(local_source()["pid"], int)


# ---------------------------------------------------------------- shred


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_shred_overwrites_before_it_removes(size, tmp_path):
    """Another name of the same file shows that its content went first."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    os.link(path, tmp_path / "other")
    shred(path)
    assert not path.exists()
    assert bytes(size) == (tmp_path / "other").read_bytes()


def test_shred_leaves_what_is_no_plain_file(tmp_path):
    """Links are not followed, folders not entered."""
    (tmp_path / "target").write_text("x")
    (tmp_path / "link").symlink_to("target")
    for name in ("link", "absent", "."):
        with pytest.raises(UsageError):
            shred(tmp_path / name)
    assert "x" == (tmp_path / "target").read_text()
