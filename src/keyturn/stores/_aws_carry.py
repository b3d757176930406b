"""
Whole histories, into AWS and out of it.

A version is put with its mark alone, so that it is finished and no stage points at it;
then `AWSCURRENT` moves, then `AWSPREVIOUS`. What AWS has let go, or never got, stands
in a history that is read as destroyed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, TypeVar, final

from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import History, Move, SecretRef, SecretState, Values, Version
from keyturn.errors import Conflict
from keyturn.stores._aws_calls import EXISTS
from keyturn.stores._aws_copies import Copies
from keyturn.stores._aws_drift import Watch
from keyturn.stores._aws_put import HISTORY, Writer
from keyturn.stores._aws_record import (
    CURRENT,
    FLOOR_TAG,
    PENDING,
    PREVIOUS,
    Mark,
    Sight,
    decode,
    encode,
    opened_as,
    token_digest,
    version_id,
)
from keyturn.stores._aws_secrets import AwsSecrets
from keyturn.stores._carrying import additions, carried_token, check_move, target_of
from keyturn.stores._place import mark_is_stale
from keyturn.stores._truth import drifted

__all__ = ["AwsCarrier"]

_AT_ONCE: Final = 8

A = TypeVar("A")
B = TypeVar("B")


@final
class AwsCarrier:
    """Reads and writes histories."""

    def __init__(
        self, secrets: AwsSecrets, copies: Copies, writer: Writer, watch: Watch, *, where: str
    ) -> None:
        self._aws = secrets
        self._copies = copies
        self._writer = writer
        self._watch = watch
        self._where = where

    def histories(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> dict[SecretName, History]:
        """Return every version of *names* that AWS still has: 1 call and 1 for each older one."""
        refs = [SecretRef(environment, name) for name in sorted(set(names))]
        sights = self._aws.look_at_each(refs)
        known = [ref for ref in refs if ref in sights and sights[ref].marks]
        live = self._aws.values(known) if known else {}
        found = _each(known, lambda ref: self._history(sights[ref], live.get(ref, {})))
        return {history.ref.name: history for history in found}

    def _history(self, sight: Sight, live: Mapping[str, Any]) -> History:
        ref, state = sight.ref, sight.state
        pairs: dict[int, tuple[Version, Values | None]] = {}
        for number, mark in sight.marks.items():
            is_live = live.get("VersionId") == mark.id
            answer = live if is_live else self._aws.value_of(ref, mark.id)
            changed = sight.foreign and number == state.current
            values = opened_as(ref, mark, answer).values
            pairs[number] = (mark.version(ref, drifted=changed), values)
        return History(state, tuple(_without_gaps(state, pairs)))

    def carry(self, moves: Sequence[Move], *, limit_bytes: int) -> None:
        """Write the histories of *moves*, some at once."""
        for move in moves:
            check_move(move, limit_bytes=limit_bytes)
        _each(moves, lambda move: self._aws.api.again(lambda: self._carry(move)))

    def _carry(self, move: Move) -> None:
        history, ref = move.history, move.history.ref
        sight = self._writer.opened(ref)
        drift = self._watch.drifts([sight], {}).get(ref.name)
        if drift is not None:
            raise drifted(drift, self._where)
        state = target_of(move, sight.state)
        added = additions(history, sight.state, differs=self._differing(sight, history))
        marks = {version.number: self._mark(ref, version, values) for version, values in added}
        kept = _kept(state, {**sight.marks, **{n: m for n, m in marks.items() if m is not None}})
        for number, mark in sight.marks.items():
            if number not in kept and number not in {sight.state.current, sight.state.previous}:
                self._aws.drop(ref, mark.label, mark.id)
        for version, values in added:
            born = marks[version.number]
            if born is not None and values is not None and version.number in kept:
                self._put(ref, born, values)
        if state.next_number - 1 not in kept:
            # Nothing else would tell that the number was given.
            self._aws.tag(ref, sight, {FLOOR_TAG: str(state.next_number - 1)})
        self._stage(ref, state)

    def _differing(self, sight: Sight, history: History) -> set[int]:
        found = set()
        for number, mark in sight.marks.items():
            values = history.values(number)
            answer = {} if values is None else self._aws.value_of(sight.ref, mark.id)
            if values is not None and decode(answer, mark.form, mark.fields) != dict(values):
                found.add(number)
        return found

    def _mark(self, ref: SecretRef, version: Version, values: Values | None) -> Mark | None:
        if values is None:
            return None
        form, _ = encode(ref, values, json_always=self._aws.settings.layout == "json")
        number = version.number
        digest = token_digest(self._aws.project, ref, carried_token(number))
        id_ = version_id(number, version.origin, digest)
        mark = Mark(id_, number, version.origin, form, version.created_at, tuple(sorted(values)))
        mark.check(ref)
        return mark

    def _put(self, ref: SecretRef, mark: Mark, values: Values) -> None:
        _, content = encode(ref, values, json_always=self._aws.settings.layout == "json")
        try:
            self._aws.put(ref, mark.id, content, [mark.label])
        except Conflict as error:
            if error.code != EXISTS:
                raise
            raise Conflict(
                f"version {mark.number} of `{ref}` was written with another value before",
                hint="each store went its own way; `keyturn set` makes a version of its own",
                code="store.diverged",
            ) from error

    def _stage(self, ref: SecretRef, state: SecretState) -> None:
        """Move `AWSCURRENT`, then `AWSPREVIOUS`, to where *state* has them."""
        sight = self._aws.seen(ref)
        if state.current is None:
            return
        mark = self._seen_mark(sight, state.current)
        if sight.at(CURRENT) != mark.id:
            parked = sight.at(PENDING)
            if parked is not None and sight.pending_id is None:
                # Where `current` is about to leave, it would look like something pending.
                self._aws.move(ref, PENDING, to=None, off=parked)
            self._aws.move(ref, CURRENT, to=mark.id, off=sight.at(CURRENT))
            sight = self._aws.seen(ref)
        if sight.state.previous != state.previous:
            to = None if state.previous is None else self._seen_mark(sight, state.previous).id
            self._aws.move(ref, PREVIOUS, to=to, off=sight.at(PREVIOUS))
        self._copies.follow(ref, mark)

    def _seen_mark(self, sight: Sight, number: int) -> Mark:
        mark = sight.marks.get(number)
        if mark is None or sight.rivals(mark):
            # Not to be seen yet; or somebody else took the number.
            raise mark_is_stale(f"`{sight.ref}`")
        return mark


def _kept(state: SecretState, marks: Mapping[int, Mark]) -> set[int]:
    """Return the numbers that AWS has room for: those in use, and the newest of the rest."""
    in_use = {state.current, state.previous} & set(marks)
    rest = sorted((number for number in marks if number not in in_use), reverse=True)
    return {number for number in in_use if number is not None} | set(rest[: HISTORY - len(in_use)])


def _without_gaps(
    state: SecretState, pairs: Mapping[int, tuple[Version, Values | None]]
) -> list[tuple[Version, Values | None]]:
    """Return *pairs* with a destroyed version for each number that AWS has let go."""
    whole = []
    nearest = pairs[min(pairs)][0]
    for number in range(1, state.next_number):
        if number in pairs:
            nearest = pairs[number][0]
            whole.append(pairs[number])
            continue
        # How and when it was made nobody knows.
        gone = replace(nearest, number=number, fields=(), destroyed=True, drifted=False)
        whole.append((gone, None))
    return whole


def _each(items: Sequence[A], act: Callable[[A], B]) -> list[B]:
    if len(items) < 2:  # noqa: PLR2004 - one is done at once
        return [act(item) for item in items]
    with ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        return list(pool.map(act, items))
