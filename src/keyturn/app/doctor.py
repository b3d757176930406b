"""Use case: look at everything that must hold, go on after a fault, and say what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.auditing import verify
from keyturn.app.clockwatch import time_ahead
from keyturn.app.config import Settings
from keyturn.app.project import find_project
from keyturn.app.reloading import advice, behind
from keyturn.app.retired import way_out
from keyturn.app.secrets import undeclared_secrets
from keyturn.app.session import BUNDLE_KEY, Session
from keyturn.audit import Action, Outcome
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, UsageError
from keyturn.stores import inspect_store, read_anchor

__all__ = ["Examined", "accept_rollback", "examine", "examine_closed"]


# So many records are looked at to tell whether the clock was set back.
_RECENT = 200
_SWAP = "`docker service update --secret-rm OLD --secret-add source=NEW,target=NAME SERVICE`"


@dataclass(frozen=True, slots=True)
class Examined:
    """
    One thing that was looked at.

    Args:
        result: `ok`, `warn` or `fail`.
        fix: What to do, where something is wrong.
    """

    what: str
    result: str
    detail: str
    fix: str = ""


def examine(session: Session) -> Iterator[Examined]:
    """Yield what each look finds; nothing is changed but the record that it was looked at."""
    session.access.read(Action.STORE_INSPECT, "store")
    looks: tuple[tuple[str, Callable[[Session], Iterator[Examined]]], ...] = (
        ("folders", _folders),
        ("keys", _keys),
        ("store", _store),
        ("manifest", _undeclared),
        ("stores", _outside),
        ("clock", _clock),
        ("unfinished", _unfinished),
        ("audit", _audit),
    )
    for what, look in looks:
        try:
            yield from look(session)
        except KeyturnError as error:
            yield Examined(what, "fail", error.message, error.hint or "")


def examine_closed(
    settings: Settings,
    *,
    project_dir: Path | None,
    ask_passphrase: Callable[[], SecretValue],
    error: KeyturnError,
) -> Iterator[Examined]:
    """
    Yield what can be said of a store that does not open; nothing is written, not even a record.

    Args:
        error: Why it does not open.
    """
    yield Examined("opening", "fail", error.message, error.hint or "")
    paths = find_project(project_dir, settings.key_home)
    try:
        problems = inspect_store(paths.database, home=paths.keys, prompt=ask_passphrase)
    except KeyturnError as other:
        if other.message != error.message:
            yield Examined("store", "fail", other.message, other.hint or "")
        return
    for problem in problems:
        yield Examined("store", "fail", str(problem), "restore the store from a backup")
    if not problems:
        yield Examined("store", "ok", "every row opens and is where it was written")


def _folders(session: Session) -> Iterator[Examined]:
    wrong = []
    for path, most in (
        (session.paths.state, 0o700),
        (session.paths.database, 0o600),
        (session.paths.locator, 0o600),
        (session.keys, 0o700),
    ):
        status = path.stat()
        if status.st_mode & 0o777 & ~most or status.st_uid != os.geteuid():
            wrong.append((path, most))
    for path, most in wrong:
        yield Examined("folders", "fail", f"`{path}` is open to others", f"`chmod {most:o} {path}`")
    if not wrong:
        yield Examined("folders", "ok", f"{session.paths.state} and {session.keys} are yours alone")
    if _is_within(session.keys, session.paths.folder):
        yield Examined(
            "folders",
            "fail",
            f"the keys lie inside the project, in `{session.keys}`",
            "set KEYTURN_HOME to a folder outside of it, and move them there",
        )


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _keys(session: Session) -> Iterator[Examined]:
    key = session.embedded.keys.root_key
    yield Examined("keys", "ok", f"root key {key.id} from {key.origin} opens the store")
    if session.bundle_identity is None and session.has_key_file:
        yield Examined(
            "keys",
            "warn",
            f"the key of the sealed bundles, `{session.keys / BUNDLE_KEY}`, is missing",
            "nothing to do: the next `keyturn run` makes another",
        )
    elif session.bundle_identity is None:
        yield Examined(
            "keys", "ok", "no key of sealed bundles on disk: `run` asks for the passphrase"
        )


def _store(session: Session) -> Iterator[Examined]:
    problems = session.embedded.verify()
    for problem in problems:
        yield Examined("store", "fail", str(problem), "restore the store from a backup")
    if not problems:
        yield Examined("store", "ok", "every row opens and is where it was written")


def _undeclared(session: Session) -> Iterator[Examined]:
    found = False
    for environment in session.manifest.environments:
        for name in undeclared_secrets(session, environment):
            found = True
            yield Examined(
                "manifest",
                "warn",
                f"the store holds `{environment}/{name}`, which keyturn.toml does not declare",
                "declare it again, or give its values to the name that replaced it",
            )
    if not found:
        yield Examined("manifest", "ok", "declares all that the store holds")


def _outside(session: Session) -> Iterator[Examined]:
    for environment in session.manifest.environments:
        try:
            said = [(words, "") for words in advice(session, environment)]
            said += [(words, _SWAP) for words in behind(session, environment)]
            found = [Examined("stores", "warn", f"`{environment}`: {w}", fix) for w, fix in said]
        except KeyturnError as error:
            message = f"`{environment}`: {error.message}"
            found = [Examined("stores", "fail", message, error.hint or "")]
        yield from found
        if not found and session.store.settings(environment).is_outside:
            yield Examined("stores", "ok", f"`{environment}`: nothing to say of its store")


def _clock(session: Session) -> Iterator[Examined]:
    ahead = time_ahead(session.audit.log, session.clock, records=_RECENT)
    if ahead is not None:
        yield Examined(
            "clock",
            "warn",
            f"a recent record is {int(ahead.total_seconds())} seconds in the future: "
            "the clock was set back",
            "correct the clock; ages and due dates are wrong until then",
        )
    else:
        yield Examined("clock", "ok", "not behind any recent record")


def _unfinished(session: Session) -> Iterator[Examined]:
    found = False
    for rotation in session.journal.all_live():
        found = True
        ref = rotation.ref
        yield Examined(
            "unfinished",
            "fail" if rotation.state.value == "stuck" else "warn",
            f"a rotation of `{ref}` is open at step `{rotation.step}`",
            way_out(session.manifest, ref),
        )
    for record in session.audit.log.open_begun():
        found = True
        yield Examined(
            "unfinished",
            "warn",
            f"record {record.seq}: `{record.action}` of `{record.object}` was begun and its "
            "outcome was never recorded",
            "run that command again: it asks first what is true",
        )
    if not found:
        yield Examined("unfinished", "ok", "nothing was left half-done")


def _audit(session: Session) -> Iterator[Examined]:
    report = verify(session)
    yield Examined(
        "audit",
        "ok",
        f"{report.records} records and {report.read_log.lines} reads verified",
    )
    for reason in report.skipped:
        yield Examined("audit", "warn", f"not looked at: {reason}")


def accept_rollback(session: Session) -> str:
    """
    Go on from an older state of the store, and record who decided that.

    Raises:
        UsageError: No reason was given.
    """
    if not session.access.has_reason:
        raise UsageError(
            "accepting an older state needs a reason", hint="add `--reason 'what was restored'`"
        )
    anchor = read_anchor(session.keys).anchor
    head = session.audit.log.head()
    lost = 0 if anchor is None else max(0, anchor.seq - head.seq)
    with session.database.transaction():
        for environment in session.manifest.environments:
            session.bundles.invalidate(environment)
        session.access.record(
            Action.ROLLBACK_ACCEPT, "store", Outcome.DONE, {"found": head.seq, "lost_records": lost}
        )
    return f"accepted: the store goes on from record {head.seq}; {lost} later records are lost"
