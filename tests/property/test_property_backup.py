"""Whatever was done to a store, its backup gives all of it to an empty one."""

from __future__ import annotations

import itertools
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyturn.app.backing_up import plan_backup, write_backup, written_file
from keyturn.app.backup_file import inspect_backup
from keyturn.app.rehearsing import rehearse_recorded
from keyturn.app.restoring import make_place, plan_restore, restore
from keyturn.core.ids import FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef
from keyturn.core.value import SecretValue
from keyturn.crypto import new_identity, recipient
from keyturn.errors import KeyturnError
from tests.cli import projects
from tests.cli.projects import DEVELOPMENT, PRODUCTION, Project

IDENTITY = new_identity()
NAMES = st.sampled_from(["session", "api", "db", "undeclared"]).map(SecretName)
VALUES = st.dictionaries(
    st.sampled_from(["value", "username", "password"]).map(FieldName),
    st.binary(min_size=1, max_size=40).map(SecretValue),
    min_size=1,
    max_size=2,
)
REFS = st.builds(SecretRef, st.sampled_from([DEVELOPMENT, PRODUCTION]), NAMES)
OPERATIONS = st.lists(
    st.tuples(st.just("put"), REFS, VALUES)
    | st.tuples(st.sampled_from(["promote", "discard", "destroy"]), REFS, st.integers(1, 5)),
    max_size=14,
)


@pytest.fixture(scope="module")
def counter():
    """Numbers that no other example has."""
    return itertools.count()


def apply(store, operations):
    """Do what can be done of *operations*."""
    for number, (what, ref, argument) in enumerate(operations):
        state = store.state(ref)
        try:
            if what == "put":
                store.put_pending(ref, argument, origin=Origin.SET, token=Token(f"t{number}"))
            elif what == "promote":
                store.promote(ref, argument, expected_current=state.current)
            elif what == "discard":
                store.discard_pending(ref, argument)
            else:
                store.destroy(ref, argument)
        except KeyturnError:
            continue


def held(session):
    """Return all that the store has: pending versions without their stage."""
    return {
        environment: {
            name: (
                (history.state.current, history.state.previous, history.state.next_number),
                history.versions,
            )
            for name, history in session.store.histories(
                environment, session.store.states(environment)
            ).items()
        }
        for environment in (DEVELOPMENT, PRODUCTION)
    }


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=OPERATIONS)
def test_what_comes_back_is_what_was_there(operations, tmp_path_factory, counter):
    """The same versions, numbers, times, stages and values; and a rehearsal finds no fault."""
    root = tmp_path_factory.mktemp(f"example{next(counter)}")
    project, file = projects.copied(root), root / "b.age"
    session = project.session(reason="test")
    apply(session.store, operations)
    before = held(session)
    made = write_backup(
        session,
        plan_backup(session, []),
        [recipient(IDENTITY)],
        output=written_file(file, replace_old=False),
        name="b.age",
        with_audit=True,
        progress=lambda _: None,
    )
    summary = inspect_backup(file, [IDENTITY])
    assert summary.end.counts == made.counts
    found = rehearse_recorded(session, file, [IDENTITY], summary, progress=lambda _: None)
    assert ([], made.counts.versions) == (found.wrong, found.versions)
    again = plan_restore(session, summary, environments=[], overwrite=[])
    assert [] == again.work
    session.close()
    fresh = Project(root / "fresh", root / "fresh-keys")
    fresh.folder.mkdir()
    make_place(fresh.settings, fresh.folder, summary)
    session = fresh.session(reason="test")
    plan = plan_restore(session, summary, environments=[], overwrite=[])
    done = restore(session, file, [IDENTITY], summary, plan, progress=lambda _: None)
    assert ([], before) == (done.failed, held(session))
    assert [] == session.embedded.verify()
    session.close()
    shutil.rmtree(root)
