"""
How a new version comes to be pending in AWS, and how a write that lost undoes itself.

A write stores its version under labels that no other writer has, then moves
`AWSPENDING` to it from where it saw it: AWS lets one of two do that. Only whoever is
pending takes a number, so a number that was taken meanwhile is seen and the next one
taken. A version that lost is left without labels, and counts for nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from keyturn.core.clock import Clock
from keyturn.core.model import Origin, SecretRef, Values, Version
from keyturn.errors import Conflict, KeyturnError
from keyturn.stores import _rules
from keyturn.stores._aws_calls import EXISTS
from keyturn.stores._aws_record import (
    CURRENT,
    NOTHING,
    NOTHING_ID,
    PENDING,
    PREVIOUS,
    Mark,
    Sight,
    birth_label,
    decode,
    number_of_id,
    token_of_id,
    version_id,
)
from keyturn.stores._aws_secrets import AwsSecrets
from keyturn.stores._place import mark_is_stale

__all__ = ["HISTORY", "Writer", "Writing", "next_number"]

# With three stages and two writers at work that is 17 labels of 20.
HISTORY: Final = 10
_CROWDED = 18


@dataclass(slots=True)
class Writing:
    """A write on its way, over all its tries."""

    ref: SecretRef
    values: Values
    origin: Origin
    digest: str
    form: str
    content: Mapping[str, object] = field(repr=False)
    # Ids that this very write stored, so that they need not be compared.
    stored: set[str] = field(default_factory=set)


class Writer:
    """Puts versions into the secrets of AWS."""

    def __init__(self, secrets: AwsSecrets, clock: Clock) -> None:
        self._aws = secrets
        self._clock = clock

    def put(self, put: Writing) -> Version:
        """
        Do what is left to do of *put*.

        Raises:
            Conflict: `store.mark`: look again. Anything else is as of the store's method.
        """
        ref = put.ref
        sight = self.opened(ref)
        unlabelled = self._aws.unlabelled(ref)
        finished, begun = self._earlier(put, sight, unlabelled)
        if finished is not None:
            return finished.version(ref)
        if begun is not None and begun.id == sight.pending_id:
            return self._finish(put, sight, begun, unlabelled)
        try:
            _rules.check_idle(sight.state)
        except Conflict:
            # Not ours any more to finish: its token makes another version later.
            self._let_go(ref, begun)
            raise
        number = next_number(sight, unlabelled)
        if begun is not None and begun.number < number:
            self._let_go(ref, begun)
            begun = None
        if begun is None:
            self._make_room(ref, sight, put.digest)
            begun = self.mark(put, number)
            self._store(put, begun)
        elif begun.id not in put.stored:
            self._require_same(put, begun)
        self._aws.move(ref, PENDING, to=begun.id, off=sight.at(PENDING))
        sight = self._aws.seen(ref)
        if sight.pending_id != begun.id:
            raise mark_is_stale(f"`{ref}`")
        return self._finish(put, sight, begun, unlabelled)

    def mark(self, put: Writing, number: int) -> Mark:
        """Return what version *number* of that write would be marked with."""
        names = tuple(sorted(put.values))
        id_ = version_id(number, put.origin, put.digest)
        return Mark(id_, number, put.origin, put.form, self._clock.now(), names)

    def _store(self, put: Writing, mark: Mark) -> None:
        try:
            labels = [mark.label, birth_label(mark.id)]
            self._aws.put(put.ref, mark.id, put.content, labels)
        except Conflict as error:
            if error.code == EXISTS:
                raise _rules.token_conflict(put.ref, mark.number) from error
            raise
        put.stored.add(mark.id)

    def _finish(
        self, put: Writing, sight: Sight, mark: Mark, unlabelled: Collection[str]
    ) -> Version:
        """Make *mark*, which is pending, a finished version; the number may have been taken."""
        if mark.id not in put.stored:
            self._require_same(put, mark)
        if sight.rivals(mark):
            # Nobody else takes a number while we are pending, so the next one is ours.
            other = self.mark(put, max(next_number(sight, unlabelled), mark.number + 1))
            self._store(put, other)
            self._aws.move(put.ref, PENDING, to=other.id, off=mark.id)
            self._let_go(put.ref, mark)
            raise mark_is_stale(f"`{put.ref}`")
        self._aws.drop(put.ref, birth_label(mark.id), mark.id)
        return mark.version(put.ref)

    def _earlier(
        self, put: Writing, sight: Sight, unlabelled: Collection[str]
    ) -> tuple[Mark | None, Mark | None]:
        """
        Return what the same token made before: a finished version, or one that was begun.

        Raises:
            Conflict: It made other values, or a version that was destroyed.
        """
        begun: Mark | None = None
        for id_ in {*unlabelled, *sight.labels}:
            if token_of_id(id_) != put.digest:
                continue
            number = number_of_id(id_) or 0
            used = sight.has(id_, CURRENT) or sight.has(id_, PREVIOUS)
            if id_ in sight.births and not used:
                mark = sight.births[id_]
                if (
                    begun is None
                    or id_ == sight.pending_id
                    or (begun.id != sight.pending_id and mark.number > begun.number)
                ):
                    begun = mark
                continue
            if birth_label(id_) in sight.labels.get(id_, ()):
                # It lost, and whoever let it go died between the two labels.
                continue
            known = sight.mark_of(id_)
            if known is not None:
                self._require_same(put, known)
                return known, None
            rival = sight.marks.get(number)
            if rival is None and id_ not in put.stored:
                raise _rules.token_conflict(put.ref, number)
        return None, begun

    def _require_same(self, put: Writing, mark: Mark) -> None:
        answer = self._aws.value_of(put.ref, mark.id)
        if decode(answer, mark.form, mark.fields) != dict(put.values):
            raise _rules.token_conflict(put.ref, mark.number)

    def opened(self, ref: SecretRef) -> Sight:
        """
        Return what is seen of *ref*, made where it is not, and ours.

        Raises:
            Conflict: `store.mark`: look again.
        """
        sight = self._aws.look(ref)
        if sight is None:
            self._aws.create(ref)
            sight = self._aws.seen(ref)
        elif sight.at(CURRENT) is None:
            # Made by hand and never given a value: the first version would be current.
            self._aws.put(ref, NOTHING_ID, {"SecretString": NOTHING}, ["keyturn/nothing"])
            raise mark_is_stale(f"`{ref}`")
        self._aws.tag(ref, sight, self._aws.tags(ref))
        return sight

    def _make_room(self, ref: SecretRef, sight: Sight, digest: str) -> None:
        """Let the oldest versions go, and what dead writers left when it gets in the way."""
        staged = {sight.at(label) for label in (CURRENT, PENDING, PREVIOUS)}
        idle = [mark for _, mark in sorted(sight.marks.items()) if mark.id not in staged]
        surplus = idle[: max(0, len(sight.marks) + 1 - HISTORY)]
        for mark in surplus:
            self._aws.drop(ref, mark.label, mark.id)
        if sum(map(len, sight.labels.values())) - len(surplus) >= _CROWDED:
            for mark in sight.births.values():
                if mark.id not in staged and token_of_id(mark.id) != digest:
                    self._let_go(ref, mark)

    def _let_go(self, ref: SecretRef, mark: Mark | None) -> None:
        if mark is not None:
            with contextlib.suppress(KeyturnError):
                # Its birth label last: with the mark alone it would count as finished.
                self._aws.drop(ref, mark.label, mark.id)
                self._aws.drop(ref, birth_label(mark.id), mark.id)


def next_number(sight: Sight, unlabelled: Collection[str]) -> int:
    """Return the next number, past what was let go as well."""
    gone = max((number_of_id(id_) or 0 for id_ in unlabelled), default=0)
    return max(sight.next_number, 1 + gone)
