"""One opened project: its manifest, store, keys, audit log, and the choke point over them."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from keyturn import fast
from keyturn._internal import durable
from keyturn._internal.database import Database
from keyturn.app.access import Access, Detail, LocalPolicy
from keyturn.app.bundled import BundledStore
from keyturn.app.clockwatch import clock_note
from keyturn.app.config import Settings, local_principal, local_source
from keyturn.app.project import ProjectPaths, find_project
from keyturn.app.stores import RoutedStore, opener
from keyturn.audit import Action, AuditLog, Event, Position, Record, Segments
from keyturn.core.clock import Clock, SystemClock
from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.core.ids import EnvironmentName
from keyturn.core.ports import Digester
from keyturn.core.value import SecretValue
from keyturn.crypto import KeyedDigester, new_identity, public_key, recipient, sign
from keyturn.deliver.bundle import BundleFiles
from keyturn.errors import Corrupt, KeyturnError, NotFound, UsageError
from keyturn.manifest import Manifest, load
from keyturn.rotate import Journal
from keyturn.stores import (
    DIGEST_KEY,
    Anchor,
    AnchorState,
    EmbeddedStore,
    check_anchor,
    describe,
    open_store,
    read_anchor,
    write_anchor,
)

__all__ = [
    "BUNDLE_KEY",
    "SIGNING_KEY",
    "AnchoredLog",
    "Session",
    "open_session",
    "read_manifest",
    "write_bundle_key",
]

SIGNING_KEY = "audit-signing-key"
BUNDLE_KEY = "bundle.key"

MAX_MANIFEST_BYTES = 1024 * 1024


class _Signer:
    def __init__(self, key: SecretValue) -> None:
        self._key = key

    def sign(self, message: bytes) -> bytes:
        return sign(self._key, message)


class AnchoredLog:
    """
    The audit log, which after each commit tells the rollback anchor how far it has come.

    Args:
        keys: The store's key folder.
        notes: Told where the anchor cannot be written.
    """

    def __init__(
        self, log: AuditLog, *, database: Database, keys: Path, store_id: str, notes: list[str]
    ) -> None:
        self.log = log
        self._notes = notes
        self.database = database
        self._keys = keys
        self._store_id = store_id
        self._waiting = False

    def record(self, event: Event) -> Record:
        """Append *event*, in the transaction that is open or in its own."""
        with self.database.transaction():
            record = self.log.record(event)
            if not self._waiting:
                self._waiting = True
                self.database.after_commit(self._advance)
                self.database.after_rollback(self._forget)
            return record

    def open_begun(self) -> list[Record]:
        """Return the records of what was begun and never settled."""
        return self.log.open_begun()

    def _forget(self) -> None:
        self._waiting = False

    def _advance(self) -> None:
        # The change is durable by now: to fail here would be to say that it is not.
        self._waiting = False
        try:
            self._anchor(self.log.written())
        except KeyturnError as error:
            self._notes.append(error.message)

    def write_anchor(self) -> None:
        """Remember the present head outside the store."""
        self._anchor(self.log.head())

    def _anchor(self, position: Position) -> None:
        write_anchor(self._keys, Anchor(self._store_id, position.seq, position.head))


@dataclass(slots=True)
class Session:
    """
    What a use case works with.

    Args:
        store: The store of each environment, with the rule that keeps bundles true.
        embedded: Keyturn's own store, for what only it has: keys, sealed items, upkeep.
        manifest_stamp: Of the manifest's file when it was read.
        notes: What the person should hear, found while opening and since.
        reopen: Opens another one of the same project, for another thread; whoever
            calls it closes it.
        is_anchored: Whether the store was held against the rollback anchor.
        seals_late: Whether a `delivery.LateSeal` seals what its rotations make stale.
    """

    paths: ProjectPaths
    manifest: Manifest
    manifest_stamp: str
    database: Database
    embedded: EmbeddedStore
    store: RoutedStore
    journal: Journal
    audit: AnchoredLog
    segments: Segments
    access: Access
    bundles: BundleFiles
    digester: Digester
    clock: Clock
    entropy: Entropy
    signing_key: SecretValue
    reopen: Callable[[], Session]
    is_anchored: bool
    seals_late: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def store_id(self) -> str:
        """The id that everything in the store is bound to."""
        return self.embedded.store_id

    @property
    def keys(self) -> Path:
        """The store's key folder."""
        return self.paths.keys(self.store_id)

    def changing(
        self,
        action: Action,
        subject: str,
        *,
        environment: EnvironmentName,
        detail: Mapping[str, str | int] | None = None,
    ) -> AbstractContextManager[Detail]:
        """
        Return the frame of a change of the store of *environment*.

        Where the store shares the control database's transaction, the change and its
        record are one; elsewhere one record comes before and one after.
        """
        joins = self.store.of(environment).capabilities.transactional
        frame = self.access.change if joins else self.access.effect
        return frame(action, subject, environment=environment, detail=detail)

    @property
    def public_key(self) -> bytes:
        """Of the signatures under the audit log's checkpoints."""
        return public_key(self.signing_key)

    @property
    def has_key_file(self) -> bool:
        """Whether the root key lies in a file, so that nobody is asked for a passphrase."""
        return describe(self.database).passphrase is None

    @property
    def bundle_identity(self) -> SecretValue | None:
        """
        The age identity that bundles are sealed to; None where the store has none on disk.

        Raises:
            Corrupt: The file is there and cannot be used.
        """
        path = self.keys / BUNDLE_KEY
        try:
            text = fast.read_private(str(path), 4096)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Corrupt(
                f"`{path}` cannot be used: {error.strerror or 'others can read it'}",
                hint=f"`chmod 600 {path}`",
                code="key.unsafe",
            ) from error
        lines = text.decode("ascii", "replace").strip().splitlines()
        return SecretValue.from_text(lines[-1]) if lines else None

    def close(self) -> None:
        """Close the store, and remember how it was left, which is what the fast path goes by."""
        self.store.close()
        self.database.close()
        if self.is_anchored:
            # Without it the next `run` is slower and tries again; the anchor, in the same
            # folder, has said why.
            with contextlib.suppress(OSError):
                self.bundles.remember_closed(fast.database_stamps(str(self.paths.folder))[1])


