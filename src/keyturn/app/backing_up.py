"""Use case: seal all that the stores hold into one file, for recipients who can open it."""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from keyturn._internal import durable
from keyturn.app.backup_format import AuditEnd, BackupWriter, Counts, Head, Part
from keyturn.app.histories import read_histories
from keyturn.app.reading import read_plain
from keyturn.app.session import MAX_MANIFEST_BYTES, Session
from keyturn.audit import Action, Outcome, Selection, export_log
from keyturn.core.clock import parse_time, rfc3339
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.ports import Drift, Store
from keyturn.crypto import new_key, sign
from keyturn.crypto.agefile import is_recipient
from keyturn.crypto.agestream import seal_stream
from keyturn.errors import Conflict, KeyturnError, NotFound, Unavailable, UsageError

__all__ = [
    "Planned",
    "Written",
    "last_done",
    "pick_recipients",
    "plan_backup",
    "write_backup",
    "written_file",
]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Planned:
    """One store's part for one environment, and the secrets that it holds."""

    part: Part
    names: Sequence[SecretName]


@dataclass(slots=True)
class Written:
    """
    What a backup holds.

    Args:
        sha256: Of all that is in it, before it was sealed.
        public_key: Of its signature, in hex; what another machine can check it by.
        damaged: Secrets that could not be read and are not in it, and why.
        rotating: Secrets whose rotation was open; their pending version is in it.
        drifted: Secrets whose live value others had changed; Keyturn's is in it.
    """

    counts: Counts = field(default_factory=Counts)
    sha256: str = ""
    public_key: str = ""
    damaged: list[tuple[str, KeyturnError]] = field(default_factory=list)
    rotating: list[str] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)


