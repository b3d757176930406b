"""
Use case: prove that a backup restores, in a place that is gone afterwards.

A store is made from nothing, under a key that is in memory alone, and given all that
the file holds. It is closed, opened again as any store is, and must give back every
version. Whoever finds what a killed rehearsal left cannot open it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from keyturn._internal import failpoints
from keyturn._internal.database import Database
from keyturn.app.backup_file import Outline, Summary, fingerprint, read_backup
from keyturn.app.backup_format import Held, Item, Part
from keyturn.app.restore_plan import settled, was_written
from keyturn.app.session import Session
from keyturn.audit import Action
from keyturn.core.clock import Clock, SystemClock
from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.core.ids import EnvironmentName, new_id
from keyturn.core.model import History, Move, SecretRef, SecretState
from keyturn.core.value import SecretValue
from keyturn.crypto import new_key
from keyturn.errors import Unavailable, VerificationFailed
from keyturn.stores import EmbeddedStore, UnlockedKeys, create, unlock

__all__ = ["Rehearsed", "rehearse", "rehearse_recorded"]

_MARK = "keyturn-rehearsal-"
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of ours alone is made in it
# Sealed values, indexes and the log take more than the file.
_ROOM = 4
_BATCH_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """
    What a rehearsal found.

    Args:
        wrong: Secrets that did not come back as they are in the file.
        in_memory: It took place in memory, and not on a disk.
    """

    secrets: int
    versions: int
    wrong: Sequence[str]
    in_memory: bool


def rehearse(
    file: Path,
    identities: Sequence[SecretValue],
    summary: Summary,
    *,
    clock: Clock,
    entropy: Entropy,
    progress: Callable[[int], None],
) -> Rehearsed:
    """
    Restore *file* to a scratch place, and compare every state, number and digest.

    Raises:
        Unavailable: There is no room for it.
        Corrupt: The file was changed since it was looked at.
    """
    with _scratch(file.stat().st_size * _ROOM) as (folder, in_memory):
        scratch = _Scratch(folder, summary, clock=clock, entropy=entropy)
        store = scratch.make()
        with contextlib.closing(store.database):
            filling = _Filling(store, scratch.environments, progress)
            read_backup(file, identities, filling.take)
            filling.flush()
        failpoints.hit("rehearsal.filled")
        wrong = scratch.compare()
    versions = sum(len(each.versions) for each in summary.secrets)
    return Rehearsed(len(summary.secrets), versions, wrong, in_memory)


def rehearse_recorded(
    session: Session | None,
    file: Path,
    identities: Sequence[SecretValue],
    summary: Summary,
    *,
    progress: Callable[[int], None],
) -> Rehearsed:
    """
    As `rehearse`, and record it where there is a project.

    Audit:
        `backup.file.rehearse`: begun, then done where all came back, and failed
        otherwise; with the file's digest, its age and its counts.
    """
    if session is None:
        return rehearse(
            file,
            identities,
            summary,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            progress=progress,
        )
    detail = {"file": file.name, "sha256": summary.end.sha256, "made": summary.head.time}
    found = None
    try:
        with session.access.effect(Action.BACKUP_REHEARSE, "backup", detail=detail) as notes:
            found = rehearse(
                file,
                identities,
                summary,
                clock=session.clock,
                entropy=session.entropy,
                progress=progress,
            )
            notes.update(secrets=found.secrets, versions=found.versions, wrong=len(found.wrong))
            _require_faultless(found, summary)
    except VerificationFailed:
        # It is for the record: what was found is told by the caller.
        if found is None:
            raise
    return found


def _require_faultless(found: Rehearsed, summary: Summary) -> None:
    if found.wrong or summary.damaged:
        raise VerificationFailed("a rehearsal found a fault", code="backup.rehearsal")


@contextlib.contextmanager
def _scratch(needed_bytes: int) -> Iterator[tuple[Path, bool]]:
    places = [(_MEMORY, True), (Path(tempfile.gettempdir()), False)]
    for place, in_memory in places:
        if not os.access(place, os.W_OK) or shutil.disk_usage(place).free < needed_bytes:
            continue
        _remove_leftovers(place)
        folder = Path(tempfile.mkdtemp(prefix=f"{_MARK}{os.getpid()}-", dir=place))
        try:
            yield folder, in_memory
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    told = ", ".join(f"`{place}`" for place, _ in places)
    raise Unavailable(
        f"there is no room for a rehearsal of {needed_bytes} bytes in {told}",
        hint="free space, or set TMPDIR to a folder that has it",
        code="backup.unavailable",
    )


def _remove_leftovers(place: Path) -> None:
    """Remove what killed rehearsals of this user left."""
    for folder in place.glob(f"{_MARK}*"):
        pid = folder.name.removeprefix(_MARK).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):
                if folder.stat(follow_symlinks=False).st_uid == os.geteuid():
                    shutil.rmtree(folder, ignore_errors=True)


class _Scratch:
    def __init__(self, folder: Path, summary: Summary, *, clock: Clock, entropy: Entropy) -> None:
        self._path = folder / "store.db"
        self._keys: UnlockedKeys
        self._summary = summary
        self._clock = clock
        self._entropy = entropy
        # Two stores may have parts of one environment: here each has one of its own.
        self.environments = {
            part: EnvironmentName(f"part-{number}") for number, part in enumerate(summary.parts)
        }

    def make(self) -> EmbeddedStore:
        """Make the store; its root key, from a passphrase that nobody knows, is on no disk."""
        database = Database.open(self._path, create=True)
        self._keys = create(
            database,
            store_id=new_id(self._entropy),
            project=self._summary.head.project,
            home=self._path.parent / "keys",
            phrase=new_key(self._entropy),
            clock=self._clock,
            entropy=self._entropy,
        )
        return EmbeddedStore(database, keys=self._keys, clock=self._clock, entropy=self._entropy)

    def compare(self) -> list[str]:
        """Open the store anew, and return what is not in it as it is in the file."""
        with Database.open(self._path) as database:
            # Not those of before: what the file lists is read and unwrapped again.
            keys = unlock(database, self._keys.root_key)
            store = EmbeddedStore(database, keys=keys, clock=self._clock, entropy=self._entropy)
            wrong = [str(problem) for problem in store.verify()]
            wrong += [
                each.label for each in self._summary.secrets if not self._came_back(store, each)
            ]
        return wrong

    def _came_back(self, store: EmbeddedStore, outline: Outline) -> bool:
        environment = self.environments[outline.part]
        wanted = settled(_moved(outline.fingerprint, environment))
        found = store.histories(environment, [outline.name]).get(outline.name)
        if found is None:
            return not outline.versions
        there = fingerprint(found, self._summary.digester)
        return was_written(wanted, there) and _facts_of(there) == _facts_of(wanted)


def _facts_of(history: History) -> list[tuple[object, ...]]:
    return [
        (each.number, each.created_at, each.origin, values is None)
        for each, values in history.versions
    ]


class _Filling:
    """Gives the scratch store what comes out of the file."""

    def __init__(
        self,
        store: EmbeddedStore,
        environments: dict[Part, EnvironmentName],
        progress: Callable[[int], None],
    ) -> None:
        self._store = store
        self._environments = environments
        self._progress = progress
        self._waiting: list[Move] = []
        self._bytes = 0

    def take(self, item: Item) -> None:
        """Keep a secret, and write when there is enough."""
        if not isinstance(item, Held) or not item.history.versions:
            return
        history = settled(_moved(item.history, self._environments[item.part]))
        self._waiting.append(Move(history, SecretState(history.ref, None, None, None, 1)))
        self._bytes += item.size_bytes
        if self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        self._store.carry(waiting)
        self._progress(len(waiting))


def _moved(history: History, environment: EnvironmentName) -> History:
    """Return *history* as one of *environment*."""
    ref = SecretRef(environment, history.ref.name)
    pairs = tuple((replace(version, ref=ref), values) for version, values in history.versions)
    return History(replace(history.state, ref=ref), pairs)