def write_bundle_key(keys: Path, *, replace_old: bool = False) -> None:
    """Make the identity that bundles are sealed to, unless there is one; durable on return."""
    path = keys / BUNDLE_KEY
    if path.exists() and not replace_old:
        return
    identity = new_identity()
    text = (
        "# Opens the sealed bundles of a Keyturn store, with Keyturn or with plain age:\n"
        "#   age -d -i bundle.key PROJECT/.keyturn/bundles/ENVIRONMENT.age\n"
        f"# public key: {recipient(identity)}\n"
    )
    data = text.encode("ascii") + identity.reveal() + b"\n"
    durable.replace(path, data, point="bundlekey")


def read_manifest(paths: ProjectPaths) -> tuple[Manifest, str]:
    """
    Return the project's manifest and the stamp of the file it was read from.

    Raises:
        NotFound: It is no plain file.
        ManifestError: It is wrong; every problem is listed.
    """
    # The stamp first: a file changed between the two then looks changed, not current.
    stamp = fast.manifest_stamp(str(paths.folder))
    # Not blocking: a pipe in the file's place would be waited for.
    descriptor = os.open(paths.manifest, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotFound(
                f"`{paths.manifest}` is no plain file",
                hint="move it away and bring the manifest back, from version control or a backup",
                code="project.absent",
            )
        data = file.read(MAX_MANIFEST_BYTES + 1)
    return load(data, file=str(paths.manifest)), stamp


def open_session(
    settings: Settings,
    *,
    project_dir: Path | None,
    reason: str | None,
    ask_passphrase: Callable[[], SecretValue],
    ask: Callable[[str], SecretValue] | None = None,
    accept_rollback: bool = False,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    read: tuple[Manifest, str] | None = None,
) -> Session:
    """
    Open the project at *project_dir*, or at or above the working folder.

    Args:
        reason: Why, for the record; `KEYTURN_REASON` stands in.
        ask: Asks for what another store's login needs, by its label.
        accept_rollback: Do not refuse a store that is older than its anchor; the
            caller asks for it and records it.
        read: What `read_manifest` gave, so that it need not be read again.

    Raises:
        NotFound: There is no project, or it has no store.
        Sealed: The root key is absent or wrong.
        Corrupt: Something is damaged.
        IntegrityError: The store was put back or replaced.
    """
    clock = clock or SystemClock()
    entropy = entropy or SystemEntropy()
    fast.forbid_core()
    # Asked once, however many threads open the store.
    ask_passphrase = functools.cache(ask_passphrase)
    paths = find_project(project_dir, settings.key_home)
    manifest, stamp = read or read_manifest(paths)
    embedded = open_store(
        paths.database,
        home=paths.keys,
        prompt=ask_passphrase,
        store_id=paths.store_id(),
        clock=clock,
        entropy=entropy,
    )
    try:
        return _assemble(
            embedded,
            paths,
            manifest,
            stamp,
            clock,
            entropy,
            reason or settings.reason,
            ask=ask or _ask_nobody,
            accept_rollback=accept_rollback,
            reopen=functools.partial(
                open_session,
                settings,
                project_dir=paths.folder,
                reason=reason,
                ask_passphrase=ask_passphrase,
                ask=ask,
                clock=clock,
                entropy=entropy,
                # By the same one: what was judged by it is then done by it, too.
                read=(manifest, stamp),
            ),
        )
    except BaseException:
        embedded.database.close()
        raise


def _assemble(  # noqa: PLR0917 - private, and called once
    embedded: EmbeddedStore,
    paths: ProjectPaths,
    manifest: Manifest,
    stamp: str,
    clock: Clock,
    entropy: Entropy,
    reason: str | None,
    *,
    ask: Callable[[str], SecretValue],
    accept_rollback: bool,
    reopen: Callable[[], Session],
) -> Session:
    database, store_id = embedded.database, embedded.store_id
    signing_key = _item(embedded, SIGNING_KEY)
    log = AuditLog(database, clock=clock, store_id=store_id, signer=_Signer(signing_key))
    keys = paths.keys(store_id)
    notes: list[str] = []
    audit = AnchoredLog(log, database=database, keys=keys, store_id=store_id, notes=notes)
    bundles = BundleFiles(paths.bundles, keys, entropy=entropy)
    if not accept_rollback:
        notes += _check_rollback(audit, keys, store_id, bundles)
    principal, source = local_principal(), local_source()
    segments = Segments(
        paths.audit, database=database, log=log, clock=clock, actor=principal, source=source
    )
    # The fast path only appends: that it can is seen to here, by every other command.
    notes += segments.maintain()
    behind = clock_note(log, clock)
    if behind is not None:
        notes.append(behind)
    access = Access(
        audit=audit,
        database=database,
        policy=LocalPolicy(paths.state.stat().st_uid),
        principal=principal,
        source=source,
        reason=reason,
        protected=frozenset(
            name for name, environment in manifest.environments.items() if environment.protected
        ),
    )
    return Session(
        paths=paths,
        manifest=manifest,
        manifest_stamp=stamp,
        database=database,
        embedded=embedded,
        store=RoutedStore(
            manifest,
            BundledStore(embedded, database=database, bundles=bundles),
            opener(manifest, paths, embedded, clock=clock, entropy=entropy, ask=ask),
            bundles=bundles,
        ),
        journal=Journal(database, clock=clock),
        audit=audit,
        segments=segments,
        access=access,
        bundles=bundles,
        digester=KeyedDigester(_item(embedded, DIGEST_KEY)),
        clock=clock,
        entropy=entropy,
        signing_key=signing_key,
        reopen=reopen,
        is_anchored=not accept_rollback,
        notes=notes,
    )


def _ask_nobody(label: str) -> SecretValue:
    raise UsageError(
        f"nobody can be asked for {label}",
        hint="log in to the store in a way that asks nobody: see `auth` in its table",
    )


def _item(embedded: EmbeddedStore, name: str) -> SecretValue:
    found = embedded.sealed_item(name)
    if found is None:
        raise Corrupt(
            f"the store lacks its own item `{name}`",
            hint="run `keyturn doctor`; restore from a backup",
        )
    return found


def _check_rollback(
    audit: AnchoredLog, keys: Path, store_id: str, bundles: BundleFiles
) -> list[str]:
    """Return what to tell the person; raises where the store is older than its anchor."""
    reading = read_anchor(keys)
    if reading.state is AnchorState.PRESENT and reading.anchor is not None:
        # Read after the anchor: the chain may have grown meanwhile, never shrunk.
        check_anchor(
            reading.anchor,
            store_id=store_id,
            max_seq=audit.log.head().seq,
            hash_at=audit.log.head_at,
        )
        return []
    note = (
        f"the rollback anchor in `{keys}` is {reading.state.value}: this once, an older copy of "
        "the store would not be noticed; it is written anew now"
    )
    # First: of an older store they would hold what it has not.
    with audit.database.transaction():
        bundles.remove_all()
    try:
        audit.write_anchor()
    except KeyturnError as error:
        return [note, error.message]
    return [note]
