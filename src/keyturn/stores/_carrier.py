"""
Whole histories, into a layout and out of it.

The secrets of one document are written together, in the order of a promote: the
values and the ledger's lines, with the stages as they were; the live document; the
ledger with the stages as they are. Dying in between leaves versions that no stage
points at, or stages that the live document tells; the same again ends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import final

from keyturn._internal import failpoints
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import History, Move, SecretRef, Values, Version
from keyturn.core.value import SecretValue
from keyturn.stores._again import again
from keyturn.stores._carrying import additions, carried_token, check_move, target_of
from keyturn.stores._ledger import Entry, Ledger, Line, encode_values
from keyturn.stores._looking import Looker
from keyturn.stores._place import Layout, Place, Seen, mark_is_stale
from keyturn.stores._truth import Truth, changes_to, drifted, kept_values

__all__ = ["Carrier"]


@dataclass(frozen=True, slots=True)
class _Step:
    """
    What is to be done for one secret.

    Args:
        known: The entry with all versions, and the stages as they are.
        final: The same with the stages as they are to be.
        changes: Of the live document.
    """

    name: SecretName
    known: Entry
    final: Entry
    keep: Mapping[str, bytes]
    drop: Sequence[str]
    changes: Mapping[str, bytes | None]


@final
class Carrier:
    """Reads and writes histories on *layout*."""

    def __init__(self, layout: Layout, looker: Looker, *, clock: Clock, entropy: Entropy) -> None:
        self._layout = layout
        self._looker = looker
        self._clock = clock
        self._entropy = entropy

    def histories(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> dict[SecretName, History]:
        """Return every version of *names* with its values."""
        wanted = set(names)
        found = {}
        for place in self._layout.places(environment, sorted(wanted)) if wanted else ():
            _, ledger, truths = self._looker.look(place, None, environment)
            for truth in truths:
                if truth.ref.name in wanted and truth.entry.lines:
                    pairs = (self._pair(place, ledger, truth, ln) for ln in truth.entry.lines)
                    found[truth.ref.name] = History(truth.state, tuple(pairs))
        return found

    def _pair(
        self, place: Place, ledger: Ledger, truth: Truth, line: Line
    ) -> tuple[Version, Values | None]:
        is_current = line.number == truth.state.current
        version = line.version(truth.ref, drifted=is_current and truth.drift is not None)
        if line.destroyed:
            return version, None
        if is_current and truth.drift is None:
            # The live document was just compared with the digest.
            return version, {name: SecretValue(truth.live[name]) for name in line.fields}
        return version, kept_values(place, ledger, truth.ref, line, where=self._layout.where)

    def carry(self, moves: Sequence[Move]) -> None:
        """Write the histories of *moves*, those of one place together."""
        for move in moves:
            check_move(move, limit_bytes=self._layout.capabilities.max_value_bytes)
        by_ref = sorted(moves, key=lambda move: move.history.ref)
        for environment, group in groupby(by_ref, key=lambda move: move.history.ref.environment):
            for place, together in self._together(environment, list(group)):
                again(
                    lambda at=place, of=together: self._carry(at, of),  # type: ignore[misc]  # bound now, by its defaults
                    clock=self._clock,
                    entropy=self._entropy,
                )

    def _together(
        self, environment: EnvironmentName, moves: Sequence[Move]
    ) -> list[tuple[Place, Sequence[Move]]]:
        places = list(self._layout.places(environment, [move.history.ref.name for move in moves]))
        if len(places) == 1:
            return [(places[0], moves)]
        return [(self._layout.place(move.history.ref), [move]) for move in moves]

    def _carry(self, place: Place, moves: Sequence[Move]) -> None:
        seen, ledger, truths = self._looker.look(place, [move.history.ref for move in moves])
        known = final = ledger
        steps = []
        for move, truth in zip(moves, truths, strict=True):
            # By the final one: two of them may want the same key.
            step = self._step(place, seen, final, truth, move)
            known, final = known.having(step.name, step.known), final.having(step.name, step.final)
            steps.append(step)
        changes = {key: data for step in steps for key, data in step.changes.items()}
        keep = {key: data for step in steps for key, data in step.keep.items()}
        drop = [key for step in steps for key in step.drop]
        if changes:
            if known != ledger:
                seen = self._write_lines(place, seen, known, keep)
            keep = {}
            failpoints.hit("store.outside.carry")
            place.write_live(changes, seen=seen)
            failpoints.hit("store.outside.carried")
        if final != (known if changes else ledger) or drop:
            failpoints.hit("store.outside.ledger")
            place.write_ledger(final.encode(), keep=keep, drop=drop, seen=seen)
            failpoints.hit("store.outside.ledgered")

    def _write_lines(
        self, place: Place, seen: Seen, ledger: Ledger, keep: Mapping[str, bytes]
    ) -> Seen:
        """Write versions that no stage points at; return what is seen then."""
        data = ledger.encode()
        failpoints.hit("store.outside.ledger")
        place.write_ledger(data, keep=keep, drop=(), seen=seen)
        failpoints.hit("store.outside.ledgered")
        after = place.look(live=False, ledger=True)
        if after.ledger != data:
            raise mark_is_stale(f"the ledger of {self._layout.where}")
        return replace(seen, ledger=after.ledger, ledger_mark=after.ledger_mark)

    def _step(self, place: Place, seen: Seen, ledger: Ledger, truth: Truth, move: Move) -> _Step:
        history, ref, entry = move.history, truth.ref, truth.entry
        if truth.drift is not None:
            raise drifted(truth.drift, self._layout.where)
        state = target_of(move, truth.state)
        added = [
            _line(ref, ledger, version, values)
            for version, values in additions(
                history, truth.state, differs=_differing(history, entry, ledger)
            )
        ]
        final = replace(entry, lines=(*entry.lines, *added)).at(state)
        surplus = final.surplus(self._layout.history_limit)
        gone = {line.number for line in surplus}
        final = final.destroying(gone)
        lines = tuple(line for line in final.lines if line.number >= entry.next_number)
        known = replace(truth.recorded, next_number=final.next_number, lines=(*entry.lines, *lines))
        keep = {
            line.key(ref.name): encode_values(_values(history, line.number))
            for line in lines
            if not line.destroyed
        }
        current = history.values(state.current)
        changes = (
            {}
            if current is None
            else changes_to(place, seen, ledger, truth, current, where=self._layout.where)
        )
        drop = [line.key(ref.name) for line in surplus if line.number < entry.next_number]
        return _Step(ref.name, known, final, keep, drop, changes)


def _values(history: History, number: int) -> Values:
    return history.values(number) or {}


def _line(ref: SecretRef, ledger: Ledger, version: Version, values: Values | None) -> Line:
    token = ledger.token(ref, carried_token(version.number))
    plain = {name: value.reveal() for name, value in (values or {}).items()}
    return Line(
        version.number,
        version.created_at,
        version.origin,
        tuple(sorted(plain)),
        token,
        ledger.digest(plain) if values else "",
    )


def _differing(history: History, entry: Entry, ledger: Ledger) -> set[int]:
    """Return the numbers whose values are here and in *history*, and not the same."""
    differing = set()
    for line in entry.lines:
        values = history.values(line.number)
        if values is None or line.destroyed:
            continue
        if ledger.digest({name: value.reveal() for name, value in values.items()}) != line.digest:
            differing.add(line.number)
    return differing
