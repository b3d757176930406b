"""
A store over somebody else's: versions and stages on any `Layout`.

What is current is what the live document holds. To promote is one compare-and-set
write of it; the ledger is brought up to date after. Dying between the two loses
nothing: whoever looks next finds the live document at the version that was pending,
and takes the ledger's word for the rest. Where an answer was lost it is looked
again, and every operation begins by asking whether it is done already.

A live value that is none of ours was put there behind Keyturn's back. It is *drift*:
reads give it and say so, writes refuse, until a person accepts it or restores ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar, final

from keyturn._internal import failpoints
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token, new_id
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
from keyturn.core.ports import Drift, StoreCapabilities
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, NotFound
from keyturn.stores import _rules
from keyturn.stores._again import again
from keyturn.stores._carrier import Carrier
from keyturn.stores._ledger import Entry, Ledger, Line, encode_values
from keyturn.stores._looking import Looker
from keyturn.stores._place import Layout, Place, Seen
from keyturn.stores._sweeping import sweep
from keyturn.stores._truth import (
    Truth,
    changes_to,
    drifted,
    foreign,
    kept_values,
    live_fields,
    not_live,
)

__all__ = ["OutsideStore"]

T = TypeVar("T")


@final
class OutsideStore:
    """
    Implements `keyturn.core.ports.WatchedStore` over *layout*.

    Args:
        layout: Where things lie; one for each thread, as the store itself.
    """

    def __init__(self, layout: Layout, *, clock: Clock, entropy: Entropy) -> None:
        self._layout = layout
        self._clock = clock
        self._entropy = entropy
        self._looker = Looker(layout, entropy)
        self._carrier = Carrier(layout, self._looker, clock=clock, entropy=entropy)
        self._swept = False

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store guarantees."""
        return self._layout.capabilities

    @property
    def layout(self) -> Layout:
        """Where things lie, for what a store is not asked."""
        return self._layout

    @property
    def where(self) -> str:
        """Where it is, for messages."""
        return self._layout.where

    def close(self) -> None:
        """Let connections go."""
        self._layout.close()

    # --- writes -------------------------------------------------------------------------

    def put_pending(
        self, ref: SecretRef, values: Values, *, origin: Origin, token: Token
    ) -> Version:
        """
        Store *values* as a new version and point `pending` at it.

        Raises:
            Conflict: Another version is pending, or *token* was used for other values.
            Rejected: A value is too large, or a name or the fields are not acceptable.
            OutcomeUnknown: No answer came. Call again with the same *token*.
            Unavailable: The store does not answer.

        Crash safety:
            Durable on return. Before that: nothing, or the pending version.
        """
        _rules.check_put(ref, values, token)
        _rules.check_sizes(ref, values, self.capabilities.max_value_bytes)
        plain = {name: value.reveal() for name, value in values.items()}
        place = self._layout.place(ref)
        kept: list[str] = []

        def put() -> Version:
            seen = place.look(live=False, ledger=True)
            ledger = self._looker.ledger(seen)
            recorded = ledger.entry(ref.name)
            stamp, digest = ledger.token(ref, token), ledger.digest(plain)
            earlier = recorded.by_token(stamp)
            if earlier is not None:
                if earlier.digest != digest:
                    raise _rules.token_conflict(ref, earlier.number)
                return earlier.version(ref)
            entry = recorded
            if recorded.pending is not None:
                # It may have become current since: only the live document knows.
                seen, ledger, (truth,) = self._looker.look(place, [ref])
                entry = truth.entry
            _rules.check_idle(entry.state(ref))
            line = self._line(entry, values, origin, stamp, digest)
            kept.append(line.key(ref.name))
            entry = entry.adding(line, Stage.PENDING)
            self._save(
                place,
                seen,
                ledger,
                ref.name,
                entry,
                keep={line.key(ref.name): encode_values(values)},
            )
            return line.version(ref)

        try:
            made = self._retried(put)
        except Conflict:
            if kept:
                sweep(place, self._looker, own=kept)
            raise
        # A race was lost on the way; or whoever wrote before may have died on theirs.
        if len(set(kept)) > 1 or not self._swept:
            self._swept = True
            sweep(place, self._looker, own=kept)
        return made

    def find(self, ref: SecretRef, token: Token) -> Version | None:
        """Return the version that `put_pending` made with *token*."""
        ledger = self._looker.ledger(self._layout.place(ref).look(live=False, ledger=True))
        found = ledger.entry(ref.name).by_token(ledger.token(ref, token))
        return None if found is None else found.version(ref)

    def promote(self, ref: SecretRef, number: int, *, expected_current: int | None) -> SecretState:
        """
        Point `current` at version *number* and `previous` at what was current, in one step.

        Raises:
            Conflict: `current` is not *expected_current*; or the live value is none of
                ours, code `store.drift`.
            NotFound: There is no such version, or it was destroyed.
            OutcomeUnknown: No answer came. Call again.

        Crash safety:
            Readers of the live document see the old version or the new one, always.
        """
        place = self._layout.place(ref)
        done: list[SecretState] = []

        def promote() -> SecretState:
            seen, ledger, (truth,) = self._looker.look(place, [ref])
            state, line = truth.state, truth.line(number)
            if line.destroyed:
                raise _rules.destroyed_error(state, number)
            if done and state.current != number:
                # It was ours for a moment, and somebody went on from there.
                return done[0]
            target = _rules.promoted(state, number, expected_current=expected_current)
            if target is state:
                if not truth.clean:
                    self._save(place, seen, ledger, ref.name, truth.entry)
                return state
            if truth.drift is not None:
                raise drifted(truth.drift, self.where)
            changes = self._changes(place, seen, ledger, truth, line)
            if changes:
                failpoints.hit("store.outside.promote")
                place.write_live(changes, seen=seen)
                failpoints.hit("store.outside.promoted")
                done.append(target)
            self._save(place, seen, ledger, ref.name, truth.entry.at(target))
            return target

        return self._retried(promote)

    def discard_pending(self, ref: SecretRef, number: int) -> SecretState:
        """
        Clear `pending` where it points at *number*; the version stays in the history.

        Raises:
            Conflict: `pending` points at another version.
            OutcomeUnknown: No answer came. Call again.
        """
        place = self._layout.place(ref)

        def discard() -> SecretState:
            seen, ledger, (truth,) = self._looker.look(place, [ref])
            target = _rules.discarded(truth.state, number)
            if target is not truth.state:
                self._save(place, seen, ledger, ref.name, truth.entry.at(target))
            return target

        return self._retried(discard)

    def destroy(self, ref: SecretRef, number: int) -> None:
        """
        Remove the values of version *number* for good; the number stays taken.

        Raises:
            Conflict: A stage points at it.
            NotFound: There is no such version.
            OutcomeUnknown: No answer came. Call again.
        """
        place = self._layout.place(ref)

        def destroy() -> None:
            seen, ledger, (truth,) = self._looker.look(place, [ref])
            line = truth.line(number)
            _rules.check_destroy(truth.state, number)
            if not line.destroyed:
                entry = truth.entry.destroying({number})
                self._save(place, seen, ledger, ref.name, entry, drop=[line.key(ref.name)])

        self._retried(destroy)
        sweep(place, self._looker)

    # --- reads --------------------------------------------------------------------------

    def read(self, ref: SecretRef, selector: Stage | int) -> VersionedValue:
        """
        Return a version by stage or number; what is current is read from where it is live.

        Raises:
            NotFound: Nothing there.
            Corrupt: What is kept is not what was written.
        """
        place = self._layout.place(ref)
        if not isinstance(selector, Stage):
            seen = place.look(live=False, ledger=True)
            entry = self._looker.ledger(seen).entry(ref.name)
            return self._kept(place, Truth(ref, entry, entry, {}, None), selector, seen)
        seen, _, (truth,) = self._looker.look(place, [ref])
        number = _rules.number_at(truth.state, selector)
        if selector is Stage.CURRENT:
            return self._live(truth, number)
        return self._kept(place, truth, number, seen)

    def read_many(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, VersionedValue]:
        """Return the current versions of *names* that have one, in one look at each place."""
        return {
            truth.ref.name: self._live(truth, truth.state.current)
            for truth in self._looker.truths(environment, names)
            if truth.state.current is not None and truth.live
        }

    def current_versions(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, Version]:
        """Return what is known of the current versions of *names* that have one."""
        return {
            truth.ref.name: truth.line(truth.state.current).version(
                truth.ref, drifted=truth.drift is not None
            )
            for truth in self._looker.truths(environment, names)
            if truth.state.current is not None and truth.live
        }

    def state(self, ref: SecretRef) -> SecretState:
        """Return where the stages point; all None for a secret never written."""
        _, _, (truth,) = self._looker.look(self._layout.place(ref), [ref])
        return truth.state

    def states(self, environment: EnvironmentName) -> Mapping[SecretName, SecretState]:
        """Return the state of every secret that the store knows in *environment*."""
        return {truth.ref.name: truth.state for truth in self._looker.truths(environment, None)}

    def history(self, ref: SecretRef) -> Sequence[Version]:
        """Return every version, newest first."""
        entry = self._looker.ledger(self._layout.place(ref).look(live=False, ledger=True)).entry(
            ref.name
        )
        return [line.version(ref) for line in reversed(entry.lines)]

    def histories(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, History]:
        """
        Return every version of *names* with its values.

        Raises:
            Corrupt: What is kept is not what was written.
        """
        return self._carrier.histories(environment, names)

    def carry(self, moves: Sequence[Move]) -> None:
        """
        Write histories of another store, those of one document together.

        Raises:
            Conflict: A state is not as expected, another value has one of the numbers, or
                a live value is none of ours, code `store.drift`.
            Rejected: A value is too large, or a name not acceptable.
            OutcomeUnknown: No answer came. Call again.

        Crash safety:
            Versions are durable first, then live, then the stages are written down.
        """
        self._carrier.carry(moves)

    # --- drift --------------------------------------------------------------------------

    def drifts(
        self,
        environment: EnvironmentName,
        declared: Mapping[SecretName, Collection[FieldName]] | None = None,
    ) -> Mapping[SecretName, Drift]:
        """
        Return what was changed behind Keyturn's back, by secret.

        Args:
            declared: Secrets and their fields; of these also what is live already
                though Keyturn never wrote it.
        """
        found = {
            truth.ref.name: truth.drift
            for truth in self._looker.truths(environment, None)
            if truth.drift is not None
        }
        return found | self._foreign(environment, declared or {})

    def _foreign(
        self, environment: EnvironmentName, declared: Mapping[SecretName, Collection[FieldName]]
    ) -> dict[SecretName, Drift]:
        refs = [SecretRef(environment, name) for name in sorted(declared)]
        places = list(self._layout.places(environment, sorted(declared)))
        shared = places[0].look(live=True, ledger=True) if len(places) == 1 < len(refs) else None
        found = {}
        for ref in refs:
            place = self._layout.place(ref)
            seen = shared or place.look(live=True, ledger=True)
            drift = foreign(place, seen, self._looker.ledger(seen), ref, declared[ref.name])
            if drift is not None:
                found[ref.name] = drift
        return found

    def accept(self, ref: SecretRef, fields: Collection[FieldName]) -> Version:
        """
        Take the live values of *fields* as a new version of *ref*, which is then current.

        Raises:
            NotFound: One of *fields* is not live.
            Conflict: A version is pending.
        """
        place = self._layout.place(ref)
        # One token for every try, so that an answer that was lost makes no second version.
        token = Token(new_id(self._entropy))

        def accept() -> Version:
            seen, ledger, (truth,) = self._looker.look(place, [ref])
            stamp = ledger.token(ref, token)
            earlier = truth.entry.by_token(stamp)
            if earlier is not None:
                return earlier.version(ref)
            plain = live_fields(place, seen.live, ref.name, fields)
            if set(plain) != set(fields):
                raise not_live(ref, self.where)
            known = truth.entry
            if truth.drift is None and known.current is not None:
                return truth.line(known.current).version(ref)
            _rules.check_idle(truth.state)
            line = self._line(known, fields, Origin.IMPORTED, stamp, ledger.digest(plain))
            entry = known.adding(line, Stage.CURRENT)
            values = {name: SecretValue(data) for name, data in plain.items()}
            keep = {line.key(ref.name): encode_values(values)}
            self._save(place, seen, ledger, ref.name, entry, keep=keep)
            return line.version(ref)

        return self._retried(accept)

    def restore(self, ref: SecretRef) -> Version:
        """
        Put the recorded current version back where somebody changed it.

        Raises:
            NotFound: No version is recorded as current.
        """
        place = self._layout.place(ref)

        def restore() -> Version:
            seen, ledger, (truth,) = self._looker.look(place, [ref])
            line = truth.line(_rules.number_at(truth.state, Stage.CURRENT))
            if truth.drift is not None:
                changes = self._changes(place, seen, ledger, truth, line)
                failpoints.hit("store.outside.restore")
                place.write_live(changes, seen=seen)
                failpoints.hit("store.outside.restored")
            return line.version(ref)

        return self._retried(restore)

    # --- looking ------------------------------------------------------------------------

    def _live(self, truth: Truth, number: int) -> VersionedValue:
        line = truth.line(number)
        if truth.drift is not None and not truth.live:
            raise NotFound(
                f"the value of `{truth.ref}` was removed from {self.where}",
                hint=f"`keyturn drift {truth.ref.name} -e {truth.ref.environment}` tells more",
                code="store.drift",
            )
        values = {name: SecretValue(data) for name, data in sorted(truth.live.items())}
        return VersionedValue(line.version(truth.ref, drifted=truth.drift is not None), values)

    def _kept(self, place: Place, truth: Truth, number: int, seen: Seen) -> VersionedValue:
        line = truth.line(number)
        if line.destroyed:
            raise _rules.destroyed_error(truth.state, number)
        values = kept_values(place, self._looker.ledger(seen), truth.ref, line, where=self.where)
        return VersionedValue(line.version(truth.ref), values)

    # --- writing ------------------------------------------------------------------------

    def _changes(
        self, place: Place, seen: Seen, ledger: Ledger, truth: Truth, line: Line
    ) -> dict[str, bytes | None]:
        """Return what the live document lacks to be at *line*, where it is not."""
        values = kept_values(place, ledger, truth.ref, line, where=self.where)
        return changes_to(place, seen, ledger, truth, values, where=self.where)

    def _line(
        self, entry: Entry, fields: Iterable[FieldName], origin: Origin, token: str, digest: str
    ) -> Line:
        now = self._clock.now()
        return Line(entry.next_number, now, origin, tuple(sorted(fields)), token, digest)

    def _save(
        self,
        place: Place,
        seen: Seen,
        ledger: Ledger,
        name: SecretName,
        entry: Entry,
        *,
        keep: Mapping[str, bytes] | None = None,
        drop: Sequence[str] = (),
    ) -> None:
        surplus = entry.surplus(self._layout.history_limit)
        if surplus:
            drop = [*drop, *(line.key(name) for line in surplus)]
            entry = entry.destroying({line.number for line in surplus})
        failpoints.hit("store.outside.ledger")
        place.write_ledger(
            ledger.having(name, entry).encode(), keep=keep or {}, drop=drop, seen=seen
        )
        failpoints.hit("store.outside.ledgered")

    def _retried(self, act: Callable[[], T]) -> T:
        return again(act, clock=self._clock, entropy=self._entropy)
