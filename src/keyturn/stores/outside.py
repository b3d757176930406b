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

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar, final

from keyturn._internal import failpoints
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token, new_id
from keyturn.core.model import (
    Origin,
    SecretRef,
    SecretState,
    Stage,
    Values,
    Version,
    VersionedValue,
)
from keyturn.core.ports import Drift, DriftKind, StoreCapabilities
from keyturn.core.value import SecretValue
from keyturn.errors import (
    Conflict,
    NotFound,
)
from keyturn.stores import _rules
from keyturn.stores._again import again
from keyturn.stores._ledger import Entry, Ledger, Line, encode_values
from keyturn.stores._place import Layout, Place, Seen
from keyturn.stores._truth import (
    Truth,
    drifted,
    foreign,
    kept_values,
    live_fields,
    not_live,
    require_own,
    true_of,
)

__all__ = ["OutsideStore"]

# A ledger that moves while the live document is read is read again.
_LOOKS = 20

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

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store guarantees."""
        return self._layout.capabilities

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

        def put() -> Version:
            seen = place.look(live=False, ledger=True)
            ledger = self._ledger(seen)
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
                seen, ledger, (truth,) = self._look(place, [ref])
                entry = truth.entry
            _rules.check_idle(entry.state(ref))
            line = self._line(entry, values, origin, stamp, digest)
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

        return self._retried(put)

    def find(self, ref: SecretRef, token: Token) -> Version | None:
        """Return the version that `put_pending` made with *token*."""
        ledger = self._ledger(self._layout.place(ref).look(live=False, ledger=True))
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
            seen, ledger, (truth,) = self._look(place, [ref])
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
            seen, ledger, (truth,) = self._look(place, [ref])
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
            seen, ledger, (truth,) = self._look(place, [ref])
            line = truth.line(number)
            _rules.check_destroy(truth.state, number)
            if not line.destroyed:
                entry = truth.entry.destroying({number})
                self._save(place, seen, ledger, ref.name, entry, drop=[line.key(ref.name)])

        self._retried(destroy)

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
            entry = self._ledger(seen).entry(ref.name)
            return self._kept(place, Truth(ref, entry, entry, {}, None), selector, seen)
        seen, _, (truth,) = self._look(place, [ref])
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
            for truth in self._truths(environment, names)
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
            for truth in self._truths(environment, names)
            if truth.state.current is not None and truth.live
        }

    def state(self, ref: SecretRef) -> SecretState:
        """Return where the stages point; all None for a secret never written."""
        _, _, (truth,) = self._look(self._layout.place(ref), [ref])
        return truth.state

    def states(self, environment: EnvironmentName) -> Mapping[SecretName, SecretState]:
        """Return the state of every secret that the store knows in *environment*."""
        return {truth.ref.name: truth.state for truth in self._truths(environment, None)}

    def history(self, ref: SecretRef) -> Sequence[Version]:
        """Return every version, newest first."""
        entry = self._ledger(self._layout.place(ref).look(live=False, ledger=True)).entry(ref.name)
        return [line.version(ref) for line in reversed(entry.lines)]

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
            for truth in self._truths(environment, None)
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
            drift = foreign(place, seen, self._ledger(seen), ref, declared[ref.name])
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
            seen, ledger, (truth,) = self._look(place, [ref])
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
            seen, ledger, (truth,) = self._look(place, [ref])
            line = truth.line(_rules.number_at(truth.state, Stage.CURRENT))
            if truth.drift is not None:
                changes = self._changes(place, seen, ledger, truth, line)
                failpoints.hit("store.outside.restore")
                place.write_live(changes, seen=seen)
                failpoints.hit("store.outside.restored")
            return line.version(ref)

        return self._retried(restore)

    # --- looking ------------------------------------------------------------------------

    def _ledger(self, seen: Seen) -> Ledger:
        if seen.ledger is None:
            return Ledger.new(self._entropy)
        return Ledger.parse(seen.ledger, where=self.where)

    def _look(
        self,
        place: Place,
        refs: Sequence[SecretRef] | None,
        environment: EnvironmentName | None = None,
    ) -> tuple[Seen, Ledger, list[Truth]]:
        """Return what is true of *refs*, or of all that the ledger names, as of one moment."""
        for _ in range(_LOOKS):
            seen = place.look(live=True, ledger=True)
            ledger = self._ledger(seen)
            asked = refs
            if asked is None:
                where = environment or EnvironmentName("")
                asked = [SecretRef(where, name) for name in ledger.entries]
            truths = [true_of(place, seen, ledger, ref) for ref in asked]
            if all(truth.clean for truth in truths):
                return seen, ledger, truths
            # The ledger was read first: a version it lacks may have been made since.
            if place.look(live=False, ledger=True).ledger_mark == seen.ledger_mark:
                return seen, ledger, truths
        raise Conflict(
            f"{self.where} changes faster than it can be read",
            hint="run the command again",
            code="store.busy",
        )

    def _truths(
        self, environment: EnvironmentName, names: Iterable[SecretName] | None
    ) -> Iterator[Truth]:
        wanted = None if names is None else sorted(set(names))
        if wanted is not None and not wanted:
            return
        found = []
        for place in self._layout.places(environment, wanted):
            _, _, truths = self._look(place, None, environment)
            found += [t for t in truths if wanted is None or t.ref.name in set(wanted)]
        yield from sorted(found, key=lambda truth: truth.ref.name)

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
        values = kept_values(place, self._ledger(seen), truth.ref, line, where=self.where)
        return VersionedValue(line.version(truth.ref), values)

    # --- writing ------------------------------------------------------------------------

    def _changes(
        self, place: Place, seen: Seen, ledger: Ledger, truth: Truth, line: Line
    ) -> dict[str, bytes | None]:
        """Return what the live document lacks to be at *line*, where it is not."""
        values = kept_values(place, ledger, truth.ref, line, where=self.where)
        wanted = {
            place.live_key(truth.ref.name, name): value.reveal() for name, value in values.items()
        }
        require_own(place, ledger, truth.ref, wanted)
        current = None if truth.state.current is None else truth.line(truth.state.current)
        stale = (
            set()
            if current is None
            else {place.live_key(truth.ref.name, name) for name in current.fields}
        )
        changes: dict[str, bytes | None] = {
            key: data for key, data in wanted.items() if seen.live.get(key) != data
        }
        if current is None and set(changes) & set(seen.live):
            # It was there before Keyturn was.
            names = tuple(sorted(values))
            raise drifted(Drift(truth.ref, DriftKind.FOREIGN, 0, names), self.where)
        changes.update(dict.fromkeys((stale - set(wanted)) & set(seen.live)))
        return changes

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
