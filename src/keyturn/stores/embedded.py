"""
The embedded store: versions in the control database, every value sealed.

Its writes join the caller's transaction, so that a new value, the rotation step
that made it and the audit record of both are durable together or not at all.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Final, final

from keyturn._internal.database import Database
from keyturn.core.clock import Clock, rfc3339
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, SecretName, Token
from keyturn.core.model import (
    History,
    Move,
    Origin,
    SecretRef,
    SecretState,
    Stage,
    Values,
    Version,
    VersionedValue,
)
from keyturn.core.ports import StoreCapabilities
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, StoreError
from keyturn.stores._carried_rows import carry, histories
from keyturn.stores._items import load_item, save_item
from keyturn.stores._meta import UnlockedKeys
from keyturn.stores._reseal import ResealProgress, reseal_begin, reseal_step
from keyturn.stores._rows import (
    STATE_COLUMNS,
    VERSION_COLUMNS,
    VERSION_JOIN,
    StateRow,
    VersionRow,
    all_states,
    as_stored,
    insert_version,
    load_state,
    load_version,
    metadata,
    open_version,
    parse_state,
    save_state,
    to_version,
    vanished,
)
from keyturn.stores._rules import (
    MAX_VALUE_BYTES,
    check_destroy,
    check_idle,
    check_put,
    destroyed_error,
    discarded,
    no_version,
    number_at,
    promoted,
    token_conflict,
)
from keyturn.stores._verify import StoreProblem, verify

__all__ = ["EmbeddedStore"]

_CAPABILITIES: Final = StoreCapabilities(
    atomic_promote=True,
    compare_and_set=True,
    history=True,
    transactional=True,
    max_value_bytes=MAX_VALUE_BYTES,
)


@final
class EmbeddedStore:
    """
    Versions and stages in one SQLite file; implements `keyturn.core.ports.Store`.

    One store uses one `Database`, so one thread.

    Args:
        database: An open control database that holds a store.
        keys: Its key ladder, from `unlock`.
    """

    def __init__(
        self, database: Database, *, keys: UnlockedKeys, clock: Clock, entropy: Entropy
    ) -> None:
        self.database = database
        self.keys = keys
        self._clock = clock
        self._entropy = entropy

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store guarantees."""
        return _CAPABILITIES

    @property
    def store_id(self) -> str:
        """The id that everything in it is bound to."""
        return self.keys.store_id

    # --- writes -------------------------------------------------------------------------

    def put_pending(
        self, ref: SecretRef, values: Values, *, origin: Origin, token: Token
    ) -> Version:
        """
        Store *values* as a new version and point `pending` at it.

        Args:
            token: Made by the caller. The same token again gives the same version.

        Raises:
            Conflict: Another version is pending, or *token* was used for other values.
            Rejected: A value is too large, or a name or the fields are not acceptable.
            OutcomeUnknown: The commit got no answer. Call again with the same *token*.

        Crash safety:
            Durable on return, or with the outer transaction. Before that: nothing.
        """
        check_put(ref, values, token)
        with self.database.transaction():
            row = load_state(self.database, self.keys, ref)
            earlier = self._by_token(ref, token)
            if earlier is not None:
                return self._same_or_conflict(earlier, values)
            check_idle(row.state)
            number = row.state.next_number
            now = rfc3339(self._clock.now())
            shell = VersionRow(ref, number, now, origin.value, token, destroyed=False, sealed=())
            version = insert_version(self.database, self.keys, shell, values, entropy=self._entropy)
            self._save(row, replace(row.state, pending=number, next_number=number + 1))
            return metadata(version)

    def find(self, ref: SecretRef, token: Token) -> Version | None:
        """
        Return the version that `put_pending` made with *token*.

        Raises:
            Corrupt: It is not what was stored.
        """
        row = self._by_token(ref, token)
        return None if row is None else metadata(row)

    def promote(self, ref: SecretRef, number: int, *, expected_current: int | None) -> SecretState:
        """
        Point `current` at version *number* and `previous` at what was current, in one step.

        Raises:
            Conflict: `current` is not *expected_current*.
            NotFound: There is no such version, or it was destroyed.

        Crash safety:
            Durable on return, or with the outer transaction. Before that: the old stages.
        """
        with self.database.transaction():
            row = load_state(self.database, self.keys, ref)
            version = self._known(ref, number)
            if version.destroyed:
                raise destroyed_error(row.state, number)
            return self._save(row, promoted(row.state, number, expected_current=expected_current))

    def discard_pending(self, ref: SecretRef, number: int) -> SecretState:
        """
        Clear `pending` where it points at *number*; the version stays in the history.

        Raises:
            Conflict: `pending` points at another version.

        Crash safety:
            Durable on return, or with the outer transaction. Before that: still pending.
        """
        with self.database.transaction():
            row = load_state(self.database, self.keys, ref)
            return self._save(row, discarded(row.state, number))

    def destroy(self, ref: SecretRef, number: int) -> None:
        """
        Remove the values of version *number* for good; the number stays taken.

        Raises:
            Conflict: A stage points at it.
            NotFound: There is no such version.

        Crash safety:
            Durable on return, or with the outer transaction. The freed pages are
            zeroed with the commit, the log once nobody reads from it.
        """
        with self.database.transaction():
            row = load_state(self.database, self.keys, ref)
            version = self._known(ref, number)
            check_destroy(row.state, number)
            if version.destroyed:
                return
            place = (ref.environment, ref.name, number)
            self.database.execute(
                "UPDATE version SET destroyed = 1"
                " WHERE environment = ? AND secret = ? AND number = ?",
                place,
            )
            self.database.execute(
                "DELETE FROM value WHERE environment = ? AND secret = ? AND number = ?", place
            )
            self.database.after_commit(self._empty_log)

    def _by_token(self, ref: SecretRef, token: Token) -> VersionRow | None:
        found = self.database.row(
            "SELECT number FROM version WHERE environment = ? AND secret = ? AND token = ?",
            (ref.environment, ref.name, token),
        )
        return None if found is None else load_version(self.database, ref, found[0])

    def _same_or_conflict(self, row: VersionRow, values: Values) -> Version:
        if row.destroyed:
            raise token_conflict(row.ref, row.number)
        stored = open_version(self.database, self.keys, row)
        if dict(stored.values) != dict(values):
            raise token_conflict(row.ref, row.number)
        return stored.version

    def _save(self, row: StateRow, state: SecretState) -> SecretState:
        if state is not row.state:
            save_state(self.database, self.keys, state, counter=row.counter + 1)
        return state

    def _known(self, ref: SecretRef, number: int) -> VersionRow:
        version = load_version(self.database, ref, number)
        if version is None:
            raise no_version(ref, number)
        return version

    def _empty_log(self) -> None:
        # The destruction is durable already; a log that somebody holds empties with a
        # later commit.
        with contextlib.suppress(StoreError, Conflict):
            self.database.row("PRAGMA wal_checkpoint(TRUNCATE)")

    # --- reads --------------------------------------------------------------------------

    def read(self, ref: SecretRef, selector: Stage | int) -> VersionedValue:
        """
        Return a version by stage or number.

        Raises:
            NotFound: Nothing there.
            Corrupt: What is stored is not what was written: flipped, swapped, cut.
        """
        rows = self._joined(ref.environment, [ref.name], selector)
        if not rows:
            # Raises when the state is missing and should not be.
            state = load_state(self.database, self.keys, ref).state
            raise no_version(ref, number_at(state, selector))
        state = parse_state(self.database, self.keys, ref, rows[0][1:7]).state
        version = as_stored(state, number_at(state, selector), rows)
        return open_version(self.database, self.keys, version)

    def read_many(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, VersionedValue]:
        """
        Return the current versions of *names* that have one, in one read of the store.

        Raises:
            Corrupt: One of them is not what was written.
        """
        rows = self._current_rows(environment, names)
        return {row.ref.name: open_version(self.database, self.keys, row) for row in rows}

    def current_versions(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, Version]:
        """
        Return what is known of the current versions of *names* that have one.

        Values are not opened: `verify` does that.

        Raises:
            Corrupt: A state is not what was written, or a row cannot be read.
        """
        return {row.ref.name: metadata(row) for row in self._current_rows(environment, names)}

    def _current_rows(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Iterator[VersionRow]:
        wanted = sorted(set(names))
        absent = set(wanted)
        rows = self._joined(environment, wanted, Stage.CURRENT)
        for name, group in groupby(rows, key=lambda row: row[0]):
            absent.discard(name)
            of_secret = list(group)
            ref = SecretRef(environment, name)
            state = parse_state(self.database, self.keys, ref, of_secret[0][1:7]).state
            if state.current is not None:
                yield as_stored(state, state.current, of_secret)
        for name in absent:
            # Raises when the state is missing and should not be.
            load_state(self.database, self.keys, SecretRef(environment, name))

    def _joined(
        self, environment: EnvironmentName, names: Sequence[SecretName], selector: Stage | int
    ) -> list[tuple[Any, ...]]:
        # One statement, so that state and version are of one moment.
        number = f"s.{selector.value}" if isinstance(selector, Stage) else str(int(selector))
        # One name by itself, as a rotation asks for it, costs half of a list of one.
        alone = len(names) == 1
        wanted = "= ?" if alone else "IN (SELECT value FROM json_each(?))"
        return self.database.rows(
            f"SELECT s.secret, {STATE_COLUMNS}, v.number, {VERSION_COLUMNS}"  # noqa: S608 - fixed columns
            " FROM secret_state s"
            " LEFT JOIN version v ON v.environment = s.environment"
            f" AND v.secret = s.secret AND v.number = {number}"
            " LEFT JOIN value x ON x.environment = v.environment"
            " AND x.secret = v.secret AND x.number = v.number"
            f" WHERE s.environment = ? AND s.secret {wanted}"
            " ORDER BY s.secret, x.field",
            (environment, names[0] if alone else json.dumps(names)),
        )

    def state(self, ref: SecretRef) -> SecretState:
        """
        Return where the stages point; all None for a secret never written.

        Raises:
            Corrupt: The state is not what was written.
        """
        return load_state(self.database, self.keys, ref).state

    def states(self, environment: EnvironmentName) -> Mapping[SecretName, SecretState]:
        """
        Return the state of every secret that the store knows in *environment*.

        Raises:
            Corrupt: One is not what was written.
        """
        rows = all_states(self.database, self.keys, environment)
        return {row.state.ref.name: row.state for row in rows}

    def history(self, ref: SecretRef) -> Sequence[Version]:
        """
        Return every version, newest first. Values are not opened: `verify` does that.

        Raises:
            Corrupt: A version is missing, or its row cannot be read.
        """
        # One statement, so that state and versions are of one moment.
        rows = self.database.rows(
            f"SELECT {STATE_COLUMNS}, v.number, {VERSION_COLUMNS}"  # noqa: S608 - fixed columns
            " FROM secret_state s LEFT JOIN version v USING (environment, secret)"
            f" {VERSION_JOIN} WHERE s.environment = ? AND s.secret = ?"
            " ORDER BY v.number DESC, x.field",
            (ref.environment, ref.name),
        )
        if not rows:
            return self._no_history(ref)
        state = parse_state(self.database, self.keys, ref, rows[0][:6]).state
        versions = [
            metadata(to_version(ref, number, [row[7:] for row in group]))
            for number, group in groupby(rows, key=lambda row: row[6])
            if number is not None
        ]
        numbers = [version.number for version in versions]
        expected = list(range(state.next_number - 1, 0, -1))
        if numbers != expected:
            missing = sorted(set(expected) - set(numbers)) or [state.next_number]
            raise vanished(ref, missing[0])
        return versions

    def _no_history(self, ref: SecretRef) -> Sequence[Version]:
        # Raises when the state is missing and should not be.
        load_state(self.database, self.keys, ref)
        return []

    def histories(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, History]:
        """
        Return every version of *names* with its values.

        Raises:
            Corrupt: Something is missing, or not what was written.
        """
        return histories(self.database, self.keys, environment, names)

    def carry(self, moves: Sequence[Move]) -> None:
        """
        Write histories of another store, under the numbers that they have there.

        Raises:
            Conflict: A state is not as expected, or another value has one of the numbers.
            Rejected: A value is too large, or a name not acceptable.

        Crash safety:
            All of them are durable on return, or with the outer transaction. Before
            that: none.
        """
        carry(self.database, self.keys, moves, entropy=self._entropy)

    # --- Keyturn's own keys, upkeep ------------------------------------------------------

    def sealed_item(self, name: str) -> SecretValue | None:
        """
        Return one of Keyturn's own keys, or None when there is none of that name.

        Raises:
            Corrupt: It is not what was written.
        """
        return load_item(self.database, self.keys, name)

    def put_sealed_item(self, name: str, value: SecretValue, *, replace: bool = False) -> None:
        """
        Keep one of Keyturn's own keys; the same value again changes nothing.

        Args:
            replace: Put *value* where another one is.

        Raises:
            Conflict: Another value is there and *replace* was not given.

        Crash safety:
            Durable on return, or with the outer transaction. Before that: as it was.
        """
        with self.database.transaction():
            save_item(self.database, self.keys, name, value, replace=replace, entropy=self._entropy)

    def remove_sealed_item(self, name: str) -> None:
        """
        Remove the item *name*; one that is not there is fine.

        Crash safety:
            Durable on return, or with the outer transaction.
        """
        with self.database.transaction():
            self.database.execute("DELETE FROM sealed_item WHERE name = ?", (name,))

    def rotate_data_key(self, *, batch: int = 500) -> ResealProgress:
        """
        Seal everything under a new data key, and drop the old one when nothing uses it.

        A rotation that was begun and not finished is finished instead.

        Args:
            batch: Versions a transaction; large ones end a batch early.

        Raises:
            Corrupt: Something does not open; nothing that opens is lost.

        Crash safety:
            Each batch is durable on its own. Whatever it dies at, every row opens
            with exactly one listed key, and `resume_data_key_rotation` completes.
        """
        reseal_begin(self.database, self.keys, clock=self._clock, entropy=self._entropy)
        return self.resume_data_key_rotation(batch=batch)

    def resume_data_key_rotation(self, *, batch: int = 500) -> ResealProgress:
        """
        Finish a data-key rotation that was begun; does nothing when none was.

        Raises:
            Corrupt: Something does not open; nothing that opens is lost.
        """
        total = ResealProgress(0, 0, 0)
        while True:
            step = reseal_step(self.database, self.keys, batch=batch, entropy=self._entropy)
            if step is None:
                return total
            total += step

    def verify(self) -> list[StoreProblem]:
        """Open and check everything; return what is wrong, by name and never by value."""
        return verify(self.database, self.keys)
