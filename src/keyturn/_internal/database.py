"""
The SQLite file that holds all that Keyturn must remember, and its transactions.

A transaction is re-entrant: an inner `with database.transaction()` joins the
outer one, so a store write, a journal step and an audit record written by three
rooms commit together or not at all.

System calls of a commit in WAL mode with `synchronous=FULL`: pwrite of the
pages to the `-wal` file, fdatasync of it. (sqlite.org/wal.html)
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from keyturn._internal import failpoints
from keyturn._internal.schema import APPLICATION_ID, MIGRATIONS
from keyturn.errors import (
    Conflict,
    Corrupt,
    IntegrityError,
    OutcomeUnknown,
    StoreError,
    Unavailable,
)

__all__ = ["Database", "require_plain"]

_BUSY_MILLISECONDS = 10_000
# What SQLite puts beside the file, and opens without asking what it is.
_BESIDE = ("-journal", "-wal", "-shm")


class Database:
    """
    One open connection, for one thread.

    Args:
        path: The file. It must exist unless *create* is given to `open`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._translated = _Translated(path)
        self._depth = 0
        self._turn: threading.Lock | None = None
        self._after_commit: list[Callable[[], None]] = []
        self._after_rollback: list[Callable[[], None]] = []

    @classmethod
    def open(cls, path: Path, *, create: bool = False, read_only: bool = False) -> Database:
        """
        Open the file at *path* and bring its schema up to date.

        Raises:
            Unavailable: It cannot be opened: absent, unreadable, read-only folder.
            Corrupt: It is not a database, or not one of ours, or no plain file.
            Conflict: It was written by a newer Keyturn, or stays locked.
        """
        require_plain(path)
        if not create and not path.exists():
            raise Unavailable(
                f"no store at `{path}`",
                hint="put it back from a backup; to begin anew, move the folder away and run "
                "`keyturn init`",
                code="store.absent",
            )
        if create:
            # Create with the right mode: sqlite would use the umask's.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        mode = "ro" if read_only else "rw"
        with _Translated(path):
            connection = sqlite3.connect(
                f"file:{_quoted(path)}?mode={mode}", uri=True, isolation_level=None
            )
        database = cls(path, connection)
        try:
            database._prepare(read_only=read_only, create=create)
        except BaseException:
            connection.close()
            raise
        return database

    def _prepare(self, *, read_only: bool, create: bool) -> None:
        with self._translated:
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.execute("PRAGMA temp_store = MEMORY")
            self._connection.execute("PRAGMA cell_size_check = ON")
            # Counted before the version is read: another process may be creating it now.
            tables = self.one("SELECT count(*) FROM sqlite_schema")[0] if create else None
            version = self.one("PRAGMA user_version")[0]
            if version and self.one("PRAGMA application_id")[0] != APPLICATION_ID:
                raise Corrupt(
                    f"`{self.path}` is a database, but not one of Keyturn's",
                    hint="restore the store from a backup",
                )
            if not version and tables != 0:
                # Begun, cut to nothing, or another program's: ours must not be put into it.
                raise self._not_ours()
            if read_only:
                self._connection.execute("PRAGMA query_only = ON")
            else:
                self._connection.execute("PRAGMA secure_delete = ON")
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
        if version > len(MIGRATIONS):
            raise Conflict(
                f"`{self.path}` was written by a newer Keyturn (schema {version})",
                hint="upgrade this Keyturn; nothing was changed",
                code="store.newer",
            )
        if version < len(MIGRATIONS) and not read_only:
            self._migrate()

    def _not_ours(self) -> StoreError:
        if self.one("SELECT count(*) FROM sqlite_schema")[0]:
            return Corrupt(
                f"`{self.path}` is a database, but not one of Keyturn's",
                hint="restore the store from a backup; nothing was overwritten",
            )
        return Unavailable(
            f"`{self.path}` is empty",
            hint="if there was a store, restore it from a backup; otherwise run `keyturn init`",
            code="store.absent",
        )

    def _migrate(self) -> None:
        with self.transaction():
            # Read again under the write lock: another process may have migrated meanwhile.
            version = self.one("PRAGMA user_version")[0]
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                for statement in script.split(";\n"):
                    if statement.strip():
                        self.execute(statement)
                failpoints.hit("database.migrate")
                self.execute(f"PRAGMA user_version = {number}")
            self.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def take_turns(self, turn: threading.Lock) -> None:
        """
        Hold *turn* for the length of each transaction, as other connections of this process do.

        SQLite lets waiting writers try again and again, and one of many may never be the
        one that gets through; a lock lets each of them have its turn.
        """
        self._turn = turn

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._depth > 0

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """
        Run the block in one transaction; an inner call joins the outer one.

        Raises:
            Conflict: The write lock was not had within ten seconds.
            Unavailable: The disk is full or failed; nothing was written.
            OutcomeUnknown: The commit's own sync failed; ask before trying again.

        Crash safety:
            Durable on return. Before that: nothing of it.
        """
        return _Transaction(self._enter, self._leave)

    def _enter(self) -> None:
        if self._depth:
            self._depth += 1
            return
        if self._turn is not None:
            self._turn.acquire()
        try:
            with self._translated:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
        except BaseException:
            # Ctrl-C may come when SQLite has begun and nobody knows it yet.
            self._roll_back()
            self._pass_on()
            raise

    def _leave(self, error: BaseException | None) -> None:
        self._depth -= 1
        if self._depth:
            return
        try:
            if error is not None:
                self._roll_back()
                return
            try:
                failpoints.hit("database.commit")
            except BaseException:
                self._roll_back()
                raise
            self._commit()
        finally:
            self._pass_on()
        failpoints.hit("database.committed")
        callbacks, self._after_commit = self._after_commit, []
        self._after_rollback.clear()
        for callback in callbacks:
            callback()

    def _pass_on(self) -> None:
        if self._turn is not None:
            self._turn.release()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, after the outermost transaction is durable."""
        self._after_commit.append(callback)

    def after_rollback(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, if the outermost transaction is undone instead."""
        self._after_rollback.append(callback)

    def _commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                # SQLite still holds the transaction: undoing it is certain.
                self._roll_back()
                raise _translate(error, self.path) from error
            self._undone()
            raise OutcomeUnknown(
                f"the commit to `{self.path}` got no clear answer",
                hint="run the command again: it asks the store what is true first",
            ) from error

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._undone()

    def _undone(self) -> None:
        callbacks, self._after_rollback = self._after_rollback, []
        self._after_commit.clear()
        for callback in callbacks:
            callback()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        with self._translated:
            return self._connection.execute(sql, parameters).rowcount

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each of *rows*."""
        with self._translated:
            self._connection.executemany(sql, rows)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return every row of a query; for answers of bounded size."""
        with self._translated:
            return self._connection.execute(sql, parameters).fetchall()

    def stream(
        self, sql: str, parameters: Sequence[Any] = (), *, batch: int = 2048
    ) -> Generator[list[tuple[Any, ...]]]:
        """
        Yield the rows of a query in lists of at most *batch*; for answers without bound.

        Until it ends or is closed, this connection sees the state of the first row.
        """
        with self._translated:
            cursor = self._connection.execute(sql, parameters)
        while True:
            with self._translated:
                chunk = cursor.fetchmany(batch)
            if not chunk:
                return
            yield chunk

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query, or None."""
        with self._translated:
            found: tuple[Any, ...] | None = self._connection.execute(sql, parameters).fetchone()
            return found

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
        """
        Return the first row of a query that always has one.

        Raises:
            Corrupt: It has none.
        """
        found = self.row(sql, parameters)
        if found is None:
            raise Corrupt(f"a row that must exist is missing in `{self.path}`")
        return found

    def check_integrity(self) -> list[str]:
        """Return what SQLite finds wrong with the file's structure; empty when nothing is."""
        try:
            found = [str(row[0]) for row in self.rows("PRAGMA integrity_check(20)")]
            found += [f"foreign key of {row[0]}" for row in self.rows("PRAGMA foreign_key_check")]
        except StoreError as error:
            return [error.message]
        return [] if found == ["ok"] else [line for line in found if line != "ok"]

    def close(self) -> None:
        """Close the connection; an open transaction is undone."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def require_plain(path: Path) -> None:
    """
    Return where the file at *path*, and what SQLite keeps beside it, are files or absent.

    A pipe in the place of one of them would be waited for, for ever.

    Raises:
        Corrupt: One is something else.
    """
    for name in (path.name, *(path.name + end for end in _BESIDE)):
        found = path.with_name(name)
        try:
            mode = found.stat().st_mode
        except OSError:
            continue  # absent; what cannot be looked at is told of where it is opened
        if not stat.S_ISREG(mode):
            raise Corrupt(
                f"`{found}` is no plain file",
                hint="it is none of Keyturn's: move it away; where it took the store's place, "
                "restore that from a backup",
            )


def _is_full(path: Path) -> bool:
    # The shared-memory file cannot grow on a full disk, which SQLite calls an I/O error.
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except OSError:
        return False


def _quoted(path: Path) -> str:
    # The characters that end or escape the path part of a SQLite URI.
    text = str(path)
    for character, code in (("%", "%25"), ("?", "%3f"), ("#", "%23")):
        text = text.replace(character, code)
    return text


# Both are entered some ten times for each commit, where `contextlib.contextmanager`
# costs several times as much.
class _Transaction:
    """Joins what is open, or begins; at its end commits what it began, or undoes it."""

    __slots__ = ("_enter", "_leave")

    def __init__(
        self, enter: Callable[[], None], leave: Callable[[BaseException | None], None]
    ) -> None:
        self._enter = enter
        self._leave = leave

    def __enter__(self) -> None:
        self._enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(error)


class _Translated:
    """Turns what SQLite's module raises about the file at *path* into errors of ours."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, sqlite3.Error):
            raise _translate(error, self._path) from error
        if isinstance(error, UnicodeDecodeError):
            # The module cannot read SQLite's own message, which quotes what is damaged.
            raise Corrupt(
                f"`{self._path}` is damaged",
                hint="run `keyturn doctor`; nothing was overwritten; restore from a backup",
            ) from None


def _translate(error: sqlite3.Error, path: Path) -> StoreError | Conflict | IntegrityError:
    name: str = getattr(error, "sqlite_errorname", None) or ""
    # The module's own error for a damaged text quotes the text, which goes no further.
    not_text = "decode to UTF-8" in str(error)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Conflict(
            f"another process holds `{path}`",
            hint="wait for it to end and run the command again",
            code="store.busy",
        )
    if not_text or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return Corrupt(
            f"`{path}` is damaged: {'a text in it cannot be read' if not_text else error}",
            hint="run `keyturn doctor`; nothing was overwritten; restore from a backup",
        )
    if name.startswith("SQLITE_FULL") or (name.startswith("SQLITE_IOERR") and _is_full(path)):
        return Unavailable(
            f"the disk that holds `{path}` is full", hint="free space and run the command again"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return Unavailable(
            f"`{path}` cannot be written here: {error}",
            hint="check the folder's permissions and whether its file system is read-only",
        )
    if name.startswith("SQLITE_CONSTRAINT"):
        return Conflict(f"`{path}` refused a write: {error}", code="store.constraint")
    return Unavailable(f"`{path}` failed: {error}", hint="run `keyturn doctor`")