def pick_recipients(session: Session, given: Sequence[str], file: Path | None) -> list[str]:
    """
    Return who is to be able to open the backup: those named, and those of the manifest.

    Args:
        file: Lists more, one a line; empty lines and comments are passed over.

    Raises:
        UsageError: There is none, or one is malformed.
    """
    lines: list[str] = []
    if file is not None:
        try:
            text = read_plain(file, MAX_MANIFEST_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            raise UsageError(f"no file `{file}`", hint="it lists recipients, one a line") from None
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
    recipients = list(dict.fromkeys([*given, *lines, *session.manifest.backup.recipients]))
    for recipient in recipients:
        if not is_recipient(recipient):
            raise UsageError(
                f"`{recipient[:100]}` is not an age recipient",
                hint="`age-keygen -y KEYFILE` prints that of an identity; it starts with `age1`",
            )
    if not recipients:
        raise UsageError(
            "nobody is named who could open the backup",
            hint="name an age recipient with `--recipient age1...`, or in keyturn.toml: "
            '`recipients = ["age1..."]` under `[backup]`',
            code="backup.recipients",
        )
    return recipients


def plan_backup(session: Session, environments: Sequence[EnvironmentName]) -> list[Planned]:
    """
    Return what there is to be kept; no value is read.

    Besides the store that an environment has, Keyturn's own is looked into: values lie
    there that were moved away, or whose environment left the manifest.

    Args:
        environments: Those wanted; empty for all.
    """
    manifest = session.manifest
    used = {name: each.store for name, each in manifest.environments.items()}
    own = next((name for name, each in manifest.stores.items() if not each.is_outside), None)
    rows = session.database.rows("SELECT DISTINCT environment FROM secret_state ORDER BY 1")
    held = [EnvironmentName(row[0]) for row in rows]
    parts = [
        Part(store, name, in_use=True)
        for name, store in used.items()
        if not environments or name in environments
    ]
    parts += [
        Part(own or "local", name, in_use=False)
        for name in held
        if (not environments or name in environments)
        and (name not in used or manifest.stores[used[name]].is_outside)
    ]
    return [Planned(part, sorted(_store(session, part).states(_of(part)))) for part in parts]


def _of(part: Part) -> EnvironmentName:
    return part.side.environment


def _store(session: Session, part: Part) -> Store:
    # What is Keyturn's own need not be named by the manifest any more.
    if part.store not in session.manifest.stores:
        return session.embedded
    return session.store.named(part.side.store)


def write_backup(
    session: Session,
    plan: Sequence[Planned],
    recipients: Sequence[str],
    *,
    output: AbstractContextManager[Callable[[bytes], object]],
    name: str,
    with_audit: bool,
    progress: Callable[[int], None],
) -> Written:
    """
    Seal what *plan* names into *output*, piece by piece.

    Each secret is as it was at one moment; one that goes on meanwhile is as it was when
    it was read. A secret that is damaged is left out, and told.

    Args:
        output: Entered when the record was made; what it gives is called with each piece.
        name: Of the file, for the record.
        with_audit: Put the whole audit log in as well.
        progress: Told how many more secrets are done.

    Raises:
        Unavailable: A store does not answer.

    Audit:
        `backup.file.write`: begun before the first value is read, with the recipients,
        then the outcome with counts and digest.
    """
    made = Written(public_key=session.public_key.hex())
    environments = dict.fromkeys(each.part.environment for each in plan)
    with session.access.effect(
        Action.BACKUP_WRITE,
        "backup",
        detail={
            "file": name,
            "environments": " ".join(environments),
            "recipients": " ".join(recipients),
        },
    ) as notes:
        head = Head(
            keyturn=version("keyturn"),
            store=session.store_id,
            project=session.manifest.project.name,
            time=rfc3339(session.clock.now()),
            digest_key=new_key(session.entropy).reveal(),
        )
        writer = BackupWriter(head, sign=lambda message: sign(session.signing_key, message))
        lines = _lines(session, plan, writer, made, with_audit=with_audit, progress=progress)
        with output as write:
            seal_stream(lines, write, recipients)
        made.counts, made.sha256 = writer.counts, writer.sha256
        notes.update(
            secrets=made.counts.secrets,
            versions=made.counts.versions,
            damaged=made.counts.damaged,
            sha256=made.sha256,
        )
    return made


def _lines(
    session: Session,
    plan: Sequence[Planned],
    writer: BackupWriter,
    made: Written,
    *,
    with_audit: bool,
    progress: Callable[[int], None],
) -> Iterator[bytes]:
    yield writer.head()
    yield writer.manifest(read_plain(session.paths.manifest, MAX_MANIFEST_BYTES))
    yield writer.audit(_audit_end(session))
    for planned in plan:
        part = planned.part
        yield writer.part(part)
        drifts = _drifts(session, part)
        for found in read_histories(_store(session, part), _of(part), planned.names):
            label = f"{part.store}:{part.environment}/{found.name}"
            progress(1)
            if found.error is not None:
                made.damaged.append((label, found.error))
                yield writer.damaged(found.name, found.error.code)
            if found.history is None:
                continue
            drifted = found.name in drifts
            rotating = session.journal.live(found.history.ref) is not None
            made.drifted += [label] if drifted else []
            made.rotating += [label] if rotating else []
            yield from writer.secret(found.history, drifted=drifted, rotating=rotating)
    if with_audit:
        yield from map(writer.log, _log(session))
    yield writer.end()


def _audit_end(session: Session) -> AuditEnd:
    log = session.audit.log
    log.checkpoint()
    session.audit.write_anchor()
    position = log.head()
    last = next(iter(deque(log.checkpoints(), maxlen=1)), None)
    return AuditEnd(
        seq=position.seq,
        head=position.head.hex(),
        public_key=session.public_key.hex(),
        checkpoint=None if last is None else last.body.decode("utf-8", "replace"),
        signature=None if last is None else last.signature.hex(),
    )


def _log(session: Session) -> Iterator[bytes]:
    return export_log(
        session.database,
        session.paths.audit,
        store_id=session.store_id,
        public_key=session.public_key,
        clock=session.clock,
    )


def _drifts(session: Session, part: Part) -> dict[SecretName, Drift]:
    if part.store not in session.manifest.stores:
        return {}
    watched = session.store.watched_named(part.side.store)
    return {} if watched is None else dict(watched.drifts(_of(part)))


@contextlib.contextmanager
def written_file(path: Path, *, replace_old: bool) -> Iterator[Callable[[bytes], object]]:
    """
    Yield what writes *path*, which is whole in the end or not there.

    Raises:
        Conflict: There is such a file, and it is not to be replaced.
        Unavailable: The disk is full or failed.
        UsageError: It cannot be written there.
    """
    exists = Conflict(
        f"`{path}` is there already",
        hint="give the file another name, such as one with the date, or move that one away",
        code="backup.exists",
    )
    if path.exists() and not replace_old:
        raise exists
    try:
        with durable.streamed(path, point="backup", replace_old=replace_old) as write:
            yield write
    except FileExistsError:
        raise exists from None
    except FileNotFoundError as error:
        raise NotFound(f"no folder `{path.parent}`", hint="make it, or name another") from error
    except OSError as error:
        message = f"`{path}` cannot be written: {error.strerror or 'the disk failed'}"
        hint = "nothing was left there; name another place, or free space"
        if error.errno in _FULL:
            raise Unavailable(message, hint=hint, code="backup.unavailable") from error
        raise UsageError(message, hint=hint) from error


def last_done(session: Session, action: Action) -> datetime | None:
    """Return when *action*, such as `BACKUP_REHEARSE`, was last done with success."""
    wanted = Selection(actions=frozenset({str(action)}), outcomes=frozenset({Outcome.DONE}))
    found = next(iter(session.audit.log.read(wanted, limit=1)), None)
    return None if found is None else parse_time(found.time)
