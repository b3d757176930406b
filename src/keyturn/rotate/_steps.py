"""
What each step does: its work outside, and what it writes in the journal's transaction.

Every step first asks whether it is already so. None retires or withdraws what the
store says is in use, whoever changed that meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from keyturn.core.ids import Token
from keyturn.core.model import Origin, Values
from keyturn.core.ports import Evidence, RotationKind, Store
from keyturn.errors import Conflict, InternalError
from keyturn.rotate.journal import Journal, Rotation, State
from keyturn.rotate.ports import DeliveryPort
from keyturn.rotate.saga import Step

__all__ = ["Effect", "Steps"]

# How many rotations are looked back on, each of which costs a look at the provider.
_SWEPT = 10


def _write_nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Effect:
    """
    What came of a step's work, and what is still to be written.

    Args:
        notes: What was seen, a line each; never a value.
        write: Store writes that join the transaction which takes the next step.
            `create` returns the number of the version that it stored.
    """

    notes: tuple[str, ...] = ()
    write: Callable[[], int | None] = _write_nothing


_Work: TypeAlias = "Callable[[Steps, Rotation], Effect]"


class Steps:
    """
    The steps of one rotation, over its kind, its store and its delivery.

    Args:
        swept: Tokens of what no rotation made and nobody uses, ended before `create`.
    """

    def __init__(
        self,
        kind: RotationKind,
        *,
        store: Store,
        delivery: DeliveryPort,
        journal: Journal,
        swept: Sequence[Token] = (),
    ) -> None:
        self._kind = kind
        self._swept = swept
        self._store = store
        self._delivery = delivery
        self._journal = journal

    def perform(self, rotation: Rotation) -> Effect:
        """
        Do the outside work of the step that *rotation* is at.

        Raises:
            KeyturnError: It failed; its class says whether to try again.
        """
        return _WORK[rotation.step](self, rotation)

    def create(self, rotation: Rotation) -> Effect:
        token = Token(rotation.id)
        stored = self._store.find(rotation.ref, token)
        if stored is not None:
            # By a store that is in no transaction with the journal, before a crash.
            return Effect(write=lambda: stored.number)
        old = self._old(rotation)
        if old is not None:
            # What was carried out after the rotation that had asked for it was over.
            for earlier in (*self._swept, *self._earlier(rotation)):
                self._kind.sweep(earlier, current=old)
        values = self._kind.create(old, token=token)
        origin = Origin.GENERATED if rotation.plan.is_birth else Origin.ROTATED

        def write() -> int:
            made = self._store.put_pending(rotation.ref, values, origin=origin, token=token)
            return made.number

        return Effect(write=write)

    def apply(self, rotation: Rotation) -> Effect:
        self._kind.apply(self._old(rotation), self._new(rotation))
        return Effect()

    def check(self, rotation: Rotation) -> Effect:
        return _seen(self._kind.check(self._old(rotation), self._new(rotation)))

    def promote(self, rotation: Rotation) -> Effect:
        number, old = _new_number(rotation), rotation.plan.old_version

        def write() -> None:
            self._store.promote(rotation.ref, number, expected_current=old)

        return Effect((f"version {number} is current",), write)

    def deliver(self, rotation: Rotation) -> Effect:
        return Effect(tuple(self._delivery.deliver(rotation.ref, _new_number(rotation))))

    def grace(self, rotation: Rotation) -> Effect:
        # A rollback during the grace asks for the way back, not for a retirement.
        self._require_current(rotation, _new_number(rotation))
        return Effect()

    def advance(self, rotation: Rotation) -> Effect:
        number = _new_number(rotation)
        phase = rotation.phase + 1
        token = Token(f"{rotation.id}.{phase}")
        stored = self._store.find(rotation.ref, token)
        current = self._store.state(rotation.ref).current
        if stored is None or current != stored.number:
            self._require_current(rotation, number)
        values = self._kind.advance(self._new(rotation), phase)

        def write() -> int:
            made = self._store.put_pending(rotation.ref, values, origin=Origin.ROTATED, token=token)
            self._store.promote(rotation.ref, made.number, expected_current=number)
            return made.number

        return Effect((f"phase {phase + 1} of {len(rotation.plan.later_waits) + 1}",), write)

    def retire(self, rotation: Rotation) -> Effect:
        self._require_current(rotation, _new_number(rotation))
        new = self._new(rotation)
        self._kind.retire(new, self._known_old(rotation))
        # A request that was given up may have been carried out since, so that the
        # provider has a credential of ours whose value nobody has.
        self._kind.sweep(Token(rotation.id), current=new)
        return Effect()

    def _earlier(self, rotation: Rotation) -> Iterator[Token]:
        """
        Return the tokens of the rotations since the last one that went well, and its own.

        None of a rotation that a person gave up, nor of one before it: what is in use is
        then that person's to say. None whose value a person may have set since: it lacks
        the name that the provider knows it by, so that a kind could not tell and spare it.
        """
        history = [
            found
            for found in self._journal.history(rotation.ref, limit=_SWEPT)
            if found.id != rotation.id
        ]
        given_up = [each.started_at for each in history if each.state is State.GIVEN_UP]
        for found in sorted(history, key=_newest_first):
            # By the times too: of two measures, the one that ends less counts here.
            if found.state is State.GIVEN_UP or any(at >= found.started_at for at in given_up):
                return
            made = found.new_version
            if found.state is State.DONE and not found.plan.is_birth:
                if made == rotation.plan.old_version:
                    yield Token(found.id)
                # Otherwise what it made was put out of use by a person, and not ended.
                return
            # What was current when it began was not made by it. Asked only here: the whole
            # history is read, and most rotations follow one that went well.
            before = found.plan.old_version or 0
            if made is None or self._last_by_hand(rotation) <= before:
                yield Token(found.id)

    def _last_by_hand(self, rotation: Rotation) -> int:
        """Return the newest version that a person gave; 0 where there is none."""
        ours = (Origin.ROTATED, Origin.GENERATED)
        shells = self._store.history(rotation.ref)
        return max((shell.number for shell in shells if shell.origin not in ours), default=0)

    def prove(self, rotation: Rotation) -> Effect:
        old, current = self._known_old(rotation), self._new(rotation)
        seen = self._kind.prove_dead(old, current=current)
        return Effect((_words(seen), *self._left_behind(rotation)))

    def _left_behind(self, rotation: Rotation) -> Iterator[str]:
        """Return what this rotation did not end, of those that were given up before it."""
        settled = (None, rotation.plan.old_version, rotation.new_version)
        left: set[int] = set()
        history = self._journal.history(rotation.ref, limit=_SWEPT)
        for found in sorted(history, key=_newest_first):
            if found.state is State.DONE and found.id != rotation.id:
                break
            if found.state is State.GIVEN_UP:
                left |= {n for n in (found.plan.old_version, found.new_version) if n not in settled}
        for number in sorted(left):
            yield (
                f"version {number} was left to a person when a rotation was given up, and may"
                f" still work: see `keyturn test {rotation.ref.name} -e {rotation.ref.environment}`"
            )

    def demote(self, rotation: Rotation) -> Effect:
        number, old = _new_number(rotation), _fallback_number(rotation)

        def write() -> None:
            if self._store.state(rotation.ref).current == number:
                self._store.promote(rotation.ref, old, expected_current=number)
            self._require_current(rotation, old)

        return Effect((f"version {old} is current again",), write)

    def restore(self, rotation: Rotation) -> Effect:
        back = _fallback_number(rotation)
        self._require_current(rotation, back)
        if rotation.phase:
            current = self._store.read(rotation.ref, back).values
            self._kind.recede(current, rotation.phase)
        else:
            self._kind.withdraw(self._old(rotation), self._new(rotation))
        return Effect()

    def redeliver(self, rotation: Rotation) -> Effect:
        back = _fallback_number(rotation)
        self._require_current(rotation, back)
        return Effect(tuple(self._delivery.deliver(rotation.ref, back)))

    def withdraw(self, rotation: Rotation) -> Effect:
        number = rotation.new_version
        if number is None:
            stored = self._store.find(rotation.ref, Token(rotation.id))
            number = None if stored is None else stored.number
        if number is None:
            self._kind.clean_up(Token(rotation.id), current=self._old(rotation))
            return Effect(("nothing had been stored",))
        if self._store.state(rotation.ref).current == number:
            raise _moved(rotation, number)
        new = self._store.read(rotation.ref, number).values
        self._kind.withdraw(self._old(rotation), new)

        def write() -> None:
            if self._store.state(rotation.ref).pending == number:
                self._store.discard_pending(rotation.ref, number)

        return Effect(write=write)

    def _require_current(self, rotation: Rotation, number: int) -> None:
        found = self._store.state(rotation.ref).current
        if found != number:
            raise _moved(rotation, found)

    def _old(self, rotation: Rotation) -> Values | None:
        number = rotation.plan.old_version
        return None if number is None else self._store.read(rotation.ref, number).values

    def _known_old(self, rotation: Rotation) -> Values:
        return self._store.read(rotation.ref, _old_number(rotation)).values

    def _new(self, rotation: Rotation) -> Values:
        return self._store.read(rotation.ref, _new_number(rotation)).values


_WORK: Mapping[Step, _Work] = {
    Step.CREATE: Steps.create,
    Step.APPLY: Steps.apply,
    Step.CHECK: Steps.check,
    Step.PROMOTE: Steps.promote,
    Step.DELIVER: Steps.deliver,
    Step.GRACE: Steps.grace,
    Step.ADVANCE: Steps.advance,
    Step.RETIRE: Steps.retire,
    Step.PROVE: Steps.prove,
    Step.DEMOTE: Steps.demote,
    Step.RESTORE: Steps.restore,
    Step.REDELIVER: Steps.redeliver,
    Step.WITHDRAW: Steps.withdraw,
}


def _newest_first(rotation: Rotation) -> tuple[int, bool]:
    # By versions and not by times, which a clock that was set may have mixed up. One
    # that stored nothing came after the one that made what it was to replace.
    number = rotation.new_version or rotation.plan.old_version or 0
    return -number, rotation.state is State.DONE


def _seen(evidence: Evidence) -> Effect:
    return Effect((_words(evidence),))


def _words(evidence: Evidence) -> str:
    return f"{evidence.method}: {evidence.detail}"


def _moved(rotation: Rotation, current: int | None) -> Conflict:
    name, where = rotation.ref.name, rotation.ref.environment
    return Conflict(
        f"`{name}` was changed during its rotation: version {current} is current",
        hint=f"see `keyturn history {name} -e {where}`; put the version that shall be used back,"
        f" then `keyturn rotate --resume {name} -e {where}`",
        code="rotation.moved",
        context={"rotation": rotation.id},
    )


def _new_number(rotation: Rotation) -> int:
    if rotation.new_version is None:
        raise InternalError(f"rotation `{rotation.id}` has no new version at `{rotation.step}`")
    return rotation.new_version


def _fallback_number(rotation: Rotation) -> int:
    return _old_number(rotation) if rotation.fallback is None else rotation.fallback


def _old_number(rotation: Rotation) -> int:
    if rotation.plan.old_version is None:
        raise InternalError(f"rotation `{rotation.id}` has no old version at `{rotation.step}`")
    return rotation.plan.old_version
